"""What was read of the jobs' specs lately: a job is looked at many times, and changes seldom."""

from dataclasses import dataclass, replace

import msgspec
from pydantic import ValidationError

from finetuning.api.base import as_admitted
from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.controller import status
from finetuning.controller.desired import Desired
from finetuning.controller.observed import Custom, Key, Raw
from finetuning.controller.settings import Settings

KEPT = 1000
"""Some 45 MB; with more jobs under way at once than that, some are read again."""


@dataclass
class _Known:
    """A job as it was read last."""

    text: bytes
    """What it was read from; as dictionaries it would be ten times as large,"""
    lasting: bytes
    """and the part of that which is read once: not the status."""
    job: FineTuningJob
    checked: bool = False
    """Whether all that it needs in its life can be had."""


class Specs:
    """Reads jobs, each spec once while it stays as it is."""

    def __init__(self, settings: Settings, kept: int = KEPT) -> None:
        self._settings, self._kept = settings, kept
        self._known: dict[Key, _Known] = {}

    def read(self, custom: Custom) -> tuple[FineTuningJob, Desired]:
        """Spec and metadata strictly, as users must write them; the status as we left it.

        Raises ValidationError, and InvalidSpecError where a child cannot be had.
        """
        known = self._known.pop(custom.key, None)
        if known is None or known.text != custom.text:
            known = _renewed(known, custom)
        wanted = Desired(known.job, self._settings)
        # Of a job that is over nothing is made any more; of a new one the first child at once.
        if not known.checked and not status.is_settled(known.job):
            wanted.manifests()
            known.checked = True
        self._known[custom.key] = known
        if len(self._known) > self._kept:
            del self._known[next(iter(self._known))]
        return known.job, wanted

    def forget(self, key: Key) -> None:
        """Of a job that is gone nothing is asked again, of one that is over seldom."""
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


def _renewed(known: _Known | None, custom: Custom) -> _Known:
    """The status as it says now; the rest read again only where it changed."""
    body = custom.body
    lasting = msgspec.json.encode((_lasting(body), body.get("spec")))
    if known is None or known.lasting != lasting:
        known = _Known(custom.text, lasting, _read(body))
    version = body["metadata"].get("resourceVersion", "")
    update = {
        "metadata": known.job.metadata.model_copy(update={"resource_version": version}),
        "status": status.parse(body.get("status")),
    }
    return replace(known, text=custom.text, job=known.job.model_copy(update=update))


def _lasting(body: Raw) -> Raw:
    """The metadata without what every write changes."""
    return {name: part for name, part in body["metadata"].items() if name != "resourceVersion"}
