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
import os
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from fuzz_bands import kept_bands
from fuzz_changes import CHANGES
from fuzz_exports import EXPORTS
from fuzz_sets import LAYOUTS, MAKERS, MOVED, Set, Sets
from fuzz_tables import RELEASES
from fuzz_truth import paired, truth
from fuzz_zips import KINDS, assert_kept_apart, pack

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
SECONDS, MOST_SECONDS = 10, 300  # of the processor and of the clock for one case; most take a tenth of one
ZIPPED = 0.08  # of the cases
MAKERS.update(RELEASES)
NAMES = (*LAYOUTS, *MOVED, *EXPORTS, *RELEASES)

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
    parser.add_argument("--log", type=Path, help="note each outcome here, and leave out those that are noted")
    options = parser.parse_args()
    torch.set_num_threads(1)
    numbers = range(options.first, options.first + options.number) if options.only is None else [options.only]
    outcomes = noted(options.log)
    seen = {outcome.number for outcome in outcomes}
    left = [number for number in numbers if number not in seen]
    for outcome in run(options.seed, left, options.train_every, options.keep, tuple(options.names)):
        outcomes.append(outcome)
        if options.log:
            with options.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
        if len(outcomes) % 100 == 0:
            print(f"{len(outcomes)} of {len(numbers)}", file=sys.stderr, flush=True)
        if outcome.kind in BAD or options.only is not None:
            print(f"{outcome.number}: {outcome.name}: {', '.join(outcome.changes)}: {outcome.kind}: {outcome.text}")
    print(table(outcomes))
    print(table(outcomes, by_set=True))
    if options.json:
        options.json.write_text(json.dumps(summary(outcomes, options.seed), indent=2) + "\n", encoding="utf-8")
    sys.exit(any(outcome.kind in BAD for outcome in outcomes))


def noted(path: Path | None) -> list[Outcome]:
    """The outcomes of an earlier run."""
    lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
    entries = [json.loads(line) for line in lines]
    return [Outcome(**{**entry, "changes": tuple(entry["changes"])}) for entry in entries]


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
    zipped = random.choice(KINDS) if random.random() < ZIPPED else ""
    try:
        if zipped:
            done.append(f"zip: {zipped}")
            data = replace(data, root=pack(data, random, zipped))
        with limit(SECONDS), cache_in(place / "cache"):
            text = examine(data, place / "run" if trained else None)
        assert_kept_apart(place, zipped, bool(text))
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
    try:
        report = check(data.root, workers=1)
    except InputError as error:  # no folder at all, as of a zip file that cannot be unpacked
        return str(error)
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
            image = pair.read_image()
            size = image.shape[:2]
            label = pair.read_label(size)
        except InputError as error:
            reported.append(str(error))
            continue
        bands = kept_bands(pair.image) if pair.image.suffix.lower() in (".npy", ".tif", ".png", ".dcm") else None
        if bands is not None and data.input is not None and not np.array_equal(bands, image, equal_nan=True):
            raise SilentError(f"{pair.image}: the bands are others than those in the file")
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
    """Raise `TimeoutError` where the process has used the time, or waits for many times that."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done in {seconds} seconds")

    before = [signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
            signal.signal(number, handler)


@contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Let zip files be unpacked there."""
    before = os.environ.get("DILATED_CACHE")
    os.environ["DILATED_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("DILATED_CACHE")
        if before is not None:
            os.environ["DILATED_CACHE"] = before


def table(outcomes: list[Outcome], by_set: bool = False) -> str:
    """How often each change had each outcome, or each set; a case of several changes counts for each of them."""
    keys = [(o.name,) if by_set else o.changes for o in outcomes]
    counts = Counter((key, o.kind) for o, own in zip(outcomes, keys, strict=True) for key in own)
    rows = NAMES if by_set else (*CHANGES, *(f"zip: {kind}" for kind in KINDS))
    width = max(map(len, rows))
    lines = [" " * width + "".join(f"{kind:>11}" for kind in OUTCOMES)]
    lines += [f"{row:{width}}" + "".join(f"{counts[row, kind]:11}" for kind in OUTCOMES) for row in rows]
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
        "sets": {
            name: {kind: sum((o.name, o.kind) == (name, kind) for o in outcomes) for kind in OUTCOMES} for name in NAMES
        },
        "bad": [f"{o.number}: {o.name}: {', '.join(o.changes)}: {o.text}" for o in outcomes if o.kind in BAD],
    }


if __name__ == "__main__":
    main()
