"""Checkpoints that were made or changed by hand end in one error, before anything is restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dilated import Segmenter, SegmenterConfig
from dilated.data.labels import Classes
from dilated.errors import InputError
from dilated.training.checkpoint import TrainingState, state_from_dict, state_to_dict
from dilated.training.optim import WeightEMA

CLASSES = Classes(("a", "b"), ((0, 0, 0), (255, 255, 255)))


@pytest.fixture
def values() -> dict[str, Any]:
    """A whole checkpoint's values."""
    torch.manual_seed(0)
    segmenter = Segmenter(CLASSES.names, CLASSES.colors, SegmenterConfig(backbone="test_efficientnet", features=4))
    return state_to_dict(TrainingState(segmenter, WeightEMA(segmenter, 0.9)))


@pytest.mark.parametrize("key", ["weights", "ema"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_run_and_name(
    key: str, value: float, values: dict[str, Any]
) -> None:
    values[key]["classifier.weight"][0] = value
    with pytest.raises(InputError, match=rf"runs/x: checkpoint: {key}: NaN or infinite .* classifier\.weight"):
        state_from_dict(values, CLASSES, 0.9, Path("runs/x"))
