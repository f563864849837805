"""Charts as SVG, from values.

    render_line_chart([Line([(0, 2.3), (10, 1.1)])], Axis("step", 0, 10), Axis("loss", 0, 2.5), "loss by step")

Colors are the page's own (see style.css), so charts follow its light and dark forms. Points carry their values as
tooltips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dilated.report.markup import escape_text

Point = tuple[float, float]
_WIDTH, _HEIGHT = 360, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 18, 22, 44


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`; `title` has the unit. `percent` writes 0.5 as 50%."""

    title: str
    low: float
    high: float
    percent: bool = False
    tick_values: tuple[float, ...] = ()
    """Where the marks are; found if not given."""
    tick_labels: tuple[str, ...] = ()
    """What the marks are called, where it is not their number."""
    whole_numbers: bool = False
    """Marks at whole numbers only."""

    def tick_label(self, value: float) -> str:
        """Write a value, such as at a mark."""
        return self.tick_labels[self.tick_values.index(value)] if self.tick_labels else format_tick(value, self.percent)

    @property
    def tick_positions(self) -> list[float]:
        ticks = list(self.tick_values) or compute_ticks(self.low, self.high)
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


def compute_ticks(low: float, high: float, max_ticks: int = 6) -> list[float]:
    """Choose round numbers between two values, `max_ticks` at most where there is a distance between them.

    Example:
        >>> compute_ticks(0, 1377), compute_ticks(0, 0.004), compute_ticks(3, 3)
        ([0.0, 500.0, 1000.0], [0.0, 0.001, 0.002, 0.003, 0.004], [3])
    """
    if not high > low:
        return [low]
    least = (high - low) / (max_ticks - 1)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= least * 0.999999)
    first = math.ceil(low / step - 1e-6)
    last = math.floor(high / step + 1e-6)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def format_tick(value: float, percent: bool = False) -> str:
    """Write the mark of an axis.

    Example:
        >>> format_tick(1500), format_tick(0.004), format_tick(0.00025), format_tick(2_000_000)
        ('1,500', '0.004', '2.5e-4', '2e6')
        >>> format_tick(0.25, percent=True)
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


def render_line_chart(
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    label: str,
    vertical_lines: Sequence[tuple[float, str]] = (),
    bars: Sequence[Bar] = (),
) -> str:
    """Draw lines and bars over two axes.

    Args:
        label: what a screen reader says.
        vertical_lines: positions on x with a name each.
        bars: drawn below the lines, from y's low end.

    Example:
        >>> drawn = render_line_chart([Line([(0, 1), (4, 2)])], Axis("step", 0, 4), Axis("loss", 0, 2), "a <loss>")
        >>> 'points="72.0,109.0 342.0,22.0"' in drawn, "a &lt;loss&gt;" in drawn
        (True, True)
    """
    plot = [*_render_grid(x, y), *(_render_bar(bar, x, y) for bar in bars)]
    for place, name in vertical_lines:
        line_x = _to_svg_x(place, x)
        plot.append(f'<line class="mark" x1="{line_x:.1f}" x2="{line_x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        plot.append(f'<text class="small" x="{line_x + 3:.1f}" y="{_TOP - 6}">{escape_text(name)}</text>')
    for line in lines:
        polyline_points = " ".join(f"{_to_svg_x(a, x):.1f},{_to_svg_y(b, y):.1f}" for a, b in line.points)
        plot.append(f'<polyline class="{line.css_class}" points="{polyline_points}"/>')
        if line.markers or len(line.points) == 1:  # a single point has no line to be seen by
            plot += [
                f'<circle class="{line.css_class}" cx="{_to_svg_x(a, x):.1f}" cy="{_to_svg_y(b, y):.1f}" r="3.2">'
                f"<title>{escape_text(x.title)} {escape_text(x.tick_label(a))}: {b:.4g}</title></circle>"
                for a, b in line.points
            ]
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape_text(label)}">'
        f"<title>{escape_text(label)}</title>{''.join(plot)}</svg>"
    )


def render_sparkline(points: Sequence[Point], x: Axis, label: str) -> str:
    """Draw a small line of values of 0 to 1, without marks."""
    wide, high = 120, 40
    places = [(3 + x.to_fraction(a) * (wide - 6), high - 3 - b * (high - 6)) for a, b in points]
    polyline_points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    last = f'<circle class="main" cx="{places[-1][0]:.1f}" cy="{places[-1][1]:.1f}" r="2.6"/>' if places else ""
    return (
        f'<svg class="spark" viewBox="0 0 {wide} {high}" role="img" aria-label="{escape_text(label)}">'
        f'<title>{escape_text(label)}</title><rect width="{wide}" height="{high}"/>'
        f'<polyline class="main" points="{polyline_points}"/>{last}</svg>'
    )


def _render_grid(x: Axis, y: Axis) -> list[str]:
    """Draw marks, their labels, and the axes' titles."""
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts = [
        f'<text class="title" x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 6}">{escape_text(x.title)}</text>',
        f'<text class="title" transform="translate(11 {middle:.0f}) rotate(-90)">{escape_text(y.title)}</text>',
    ]
    for mark in y.tick_positions:
        line_y = _to_svg_y(mark, y)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{line_y:.1f}" y2="{line_y:.1f}"/>')
        parts.append(f'<text class="end" x="{_LEFT - 6}" y="{line_y + 4:.1f}">{escape_text(y.tick_label(mark))}</text>')
    for mark in x.tick_positions:
        tick_label = escape_text(x.tick_label(mark))
        parts.append(
            f'<text class="middle" x="{_to_svg_x(mark, x):.1f}" y="{_HEIGHT - _BOTTOM + 17}">{tick_label}</text>'
        )
    return parts


def _render_bar(bar: Bar, x: Axis, y: Axis) -> str:
    left, right = _to_svg_x(bar.low, x), _to_svg_x(bar.high, x)
    top, bottom = _to_svg_y(bar.value, y), _to_svg_y(y.low, y)
    return (
        f'<rect class="column" x="{left + 0.8:.1f}" y="{top:.1f}" width="{max(right - left - 1.6, 0.5):.1f}" '
        f'height="{max(bottom - top, 0):.1f}"><title>{escape_text(bar.title)}</title></rect>'
    )


def _to_svg_x(value: float, axis: Axis) -> float:
    return _LEFT + axis.to_fraction(value) * (_WIDTH - _LEFT - _RIGHT)


def _to_svg_y(value: float, axis: Axis) -> float:
    return _HEIGHT - _BOTTOM - axis.to_fraction(value) * (_HEIGHT - _TOP - _BOTTOM)
