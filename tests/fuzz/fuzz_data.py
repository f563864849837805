"""Thousands of damaged data sets through the program: no traceback, and no label that is not what its file says.

    python tests/fuzz/fuzz_data.py --number 5000 --seed 0
    python tests/fuzz/fuzz_data.py --seed 0 --only 1234 --keep broken   # one again, kept to look at

Each case copies a small healthy data set of some layout, damages it in one to three ways, checks it, reads all its
images and labels, and now and then trains a step on it. Labels that are read are compared with those that
`fuzz_truth.py` works out on its own. The outcomes, from best to worst:

    clean       nothing reported, and every label is what its file says
    reported    an error of `check`, or an `InputError` when pairs are listed or read
    traceback   any other exception, a hang, or text that cannot be shown
    silent      a label that is read as something else than its file says
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from fuzz_changes import CHANGES
from fuzz_sets import NAMES, Set, Sets
from fuzz_truth import paired, truth

from dilated.data.check.check import CheckReport, check
from dilated.data.dataset import Dataset, open_dataset
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import printable
from dilated.report.check_page import render_check_page
from dilated.training.config import load_recipe
from dilated.training.train import train

OUTCOMES = ("clean", "reported", "traceback", "silent")
BAD = ("traceback", "silent")
SECONDS = 120  # for one case, of which most take a tenth of one; drawing polygons on a bomb of 9000x9000 takes some

RECIPE = """
weights = "random"
batch = 2
workers = 0
ema = 0.0
precision = "fp32"

[network]
backbone = "test_efficientnet"
features = 8

[augment]
crop = [32, 48]

[[stage]]
kind = "frontend"
iterations = 1
output_stride = 16
lr = 1e-2
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    number: int
    name: str
    changes: tuple[str, ...]
    kind: str
    text: str = ""


class SilentError(Exception):
    """A label is read as something else than its file says."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--train-every", type=int, default=25)
    parser.add_argument("--names", nargs="+", choices=NAMES, default=NAMES, help="of the healthy sets to damage")
    parser.add_argument("--only", type=int, help="run the case of this number alone, and show what it gave")
    parser.add_argument("--keep", type=Path, help="keep the data of the one case here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    numbers = range(options.first, options.first + options.number) if options.only is None else [options.only]
    outcomes = []
    for outcome in run(options.seed, numbers, options.train_every, options.keep, tuple(options.names)):
        outcomes.append(outcome)
        if len(outcomes) % 100 == 0:
            print(f"{len(outcomes)} of {len(numbers)}", file=sys.stderr, flush=True)
        if outcome.kind in BAD or options.only is not None:
            print(f"{outcome.number}: {outcome.name}: {', '.join(outcome.changes)}: {outcome.kind}: {outcome.text}")
    print(table(outcomes))
    if options.json:
        options.json.write_text(json.dumps(summary(outcomes, options.seed), indent=2) + "\n", encoding="utf-8")
    sys.exit(any(outcome.kind in BAD for outcome in outcomes))


def run(
    seed: int,
    numbers: range | list[int],
    train_every: int = 25,
    keep: Path | None = None,
    names: tuple[str, ...] = NAMES,
) -> Iterator[Outcome]:
    """The cases of these numbers; each depends on the seed, its number and the names of the sets alone."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        sets = Sets(Path(folder) / "healthy")
        for number in numbers:
            place = Path(folder) / "case"
            trained = train_every > 0 and number % train_every == 0
            yield case(sets, place, seed, number, trained, names)
            if keep is not None:
                shutil.copytree(place / "data", keep, symlinks=True)
            shutil.rmtree(place)


def case(sets: Sets, place: Path, seed: int, number: int, trained: bool, names: tuple[str, ...] = NAMES) -> Outcome:
    """Damage one data set, and see what the program makes of it."""
    random = Random(f"{seed}/{number}")
    name = random.choice(names)
    data = sets.copy(name, place / "data")
    done: list[str] = []
    wanted = random.choice([1, 1, 2, 3])
    while len(done) < wanted:
        change = random.choice(list(CHANGES))
        try:
            if CHANGES[change](data, random):
                done.append(change)
        except OSError:
            continue  # what was damaged before cannot be damaged so
    try:
        with limit(SECONDS):
            text = examine(data, place / "run" if trained else None)
    except SilentError as error:
        return Outcome(number, name, tuple(done), "silent", str(error))
    except Exception:
        return Outcome(number, name, tuple(done), "traceback", traceback.format_exc())
    return Outcome(number, name, tuple(done), "reported" if text else "clean", text)


