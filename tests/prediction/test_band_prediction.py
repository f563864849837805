"""Labels of images of other bands, numbers and ranges than 8-bit RGB."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from support.band_files import write_geotiff

from dilated.data.raster.bands import read_bands
from dilated.errors import InputError
from dilated.input_config import InputConfig
from dilated.models.segmenter import Segmenter, SegmenterConfig
from dilated.prediction.pipeline import PipelineOptions, predict_sources
from dilated.prediction.predictor import Predictor
from dilated.prediction.raster_prediction import predict_raster
from dilated.prediction.sources import search_sources
from dilated.prediction.tiling import TilePlan
from dilated.weights.bundled import load

BANDS = ("red", "green", "blue", "nir")


def make_network(config: InputConfig | None) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(["a", "b", "c"], config=SegmenterConfig(backbone="resnet18", levels=3, features=8, input=config))


_PLANS: list[TilePlan | None] = []


def make_predictor(config: InputConfig | None, **options: Any) -> Predictor:
    """A predictor whose margin, the same for all configs, is measured once."""
    predictor = Predictor(make_network(config), device="cpu", **options)
    if "tile" in options:
        if not _PLANS:
            _PLANS.append(predictor.tile_plan)
        predictor.__dict__["tile_plan"] = _PLANS[0]
    return predictor


def make_scene(height: int = 70, width: int = 90, dtype: Any = np.uint16) -> np.ndarray:
    """(H, W, 4) smooth values of 200 to 4000, with a corner that has no data."""
    waves = np.add.outer(np.sin(np.arange(height) / 9), np.cos(np.arange(width) / 7))
    values = np.stack([2100 + 900 * waves * (1 - i / 9) for i in range(4)], 2) + 30 * np.arange(4)
    values[:20, :30] = 0
    return values.astype(dtype)


CONFIGS = {
    "fixed": InputConfig(BANDS, "uint16", high=(4000.0,) * 4, nodata=0),
    "percentile": InputConfig(BANDS, "uint16", "percentile", (300.0,) * 4, (3800.0,) * 4, nodata=0),
    "image": InputConfig(BANDS, "uint16", "image", nodata=0),
}


@pytest.mark.parametrize(("scaling", "views"), [("fixed", {"flips": True, "scales": (1.0, 1.25)}), ("image", {})])
def test_tiles_give_the_labels_of_the_whole_image(scaling: str, views: dict[str, Any]) -> None:
    scene = make_scene(540, 50)
    expected = make_predictor(CONFIGS[scaling], **views)(scene, logits=True)
    tiled = make_predictor(CONFIGS[scaling], tile=128, **views)(scene, logits=True)
    assert tiled.logits is not None
    torch.testing.assert_close(tiled.logits, expected.logits, rtol=1e-3, atol=1e-4)
    assert (tiled.labels == expected.labels).mean() > 0.999


@pytest.mark.parametrize("options", [{}, {"tile": 64}])
def test_pixels_without_data_have_no_class(options: dict[str, int]) -> None:
    prediction = make_predictor(CONFIGS["fixed"], **options)(make_scene())
    assert (prediction.labels[:20, :30] == 255).all()
    assert (prediction.labels[20:] < 3).all()
    assert sum(prediction.class_fractions().values()) == pytest.approx(1)
    assert all(polygon.value < 3 for polygon in prediction.polygons())
    assert not np.asarray(prediction.color_image())[:20, :30].any()


def test_what_has_no_data_changes_no_label_elsewhere_by_its_value() -> None:
    network, scene = make_network(InputConfig(BANDS, "float32", high=(4000.0,) * 4, nodata=-1)), make_scene()
    values = scene.astype(np.float32)
    labels = []
    for missing in (-1, np.nan):
        values[:20, :30] = missing
        labels.append(Predictor(network, device="cpu")(values).labels)
    assert np.array_equal(*labels)


def test_the_network_file_keeps_what_it_reads(tmp_path: Path) -> None:
    network = make_network(CONFIGS["percentile"])
    network.save(tmp_path / "a.safetensors", half=False)
    loaded = load(str(tmp_path / "a.safetensors"))
    assert loaded.input == CONFIGS["percentile"]
    scene = make_scene()
    assert np.array_equal(Predictor(loaded, device="cpu")(scene).labels, Predictor(network, device="cpu")(scene).labels)


@pytest.mark.parametrize("form", ["path", "bytes", "file", "tensor"])
def test_every_form_of_an_image_has_the_same_labels(tmp_path: Path, form: str) -> None:
    scene, predictor = make_scene(), make_predictor(CONFIGS["fixed"])
    path = write_geotiff(tmp_path / "a.tif", scene, BANDS, nodata=0)
    forms = {
        "path": path,
        "bytes": path.read_bytes(),
        "file": io.BytesIO(path.read_bytes()),
        "tensor": torch.tensor(scene).permute(2, 0, 1),
    }
    assert np.array_equal(predictor(forms[form]).labels, predictor(scene).labels)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (make_scene()[:, :, :3], r"an array of shape \(70, 90, 3\) of uint16"),
        (make_scene(dtype=np.int16), "of int16"),
        (make_scene() // 1000, "its values are from 0 to 3"),
        (make_scene() + 30000, "its values are from 30000 to"),
        (Image.new("RGB", (9, 9)), r"an array of shape \(9, 9, 3\) of uint8"),
    ],
)
def test_an_image_of_other_bands_or_range_is_refused_with_both_described(image: Any, found: str) -> None:
    with pytest.raises(InputError, match=found) as error:
        Predictor(make_network(InputConfig(BANDS, "uint16", high=(4000.0,) * 4)), device="cpu")(image)
    assert "the network reads 4 bands (red, green, blue, nir) of uint16 from 0 to 4000" in error.value.message


def test_a_network_of_rgb_refuses_values_of_12_bits() -> None:
    predictor = make_predictor(None)
    for image in (make_scene()[:, :, 0], make_scene()[:, :, :3], Image.fromarray(make_scene()[:, :, 0])):
        with pytest.raises(InputError, match="16-bit values are 0 to"):
            predictor(image)


def write_scenes(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [write_geotiff(folder / "tiff.tif", make_scene(), BANDS, nodata=0, crs="EPSG:32632")]
    np.save(folder / "array.npy", make_scene())
    return [*paths, folder / "array.npy"]


def test_all_forms_of_output_are_written(tmp_path: Path) -> None:
    paths = write_scenes(tmp_path / "in")
    predictor = make_predictor(CONFIGS["fixed"])
    options = PipelineOptions(save=("ids", "geojson", "coco", "csv", "labelme", "probabilities"), overlay=True)
    sources = search_sources(paths).sources
    result = predict_sources(predictor, sources, options.make_writers(tmp_path / "out", sources), options)
    assert not result.failures
    expected = predictor(make_scene()).labels
    for path in paths:
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / f"{path.stem}.png")), expected)


def test_a_file_of_other_bands_is_a_failure_and_the_others_are_labelled(tmp_path: Path) -> None:
    paths = write_scenes(tmp_path / "in")
    Image.new("RGB", (30, 30)).save(tmp_path / "in" / "rgb.png")
    predictor = make_predictor(CONFIGS["fixed"])
    sources = search_sources([*paths, tmp_path / "in" / "rgb.png"]).sources
    options = PipelineOptions()
    result = predict_sources(predictor, sources, options.make_writers(tmp_path / "out", sources), options)
    assert result.images == 2
    (failure,) = result.failures
    assert "rgb.png: found an 8-bit image of 3 bands (red, green, blue); expected 4 bands" in failure.reason


@pytest.mark.parametrize("scaling", CONFIGS)
def test_a_raster_has_the_labels_of_the_image_in_memory(tmp_path: Path, scaling: str) -> None:
    scene = make_scene(150, 140)
    path = write_geotiff(tmp_path / "a.tif", scene, BANDS, nodata=0, tiled=True, blockxsize=64, blockysize=64)
    predictor = make_predictor(CONFIGS[scaling], tile=128)
    result = predict_raster(predictor, path, tmp_path / "labels.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "labels.tif", key=0), predictor(path).labels)
    assert result.nodata_pixels == 600


def test_a_raster_of_another_range_is_refused(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", make_scene() + 30000, BANDS)
    predictor = make_predictor(CONFIGS["fixed"], tile=64)
    with pytest.raises(InputError, match=r"a\.tif: its values are from 30000 to \d+; the network reads 4 bands"):
        predict_raster(predictor, path, tmp_path / "labels.tif")


def test_a_raster_of_12_bits_is_not_reduced_for_a_network_of_rgb(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", make_scene(), BANDS)
    with pytest.raises(InputError, match=r"a\.tif: its 16-bit values are 0 to \d+; as 8-bit RGB"):
        predict_raster(make_predictor(None, tile=64), path, tmp_path / "labels.tif")


def test_an_image_read_from_disk_is_what_its_array_is(tmp_path: Path) -> None:
    scene = make_scene()
    path = write_geotiff(tmp_path / "a.tif", scene, BANDS, nodata=0)
    assert np.array_equal(read_bands(path, CONFIGS["image"]), scene)


@pytest.mark.parametrize("tile", [None, 64])
def test_an_image_of_more_bands_than_the_training_images_had_is_refused(tmp_path: Path, tile: int | None) -> None:
    config = replace(CONFIGS["fixed"], bands=("band_1", "band_2"), low=(), high=(4000.0,) * 2, mean=(), std=())
    np.save(tmp_path / "scene.npy", make_scene())
    options = {} if tile is None else {"tile": tile}
    predictor = make_predictor(replace(config, is_exact=True), **options)
    predict = partial(predict_raster, predictor, tmp_path / "scene.npy", tmp_path / "out.tif")
    with pytest.raises(InputError, match=r"scene\.npy: found 4 bands .*; expected 2 bands .* and no others"):
        predict() if tile else predictor(tmp_path / "scene.npy")
    assert make_predictor(config)(tmp_path / "scene.npy").labels.shape == (70, 90)
