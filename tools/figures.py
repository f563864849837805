"""Make the figures of the documents again, and fail where one drifts outside its interval or a document says another.

    CAMVID=DATA NUCLEI=DATA python tools/figures.py             # all but the slow ones; `make figures` does this
    CAMVID=DATA python tools/figures.py street-mean-iou         # by name
    python tools/figures.py --slow coverage-films
    python tools/figures.py --list

The table is benchmarks/figures.toml. Figures of one command run it once. Those whose data folder is not given are
listed as not made, which fails where they were asked for by name.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import string
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "benchmarks" / "figures.toml"
_RUNS = "runs"
"""Where networks that a command trains are kept, unless the variable RUNS says otherwise."""


@dataclass(frozen=True)
class Figure:
    """A figure of the documents."""

    name: str
    command: str
    places: Mapping[str, str]
    """The words that say it, by the document's path."""
    key: str = ""
    """Where the command's JSON has it; without one, the command has to succeed."""
    low: float = 0.0
    high: float = 0.0
    value: float | None = None
    """What the documents say."""
    digits: int = 4
    slow: bool = False
    data: tuple[str, ...] = field(init=False)
    """The variables with the data folders that the command takes."""

    def __post_init__(self) -> None:
        names = {name for _, name, _, _ in string.Formatter().parse(self.command) if name}
        object.__setattr__(self, "data", tuple(sorted(names - {"json", "RUNS"})))

    def find_missing_words(self, root: Path = ROOT) -> list[str]:
        """Return the documents that do not say the figure."""
        return [
            path
            for path, words in self.places.items()
            if words not in " ".join((root / path).read_text("utf-8").split())
        ]

    def judge(self, measured: float) -> str:
        """Return what is wrong with a value that was measured; nothing where it is in the interval."""
        if not self.low <= measured <= self.high:
            return f"is {measured:.{self.digits}f}, outside [{self.low:g}, {self.high:g}]"
        return ""


def read_figures(path: Path = TABLE) -> list[Figure]:
    """Read the table."""
    return [Figure(**entry) for entry in tomllib.loads(path.read_text("utf-8"))["figure"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="figures; all but the slow ones if not given")
    parser.add_argument("--slow", action="store_true", help="the slow ones too")
    parser.add_argument("--list", action="store_true", help="list them, and run nothing")
    options = parser.parse_args()
    figures = {figure.name: figure for figure in read_figures()}
    if unknown := [name for name in options.names if name not in figures]:
        parser.error(f"no figure {unknown[0]}; --list lists them")
    chosen = [figures[name] for name in options.names] or [f for f in figures.values() if options.slow or not f.slow]
    if options.list:
        for figure in figures.values():
            print(f"{figure.name:<26}{'slow  ' if figure.slow else '      '}{figure.command}")
        return
    problems, not_made = run(chosen, os.environ)
    for line in not_made:
        print(f"not made: {line}")
    for line in problems:
        print(f"WRONG: {line}")
    if problems or (not_made and options.names):
        raise SystemExit(1)


def run(figures: Sequence[Figure], variables: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Make figures: what is wrong, and what was not made for want of data."""
    problems, not_made, results = [], [], {}
    for figure in figures:
        problems += [
            f"{figure.name}: {path} does not say {figure.places[path]!r}" for path in figure.find_missing_words()
        ]
        if missing := [name for name in figure.data if not variables.get(name)]:
            not_made.append(f"{figure.name}: set {' and '.join(missing)} to a data folder")
            continue
        if figure.command not in results:
            results[figure.command] = _execute(figure, variables)
        output = results[figure.command]
        if output is None:
            problems.append(f"{figure.name}: `{figure.command}` failed")
        elif figure.key:
            measured = float(look_up(output, figure.key))
            wrong = figure.judge(measured)
            problems += [f"{figure.name}: {wrong}"] if wrong else []
            print(f"{figure.name}: {measured:.{figure.digits}f} in [{figure.low:g}, {figure.high:g}]", flush=True)
        else:
            print(f"{figure.name}: holds", flush=True)
    return problems, not_made


def look_up(output: Any, key: str) -> Any:
    """Return a value of nested tables and lists, by a key with dots.

    Example:
        >>> look_up({"iou": {"a b": [3, 4]}}, "iou.a b.1")
        4
    """
    for part in key.split("."):
        output = output[int(part)] if isinstance(output, list) else output[part]
    return output


def _execute(figure: Figure, variables: Mapping[str, str]) -> Any | None:
    """Run a command: what it writes to its JSON file, an empty table where it has none, None where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        values = {name: shlex.quote(variables[name]) for name in figure.data}
        runs = shlex.quote(variables.get("RUNS", _RUNS))
        words = shlex.split(figure.command.format(json=shlex.quote(str(file)), RUNS=runs, **values))
        programs = {"dilated": [sys.executable, "-m", "dilated"], "python": [sys.executable]}
        print(f"$ {shlex.join(words)}", flush=True)
        done = subprocess.run([*programs[words[0]], *words[1:]], cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            return None
        return json.loads(file.read_text("utf-8")) if file.is_file() else {}


if __name__ == "__main__":
    main()
