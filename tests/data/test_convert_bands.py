"""Conversion of data sets whose images are not 8-bit RGB: their files are copied."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.band_files import save_fields

from dilated import InputError, convert, open_dataset
from dilated.data.sample import Sample


def named_label(sample: Sample) -> NDArray[np.str_]:
    """The label as names of classes."""
    assert sample.classes is not None
    return np.array([*sample.classes.names, *[""] * (256 - len(sample.classes))])[sample.read_label(sample.size())]


@pytest.mark.parametrize("format", ["folders", "colors", "yolo"])
def test_files_of_any_bands_are_copied_as_they_are(tmp_path: Path, format: str) -> None:
    data = open_dataset(save_fields(tmp_path / "fields"))
    convert(data, tmp_path / "out", format)
    converted = open_dataset(tmp_path / "out", format)
    originals = {sample.name: sample for sample in data.samples("train")}
    for sample in converted.samples("train"):
        original = originals.pop(sample.name)
        assert sample.image.suffix == ".tif"
        assert sample.image.read_bytes() == original.image.read_bytes()
        assert (named_label(sample) == named_label(original)).all()
    assert not originals
    assert list((tmp_path / "out").rglob("images/*.png")) == []


def test_the_description_of_the_input_is_kept(tmp_path: Path) -> None:
    data = open_dataset(save_fields(tmp_path / "fields"))
    convert(data, tmp_path / "out", "folders")
    assert open_dataset(tmp_path / "out").input == replace(data.input, is_exact=False)  # stated now, not guessed


def test_a_format_of_rgb_is_refused_with_those_that_copy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="voc is written with images of 8-bit RGB") as error:
        convert(save_fields(tmp_path / "fields"), tmp_path / "out", "voc")
    assert "folders" in str(error.value)
    assert not (tmp_path / "out").exists()
