"""What is released: the files of the wheel, the version wherever it stands, and an installation with no repository."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from dilated import __version__

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import release  # noqa: E402 -- a script, found beside the package

needs_build = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("build", "hatchling")),
    reason="build and hatchling are not installed; `make release` installs them",
)


def test_the_version_stands_once_and_is_repeated_where_people_look() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    head = re.search(r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert head is not None
    assert citation["version"] == head[1] == __version__
    assert head[2] == "unreleased" or re.fullmatch(r"\d{4}-\d{2}-\d{2}", head[2])


def test_the_citation_has_what_the_format_asks_for_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Yu", "Koltun"]


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
def test_every_link_and_path_of_the_page_leads_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    paths = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    paths += [f"src/{path}" for path in re.findall(r"`(dilated/[\w/]+\.py)`", text)]
    paths += re.findall(r"`((?:src|tests|docs)/[\w/.-]*)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"make ([\w-]+)  ", text)) <= set(targets)


@needs_build
@pytest.mark.slow
def test_the_wheel_and_the_sdist_run_the_demo_in_a_fresh_environment(tmp_path: Path) -> None:
    """The packages that they need are those of here; `make release` installs them too."""
    wheel, sdist = release.build_distributions(tmp_path / "dist")
    tracked = subprocess.run(
        ["git", "ls-files", "src/dilated"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    ).stdout.split()
    with zipfile.ZipFile(wheel) as archive:
        assert {name.removeprefix("src/") for name in tracked} <= set(archive.namelist())
        assert [name for name in archive.namelist() if not name.startswith("dilated")] == []
    for distribution in (wheel, sdist):
        shown = release.run_installed(distribution, sys.executable, borrow=True)
        assert __version__ in shown.splitlines()[0]
        assert "Road" in shown
