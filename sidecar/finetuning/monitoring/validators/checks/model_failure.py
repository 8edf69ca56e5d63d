"""Why a model gave no answers: what is the model's fault, and what the machine's under it."""

import signal
from dataclasses import replace

from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks.base_model import base_missing
from finetuning.monitoring.validators.checks.probe import ProbeFailure
from finetuning.monitoring.validators.outcome import Finding

MACHINE = "machine"
"""The stage of a failure that says nothing about the model."""

_ERROR = CheckResult.ERROR
_BY_STAGE = {
    MACHINE: Finding("MachineFailed", "The machine failed under the model:", _ERROR),
    "rows": Finding("HeldOutUnreadable", "A held-out row cannot be used:", _ERROR),
    "template": Finding("TemplateBroken", "The chat template"),
    "words": Finding(
        "TokenizerDiffers",
        "The tokenizer makes of a text other tokens, or a text again, than the base model's:",
    ),
    "generation": Finding("ModelLoadFailed", "The model does not generate:"),
    "tokenizer": Finding("ModelLoadFailed", "The tokenizer does not load:"),
}
"""The failure's own words are put after these."""


def finding_of(failure: ProbeFailure, base: str) -> Finding:
    """What a failure in the process with the model means; `base` is the base model's name."""
    stage, message = failure.stage, failure.message
    if failure.out_of_memory:
        return Finding("OutOfMemory", f"Not enough memory: {message}", _ERROR)
    if stage == "base":
        return base_missing(f"{base}: {message}")
    usual = Finding("ModelLoadFailed", f"The {stage} does not load:")
    found = _BY_STAGE.get(stage, usual)
    return replace(found, message=f"{found.message} {message}")


def finding_of_end(code: int, last_line: str) -> Finding:
    """What the end of a process means that left no report; `code` is below 0 for a signal."""
    if code == -signal.SIGKILL:
        text = "The process that loaded the model was killed, most likely for lack of memory"
        return Finding("OutOfMemory", text, _ERROR)
    if code < 0:
        text = f"The process that loaded the model died of {_named(-code)}: {last_line}"
        return Finding("MachineFailed", text, _ERROR)
    text = f"The process that loaded the model ended with code {code}: {last_line}"
    return Finding("ModelCrashed", text)


def _named(number: int) -> str:
    known = {each.value: each.name for each in signal.Signals}
    return known.get(number, f"signal {number}")
