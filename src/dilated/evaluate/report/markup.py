"""Text and numbers as HTML.

>>> text('<b>&"'), number(0.7261458), number(None)
('&lt;b&gt;&amp;&quot;', '<data value="0.7261458">0.726</data>', '<span title="nothing to measure">-</span>')

All that comes from the data, a run or the user goes through `text`. A number is shown rounded; the element carries all
of its digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from dilated.data.finding import visible
from dilated.evaluate.bootstrap import Interval
from dilated.evaluate.report.glossary import TERMS

Color = tuple[int, int, int]


def text(given: object) -> str:
    """What can stand between tags and in attributes."""
    return escape(visible(str(given)))


def number(value: float | None, digits: int = 3) -> str:
    """A figure, rounded to be read; a dash where there is nothing to measure."""
    if value is None or value != value:
        return '<span title="nothing to measure">-</span>'
    return f'<data value="{float(value)!r}">{value:.{digits}f}</data>'


def count(value: int) -> str:
    """A whole number.

    Example:
        >>> count(12345)
        '<data value="12345">12,345</data>'
    """
    return f'<data value="{value}">{value:,}</data>'


def share(value: float | None) -> str:
    """A share in per cent; small ones with more digits.

    Example:
        >>> share(0.9612), share(0.00237)
        ('<data value="0.9612">96.1%</data>', '<data value="0.00237">0.24%</data>')
    """
    if value is None or value != value:
        return number(None)
    return f'<data value="{float(value)!r}">{value:.{1 if value >= 0.1 else 2}%}</data>'


def bounds(interval: Interval | None, digits: int = 3) -> str:
    """The ends of an interval; empty where there is none."""
    if interval is None or interval.low != interval.low:
        return ""
    return f'<span class="bounds">{number(interval.low, digits)} to {number(interval.high, digits)}</span>'


def term(name: str, shown: str = "") -> str:
    """A word with its definition a hover away; the page's list of terms has it too.

    Example:
        >>> term("step")
        '<abbr title="One update of the weights, from one batch of samples.">step</abbr>'
    """
    return f'<abbr title="{text(TERMS[name])}">{text(shown or name)}</abbr>'


def swatch(color: Color) -> str:
    """A small square of a class's colour."""
    red, green, blue = color
    return f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'


def named(name: str, color: Color) -> str:
    """A class's name beside its colour; long names are broken, short ones are not."""
    return f'<span class="of">{swatch(color)}<span>{text(name)}</span></span>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "", foot: Sequence[str] = ()) -> str:
    """A table of HTML cells in a box that scrolls where the page is narrow; the first cell of a row names it.

    Example:
        >>> table(["class", "IoU"], [["sky", "0.9"]], "figures").partition("<thead>")[0]
        '<div class="wide"><table class="figures">'
    """
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    body = "".join(_row(row) for row in rows)
    last = f"<tfoot>{_row(foot)}</tfoot>" if foot else ""
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody>{last}'
        "</table></div>"
    )


def note(inner: str) -> str:
    """A small remark of HTML below what it is about."""
    return f'<p class="faint">{inner}</p>'


def card(inner: str, title: str = "") -> str:
    """A box; `title` is HTML."""
    head = f"<h3>{title}</h3>" if title else ""
    return f'<div class="card">{head}{inner}</div>'


def _row(cells: Sequence[str]) -> str:
    first, *rest = cells
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
