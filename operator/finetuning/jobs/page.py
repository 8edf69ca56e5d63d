"""One job in full: what its status says, for people."""

from collections.abc import Iterator

from finetuning.api.v1alpha1 import FineTuningJob, FineTuningJobStatus, Usage
from finetuning.artifacts.plain import plain
from finetuning.local.words import figures, unseen

_WIDEST, _NARROWEST = 1000, 11


def page(job: FineTuningJob) -> str:
    """A line per fact; the report of the validation stands at the end."""
    facts = list(_facts(job))
    width = max(_NARROWEST, *(len(name) for name, _ in facts))
    lines = [f"{name:<{width}} {text}".rstrip() for name, text in facts]
    report = job.status.validation.report if job.status.validation else ""
    if report:
        lines += ["", *(_clean(line) for line in report.splitlines())]
    return "\n".join(lines)


def _facts(job: FineTuningJob) -> Iterator[tuple[str, str]]:
    """Only what is known."""
    now, spec = job.status, job.spec
    yield "Name", f"{job.metadata.namespace}/{job.metadata.name}"
    yield "Phase", f"{now.phase}" + (f" ({_clean(now.reason)})" if now.reason else "")
    if why := now.message or unseen(job):
        yield "", _clean(why)
    yield "Model", f"{spec.base_model.model_id}, {spec.method}"
    yield "Data", spec.dataset.source
    if told := figures(now, None):
        yield "Progress", ", ".join(told)
    if now.restarts:
        yield "Restarts", str(now.restarts)
    if used := _used(now.usage):
        yield "Used", ", ".join(used)
    yield from _results(now)


def _used(usage: Usage | None) -> list[str]:
    found = usage or Usage()
    known = [(found.gpu_seconds, 3600, "GPU hours"), (found.energy_joules, 3.6e6, "kWh")]
    return [f"{amount / unit:.3g} {name}" for amount, unit, name in known if amount is not None]


def _results(now: FineTuningJobStatus) -> Iterator[tuple[str, str]]:
    found = now.validation
    if now.model_path:
        yield "Result", _clean(now.model_path)
    elif now.checkpoint_path:
        yield "Checkpoint", _clean(now.checkpoint_path)
    if found is not None:
        yield "Validation", f"{found.phase}: {_clean(found.summary)}"
    if (copies := now.publish) is not None:
        yield "Publishing", f"{copies.phase}: {_clean(copies.message)}"
        for copy in copies.copies:
            yield "", f"{_clean(copy.location)}  {_clean(copy.digest)}"
    if (servers := now.serving) is not None and servers.reason:
        yield "Serving", f"{_clean(servers.reason)}: {_clean(servers.message)}"
    if found is not None and found.rerun is not None:
        yield "Again", f"attempt {found.rerun.attempt}: {_clean(found.rerun.summary)}"
    for each in now.conditions:
        if each.status != "True" and each.type in {"ConfigValid", "MemorySufficient"}:
            yield each.type, f"{each.status}: {_clean(each.message)}"


def _clean(text: str) -> str:
    """A status is written by the operator, but whoever may patch it can write anything."""
    indent = len(text) - len(text.lstrip(" "))
    return " " * indent + plain(text, _WIDEST)
