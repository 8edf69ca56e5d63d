"""What the last looks at a job found: it saves calls, and losing it loses nothing."""

from dataclasses import dataclass, field

from finetuning.api.v1alpha1 import Usage
from finetuning.artifacts.models import TrainingState
from finetuning.controller.training_status import Problem

NEVER = float("-inf")


@dataclass
class Memory:
    """Of one job; times are those of a monotonic clock."""

    uid: str
    wrote: float = NEVER
    ended: float = NEVER
    """When its newest trainer was first seen to have ended, while its Job has not."""
    withheld: bool = False
    """Whether a status waits for what its sidecar is asked."""
    live: TrainingState | None = None
    live_pod: str = ""
    fetched: float = NEVER
    last_asked: str = ""
    """The uid of the Pod whose sidecar was asked once more after the trainer was killed."""
    usage: Usage | None = None
    """Counted at every look; the status has it as of its last write."""
    monitoring: Problem | None = None
    monitor_tried: float = NEVER
    wired: float = NEVER
    """When its Service and monitor were first made; after a restart nobody knows."""
    mended: dict[str, float] = field(default_factory=dict)
    """When a child of a kind was last made anew because somebody had changed it."""
    service_looked: float = NEVER
    waiting: float = NEVER
    waiting_for: str = ""
    """Which Job without Pod, Pod that does not start, or Job in a queue."""
    claim_modes: tuple[str, ...] | None = None
    """How the user's own claim for the output may be mounted, once somebody looked."""
    hint: str = ""
    hinted: float = NEVER
    looked_at: set[str] = field(default_factory=set)
    """Finished Jobs whose Pods were listed already because none of them was known."""


def left(pause: float, last: float, now: float) -> float:
    """Of a pause that began at `last`; all of it where it is over, or never began."""
    passed = now - last
    return pause if passed >= pause else pause - passed
