"""tools/train_street.py keeps the last network of a training, with its figures on all of val."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import CLASSES, draw

from dilated import Segmenter, SegmenterConfig, load
from dilated.data.labels import save_classes

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import train_street

RECIPE = """
batch = 2
[network]
backbone = "test_efficientnet"
features = 8
detail = 4
detail_fine = 2
[augment]
crop = [32, 32]
[[stage]]
kind = "frontend"
epochs = 1
[[stage]]
kind = "frontend"
epochs = 1
"""


@pytest.mark.slow
def test_the_last_network_is_kept_with_its_figures_on_all_of_val(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, split in enumerate(["train"] * 4 + ["val"] * 3):
        for kind, image in zip(("images", "labels"), draw(seed), strict=True):
            folder = tmp_path / "data" / split / kind
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{seed}.png")
    save_classes(CLASSES, tmp_path / "data" / "classes.toml")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    torch.manual_seed(0)
    first = SegmenterConfig("test_efficientnet", features=8, detail=4)
    Segmenter(CLASSES.names, CLASSES.colors, first).save(tmp_path / "first.safetensors")
    arguments = ["train_street.py", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--seconds", "30"]
    arguments += ["--recipe", str(tmp_path / "recipe.toml"), "--init-from", str(tmp_path / "first.safetensors")]
    monkeypatch.setattr(sys, "argv", [*arguments, "--device", "cpu"])
    train_street.main()
    network = load(str(tmp_path / "out" / "street.safetensors"))
    assert (network.config.detail_fine, network.card["stage"]) == (2, 1)
    written = json.loads((tmp_path / "out" / "street.json").read_text(encoding="utf-8"))
    assert written["val"]["images"] == 3
    assert any("loss" in line for line in written["log"])
