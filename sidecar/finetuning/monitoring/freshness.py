"""What of a state is still so: a speed or a temperature that nobody has told of late is unknown."""

from finetuning.artifacts.models import TrainingState
from finetuning.monitoring.source import Origin, Snapshot

PULSE_SECONDS = 60.0
"""A living trainer tells of its GPUs, and that it lives, every few seconds, also in a long step."""
RATE_SECONDS = 300.0
STEPS = 3
"""A run of long steps tells its speed at each; after so many of its own it stands."""

_RATES = ("samples_per_second", "tokens_per_second", "mfu_ratio", "estimated_remaining_seconds")


def present(snapshot: Snapshot) -> TrainingState | None:
    """The state without the figures that were true once; of a result's own figures all are."""
    state = snapshot.state
    if state is None or snapshot.origin is Origin.RESULT:
        return state
    over = state.state.is_terminal
    silent = snapshot.read_at - max(state.updated_at, snapshot.gpus_at) > PULSE_SECONDS
    # Who has no pulse, as a trainer of another make, may be silent between two steps.
    dead = silent and snapshot.gpus_at > 0
    gone: dict[str, object] = {}
    if over or dead or snapshot.read_at - state.updated_at > rate_seconds(state):
        gone |= dict.fromkeys(_RATES)
    if over or silent:
        gone |= {"gpus": []}
    return state.model_copy(update=gone) if gone else state


def rate_seconds(state: TrainingState) -> float:
    """How long after its last word a trainer may still be at the speed that it told."""
    if not state.step or state.started_at is None:
        return RATE_SECONDS
    return max(RATE_SECONDS, STEPS * (state.updated_at - state.started_at) / state.step)
