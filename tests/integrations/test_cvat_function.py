"""The auto-annotation function for CVAT: its masks as cvat-sdk and our reader of CVAT's export decode them."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dilated import Predictor, Segmenter, SegmenterConfig
from dilated.data.dataset import open_dataset
from dilated.errors import InputError
from dilated.integrations.cvat import CVATFunction, create

tool = pytest.importorskip("cvat_sdk.auto_annotation", reason="cvat-sdk is not installed; `pip install cvat-sdk`")
masks = pytest.importorskip("cvat_sdk.masks", reason="cvat-sdk is not installed; `pip install cvat-sdk`")

NAMES = ["sky", "road", "car"]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    segmenter = Segmenter(NAMES, [(0, 0, 0), (9, 9, 9), (99, 0, 0)], SegmenterConfig(backbone="resnet18", features=8))
    return Predictor(segmenter, device="cpu")


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 70, 3), dtype=np.uint8))


def context(polygons: bool = False, threshold: float | None = None) -> Any:
    return SimpleNamespace(frame_name="a.png", conf_threshold=threshold, conv_mask_to_poly=polygons)


def test_the_labels_are_the_classes_under_their_names(predictor: Predictor) -> None:
    spec = CVATFunction(predictor).spec
    assert isinstance(spec, tool.DetectionFunctionSpec)
    assert [(label.name, label.id) for label in spec.labels] == [("sky", 0), ("road", 1), ("car", 2)]


def test_cvats_decoder_reads_the_masks_back(predictor: Predictor, image: Image.Image) -> None:
    shapes = CVATFunction(predictor).detect(context(), image)
    labels = predictor(image).labels
    drawn = np.full(labels.shape, 255)
    for shape in shapes:
        mask = masks.decode_mask(shape.points, image_width=70, image_height=48)
        assert shape.points == masks.encode_mask(labels == shape.label_id)
        drawn[mask] = shape.label_id
    assert len(shapes) > 1
    assert (drawn == labels).all()


@pytest.mark.parametrize("polygons", [False, True])
def test_what_cvat_exports_is_read_as_the_labels(
    predictor: Predictor, image: Image.Image, tmp_path: Path, polygons: bool
) -> None:
    shapes = CVATFunction(predictor).detect(context(polygons), image)
    assert {str(shape.type) for shape in shapes} == {"polygon" if polygons else "mask"}
    image.save(tmp_path / "a.png")
    (tmp_path / "annotations.xml").write_text(export(shapes, image.size), encoding="utf-8")
    dataset = open_dataset(tmp_path)
    ids = [dataset.classes.names.index(name) for name in NAMES]
    label = dataset.samples("train")[0].read_label()
    assert (label == np.array(ids)[predictor(image).labels]).all()


def export(shapes: list[Any], size: tuple[int, int]) -> str:
    """What CVAT writes as "CVAT for images 1.1" after the shapes were stored."""
    lines = []
    for shape in shapes:
        name, points = NAMES[shape.label_id], shape.points
        if str(shape.type) == "mask":
            left, top, right, bottom = (int(number) for number in points[-4:])
            runs = ", ".join(str(int(number)) for number in points[:-4])
            box = f'left="{left}" top="{top}" width="{right - left + 1}" height="{bottom - top + 1}"'
            lines.append(f'<mask label="{name}" source="auto" rle="{runs}" {box} z_order="0"></mask>')
        else:
            pairs = ";".join(f"{x:.2f},{y:.2f}" for x, y in zip(points[::2], points[1::2], strict=True))
            lines.append(f'<polygon label="{name}" source="auto" points="{pairs}" z_order="{shape.z_order}"></polygon>')
    labels = "".join(f"<label><name>{name}</name></label>" for name in NAMES)
    head = f"<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    image = f'<image id="0" subset="train" name="a.png" width="{size[0]}" height="{size[1]}">'
    return f"{head}{image}{''.join(lines)}</image></annotations>"


def test_cvats_own_driver_accepts_the_shapes(predictor: Predictor, image: Image.Image) -> None:
    driver = pytest.importorskip("cvat_sdk.auto_annotation.driver", reason="cvat-sdk is not installed")
    function = CVATFunction(predictor, ["road", "car"])
    stored = [
        SimpleNamespace(id=70 + i, name=name, type="any", attributes=[], sublabels=[]) for i, name in enumerate(NAMES)
    ]
    for polygons in (False, True):
        mapper = driver._AnnotationMapper(
            logging.getLogger("cvat"),
            function.spec.labels,
            stored,
            allow_unmatched_labels=False,
            conv_mask_to_poly=polygons,
        )
        shapes = function.detect(context(polygons), image)
        mapper.validate_and_remap(shapes, 5)
        assert {shape.label_id for shape in shapes} <= {71, 72}
        assert {shape.frame for shape in shapes} == {5}


def test_pixels_below_the_threshold_are_in_no_shape(predictor: Predictor, image: Image.Image) -> None:
    confidence = predictor(image, logits=True).confidence
    threshold = float(np.median(confidence))
    shapes = CVATFunction(predictor).detect(context(threshold=threshold), image)
    drawn = sum(masks.decode_mask(shape.points, image_width=70, image_height=48).astype(int) for shape in shapes)
    assert (drawn == (confidence >= threshold)).all()


def test_a_class_that_the_network_lacks_is_named(predictor: Predictor) -> None:
    with pytest.raises(InputError, match="'bus' is not a class"):
        CVATFunction(predictor, ["bus"])


def test_the_command_line_of_cvat_creates_the_function_from_texts() -> None:
    parameters = {"network": "street", "classes": "Road, Car", "device": "cpu", "tile": 128}
    function = create(**parameters)
    assert [label.name for label in function.spec.labels] == ["Road", "Car"]
    common = pytest.importorskip("cvat_cli._internal.common", reason="cvat-cli is not installed")
    loaded = common.FunctionLoader("dilated.integrations.cvat", None, parameters).load()
    assert [label.name for label in loaded.spec.labels] == ["Road", "Car"]
