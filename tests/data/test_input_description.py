"""What a data set's images hold, by classes.toml and by the images themselves."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.band_files import BANDS, FIELD_CLASSES, band_values, make_field, save_fields, write_geotiff

from dilated.cli.main import main
from dilated.config import build_dataclass
from dilated.data.augment import AugmentConfig, ReflectCropConfig
from dilated.data.check.check import check
from dilated.data.convert import convert
from dilated.data.dataset import open_dataset
from dilated.data.input_description import InputRules, describe_images, format_proposal
from dilated.data.torch_dataset import TrainingSamples
from dilated.errors import InputError
from dilated.input_config import InputConfig


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_fields(tmp_path_factory.mktemp("fields"))


def copy_fields(root: Path, table: str) -> Path:
    save_fields(root)
    (root / "classes.toml").write_text(FIELD_CLASSES + table)
    return root


def test_bands_numbers_nodata_and_range_are_guessed_from_the_training_images(fields: Path) -> None:
    config = open_dataset(fields).input
    assert config is not None
    assert (config.bands, config.dtype, config.scaling, config.nodata) == (BANDS, "uint16", "percentile", 0)
    pixels = np.concatenate([values[values.any(2)] for i in (0, 1, 3, 4) for values in [make_field(i)[0]]])
    np.testing.assert_allclose(config.low, np.percentile(pixels, 1, axis=0), rtol=1e-4)
    np.testing.assert_allclose(config.high, np.percentile(pixels, 99, axis=0), rtol=1e-4)
    scaled = config.scale(pixels[None])[0]
    np.testing.assert_allclose(config.mean, scaled.mean(0), rtol=1e-4)
    np.testing.assert_allclose(config.std, scaled.std(0), rtol=1e-4)


@pytest.mark.parametrize("split", ["train", "val"])
def test_samples_have_the_files_values_and_no_class_where_they_have_no_data(fields: Path, split: str) -> None:
    sample = open_dataset(fields).samples(split)[0]
    values, label = make_field(int(sample.name[1:]))
    image, target = sample.read()
    assert np.array_equal(image, values)
    assert (target[:6, :9] == 255).all()
    assert np.array_equal(np.where(target == 255, label, target), label)
    assert sample.size() == (48, 64)


def test_a_torch_data_set_gives_scaled_bands(fields: Path) -> None:
    data = open_dataset(fields)
    image, label = data["train"][0]
    assert data.input is not None
    assert (image.shape, image.dtype, label.dtype) == ((4, 48, 64), torch.float32, torch.int64)
    torch.testing.assert_close(image[:, 0, 0], torch.tensor(data.input.mean))
    assert image.min() >= -1
    assert image.max() <= 2


@pytest.mark.parametrize("augment", [AugmentConfig(crop=(80, 40)), ReflectCropConfig(crop=(40, 48), margin=0), None])
@pytest.mark.parametrize("table", ["", '[input]\nscaling = "image"\n'])
def test_training_samples_are_scaled_and_repeat(tmp_path: Path, augment: Any, table: str) -> None:
    samples = TrainingSamples(open_dataset(copy_fields(tmp_path, table)).samples("train"), augment, cache=True)
    image, label = samples[(1, 5)]
    assert image.dtype == torch.float32
    assert image.shape[0] == 4
    assert image.isfinite().all()
    assert abs(float(image.mean()) - 0.45) < 0.35
    assert set(label.unique().tolist()) <= {0, 1, 255}
    assert torch.equal(samples[(1, 5)][0], image)


def test_jitter_changes_all_bands_alike_and_cuts_nothing_off() -> None:
    torch.manual_seed(1)
    image = torch.rand(5, 8, 9) * 3 - 1
    settings = {"crop": (8, 9), "scale": (1.0, 1.0), "flip": False}
    config = InputConfig(tuple("abcde"), "uint16")
    brighter, label = AugmentConfig(**settings, contrast=0, saturation=0).build(config)(image, torch.ones(8, 9).byte())
    factor = brighter / image
    assert float(factor.std()) < 1e-4
    assert abs(float(factor.mean()) - 1) <= 0.3
    assert brighter.min() < -0.5
    assert label.min() == 1
    spectral, _ = AugmentConfig(**settings, brightness=0, contrast=0).build(config)(image, label)
    torch.testing.assert_close(spectral.mean(0), image.mean(0))
    assert not torch.allclose(spectral, image)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("low = [0.0, 0.0, 0.0, 0.0]\nhigh = [4000, 4000, 4000, 4000]", {"scaling": "fixed", "high": (4000.0,) * 4}),
        ('scaling = "fixed"', {"scaling": "fixed", "low": (0.0,) * 4, "high": (65535.0,) * 4}),
        ('scaling = "image"', {"scaling": "image"}),
        ("nodata = 17", {"nodata": 17.0}),
        ('bands = ["nir", "red"]', {"bands": ("nir", "red")}),
        ('bands = ["b1", "b2", "b3", "b4"]', {"bands": ("b1", "b2", "b3", "b4")}),
    ],
)
def test_classes_toml_says_what_should_not_be_guessed(tmp_path: Path, table: str, expected: dict[str, Any]) -> None:
    data = open_dataset(copy_fields(tmp_path, f"[input]\n{table}\n"))
    assert data.input is not None
    assert {key: getattr(data.input, key) for key in expected} == expected
    assert data.samples("train")[0].read_image().shape[2] == len(data.input.bands)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("band = []", "unknown key 'band'. Did you mean 'bands'"),
        ('scaling = "log"', "scaling: found 'log'"),
        (
            'bands = ["red", "swir"]',
            r"found 4 bands \(red, green, blue, nir\) of uint16; expected 2 bands \(red, swir\)",
        ),
        ("low = [1.0]", "input.low: found"),
    ],
)
def test_a_wrong_table_is_an_error_and_a_finding(tmp_path: Path, table: str, message: str) -> None:
    copy_fields(tmp_path, f"[input]\n{table}\n")
    with pytest.raises(InputError, match=message):
        open_dataset(tmp_path).samples("train")
    assert any(finding.severity == "error" for finding in check(tmp_path).findings)


def test_the_proposal_of_check_is_what_was_guessed(fields: Path, tmp_path: Path) -> None:
    report = check(fields)
    assert not report.errors
    assert report.input is not None
    (note,) = [note for note in report.notes if "[input]" in note]
    assert "Images hold 4 bands (red, green, blue, nir) of uint16 from" in note
    assert "nodata 0" in note
    pasted = open_dataset(copy_fields(tmp_path, format_proposal(report.input) + "\n")).input
    assert pasted == replace(report.input, is_exact=False)


def test_the_command_prints_the_table_to_paste_as_lines(fields: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        main(["check", str(fields)])
    printed = capsys.readouterr().out
    assert '\n\n[input]\nbands = ["red", "green", "blue", "nir"]\n' in printed
    assert "\\n" not in printed


def test_check_counts_no_pixel_without_data_and_says_how_images_are_stored(fields: Path) -> None:
    report = check(fields)
    statistics = report.splits["train"]
    assert statistics.ignored == 4 * 6 * 9
    assert statistics.modes == {"4 bands of uint16": 4}
    assert statistics.formats == {"TIFF": 4}


def test_check_names_images_of_other_bands_and_of_another_range(tmp_path: Path) -> None:
    save_fields(tmp_path, count=12)
    values, _ = make_field(0)
    write_geotiff(tmp_path / "images/train/s1.tif", values[..., :3], BANDS[:3])
    write_geotiff(tmp_path / "images/val/s2.tif", values // 500, BANDS)
    texts = {finding.kind: finding.text for finding in check(tmp_path).findings}
    assert "s1.tif: found 3 bands (red, green, blue) of uint16; expected 4 bands" in texts["unreadable image"]
    assert "s2.tif: its values are from 0 to" in texts["image of another range"]


def save_uneven(root: Path, kind: str = "named.tif", table: str = "") -> Path:
    """The fields with two bands, and one image of train and one of val with four."""
    save_fields(root, BANDS[:2])
    for i in range(6):
        (path,) = root.glob(f"images/*/s{i}.tif")
        values = make_field(i)[0][..., : 4 if i in (1, 2) else 2]
        path.unlink()
        if kind == ".npy":
            np.save(path.with_suffix(".npy"), values)
        else:
            write_geotiff(path, values, BANDS[: values.shape[2]] if kind == "named.tif" else (), nodata=0)
    (root / "classes.toml").write_text(FIELD_CLASSES + table)
    return root


@pytest.mark.parametrize("kind", ["named.tif", "unnamed.tif", ".npy"])
def test_bands_that_only_some_images_have_are_never_left_out_unsaid(tmp_path: Path, kind: str) -> None:
    data = open_dataset(save_uneven(tmp_path, kind))
    findings = [finding.text for finding in check(tmp_path).findings if finding.kind == "unreadable image"]
    assert len(findings) == 2
    assert all("found 4 bands" in text and "expected 2 bands" in text for text in findings)
    for sample in (data.samples("train")[1], data.samples("val")[0]):
        with pytest.raises(InputError, match=rf"{sample.name}\.\w+: found 4 bands .* and no others") as error:
            sample.read()
        assert 'bands = ["' in str(error.value.hint)


def test_bands_that_classes_toml_names_are_picked_among_more(tmp_path: Path) -> None:
    data = open_dataset(save_uneven(tmp_path, table='[input]\nbands = ["green", "red"]\n'))
    assert not check(tmp_path).errors
    assert np.array_equal(data.samples("val")[0].read_image(), make_field(2)[0][..., 1::-1])


def test_values_of_12_bits_are_described_not_divided(tmp_path: Path) -> None:
    images = []
    for i in range(3):
        images.append(tmp_path / f"{i}.png")
        Image.fromarray(band_values(1, np.uint16, 4095)[:, :, 0]).save(images[-1])
    config = describe_images(images)
    assert config is not None
    assert config.bands == ("gray",)
    assert 3900 < config.high[0] <= 4095


def test_images_of_8_bits_need_no_description(tmp_path: Path) -> None:
    images = []
    for i, mode in enumerate(("RGB", "L", "P", "RGBA")):
        images.append(tmp_path / f"{i}.png")
        Image.new(mode, (9, 8)).save(images[-1])
    assert describe_images(images) is None
    Image.new("I;16", (9, 8), 60000).save(tmp_path / "wide.png")
    assert describe_images([*images, tmp_path / "wide.png"]) is None
    assert describe_images(images[:1], InputRules()) is not None


def test_more_bands_than_a_network_reads_are_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.random.default_rng(0).random((30, 40, 20)).astype(np.float32))
    assert describe_images([path]) is not None
    many = write_geotiff(tmp_path / "a.tif", band_values(25, np.float32), tuple(f"b{i}" for i in range(25)))
    with pytest.raises(InputError, match="found 25 bands") as error:
        describe_images([many])
    assert "[input] with bands" in error.value.hint
    config = describe_images([many], InputRules(bands=("b24", "b3")))
    assert config is not None
    assert config.bands == ("b24", "b3")


def test_a_band_of_nothing_but_nodata_is_refused(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.zeros((9, 8, 4), np.uint16), BANDS, nodata=0)
    with pytest.raises(InputError, match="no pixel of 1 images has data"):
        describe_images([path])


def test_a_table_of_input_alone_keeps_the_data_s_own_classes(tmp_path: Path) -> None:
    save_fields(tmp_path)
    (tmp_path / "classes.toml").write_text("[input]\nnodata = 0\n")
    with pytest.raises(InputError, match="nothing else names the classes"):
        open_dataset(tmp_path)


def test_such_images_are_not_converted_to_formats_of_rgb(fields: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="voc is written with images of 8-bit RGB"):
        convert(fields, tmp_path / "out", "voc")


def test_a_description_is_read_back_from_its_table() -> None:
    config = InputConfig(BANDS, "int16", "percentile", (1.0,) * 4, (9.0,) * 4, -1.0)
    assert build_dataclass(InputConfig, vars(config), "network.input") == config


def test_check_says_aloud_that_16_bits_are_used_in_part(tmp_path: Path) -> None:
    save_fields(tmp_path)
    (note,) = [note for note in check(tmp_path).notes if "[input]" in note]
    assert "as 8-bit RGB 11 levels of 256 would remain" in note
