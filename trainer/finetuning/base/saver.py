"""Checkpoints written beside the training: copied to the host's memory, then put on the disk.

One at a time. What goes wrong on the disk comes up at the next step, or at the end, which waits.
"""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from finetuning.api.hyperparameters import Method
from finetuning.artifacts import LOSS_HISTORY, PERFORMANCE_HISTORY, SAMPLES
from finetuning.artifacts.files import sync_file
from finetuning.artifacts.models import RunState
from finetuning.artifacts.trainer_state import TrainerState
from finetuning.base import checkpoints
from finetuning.base.distribute import gathered, is_sharded
from finetuning.base.live import LiveState
from finetuning.base.results import weights_writer
from finetuning.base.run import Run
from finetuning.base.step import Stepper, checkpoint_bytes
from finetuning.base.storage import megabytes, space_for

ROOM_LEFT = 0.5
"""Largest share of the host's free memory that a copy may take."""

_CGROUP = Path("/sys/fs/cgroup")

log = logging.getLogger(__name__)


class Saver:
    """Writes the checkpoints of one run."""

    def __init__(
        self, run: Run, stepper: Stepper, live: LiveState, saved: str | None, form: Any
    ) -> None:
        """`form` is the model that is written, or one in its form where it is in shards."""
        self.saved = self.begun = saved
        """Path of the newest complete checkpoint, and of the newest that was begun."""
        self._run, self._stepper, self._live, self._form = run, stepper, live, form
        self._trained = [
            (name, parameter)
            for name, parameter in stepper.model.named_parameters(remove_duplicate=False)
            if parameter.requires_grad
        ]
        self._names = {parameter: name for name, parameter in reversed(self._trained)}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[tuple[Path, int]] | None = None
        self._size = checkpoint_bytes(stepper.model)
        self._warned = False
        self._sharded = is_sharded(stepper.model)

    def restore(self, folder: Path, state: TrainerState) -> None:
        """Give optimizer and loss scaler what they had when the checkpoint was written."""
        checkpoints.restore_optimizer(self._stepper.optimizer, self._names, folder)
        self._stepper.load_scaler(state.loss_scaler)

    def begin(self, state: TrainerState) -> None:
        """Take the state as it is now; raises what went wrong with the checkpoint before.

        Rank 0 does; the others give it their shards, if they have any, and note that it has begun.
        """
        self.begun = checkpoints.path_of(state.global_step)
        leads = self._stepper.group.leads
        if leads:
            self.finish(state)
        beside = leads and self._has_room_beside()
        optimizer, weights = self._taken(copied=beside)
        if not leads:
            self.saved = self.begun
            return
        state.loss_scaler = self._stepper.scaler_state()
        settings = self._run.config.hyperparameters
        write = partial(
            self._write,
            self._run.checkpoints,
            state.model_copy(deep=True),
            weights_writer(self._form, self._run.config, copied=beside, state=weights),
            optimizer,
            settings.save_total_limit,
            spare=state.best_global_step if settings.keeps_best else None,
        )
        self._writing = self._thread.submit(write)
        if not beside:
            self.finish(state)

    def _write(self, *what: Any, **how: Any) -> tuple[Path, int]:
        """The histories first: no power cut may leave a checkpoint of steps that they lack."""
        with space_for("the histories", self._run.output):
            for name in (LOSS_HISTORY, PERFORMANCE_HISTORY, SAMPLES):
                sync_file(self._run.output / name)
        return checkpoints.save(*what, **how)

    def _taken(self, *, copied: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The optimizer's tensors and, where it is in shards, what is trained of the model."""
        tensors = checkpoints.optimizer_tensors(self._stepper.optimizer, self._names)
        if not self._sharded:
            return _copied(tensors) if copied else tensors, None
        leads, full = self._stepper.group.leads, self._run.config.method is Method.FULL
        weights = dict(self._trained)
        if full:  # With its buffers.
            weights = self._stepper.model.state_dict(keep_vars=True)
        return gathered(tensors, keeps=leads), gathered(weights, keeps=leads)

    def poll(self, state: TrainerState) -> None:
        """Note a checkpoint that is complete by now; raises what went wrong with it."""
        if self._writing is not None and self._writing.done():
            self._note(self._writing, state)

    def finish(self, state: TrainerState) -> None:
        """The same, after waiting for it."""
        if self._writing is not None:
            self._live.event(RunState.SAVING)
            self._note(self._writing, state)

    def close(self) -> None:
        """Wait for the disk when the run ends, for whatever reason; nothing is raised."""
        self._thread.shutdown(wait=True)

    def _has_room_beside(self) -> bool:
        """Whether a copy has room in the host's memory; else training waits for the disk."""
        free = free_memory()
        if free is None or self._size <= free * ROOM_LEFT:
            return True
        if not self._warned:
            log.warning(
                "A copy of a checkpoint (%s) would take more than half of the free memory (%s): "
                "training waits while one is written. More memory for the pod ends that.",
                megabytes(self._size),
                megabytes(free),
            )
        self._warned = True
        return False

    def _note(self, writing: "Future[tuple[Path, int]]", state: TrainerState) -> None:
        self._writing = None
        folder, size = writing.result()
        self.saved = checkpoints.path_of(checkpoints.step_of(folder))
        state.add_checkpoint(size)
        self._live.event(
            RunState.TRAINING,
            checkpoints_total=state.checkpoints_total,
            checkpoint_sizes_bytes=state.checkpoint_sizes_bytes,
            last_checkpoint=self.saved,
            last_checkpoint_at=time.time(),
        )
        log.info("Saved %s (%.1f MB).", folder.name, size / 1e6)


def _copied(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def free_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> int | None:
    """Bytes that this process can still take, by the machine and the container's limit."""
    found = [_available(meminfo), _below_limit(cgroup)]
    known = [size for size in found if size is not None]
    return min(known) if known else None


def _available(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable:" in line)
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _below_limit(cgroup: Path) -> int | None:
    """Without the page cache, which the kernel gives back when memory is wanted."""
    try:
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        current = int((cgroup / "memory.current").read_text(encoding="ascii"))
        counts = (cgroup / "memory.stat").read_text(encoding="ascii").split()
    except (OSError, ValueError):  # No limit is the word max.
        return None
    cache = int(counts[counts.index("inactive_file") + 1]) if "inactive_file" in counts else 0
    return max(0, limit - current + cache)
