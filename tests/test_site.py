"""The site: what its checks find, and that it builds strictly and loads nothing from a network."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import make_site  # noqa: E402 -- a script, found beside the package

BROWSER = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
needs_zensical = pytest.mark.skipif(
    importlib.util.find_spec("zensical") is None, reason="zensical is not installed; `make site` installs it"
)
FRAME = """<!doctype html><meta charset="utf-8"><title>frame</title><link rel="icon" href="data:,">
<body style="margin:0"><pre id="told"></pre><iframe src="PAGE" style="border:0;width:WIDTHpx;height:900px"></iframe>
<script>document.querySelector('iframe').onload = e => { const view = e.target.contentDocument;
  document.getElementById('told').textContent = JSON.stringify({scroll: view.documentElement.scrollWidth,
  broken: [...view.images].filter(i => !i.naturalWidth).length, images: view.images.length,
  title: view.querySelector('h1').textContent}); };</script>"""
SEARCH = """<!doctype html><meta charset="utf-8"><title>search</title><link rel="icon" href="data:,">
<pre id="told"></pre><iframe src="index.html" style="width:1200px;height:900px"></iframe><script>
const told = document.getElementById('told'), wait = seconds => new Promise(done => setTimeout(done, 1000 * seconds));
document.querySelector('iframe').onload = async e => { const view = e.target.contentDocument; await wait(1);
  view.querySelector('.md-search__button').click(); await wait(1);
  const root = [...view.querySelectorAll('*')].find(one => one.shadowRoot).shadowRoot;
  const input = root.querySelector('input');
  input.value = 'receptive field'; input.dispatchEvent(new Event('input', {bubbles: true})); await wait(3);
  told.textContent = root.textContent; };</script>"""


def test_every_document_is_in_the_navigation() -> None:
    named = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    documents = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    pages = {name for name in documents if not name.startswith("reference/dilated")}
    assert pages ^ named == {"changelog.md", "contributing.md", "recipes.md"}  # made when the site is


def test_every_recipe_is_on_its_page_with_its_reason() -> None:
    text = make_site.render_recipes()
    for path in make_site.RECIPES.glob("*.toml"):
        section = text.split(f"## `{path.stem}`\n\n")[1]
        assert not section.startswith("```"), f"{path.name} does not say what it is for"
        assert path.read_text(encoding="utf-8").strip() in section


def test_links_out_of_the_documents_lead_to_copies(tmp_path: Path) -> None:
    make_site.assemble(tmp_path)
    text = (tmp_path / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert "](files/src/dilated/weights/files/cells.md)" in text
    assert (tmp_path / "docs" / "files/src/dilated/weights/files/cells.md").is_file()
    assert "](extending/format.md)" in (tmp_path / "docs" / "contributing.md").read_text(encoding="utf-8")
    config = (tmp_path / "mkdocs.yml").read_text(encoding="utf-8")
    assert "      - dilated.train: reference/dilated.train.md\n" in config


def test_what_leads_nowhere_or_to_a_network_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top">a</h1><a href="b.html#there">1</a><a href="b.html#gone">2</a><a href="c.html">3</a>'
        '<a href="#top">4</a><a href="https://example.org">5</a><script src="https://cdn.example/x.js"></script>'
        '<link rel="stylesheet" href="//fonts.example/f.css"><link rel="canonical" href="https://example.org/a">',
        encoding="utf-8",
    )
    (tmp_path / "b.html").write_text('<h2 id="there">b</h2>', encoding="utf-8")
    assert list(make_site.find_problems(tmp_path)) == [
        "a.html: b.html#gone: no such heading",
        "a.html: c.html leads nowhere",
        "a.html: loads https://cdn.example/x.js",
        "a.html: loads //fonts.example/f.css",
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    make_site.build(out)
    return out


@needs_zensical
@pytest.mark.slow
def test_the_site_builds_strictly_and_nothing_in_it_names_a_network_to_load_from(site: Path) -> None:
    assert (site / "index.html").is_file()
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?(?:https?:)?//[^)]*\)|@import", styles) == []
    assert [path.name for path in site.rglob("*.html") if "unpkg.com" in path.read_text(encoding="utf-8")] == []
    words = json.loads((site / "search.json").read_text(encoding="utf-8"))
    assert "ContextModule" in json.dumps(words)


@needs_zensical
@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="found no chromium or google-chrome to show the page with")
@pytest.mark.parametrize("page", ["index", "tour", "faq", "your-own-data", "benchmarks"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_fits_a_phone_and_a_desk(site: Path, tmp_path: Path, page: str, width: int) -> None:
    frame = site / f"frame-{page}-{width}.html"
    frame.write_text(FRAME.replace("PAGE", f"{page}.html").replace("WIDTH", str(width)), encoding="utf-8")
    fixed = ("--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=6000", "--dump-dom")
    own = (f"--user-data-dir={tmp_path / 'profile'}", "--allow-file-access-from-files", f"--window-size={width},900")
    command = [str(BROWSER), *fixed, *own, frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    frame.unlink()
    told = re.search(r'<pre id="told">([^<]+)</pre>', done.stdout)
    assert told is not None, done.stderr[-2000:]
    found = json.loads(unescape(told[1]))
    assert found["scroll"] <= width
    assert found["broken"] == 0


@needs_zensical
@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="found no chromium or google-chrome to show the page with")
def test_the_search_works_from_files_without_a_server(site: Path, tmp_path: Path) -> None:
    frame = site / "frame-search.html"
    frame.write_text(SEARCH, encoding="utf-8")
    fixed = ("--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=15000", "--dump-dom")
    own = (f"--user-data-dir={tmp_path / 'profile'}", "--allow-file-access-from-files")
    command = [str(BROWSER), *fixed, *own, frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    frame.unlink()
    told = re.search(r'<pre id="told">([^<]+)</pre>', done.stdout)
    assert told is not None, done.stderr[-2000:]
    assert "dilated.receptive_field" in unescape(told[1])
