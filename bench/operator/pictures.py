"""Bars of the figures that have a floor; needs matplotlib, as hack/pictures.py does."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from bench.operator.report import ROWS, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHOWN = ("create → Pod p50, s", "last pod, s", "all done, s", "everything: CPU per job, ms")


def possible() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def draw(found: dict[str, Any], folder: Path) -> Iterator[Path]:
    """One picture: a panel for each figure, a group of bars for each round."""
    from matplotlib import use  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    use("agg")
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
            axes.bar(spots, [read(each[subject]) for _, each in rounds], width, label=subject)
        axes.set_xticks(range(len(rounds)), [name for name, _ in rounds], fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(fontsize=9, frameon=False)
    for kind in ("svg", "png"):
        file = folder / f"operator.{kind}"
        figure.savefig(file, dpi=110)
        yield file
