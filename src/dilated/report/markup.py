"""Text and numbers as HTML.

>>> escape_text('<b>&"'), format_number(0.7261458), format_number(None)
('&lt;b&gt;&amp;&quot;', '<data value="0.7261458">0.726</data>', '<span title="nothing to measure">-</span>')

All that comes from the data, a run or the user goes through `escape_text`. A number is shown rounded; the element
carries all of its digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from dilated.evaluation.bootstrap import Interval
from dilated.files import printable, printable_lines
from dilated.palettes import Color
from dilated.report.glossary import TERMS


def escape_text(value: object) -> str:
    """Escape text for use between tags and in attributes."""
    return escape(printable(str(value)))


def escape_lines(value: str) -> str:
    """As `escape_text`, for what is shown with its line breaks."""
    return escape(printable_lines(value))


def format_number(value: float | None, digits: int = 3) -> str:
    """Render a number rounded; a dash where there is nothing to measure."""
    if value is None or value != value:
        return '<span title="nothing to measure">-</span>'
    return f'<data value="{float(value)!r}">{value:.{digits}f}</data>'


def format_count(value: int) -> str:
    """Render a whole number.

    Example:
        >>> format_count(12345)
        '<data value="12345">12,345</data>'
    """
    return f'<data value="{value}">{value:,}</data>'


def format_percent(value: float | None) -> str:
    """Render a fraction in per cent; small ones with more digits.

    Example:
        >>> format_percent(0.9612), format_percent(0.00237)
        ('<data value="0.9612">96.1%</data>', '<data value="0.00237">0.24%</data>')
    """
    if value is None or value != value:
        return format_number(None)
    return f'<data value="{float(value)!r}">{value:.{1 if value >= 0.1 else 2}%}</data>'


def format_bounds(interval: Interval | None, digits: int = 3) -> str:
    """Render the ends of an interval; empty where there is none."""
    if interval is None or interval.low != interval.low:
        return ""
    return (
        f'<span class="bounds">{format_number(interval.low, digits)} to {format_number(interval.high, digits)}</span>'
    )


def render_term(name: str, label: str = "") -> str:
    """Render a word with its definition as a tooltip; the page's list of terms has it too.

    Example:
        >>> render_term("step")
        '<abbr title="One update of the weights, from one batch of samples.">step</abbr>'
    """
    return f'<abbr title="{escape_text(TERMS[name])}">{escape_text(label or name)}</abbr>'


def render_swatch(color: Color) -> str:
    """Render a small square of a class's color."""
    red, green, blue = color
    return f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'


def render_class_name(name: str, color: Color) -> str:
    """Render a class's name beside its color; long names are broken, short ones are not."""
    return f'<span class="of">{render_swatch(color)}<span>{escape_text(name)}</span></span>'


def render_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], css_class: str = "", foot: Sequence[str] = ()
) -> str:
    """Render a table of HTML cells in a box that scrolls where the page is narrow; a row's first cell names it.

    Example:
        >>> render_table(["class", "IoU"], [["sky", "0.9"]], "figures").partition("<thead>")[0]
        '<div class="wide" tabindex="0"><table class="figures">'
    """
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    body = "".join(_render_row(row) for row in rows)
    last = f"<tfoot>{_render_row(foot)}</tfoot>" if foot else ""
    return (
        f'<div class="wide" tabindex="0"><table class="{css_class}"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{body}</tbody>{last}</table></div>"
    )


def render_note(body: str) -> str:
    """Render a small remark below what it is about; `body` is HTML."""
    return f'<p class="faint">{body}</p>'


def render_card(body: str, title: str = "") -> str:
    """Render a box; body and title are HTML."""
    head = f"<h3>{title}</h3>" if title else ""
    return f'<div class="card">{head}{body}</div>'


def _render_row(cells: Sequence[str]) -> str:
    first, *rest = cells
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
