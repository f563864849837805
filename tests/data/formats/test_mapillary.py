"""Mapillary Vistas: its config, palette masks and 16-bit instances."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tool_files import image, labels, text

from dilated.data.dataset import open_dataset
from dilated.errors import InputError

CONFIG = {
    "labels": [
        {"color": [165, 42, 42], "evaluate": True, "instances": True, "name": "animal--bird", "readable": "Bird"},
        {"color": [0, 0, 0], "evaluate": False, "instances": False, "name": "void--car-mount", "readable": "Car Mount"},
        {
            "color": [196, 196, 196],
            "evaluate": True,
            "instances": False,
            "name": "construction--curb",
            "readable": "Curb",
        },
    ],
    "version": "1.2",
    "mapping": "public",
    "folder_structure": "{split}/{content}/{image_id:s}.{extension:s}",
}


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ("config.json", "labels"),
        ("config_v1.2.json", "v1.2/labels"),
        ("config_v2.0.json", "v2.0/labels"),
        ("config.json", "instances"),
        ("config_v2.0.json", "v2.0/instances"),
    ],
)
def test_mapillarys_labels_that_are_not_evaluated_are_ignored(config: str, place: str, tmp_path: Path) -> None:
    text(tmp_path / config, json.dumps(CONFIG))
    image(tmp_path / "training" / "images" / "a.jpg", 3, 1)
    values = np.array([[0, 1, 2]], np.uint16)
    path = tmp_path / "training" / place / "a.png"
    path.parent.mkdir(parents=True)
    if "instances" in place:
        Image.fromarray(values * 256 + 7).save(path)
    else:
        mask = Image.fromarray(values.astype(np.uint8))
        mask.putpalette([value for label in CONFIG["labels"] for value in label["color"]])  # type: ignore[index]
        mask.save(path)
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("mapillary", ("train",))
    assert data.classes.names == ("animal--bird", "construction--curb")
    assert data.classes.colors[1] == (196, 196, 196)
    assert labels(data) == [[[0, 255, 1]]]


def test_mapillarys_newer_version_is_read_and_said(tmp_path: Path) -> None:
    for version in ("v1.2", "v2.0"):
        text(tmp_path / f"config_{version}.json", json.dumps(CONFIG))
        (tmp_path / "training" / version / "labels").mkdir(parents=True)
        Image.new("L", (3, 1), 0 if version == "v1.2" else 2).save(tmp_path / f"training/{version}/labels/a.png")
    image(tmp_path / "training" / "images" / "a.jpg", 3, 1)
    data = open_dataset(tmp_path)
    assert labels(data) == [[[1, 1, 1]]]
    assert data.notes[0].startswith("The labels are those of config_v2.0.json")


@pytest.mark.parametrize("content", ["{", "[]", '{"labels": 3}', '{"labels": [{"name": "a"}]}'])
def test_a_damaged_config_of_mapillary_is_an_error(content: str, tmp_path: Path) -> None:
    text(tmp_path / "config.json", content)
    image(tmp_path / "training" / "images" / "a.jpg")
    with pytest.raises(InputError, match=r"config\.json"):
        open_dataset(tmp_path)


def test_a_config_that_is_a_folder_does_not_stop_the_search_for_the_layout(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(InputError, match=r"found config\.json. Expected"):
        open_dataset(tmp_path)
