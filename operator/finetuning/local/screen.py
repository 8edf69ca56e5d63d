"""Shows a run: a live panel on a terminal, else a line for each change worth showing."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from time import monotonic
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from finetuning.api.v1alpha1 import FineTuningJob, FineTuningJobStatus, Phase, ValidationPhase
from finetuning.artifacts.models import TrainingState
from finetuning.controller.progress import duration
from finetuning.local import words

_COLOURS = {
    Phase.PENDING: "yellow",
    Phase.RUNNING: "cyan",
    Phase.SUCCEEDED: "green",
    Phase.FAILED: "red",
    Phase.PAUSED: "yellow",
}
_VERDICTS = {ValidationPhase.PASSED: "green", ValidationPhase.FAILED: "red"}
_SPARK_WIDTH = 32
_LONG_SECONDS, _SHORT_SECONDS, _LEAP = 5.0, 1.0, 10.0
"""A line of progress comes after the long time, or after the short one when there is much to say:
that many per cent more."""


class RunConsole(Console):
    """Whoever reads the output may leave; the run goes on."""

    @override
    def on_broken_pipe(self) -> None:
        self.quiet = True
        _write_nowhere()


@contextmanager
def perhaps_unseen() -> Iterator[None]:
    """A terminal that is gone ends the run by its signal, not by what cannot be written to it."""
    try:
        yield
    except OSError:
        _write_nowhere()


def _write_nowhere() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class Screen(Protocol):
    """Where a run is shown."""

    def show(self, status: FineTuningJobStatus, live: TrainingState | None) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...


def screen_for(
    job: FineTuningJob, metrics: str, console: Console, losses: Callable[[], dict[int, float]]
) -> Screen:
    """`losses` are those of the steps before a pause, by step."""
    if console.is_terminal:
        return PanelScreen(job, metrics, console, losses())
    return LineScreen(console)


class LineScreen:
    """For pipes, logs and CI."""

    def __init__(self, console: Console, clock: Callable[[], float] = monotonic) -> None:
        self._console = console
        self._clock = clock
        self._headline = ""
        self._line = ""
        self._shown_at = 0.0
        self._shown_percent = 0.0

    def show(self, status: FineTuningJobStatus, live: TrainingState | None) -> None:
        headline, line = words.headline(status), words.progress_line(status, live)
        if headline != self._headline:
            self._headline = headline
            self.note(headline)
        if status.phase is Phase.RUNNING and status.current_step and line != self._line:
            self._progress(line, percent(status))

    def _progress(self, line: str, done: float) -> None:
        silence = self._clock() - self._shown_at
        leap = done - self._shown_percent >= _LEAP
        if silence >= (_SHORT_SECONDS if leap else _LONG_SECONDS):
            self._line, self._shown_at, self._shown_percent = line, self._clock(), done
            self.note(line)

    def note(self, text: str) -> None:
        stamp = datetime.now().astimezone().strftime("%H:%M:%S")
        self._console.print(f"{stamp}  {text}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is left to be taken off the screen."""


class PanelScreen:
    """For people at a terminal."""

    def __init__(
        self, job: FineTuningJob, metrics: str, console: Console, losses: dict[int, float]
    ) -> None:
        self._job = job
        self._metrics = metrics
        self._console = console
        self._losses = losses
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def show(self, status: FineTuningJobStatus, live: TrainingState | None) -> None:
        if live and live.step is not None and live.loss is not None and isfinite(live.loss):
            self._losses[live.step] = live.loss
        now = datetime.now().astimezone()
        losses = list(self._losses.values())
        picture = Picture(self._job, status, live, losses, self._metrics, now)
        self._live.update(panel(picture), refresh=True)

    def note(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))

    def close(self) -> None:
        self._live.stop()


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that is on the screen at one moment."""

    job: FineTuningJob
    status: FineTuningJobStatus
    live: TrainingState | None
    losses: list[float]
    metrics: str
    now: datetime


def panel(picture: Picture) -> RenderableType:
    colour = _COLOURS[picture.status.phase]
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim")
    grid.add_column(ratio=1)
    for name, value in _rows(picture):
        grid.add_row(name, value)
    spec = picture.job.spec
    return Panel(
        Group(_headline(picture.status, picture.now), _bar(picture.status, colour), grid),
        title=f"[bold]{picture.job.metadata.name}[/] · {spec.method} · {spec.base_model.model_id}",
        title_align="left",
        border_style=colour,
        padding=(0, 1),
    )


def _headline(status: FineTuningJobStatus, now: datetime) -> Text:
    text = Text(str(status.phase), style=f"bold {_COLOURS[status.phase]}")
    if status.start_time is not None:
        seconds = ((status.completion_time or now) - status.start_time).total_seconds()
        text.append(f"  {duration(seconds)}", style="dim")
    return text.append(f"  {status.message}", style="default not bold")


def _bar(status: FineTuningJobStatus, colour: str) -> RenderableType:
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(justify="right", width=4)
    row.add_row(
        ProgressBar(100, percent(status), complete_style=colour, finished_style=colour),
        status.progress or "0%",
    )
    return row


def percent(status: FineTuningJobStatus) -> float:
    return float(status.progress.removesuffix("%") or 0)


def _rows(picture: Picture) -> list[tuple[str, RenderableType]]:
    status, losses = picture.status, picture.losses
    rows: list[tuple[str, RenderableType]] = []
    activity = words.activity(status, picture.live)
    now = [activity] if activity else []
    figures = {
        "now": [*now, *words.position(status), *words.time_left(status)],
        "train": words.learning(status, picture.live),
    }
    rows += [(name, " · ".join(texts)) for name, texts in figures.items() if texts]
    if len(losses) > 1:
        curve = words.spark(losses, _SPARK_WIDTH)
        rows.append(("curve", f"{losses[0]:.3f} [cyan]{curve}[/] {losses[-1]:.3f}"))
    if status.phase in {Phase.PENDING, Phase.RUNNING}:
        rows.append(("metrics", Text(picture.metrics)))
    if found := status.validation:
        verdict = Text(str(found.phase), style=_VERDICTS.get(found.phase, "yellow"))
        rows.append(("verdict", verdict.append(f" {found.summary}", style="default")))
    return rows
