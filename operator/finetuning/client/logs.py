"""Where the words of a job are: which pod and container, and when there is nothing more to come."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from finetuning.api.v1alpha1 import FineTuningJob, Phase
from finetuning.client.errors import ClientError
from finetuning.client.story import Until, is_there
from finetuning.controller import naming, observed, publications, training_status
from finetuning.controller.observed import Pod


class LogOf(StrEnum):
    """Whose output to read."""

    TRAINING = "training"
    VALIDATION = "validation"
    PUBLISHING = "publishing"
    SIDECAR = "sidecar"


_WHERE = {
    LogOf.TRAINING: (naming.TRAINING, naming.TRAINING_CONTAINER),
    LogOf.VALIDATION: (naming.VALIDATION, naming.VALIDATION_CONTAINER),
    LogOf.PUBLISHING: (naming.PUBLISHING, naming.PUBLISHING_CONTAINER),
    LogOf.SIDECAR: (naming.TRAINING, naming.SIDECAR_CONTAINER),
}


def output(word: str) -> LogOf:
    """Raises ClientError, with the outputs that there are."""
    try:
        return LogOf(word)
    except ValueError:
        raise ClientError(f"of: {word!r} is none of {', '.join(LogOf)}") from None


def container(of: LogOf) -> str:
    return _WHERE[of][1]


def selector(uid: str, of: LogOf) -> str:
    """The label selector of the pods in question."""
    return f"{naming.JOB_UID_LABEL}={uid},{naming.COMPONENT_LABEL}={_WHERE[of][0]}"


def newest(pods: Sequence[Pod]) -> Pod | None:
    """A live pod counts as newer than one that is over; of several workers the first one speaks."""
    return max(observed.leading(pods), key=_age, default=None)


def _age(pod: Pod) -> tuple[bool, float, str]:
    return (not pod.over, pod.meta.created.timestamp() if pod.meta.created else 0.0, pod.meta.name)


def has_begun(pod: Pod, of: LogOf) -> bool:
    """Whether the container has run, so that the kubelet has its output."""
    found = pod.container(container(of))
    return found is not None and found.waiting is None


def has_ended(pod: Pod, of: LogOf) -> bool:
    """Whether the container will write nothing more."""
    found = pod.container(container(of))
    return pod.over or (found is not None and found.exit_code is not None)


def why_not(pod: Pod | None, of: LogOf) -> str:
    """Why there is no output yet, in a sentence."""
    if pod is None:
        return f"there is no {_WHERE[of][0]} pod"
    found = pod.container(container(of))
    waiting = found.waiting if found is not None else ""
    stuck = pod.unscheduled.message if pod.unscheduled else ""
    return f"the pod {pod.meta.name} has not begun: {stuck or waiting or pod.phase or 'Pending'}"


def why_never(job: FineTuningJob) -> str:
    """What holds up a job whose output is waited for; empty for one that goes on by itself."""
    return f", and it is paused: resume {job.metadata.name}" if job.spec.suspend else ""


def no_more(job: FineTuningJob, of: LogOf) -> bool:
    """Whether no other pod will follow the ones that are over; none does during a pause."""
    if of in {LogOf.VALIDATION, LogOf.PUBLISHING} and job.spec.suspend:
        return True
    if of is LogOf.VALIDATION:
        return is_there(job, Until.VALIDATED)
    if of is LogOf.PUBLISHING:
        return publications.is_settled(job)
    return job.status.phase is Phase.PAUSED or training_status.is_over(job.status)


_LINE = re.compile(r"[^\n]*\n|[^\n]+")
"""Only where a line ends: a bar that is drawn over has other characters that Python splits at."""


@dataclass
class Place:
    """How far an output was read, by the times that a kubelet puts before its lines.

    A connection that goes on begins with the second of the last line, so that lines come again.
    """

    time: datetime | None = None
    _count: int = 0
    """Lines so far of this very time."""
    _passed: int = 0
    _again: bool = False
    _shown: bool = True
    _whole: bool = True

    def connection(self, tail: int | None) -> dict[str, str]:
        """The query of a connection that begins here."""
        self._passed, self._again, self._whole = 0, self.time is not None, True
        begin = {"tailLines": str(tail)} if tail is not None else {}
        since = {"sinceTime": self.time.isoformat()} if self.time is not None else begin
        return {"follow": "true", "timestamps": "true", **since}

    def new(self, piece: str) -> str:
        """What of a piece has not been there before, without the times."""
        return "".join(self._line(found[0]) for found in _LINE.finditer(piece))

    def _line(self, line: str) -> str:
        """Of a line that comes in parts the first one alone has a time."""
        if self._whole:
            first, _, rest = line.partition(" ")
            time = _time(first)
            self._shown = time is None or self._is_new(time)
            line = line if time is None else rest
        self._whole = line.endswith("\n")
        return line if self._shown else ""

    def _is_new(self, time: datetime) -> bool:
        if self._again and self.time is not None:
            if time < self.time:
                return False
            if time == self.time and self._passed < self._count:
                self._passed += 1
                return False
        self._again = False
        self._count = self._count + 1 if time == self.time else 1
        self.time = time
        return True


def _time(text: str) -> datetime | None:
    """None for what a kubelet says itself, such as that there is no such file."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
