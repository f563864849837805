"""Charts as SVG, from values.

    line_chart([Line([(0, 2.3), (10, 1.1)])], Axis("step", 0, 10), Axis("loss", 0, 2.5), "loss by step")

Colours are the page's own (see style.css), so charts follow its light and dark forms. Points carry their values as
tooltips; `label` is what a screen reader says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dilated.evaluate.report.markup import text

Point = tuple[float, float]
WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 60, 18, 22, 44


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`; `title` has the unit. `percent` writes 0.5 as 50%."""

    title: str
    low: float
    high: float
    percent: bool = False
    places: tuple[float, ...] = ()
    """Where the marks are; found if not given."""
    names: tuple[str, ...] = ()
    """What the marks are called, where it is not their number."""

    def name(self, value: float) -> str:
        """How a value is written, such as at a mark."""
        return self.names[self.places.index(value)] if self.names else short(value, self.percent)

    @property
    def marks(self) -> list[float]:
        return list(self.places) or ticks(self.low, self.high)

    def share(self, value: float) -> float:
        """Where a value lies, 0 to 1; the values of an axis without length lie in its middle."""
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5


@dataclass(frozen=True)
class Line:
    """Points that are joined; `kind` is a class of style.css. `dots` gives each point a mark with a tooltip."""

    points: Sequence[Point]
    kind: str = "main"
    dots: bool = False


@dataclass(frozen=True)
class Bar:
    """A bar from `low` to `high` along x."""

    low: float
    high: float
    value: float
    title: str


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two values, `most` at most where there is a distance between them.

    Example:
        >>> ticks(0, 1377), ticks(0, 0.004), ticks(3, 3)
        ([0.0, 500.0, 1000.0], [0.0, 0.001, 0.002, 0.003, 0.004], [3])
    """
    if not high > low:
        return [low]
    least = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= least * 0.999999)
    first = math.ceil(low / step - 1e-6)
    last = math.floor(high / step + 1e-6)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def short(value: float, percent: bool = False) -> str:
    """A mark of an axis.

    Example:
        >>> short(1500), short(0.004), short(0.00025), short(0.25, percent=True), short(2_000_000)
        ('1,500', '0.004', '2.5e-4', '25%', '2e6')
    """
    if percent:
        return f"{value * 100:.6g}%"
    if value == int(value) and abs(value) < 1e6:
        return f"{value:,.0f}"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def line_chart(
    lines: Sequence[Line], x: Axis, y: Axis, label: str, at: Sequence[tuple[float, str]] = (), bars: Sequence[Bar] = ()
) -> str:
    """Lines and bars over two axes.

    Args:
        at: places on x with a name each, marked by upright lines.
        bars: drawn below the lines, from y's low end.

    Example:
        >>> drawn = line_chart([Line([(0, 1), (4, 2)])], Axis("step", 0, 4), Axis("loss", 0, 2), "a <loss>")
        >>> 'points="60.0,109.0 342.0,22.0"' in drawn, "a &lt;loss&gt;" in drawn
        (True, True)
    """
    plot = [*_grid(x, y), *(_bar(bar, x, y) for bar in bars)]
    for place, name in at:
        across = _x(place, x)
        plot.append(f'<line class="mark" x1="{across:.1f}" x2="{across:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        plot.append(f'<text class="small" x="{across + 3:.1f}" y="{TOP - 6}">{text(name)}</text>')
    for line in lines:
        joined = " ".join(f"{_x(a, x):.1f},{_y(b, y):.1f}" for a, b in line.points)
        plot.append(f'<polyline class="{line.kind}" points="{joined}"/>')
        if line.dots:
            plot += [
                f'<circle class="{line.kind}" cx="{_x(a, x):.1f}" cy="{_y(b, y):.1f}" r="3.2"><title>'
                f"{text(x.title)} {text(x.name(a))}: {b:.4g}</title></circle>"
                for a, b in line.points
            ]
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">'
        f"<title>{text(label)}</title>{''.join(plot)}</svg>"
    )


def spark(points: Sequence[Point], x: Axis, label: str) -> str:
    """A small line of values of 0 to 1, without marks."""
    wide, high = 120, 40
    places = [(3 + x.share(a) * (wide - 6), high - 3 - b * (high - 6)) for a, b in points]
    joined = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    last = f'<circle class="main" cx="{places[-1][0]:.1f}" cy="{places[-1][1]:.1f}" r="2.6"/>' if places else ""
    return (
        f'<svg class="spark" viewBox="0 0 {wide} {high}" role="img" aria-label="{text(label)}">'
        f'<title>{text(label)}</title><rect width="{wide}" height="{high}"/>'
        f'<polyline class="main" points="{joined}"/>{last}</svg>'
    )


def _grid(x: Axis, y: Axis) -> list[str]:
    """Marks, their names, and the axes' titles."""
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts = [
        f'<text class="title" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}">{text(x.title)}</text>',
        f'<text class="title" transform="translate(11 {middle:.0f}) rotate(-90)">{text(y.title)}</text>',
    ]
    for mark in y.marks:
        down = _y(mark, y)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down:.1f}" y2="{down:.1f}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{down + 4:.1f}">{text(y.name(mark))}</text>')
    for mark in x.marks:
        parts.append(
            f'<text class="middle" x="{_x(mark, x):.1f}" y="{HEIGHT - BOTTOM + 17}">{text(x.name(mark))}</text>'
        )
    return parts


def _bar(bar: Bar, x: Axis, y: Axis) -> str:
    left, right = _x(bar.low, x), _x(bar.high, x)
    top, floor = _y(bar.value, y), _y(y.low, y)
    return (
        f'<rect class="column" x="{left + 0.8:.1f}" y="{top:.1f}" width="{max(right - left - 1.6, 0.5):.1f}" '
        f'height="{max(floor - top, 0):.1f}"><title>{text(bar.title)}</title></rect>'
    )


def _x(value: float, axis: Axis) -> float:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(value: float, axis: Axis) -> float:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)
