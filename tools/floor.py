"""Run the core tests with the lowest versions that pyproject.toml allows, in an environment of their own.

    python tools/floor.py                    # prints the pins: NAME==VERSION, one per line
    python tools/floor.py --check            # only resolves them, and names what does not fit together
    python tools/floor.py --out .venv-floor  # makes the environment and runs the tests in it

Only direct dependencies and those of the extras are pinned; pip chooses the versions of what they need, and of the
tools that run the tests. Warnings are not errors there: old versions give some that new ones do not.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEST_TOOLS = ("pytest", "pytest-timeout", "hypothesis", "scikit-learn", "torchmetrics")
CORE_TESTS = ("tests/cli", "tests/dilation", "tests/evaluation", "tests/fields", "tests/models", "tests/prediction")
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+(?:\[[\w,.-]+\])?)\s*>=\s*(?P<version>[\w.]+)")


def floor_pins(pyproject: Path = ROOT / "pyproject.toml") -> list[str]:
    """The lowest stated version of each dependency and of those of the extras, as pins.

    Raises:
        ValueError: a dependency without a lowest version.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    pins = {}
    for requirement in [*project["dependencies"], *(r for extra in extras for r in extra)]:
        match = _REQUIREMENT.match(requirement)
        if match is None:
            raise ValueError(f"{pyproject}: {requirement!r} states no lowest version")
        pins[match["name"]] = f"{match['name']}=={match['version']}"
    return sorted(pins.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only resolve the pins")
    parser.add_argument("--out", type=Path, help="the environment to make, in which the tests run")
    options = parser.parse_args()
    pins = floor_pins()
    if options.check:
        pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--only-binary", ":all:"]
        raise SystemExit(subprocess.run([*pip, *pins]).returncode)
    if options.out is None:
        print("\n".join(pins))
        return
    if not (options.out / "bin" / "python").exists():
        venv.create(options.out, with_pip=True)
    python = str(options.out / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *pins, *TEST_TOOLS], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", str(ROOT)], check=True)
    tests = [python, "-m", "pytest", "-q", "-W", "default", *CORE_TESTS]
    environment = {**os.environ, "TEST_WARNINGS": "ignore"}
    raise SystemExit(subprocess.run(tests, cwd=ROOT, env=environment).returncode)


if __name__ == "__main__":
    main()
