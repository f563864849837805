"""The page of a study: the arms with paired intervals and costs, curves, images where they differ, and the verdict.

page = render_study_page(result, "my study", classes, histories, images)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image

from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.environment import format_duration
from dilated.evaluation.evaluate import build_class_id_lut
from dilated.evaluation.study import StudyResult
from dilated.input_config import to_display
from dilated.prediction.predictor import Predictor
from dilated.report.charts import Chart
from dilated.report.curves import draw_training
from dilated.report.images import colorize, encode_data_uri, shrink
from dilated.report.page import render
from dilated.training.log import History

_MAX_SIDE = 360
"""The longest side of an image in the page, in pixels: there is one for each arm."""
_NUM_IMAGES = 4


@dataclass(frozen=True)
class ComparedImage:
    """An image, its truth and what the arms make of it, as in the paper's Figures 2 and 3."""

    name: str
    spread: float
    """The highest less the lowest mean IoU of an arm on it."""
    panels: dict[str, Markup]
    """Image, truth and a prediction for each arm, as data URIs by what they show."""
    mean_iou: dict[str, float]
    """Of each arm on this image, the mean over its trainings."""


@dataclass(frozen=True)
class _ArmCurves:
    """How the first training of an arm went."""

    name: str
    loss: Chart | None
    validation: Chart | None


def render_study_page(
    result: StudyResult,
    title: str,
    classes: Classes,
    histories: Mapping[str, History | None],
    images: Sequence[ComparedImage],
) -> str:
    """Render the page; it needs no network connection and no other file.

    Args:
        result: of the arms.
        title: of the page.
        classes: of the data.
        histories: of each arm's first training, by the arm's name.
        images: where the arms differ most.
    """
    curves = []
    for name, history in histories.items():
        if history is not None:
            drawn = draw_training(history, classes)
            curves.append(_ArmCurves(name, drawn.loss, drawn.validation))
    units = result.measured[0].runs[0].units.describe() if result.measured else ""
    return render(
        "study.html",
        title=title,
        subtitle=f"{result.settings.data}: {len(result.arms)} arms, {format_duration(result.settings.seconds)}",
        result=result,
        units=units,
        names_and_colors=list(zip(classes.names, classes.colors, strict=True)),
        curves=curves,
        images=images,
        values=result.to_dict(),
    )


def show_differing_images(
    result: StudyResult,
    samples: Sequence[tuple[int, Sample]],
    classes: Classes,
    make_predictor: Callable[[str, int], Predictor],
    count: int = _NUM_IMAGES,
) -> list[ComparedImage]:
    """Label again, by the first training of each arm, the images on which the arms differ most.

    Args:
        result: of the arms, on these images in their order.
        samples: each with the fold whose networks have not seen it.
        classes: of the data.
        make_predictor: of an arm by its name, in a fold.
        count: images at most.
    """
    arms = result.measured
    if len(arms) < 2:
        return []
    means = np.array([arm.image_means for arm in arms])  # (arms, images)
    spread = np.where(np.isnan(means).any(0), -1.0, means.max(0) - means.min(0))
    chosen = [i for i in np.argsort(-spread, kind="stable")[:count].tolist() if spread[i] > 0]
    drawn: dict[int, dict[str, Markup]] = {}
    for i in chosen:
        image, label = samples[i][1].read()
        truth = shrink(label, _MAX_SIDE, Image.Resampling.NEAREST)
        drawn[i] = {
            "image": encode_data_uri(shrink(to_display(image), _MAX_SIDE)),
            "truth": encode_data_uri(colorize(truth, classes), "png"),
        }
    for arm in arms:
        predictors = {
            number: make_predictor(arm.name, number) for number in dict.fromkeys(samples[i][0] for i in chosen)
        }
        for i in chosen:
            predictor = predictors[samples[i][0]]
            lut = build_class_id_lut(predictor.segmenter.classes, classes.names)
            labels = lut[predictor(samples[i][1].read_image()).labels]
            small = shrink(labels, _MAX_SIDE, Image.Resampling.NEAREST)
            drawn[i][arm.name] = encode_data_uri(colorize(small, classes), "png")
    return [
        ComparedImage(
            samples[i][1].name,
            float(spread[i]),
            drawn[i],
            {arm.name: float(means[row, i]) for row, arm in enumerate(arms)},
        )
        for i in chosen
    ]
