"""Images in the page: the worst and the best, each with its truth, its prediction and what is wrong.

recorder = PredictionRecorder(segmenter.classes)
result = evaluate(predictor, samples, classes, on_prediction=recorder)
worst, best = show_images(result, recorder, samples, classes)
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from dilated.data.images import ImageArray
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.evaluation.evaluate import build_class_id_lut
from dilated.evaluation.result import EvaluationResult, ImageResult
from dilated.input_config import to_display
from dilated.label_ids import LabelArray, ignore_id_of, label_dtype
from dilated.prediction.prediction import Prediction

_Value = TypeVar("_Value", bound=np.integer[Any])

_MAX_SIDE = 560
"""The longest side of an image in the page, in pixels."""
_NUM_WORST, _NUM_BEST = 6, 3
ERROR_COLOR = (214, 40, 57)


@dataclass(frozen=True)
class ShownImage:
    """An image of the page with what was measured on it."""

    result: ImageResult
    panels: dict[str, Markup]
    """The image, its truth, its prediction and what is wrong, as data URIs by what they show."""
    width: int
    height: int


class PredictionRecorder:
    """Keeps a small copy of each prediction, so that one pass over the images is enough.

    Call it from `evaluate(..., on_prediction=recorder)`.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self._recorded: dict[int, tuple[tuple[int, ...], bytes]] = {}

    def __call__(self, index: int, prediction: Prediction) -> None:
        """Keep the labels of an image, subsampled to what the page shows and compressed."""
        labels = prediction.labels.astype(label_dtype(len(self.classes)))
        small = np.ascontiguousarray(shrink(labels, _MAX_SIDE, Image.Resampling.NEAREST))
        self._recorded[index] = small.shape, zlib.compress(small.tobytes(), 1)

    def labels(self, index: int) -> LabelArray:
        """Return the small prediction of an image, (h, w) ids of the network's classes."""
        shape, packed = self._recorded[index]
        return np.frombuffer(zlib.decompress(packed), dtype=label_dtype(len(self.classes))).reshape(shape)


def show_images(
    result: EvaluationResult, recorder: PredictionRecorder, samples: Sequence[Sample], classes: Classes
) -> tuple[list[ShownImage], list[ShownImage]]:
    """Show six of the worst images, worst first, and three of the best, best first; none of them twice."""
    ranked = [(row.mean_iou, i) for i, row in enumerate(result.image_results) if row.mean_iou is not None]
    order = [i for _, i in sorted(ranked)]
    num_worst = min(_NUM_WORST, -(-2 * len(order) // 3))
    lut = build_class_id_lut(recorder.classes, classes.names)

    def show(i: int) -> ShownImage:
        return _show_image(result.image_results[i], samples[i], lut[recorder.labels(i)], classes)

    return [show(i) for i in order[:num_worst]], [show(i) for i in order[num_worst:][::-1][:_NUM_BEST]]


def _show_image(result: ImageResult, sample: Sample, prediction: LabelArray, classes: Classes) -> ShownImage:
    image, label = sample.read()
    truth = shrink(label, _MAX_SIDE, Image.Resampling.NEAREST)
    height, width = truth.shape
    small = shrink(to_display(image), _MAX_SIDE)
    panels = {
        "image": encode_data_uri(small),
        "truth": encode_data_uri(colorize(truth, classes), "png"),
        "prediction": encode_data_uri(colorize(prediction, classes), "png"),
        "errors": encode_data_uri(draw_errors(small, truth, prediction)),
    }
    return ShownImage(result, panels, width, height)


def colorize(labels: LabelArray, classes: Classes) -> ImageArray:
    """Color (H, W) ids: (H, W, 3) in the classes' colors, stripes where nothing is labelled."""
    ignore = classes.ignore_id
    palette = np.zeros((ignore + 1, 3), dtype=np.uint8)
    palette[: len(classes)] = classes.colors
    pixels: ImageArray = palette[labels]
    y, x = np.nonzero(labels == ignore)
    pixels[y, x] = np.where((x + y) // 4 % 2, 250, 205)[:, None]
    return pixels


def draw_errors(image: ImageArray, truth: LabelArray, prediction: LabelArray) -> ImageArray:
    """Draw the image in pale gray, red where the prediction is wrong, dark where there is no truth."""
    gray = np.asarray(Image.fromarray(image).convert("L"), dtype=np.float64)
    pixels = np.repeat((150 + gray * 0.41)[..., None], 3, axis=2)
    ignored = truth == ignore_id_of(truth)
    pixels[ignored] = (30 + gray * 0.25)[ignored, None]
    wrong = ~ignored & (truth != prediction)
    pixels[wrong] = 0.25 * pixels[wrong] + 0.75 * np.array(ERROR_COLOR)
    return pixels.round().astype(np.uint8)


def shrink(
    pixels: NDArray[_Value], side: int, resampling: Image.Resampling = Image.Resampling.LANCZOS
) -> NDArray[_Value]:
    """Make an image smaller, so that neither of its sides is longer than `side`.

    Example:
        >>> shrink(np.arange(10, dtype=np.uint8)[None], 4, Image.Resampling.NEAREST).tolist()
        [[1, 3, 6, 8]]
    """
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, resampling, reducing_gap=3.0))


def encode_data_uri(pixels: ImageArray, format_name: str = "jpeg") -> Markup:
    """Encode an image as a data URI: a photograph as JPEG, a map of few colors as PNG. It needs no escaping."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_name, quality=82, optimize=format_name == "png")
    return Markup(f"data:image/{format_name};base64,{base64.b64encode(file.getvalue()).decode('ascii')}")
