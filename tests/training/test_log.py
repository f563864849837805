"""The log after a loss of power: never longer than what is in it, and read as far as it can be."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_run import data_folder, run_folder

from dilated import write_report
from dilated.training.log import Log, read_history

LINE = b'{"step": %d, "stage": 0, "loss": 1.0}\n'


@pytest.mark.parametrize("tail", [b"", b'{"step": 3, "st', b"\0" * 40, b"\0" * 20 + LINE % 3])
def test_a_log_that_is_shorter_than_the_checkpoint_says_is_continued_after_its_last_whole_line(
    tmp_path: Path, tail: bytes
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(LINE % 1 + LINE % 2 + tail)
    log = Log(tmp_path, size=4 * len(LINE % 1))
    assert log.lost_bytes == 2 * len(LINE % 1)
    log.write(5, stage=0, loss=1.0)
    log.close()
    assert path.read_bytes() == LINE % 1 + LINE % 2 + LINE % 5


def test_a_whole_log_loses_what_was_written_after_the_checkpoint_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(LINE % 1 + LINE % 2)
    log = Log(tmp_path, size=len(LINE % 1))
    log.close()
    assert log.lost_bytes == 0
    assert path.read_bytes() == LINE % 1


def test_a_report_is_written_from_a_damaged_log_and_says_so(tmp_path: Path) -> None:
    run, data = run_folder(tmp_path / "run", ("a", "b")), data_folder(tmp_path / "data", ("a", "b"))
    lines = (run / "log.jsonl").read_bytes().splitlines(keepends=True)
    (run / "log.jsonl").write_bytes(b"".join([*lines[:2], b"\0" * 300 + lines[2], *lines[3:], b'{"step":']))
    history = read_history(run)
    assert history is not None
    assert (history.damaged_lines, len(history.loss)) == (2, 9)
    assert "2 lines of the log could not be read" in write_report(run, data).read_text(encoding="utf-8")
