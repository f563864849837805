"""The memory that a prediction takes: its limit, its estimate, the tiles that keep it, the room that images share."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from small_networks import Local
from torch import Tensor, nn

from dilated import InputError, Predictor, environment
from dilated.prediction import memory
from dilated.prediction.memory import ByteGate, MemoryLimit, TensorMeter, measure_bytes_per_pixel

CPU = torch.device("cpu")


class Gate(nn.Module):
    """Weighs all values by the mean of the image, as squeeze-and-excitation does."""

    def forward(self, values: Tensor) -> Tensor:
        return values * values.mean((2, 3), keepdim=True).sigmoid()


@pytest.mark.parametrize(
    ("text", "total"), [("3GiB", 3 * 2**30), ("1.5 gb", 1_500_000_000), (2**30, 2**30), ("900m", 900_000_000)]
)
def test_a_limit_is_read_in_powers_of_1000_and_of_1024(text: str | int, total: int) -> None:
    assert MemoryLimit.parse(text).total == total


@pytest.mark.parametrize("text", ["9" * 400, "9" * 308 + "TB", "much", "-3GiB", "nan", "10MiB", "", 0])
def test_a_limit_that_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(InputError, match=r"^memory: .*3GiB"):
        MemoryLimit.parse(text)


def test_what_is_left_counts_what_the_process_holds() -> None:
    held = psutil.Process().memory_info().rss
    left = MemoryLimit(held + 2**28).left(CPU)
    assert abs(left - 2**28) < 2**26
    assert MemoryLimit(held // 2).left(CPU) == 0


def test_limits_of_the_control_group_and_the_address_space_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "_CONTROL_GROUP_FOLDERS", (tmp_path, tmp_path / "memory"))
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert environment.free_memory(CPU) > 2**28
    (tmp_path / "memory.max").write_text("5000\n")
    assert environment.free_memory(CPU) == 4000


def test_a_meter_counts_what_lives_at_once() -> None:
    with TensorMeter() as meter:
        values = torch.zeros(1000)  # 4,000 bytes
        for _ in range(5):
            values = values + 1  # the sum beside its input
    assert meter.peak == 8000


def test_the_estimate_is_that_of_the_largest_maps() -> None:
    # Float image (3), patches (6) and the next layer (6): 60 bytes; a convolution's copies; logits and ids (3 + 2).
    assert 60 < measure_bytes_per_pixel(Local(1), CPU) / memory.WORKSPACE_FACTOR < 200
    assert measure_bytes_per_pixel(Local(2), CPU) < measure_bytes_per_pixel(Local(1), CPU)


def test_what_computes_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(memory, "measure_bytes_per_pixel", lambda network, _: measured.append(network) or 1.0)
    for precision in ("auto", "fp32"):
        predictor = Predictor(Local(3), device="cpu", precision=precision)
        assert predictor.memory_use.bytes_per_pixel == 1
        assert measured.pop() is predictor.network
        assert (predictor.network is predictor.segmenter) == (precision == "fp32")


def test_an_image_that_does_not_fit_is_tiled_and_its_labels_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SMALL_IMAGE_PIXELS", 0)
    monkeypatch.setattr(memory, "MIN_TILE", 8)
    image = np.random.default_rng(0).integers(0, 255, (120, 150, 3), dtype=np.uint8)
    predictor = Predictor(Local(3, context=(2, 2)), device="cpu")
    whole = predictor(image, logits=True)
    assert whole.tile is None
    predictor.memory_use.budget = int(predictor.memory_use.bytes_per_pixel * 130**2)
    tiled = predictor(image)
    assert tiled.tile is not None
    assert 8 <= tiled.tile < 120
    first, second = torch.topk(whole.logits, 2, dim=0).values  # type: ignore[arg-type]
    changed = whole.labels != tiled.labels
    assert (first - second).numpy()[changed].max(initial=0) < 1e-5
    assert predictor.tile is None


def test_a_batch_that_does_not_fit_is_taken_image_by_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SMALL_IMAGE_PIXELS", 0)
    images = np.random.default_rng(0).integers(0, 255, (3, 64, 96, 3), dtype=np.uint8)
    predictor = Predictor(Local(3), device="cpu", precision="fp32")
    expected = [prediction.labels for prediction in predictor.batch(images)]
    predictor.memory_use.budget = int(predictor.memory_use.bytes_per_pixel * 64 * 96 * 1.5)
    counts: list[int] = []
    predictor.segmenter.get_submodule("patches").register_forward_pre_hook(
        lambda _, inputs: counts.append(len(inputs[0]))
    )
    predictions = predictor.batch(images)
    assert counts == [1, 1, 1]
    assert [prediction.tile for prediction in predictions] == [None] * 3
    for labels, prediction in zip(expected, predictions, strict=True):
        assert (labels == prediction.labels).mean() > 0.999


def test_tiles_that_do_not_fit_either_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SMALL_IMAGE_PIXELS", 0)
    predictor = Predictor(Local(3), memory="64MiB", device="cpu")  # less than the process holds
    with pytest.raises(InputError, match=r"40x30 pixels do not fit in 64 MiB, nor do tiles of them."):
        predictor(np.zeros((30, 40, 3), np.uint8))


def test_a_network_without_exact_tiles_is_refused_only_if_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SMALL_IMAGE_PIXELS", 0)
    predictor = Predictor(Local(3, gate=Gate()), device="cpu")
    image = np.zeros((64, 96, 3), np.uint8)
    pixels = predictor.memory_use.bytes_per_pixel * 64 * 96
    predictor.memory_use.budget = int(pixels * 0.7)
    assert predictor(image).tile is None
    predictor.memory_use.budget = int(pixels * 0.5)
    with pytest.raises(InputError, match=r"do not fit in the memory that is free.*cannot be tiled exactly"):
        predictor(image)


def test_a_gate_lets_in_what_fits_and_one_alone() -> None:
    gate, order = ByteGate(10), []
    gate.acquire(25)  # alone

    def enter() -> None:
        gate.acquire(4)
        order.append("entered")
        gate.release(4)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    order.append("released")
    gate.release(25)
    thread.join(5)
    assert order == ["released", "entered"]
    assert gate.held == 0
