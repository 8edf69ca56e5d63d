"""`finetuning run`: the pods of a job as processes of this machine, their status on the screen.

What can be refused is refused by `plan.prepare`, before anything starts. The Jobs of training,
validation and publishing then run one after the other, and a few times a second the monitor turns
what is seen into the status, on the screen and in status.json.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic

from rich.console import Console

from finetuning.api.v1alpha1 import FineTuningJobStatus
from finetuning.artifacts.files import write_json
from finetuning.controller import naming
from finetuning.controller import status as operator_status
from finetuning.controller.observed import Pod
from finetuning.local import live_state, outcome, plan, scratch, words
from finetuning.local.batch import LocalJob
from finetuning.local.options import Options
from finetuning.local.plan import Plan
from finetuning.local.problems import InputError
from finetuning.local.screen import RunConsole, Screen, perhaps_unseen, screen_for

STATUS_FILE = "status.json"
_TICK_SECONDS = 0.25
_WRITE_SECONDS = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(options: Options) -> int:
    """Run the job; the exit code, with every error as one line on stderr."""
    try:
        prepared = plan.prepare(options, os.environ)
        try:
            return asyncio.run(execute(prepared, options))
        finally:
            scratch.remove(prepared.places.scratch)
            os.close(prepared.lock)
    except InputError as error:
        for line in error.lines:
            sys.stderr.write(f"finetuning: {line}\n")
        return 2
    except OSError as error:
        # What the processes need from the machine: a full disk, no more processes, no permission.
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"finetuning: {where}{error.strerror}\n")
        return 1


async def execute(prepared: Plan, options: Options) -> int:
    """Training, then validation, then publishing, watched by the monitor."""
    kept = (prepared.lock,)
    training = LocalJob(prepared.children.training_job, prepared.training, prepared.mount, kept)
    judge = prepared.children.validation_job
    validation = LocalJob(judge, prepared.validation, prepared.mount, kept) if judge else None
    console = RunConsole(highlight=False)
    earlier = partial(live_state.earlier_losses, prepared.output)
    screen = screen_for(prepared.job, prepared.metrics_url, console, earlier)
    monitor = Monitor(prepared, training, validation, screen)
    jobs = [job for job in (training, validation) if job is not None]
    with interrupts(jobs) as received:
        try:
            for note in prepared.notes:
                screen.note(note)
            watching = asyncio.create_task(monitor.watch())
            # A run that nobody can see is stopped, with its work saved; the error comes up below.
            watching.add_done_callback(lambda _: training.suspend())
            await training.run()
            if validation is not None and training.view().complete and not received:
                await validation.run()
            publishing = None if received else monitor.publishing(kept)
            if publishing is not None:
                jobs.append(publishing)
                await publishing.run()
            watching.cancel()
            status = monitor.tick(final=True)
        finally:
            with perhaps_unseen():
                screen.close()
    say_farewell(prepared, options, status, console)
    return outcome.exit_code(status, training.exit_code, next(iter(received), None))


@contextmanager
def interrupts(jobs: Sequence[LocalJob]) -> Iterator[list[int]]:
    """The first signal asks the processes to save and leave, a second one kills them."""
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def react(number: int) -> None:
        for job in jobs:
            job.kill() if received else job.suspend()
        received.append(number)

    for number in _SIGNALS:
        loop.add_signal_handler(number, react, number)
    try:
        yield received
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


class Monitor:
    """Turns what is seen into the job's status, again and again."""

    def __init__(
        self, prepared: Plan, training: LocalJob, validation: LocalJob | None, screen: Screen
    ) -> None:
        self._plan = prepared
        self._job = prepared.job
        self._training = training
        self._validation = validation
        self._publishing: LocalJob | None = None
        self._screen = screen
        self._file = prepared.output / STATUS_FILE
        self._keeps = live_state.holds_result(self._file)
        self._written: FineTuningJobStatus | None = None
        self._written_at = 0.0
        self._said: set[str] = set()

    async def watch(self) -> None:
        while True:
            self.tick()
            await asyncio.sleep(_TICK_SECONDS)

    def publishing(self, kept_open: tuple[int, ...]) -> LocalJob | None:
        """The Job that publishes what was trained, if the verdict lets it."""
        self.tick()
        if (found := self._plan.publishing(self._job)) is not None:
            self._publishing = LocalJob(*found, self._plan.mount, kept_open)
        return self._publishing

    def tick(self, *, final: bool = False) -> FineTuningJobStatus:
        found = outcome.children(self._training, self._validation, self._publishing)
        live = live_state.read(self._plan.state_folder)
        status = outcome.next_status(
            self._job, found, live, self._plan.metrics_url, operator_status.now()
        )
        self._job = self._job.model_copy(update={"status": status})
        shown = outcome.localized(status, self._job, self._plan.output)
        with perhaps_unseen():
            self._screen.show(shown, live)
        self._watch_sidecar(found.training_pods)
        self._keeps = self._keeps and not live_state.replaces(shown, live)
        if not self._keeps:
            self._write(shown, final=final)
        return shown

    def _watch_sidecar(self, pods: tuple[Pod, ...]) -> None:
        """It takes no part in the outcome, but who wants its metrics should know."""
        if not pods or pods[0].over:
            return
        sidecar = pods[0].container(naming.SIDECAR_CONTAINER)
        if sidecar is not None and sidecar.exit_code is not None:
            self._say(f"the metrics server ended and is started again; see {self._plan.logs}")

    def _write(self, status: FineTuningJobStatus, *, final: bool) -> None:
        """status.json, at most once a second while nothing but figures changes."""
        if status == self._written:
            return
        flipped = self._written is None or status.phase is not self._written.phase
        if not (final or flipped or monotonic() - self._written_at >= _WRITE_SECONDS):
            return
        try:
            write_json(self._file, operator_status.wire(status))
        except OSError as error:
            self._say(f"{self._file}: {error.strerror}")
        self._written, self._written_at = status, monotonic()

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            with perhaps_unseen():
                self._screen.note(text)


def say_farewell(
    prepared: Plan, options: Options, status: FineTuningJobStatus, console: Console
) -> None:
    """The report, where things are, what to type next; what went wrong is a line on stderr."""
    lines = words.farewell(
        status, prepared.output, prepared.logs, options.manifest, options.command
    )
    with perhaps_unseen():
        console.print("\n".join(lines), markup=False, soft_wrap=True)
        if trouble := words.trouble(status):
            sys.stderr.write(f"finetuning: {trouble}\n")
