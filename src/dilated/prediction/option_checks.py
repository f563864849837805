"""What a `Predictor` refuses about a network, in words.

segmenter = load_segmenter("street")
require_logits(segmenter, {"crf": True})
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import torch

from dilated.environment import require_bf16
from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.prediction.acceleration import Precision
from dilated.weights.bundled import load


def load_segmenter(segmenter: BaseSegmenter | Path | str) -> BaseSegmenter:
    """Return a segmenter, given as itself, a name or a path.

    Raises:
        InputError: something else, or no such network.
    """
    if not isinstance(segmenter, BaseSegmenter | Path | str):
        raise InputError(
            f"Predictor: {type(segmenter).__name__} is not a segmenter",
            hint="give a name, a path, or what dilated.load or dilated.add_context returns",
        )
    return segmenter if isinstance(segmenter, BaseSegmenter) else load(segmenter)


def require_logits(segmenter: BaseSegmenter, needs: dict[str, bool]) -> None:
    """Refuse a network that gives labels alone, where logits are needed.

    Args:
        needs: by option, whether it needs logits.

    Raises:
        InputError: one does, and the network gives labels.
    """
    for option, is_needed in needs.items():
        if is_needed and not segmenter.gives_logits:
            raise InputError(f"{option}: this file gives labels", hint="export the network with --output logits")


def require_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that is unknown, or that the device only emulates.

    Raises:
        InputError: it is.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision: {precision!r} is unknown", hint="give auto, fp32, fast or bf16")
    if precision == "bf16":
        require_bf16(device, "precision", "give auto or fast")


def require_tileable(segmenter: BaseSegmenter, is_needed: bool) -> None:
    """Refuse a network with tiles of its own, or that is given whole images alone, where it would get others.

    Raises:
        InputError: it has, and it would.
    """
    if is_needed and segmenter.crf is not None:
        raise InputError(
            "network.crf: 'rnn' ties every pixel to all others of its image, so no tile, flips or scales go with it",
            hint="leave them out, or rebuild the network with crf='none' and predict with --crf, which goes with all",
        )
    if is_needed and not segmenter.is_tileable:
        raise InputError(
            "network.inference: 'authors' uses tiles of its own, whose seams are part of the result, so no tile, "
            "flips or scales go with it",
            hint="rebuild the network with inference='whole'",
        )
