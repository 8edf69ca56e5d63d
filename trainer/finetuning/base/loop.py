"""Optimizer steps, and what is due after each: figures, evaluation, checkpoints."""

import logging
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from finetuning.api.hyperparameters import Method
from finetuning.artifacts import LOSS_HISTORY
from finetuning.artifacts.base_weights import BaseWeights
from finetuning.artifacts.history import HistoryLine, read_history, window_start
from finetuning.artifacts.models import RunState, TrainingResult
from finetuning.artifacts.trainer_state import TrainerState
from finetuning.base import checkpoints, mfu
from finetuning.base.best import gives_up, judge
from finetuning.base.checkpoints import Checkpoint
from finetuning.base.compiled import as_written
from finetuning.base.console import Figures, duration
from finetuning.base.data import Data
from finetuning.base.device import Device
from finetuning.base.errors import DeviceMemoryError, DivergedError
from finetuning.base.group import SharedStop
from finetuning.base.journal import Journal, NoJournal, Record
from finetuning.base.last_words import result_of
from finetuning.base.live import LiveState
from finetuning.base.plan import Plan
from finetuning.base.rank import Rank
from finetuning.base.run import Run
from finetuning.base.samples import Samples
from finetuning.base.saver import Saver
from finetuning.base.step import Stepper, StepResult
from finetuning.base.tracking import Tracking
from finetuning.dataset.encode import Pack

DIVERGED_AFTER = 3
"""Steps in a row without a finite loss: one bad batch is survived, three are a trend."""

STEPS_PER_SEED = 1 << 31

log = logging.getLogger(__name__)


