"""Images in the page: the worst and the best, each with its truth, its prediction and what is wrong.

recorder = PredictionRecorder(segmenter.classes)
result = evaluate(predictor, samples, classes, on_prediction=recorder)
render_images(result, recorder, samples, classes)
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dilated.data.images import ImageArray
from dilated.data.labels import IGNORE, Classes, LabelArray
from dilated.data.sample import Sample
from dilated.evaluation.evaluate import build_class_id_lut
from dilated.evaluation.result import EvaluationResult
from dilated.prediction.prediction import Prediction
from dilated.report.markup import (
    escape_text,
    format_number,
    render_card,
    render_class_name,
    render_note,
    render_swatch,
    render_term,
)

_MAX_SIDE = 560
"""The longest side of an image in the page, in pixels."""
_NUM_WORST, _NUM_BEST = 6, 3
_IMAGE_IOU_TERM = "image's IoU"
_ERROR_COLOR = (214, 40, 57)


class PredictionRecorder:
    """Keeps a small copy of each prediction, so that one pass over the images is enough.

    Call it from `evaluate(..., on_prediction=recorder)`.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self._recorded: dict[int, tuple[tuple[int, ...], bytes]] = {}

    def __call__(self, index: int, prediction: Prediction) -> None:
        """Keep the labels of an image, subsampled to what the page shows and compressed."""
        small = np.ascontiguousarray(_subsample(prediction.labels.astype(np.uint8)))
        self._recorded[index] = small.shape, zlib.compress(small.tobytes(), 1)

    def labels(self, index: int) -> LabelArray:
        """Return the small prediction of an image, (h, w) ids of the network's classes."""
        shape, packed = self._recorded[index]
        return np.frombuffer(zlib.decompress(packed), dtype=np.uint8).reshape(shape)


def _subsample(values: NDArray[np.uint8], side: int = _MAX_SIDE) -> NDArray[np.uint8]:
    """Take every k-th pixel, so that no side is longer than `side`: labels are not mixed.

    Example:
        >>> _subsample(np.arange(10, dtype=np.uint8)[None], 4).tolist()
        [[1, 3, 6, 8]]
    """
    height, width = values.shape[:2]
    scale = min(1.0, side / max(height, width))
    rows, columns = (_sample_positions(length, max(1, round(length * scale))) for length in (height, width))
    return values[rows][:, columns]


def _sample_positions(length: int, count: int) -> NDArray[np.int64]:
    return ((np.arange(count) + 0.5) * length / count).astype(np.int64)


def render_images(
    result: EvaluationResult, recorder: PredictionRecorder, samples: Sequence[Sample], classes: Classes
) -> str:
    """Render six of the worst images, three of the best, and what the colors mean."""
    ranked = [(row.mean_iou, i) for i, row in enumerate(result.image_results) if row.mean_iou is not None]
    order = [i for _, i in sorted(ranked)]
    if not order:
        return render_card("<p>No image has a labelled pixel, so none is better than another.</p>")
    worst = order[: min(_NUM_WORST, -(-2 * len(order) // 3))]
    best = order[len(worst) :][::-1][:_NUM_BEST]
    parts = [_render_legend(classes), "<h3>Worst</h3>"]
    parts += [_render_image(result, i, recorder, samples[i], classes) for i in worst]
    parts += ["<h3>Best</h3>", *(_render_image(result, i, recorder, samples[i], classes) for i in best)] if best else []
    return render_card("".join(parts))


def _render_image(
    result: EvaluationResult, index: int, recorder: PredictionRecorder, sample: Sample, classes: Classes
) -> str:
    """Render an image and its three maps."""
    row = result.image_results[index]
    image = sample.read_image()
    truth = _subsample(sample.read_label((image.shape[0], image.shape[1])))
    prediction = build_class_id_lut(recorder.classes, classes.names)[recorder.labels(index)]
    small = resize_image(image, (truth.shape[1], truth.shape[0]))
    panels = [
        ("image", encode_jpeg(small)),
        ("truth", _encode_png(_colorize(truth, classes))),
        ("prediction", _encode_png(_colorize(prediction, classes))),
        ("errors", encode_jpeg(_draw_errors(small, truth, prediction))),
    ]
    figures = "".join(
        f'<figure><img src="{source}" alt="{kind} of {escape_text(row.name)}" width="{small.shape[1]}" '
        f'height="{small.shape[0]}"><figcaption>{kind}</figcaption></figure>'
        for kind, source in panels
    )
    caption = (
        f"{render_term(_IMAGE_IOU_TERM, 'IoU')} {format_number(row.mean_iou)}, "
        f"{render_term('pixel accuracy')} {format_number(row.pixel_accuracy)}"
    )
    title = f'<p><b class="name">{escape_text(row.name)}</b> {caption}</p>'
    return f'<div class="row">{title}<div class="panels">{figures}</div></div>'


def _render_legend(classes: Classes) -> str:
    entries = "".join(
        f"<li>{render_class_name(name, color)}</li>" for name, color in zip(classes.names, classes.colors, strict=True)
    )
    entries += '<li><span class="of"><span class="swatch hatched"></span><span>not labelled</span></span></li>'
    legend = f'<ul class="legend">{entries}</ul>'
    if len(classes) > 30:
        legend = f"<details><summary>Colors of {len(classes)} classes</summary>{legend}</details>"
    caption = f"In the error map {render_swatch(_ERROR_COLOR)}red is wrong, pale is right, dark is not labelled."
    return legend + render_note(f"{caption} Images are made smaller to be shown; the figures are of their full size.")


def _colorize(labels: LabelArray, classes: Classes) -> ImageArray:
    """Color (H, W) ids: (H, W, 3) in the classes' colors, stripes where nothing is labelled."""
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[: len(classes)] = classes.colors
    pixels: ImageArray = palette[labels]
    y, x = np.nonzero(labels == IGNORE)
    pixels[y, x] = np.where((x + y) // 4 % 2, 250, 205)[:, None]
    return pixels


def _draw_errors(image: ImageArray, truth: LabelArray, prediction: LabelArray) -> ImageArray:
    """Draw the image in pale gray, red where the prediction is wrong, dark where there is no truth."""
    gray = np.asarray(Image.fromarray(image).convert("L"), dtype=np.float64)
    pixels = np.repeat((150 + gray * 0.41)[..., None], 3, axis=2)
    pixels[truth == IGNORE] = (30 + gray * 0.25)[truth == IGNORE, None]
    wrong = (truth != IGNORE) & (truth != prediction)
    pixels[wrong] = 0.25 * pixels[wrong] + 0.75 * np.array(_ERROR_COLOR)
    return pixels.round().astype(np.uint8)


def resize_image(image: ImageArray, size: tuple[int, int]) -> ImageArray:
    """Resize an (H, W, 3) image to (width, height)."""
    if image.shape[1::-1] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))


def encode_jpeg(pixels: ImageArray) -> str:
    """Encode a photograph as a data URI."""
    return encode_data_uri(pixels, "jpeg", quality=82)


def _encode_png(pixels: ImageArray) -> str:
    """Encode a map of few colors as a data URI."""
    return encode_data_uri(pixels, "png", optimize=True)


def encode_data_uri(pixels: ImageArray, format_name: str, **options: Any) -> str:
    """Encode an image as a data URI."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_name, **options)
    return f"data:image/{format_name};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
