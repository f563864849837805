"""What several tests need: a drawn data set that takes seconds to learn from, and a recipe as small."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from dilated import Classes, Segmenter, SegmenterConfig
from dilated.data.labels import save_classes

torch.set_num_threads(1)  # the networks here are too small for more

settings.register_profile("same", derandomize=True)  # a check of one commit gives one answer; test-all draws anew
settings.register_profile("random", derandomize=False)
settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPUs of a machine, here and from subprocesses, unless `-m gpu` asks for them: tests mean the CPU."""
    if config.getoption("markexpr").strip() != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


CLASSES = Classes(("field", "disc", "bar"), ((40, 90, 40), (220, 60, 60), (60, 60, 220)), ignore=(9,))

RECIPE = """
weights = "random"
batch = 2
workers = 1
checkpoint_every = 2
ema = 0.9
precision = "fp32"

[network]
backbone = "test_efficientnet"
features = 8
context = "basic"
detail = 4
dropout = 0.2

[augment]
crop = [32, 48]

[[stage]]
kind = "frontend"
epochs = 3
output_stride = 16
lr = 1e-2

[[stage]]
kind = "context"
epochs = 1
lr = 1e-3

[[stage]]
kind = "joint"
epochs = 2
lr = 1e-3
optimizer = "sgd"
"""


def draw(seed: int, height: int = 40, width: int = 56) -> tuple[Image.Image, Image.Image]:
    """An image of a disc and a bar on a field, and its label, with a corner that is not labelled."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    label = np.zeros((height, width), dtype=np.uint8)
    row, column = random.integers(8, height - 8), random.integers(8, width - 8)
    label[(y - row) ** 2 + (x - column) ** 2 < 36] = 1
    bar = random.integers(0, height - 4)
    label[bar : bar + 4] = 2
    image = np.array(CLASSES.colors, dtype=np.int64)[label] + random.integers(-30, 31, (height, width, 3))
    label[:3, :3] = 9
    return Image.fromarray(image.clip(0, 255).astype(np.uint8)), Image.fromarray(label)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder: 6 images to train on, 2 to validate with."""
    root = tmp_path / "data"
    for split, number in (("train", 6), ("val", 2)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(number):
            image, label = draw(i + 100 * (split == "val"))
            image.save(root / "images" / split / f"p{i}.png")
            label.save(root / "labels" / split / f"p{i}.png")
    save_classes(CLASSES, root / "classes.toml")
    return root


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture
def network_file(tmp_path: Path) -> Path:
    """A network file for the drawn classes, with random weights."""
    torch.manual_seed(0)
    segmenter = Segmenter(CLASSES.names, CLASSES.colors, SegmenterConfig(backbone="test_efficientnet", features=8))
    path = tmp_path / "network.safetensors"
    segmenter.save(str(path))
    return path


@pytest.fixture
def quick_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports whose price states a made-up memory; it is measured in two processes, which takes seconds."""
    monkeypatch.setattr("dilated.deploy.export.measure_peak", lambda network, image: 2**20)


@pytest.fixture
def dilated() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a second process, as a user would."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*arguments), capture_output=True, text=True, env=environment(), check=False)

    return run


def command(*arguments: object) -> list[str]:
    """A call of the command line in which warnings are errors; not with the lowest versions, which give some."""
    return [sys.executable, "-W", os.environ.get("TEST_WARNINGS", "error"), "-m", "dilated", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