@dataclass
class _Interval:
    """What happened since the last figures; of a resumed run the losses before it count as well."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0
    samples: int = 0

    def add(self, result: StepResult, seconds: float) -> None:
        self.losses.append(result.loss)
        self.seconds += seconds
        self.tokens += result.tokens
        self.samples += result.samples

    @property
    def loss(self) -> float:
        return sum(self.losses) / len(self.losses)


class Loop:
    """Takes the steps of a plan.

    Every step seeds its own random numbers, so step 41 after a resume is step 41 of the run that
    was never interrupted.
    """

    def __init__(
        self,
        run: Run,
        plan: Plan,
        data: Data,
        stepper: Stepper,
        live: LiveState,
        *,
        samples: Samples,
        found: Checkpoint | None,
        form: Any,
    ) -> None:
        self.state = found.state.model_copy() if found else TrainerState()
        self.state.max_steps = max(plan.total_steps, self.state.global_step)
        self.state.num_train_epochs = plan.total_epochs
        self.state.run = run.facts
        self.state.base_weights = self.state.base_weights or BaseWeights.of(run.settings)
        self._run, self._plan, self._data = run, plan, data
        self._settings = run.config.hyperparameters
        self._stepper, self._live, self._group = stepper, live, stepper.group
        self._samples = samples
        saved = checkpoints.path_of(self.state.global_step) if found else None
        self._is_told_otherwise = found is not None and (
            (found.state.run, found.state.max_steps) != (run.facts, self.state.max_steps)
        )
        """Whether the checkpoint of the last step, where it is that, is of other settings."""
        self._saver = Saver(run, stepper, live, saved, form)
        if found:
            self._saver.restore(found.folder, found.state)
        method = run.config.method
        self._mfu = mfu.meter(stepper.model, stepper.device, trains_all=method is Method.FULL)
        self._interval = _Interval()
        self._began, self._first = time.monotonic(), self.state.global_step
        self._compiling = 0.0
        """Seconds of the first step, where it compiles the model's layers."""
        self._seconds_before = self.state.train_seconds
        self.state.evaluation_due |= self._ends_unmeasured()

    def run_until(self, stop: SharedStop, tracking: Tracking) -> None:
        """Step until the plan's end or the wish to stop; raises TrainerError."""
        run = self._run
        self._tell_start()
        try:
            with closing(self._open()) as record, record.redirect():
                made_up = self._make_up_for_evaluation(record, stop)
                if self._group.leads:
                    tracking.start(self.state.global_step - made_up)
                if self.done and (made_up or self._is_told_otherwise):
                    self._saver.begin(self.state)
                while not self.done and not stop.requested:
                    self._saver.poll(self.state)
                    self._one(record, stop)
                    self._measure(record, stop)
                self._saver.finish(self.state)
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(_memory_advice(run, error)) from error
        if self.done:
            self.state.max_steps = self.state.global_step

    @property
    def done(self) -> bool:
        """Whether the plan's end is reached, or the held-out loss has not improved in a while."""
        finished = self.state.global_step >= self._plan.total_steps
        return finished or gives_up(self.state, self._settings)

    def pause(self) -> TrainingResult:
        """Keep what was done since the last checkpoint."""
        step = self.state.global_step
        if step > 0 and self._saver.begun != checkpoints.path_of(step):
            self._saver.begin(self.state)
        self._saver.finish(self.state)
        return result_of(self.state, RunState.PAUSED, self._saver.saved)

    def close(self) -> None:
        """Wait for a checkpoint that is being written, whatever ended the run."""
        self._saver.close()

    def _open(self) -> Record:
        """What one process writes down; it also clears what lies beyond the step that goes on."""
        self._samples.open(self.state.global_step - self.state.evaluation_due)
        if not self._group.leads:
            return NoJournal()
        self._run.checkpoints.mkdir(exist_ok=True)
        checkpoints.clean(self._run.checkpoints, self.state.global_step)
        journal = Journal.open(self._run.output, self.state, self._plan.total_steps)
        self._interval.losses = self._losses_since_figures()
        return journal

    def _losses_since_figures(self) -> list[float]:
        """Those of the window that goes on: its mean must not depend on where a run was resumed."""
        start = window_start(self.state.global_step + 1, self._settings.logging_steps)
        lines = read_history(self._run.output / LOSS_HISTORY)
        return [line.loss for line in lines if line.step > start]

    def _one(self, record: Record, stop: SharedStop) -> None:
        done = self.state.global_step
        seed_noise(seed_of(self._plan.seed, done, self._group.rank), self._stepper.device)
        rate = self._plan.learning_rate(done)
        began = time.perf_counter()
        result = self._stepper.step(self._packs(done), rate, stop)
        if result is None:
            return
        self._count(result, time.perf_counter() - began)
        if self._settings.torch_compile and done == self._first:
            self._compiling = time.perf_counter() - began
            log.info("The first step has compiled the layers: %s.", duration(self._compiling))
        eval_loss = self._evaluate_if_due(stop)
        best = eval_loss is not None and self._is_best(eval_loss)
        record.step(self._line(result, rate, eval_loss))
        self._tell(record, rate, result)
        self._check(result)
        if best or self.done or self._plan.saves_after(self.state.global_step):
            self._saver.begin(self.state)

    def _measure(self, record: Record, stop: SharedStop) -> None:
        last = self.done or stop.requested
        record.measure(self.state, self._live.state.gpus, last=last)

    def _packs(self, done: int) -> list[list[Pack]]:
        return [[self._data.train[i] for i in rows] for rows in self._plan.batches(done)]

    def _count(self, result: StepResult, seconds: float) -> None:
        state = self.state
        state.global_step += 1
        state.epoch = self._plan.epoch_after(state.global_step)
        state.tokens_total += result.tokens
        state.samples_total += result.samples
        state.train_seconds = self._seconds_before + time.monotonic() - self._began
        state.bad_steps_in_a_row = 0 if result.applied else state.bad_steps_in_a_row + 1
        state.nonfinite_losses += not result.applied
        self._interval.add(result, seconds)
        state.loss = self._interval.loss

    def _ends_unmeasured(self) -> bool:
        """Whether settings that were changed on the way end the run where nobody has evaluated."""
        measured = self.state.evaluated_step == self.state.global_step
        return self.done and bool(self._data.held_out) and not measured

    def _evaluate_if_due(self, stop: SharedStop) -> float | None:
        """None when no evaluation is due, or when there is no time left for all of it."""
        step = self.state.global_step
        due = self.done or self._plan.evaluates_after(step)
        if not self._data.held_out or not due:
            return None
        self._live.event(RunState.EVALUATING)
        last = step >= self._plan.total_steps
        rows, size = self._data.held_out, self._plan.batch_size
        complete = False
        with as_written(self._settings):
            loss = self._stepper.evaluate(rows, size, None if last else stop)
            if loss is not None:
                log.info("step %d  eval loss %.4f", step, loss)
                complete = self._samples.ask(self._stepper.model, step, stop) or last
        self.state.evaluation_due = not complete
        if complete:
            self.state.eval_loss, self.state.evaluated_step = loss, step
        self._live.event(RunState.TRAINING, eval_loss=self.state.eval_loss)
        return loss if complete else None

    def _make_up_for_evaluation(self, record: Record, stop: SharedStop) -> bool:
        """The one that a wish to stop left off, so that a pause changes nothing of the run."""
        if not self.state.evaluation_due:
            return False
        self.state.evaluation_due = False
        eval_loss = self._evaluate_if_due(stop)
        if eval_loss is None:
            return False
        self._is_best(eval_loss)
        record.evaluated(self.state.global_step, eval_loss)
        return True

    def _is_best(self, eval_loss: float) -> bool:
        """Whether these weights must be kept as the best so far."""
        best = judge(self.state, eval_loss, self._settings.early_stopping_threshold)
        if gives_up(self.state, self._settings):
            log.info(
                "Stopping at step %d: the held-out loss has not improved in %d evaluations.",
                self.state.global_step,
                self.state.evaluations_without_gain,
            )
        return best and self._settings.keeps_best

    def _line(self, result: StepResult, rate: float, eval_loss: float | None) -> HistoryLine:
        return HistoryLine(
            step=self.state.global_step,
            epoch=round(self.state.epoch, 6),
            loss=result.loss,
            learning_rate=rate,
            tokens=result.tokens,
            grad_norm=result.grad_norm,
            eval_loss=eval_loss,
        )

    def _check(self, result: StepResult) -> None:
        if result.applied:
            return
        log.warning(
            "step %d: the loss or its gradient is not finite; the weights stay as they were",
            self.state.global_step,
        )
        if self.state.bad_steps_in_a_row >= DIVERGED_AFTER:
            raise DivergedError(
                f"the loss was not finite in {DIVERGED_AFTER} steps in a row, up to step "
                f"{self.state.global_step}; lower --learning-rate (now "
                f"{self._settings.learning_rate:g}), warm up longer, or use --bf16 in place of fp16"
            )

    def _tell_start(self) -> None:
        state, now = self.state, time.time()
        self._live.event(
            RunState.TRAINING,
            started_at=now - state.train_seconds,
            resumed_at=now,
            loss=state.loss,
            loss_epoch=state.epoch,
            eval_loss=state.eval_loss,
            last_checkpoint=self._saver.saved,
            **counts_of(state, self._plan),
        )

    def _tell(self, record: Record, rate: float, result: StepResult) -> None:
        """Publish the interval's figures when the step ends one, else that the step was done."""
        state, interval = self.state, self._interval
        remaining = self._remaining()
        counts = {**steps_of(state), "estimated_remaining_seconds": remaining}
        if state.global_step % self._settings.logging_steps and not self.done:
            if not result.applied:
                counts |= {"loss": interval.loss, "loss_epoch": state.epoch}
            self._live.progress(**counts)
            return
        self._interval = _Interval()
        speed = interval.tokens / interval.seconds
        record.figures(
            Figures(
                state.global_step,
                self._plan.total_steps,
                state.epoch,
                interval.loss,
                rate,
                speed,
                remaining,
            )
        )
        self._live.progress(
            loss=interval.loss,
            loss_epoch=state.epoch,
            grad_norm=result.grad_norm,
            learning_rate=rate,
            samples_per_second=interval.samples / interval.seconds,
            tokens_per_second=speed,
            mfu_ratio=self._mfu_of(interval),
            **counts,
        )

    def _mfu_of(self, interval: _Interval) -> float | None:
        """Of one GPU: they work side by side."""
        seconds = interval.seconds * self._group.size
        return self._mfu(interval.tokens, interval.samples, seconds)

    def _remaining(self) -> float:
        """By the wall clock of this process, so that evaluation and saving count as well."""
        done = self.state.global_step - self._first
        left = self._plan.total_steps - self.state.global_step
        took = time.monotonic() - self._began
        if self._compiling and done > 1:
            done, took = done - 1, took - self._compiling
        return took / done * left


