"""The prediction of one image, and how it is looked at and written.

prediction = predictor("photo.jpg", logits=True)
prediction.mask("Road"), prediction.class_fractions(), prediction.polygons()
prediction.save("photo.png")                         # palette PNG: the ids, shown in the classes' colors
prediction.overlay().save("photo.overlay.jpg")       # the image, tinted, with a legend
"""

from __future__ import annotations

import base64
import difflib
import html
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dilated.data.polygons import RegionPolygon, trace_polygons
from dilated.errors import InputError
from dilated.files import atomic_path, printable
from dilated.input_config import BandArray, to_display
from dilated.palettes import Color
from dilated.prediction.confidence import confidence_map

LabelMap = NDArray[np.uint8] | NDArray[np.uint16]

_LOSSLESS_FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
_NOTEBOOK_SIDE = 1024
"""Pixels of the longer side of what a notebook shows."""
_LEGEND_CLASSES = 255
"""The most classes that a legend names, those of most pixels."""


@dataclass(frozen=True, repr=False, eq=False)
class Prediction:
    """One label for each pixel of an image. Notebooks show it as its overlay and a table of its classes.

    Args:
        image: (H, W, 3) uint8, or the bands that the network reads.
        labels: (H, W) ids of `classes`, uint8, or uint16 if there are more than 255 classes; 255 (or 65535) where the
            image has no data.
        logits: (C, H, W) float32 before the softmax; None if they were not asked for.
        classes: the names, in the order of the ids.
        colors: the color of each class.
        tile: pixels along a side that were labelled at a time, given or chosen by the memory; None for all at once.
        temperature: what logits are divided by for confidences; 1 unless `dilated tune` has fitted another.
        unknown: how many pixels were left unknown (as 255, or 65535); None where none are to be.
        how: what else than the greatest logit decided the labels, as JSON; empty for nothing else.

    Example:
        >>> labels = np.array([[0, 0, 0, 1]], np.uint8)
        >>> image = np.zeros((1, 4, 3), np.uint8)
        >>> prediction = Prediction(image, labels, None, ["sky", "road"], [(70, 130, 180), (128, 64, 128)])
        >>> prediction
        Prediction(1x4 pixels, 2 of 2 classes: sky 75.0%, road 25.0%)
        >>> prediction.mask("road")
        array([[False, False, False,  True]])
    """

    image: BandArray
    labels: LabelMap
    logits: Tensor | None
    classes: Sequence[str]
    colors: Sequence[Color]
    tile: int | None = None
    temperature: float = 1.0
    unknown: int | None = None
    how: str = ""

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The greatest probability of each pixel, (H, W), at the network's temperature.

        Raises:
            InputError: the logits were not asked for.
        """
        if self.logits is None:
            raise InputError("confidence: the prediction has no logits", hint="call predictor(image, logits=True)")
        confidence: NDArray[np.float32] = confidence_map(self.logits, self.temperature).numpy()
        return confidence

    @property
    def probabilities(self) -> Tensor:
        """The softmax of the logits, (C, H, W) float32, which sums to 1 over the classes.

        Raises:
            InputError: the logits were not asked for.
        """
        if self.logits is None:
            raise InputError("probabilities: the prediction has no logits", hint="call predictor(image, logits=True)")
        return self.logits.float().softmax(0)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Return where the pixels of a class are, (H, W) bool.

        Raises:
            InputError: no class of that name.
        """
        mask: NDArray[np.bool_] = self.labels == self._class_id(name)
        return mask

    def class_fractions(self) -> dict[str, float]:
        """Return the fraction of the pixels with data by class, greatest first; absent classes are left out."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))[: len(self.classes)]
        return to_class_fractions(self.classes, counts)

    def polygons(self, name: str | None = None) -> list[RegionPolygon]:
        """Return the outline of each 4-connected region, in (x, y) pixels; with `name` of one class only.

        A polygon's `value` is the id of its class. Pixels without data are in none.

        Raises:
            InputError: no class of that name.
        """
        class_id = None if name is None else self._class_id(name)
        regions = (polygon for polygon in trace_polygons(self.labels) if polygon.value < len(self.classes))
        return [polygon for polygon in regions if class_id in (None, polygon.value)]

    def color_image(self) -> NDArray[np.uint8]:
        """Return the classes' colors, (H, W, 3) uint8, black where the image has no data."""
        palette = np.zeros((np.iinfo(self.labels.dtype).max + 1, 3), np.uint8)
        palette[: len(self.colors)] = self.colors
        colors: NDArray[np.uint8] = palette[self.labels]
        return colors

    def label_image(self) -> Image.Image:
        """Return the ids as a pillow image of mode P: a reader of indices gets the ids, a viewer shows the colors.

        More than 255 classes have no palette: their ids are 16-bit gray.
        """
        image = Image.fromarray(self.labels)
        if self.labels.dtype == np.uint8:
            colors = list(self.colors)
            if self.labels.size and self.labels.max() >= len(colors):  # PNG stores as many bits as the palette needs
                colors += [(0, 0, 0)] * (256 - len(colors))
            image.putpalette([channel for color in colors for channel in color])  # mode L becomes P
        return image

    def save(self, path: Path | str) -> None:
        """Write the ids without loss: as `label_image` (.png, .tif, .tiff, .bmp) or as a numpy array (.npy).

        Raises:
            InputError: a suffix of a format that would change ids, such as .jpg, or a file that cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        formats = [*_LOSSLESS_FORMATS, ".npy"]
        if self.labels.dtype != np.uint8:
            formats.remove(".bmp")
        if suffix not in formats:
            raise InputError(
                f"{path}: labels cannot be written as {suffix or 'a file without suffix'} without changing ids",
                hint=f"give a suffix of {', '.join(formats)}; prediction.overlay().save(path) writes what is looked at",
            )
        try:
            with atomic_path(path) as temporary:
                if suffix == ".npy":
                    with temporary.open("wb") as file:
                        np.save(file, self.labels)
                else:
                    self.label_image().save(temporary, format=_LOSSLESS_FORMATS[suffix])
        except OSError as error:
            raise InputError(f"{path}: could not be written ({error.strerror or error})") from error

    def overlay(self, opacity: float = 0.55, legend: bool = True) -> Image.Image:
        """Return the image tinted with the classes' colors, white lines between classes, and a legend below it."""
        blended = (1 - opacity) * to_display(self.image) + opacity * self.color_image().astype(np.float32)
        blended[_find_boundaries(self.labels)] = 255
        image = Image.fromarray(blended.round().astype(np.uint8))
        colors = dict(zip(self.classes, self.colors, strict=True))
        return _add_legend(image, self.class_fractions(), colors) if legend else image

    def show(self) -> None:
        """Show the overlay: in the notebook if there is one, else in the system's image viewer."""
        if "ipykernel" in sys.modules:
            import_module("IPython.display").display(self)
        else:
            self.overlay().show()

    def __repr__(self) -> str:
        fractions = self.class_fractions()
        names = ", ".join(f"{printable(name)} {fraction:.1%}" for name, fraction in list(fractions.items())[:3])
        height, width = self.labels.shape
        more = ", ..." if len(fractions) > 3 else ""
        return f"Prediction({height}x{width} pixels, {len(fractions)} of {len(self.classes)} classes: {names}{more})"

    def _repr_png_(self) -> bytes:
        return self._encode_overlay(legend=True)

    def _repr_html_(self) -> str:
        encoded = base64.b64encode(self._encode_overlay(legend=False)).decode("ascii")
        colors = dict(zip(self.classes, self.colors, strict=True))
        rows = "".join(
            f'<tr><td style="background: rgb{colors[name]}; width: 1.5em"></td>'
            f'<td style="text-align: left">{html.escape(name)}</td><td>{fraction:.1%}</td></tr>'
            for name, fraction in self.class_fractions().items()
        )
        return (
            f'<img alt="overlay" style="max-width: 100%" src="data:image/png;base64,{encoded}">'
            f"<table><tbody>{rows}</tbody></table>"
        )

    def _encode_overlay(self, legend: bool) -> bytes:
        image = self.overlay(legend=legend)
        image.thumbnail((_NOTEBOOK_SIDE, _NOTEBOOK_SIDE))
        file = io.BytesIO()
        image.save(file, format="PNG")
        return file.getvalue()

    def _class_id(self, name: str) -> int:
        if name in self.classes:
            return list(self.classes).index(name)
        by_lower = {known.lower(): known for known in self.classes}
        matches = difflib.get_close_matches(str(name).lower(), by_lower, n=1)
        suggestion = f"did you mean {by_lower[matches[0]]!r}? " if matches else ""
        hint = f"{suggestion}Known: {', '.join(self.classes)}"
        raise InputError(f"class: {name!r} is not a class of this network", hint=hint)


