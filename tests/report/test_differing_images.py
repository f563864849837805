"""Images on which networks differ: which are chosen, what is drawn of them, and the page of `dilated compare`."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CLASSES, draw
from PIL import Image

from dilated import Predictor, Segmenter, SegmenterConfig
from dilated.cli.main import main
from dilated.data.sample import Sample
from dilated.report.differing_images import show_differing_images

NAN = float("nan")


def make_samples(folder: Path, count: int) -> list[Sample]:
    samples = [Sample(folder / f"{i}.png", folder / f"{i}_label.png", classes=CLASSES) for i in range(count)]
    for i, sample in enumerate(samples):
        for image, path in zip(draw(i), (sample.image, sample.label), strict=True):
            image.save(path)
    return samples


def test_the_most_different_images_come_first_with_each_prediction(tmp_path: Path) -> None:
    samples, asked = make_samples(tmp_path, 5), []

    def make_predictor(name: str, index: int) -> Any:
        asked.append((name, index))
        labels = np.full((40, 56), 1 if name == "a" else 2, dtype=np.uint8)
        reverse = CLASSES.names[::-1] if name == "b" else CLASSES.names  # 2 is then the first class
        return make_constant(labels, reverse)

    means = np.array([[0.5, 0.9, 0.5, NAN, 0.2], [0.4, 0.1, 0.5, 0.1, 0.5]])
    images = show_differing_images(["a", "b"], means, samples, CLASSES, make_predictor, 3)
    assert [image.name for image in images] == ["1", "4", "0"]  # not 2, on which they agree, nor 3 without a figure
    assert asked == [("a", 1), ("a", 4), ("a", 0), ("b", 1), ("b", 4), ("b", 0)]
    assert list(images[0].panels) == ["image", "truth", "a", "b"]
    assert images[0].mean_iou == {"a": 0.9, "b": 0.1}
    assert decode(images[0].panels["a"])[20, 20].tolist() == list(CLASSES.colors[1])
    assert decode(images[0].panels["b"])[20, 20].tolist() == list(CLASSES.colors[0])


def make_constant(labels: np.ndarray, classes: tuple[str, ...]) -> Any:
    class Constant:
        segmenter = SimpleNamespace(classes=classes)

        def __call__(self, image: np.ndarray) -> SimpleNamespace:
            assert image.shape == (40, 56, 3)
            return SimpleNamespace(labels=labels)

    return Constant()


def decode(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def test_one_network_differs_from_none(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, 1)
    assert show_differing_images(["a"], np.array([[0.5]]), samples, CLASSES, lambda name, i: Predictor("street")) == []


def test_compare_writes_a_page_with_both_predictions(folder: Path, network_file: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    config = SegmenterConfig(backbone="test_efficientnet", features=8)
    Segmenter(CLASSES.names, CLASSES.colors, config).save(tmp_path / "other.safetensors")
    page = tmp_path / "page.html"
    other, figures = tmp_path / "other.safetensors", tmp_path / "figures.json"
    main(["compare", str(network_file), str(other), str(folder), "--page", str(page), "--json", str(figures)])
    text = page.read_text()
    table = json.loads(figures.read_text())
    for name in CLASSES.names:
        (row,) = re.findall(rf"<th scope=\"row\">.{{1,120}}<span>{name}</span>.*", text)
        ours, theirs, *rest = map(float, re.findall(r'<data value="([^"]+)"', row))
        assert ours == pytest.approx(table["candidate"]["iou"][name])
        assert theirs == pytest.approx(table["baseline"]["iou"][name])
        assert rest == pytest.approx([table["difference"]["iou"][name]["value"]])
    assert "Images on which the two differ most" in text
    assert text.count("<figcaption>truth") == text.count("<figcaption>A: ") == text.count("<figcaption>B: ") >= 1
    assert "cannot be told apart" in text or "is not shown" in text
