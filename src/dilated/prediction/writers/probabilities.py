"""Probabilities of all classes, as NumPy archives or as TIFFs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.errors import InputError
from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage
from dilated.prediction.writers.base import PerImageWriter


def probabilities(prediction: Prediction) -> NDArray[np.float16]:
    """The softmax of the logits, (C, H, W) of 16 bits, which keep three decimal digits.

    Raises:
        InputError: a prediction without logits.
    """
    if prediction.logits is None:
        raise InputError("found a prediction without logits; expected predictor(image, logits=True)")
    values: NDArray[np.float16] = prediction.logits.float().softmax(0).half().numpy()
    return values


class ProbabilityWriter(PerImageWriter):
    """`NAME.npz` with `probabilities` (C, H, W) float16 and `classes`, their names; not compressed."""

    suffix = ".npz"
    logits = True

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        with path.open("wb") as file:  # given a name, numpy would add a suffix
            np.savez(file, probabilities=probabilities(prediction), classes=np.array(prediction.classes))


class ProbabilityTiffWriter(PerImageWriter):
    """`NAME.probabilities.tif`, a page of float16 for each class, described by its name."""

    suffix = ".probabilities.tif"
    logits = True

    def open(self, classes: Sequence[str], colors: Sequence[Any], append: bool = False) -> None:
        try:
            import tifffile  # noqa: F401
        except ImportError as error:
            raise InputError("probabilities-tif needs tifffile; run: pip install 'dilated[geo]'") from error

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        from tifffile import TiffWriter

        with TiffWriter(path) as file:
            for name, page in zip(prediction.classes, probabilities(prediction), strict=True):
                file.write(page, photometric="minisblack", description=name.encode(), metadata=None)
