"""What needs a CUDA device: labels as on the CPU, exact tiles, training in every precision, and a resume."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dilated import Predictor, load
from dilated.data.augment import AugmentConfig
from dilated.data.batch_augment import BatchAugmentation

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

Command = Callable[..., subprocess.CompletedProcess[str]]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_a_gpu_gives_the_labels_of_the_cpu(network_file: Path) -> None:
    image = noise(70, 90)
    cpu = Predictor(load(network_file), device="cpu").logits(image)
    gpu = Predictor(load(network_file), device="cuda").logits(image).cpu()
    assert (cpu - gpu).abs().max() < 1e-2 * cpu.abs().max()


def test_without_a_word_the_gpu_is_used(network_file: Path) -> None:
    predictor = Predictor(load(network_file))
    assert next(predictor.segmenter.parameters()).device.type == "cuda"


def test_a_tile_changes_almost_no_label_on_a_gpu() -> None:
    image = noise(400, 500)
    whole = Predictor("street", device="cuda")(image).labels
    tiled = Predictor("street", tile=256, device="cuda")(image).labels
    assert np.mean(whole != tiled) < 1e-3


def test_images_of_mixed_sizes_are_labelled_as_each_alone(network_file: Path) -> None:
    images = [noise(40, 50), noise(64, 48), noise(40, 50)]
    predictor = Predictor(load(network_file), device="cuda")
    for image, prediction in zip(images, predictor.batch(images), strict=True):
        assert np.mean(prediction.labels != predictor(image).labels) < 1e-2


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_training_learns_on_a_gpu_in_every_precision(
    dilated: Command, folder: Path, recipe_file: Path, tmp_path: Path, precision: str
) -> None:
    out = tmp_path / "run"
    changes = ["--set", f"precision={precision}", "workers=0"]
    done = dilated("train", folder, "--out", out, "--recipe", recipe_file, *changes)
    assert done.returncode == 0, done.stderr
    losses = [row["loss"] for row in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "loss" in row]
    assert losses
    assert all(np.isfinite(losses))
    assert (out / "best.safetensors").is_file()


def test_a_finished_training_on_a_gpu_is_measured_there(
    dilated: Command, folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    out, figures = tmp_path / "run", tmp_path / "figures.json"
    assert dilated("train", folder, "--out", out, "--recipe", recipe_file, "--set", "workers=0").returncode == 0
    measured = {}
    for device in ("cuda", "cpu"):
        done = dilated("evaluate", out, folder, "--split", "val", "--device", device, "--json", figures)
        assert done.returncode == 0, done.stderr
        measured[device] = json.loads(figures.read_text())["pixel_accuracy"]
    assert measured["cuda"] == pytest.approx(measured["cpu"], abs=5e-3)


def test_batches_augmented_on_a_gpu_are_those_of_the_cpu() -> None:
    augmentation = BatchAugmentation(AugmentConfig(crop=(40, 56)))
    draws = [augmentation.draw(0, number, (70, 90)) for number in range(4)]
    images = torch.from_numpy(noise(70, 90)).permute(2, 0, 1).expand(4, -1, -1, -1)
    labels = images[:, 0] % 5
    expected_images, expected_labels = augmentation(images, labels, draws)
    ours_images, ours_labels = augmentation(images.cuda(), labels.cuda(), draws)
    assert torch.equal(ours_labels.cpu(), expected_labels)
    assert (ours_images.cpu() - expected_images).abs().max() < 1e-2


def test_a_training_on_a_gpu_augments_there_without_a_word(
    dilated: Command, folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    done = dilated("train", folder, "--out", tmp_path / "run", "--recipe", recipe_file, "--no-report")
    assert done.returncode == 0, done.stderr
    assert "augmentation: whole batches on cuda" in done.stdout


def test_making_a_batch_does_not_wait_for_the_gpu() -> None:
    augmentation = BatchAugmentation(AugmentConfig(crop=(40, 56)))
    draws = [augmentation.draw(0, number, (70, 90)) for number in range(4)]
    images = torch.from_numpy(noise(70, 90)).permute(2, 0, 1).expand(4, -1, -1, -1).contiguous().cuda()
    labels = images[:, 0] % 5
    augmentation(images, labels, draws)  # the first call may allocate
    torch.cuda.set_sync_debug_mode("error")
    try:
        augmentation(images, labels, draws)
    finally:
        torch.cuda.set_sync_debug_mode("default")
