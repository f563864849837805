"""`dilated convert-data` as a user runs it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dilated.cli.main import main
from dilated.data.dataset import open_dataset

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_folder_becomes_voc_and_is_read_as_it_was(folder: Path, tmp_path: Path, dilated: Run) -> None:
    done = dilated("convert-data", folder, tmp_path / "out", "--format", "voc")
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert "every label read back as it was" in done.stdout
    old, new = open_dataset(folder), open_dataset(tmp_path / "out")
    assert (new.format, new.classes.names) == ("voc", old.classes.names)
    by_stem = {pair.name.removeprefix("train_"): pair for pair in new.samples("train")}
    for pair in old.samples("train"):
        assert np.array_equal(pair.read_label(), by_stem[pair.name].read_label())


def test_ignored_pixels_are_one_message_and_nothing_is_written(folder: Path, tmp_path: Path, dilated: Run) -> None:
    done = dilated("convert-data", folder, tmp_path / "out", "--format", "yolo")
    assert done.returncode == 1
    assert "found ignored pixels" in done.stderr
    assert "--ignore-as-class CLASS" in done.stderr
    assert not list(tmp_path.glob("out*"))


def test_notes_are_printed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["convert-data", str(folder), str(tmp_path / "out"), "--format", "labelme", "--splits", "train"])
    printed = capsys.readouterr().out
    assert "note: Not written: the splits val." in printed
    assert "note: labelme has a class for pixels of no object: background" in printed
    assert open_dataset(tmp_path / "out").splits == ("train",)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            ("--seed", "1"),
            "error: --seed: given without --val\nhint: give the fraction of val too, such as --val 0.2\n",
        ),
        (("--val", "0.5", "--splits", "train"), "error: --splits: given beside --val, which makes train and val\n"),
    ],
)
def test_options_that_mean_nothing_are_errors(
    options: tuple[str, ...], error: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["convert-data", str(folder), str(tmp_path / "out"), "--format", "voc", *options])
    assert capsys.readouterr().err.startswith(error)
    assert not (tmp_path / "out").exists()
