"""Line charts as SVG, drawn here: a page that opens anywhere has no library to load."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from finetuning.report.markup import Node, el

BUCKETS = 240
"""Points of a drawn line; more are drawn as their mean, within the band of their extremes."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 24, 14, 42
_TICKS = 5
_APART = 100.0
_MOST_POWERS = 8
_SMALL, _HUGE = 1e-3, 1e100

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """A figure over the optimizer steps, in the order of the steps."""

    name: str
    points: Sequence[Point]
    style: str
    """CSS class that gives the colour."""
    dots: bool = False

    @property
    def finite(self) -> list[Point]:
        return [(x, y) for x, y in self.points if math.isfinite(x) and abs(y) < _HUGE]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Neighbouring points as one."""

    x: float
    low: float
    mean: float
    high: float


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to places in the picture, evenly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 2)


@dataclass(frozen=True, slots=True)
class Upright:
    """What the vertical axis does besides fitting its values."""

    unit: str
    from_zero: bool = True
    """False: a curve far from zero may fill the picture."""
    may_be_log: bool = False
    """True: logarithmic where the values lie orders of magnitude apart."""


def buckets(points: Sequence[Point], count: int = BUCKETS) -> list[Bucket]:
    """At most `count` groups of neighbours; every point is in one."""
    parts = min(count, len(points))
    edges = [len(points) * i // parts for i in range(parts + 1)] if parts else [0]
    return [_bucket(points[a:b]) for a, b in pairwise(edges)]


def _bucket(points: Sequence[Point]) -> Bucket:
    values = [y for _, y in points]
    mean_x = sum(x for x, _ in points) / len(points)
    return Bucket(mean_x, min(values), math.fsum(values) / len(values), max(values))


def ticks(low: float, high: float, count: int = _TICKS) -> list[float]:
    """Round figures that cover low to high: steps of 1, 2 or 5 times a power of ten."""
    largest = max(abs(low), abs(high))
    span = high - low if high - low > largest * 1e-9 else largest
    raw = (span if span > 1 / _HUGE else 1.0) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def figure(value: float) -> str:
    """A tick or a value in the fewest characters that tell it apart."""
    if value and (abs(value) < _SMALL or abs(value) >= 1e7):  # noqa: PLR2004 - too many digits
        return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"  # noqa: PLR2004 - five digits


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that cover low to high: with twos and fives between few, thinned when many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    within = (1, 2, 5) if last - first <= 2 else (1,)  # noqa: PLR2004 - a matter of looks
    stride = math.ceil((last - first) / _MOST_POWERS)
    found = [m * 10.0**power for power in range(first, last + stride, stride) for m in within]
    start = max(i for i, mark in enumerate(found) if mark <= low * (1 + 1e-9))
    end = min(i for i, mark in enumerate(found) if mark >= high * (1 - 1e-9))
    return found[start : end + 1]


def is_log(series: Sequence[Series], axis: Upright) -> bool:
    values = [y for each in series for _, y in each.finite]
    far = bool(values) and min(values) > 1 / _HUGE and _APART * min(values) < max(values)
    return axis.may_be_log and far


def chart(
    title: str, series: Sequence[Series], axis: Upright, size: tuple[int, int]
) -> Node | None:
    """A chart with axes and units; None when there is nothing to draw."""
    drawn = [each for each in series if each.finite]
    if not drawn:
        return None
    width, height = size
    xs = [x for each in drawn for x, _ in each.finite]
    marks = _marks(drawn, axis)
    across = Scale(0.0, max(*xs, 1.0), _LEFT, width - _RIGHT)
    up = Scale(marks[0], marks[-1], height - _BOTTOM, _TOP, is_log(drawn, axis))
    name = f"{title}, {axis.unit}"
    picture = el("svg", viewBox=f"0 0 {width} {height}", role="img", aria_label=name)
    picture.extend(_axes(marks, across, up, axis.unit, size))
    for each in drawn:
        picture.extend(_line(each, across, up))
    picture.extend(_hover(drawn, across, up))
    return picture


def _marks(drawn: Sequence[Series], axis: Upright) -> list[float]:
    values = [y for each in drawn for _, y in each.finite]
    low, high = min(values), max(values)
    if is_log(drawn, axis):
        return log_ticks(low, high)
    flat = high - low < 0.002 * high
    near = axis.from_zero or flat or low <= 0.6 * high
    return ticks(0.0 if low >= 0 and near else low, high)


def _axes(
    marks: Sequence[float], across: Scale, up: Scale, unit: str, size: tuple[int, int]
) -> Iterator[Node]:
    width, height = size
    for mark in marks:
        y = up.at(mark)
        yield el("line", x1=_LEFT, x2=width - _RIGHT, y1=y, y2=y, class_="grid")
        yield el("text", figure(mark), x=_LEFT - 6, y=y + 4, class_="tick end")
    wide = min(8, (width - _LEFT) // 85)
    for mark in ticks(across.low, across.high, wide):
        if mark <= across.high:
            x = across.at(mark)
            yield el("line", x1=x, x2=x, y1=up.start, y2=up.start + 4, class_="axis")
            yield el("text", figure(mark), x=x, y=up.start + 20, class_="tick middle")
    yield el("line", x1=_LEFT, x2=width - _RIGHT, y1=up.start, y2=up.start, class_="axis")
    yield el("text", "optimizer step", x=width - _RIGHT, y=height - 5, class_="label end")
    middle = (up.start + up.end) / 2
    turned = f"rotate(-90 12 {middle})"
    yield el("text", unit, x=12, y=middle, transform=turned, class_="unit middle")


def _line(series: Series, across: Scale, up: Scale) -> Iterator[Node]:
    found = buckets(series.finite)
    if any(each.low != each.high for each in found):
        there = [(across.at(b.x), up.at(b.high)) for b in found]
        back = [(across.at(b.x), up.at(b.low)) for b in reversed(found)]
        yield el("polygon", points=_points([*there, *back]), class_=f"band {series.style}")
    means = [(across.at(b.x), up.at(b.mean)) for b in found]
    if len(means) > 1:
        yield el("polyline", points=_points(means), class_=f"line {series.style}")
    if series.dots or len(means) == 1:
        for x, y in means:
            yield el("circle", cx=x, cy=y, r=3, class_=f"dot {series.style}")


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _hover(drawn: Sequence[Series], across: Scale, up: Scale) -> Iterator[Node]:
    """Strips that name the figures under the pointer; browsers do that without a script."""
    for each in drawn:
        found = buckets(each.finite, 60)
        for i, bucket in enumerate(found):
            left = across.at((found[i - 1].x + bucket.x) / 2) if i else across.at(bucket.x) - 4
            right = across.at((bucket.x + found[i + 1].x) / 2) if i + 1 < len(found) else None
            wide = (right if right is not None else across.at(bucket.x) + 4) - left
            if each.dots:
                left, wide = across.at(bucket.x) - 4, 8
            text = f"step {bucket.x:,.0f}: {each.name} {figure(bucket.mean)}"
            yield el(
                "rect",
                el("title", text),
                x=round(left, 2),
                y=up.end,
                width=round(max(1.0, wide), 2),
                height=round(up.start - up.end, 2),
                class_="hover",
            )
