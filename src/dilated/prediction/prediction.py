"""What a predictor says of one image, and how it is drawn and kept.

prediction = predictor("photo.jpg")
prediction.save("photo.png")                         # palette PNG: the ids, shown in the classes' colors
prediction.overlay().save("photo.overlay.jpg")       # the image, tinted, with a legend
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dilated.palettes import Color

LabelMap = NDArray[np.uint8] | NDArray[np.uint16]


def label_dtype(classes: int) -> np.dtype[Any]:
    """The type of label ids of so many classes.

    Example:
        >>> label_dtype(256), label_dtype(257)
        (dtype('uint8'), dtype('uint16'))
    """
    return np.dtype(np.uint8 if classes <= 256 else np.uint16)


@dataclass(frozen=True)
class Prediction:
    """Labels for every pixel of an image.

    `image`: (H, W, 3) uint8. `labels`: (H, W) ids of `classes`, uint8, or uint16 where there are more than 256.
    `logits`: (C, H, W) float32 before the softmax, if they were asked for.

    Example:
        >>> labels = np.array([[0, 0, 0, 1]], np.uint8)
        >>> image = np.zeros((1, 4, 3), np.uint8)
        >>> prediction = Prediction(image, labels, None, ["sky", "road"], [(70, 130, 180), (128, 64, 128)])
        >>> prediction.class_fractions()
        {'sky': 0.75, 'road': 0.25}
    """

    image: NDArray[np.uint8]
    labels: LabelMap
    logits: Tensor | None
    classes: Sequence[str]
    colors: Sequence[Color]

    def class_fractions(self) -> dict[str, float]:
        """The share of the image by class, greatest first; classes that do not occur are left out."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes)) / self.labels.size
        order = np.argsort(-counts, kind="stable")
        return {self.classes[i]: float(counts[i]) for i in order if counts[i] > 0}

    def save(self, path: Path | str) -> None:
        """Write the ids as a PNG of mode P: a reader of indices gets the ids, a viewer shows the colors.

        More than 256 classes have no palette: their ids are written as 16-bit grey.
        """
        if self.labels.dtype != np.uint8:
            Image.fromarray(self.labels).save(path, format="PNG")
            return
        image = Image.fromarray(self.labels)
        image.putpalette([channel for color in self.colors for channel in color])  # mode L becomes P
        image.save(path, format="PNG")

    def overlay(self, opacity: float = 0.55, legend: bool = True) -> Image.Image:
        """The image tinted with the classes' colors, borders between classes in white; below it, which is which."""
        palette = np.array(self.colors, dtype=np.float32)
        blended = (1 - opacity) * self.image + opacity * palette[self.labels]
        blended[_find_boundaries(self.labels)] = 255
        image = Image.fromarray(blended.round().astype(np.uint8))
        return (
            _add_legend(image, self.class_fractions(), dict(zip(self.classes, self.colors, strict=True)))
            if legend
            else image
        )


def _find_boundaries(labels: LabelMap) -> NDArray[np.bool_]:
    """(H, W) -> (H, W): where the pixel to the right or below is of another class."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def _add_legend(image: Image.Image, class_fractions: dict[str, float], colors: dict[str, Color]) -> Image.Image:
    """The image with a strip below it that names each color and its share of the image."""
    size = max(12, min(image.width // 32, 24))
    font = ImageFont.load_default(size)
    gap = size // 2
    entries, x, y = [], gap, gap
    for name, fraction in class_fractions.items():
        text = f"{name} {fraction:.1%}"
        entry_width = size + gap + round(font.getlength(text)) + 2 * gap
        if x > gap and x + entry_width > image.width:
            x, y = gap, y + size + gap
        entries.append((x, y, name, text))
        x += entry_width
    canvas = Image.new("RGB", (image.width, image.height + y + size + gap), "white")
    canvas.paste(image)
    draw = ImageDraw.Draw(canvas)
    for x, y, name, text in entries:
        top = image.height + y
        draw.rectangle((x, top, x + size, top + size), fill=colors[name], outline="black")
        draw.text((x + size + gap, top + size / 2), text, fill="black", font=font, anchor="lm")
    return canvas
