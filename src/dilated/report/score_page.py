"""The figures of label images of any tool on one page, with the worst images.

atomic_write(path, render_score_page(score("their-masks", "my-data")))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image

from dilated.data.sample import Sample
from dilated.evaluation.result import ImageResult, select_worst
from dilated.evaluation.score import Score
from dilated.label_ids import LabelArray
from dilated.report.images import ERROR_COLOR, colorize, draw_errors, encode_data_uri, shrink
from dilated.report.page import render

_MAX_SIDE = 560  # pixels
_NUM_WORST = 12
_GRAY = 128


@dataclass(frozen=True)
class _ShownImage:
    """An image of the page with what was measured on it."""

    result: ImageResult
    panels: dict[str, Markup]


def render_score_page(score: Score, title: str, num_worst: int = _NUM_WORST) -> str:
    """Render the page; it needs no network connection and no other file."""
    index = {row.name: i for i, row in enumerate(score.result.image_results)}
    worst = [
        _ShownImage(row, _draw_panels(score, index[row.name]))
        for row in select_worst(score.result.image_results, num_worst)
    ]
    classes = score.classes
    return render(
        "score.html",
        title=title,
        subtitle=f"{len(score.samples):,} label images, {len(classes)} classes",
        score=score,
        result=score.result,
        names_and_colors=list(zip(classes.names, classes.colors, strict=True)),
        worst=worst,
        error_color=ERROR_COLOR,
    )


def _draw_panels(score: Score, i: int) -> dict[str, Markup]:
    """Draw an image, its truth, its prediction and what is wrong; without the image where there are labels alone."""
    sample = score.samples[i]
    truth, prediction = (_shrink(labels) for labels in score.read_labels(i))
    panels = {}
    if _has_image(sample):
        image = shrink(sample.read_image(), _MAX_SIDE)
        panels["image"] = encode_data_uri(image)
    if not panels or image.shape[:2] != truth.shape:
        image = np.full((*truth.shape, 3), _GRAY, dtype=np.uint8)
    return panels | {
        "truth": encode_data_uri(colorize(truth, score.classes), "png"),
        "prediction": encode_data_uri(colorize(prediction, score.classes), "png"),
        "errors": encode_data_uri(draw_errors(image, truth, prediction)),
    }


def _has_image(sample: Sample) -> bool:
    return sample.image != sample.label


def _shrink(labels: LabelArray) -> LabelArray:
    return shrink(labels, _MAX_SIDE, Image.Resampling.NEAREST)
