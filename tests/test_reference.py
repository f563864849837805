"""Every public name has a page, made from its docstring, and the documents lead somewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import make_reference  # noqa: E402 -- a script, found beside the package

DOCUMENTS = [path for path in sorted((ROOT / "docs").rglob("*.md")) if path.parent.name != "reference"]


def test_the_pages_of_the_reference_are_those_of_the_docstrings() -> None:
    existing = {path.name: path.read_text("utf-8") for path in (ROOT / "docs" / "reference").glob("*.md")}
    pages = make_reference.render()
    outdated = sorted(name for name in pages.keys() | existing.keys() if pages.get(name) != existing.get(name))
    assert outdated == [], "the reference is out of date: run `make reference` and commit docs/reference"


def test_every_page_says_what_its_name_is_for() -> None:
    for name, text in make_reference.render().items():
        body = re.sub(r"```.*?```", "", text.split("\n", 1)[1], flags=re.DOTALL)
        assert len(body.replace("Source:", "").split()) > 4, name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_of_a_document_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", [ROOT / "README.md", *DOCUMENTS], ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(path: Path) -> None:
    named = re.findall(
        r"`((?:src|docs|benchmarks|tools|tests|examples)/[\w/.-]+\.\w+)", path.read_text(encoding="utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists()] == []
    inside = re.findall(r"`((?:[a-z]+/)+[a-z_0-9]+\.py)`", path.read_text(encoding="utf-8"))
    places = (ROOT, ROOT / "src" / "dilated")
    assert [name for name in inside if not any((place / name).exists() for place in places)] == []
