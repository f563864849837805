"""The page's frame: title, contents, sections, the list of terms, the figures for machines.

page("my run", "on val", [Section("classes", "Classes", "<p>...</p>")], figures)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from dilated.report.glossary import TERMS
from dilated.report.markup import escape_text

_PAGE_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="faint">{what}</p>
</header>
{first}
<nav aria-label="Contents">{links}</nav>
{sections}
<section id="terms"><h2>What the words mean</h2><div class="card"><dl class="terms">{terms}</dl></div></section>
<script type="application/json" id="figures">{figures}</script>
</body>
</html>
"""


@dataclass(frozen=True)
class Section:
    """A part of the page; `body` is HTML, the rest plain text."""

    anchor: str
    title: str
    body: str

    @property
    def html(self) -> str:
        return f'<section id="{self.anchor}"><h2>{escape_text(self.title)}</h2>{self.body}</section>'


def render_page(title: str, what: str, sections: Sequence[Section], figures: dict[str, Any]) -> str:
    """The whole page as HTML.

    Args:
        what: a line of HTML below the title.
        sections: the first is shown above the contents.
        figures: all figures, kept in the page as JSON under the id `figures`.

    Example:
        >>> shown = render_page("<my run>", "", [Section("a", "A", "<p>figures</p>")], {"name": "</script>"})
        >>> shown.count("</script>"), "&lt;my run&gt;" in shown
        (1, True)
    """
    first, *rest = sections
    links = "".join(f'<a href="#{one.anchor}">{escape_text(one.title)}</a>' for one in rest)
    terms = "".join(
        f"<dt>{escape_text(name)}</dt><dd>{escape_text(definition)}</dd>" for name, definition in TERMS.items()
    )
    return _PAGE_TEMPLATE.format(
        title=escape_text(title),
        what=what,
        style=resources.files("dilated.report").joinpath("style.css").read_text(encoding="utf-8"),
        first=first.html,
        links=links + '<a href="#terms">Words</a>',
        sections="\n".join(one.html for one in rest),
        terms=terms,
        figures=_embed_json(figures),
    )


def _embed_json(figures: dict[str, Any]) -> str:
    """JSON that cannot end its element."""
    return json.dumps(figures, allow_nan=False).replace("<", "\\u003c")
