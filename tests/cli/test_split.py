"""`dilated split`, and the verbs that take its lists and folds."""

from __future__ import annotations

from pathlib import Path

import healthy
import pytest

from dilated.cli.main import main
from dilated.data.dataset import open_dataset


def rename_to_films(root: Path) -> None:
    """Give the images of each split the names of two films."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            for number, path in enumerate(sorted((root / kind / split).iterdir())):
                path.rename(path.with_name(f"{split}{number % 2}film_{number}{path.suffix}"))


def test_split_prints_its_parts_and_writes_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = healthy.streets(tmp_path)
    rename_to_films(root)
    main(["split", str(root), "--folds", "2", "--out", str(tmp_path / "lists"), "--seed", "4"])
    text = capsys.readouterr().out
    assert "in 4 groups" in text
    assert "Seed 4." in text
    assert "fold 2" in text
    listed = [(tmp_path / "lists" / f"fold{k}" / "val.txt").read_text().split() for k in (1, 2)]
    names = [sample.name for split in ("train", "val") for sample in open_dataset(root).samples(split)]
    assert sorted(listed[0] + listed[1]) == sorted(names)


def test_a_fold_that_is_none_is_refused_by_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = healthy.streets(tmp_path)
    with pytest.raises(SystemExit):
        main(["train", str(root), "--out", str(tmp_path / "run"), "--fold", "3/2"])
    assert "there is no fold 3 of 2" in capsys.readouterr().err


def test_train_takes_a_fold_and_its_run_remembers_it(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    from dilated.api import Run

    words = ["train", str(folder), "--out", str(tmp_path / "run"), "--recipe", str(recipe_file), "--fold", "2/4"]
    main([*words, "--group-by", "image", "--no-report", "--device", "cpu"])
    run = Run(tmp_path / "run")
    counts = {split: groups["groups"] for split, groups in run.segmenter.card["groups"].items()}
    total = sum(len(open_dataset(folder).samples(split)) for split in ("train", "val"))
    assert counts["train"] + counts["val"] == total
    assert counts["val"] == pytest.approx(total / 4, abs=1)
    assert len(run.evaluate(device="cpu").names) == counts["val"]
