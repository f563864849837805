"""`dilated check` and groups: what it shows, writes and takes."""

from __future__ import annotations

import json
from pathlib import Path

import healthy
import pytest

from dilated.cli.main import main


def test_groups_are_shown_written_and_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = healthy.streets(tmp_path)
    main(["check", str(root), "--group-by", "(s)", "--write-groups", "--json", str(tmp_path / "out.json")])
    assert "in 1 group (s has " in capsys.readouterr().out
    groups = json.loads((tmp_path / "out.json").read_text())["groups"]
    assert groups["source"] == "the rule '(s)'"
    assert groups["groups"] == 1
    main(["check", str(root)])
    assert "groups.csv" in capsys.readouterr().out


def test_groups_csv_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = healthy.streets(tmp_path)
    main(["check", str(root), "--write-groups"])
    with pytest.raises(SystemExit):
        main(["check", str(root), "--write-groups"])
    assert "the file exists, and would be replaced" in capsys.readouterr().err
