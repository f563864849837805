from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated.cli.main import main


def write(folder: Path, seed: int, names: str = "abcd") -> Path:
    folder.mkdir()
    random = np.random.default_rng(seed)
    for name in names:
        Image.fromarray(random.integers(0, 3, (9, 9)).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def test_all_is_printed_and_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    truth, ours, theirs = (write(tmp_path / name, seed) for seed, name in enumerate(("truth", "ours", "theirs")))
    files = ["--json", f"{tmp_path}/f.json", "--csv", f"{tmp_path}/f.csv", "--page", f"{tmp_path}/f.html"]
    main(["score", str(ours), str(truth), "--classes", "3", "--baseline", str(theirs), "--worst", "1", *files])
    text = capsys.readouterr().out
    found = json.loads((tmp_path / "f.json").read_text())
    assert "what others would print:\n  " in text
    assert f"{found['mean_iou']:.4f}  this package, Cityscapes class IoU" in text
    assert f"{found['comparison']['difference']['mean_iou']['value']:+.4f}" in text
    assert found["interval_over"]["text"] in " ".join(text.split())
    assert len((tmp_path / "f.csv").read_text().splitlines()) == 5
    assert "What others would print" in (tmp_path / "f.html").read_text()


def test_a_missing_prediction_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    truth, ours = write(tmp_path / "truth", 0), write(tmp_path / "ours", 1, "abc")
    with pytest.raises(SystemExit):
        main(["score", str(ours), str(truth), "--classes", "3"])
    assert "1 of 4 images have no prediction, first d" in capsys.readouterr().err
