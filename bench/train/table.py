"""What the bench's figures come to: a line for each comparison, beside what it should be."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Run = dict[str, Any]
Round = dict[str, Run]
Rounds = list[Round]


@dataclass(frozen=True)
class Line:
    """A comparison: its figure in each round by processor time and, if that differs, by the clock.

    At least `floor` or at most `ceiling`, where something was promised.
    """

    text: str
    by_cpu: list[float]
    by_clock: list[float]
    unit: str = ""
    floor: float | None = None
    ceiling: float | None = None
    form: str = ".2f"

    @property
    def wish(self) -> str:
        if self.floor is not None:
            return f"≥ {self.floor:g}{self.unit}"
        return "" if self.ceiling is None else f"≤ {self.ceiling:g}{self.unit}"

    def misses(self, values: list[float]) -> bool:
        """By the median of the rounds."""
        if not values:
            return False
        middle = statistics.median(values)
        below = self.floor is not None and middle < self.floor
        return below or (self.ceiling is not None and middle > self.ceiling)

    def shown(self, values: list[float]) -> str:
        """Median, lowest and highest."""
        if not values:
            return ""
        middle, low, high = (
            format(value, self.form)
            for value in (statistics.median(values), min(values), max(values))
        )
        return f"{middle}{self.unit} ({low} to {high})"


MODELS = {"full": "10 M, full", "lora": "10 M, lora", "large": "100 M, lora"}
OTHERS = {
    "trl": ("TRL's", 1.0),
    "bare": ("the bare loop's", 0.95),
    "torchtune": ("torchtune's", None),
}


def lines(rounds: dict[str, Rounds]) -> Iterator[Line]:
    """Those that were measured."""
    for name, about in MODELS.items():
        yield from _speed(f"{about}: tokens/s over", rounds.get(name, []))
    if short := rounds.get("short"):
        yield _ratio("short rows packed: tokens/s over TRL's defaults", short, "trl", floor=2.0)
    for name, about in {**MODELS, "short": "short rows packed"}.items():
        yield from _memory(f"{about}: peak memory over", rounds.get(name, []))
    if full := rounds.get("full"):
        yield from _losses("10 M, full: losses differ at most from", full)
    if fixed := rounds.get("fixed"):
        yield from _fixed(fixed)
    for name in ("10M", "tiny"):
        if found := rounds.get(f"telemetry-{name}"):
            yield from _telemetry(name, found)
    if found := rounds.get("start"):
        yield from _start(found)


def _sides(rounds: Rounds) -> list[str]:
    return [side for side in OTHERS if rounds and all(side in each for each in rounds)]


def _ratio(text: str, rounds: Rounds, side: str, **wish: float | None) -> Line:
    by_cpu, by_clock = (
        [each["ours"][key] / each[side][key] for each in rounds]
        for key in ("tokens_per_cpu_s", "tokens_per_s")
    )
    return Line(text, by_cpu, by_clock, **wish)  # type: ignore[arg-type]


def _speed(text: str, rounds: Rounds) -> Iterator[Line]:
    for side in _sides(rounds):
        name, floor = OTHERS[side]
        yield _ratio(f"{text} {name}", rounds, side, floor=floor)


def _memory(text: str, rounds: Rounds) -> Iterator[Line]:
    for side in [side for side in _sides(rounds) if side != "bare"]:
        values = [each["ours"]["peak_rss_mb"] / each[side]["peak_rss_mb"] for each in rounds]
        ceiling = 1.0 if side == "trl" else None
        yield Line(f"{text} {OTHERS[side][0]}", values, [], ceiling=ceiling)


def _losses(text: str, rounds: Rounds) -> Iterator[Line]:
    for side in _sides(rounds):
        values = [
            max(map(abs, map(float.__sub__, each["ours"]["losses"], each[side]["losses"])))
            for each in rounds
        ]
        yield Line(f"{text} {OTHERS[side][0]}", values, [], ceiling=1e-4, form=".1e")


def _fixed(rounds: Rounds) -> Iterator[Line]:
    """All steps are alike, so the median one tells, and what disturbs some of them does not."""
    for side, name, ceiling in (("ours", "this trainer", 0.5), ("trl", "TRL", None)):
        by_cpu, by_clock = (
            [each[side][key] - each["bare"][key] for each in rounds]
            for key in ("median_cpu_ms", "median_wall_ms")
        )
        text = f"a step of {name} over the bare loop's"
        yield Line(text, by_cpu, by_clock, unit=" ms", ceiling=ceiling)


def _telemetry(model: str, rounds: Rounds) -> Iterator[Line]:
    text = f"metrics, state and history, model {model}, rows of 8 tokens"
    added = [each["ours"]["added_ms"] for each in rounds]
    if model == "tiny":
        yield Line(text, added, [], unit=" ms")
        return
    shares = [100 * each["ours"]["added_ms"] / each["ours"]["off_ms"] for each in rounds]
    yield Line(text, shares, [], unit=" % of a step", ceiling=1.0)


def _start(rounds: Rounds) -> Iterator[Line]:
    by_cpu, by_clock = (
        [each["ours"][key] / each["trl"][key] for each in rounds] for key in ("cpu_s", "wall_s")
    )
    yield Line("time to the first loss over `trl sft`'s", by_cpu, by_clock, ceiling=0.8)
    for side, name, ceiling in (("ours", "--help", 0.3), ("trl", "trl sft --help", None)):
        by_cpu, by_clock = (
            [each[side][key] for each in rounds] for key in ("help_cpu_s", "help_wall_s")
        )
        yield Line(f"`{name}`", by_cpu, by_clock, unit=" s", ceiling=ceiling)


HEADS = ("", "target", "by processor time", "by the clock")


def _rows(rounds: dict[str, Rounds], mark: str) -> Iterator[tuple[str, ...]]:
    """`mark` has a pair of braces, in which a figure stands that misses its target."""
    for line in lines(rounds):
        told = [
            mark.format(line.shown(values)) if line.misses(values) else line.shown(values)
            for values in (line.by_cpu, line.by_clock)
        ]
        yield line.text, line.wish, *told


def in_text(results: dict[str, Any]) -> str:
    """For a terminal."""
    rows = [HEADS, *_rows(results["rounds"], "{} missed")]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEADS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def in_markdown(results: dict[str, Any]) -> str:
    """For the documentation; what misses its target is in bold."""
    rows = [HEADS, ("---",) * len(HEADS), *_rows(results["rounds"], "**{}**")]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
