"""Damaged images, labels, recipes and checkpoints end in one error or are read as they are. `fuzz_all.py` runs more."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import fuzz_all
import fuzz_encoded
import numpy as np
import pytest
from fuzz_outcome import SilentError


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


@pytest.mark.slow
def test_the_driver_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    path = tmp_path / "recipes-0.jsonl"
    path.write_text('{"number": 0, "kind": "refused", "changes": []}\n{"number": 1, "ki')
    fuzz_all.drive("recipes", 0, 4, path)
    assert sorted(fuzz_all.read(path)) == [0, 1, 2, 3]
    assert Counter(line["kind"] for line in fuzz_all.read(path).values()).keys() <= {"refused", "loaded"}


@pytest.mark.slow
@pytest.mark.timeout(8 * 3600)
def test_fifty_thousand_damaged_files_end_in_one_error_or_are_read_as_they_are(tmp_path: Path) -> None:
    command = [sys.executable, fuzz_all.__file__, "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=8 * 3600)
    assert result.returncode == 0, result.stdout + result.stderr
