"""The networks that come with the package, and how any network is found.

    segmenter = load("street")                           # bundled
    segmenter = load("runs/mine/best.safetensors")       # a network file
    segmenter = load("runs/mine")                        # a run: its best network

Whatever it was given, `load_checkpoint` returns a segmenter that is ready to use, or says what is missing.
"""

from __future__ import annotations

from pathlib import Path

from dilated.errors import InputError
from dilated.models import network_file
from dilated.models.base import BaseSegmenter
from dilated.weights.backbones import BUNDLED_FILES

BUNDLED_NETWORKS = {
    "street": "11 classes of street scenes (CamVid), EfficientNet-lite0, stride 8, context module",
    "cells": "nuclei in microscope images (2018 Data Science Bowl), EfficientNet-lite0, stride 8",
}


def load(name_or_path: Path | str) -> BaseSegmenter:
    """A network by bundled name, file or run.

    Returns:
        The segmenter in evaluation mode, on the CPU, in float32.

    Raises:
        InputError: nothing of that name, or a file that is no network file.

    Example:
        >>> load("street").output_stride
        8
    """
    path = Path(name_or_path)
    if str(name_or_path) in BUNDLED_NETWORKS and not path.exists():
        return network_file.load(Path(str(BUNDLED_FILES / f"{name_or_path}.safetensors")))
    if path.is_dir():
        best = path / "best.safetensors"
        if not best.is_file():
            raise InputError(f"{path}: holds no best.safetensors; expected a run that has reached its first validation")
        return network_file.load(best)
    if not path.exists():
        raise InputError(
            f"{path}: no such file, and no network of that name is bundled; expected a .safetensors network file, a "
            f"run's folder, or one of {', '.join(BUNDLED_NETWORKS)}"
        )
    return network_file.load(path)