def counts_of(state: TrainerState, plan: Plan) -> dict[str, Any]:
    """What the live state tells of how far the run is, known once its checkpoint is read."""
    return {
        **steps_of(state),
        "total_steps": plan.total_steps,
        "total_epochs": plan.total_epochs,
        "checkpoints_total": state.checkpoints_total,
        "checkpoint_sizes_bytes": state.checkpoint_sizes_bytes,
        "checkpoint_interval_steps": plan.save_every,
    }


def steps_of(state: TrainerState) -> dict[str, Any]:
    """What changes with every step, and is told with it: a run may end before its next figures."""
    return {
        "step": state.global_step,
        "epoch": state.epoch,
        "tokens_total": state.tokens_total,
        "samples_total": state.samples_total,
        "nonfinite_losses": state.nonfinite_losses,
    }


def seed_of(seed: int, step: int, rank: Rank) -> int:
    """Each step and process has its own noise; rank 0 that of a run of one process."""
    plain = seed * STEPS_PER_SEED + step
    if rank.leads:
        return plain
    return int(np.random.SeedSequence([seed, step, rank.number]).generate_state(1, np.uint64)[0])


def seed_noise(seed: int, device: Device) -> None:
    """What torch.manual_seed does for the device that computes.

    It would ask for all others as well and, where there is none, keep the stack of each call for
    later, which takes longer than anything else between two steps.
    """
    torch.default_generator.manual_seed(seed)
    if device.on_gpu:
        torch.cuda.manual_seed(seed)


def _memory_advice(run: Run, error: BaseException) -> str:
    settings = run.config.hyperparameters
    first = str(error).split("\n", maxsplit=1)[0][:200]
    return (
        f"the device's memory is full ({first}); lower --batch-size (now {settings.batch_size}) or "
        f"--max-seq-length (now {settings.max_seq_length}), use --gradient-checkpointing, or "
        "--method qlora"
    )
