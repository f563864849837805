"""A network with a CRF-RNN, trained by a recipe: the paper's on its own sample grid, and one on a backbone of timm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from paper_stages import write_data
from PIL import Image

from dilated import CRFRNN, DenseCRF, InputError, Predictor, load, load_recipe
from dilated.training.run_options import RunOptions
from dilated.training.train import train

STAGE = """
weights = "random"
batch = 2

[[stage]]
kind = "frontend"
iterations = 3
val_interval = 3
optimizer = "sgd"
lr = 1e-2

[network]
crf = "rnn"
crf_kernels = { iterations = 2, bilateral_position = 8.0 }
"""
VGG = """kind = "vgg"
width = 0.03125
frontend_padding = "same"

[augment]
kind = "reflect"
margin = 0
crop = [40, 56]
"""
TIMM = """backbone = "test_efficientnet"
features = 4

[augment]
crop = [32, 32]
"""


@pytest.mark.parametrize("network", [f"{VGG}stride = 1\n", TIMM], ids=["vgg", "timm"])
def test_a_recipe_trains_the_crf_rnn_and_its_network_and_keeps_both(network: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(STAGE + network, encoding="utf-8")
    data, out = write_data(tmp_path / "data"), tmp_path / "run"
    train(data, load_recipe(str(tmp_path / "recipe.toml")), out, options=RunOptions(device="cpu"))
    trained = load(out)
    assert isinstance(trained.crf, CRFRNN)
    assert trained.crf.crf == DenseCRF(iterations=2, bilateral_position=8)
    fresh = CRFRNN(len(trained.classes), trained.crf.crf).state_dict()
    assert not any(torch.equal(value, fresh[name]) for name, value in trained.crf.state_dict().items())
    losses = [line["loss"] for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "loss" in line]
    assert np.isfinite(losses).all()
    image = Image.open(data.samples("val")[0].image)
    assert Predictor(trained)(image).labels.shape == (image.height, image.width)


def test_labels_on_the_grid_of_the_logits_are_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(f"{STAGE}{VGG}stride = 8\n", encoding="utf-8")
    data = write_data(tmp_path / "data")
    with pytest.raises(InputError, match=r"Set augment\.margin = 0 and augment\.stride = 1"):
        train(data, load_recipe(str(tmp_path / "recipe.toml")), tmp_path / "run", options=RunOptions(device="cpu"))
