"""Networks that label the images of a task in CVAT, through cvat-sdk's auto-annotation functions.

    cvat-cli task auto-annotate 7 --function-module dilated.integrations.cvat -p network=str:street
    cvat_sdk.auto_annotation.annotate_task(client, 7, dilated.integrations.cvat.create("street"))

CVAT matches the labels of the task and the classes of the network by their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dilated.data.masks import Mask, encode_rle
from dilated.data.polygons import sort_for_drawing, trace_polygons
from dilated.errors import InputError
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor

if TYPE_CHECKING:
    from cvat_sdk.auto_annotation import DetectionFunctionContext, DetectionFunctionSpec


class CVATFunction:
    """A detection function of cvat-sdk: a mask for each class in an image, or the outlines of its regions.

    Args:
        predictor: labels the images.
        classes: the names of those that are suggested; by default all of the network's.

    Raises:
        InputError: cvat-sdk is not installed; a class that the network does not have.
    """

    def __init__(self, predictor: Predictor, classes: Sequence[str] | None = None) -> None:
        self.predictor = predictor
        known = list(predictor.segmenter.classes)
        if unknown := [name for name in classes or () if name not in known]:
            raise InputError(f"cvat: {unknown[0]!r} is not a class of this network", f"known: {', '.join(known)}")
        self._ids = [i for i, name in enumerate(known) if classes is None or name in classes]
        self._auto_annotation = _import_auto_annotation()

    @cached_property
    def spec(self) -> DetectionFunctionSpec:
        """The labels that the function suggests: the classes with their names and ids."""
        tool, names = self._auto_annotation, self.predictor.segmenter.classes
        labels = [tool.label_spec(names[i], i, type="mask") for i in self._ids]
        return tool.DetectionFunctionSpec(labels=labels)

    def detect(self, context: DetectionFunctionContext, image: Image.Image) -> list[Any]:
        """Return the shapes of an image.

        With a threshold of confidence, pixels below it are in no shape. Where polygons are asked for, each 4-connected
        region is one. CVAT's polygons have no holes: the larger ones lie lower (`z_order`), and so the drawing is the
        label map unless classes or pixels were left out in a hole.

        Args:
            context: cvat-sdk's: the threshold, and whether polygons are wanted.
            image: as CVAT gives it.

        Raises:
            InputError: a threshold for a network that gives no logits.
        """
        threshold = context.conf_threshold
        prediction = self.predictor(image, logits=bool(threshold))
        is_shown = np.isin(prediction.labels, self._ids)
        if threshold:
            is_shown &= prediction.confidence >= threshold
        shapes = self._make_polygons if context.conv_mask_to_poly else self._make_masks
        return shapes(prediction, is_shown)

    def _make_masks(self, prediction: Prediction, is_shown: Mask) -> list[Any]:
        masks = ((i, is_shown & (prediction.labels == i)) for i in self._ids)
        return [self._auto_annotation.mask(i, _encode_mask(mask)) for i, mask in masks if mask.any()]

    def _make_polygons(self, prediction: Prediction, is_shown: Mask) -> list[Any]:
        outlines = trace_polygons(np.where(is_shown, prediction.labels.astype(np.int64), -1))
        polygons = sort_for_drawing(outline for outline in outlines if outline.value >= 0)
        return [
            self._auto_annotation.polygon(polygon.value, polygon.rings[0].astype(float).ravel().tolist(), z_order=order)
            for order, polygon in enumerate(polygons)
        ]


def create(network: str, classes: str = "", device: str = "", tile: int = 0) -> CVATFunction:
    """Return the function of a network; cvat-cli calls this with what its `-p` give.

    Args:
        network: a bundled name, a network file or a run.
        classes: the names of those that are suggested, with commas between them; by default all.
        device: by default CUDA if it is available, else the CPU.
        tile: pixels along a side that are labelled at a time; by default what fits in memory.

    Raises:
        InputError: a network or a class that does not exist; cvat-sdk is not installed.
    """
    names = [name.strip() for name in classes.split(",")] if classes else None
    return CVATFunction(Predictor(network, device=device or None, tile=tile or None), names)


def _encode_mask(mask: Mask) -> list[float]:
    """A mask as CVAT's points: runs within its box, row by row, off first, then left, top and the last column and row.

    Example:
        >>> _encode_mask(np.array([[False, False, False], [False, True, True], [False, False, True]]))
        [0.0, 2.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0]
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    runs = encode_rle(mask[top : bottom + 1, left : right + 1].T)
    return [float(number) for number in (*runs, left, top, right, bottom)]


def _import_auto_annotation() -> Any:
    try:
        from cvat_sdk import auto_annotation
    except ImportError as error:
        raise InputError("cvat: cvat-sdk is not installed", hint="pip install cvat-sdk") from error
    return auto_annotation
