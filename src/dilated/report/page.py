"""The frame of all pages: one Jinja2 environment, one base template, one stylesheet.

    render("report.html", title="my run", subtitle="on val", sections=[Section("classes", "Classes", "<p>...")])

Templates escape what they are given, and show control characters as text: all that comes from data, a run or a user
may hold any. Only `Markup`, made by this package, is taken as HTML.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dilated.files import plural, printable, printable_lines
from dilated.report.glossary import TERMS


@dataclass(frozen=True)
class Section:
    """A part of the page about a run; `body` is HTML that was escaped, the rest plain text."""

    anchor: str
    title: str
    body: str


def render(template: str, **values: Any) -> str:
    """Render a page from one of the templates.

    Example:
        >>> page = render_report("<my run>", "", [Section("a", "A", "<p>text</p>")], {"name": "</script>"})
        >>> page.count("</script>"), "&lt;my run&gt;" in page
        (1, True)
    """
    return _environment().get_template(template).render(values)


def render_report(title: str, subtitle: str, sections: Sequence[Section], metrics: Mapping[str, Any]) -> str:
    """Render the page about a run.

    Args:
        subtitle: a line below the title; HTML if `Markup`.
        sections: the first is shown above the contents.
        metrics: all metrics, kept in the page as JSON under the id `figures`.
    """
    embedded = json.dumps(metrics, allow_nan=False).replace("<", "\\u003c")  # cannot end its element
    values = {"sections": sections, "terms": TERMS, "metrics": Markup(embedded)}
    return render("report.html", title=title, subtitle=subtitle, **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dilated.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plural"] = plural
    environment.filters["lines"] = lambda text: Markup.escape(printable_lines(text))
    return environment