def to_class_fractions(classes: Sequence[str], counts: NDArray[np.integer]) -> dict[str, float]:
    """Return the fraction of the counted pixels by class, greatest first; classes that do not occur are left out.

    Example:
        >>> to_class_fractions(["sky", "road", "car"], np.array([1, 3, 0]))
        {'road': 0.75, 'sky': 0.25}
    """
    order = np.argsort(-counts, kind="stable")
    total = max(1, int(counts.sum()))
    return {classes[i]: float(counts[i] / total) for i in order if counts[i] > 0}


def _find_boundaries(labels: LabelMap) -> NDArray[np.bool_]:
    """(H, W) -> (H, W): where the pixel to the right or below is of another class."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def _add_legend(image: Image.Image, class_fractions: dict[str, float], colors: dict[str, Color]) -> Image.Image:
    """Add a strip below an image that names each color and its fraction of the pixels."""
    size = max(12, min(image.width // 32, 24))
    font = ImageFont.load_default(size)
    gap = size // 2
    shown = list(class_fractions.items())[:_LEGEND_CLASSES]
    texts = [f"{printable(name)} {fraction:.1%}" for name, fraction in shown]
    marks: list[Color | None] = [colors[name] for name, _ in shown]
    if left_out := len(class_fractions) - len(shown):
        texts.append(f"and {left_out} more classes")
        marks.append(None)
    entries, x, y = [], gap, gap
    for color, text in zip(marks, texts, strict=True):
        entry_width = size + gap + round(font.getlength(text)) + 2 * gap
        if x > gap and x + entry_width > image.width:
            x, y = gap, y + size + gap
        entries.append((x, y, color, text))
        x += entry_width
    canvas = Image.new("RGB", (image.width, image.height + y + size + gap), "white")
    canvas.paste(image)
    draw = ImageDraw.Draw(canvas)
    for x, y, color, text in entries:
        top = image.height + y
        if color is not None:
            draw.rectangle((x, top, x + size, top + size), fill=color, outline="black")
        draw.text((x + size + gap, top + size / 2), text, fill="black", font=font, anchor="lm")
    return canvas
