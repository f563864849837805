"""The data, networks and recipe that the jobs of `fault_jobs.py` read."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import torch
from caffe_writer import to_caffe
from conftest import CLASSES, draw
from PIL import Image

from dilated import Segmenter, SegmenterConfig
from dilated.data.labels import save_classes
from dilated.paper import VGGSegmenter
from dilated.weights.published import PUBLISHED_NETWORKS

CAMVID = "dilation8_camvid"
RECIPE = """
weights = "random"
batch = 2
workers = 0
checkpoint_every = 1
ema = 0.9
precision = "fp32"

[network]
kind = "vgg"
width = 0.03125
context = "basic"
frontend_padding = "same"
tile = [40, 40]

[augment]
kind = "reflect"
crop = [32, 32]
margin = 0

[[stage]]
kind = "frontend"
iterations = 2
val_interval = 1
optimizer = "sgd"
lr = 1e-3

[[stage]]
kind = "context"
cache_features = true
iterations = 1
optimizer = "sgd"
lr = 1e-3
"""


def narrow(name: str) -> VGGSegmenter:
    """A released network with few maps."""
    facts = PUBLISHED_NETWORKS[name]
    torch.manual_seed(0)
    config = dataclasses.replace(facts.config, width=1 / 32)
    return VGGSegmenter(list(facts.classes), list(facts.classes.values()), config)


def prepare(root: Path) -> None:
    """Draw the data, and make the network and the run that the jobs read."""
    for split, number in (("train", 2), ("val", 1)):
        for kind in ("images", "labels"):
            (root / "data" / kind / split).mkdir(parents=True)
        for i in range(number):
            image, label = draw(i + 100 * (split == "val"), 32, 32)
            image.save(root / "data" / "images" / split / f"p{i}.png")
            label.save(root / "data" / "labels" / split / f"p{i}.png")
    save_classes(CLASSES, root / "data" / "classes.toml")
    (root / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(root / "raster.png")
    torch.manual_seed(0)
    config = SegmenterConfig(backbone="test_efficientnet", features=4)
    Segmenter(CLASSES.names, CLASSES.colors, config).save(root / "network.safetensors")
    config = SegmenterConfig(backbone="resnet18", features=4, levels=3, context="basic", dilations=(1, 2))
    Segmenter(CLASSES.names, CLASSES.colors, config).save(
        root / "local.safetensors"
    )  # without global layers, for tiles
    to_caffe(narrow(CAMVID), CAMVID, root / "theirs.caffemodel")
    with zipfile.ZipFile(root / "data.zip", "w") as archive:
        for path in sorted((root / "data").rglob("*.*")):
            archive.write(path, path.relative_to(root / "data"))
