"""Pictures in the page: the worst and the best, each with its truth, its prediction and what is wrong.

watched = Watched(load("runs/mine"))
result = evaluate(watched, pairs, data.classes)      # watched.labels(0) is then the first picture's prediction
section(result, watched, pairs, data.classes)
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

from dilated.data.formats.pairs import Pair
from dilated.data.images import Pixels
from dilated.data.labels import IGNORE, Classes, Labels
from dilated.evaluate.evaluate import translation
from dilated.evaluate.evaluation import Evaluation
from dilated.evaluate.report.markup import card, named, note, number, swatch, term, text
from dilated.predict.prediction import Prediction
from dilated.predict.predictor import Predictor

SIDE = 560
"""The longest side of a picture in the page, in pixels."""
WORST, BEST = 6, 3
OF_PICTURE = "picture's IoU"
WRONG = (214, 40, 57)


class Watched(Predictor):
    """A predictor that keeps a small copy of what it predicts, so that one pass over the pictures is enough."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept: list[tuple[tuple[int, ...], bytes]] = []

    def batch(self, images: Sequence[Pixels], *, scores: bool = False) -> list[Prediction]:
        """As `Predictor.batch`; the labels are kept, thinned out to what the page shows and packed."""
        found = super().batch(images, scores=scores)
        for one in found:
            small = np.ascontiguousarray(reduced(one.labels.astype(np.uint8)))
            self.kept.append((small.shape, zlib.compress(small.tobytes(), 1)))
        return found

    def labels(self, place: int) -> Labels:
        """The prediction of a picture, by its turn."""
        shape, packed = self.kept[place]
        return np.frombuffer(zlib.decompress(packed), dtype=np.uint8).reshape(shape)


def reduced(values: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.uint8]:
    """Every k-th pixel, so that no side is longer than `side`: labels are not mixed.

    Example:
        >>> reduced(np.arange(10, dtype=np.uint8)[None], 4).tolist()
        [[1, 3, 6, 8]]
    """
    height, width = values.shape[:2]
    scale = min(1.0, side / max(height, width))
    rows, columns = (_places(length, max(1, round(length * scale))) for length in (height, width))
    return values[rows][:, columns]


def _places(length: int, number: int) -> NDArray[np.int64]:
    return ((np.arange(number) + 0.5) * length / number).astype(np.int64)


def section(result: Evaluation, watched: Watched, pairs: Sequence[Pair], classes: Classes) -> str:
    """Six of the worst pictures, three of the best, and what the colours mean."""
    means = [(row.mean_iou, i) for i, row in enumerate(result.pictures) if row.mean_iou is not None]
    order = [i for _, i in sorted(means)]
    if not order:
        return card("<p>No picture has a labelled pixel, so none is better than another.</p>")
    worst = order[: min(WORST, -(-2 * len(order) // 3))]
    best = order[len(worst) :][::-1][:BEST]
    parts = [_legend(classes), "<h3>Worst</h3>"]
    parts += [_row(result, i, watched, pairs[i], classes) for i in worst]
    parts += ["<h3>Best</h3>", *(_row(result, i, watched, pairs[i], classes) for i in best)] if best else []
    return card("".join(parts))


def _row(result: Evaluation, place: int, watched: Watched, pair: Pair, classes: Classes) -> str:
    """A picture and its three maps."""
    row = result.pictures[place]
    image = pair.read_image()
    truth = reduced(pair.read_label(classes, (image.shape[0], image.shape[1])))
    guess = translation(watched.segmenter.classes, classes.names)[watched.labels(place)]
    small = shrunk(image, (truth.shape[1], truth.shape[0]))
    panels = [
        ("picture", jpeg(small)),
        ("truth", png(colored(truth, classes))),
        ("prediction", png(colored(guess, classes))),
        ("errors", jpeg(errors(small, truth, guess))),
    ]
    figures = "".join(
        f'<figure><img src="{source}" alt="{kind} of {text(row.name)}" width="{small.shape[1]}" '
        f'height="{small.shape[0]}"><figcaption>{kind}</figcaption></figure>'
        for kind, source in panels
    )
    said = f"{term(OF_PICTURE, 'IoU')} {number(row.mean_iou)}, {term('pixel accuracy')} {number(row.pixel_accuracy)}"
    return (
        f'<div class="row"><p><b class="name">{text(row.name)}</b> {said}</p><div class="panels">{figures}</div></div>'
    )


def _legend(classes: Classes) -> str:
    entries = "".join(
        f"<li>{named(name, color)}</li>" for name, color in zip(classes.names, classes.colors, strict=True)
    )
    entries += '<li><span class="of"><span class="swatch hatched"></span><span>not labelled</span></span></li>'
    keys = f'<ul class="legend">{entries}</ul>'
    if len(classes) > 30:
        keys = f"<details><summary>Colours of {len(classes)} classes</summary>{keys}</details>"
    said = f"In the error map {swatch(WRONG)}red is wrong, pale is right, dark is not labelled."
    return keys + note(f"{said} Pictures are made smaller to be shown; the figures are of their full size.")


def colored(labels: Labels, classes: Classes) -> Pixels:
    """(H, W) ids -> (H, W, 3): the classes' colours, stripes where nothing is labelled."""
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[: len(classes)] = classes.colors
    shown: Pixels = palette[labels]
    y, x = np.nonzero(labels == IGNORE)
    shown[y, x] = np.where((x + y) // 4 % 2, 250, 205)[:, None]
    return shown


def errors(image: Pixels, truth: Labels, guess: Labels) -> Pixels:
    """The picture in pale grey, red where the prediction is wrong, dark where there is no truth."""
    grey = np.asarray(Image.fromarray(image).convert("L"), dtype=np.float64)
    shown = np.repeat((150 + grey * 0.41)[..., None], 3, axis=2)
    shown[truth == IGNORE] = (30 + grey * 0.25)[truth == IGNORE, None]
    wrong = (truth != IGNORE) & (truth != guess)
    shown[wrong] = 0.25 * shown[wrong] + 0.75 * np.array(WRONG)
    return shown.round().astype(np.uint8)


def shrunk(image: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W, 3) at (width, height)."""
    if image.shape[1::-1] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))


def jpeg(pixels: Pixels) -> str:
    """A photograph as a data URI."""
    return _uri(pixels, "jpeg", quality=82)


def png(pixels: Pixels) -> str:
    """A map of few colours as a data URI."""
    return _uri(pixels, "png", optimize=True)


def _uri(pixels: Pixels, form: str, **options: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
