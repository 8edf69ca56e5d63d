"""Which curves a report shows, and from which figures."""

import math
from collections.abc import Iterator, Sequence

from finetuning.report.charts import Series, Upright, chart, is_log
from finetuning.report.files import RunFiles
from finetuning.report.markup import Node, el

_SIZE, _BROAD = (500, 250), (1040, 300)
_GIGA, _MEGA = 1e9, 1e6


def figures(run: RunFiles) -> Iterator[Node]:
    loss = Upright("nats per token", from_zero=False, may_be_log=True)
    yield _figure("Loss", loss, _losses(run), whole=True, note=_lost_steps(run))
    yield _figure("Learning rate", Upright("per step"), [_rates(run)])
    norm = Upright("before clipping", may_be_log=True)
    yield _figure("Gradient norm", norm, [_norms(run)])
    yield _figure("Throughput", Upright("tokens per second"), [_speeds(run)])
    memory, unit = _memory(run)
    yield _figure("Memory in use", Upright(unit), memory)


def _figure(
    title: str, axis: Upright, series: Sequence[Series], *, whole: bool = False, note: str = ""
) -> Node:
    picture = chart(title, series, axis, _SIZE)
    style = "whole" if whole else None
    if picture is None:
        absent = el("p", "not recorded", class_="soft")
        return el("figure", el("figcaption", title), absent, class_=style)
    drawn = [each for each in series if each.finite]
    scale = "logarithmic scale" if is_log(drawn, axis) else ""
    caption = el("figcaption", title, _legend(drawn, axis, [scale, note]))
    if not whole:
        return el("figure", caption, picture)
    broad = chart(title, series, axis, _BROAD)
    if broad is not None:
        broad.set("class", "broad")
    picture.set("class", "narrow")
    return el("figure", caption, broad, picture, class_=style)


def _legend(drawn: Sequence[Series], axis: Upright, notes: Sequence[str]) -> Node:
    keys = [
        el("span", el("span", class_=f"key {each.style}"), each.name)
        for each in drawn
        if len(drawn) > 1
    ]
    said = [el("span", note) for note in notes if note]
    return el("span", el("span", axis.unit, class_="unit-narrow"), *said, *keys, class_="legend")


def _losses(run: RunFiles) -> list[Series]:
    train = [(float(line.step), line.loss) for line in run.history]
    held = [(float(x.step), x.eval_loss) for x in run.history if x.eval_loss is not None]
    return [Series("training", train, "a"), Series("held-out", held, "b", dots=True)]


def _lost_steps(run: RunFiles) -> str:
    lost = sum(not math.isfinite(line.loss) for line in run.history)
    return f"{lost} steps without a finite loss" if lost else ""


def _rates(run: RunFiles) -> Series:
    points = [(float(line.step), line.learning_rate) for line in run.history]
    return Series("learning rate", points, "c")


def _norms(run: RunFiles) -> Series:
    points = [(float(x.step), x.grad_norm) for x in run.history if x.grad_norm is not None]
    return Series("gradient norm", points, "c")


def _speeds(run: RunFiles) -> Series:
    points = [(float(line.step), line.tokens_per_second) for line in run.performance]
    return Series("tokens per second", points, "a")


def _memory(run: RunFiles) -> tuple[list[Series], str]:
    """Of the GPU where there is one, and of the process."""
    gpu = [(x.step, x.gpu_memory_bytes) for x in run.performance if x.gpu_memory_bytes is not None]
    host = [(x.step, x.host_memory_bytes) for x in run.performance if x.host_memory_bytes]
    largest = max([size for _, size in (*gpu, *host)], default=0)
    scale, unit = (_GIGA, "GB") if largest >= _GIGA else (_MEGA, "MB")
    found = [("GPU", gpu, "a"), ("process", host, "b")]
    return [
        Series(name, [(float(step), size / scale) for step, size in points], style)
        for name, points, style in found
    ], unit
