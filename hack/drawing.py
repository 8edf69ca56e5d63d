"""Each look of a panel, drawn with matplotlib."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from finetuning.observability.panels import Panel

mpl.use("agg")

UNITS = {
    "none": "", "short": "", "sci": "", "percent": " %", "watt": " W", "celsius": " °C",
    "kwatth": " kWh", "ops": " /s", "reqps": " /s",
}  # fmt: skip
SCALES: dict[str, tuple[float, tuple[str, ...]]] = {
    "bytes": (1024.0, ("B", "KiB", "MiB", "GiB", "TiB")),
    "short": (1000.0, ("", "K", "M")),
}
POINTS = 240
FINE = 10
"""Points of the small print."""
NAMES = 6
"""More of them would hide the lines."""
ROWS = 6
ROW_INCHES = 0.36


@dataclass(frozen=True)
class Answer:
    """One series: its name, the place of its query in the panel, and the API's answer."""

    title: str
    query: int
    series: dict[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.series["metric"])

    @property
    def value(self) -> float:
        return float(self.series["value"][1])

    @property
    def points(self) -> list[tuple[float, float]]:
        return [(when, float(value)) for when, value in self.series["values"]]


def nothing(axes: Any) -> None:
    axes.axis("off")
    axes.text(0.5, 0.5, "no data", ha="center", va="center", color="gray", fontsize=FINE + 1)


def lines(axes: Any, panel: Panel, found: list[Answer], start: float, end: float) -> None:
    if panel.stacked:
        times = sorted({when for each in found for when, _ in each.points})
        heights = [[dict(each.points).get(when, 0.0) for when in times] for each in found]
        axes.stackplot(times, heights, labels=[each.title for each in found], alpha=0.7)
    else:
        for each in found:
            axes.plot(*zip(*each.points, strict=True), label=each.title, linewidth=1.6)
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, panel.unit))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=panel.unit == "none"))
    clock(axes, start, end)
    axes.grid(alpha=0.3)
    drawn, names = axes.get_legend_handles_labels()
    if len(names) > NAMES:
        names = [*names[: NAMES - 1], f"and {len(names) - NAMES + 1} more"]
    if any(names):
        axes.legend(
            drawn[:NAMES], names[:NAMES], fontsize=FINE, loc="best", framealpha=0.6, borderpad=0.2
        )


def clock(axes: Any, start: float, end: float) -> None:
    axes.set_xlim(start, end)
    axes.xaxis.set_major_formatter(lambda when, _: time.strftime("%H:%M:%S", time.gmtime(when)))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=FINE)
    axes.spines[["top", "right"]].set_visible(False)


def states(axes: Any, panel: Panel, found: list[Answer], start: float, end: float) -> None:
    """A line for each series, in which equal neighbours are one bar; its name stands before it."""
    width = max(1.0, (end - start) / POINTS)
    size = min(FINE, 0.7 * _points_high(axes) / len(found))
    for line, each in enumerate(found):
        for value, same in groupby(each.points, key=lambda point: point[1]):
            times = [when for when, _ in same]
            text, color = panel.values.get(int(value), (f"{value:g}", "gray"))
            bar = (times[0], times[-1] - times[0] + width)
            if color == "transparent":
                continue
            axes.broken_barh([bar], (line - 0.4, 0.8), color=color.removeprefix("dark-"), alpha=0.5)
            if bar[1] > (end - start) / 12 and text != "yes":
                where = (bar[0] + bar[1] / 2, line)
                axes.text(*where, text, fontsize=size, va="center", ha="center")
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(found) - 0.4, -0.6)
    clock(axes, start, end)
    axes.set_yticks(range(len(found)), [each.title for each in found])
    axes.tick_params(axis="y", labelsize=size, length=0)
    _make_room(axes)


def _points_high(axes: Any) -> float:
    return float(axes.get_window_extent().height / axes.figure.dpi * 72)


def _make_room(axes: Any) -> None:
    """Move the left edge to where the names before it end."""
    names = [label.get_window_extent() for label in axes.get_yticklabels()]
    place = axes.get_position()
    taken = max((name.width for name in names), default=0) / axes.figure.bbox.width + 0.005
    axes.set_position((place.x0 + taken, place.y0, place.width - taken, place.height))


def numbers(axes: Any, panel: Panel, found: list[Answer]) -> None:
    """Side by side, each above its name."""
    axes.axis("off")
    size = 19 if len(found) == 1 or panel.unit != "dateTimeAsIso" else 12
    for place, each in enumerate(found):
        left = place / len(found)
        text = shown(each.value, panel.unit)
        axes.text(left, 0.75, text, fontsize=size, va="center", color="seagreen")
        axes.text(left, 0.2, each.title, fontsize=FINE, va="center", color="gray")


def table(axes: Any, panel: Panel, found: list[Answer]) -> None:
    """A line per job or GPU: its labels, then the values of the queries that have a column."""
    axes.axis("off")
    columns = list(dict.fromkeys(label for each in found for label in each.labels))
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for each in found:
        key = tuple(each.labels.get(name, "") for name in ("namespace", "job_name", "gpu_id"))
        title = panel.columns.get(f"Value #{chr(ord('A') + each.query)}", "")
        row = rows.setdefault(key, {})
        row |= each.labels | ({title: shown(each.value, "short")} if title else {})
    columns += [title for title in panel.columns.values() if title and title not in columns]
    cells = [[row.get(label, "") for label in columns] for row in list(rows.values())[:ROWS]]
    inches = axes.get_window_extent().height / axes.figure.dpi
    high = min(1.0, (len(cells) + 1) * ROW_INCHES / inches)
    longest = [
        max(map(len, (title, *each))) + 3 for title, *each in zip(columns, *cells, strict=True)
    ]
    drawn = axes.table(
        cells,
        colLabels=columns,
        colWidths=[length / sum(longest) for length in longest],
        bbox=(0, 1 - high, 1, high),
        cellLoc="left",
        colLoc="left",
    )
    drawn.auto_set_font_size(value=False)
    drawn.set_fontsize(FINE)
    for (line, _), cell in drawn.get_celld().items():
        cell.set_edgecolor("lightgray")
        cell.visible_edges = "B"
        if not line:
            cell.set_text_props(weight="bold")


def shown(value: float, unit: str) -> str:
    """A value as Grafana would write it, nearly."""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "dateTimeAsIso":
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(value / 1000))
    base, names = SCALES.get(unit, (0.0, ("",)))
    power = 0
    while base and abs(value) >= base and power < len(names) - 1:
        value, power = value / base, power + 1
    after = UNITS.get(unit, f" {unit}") if not base else f" {names[power]}".rstrip()
    return f"{value:.4g}{after}"
