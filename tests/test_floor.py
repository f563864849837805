"""The lowest versions that pyproject.toml states, which `make test-floor` installs."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import floor  # noqa: E402 -- a script, found beside the package


def test_every_dependency_is_pinned_to_its_lowest_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = {*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)}
    assert sorted(pin.replace("==", ">=") for pin in floor.floor_pins()) == sorted(stated)


@pytest.mark.parametrize("requirement", ["numpy", "numpy<3", "numpy~=1.26"])
def test_a_dependency_without_a_lowest_version_is_an_error(requirement: str, tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(f'[project]\ndependencies = ["{requirement}"]\n')
    with pytest.raises(ValueError, match=re.escape(f"{requirement!r} states no lowest version")):
        floor.floor_pins(path)


def test_the_core_tests_that_it_runs_exist() -> None:
    assert [name for name in floor.CORE_TESTS if not (ROOT / name).is_dir()] == []
