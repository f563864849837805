"""Build the documentation site into site/: pages of docs/, recipes, cards, changelog, and the reference, by Zensical.

    python tools/make_site.py            # builds, strictly, and checks every link; `make site` runs it

The site loads nothing from a network: no fonts, no scripts. Its search works from files too, without a server; for
that, iframe-worker (MIT, Martin Donath) lies in tools/site, which the page would otherwise fetch.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
RECIPES = ROOT / "src" / "dilated" / "training" / "recipes"
SHIM = "assets/javascripts/iframe-worker.js"
_LINK = re.compile(r"(\]\()((?!https?:|mailto:|#)[^)#\s]+)")
_SHIM_URL = re.compile(r"https://unpkg\.com/iframe-worker/shim")


def assemble(folder: Path) -> None:
    """Write the configuration and all pages to a folder, with links out of docs/ led to copies."""
    pages = folder / "docs"
    shutil.copytree(DOCS, pages)
    extra = {"changelog.md": ROOT / "CHANGELOG.md", "contributing.md": ROOT / "CONTRIBUTING.md"}
    for name, source in extra.items():
        (pages / name).write_text(_lead_links(source.read_text(encoding="utf-8"), ROOT, pages / name, pages), "utf-8")
    (pages / "recipes.md").write_text(render_recipes(), encoding="utf-8")
    for page in [path for path in pages.rglob("*.md") if path.name not in extra]:
        base = DOCS / page.parent.relative_to(pages)
        page.write_text(_lead_links(page.read_text(encoding="utf-8"), base, page, pages), encoding="utf-8")
    names = sorted(path.name for path in (DOCS / "reference").glob("dilated*.md"))
    nav = "".join(f"      - {name.removesuffix('.md')}: reference/{name}\n" for name in names)
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    section = f"  - Reference:\n      - All names: reference/README.md\n{nav}"
    (folder / "mkdocs.yml").write_text(config.replace("  - Reference: reference/README.md\n", section), "utf-8")


def render_recipes() -> str:
    """The page of the recipes: what each says of itself, and its whole text."""
    lines = [
        "# Recipes",
        "",
        "A recipe is a TOML that says all that a training does. Without one, `dilated train` plans",
        "",
    ]
    lines[2] += " it from your data, the machine and the time (`plan.toml` in the run, to edit and give back)."
    lines += ["    dilated train my-data --recipe street --set stage.0.epochs=5 --out runs/mine", ""]
    for path in sorted(RECIPES.glob("*.toml")):
        text = path.read_text(encoding="utf-8")
        tomllib.loads(text)
        comment = [line.lstrip("# ") for line in text.split("\n\n")[0].splitlines() if line.startswith("#")]
        lines += [f"## `{path.stem}`", "", *comment, "", "```toml", text.strip(), "```", ""]
    return "\n".join(lines)


def _lead_links(text: str, base: Path, page: Path, pages: Path) -> str:
    """Lead each link into the repository to the page or to a copy of the file, which is made."""

    def lead(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(base / match[2]))
        if target.is_relative_to(DOCS):
            place = pages / target.relative_to(DOCS)
        elif target.is_file():
            place = pages / "files" / target.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(target, place)
        else:
            return match[0]  # the strict build names it
        return match[1] + os.path.relpath(place, page.parent).replace(os.sep, "/")

    return _LINK.sub(lead, text)


def build(out: Path) -> None:
    """Build the site.

    Raises:
        RuntimeError: Zensical warns, or a link leads nowhere or to a network.
    """
    with tempfile.TemporaryDirectory(prefix="dilated-site-") as name:
        folder = Path(name)
        assemble(folder)
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", str(folder / "mkdocs.yml")]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=300, env=_plain_environment()
        )
        if done.returncode:
            raise RuntimeError(f"{done.stdout}{done.stderr}")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(folder / "site", out)
    (out / SHIM).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "tools" / "site" / "iframe-worker.js", out / SHIM)
    for page in out.rglob("*.html"):
        base = os.path.relpath(out, page.parent).replace(os.sep, "/")
        text = page.read_text(encoding="utf-8")
        page.write_text(_SHIM_URL.sub(f"{base}/{SHIM}", text), encoding="utf-8")
    problems = list(find_problems(out))
    if problems:
        raise RuntimeError("\n".join(problems))


def find_problems(site: Path) -> Iterator[str]:
    """Name each link that leads nowhere, and each script, style or image that would be loaded from a network."""
    pages = {path: _Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(site).as_posix()
        for kind, link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if kind != "a" and parts.scheme != "data":
                    yield f"{where}: loads {link}"
                continue
            if parts.path.startswith("/"):
                target = site / unquote(parts.path).lstrip("/")
            else:
                target = path.parent / unquote(parts.path) if parts.path else path
            target = Path(os.path.normpath(target / "index.html" if target.is_dir() else target))
            if not target.exists():
                yield f"{where}: {link} leads nowhere"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{where}: {link}: no such heading"


class _Page(HTMLParser):
    """The ids of a page, and what it links to or loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value for key, value in attrs if value}
        self.ids.add(values.get("id", ""))
        is_loaded = tag != "link" or values.get("rel") not in ("canonical", "next", "prev")
        for key in ("href", "src"):
            if key in values and is_loaded:
                self.links.append((tag, values[key]))


def _plain_environment() -> dict[str, str]:
    return {**os.environ, "NO_COLOR": "1", "TERM": "dumb"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="where the site goes; replaced")
    options = parser.parse_args()
    try:
        build(options.out)
    except RuntimeError as error:
        raise SystemExit(str(error)) from None
    print(f"{options.out / 'index.html'}: {sum(1 for _ in options.out.rglob('*.html'))} pages")


if __name__ == "__main__":
    main()
