"""Images on which networks differ, each with its truth and every prediction side by side: the paper's Figures 2 and 3.

images = show_differing_images(["front end", "context"], means, samples, classes, make_predictor)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.evaluation.compare import Comparison
from dilated.evaluation.evaluate import build_class_id_lut
from dilated.evaluation.intervals import Interval
from dilated.input_config import to_display
from dilated.prediction.predictor import Predictor
from dilated.report.images import colorize, encode_data_uri, shrink
from dilated.report.page import render

_MAX_SIDE = 360
"""The longest side of an image in the page, in pixels: there is one for each network."""
_NUM_IMAGES, _NUM_COMPARED = 4, 12


@dataclass(frozen=True)
class ComparedImage:
    """An image, its truth and what the networks make of it."""

    name: str
    spread: float
    """The highest less the lowest mean IoU of a network on it."""
    panels: dict[str, Markup]
    """Image, truth and a prediction for each network, as data URIs by what they show."""
    mean_iou: dict[str, float]
    """Of each network on this image."""


def show_differing_images(
    names: Sequence[str],
    means: NDArray[np.float64],
    samples: Sequence[Sample],
    classes: Classes,
    make_predictor: Callable[[str, int], Predictor],
    count: int = _NUM_IMAGES,
) -> list[ComparedImage]:
    """Label again the images on which networks differ most by mean IoU, the most different first.

    Args:
        names: of the networks.
        means: (networks, images), the mean IoU of each on each image; NaN where there is nothing to measure.
        samples: the images.
        classes: of the data.
        make_predictor: of a network by its name, for the image at an index.
        count: images at most.
    """
    if len(names) < 2:
        return []
    spread = np.where(np.isnan(means).any(0), -1.0, means.max(0) - means.min(0))
    chosen = [i for i in np.argsort(-spread, kind="stable")[:count].tolist() if spread[i] > 0]
    drawn: dict[int, dict[str, Markup]] = {}
    for i in chosen:
        image, label = samples[i].read()
        truth = shrink(label, _MAX_SIDE, Image.Resampling.NEAREST)
        drawn[i] = {
            "image": encode_data_uri(shrink(to_display(image), _MAX_SIDE)),
            "truth": encode_data_uri(colorize(truth, classes), "png"),
        }
    for name in names:
        for i in chosen:
            predictor = make_predictor(name, i)
            lut = build_class_id_lut(predictor.segmenter.classes, classes.names)
            labels = lut[predictor(samples[i].read_image()).labels]
            small = shrink(labels, _MAX_SIDE, Image.Resampling.NEAREST)
            drawn[i][name] = encode_data_uri(colorize(small, classes), "png")
    return [
        ComparedImage(
            samples[i].name,
            float(spread[i]),
            drawn[i],
            {name: float(means[row, i]) for row, name in enumerate(names)},
        )
        for i in chosen
    ]


@dataclass(frozen=True)
class _ClassRow:
    """The IoU of a class on both sides, means over the trainings, and the difference."""

    candidate: float
    baseline: float
    difference: Interval


def _compare_classes(compared: Comparison) -> dict[str, _ClassRow]:
    """The rows of the table by class, by the class's name."""
    return {
        name: _ClassRow(*compared.mean_values("iou", index), compared.differences["iou"][index])
        for index, name in enumerate(compared.candidate.classes)
    }


def render_comparison_page(
    compared: Comparison, samples: Sequence[Sample], classes: Classes, predictors: tuple[Predictor, Predictor]
) -> str:
    """Render the page of a comparison: what it says, and up to twelve images on which the two differ most.

    Args:
        compared: of the networks of `predictors`, on these images in their order.
        predictors: of the candidate and of the baseline; of several trainings the first.
    """
    names = [f"A: {compared.names[0]}", f"B: {compared.names[1]}"]
    rows = [[row.mean_iou for row in result.image_results] for result in (compared.candidate, compared.baseline)]
    means = np.array([[np.nan if value is None else value for value in row] for row in rows])
    by_name = dict(zip(names, predictors, strict=True))
    images = show_differing_images(names, means, samples, classes, lambda name, i: by_name[name], _NUM_COMPARED)
    return render(
        "compare.html",
        title=f"{compared.names[0]} and {compared.names[1]}",
        subtitle=f"{len(samples):,} images, {len(classes)} classes",
        lines=str(compared).splitlines(),
        by_class=_compare_classes(compared),
        has_seeds=max(map(len, compared.sides)) > 1,
        names_and_colors=list(zip(classes.names, classes.colors, strict=True)),
        images=images,
    )
