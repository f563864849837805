"""What `predict --save labelme` writes, as labelme's own reader opens it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated import Predictor
from dilated.cli.main import main
from dilated.data.masks import rasterize_polygon


def test_labelme_opens_the_files_beside_their_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies
        reason = "labelme is not installed; `pip install labelme` tests it"
        labelme = pytest.importorskip("labelme._label_file", reason=reason)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    main(["predict", "street", str(tmp_path), "--out", str(tmp_path), "--save", "labelme"])
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = labelme.read_label_file(str(tmp_path / "a.json"))
    prediction = Predictor("street")(pixels)
    drawn = np.full((60, 80), 255)
    for shape in data.shapes:
        drawn[rasterize_polygon(np.array(shape["points"]), (60, 80))] = prediction.classes.index(shape["label"])
    assert data.image_data
    assert (drawn == prediction.labels).all()
