"""Hostile network files: one error each, and nothing is opened, asked or started. `fuzz_networks.py` runs more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import fuzz_networks
import pytest


def check(seed: int, number: int) -> None:
    outcomes = list(fuzz_networks.run(seed, range(number)))
    bad = [outcome for outcome in outcomes if outcome.kind in fuzz_networks.BAD]
    counts = Counter(outcome.kind for outcome in outcomes)
    assert not bad, "\n".join(map(str, bad[:5]))
    assert counts["refused"] > number / 2
    assert counts["loaded"] > 0  # what was changed harmlessly


def test_the_watch_sees_what_is_opened(tmp_path: Path) -> None:
    watch, other = fuzz_networks.Watch(), tmp_path / "other.txt"
    other.write_text("there")
    watch.file, watch.events = str(tmp_path / "own.txt"), []
    events = watch.events
    other.read_text()
    watch.events = None
    assert events == [f"open {other}"]


@pytest.mark.timeout(300)
def test_hostile_network_files_are_refused_and_reach_nothing() -> None:
    check(seed=0, number=60)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thousands_of_hostile_network_files_are_refused_and_reach_nothing() -> None:
    check(seed=1, number=2000)
