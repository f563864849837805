"""Charts and where their points lie, in the units of an SVG; macros.html draws them.

    Chart("loss by step", Axis("step", 0, 10), Axis("loss", 0, 2.5), lines=[Line([(0, 2.3), (10, 1.1)])])

Colors are the page's own (see style.css), so charts follow its light and dark forms. Points carry their values as
tooltips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dilated.training.log import Point


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`; `title` has the unit. `percent` writes 0.5 as 50%."""

    title: str
    low: float
    high: float
    percent: bool = False
    tick_values: tuple[float, ...] = ()
    """Where the marks are; round numbers if not given."""
    tick_labels: tuple[str, ...] = ()
    """What the marks are called, where it is not their number."""
    whole_numbers: bool = False
    """Marks at whole numbers only."""

    def tick_label(self, value: float) -> str:
        """Write a value, such as at a mark."""
        if self.tick_labels:
            return self.tick_labels[self.tick_values.index(value)]
        return _format_tick(value, self.percent)

    @property
    def tick_positions(self) -> list[float]:
        ticks = list(self.tick_values) or _compute_ticks(self.low, self.high)
        return [tick for tick in ticks if tick == int(tick)] if self.whole_numbers else ticks

    def to_fraction(self, value: float) -> float:
        """Where a value lies, 0 to 1; the values of an axis without length lie in its middle."""
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5


@dataclass(frozen=True)
class Line:
    """Points that are joined; `css_class` is a class of style.css. `markers` gives each point a mark with a tooltip."""

    points: Sequence[Point]
    css_class: str = "main"
    markers: bool = False


@dataclass(frozen=True)
class Bar:
    """A bar from `low` to `high` along x."""

    low: float
    high: float
    value: float
    title: str


@dataclass(frozen=True)
class Chart:
    """Lines and bars over two axes.

    Example:
        >>> chart = Chart("loss by step", Axis("step", 0, 4), Axis("loss", 0, 2), lines=[Line([(0, 1), (4, 2)])])
        >>> chart.polyline(chart.lines[0])
        '72.0,109.0 342.0,22.0'
    """

    WIDTH: ClassVar[int] = 360
    HEIGHT: ClassVar[int] = 240
    LEFT: ClassVar[int] = 72
    RIGHT: ClassVar[int] = 342
    TOP: ClassVar[int] = 22
    BOTTOM: ClassVar[int] = 196

    label: str
    """What a screen reader says."""
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    """Drawn below the lines, from y's low end."""
    vertical_lines: Sequence[tuple[float, str]] = ()
    """Positions on x with a name each."""

    def to_x(self, value: float) -> float:
        return round(self.LEFT + self.x.to_fraction(value) * (self.RIGHT - self.LEFT), 1)

    def to_y(self, value: float) -> float:
        return round(self.BOTTOM - self.y.to_fraction(value) * (self.BOTTOM - self.TOP), 1)

    def polyline(self, line: Line) -> str:
        return " ".join(f"{self.to_x(x)},{self.to_y(y)}" for x, y in line.points)


@dataclass(frozen=True)
class Sparkline:
    """A small line of values of 0 to 1 over an axis, without marks."""

    WIDTH: ClassVar[int] = 120
    HEIGHT: ClassVar[int] = 40

    label: str
    x: Axis
    points: Sequence[Point]

    @property
    def positions(self) -> list[Point]:
        wide, high, margin = self.WIDTH - 6, self.HEIGHT - 6, 3
        return [
            (round(margin + self.x.to_fraction(x) * wide, 1), round(margin + (1 - y) * high, 1)) for x, y in self.points
        ]

    @property
    def polyline(self) -> str:
        return " ".join(f"{x},{y}" for x, y in self.positions)


def _compute_ticks(low: float, high: float, max_ticks: int = 6) -> list[float]:
    """Choose round numbers between two values, `max_ticks` at most where there is a distance between them.

    Example:
        >>> _compute_ticks(0, 1377), _compute_ticks(0, 0.004), _compute_ticks(3, 3)
        ([0.0, 500.0, 1000.0], [0.0, 0.001, 0.002, 0.003, 0.004], [3])
    """
    if not high - low > 1e-300:  # below it, the distance of two marks is not a normal float
        return [low]
    least = (high - low) / (max_ticks - 1)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= least * 0.999999)
    first = math.ceil(low / step - 1e-6)
    last = math.floor(high / step + 1e-6)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def _format_tick(value: float, percent: bool = False) -> str:
    """Write the mark of an axis.

    Example:
        >>> _format_tick(1500), _format_tick(0.004), _format_tick(0.00025), _format_tick(2_000_000)
        ('1,500', '0.004', '2.5e-4', '2e6')
        >>> _format_tick(0.25, percent=True)
        '25%'
    """
    if percent:
        return f"{value * 100:.6g}%"
    if value == int(value) and abs(value) < 1e6:
        return f"{value:,.0f}"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}"
