"""Damaged images, labels, recipes and checkpoints end in one error or are read as they are. `fuzz_all.py` runs more."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fuzz_all
import fuzz_encoded
import numpy as np
import pytest
from fuzz_outcome import SilentError

DEADLY = """
import os

from fuzz_outcome import Outcome


def run(seed, numbers):
    for number in numbers:
        if number == 2:
            os._exit(3)
        yield Outcome(number, (), "loaded")
"""


@pytest.mark.parametrize(("kind", "number"), [("images", 80), ("labels", 60), ("recipes", 80), ("checkpoints", 6)])
def test_damaged_files_are_refused_by_name_or_read_as_they_are(kind: str, number: int) -> None:
    outcomes = list(fuzz_all.run(kind, 7, range(number)))
    bad = [outcome for outcome in outcomes if outcome.kind in fuzz_all.FATAL]
    assert [outcome.number for outcome in outcomes] == list(range(number))
    assert not bad, "\n".join(map(str, bad[:3]))
    assert {"loaded", "refused"} <= {outcome.kind for outcome in outcomes}


def test_the_comparison_of_labels_sees_other_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, files = fuzz_encoded.make_labels()
    for name, content in files.items():
        path = tmp_path / f"label{Path(name).suffix}"
        path.write_bytes(content)
        fuzz_encoded.look_at_label(path, values)
        with monkeypatch.context() as patch:
            patch.setattr(fuzz_encoded, "read_values", lambda _: values[::-1].astype(np.int64))
            with pytest.raises(SilentError):
                fuzz_encoded.look_at_label(path, values)


def test_the_summary_counts_each_kind_and_names_bad_cases() -> None:
    lines = {
        "labels": [{"number": 0, "kind": "loaded"}, {"number": 1, "kind": "silent", "text": "first\nlast"}],
        "annotations": [{"number": 0, "kind": "reported", "seconds": 0.5}, {"number": 1, "kind": "clean"}],
    }
    title, labels, annotations, total, *bad = fuzz_all.summarize(lines).splitlines()
    assert title.split()[:5] == ["cases", "loaded", "refused", "traceback", "silent"]
    assert labels.split() == ["labels", "2", "1", "0", "0", "1", "0", "0", "0"]
    assert annotations.split() == ["annotations", "2", "1", "1", "0", "0", "0", "0", "0", "120"]
    assert total.split() == ["all", "4", "2", "1", "0", "1", "0", "0", "0"]
    assert bad == ["labels 1: silent: last"]


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b"])
def test_a_part_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected"):
        fuzz_all.parse_part(text)


@pytest.mark.slow
def test_the_driver_goes_on_where_it_was_stopped_and_leaves_out_what_other_parts_did(tmp_path: Path) -> None:
    path = tmp_path / "recipes-0.1-of-2.jsonl"
    path.write_text('{"number": 0, "kind": "refused", "changes": []}\n{"number": 2, "ki')
    (tmp_path / "recipes-0.2-of-2.jsonl").write_text('{"number": 4, "kind": "slow", "changes": [], "text": "there"}\n')
    fuzz_all.drive("recipes", 0, range(0, 8, 2), path)
    done = fuzz_all.read(tmp_path, "recipes", 0)
    assert sorted(done) == [0, 2, 4, 6]
    assert done[4]["kind"] == "slow"
    assert {done[number]["kind"] for number in (0, 2, 6)} <= {"refused", "loaded"}


@pytest.mark.slow
def test_a_case_that_ends_the_process_is_counted_and_the_next_one_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fuzz_recipes.py").write_text(DEADLY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    drive = shutil.copy(fuzz_all.__file__, tmp_path)
    shutil.copy(Path(fuzz_all.__file__).with_name("fuzz_outcome.py"), tmp_path)
    command = [sys.executable, drive, "--out", str(tmp_path / "out"), "--kinds", "recipes", "--share", "0.0004"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[1][:9] == ["recipes", "4", "3", "0", "0", "0", "0", "0", "1"]
    assert rows[3] == ["recipes", "2:", "died:", "the", "process", "ended", "with", "3"]


@pytest.mark.slow
@pytest.mark.timeout(8 * 3600)
def test_fifty_thousand_damaged_files_end_in_one_error_or_are_read_as_they_are(tmp_path: Path) -> None:
    command = [sys.executable, fuzz_all.__file__, "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=8 * 3600)
    assert result.returncode == 0, result.stdout + result.stderr
