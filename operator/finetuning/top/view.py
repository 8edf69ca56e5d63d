"""One frame: a head, and two lines a job, but one for what is done."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from finetuning.api.v1alpha1 import Phase, Reason, ValidationPhase
from finetuning.artifacts.plain import plain
from finetuning.controller.progress import duration
from finetuning.local import words
from finetuning.top.rows import Row, percent

_COLOURS = {
    Phase.PENDING: "yellow",
    Phase.RUNNING: "cyan",
    Phase.SUCCEEDED: "green",
    Phase.FAILED: "red",
    Phase.PAUSED: "yellow",
}
_VERDICTS = {
    ValidationPhase.PASSED: "green",
    ValidationPhase.FAILED: "red",
    ValidationPhase.ERROR: "red",
}
_WIDEST_NAME, _WIDEST_SPARK, _NARROWEST_SPARK = 40, 40, 8
_TIME = 11
_FIXED = 56
"""Columns that the figures beside two curves take."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything that is on the screen at one moment."""

    rows: Sequence[Row]
    source: str
    now: datetime
    width: int
    height: int | None = None
    """Lines there are; None: as many as it takes."""
    trouble: str = ""


def render(frame: Frame) -> RenderableType:
    parts: list[RenderableType] = [_head(frame)]
    if frame.trouble:
        parts.append(Text(frame.trouble, style="red", overflow="ellipsis", no_wrap=True))
    if not frame.rows:
        parts.append(Text("No jobs.", style="dim"))
    room = None if frame.height is None else frame.height - len(parts) - 1
    shown = _fitting(frame.rows, room)
    name_width = max([len(row.title) for row in shown], default=0)
    name_width = min(name_width, _WIDEST_NAME, frame.width // 3)
    for row in shown:
        parts += _job(row, frame, name_width)
    if hidden := len(frame.rows) - len(shown):
        parts.append(Text(f"… and {hidden} more", style="dim"))
    return Group(*parts)


def _fitting(rows: Sequence[Row], room: int | None) -> list[Row]:
    if room is None:
        return list(rows)
    found: list[Row] = []
    for row in rows:
        room -= 1 if row.status.phase is Phase.SUCCEEDED else 2
        if room < 0:
            break
        found.append(row)
    return found


def _head(frame: Frame) -> RenderableType:
    counts = dict.fromkeys(Phase, 0)
    for row in frame.rows:
        counts[row.status.phase] += 1
    text = Text("finetuning top", style="bold")
    for phase, count in counts.items():
        if count:
            text.append(f"  {count} {phase.lower()}", style=f"{_COLOURS[phase]} not bold")
    grid = Table.grid(expand=True, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, overflow="ellipsis", justify="right", max_width=frame.width // 3)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(text, Text(plain(frame.source, 200), style="dim"), f"{frame.now:%H:%M:%S}")
    return grid


def _job(row: Row, frame: Frame, name_width: int) -> Iterator[RenderableType]:
    colour = _COLOURS[row.status.phase]
    grid = Table.grid(expand=True, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, overflow="ellipsis", width=name_width)
    grid.add_column(no_wrap=True, width=9)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True, justify="right", width=_TIME)
    phase = Text(row.status.phase, style=colour)
    name = Text(plain(row.title, 200), style="bold" if row.active else "")
    if not row.active:
        grid.add_row(name, phase, _ending(row), "", Text(_age(row, frame.now), style="dim"))
        yield grid
        if row.status.phase is Phase.FAILED:
            words_of_it = plain(row.status.message, 1024)
            yield Text(f"  {words_of_it}", style="dim", no_wrap=True, overflow="ellipsis")
        return
    left = " ".join(words.time_left(row.status))
    bar = ProgressBar(100, percent(row.status), complete_style=colour, finished_style=colour)
    grid.add_row(name, phase, bar, row.status.progress or "0%", left)
    yield grid
    yield _details(row, frame.width)


def _details(row: Row, width: int) -> Text:
    """The curves when there are any, else why there are none."""
    spark = max(_NARROWEST_SPARK, min(_WIDEST_SPARK, (width - _FIXED) // 2))
    status = row.status
    text = Text("  ", no_wrap=True, overflow="ellipsis")
    if row.note:
        text.append(f"{row.note}  ", style="yellow")
    elif status.phase is not Phase.RUNNING:
        text.append(f"{plain(status.message or status.reason, 1024)}  ".lstrip(), style="dim")
    for figure, curve in (
        (_figure("loss", status.train_loss, ".4f"), row.losses),
        (_figure("tok/s", status.tokens_per_second, ",.0f"), row.speeds),
    ):
        if figure:
            text.append(figure)
            text.append(f" {words.spark(curve, spark)}  " if len(curve) > 1 else "  ", style="cyan")
    if status.reason == Reason.VALIDATING:
        text.append("validating  ", style="yellow")
    rest = [*words.position(status)[:1], plain(row.about, 300)]
    return text.append(" · ".join(part for part in rest if part), style="dim")


def _figure(name: str, value: float | None, form: str) -> str:
    return "" if value is None else f"{name} {value:{form}}"


def _ending(row: Row) -> Text:
    """What came of it, the most important first."""
    status, text = row.status, Text()
    if status.phase is Phase.FAILED:
        return text.append(plain(status.reason, 128), style="red")
    if (found := status.validation) is not None and found.phase is not ValidationPhase.SKIPPED:
        verdict = plain(found.summary, 128) or f"validation {found.phase}"
        text.append(f"{verdict}  ", style=_VERDICTS.get(found.phase, "yellow"))
    if status.train_loss is not None:
        text.append(f"loss {status.train_loss:.4f} ")
    text.append(words.spark(row.losses, 12) if len(row.losses) > 1 else "", style="cyan")
    return text.append(f"  {plain(row.about, 300)}", style="dim")


def _age(row: Row, now: datetime) -> str:
    ended = row.status.completion_time
    return f"{duration((now - ended).total_seconds())} ago" if ended else ""
