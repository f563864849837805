"""Label files for the evaluation servers: names, ids, and networks that are not theirs."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dilated import InputError, Prediction, Segmenter, SegmenterConfig
from dilated.cli.main import main
from dilated.data.formats import cityscapes, voc
from dilated.data.formats.cityscapes import Cityscapes
from dilated.data.labels import Classes, decode_label, read_values
from dilated.prediction.sources import search_sources
from dilated.prediction.writers import make_writers
from dilated.prediction.writers.base import check_outputs
from dilated.prediction.writers.images import SERVERS


def network(path: Path, classes: Classes, reverse: bool = False) -> Path:
    torch.manual_seed(0)
    step = -1 if reverse else 1
    settings = SegmenterConfig(backbone="test_efficientnet", features=8)
    Segmenter(classes.names[::step], classes.colors[::step], settings).save(str(path))
    return path


def predicted(labels: np.ndarray, names: list[str]) -> Prediction:
    return Prediction(np.zeros((*labels.shape, 3), np.uint8), labels, None, names, [(0, 0, 0)] * len(names))


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(19)), seed=st.integers(0, 2**32 - 1))
def test_what_is_written_for_cityscapes_is_decoded_to_the_same_classes(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], seed: int
) -> None:
    path = tmp_path_factory.mktemp("server") / "x.png"
    names = [cityscapes.CLASSES.names[i] for i in order]
    labels = np.random.default_rng(seed).integers(0, 19, (5, 7)).astype(np.uint8)
    SERVERS["cityscapes"].make_writer(names)(predicted(labels, names), path)
    with Image.open(path) as image:
        assert image.mode == "L"
    assert np.array_equal(decode_label(read_values(path), cityscapes.CLASSES), np.array(order, np.uint8)[labels])


def test_cityscapes_takes_label_ids_not_train_ids(tmp_path: Path) -> None:
    labels = np.arange(19, dtype=np.uint8)[None]
    names = list(cityscapes.CLASSES.names)
    SERVERS["cityscapes"].make_writer(names)(predicted(labels, names), tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        written = np.asarray(image).tolist()
    assert written == [[7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]]


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(21)))
def test_what_is_written_for_voc_shows_its_colors(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    path = tmp_path_factory.mktemp("server") / "x.png"
    names = [voc.CLASSES.names[i] for i in order]
    SERVERS["voc-comp6"].make_writer(names)(predicted(np.arange(21, dtype=np.uint8)[None], names), path)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == [order]
        assert np.asarray(image.convert("RGB")).tolist() == [[list(voc.CLASSES.colors[i]) for i in order]]


def test_the_official_evaluation_finds_exactly_one_file_an_image() -> None:
    images = [Path(f"in/bonn/bonn_00000{i}_000019_leftImg8bit.png") for i in range(3)]
    written = [SERVERS["cityscapes"].label_path(image, Path("out")) for image in images]
    for i in range(3):
        assert fnmatch.filter([path.name for path in written], f"bonn_00000{i}_000019*.png") == [written[i].name]


@pytest.mark.parametrize(
    "stem", ["photo", "bonn_1_2_leftImg8bit", "bonn_000000_000019_gtFine_color", "a_b_000000_000019"]
)
def test_a_name_that_cityscapes_would_not_find_is_an_error(stem: str) -> None:
    with pytest.raises(InputError, match=f"the stem '{stem}' is not CITY_SEQUENCE_FRAME_leftImg8bit"):
        SERVERS["cityscapes"].label_path(Path(f"{stem}.png"), Path("out"))


@pytest.mark.parametrize("server", ["voc-comp6", "cityscapes"])
def test_a_network_of_other_classes_is_an_error_with_the_difference(server: str) -> None:
    names = [*SERVERS[server].classes.names[1:], "sofabed"]
    with pytest.raises(
        InputError,
        match=rf"only the network has \['sofabed'\], only the server has \['{SERVERS[server].classes.names[0]}'\]",
    ):
        SERVERS[server].make_writer(names)


def test_two_images_of_one_name_are_an_error(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / folder / "2008_000001.jpg")
    sources = search_sources([tmp_path]).sources
    check_outputs(sources, make_writers([], tmp_path / "out"))
    with pytest.raises(InputError, match="would both become"):
        check_outputs(sources, make_writers([], tmp_path / "out", SERVERS["voc-comp6"]))


def test_predict_writes_for_voc(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (33, 20)).save(tmp_path / "in" / "2008_000001.jpg")
    file = network(tmp_path / "n.safetensors", voc.CLASSES, reverse=True)
    out = tmp_path / "out"
    for form, extra in (("palette", ""), ("voc-comp6", "--overlay")):
        main(["predict", str(file), str(tmp_path / "in"), "--out", str(out), "--format", form, *extra.split()])
    written = sorted(p.relative_to(out).as_posix() for p in out.rglob("[!.]*") if p.is_file())
    target = "results/VOC2012/Segmentation/comp6_test_cls/2008_000001.png"
    assert written == ["2008_000001.overlay.jpg", "2008_000001.png", target]
    with Image.open(out / "2008_000001.png") as own, Image.open(out / target) as servers:
        assert np.array_equal(np.asarray(servers), 20 - np.asarray(own))
        assert servers.size == (33, 20)


def test_predict_writes_for_cityscapes(tmp_path: Path) -> None:
    Cityscapes.save(
        tmp_path, "test", [("bonn_000000_000019", np.zeros((20, 40, 3), np.uint8), np.zeros((20, 40), np.uint8))]
    )
    file = network(tmp_path / "n.safetensors", cityscapes.CLASSES)
    out = tmp_path / "out"
    main(["predict", str(file), str(tmp_path / "leftImg8bit"), "--out", str(out), "--format", "cityscapes"])
    assert [p.relative_to(out).as_posix() for p in out.rglob("[!.]*")] == ["bonn_000000_000019_pred.png"]
    assert decode_label(read_values(out / "bonn_000000_000019_pred.png"), cityscapes.CLASSES, (20, 40)).max() < 19


def test_predict_refuses_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], network_file: Path, folder: Path, tmp_path: Path
) -> None:
    run = ["predict", str(network_file), str(folder / "images" / "val"), "--out", str(tmp_path / "out"), "--format"]
    for form, text in (
        ("voc-comp6", "only the network has ['bar', 'disc', 'field']"),
        ("cityscapes", "the stem 'p0' is not"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*run, form])
        assert stop.value.code == 1
        assert text in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
