"""Draw the dashboards from what a real Prometheus answers, for the documentation.

Usage: python -m hack.pictures PROMETHEUS-URL FOLDER [--help]

This is not Grafana: the places, titles, units and
queries are the dashboards', the drawing is not.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack import drawing, prometheus
from hack.drawing import Answer
from matplotlib import pyplot as plt

from finetuning.observability import grafana
from finetuning.observability.boards import DASHBOARDS
from finetuning.observability.panels import Dashboard, Look, Panel, Query

LINE = 0.36
"""Inches of one line of Grafana's grid."""


@dataclass(frozen=True)
class Asked:
    """The Prometheus, the times in Unix seconds, and what the variables are set to."""

    url: str
    start: float
    end: float
    chosen: dict[str, str]

    @property
    def seconds(self) -> int:
        return int(self.end - self.start)


def main() -> None:
    """Write one picture per dashboard."""
    given = arguments()
    end = given.until or time.time()
    chosen = {"$job_name": given.job, "$namespace": given.namespace}
    asked = Asked(given.url, end - 60 * given.minutes, end, chosen)
    for board in DASHBOARDS:
        if not given.board or board.uid in given.board:
            picture = given.folder / f"dashboard-{board.uid.removeprefix('finetuning-')}.png"
            draw(board, asked).savefig(picture, dpi=70)
            print(picture)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hack.pictures", description=__doc__)
    parser.add_argument("url", help="of the Prometheus")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--minutes", type=float, default=10, help="the time shown (default: 10)")
    parser.add_argument("--until", type=float, help="its end in Unix seconds (default: now)")
    parser.add_argument("--job", default=".*", help="the job shown, a regular expression")
    parser.add_argument("--namespace", default=".*", help="its namespace, likewise")
    parser.add_argument("--board", action="append", help="uid of a dashboard (default: all)")
    return parser.parse_args()


def draw(board: Dashboard, asked: Asked) -> Any:
    """Every panel at its place of Grafana's grid."""
    written = json.loads(grafana.rendered(board))["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in written)
    height = rows * LINE + 0.6
    figure = plt.figure(figsize=(20, height), layout="none")
    figure.suptitle(board.title, x=0.01, ha="left", fontsize=18, y=1 - 0.1 / height)
    panels = iter(board.panels)
    for place in written:
        spot = place["gridPos"]
        bottom = (rows - spot["y"] - spot["h"]) * LINE / height
        if place["type"] == "row":
            figure.text(0.01, bottom + 0.05 / height, place["title"], fontsize=15, weight="bold")
            continue
        panel = next(panels)
        left = 0.012 if panel.look in (Look.NUMBER, Look.TABLE, Look.STATES) else 0.045
        box = (spot["x"] / grafana.COLUMNS + left, bottom + 0.35 / height)
        size = (spot["w"] / grafana.COLUMNS - left - 0.012, (spot["h"] * LINE - 0.75) / height)
        axes = figure.add_axes((*box, *size))
        axes.set_title(panel.title, fontsize=12, loc="left", color="dimgray")
        fill(axes, panel, asked)
    return figure


def fill(axes: Any, panel: Panel, asked: Asked) -> None:
    """Ask as the panel does, and draw the answer in its manner."""
    found = [answer for at, query in enumerate(panel.queries) for answer in ask(panel, at, asked)]
    if not found:
        drawing.nothing(axes)
    elif panel.look is Look.LINES:
        drawing.lines(axes, panel, found, asked.start, asked.end)
    elif panel.look is Look.STATES:
        drawing.states(axes, panel, found, asked.start, asked.end)
    elif panel.look is Look.NUMBER:
        drawing.numbers(axes, panel, found)
    else:
        drawing.table(axes, panel, found)


def ask(panel: Panel, at: int, asked: Asked) -> list[Answer]:
    """The series of one query of a panel."""
    query = panel.queries[at]
    text = query.expr
    for variable, value in asked.chosen.items():
        text = text.replace(variable, value)
    text = prometheus.filled(text, asked.seconds, "1m")
    if panel.look in (Look.LINES, Look.STATES):
        step = max(1.0, asked.seconds / drawing.POINTS)
        found = prometheus.over_time(asked.url, text, asked.start, asked.end, step)
    else:
        found = prometheus.instant(asked.url, text, asked.end)
    return [Answer(name(query, each["metric"]), at, each) for each in found]


def name(query: Query, labels: dict[str, str]) -> str:
    """The series' name by the query's legend."""
    return re.sub(r"\{\{(\w+)\}\}", lambda place: labels.get(place[1], ""), query.legend)


if __name__ == "__main__":
    main()