def examine(data: Set, run_folder: Path | None = None) -> str:
    """Check a data set, read all of it, and train a step; what was reported first, or nothing.

    Raises:
        SilentError: a label that is not what its file says.
        Exception: what the program should not let through.
    """
    report = check(data.root, workers=1)
    show(report, whole=run_folder is not None)
    reported = [finding.text for finding in report.errors]
    try:
        opened = open_dataset(data.root)
        if report.format != opened.format:
            raise AssertionError(f"check takes it as {report.format}, reading as {opened.format}")
        for split in opened.splits:
            reported += read(opened, split)
    except InputError as error:
        reported.append(str(error))
        opened = None
    if run_folder is not None and opened is not None:
        recipe = run_folder.with_suffix(".toml")
        recipe.write_text(RECIPE)
        try:
            train(opened, load_recipe(str(recipe)), run_folder)
        except InputError as error:
            reported.append(str(error))
    return reported[0] if reported else ""


def show(report: CheckReport, whole: bool) -> None:
    """All that the command would write; the page, which takes longest, only where the `whole` is asked for."""
    json.dumps(report.to_dict())
    if whole:
        render_check_page(report).encode()
    for text in (*report.notes, *(finding.text for finding in report.findings)):
        printable(text).encode()


def read(data: Dataset, split: str) -> list[str]:
    """Read a split, and compare; what was reported."""
    try:
        pairs = data.samples(split)
    except InputError as error:
        return [str(error)]
    reported = []
    for pair in pairs:
        try:
            size = pair.read_image().shape[:2]
            label = pair.read_label(size)
        except InputError as error:
            reported.append(str(error))
            continue
        compare(data, pair, label, size)
    return reported


def compare(data: Dataset, pair: Sample, label: np.ndarray, size: tuple[int, int]) -> None:
    """Raise where a label is not what its file says.

    Raises:
        SilentError: with the file and the number of pixels.
    """
    where = f"{pair.label} of {pair.image}"
    if pair.size() != size:
        raise SilentError(f"{where}: the header says {pair.size()}, the image is {size}")
    if not paired(data.format, data.root, pair):
        raise SilentError(f"{where}: they do not belong together")
    try:
        names, expected = truth(data.format, data.root, pair)
    except Exception as error:
        raise SilentError(f"{where}: was read, but has no meaning: {type(error).__name__} {error}") from error
    if names and list(data.classes.names) != names:
        raise SilentError(f"{where}: the classes are {list(data.classes.names)}; expected {names}")
    if expected.shape != label.shape or (expected != label).any():
        number = int((expected != label).sum()) if expected.shape == label.shape else -1
        raise SilentError(f"{where}: {number} pixels differ: {np.unique(label)}; expected {np.unique(expected)}")


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Raise `TimeoutError` where the time is up."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done in {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def table(outcomes: list[Outcome]) -> str:
    """How often each change had each outcome; a case of several changes counts for each of them."""
    counts = Counter((change, outcome.kind) for outcome in outcomes for change in outcome.changes)
    width = max(map(len, CHANGES))
    lines = [" " * width + "".join(f"{kind:>11}" for kind in OUTCOMES)]
    lines += [f"{change:{width}}" + "".join(f"{counts[change, kind]:11}" for kind in OUTCOMES) for change in CHANGES]
    total = Counter(outcome.kind for outcome in outcomes)
    lines.append(f"{'all cases':{width}}" + "".join(f"{total[kind]:11}" for kind in OUTCOMES))
    return "\n".join(lines)


def summary(outcomes: list[Outcome], seed: int) -> dict[str, object]:
    """Plain values for JSON."""
    total = Counter(outcome.kind for outcome in outcomes)
    counts = Counter((change, outcome.kind) for outcome in outcomes for change in outcome.changes)
    return {
        "seed": seed,
        "cases": len(outcomes),
        **{kind: total[kind] for kind in OUTCOMES},
        "changes": {change: {kind: counts[change, kind] for kind in OUTCOMES} for change in CHANGES},
        "layouts": dict(Counter(outcome.name for outcome in outcomes)),
        "bad": [f"{o.number}: {o.name}: {', '.join(o.changes)}: {o.text}" for o in outcomes if o.kind in BAD],
    }


if __name__ == "__main__":
    main()
