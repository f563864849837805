"""`dilated audit`: networks trained without the groups that they label, or one that is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dilated.auditing import AuditOptions, audit
from dilated.cli.main import main
from dilated.errors import InputError


def test_folds_are_trained_and_a_second_call_goes_on(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    recipe_file.write_text(
        recipe_file.read_text().replace("epochs = 3", "epochs = 1").replace("epochs = 2", "epochs = 1")
    )
    words = ["audit", str(folder), "--out", str(tmp_path / "out"), "--folds", "2", "--group-by", "image"]
    words += ["--recipe", str(recipe_file), "--device", "cpu", "--min-pixels", "1"]
    main(words)
    out = tmp_path / "out"
    written = (out / "audit.csv").read_text()
    assert {path.name for path in out.iterdir()} >= {"fold1", "fold2", "audit.html", "audit.cvat.xml", "labelme"}
    splits = [json.loads((out / f"fold{i}" / "data.json").read_text()) for i in (1, 2)]
    assert splits[0] != splits[1]
    networks = [(out / f"fold{i}" / "best.safetensors").stat().st_mtime_ns for i in (1, 2)]
    main(words)
    assert (out / "audit.csv").read_text() == written
    assert [(out / f"fold{i}" / "best.safetensors").stat().st_mtime_ns for i in (1, 2)] == networks


def test_a_network_that_is_given_labels_all_images(folder: Path, network_file: Path, tmp_path: Path) -> None:
    result = audit(folder, tmp_path / "out", AuditOptions(network=network_file))
    assert result.images == 8
    assert "only if it has not seen them" in result.notes[0]
    assert not (tmp_path / "out").exists()


def test_a_single_group_has_no_folds(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found 1 group"):
        audit(folder, tmp_path / "out", AuditOptions(group_by="/(p)"))


def test_a_network_beside_a_budget_is_refused(
    folder: Path, network_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["audit", str(folder), "--network", str(network_file), "--budget", "3m"])
    assert "network: given beside what trains others" in capsys.readouterr().err
