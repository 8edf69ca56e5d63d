"""Bars of the figures that have a floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from bench.operator.report import ROWS, pairs
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

SHOWN = ("create → Pod p50, s", "last pod, s", "all done, s", "everything: CPU per job, ms")


SAME = {"svg.hashsalt": "bench", "svg.fonttype": "none"}
"""The same figures make the same file; texts stay texts."""


def draw(found: dict[str, Any], file: Path) -> None:
    """A panel for each figure, a group of bars for each round, as SVG or PNG by the file's name."""
    rounds = list(pairs(found))
    subjects = [each["subject"] for each in found["subjects"]]
    figure = Figure(figsize=(4 * len(SHOWN), 3.6), layout="constrained")
    for place, (title, read) in enumerate((r for r in ROWS if r[0] in SHOWN), start=1):
        axes = figure.add_subplot(1, len(SHOWN), place)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_yscale("log")
        width = 0.8 / len(subjects)
        for number, subject in enumerate(subjects):
            spots = [
                spot + (number - (len(subjects) - 1) / 2) * width for spot in range(len(rounds))
            ]
            values = [read(each[subject]) or 0.0 for _, each in rounds]
            bars = axes.bar(spots, values, width, label=subject)
            axes.bar_label(bars, [f"{value:.3g}" for value in values], fontsize=8)
        axes.set_xticks(range(len(rounds)), [name for name, _ in rounds], fontsize=9)
        # Each bar says how much it is: where a logarithm begins says nothing.
        axes.yaxis.set_visible(False)
        axes.margins(y=0.15)
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower left",
                  ncols=len(subjects), fontsize=9, frameon=False)  # fmt: skip
    dated = {"Date": None} if file.suffix == ".svg" else {}
    with mpl.rc_context(SAME):
        figure.savefig(file, dpi=110, metadata=dated)
