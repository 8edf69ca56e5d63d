"""`FineTuningValidator`: every check on one run, and the report about it."""

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from finetuning.artifacts.models import CheckResult, ValidationResult, render_report
from finetuning.monitoring.validators.checks import (
    aim_profile,
    checkpoint_integrity,
    model_output,
    training_loss,
)
from finetuning.monitoring.validators.outcome import CheckOutcome, Finding, outcome
from finetuning.monitoring.validators.reasons import CHECKS
from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import InfoSource, Subject, subject

log = logging.getLogger(__name__)

Check = Callable[[Subject], CheckOutcome]
Listener = Callable[[str, CheckOutcome | None, float], None]
"""Told the name at the beginning of a check, and again with its outcome and seconds at the end."""

_CHEAP_FIRST: tuple[tuple[str, Check], ...] = (
    (training_loss.NAME, training_loss.check),
    (aim_profile.NAME, aim_profile.check),
    (checkpoint_integrity.NAME, checkpoint_integrity.check),
    (model_output.NAME, model_output.check),
)


class FineTuningValidator:
    """Judges the files of a finished run.

    Three checks always run. model_output runs wherever a model can be loaded, and in any case when
    the settings require all. Of those that run, the ones that the settings name count.
    """

    def __init__(
        self, settings: ValidationSettings | None = None, listener: Listener | None = None
    ) -> None:
        self.settings = settings or ValidationSettings()
        self._listener = listener or (lambda _name, _outcome, _seconds: None)

    def run_all_checks(
        self,
        training_info: InfoSource = None,
        model_path: Path | str | None = None,
        checkpoint_path: Path | str | None = None,
        profile_path: Path | str | None = None,
    ) -> list[CheckOutcome]:
        """All outcomes in the report's order; what is missing is an outcome, never an exception.

        `training_info` is the parsed file or its path. Paths that are not given are looked for
        below `model_path`, where the trainer writes them.
        """
        what = subject(training_info, model_path, checkpoint_path, profile_path, self.settings)
        outcomes = {name: self._run(name, check, what) for name, check in self.planned(what)}
        return [outcomes[name] for name in CHECKS if name in outcomes]

    def planned(self, what: Subject) -> list[tuple[str, Check]]:
        """The checks to make, in the order in which they run."""
        with_model = self.settings.require_all or model_output.can_load(what.model_path)
        return [(n, c) for n, c in _CHEAP_FIRST if with_model or n != model_output.NAME]

    def generate_report(self, results: Iterable[CheckOutcome]) -> str:
        """The report as text."""
        return render_report(ValidationResult(checks=list(results)))

    def _run(self, name: str, check: Check, what: Subject) -> CheckOutcome:
        self._listener(name, None, 0.0)
        started = time.monotonic()
        try:
            found = check(what)
        except Exception as error:
            log.exception("The check %s failed.", name)
            text = f"The check could not be made: {type(error).__name__}: {error}"
            found = outcome(name, Finding("CheckCrashed", text, CheckResult.ERROR))
        seconds = time.monotonic() - started
        told = {"required": name in self.settings.checks, "seconds": round(seconds, 3)}
        found = found.model_copy(update=told)
        self._listener(name, found, seconds)
        return found
