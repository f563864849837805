"""Damaged data sets: no traceback, and no label that is not what its file says. `tests/fuzz/fuzz_data.py` runs more."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULES = tuple(path.stem for path in sorted(BENCHMARKS.glob("fuzz_*.py")))


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    """The benchmark, which is no part of the package."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("fuzz_data")
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in MODULES:
            sys.modules.pop(name, None)


def check(fuzz: ModuleType, seed: int, number: int, train_every: int) -> None:
    outcomes = list(fuzz.run(seed, range(number), train_every))
    bad = [f"{o.number}: {o.name}: {', '.join(o.changes)}: {o.text}" for o in outcomes if o.kind in fuzz.BAD]
    assert len(outcomes) == number
    assert not bad, "\n".join(bad[:5])
    assert {outcome.kind for outcome in outcomes} == {"clean", "reported"}


def test_healthy_sets_have_nothing_wrong_and_the_very_labels_of_their_files(fuzz: ModuleType, tmp_path: Path) -> None:
    sets = fuzz.Sets(tmp_path / "healthy")
    for name in fuzz.NAMES:
        assert fuzz.examine(sets.copy(name, tmp_path / name.replace(", ", "-"))) == "", name


def test_the_comparison_sees_a_label_that_is_read_otherwise(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = fuzz.Sets(tmp_path / "healthy").copy("folders", tmp_path / "data")
    sample = importlib.import_module("dilated.data.sample")
    real = sample.Sample.read_label
    monkeypatch.setattr(sample.Sample, "read_label", lambda *given: real(*given)[::-1])
    with pytest.raises(fuzz.SilentError, match="pixels differ"):
        fuzz.examine(data)


def test_damaged_data_is_reported_or_read_as_it_is(fuzz: ModuleType) -> None:
    check(fuzz, seed=0, number=120, train_every=60)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thousands_of_damaged_data_sets_are_reported_or_read_as_they_are(fuzz: ModuleType) -> None:
    check(fuzz, seed=1, number=5000, train_every=25)
