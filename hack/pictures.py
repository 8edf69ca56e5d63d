"""Draw the dashboards from what a real Prometheus answers, for the documentation.

Usage: python -m hack.pictures PROMETHEUS-URL FOLDER [MINUTES [DASHBOARD ...]]

Needs matplotlib (`uv pip install matplotlib`). This is not Grafana: the places, titles, units and
queries are the dashboards', the drawing is not.
"""

from __future__ import annotations

import json
import re
import sys
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
from hack import prometheus
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from finetuning.observability import grafana
from finetuning.observability.boards import DASHBOARDS
from finetuning.observability.panels import Dashboard, Look, Panel, Query

mpl.use("agg")

UNIT_WORDS = {"none": "", "short": "", "sci": "", "percent": " %", "watt": " W", "celsius": " °C"}
BYTES = ("", " Ki", " Mi", " Gi", " Ti")
POINTS = 240
LINE = 0.36
"""Inches of one line of Grafana's grid."""
FINE = 10
"""Points of the small print."""
KIB = 1024


def main(url: str, folder: Path, minutes: float = 10, *wanted: str) -> None:
    """Write one picture per dashboard."""
    end = time.time()
    for board in DASHBOARDS:
        if not wanted or board.uid in wanted:
            picture = folder / f"dashboard-{board.uid.removeprefix('finetuning-')}.png"
            draw(board, url, end - 60 * minutes, end).savefig(picture, dpi=70)
            print(picture)


def draw(board: Dashboard, url: str, start: float, end: float) -> Any:
    """Every panel at its place of Grafana's grid."""
    written = json.loads(grafana.rendered(board))["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in written)
    height = rows * LINE + 0.6
    figure = plt.figure(figsize=(20, height), layout="none")
    figure.suptitle(board.title, x=0.01, ha="left", fontsize=16, y=1 - 0.1 / height)
    panels = iter(board.panels)
    for place in written:
        spot = place["gridPos"]
        bottom = (rows - spot["y"] - spot["h"]) * LINE / height
        box = (spot["x"] / grafana.COLUMNS + 0.05, bottom + 0.35 / height)
        if place["type"] == "row":
            figure.text(0.01, bottom + 0.05 / height, place["title"], fontsize=15, weight="bold")
            continue
        size = (spot["w"] / grafana.COLUMNS - 0.065, (spot["h"] * LINE - 0.75) / height)
        axes = figure.add_axes((*box, *size))
        panel = next(panels)
        axes.set_title(panel.title, fontsize=12, loc="left")
        fill(axes, panel, url, start, end)
    return figure


def fill(axes: Any, panel: Panel, url: str, start: float, end: float) -> None:
    """Ask as the panel does, and draw the answer in its manner."""
    seconds = int(end - start)
    ranged = panel.look in (Look.LINES, Look.STATES)
    found: list[tuple[str, dict[str, Any]]] = []
    for query in panel.queries:
        text = prometheus.filled(query.expr, seconds, "1m")
        answer = (
            prometheus.over_time(url, text, start, end, max(1, seconds / POINTS))
            if ranged
            else prometheus.instant(url, text)
        )
        found += [(name(query, series["metric"]), series) for series in answer]
    if not found:
        axes.axis("off")
        axes.text(0.5, 0.5, "no data", ha="center", color="gray")
    elif panel.look is Look.LINES:
        draw_lines(axes, panel, found)
    elif panel.look is Look.STATES:
        draw_states(axes, panel, found, start, end)
    elif panel.look is Look.NUMBER:
        draw_number(axes, panel, found)
    else:
        draw_table(axes, found)


def name(query: Query, labels: dict[str, str]) -> str:
    """The series' name by the query's legend."""
    return re.sub(r"\{\{(\w+)\}\}", lambda place: labels.get(place[1], ""), query.legend)


def draw_lines(axes: Any, panel: Panel, found: list[tuple[str, dict[str, Any]]]) -> None:
    for title, series in found:
        times = [when for when, _ in series["values"]]
        axes.plot(
            times, [float(value) for _, value in series["values"]], label=title, linewidth=1.6
        )
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, panel.unit))
    draw_clock(axes)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=FINE, loc="best", framealpha=0.6)


def draw_clock(axes: Any) -> None:
    axes.xaxis.set_major_formatter(lambda when, _: time.strftime("%H:%M:%S", time.gmtime(when)))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=FINE)
    axes.spines[["top", "right"]].set_visible(False)


def draw_states(
    axes: Any, panel: Panel, found: list[tuple[str, dict[str, Any]]], start: float, end: float
) -> None:
    """A line for each series, in which equal neighbours are one bar."""
    width = max(1.0, (end - start) / POINTS)
    for line, (_, series) in enumerate(found):
        for value, same in groupby(series["values"], key=lambda point: point[1]):
            times = [when for when, _ in same]
            text, color = panel.values.get(int(float(value)), (value, "gray"))
            if color == "transparent":
                continue
            bar = (times[0], times[-1] - times[0] + width)
            axes.broken_barh([bar], (line - 0.4, 0.8), color=color.removeprefix("dark-"), alpha=0.6)
            if bar[1] > (end - start) / 12 and text != "yes":
                axes.text(
                    sum(bar) - bar[1] / 2, line, text, fontsize=FINE, va="center", ha="center"
                )
    axes.set_yticks(range(len(found)), [title for title, _ in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    draw_clock(axes)
    axes.set_xlim(start, end)


def draw_number(axes: Any, panel: Panel, found: list[tuple[str, dict[str, Any]]]) -> None:
    axes.axis("off")
    for line, (title, each) in enumerate(found[:3]):
        value = shown(float(each["value"][1]), panel.unit)
        axes.text(0, 0.7 - 0.45 * line, value, fontsize=17, va="center", color="green")
        axes.text(0, 0.25 - 0.45 * line, title, fontsize=FINE, va="center", color="gray")


def draw_table(axes: Any, found: list[tuple[str, dict[str, Any]]]) -> None:
    """Only the labels of the first query's series; Grafana puts the other queries beside them."""
    axes.axis("off")
    labels = list(dict.fromkeys(label for _, series in found for label in series["metric"]))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for _, series in found:
        key = (series["metric"].get("namespace", ""), series["metric"].get("job_name", ""))
        if "gpu_id" in labels:
            key = (*key[:1], key[1] + series["metric"].get("gpu_id", ""))
        rows.setdefault(key, {}).update(series["metric"])
    cells = [[row.get(label, "") for label in labels] for row in rows.values()]
    box = (0, 1 - 0.3 * (len(cells) + 1), 1, 0.3 * (len(cells) + 1))
    drawn = axes.table(cells, colLabels=labels, bbox=box, cellLoc="left", colLoc="left")
    drawn.auto_set_font_size(value=False)
    drawn.set_fontsize(FINE)


def shown(value: float, unit: str) -> str:
    """A value as Grafana would write it, nearly."""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "bytes":
        power = 0
        while abs(value) > KIB and power < len(BYTES) - 1:
            value, power = value / KIB, power + 1
        return f"{value:.3g}{BYTES[power]}B"
    if unit == "dateTimeAsIso":
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(value / 1000))
    return f"{value:.4g}{UNIT_WORDS.get(unit, ' ' + unit)}"


if __name__ == "__main__":
    address, target, *rest = sys.argv[1:]
    main(address, Path(target), *(float(rest[0]),) if rest else (), *rest[1:])
