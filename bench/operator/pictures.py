"""Bars of the figures that have a floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from bench.operator.report import FLOOR, ROWS, pairs
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

SHOWN = ("create → Pod p50, s", "last pod, s", "all done, s", "everything: CPU per job, ms")
SAME = {"svg.hashsalt": "bench", "svg.fonttype": "none"}
"""The same figures make the same file; texts stay texts."""


def draw(found: dict[str, Any], file: Path) -> None:
    """As SVG or PNG by the file's name."""
    dated = {"Date": None} if file.suffix == ".svg" else {}
    with mpl.rc_context(SAME):
        bars(found).savefig(file, dpi=110, metadata=dated)


def bars(found: dict[str, Any]) -> Figure:
    """A panel for each figure, a group of bars for each round.

    They are times the floor of their round, where the run has one.
    """
    subjects = [each["subject"] for each in found["subjects"]]
    figure = Figure(figsize=(10, 6), layout="constrained")
    for place, (title, read) in enumerate((r for r in ROWS if r[0] in SHOWN), start=1):
        axes = figure.add_subplot(2, (len(SHOWN) + 1) // 2, place)
        rounds = [
            (name, {subject: read(each[subject]) or 0.0 for subject in subjects})
            for name, each in pairs(found)
        ]
        _bars(axes, rounds, subjects)
        axes.set_title(title, loc="left", fontsize=11)
    if FLOOR in subjects:
        figure.suptitle("Times the floor", x=0.01, ha="left", fontsize=12, weight="bold")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower left",
                  ncols=len(subjects), fontsize=9, frameon=False)  # fmt: skip
    return figure


def _bars(axes: Axes, rounds: list[tuple[str, dict[str, float]]], subjects: list[str]) -> None:
    width = 0.8 / len(subjects)
    for number, subject in enumerate(subjects):
        spots = [spot + (number - (len(subjects) - 1) / 2) * width for spot in range(len(rounds))]
        times = [values[subject] / (values.get(FLOOR) or 1.0) for _, values in rounds]
        drawn = axes.bar(spots, times, width, label=subject)
        shown = "" if subject == FLOOR else "{:.2f}"
        axes.bar_label(drawn, [shown.format(value) for value in times], fontsize=9)
    names = [
        f"{name}\nfloor {values[FLOOR]:.3g}" if values.get(FLOOR) else name
        for name, values in rounds
    ]
    axes.set_xticks(range(len(rounds)), names, fontsize=9)
    # Each bar says how much it is.
    axes.yaxis.set_visible(False)
    axes.margins(y=0.12)
    axes.spines[["top", "right", "left"]].set_visible(False)
