"""The panels that hack/pictures.py draws for the documentation."""

import itertools

from hack import drawing
from hack.drawing import Answer
from matplotlib import pyplot as plt

from finetuning.observability.panels import Look, Panel, Query

STATES = {1: ("Pass", "green"), -1: ("Fail", "red")}
PANEL = Panel("Checks", "none", "", (Query("x"),), Look.STATES, 24, STATES)


def series(name: str, values: list[int]) -> Answer:
    return Answer(
        name, 0, {"metric": {}, "values": list(zip(range(0, 600, 60), values, strict=False))}
    )


def test_twelve_states_have_names_that_touch_nothing() -> None:
    found = [series(f"ml-team/job-{n} checkpoint_integrity", [1] * 5 + [-1] * 5) for n in range(12)]
    figure = plt.figure(figsize=(20, 6))
    axes = figure.add_axes((0.01, 0.4, 0.9, 0.2))
    drawing.states(axes, PANEL, found, 0, 600)
    figure.canvas.draw()
    names = [label.get_window_extent() for label in axes.get_yticklabels()]
    words = [text.get_window_extent() for text in axes.texts]
    assert (len(names), len(words)) == (12, 24)
    pairs = itertools.combinations([*names, *words], 2)
    assert [None for one, other in pairs if one.overlaps(other)] == []
    assert min(name.x0 for name in names) >= 0.01 * figure.bbox.width
    assert max(name.x1 for name in names) <= axes.get_window_extent().x0
    plt.close(figure)
