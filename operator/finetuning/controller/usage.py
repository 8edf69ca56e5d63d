"""What a job has used, added up from look to look, so that the figures outlive its pods.

Each look counts what was not counted before: the time of trainers since `counted_until`, and what
the energy of one Pod's GPUs has grown by. The sum goes along with a status that is written anyway.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finetuning.api.v1alpha1 import Usage
from finetuning.artifacts.models import TrainingState
from finetuning.controller import last_words, naming, observed
from finetuning.controller.observed import Container, Pod


@dataclass(frozen=True)
class Reading:
    """Joules that the GPUs of one Pod have used since its training began."""

    pod: str
    joules: float


def gpus_of_pod(spec: Mapping[str, Any], resource: str) -> int | None:
    """As asked for, or the one that it gets (`desired.pod.resources`); None if it is no number."""
    wanted = spec.get("resources") or {}
    for part in ("limits", "requests"):
        amount = (wanted.get(part) or {}).get(resource)
        if amount is not None:
            return int(amount) if str(amount).isdecimal() else None
    return 1


def gpus_of_job(spec: Mapping[str, Any], resource: str) -> int | None:
    """Of all its Pods."""
    of_pod, workers = gpus_of_pod(spec, resource), spec.get("workers", 1)
    return of_pod * workers if of_pod is not None and isinstance(workers, int) else None


def reading(pods: Iterable[Pod], live: TrainingState | None, live_pod: str) -> Reading | None:
    """By the newest trainer's last words, else by its live state, which is that of `live_pod`."""
    for pod in observed.leading(pods):
        trainer = pod.container(naming.TRAINING_CONTAINER)
        if trainer is None or trainer.started_at is None:
            continue
        result = last_words.training_result(trainer)
        state = live if live_pod == pod.meta.uid else None
        told = [found.energy_joules for found in (result, state) if found is not None]
        known = [joules for joules in told if joules is not None]
        return Reading(pod.meta.uid, max(known)) if known else None
    return None


def counted(
    before: Usage | None,
    pods: Iterable[Pod],
    gpus: int | None,
    energy: Reading | None,
    now: datetime,
) -> Usage | None:
    """`before` and what came since, up to `now`; `gpus` are those of one Pod."""
    trainers = [pod.container(naming.TRAINING_CONTAINER) for pod in pods if not _is_lost(pod)]
    began = [each for each in trainers if each is not None and each.started_at is not None]
    old = before or Usage()
    update: dict[str, Any] = {}
    if began and gpus is not None:
        seconds = sum(_seconds(each, old.counted_until, now) for each in began)
        total = (old.gpu_seconds or 0.0) + gpus * seconds
        update |= {"gpu_seconds": total, "counted_until": now}
    if energy is not None:
        more = energy.joules - (old.pod_energy_joules or 0.0 if energy.pod == old.pod else 0.0)
        total = round((old.energy_joules or 0.0) + max(0.0, more), 1)
        update |= {"energy_joules": total, "pod": energy.pod, "pod_energy_joules": energy.joules}
    return old.model_copy(update=update) if update else before


def _is_lost(pod: Pod) -> bool:
    """Its node is gone: it is over, and nobody will ever say when its containers ended."""
    trainer = pod.container(naming.TRAINING_CONTAINER)
    return pod.over and trainer is not None and trainer.finished_at is None


def _seconds(trainer: Container, since: datetime | None, now: datetime) -> float:
    """How long it ran, of the time from `since` to `now`."""
    began, ended = trainer.started_at or now, trainer.finished_at or now
    begin = began if since is None else max(began, since)
    return max(0.0, (min(ended, now) - begin).total_seconds())
