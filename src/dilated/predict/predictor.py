"""From one picture to its labels.

    predictor = Predictor(dilated.load("street"))
    prediction = predictor("photo.jpg")                  # or an (H, W, 3) uint8 array, or a pillow picture
    prediction.labels                                    # (H, W) uint8, ids of predictor.segmenter.classes

Pictures of any size and form go in; one label for each of their pixels comes out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dilated.data.images import Pixels, read_image
from dilated.errors import InputError
from dilated.nn.base import BaseSegmenter
from dilated.predict.prediction import Prediction


class Predictor:
    """Labels pictures of any size with a segmenter.

    Args:
        segmenter: set to evaluation mode and moved to the device.
        device: `cpu`, `cuda`, ...; by default CUDA where there is one.
        precision: `fp32`, or `bf16` for autocast, which is faster on new processors and changes a few pixels.

    Raises:
        InputError: a device that this machine lacks.

    Example:
        >>> from dilated import Network, Segmenter
        >>> net = Network(backbone="test_efficientnet", features=8)
        >>> predictor = Predictor(Segmenter(["a", "b"], [(0, 0, 0), (255, 0, 0)], net), device="cpu")
        >>> predictor(np.zeros((30, 41, 3), np.uint8)).labels.shape
        (30, 41)
    """

    def __init__(
        self, segmenter: BaseSegmenter, *, device: str | None = None, precision: Literal["fp32", "bf16"] = "fp32"
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise InputError(f"device: found {device!r}, but this machine has no CUDA device; expected 'cpu'")
        self.segmenter = segmenter.to(self.device).eval()
        self.precision = precision

    def __call__(self, image: Path | str | Pixels | Image.Image) -> Prediction:
        pixels = as_pixels(image)
        scores = self.scores(pixels)
        labels = scores.argmax(0).to(torch.uint8).cpu().numpy()
        return Prediction(pixels, labels, scores.cpu(), self.segmenter.classes, self.segmenter.colors)

    @torch.inference_mode()
    def scores(self, pixels: Pixels) -> Tensor:
        """(H, W, 3) uint8 -> (C, H, W) float32 scores before the softmax, on the device."""
        image = torch.tensor(pixels, device=self.device).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            return self.segmenter(image)[0].float()


def as_pixels(image: Path | str | Pixels | Image.Image) -> Pixels:
    """Any accepted form of a picture as (H, W, 3) uint8 RGB.

    Raises:
        InputError: an unreadable file, or an array of another shape or type.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"image: found an array {image.shape} of {image.dtype}; expected (H, W, 3) of uint8, RGB")
    return image
