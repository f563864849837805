"""Probabilities of all classes, as NumPy archives or as TIFFs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.errors import InputError
from dilated.predict.prediction import Prediction
from dilated.predict.sinks.base import FileSink
from dilated.predict.sources import Picture


def probabilities(prediction: Prediction) -> NDArray[np.float16]:
    """The softmax of the scores, (C, H, W) of 16 bits, which keep three decimal digits.

    Raises:
        InputError: a prediction without scores.
    """
    if prediction.scores is None:
        raise InputError("found a prediction without scores; expected predictor(image, scores=True)")
    found: NDArray[np.float16] = prediction.scores.float().softmax(0).half().numpy()
    return found


class Probabilities(FileSink):
    """`NAME.npz` with `probabilities` (C, H, W) float16 and `classes`, their names; not compressed."""

    ending = ".npz"
    scores = True

    def save(self, prediction: Prediction, path: Path, picture: Picture) -> None:
        with path.open("wb") as file:  # given a name, numpy would add a suffix
            np.savez(file, probabilities=probabilities(prediction), classes=np.array(prediction.classes))


class ProbabilitiesTiff(FileSink):
    """`NAME.probabilities.tif`, a page of float16 for each class, described by its name."""

    ending = ".probabilities.tif"
    scores = True

    def begin(self, classes: Sequence[str], colors: Sequence[Any], keep: bool = False) -> None:
        try:
            import tifffile  # noqa: F401
        except ImportError as error:
            raise InputError("probabilities-tif needs tifffile; run: pip install 'dilated[geo]'") from error

    def save(self, prediction: Prediction, path: Path, picture: Picture) -> None:
        from tifffile import TiffWriter

        with TiffWriter(path) as file:
            for name, page in zip(prediction.classes, probabilities(prediction), strict=True):
                file.write(page, photometric="minisblack", description=name.encode(), metadata=None)
