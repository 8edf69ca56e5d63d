"""aim_profile: the file that a serving stack sizes itself by says what it must, and the truth."""

from typing import Any

from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.monitoring.validators.checks import profile_fields, profile_run, profile_sizes
from finetuning.monitoring.validators.checks.profile_facts import (
    MEMORY_OPTIONAL,
    MEMORY_REQUIRED,
    REQUIRED_TEXT,
    Facts,
    gather,
)
from finetuning.monitoring.validators.outcome import (
    CheckOutcome,
    Finding,
    Passed,
    Rule,
    all_findings,
    first_finding,
    outcome,
)
from finetuning.monitoring.validators.subject import Subject

NAME = "aim_profile"
RULES: tuple[Rule[Facts], ...] = (
    *profile_fields.RULES,
    *profile_sizes.RULES,
    *profile_run.RULES,
)
"""In this order: the later ones take the earlier ones for granted."""


def check(subject: Subject) -> CheckOutcome:
    """Read the profile and hold it against the rest of the run."""
    if subject.profile_path is None:
        return outcome(NAME, Finding("ProfileMissing", "no profile was given"))
    try:
        profile = read_json(subject.profile_path)
    except UnreadableFileError as error:
        return outcome(NAME, Finding("ProfileUnreadable", str(error)))
    if not isinstance(profile, dict):
        return outcome(
            NAME, Finding("ProfileUnreadable", f"{subject.profile_path}: no JSON object")
        )
    facts = gather(profile, subject)
    finding = first_finding(RULES, facts)
    warnings = [] if finding else all_findings(profile_sizes.WARNINGS, facts)
    verdict = finding or Passed("AIM profile is valid")
    return outcome(NAME, verdict, details=_details(facts), warnings=warnings)


def _details(facts: Facts) -> dict[str, Any]:
    shown = (*REQUIRED_TEXT, "precision", MEMORY_REQUIRED, MEMORY_OPTIONAL)
    told = {name: str(facts.profile[name])[:200] for name in shown if name in facts.profile}
    return {**told, "weightsBytes": sum(tensor.size for tensor in facts.weights)}
