"""What was read of the jobs' specs lately: a job is looked at many times, and changes seldom."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from finetuning.api.base import as_admitted
from finetuning.api.v1alpha1 import FineTuningJob, FineTuningJobStatus
from finetuning.controller import status
from finetuning.controller.desired import Desired
from finetuning.controller.observed import Custom, Key, Raw
from finetuning.controller.settings import Settings

KEPT = 1000
"""Some 50 MB; with more jobs under way at once than that, some are read again."""


@dataclass
class _Known:
    """A job without its status, and what it was read from."""

    metadata: Raw
    spec: Any
    job: FineTuningJob
    checked: bool = False
    """Whether all that it needs in its life can be had."""
    written: Any = None
    """The status as it was read last,"""
    status: FineTuningJobStatus = field(default_factory=FineTuningJobStatus)
    """and what it says."""


class Specs:
    """Reads jobs, each spec once while it stays as it is."""

    def __init__(self, settings: Settings, kept: int = KEPT) -> None:
        self._settings, self._kept = settings, kept
        self._known: dict[Key, _Known] = {}

    def read(self, custom: Custom) -> tuple[FineTuningJob, Desired]:
        """Spec and metadata strictly, as users must write them; the status as we left it.

        Raises ValidationError, and InvalidSpecError where a child cannot be had.
        """
        metadata, spec = _lasting(custom.body), custom.body.get("spec")
        known = self._known.pop(custom.key, None)
        if known is None or known.metadata != metadata or known.spec != spec:
            known = _Known(metadata, spec, _read(custom.body))
        found = _now(known, custom)
        wanted = Desired(found, self._settings)
        # Of a job that is over nothing is made any more; of a new one the first child at once.
        if not known.checked and not status.is_settled(found):
            wanted.manifests()
            known.checked = True
        self._known[custom.key] = known
        if len(self._known) > self._kept:
            del self._known[next(iter(self._known))]
        return found, wanted

    def forget(self, key: Key) -> None:
        """Of a job that is gone nothing is asked again."""
        self._known.pop(key, None)


def _read(body: Raw) -> FineTuningJob:
    """A job that has begun was let in by the rules of its time: no later ones leave it alone."""
    told = {name: part for name, part in body.items() if name != "status"}
    try:
        return FineTuningJob.from_body(told)
    except ValidationError:
        if not (body.get("status") or {}).get("trainingJobName"):
            raise
        with as_admitted():
            return FineTuningJob.from_body(told)


def _now(known: _Known, custom: Custom) -> FineTuningJob:
    written = custom.body.get("status")
    if written is not known.written:
        known.written, known.status = written, status.parse(written)
    version = custom.body["metadata"].get("resourceVersion", "")
    metadata = known.job.metadata.model_copy(update={"resource_version": version})
    return known.job.model_copy(update={"metadata": metadata, "status": known.status})


def _lasting(body: Raw) -> Raw:
    """The metadata without what every write changes."""
    return {name: part for name, part in body["metadata"].items() if name != "resourceVersion"}
