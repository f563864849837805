"""The page of a study: the arms with paired intervals and costs, curves, images where they differ, and the verdict.

page = render_study_page(result, "my study", classes, histories, images)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dilated.data.labels import Classes
from dilated.environment import format_duration
from dilated.evaluation.study import StudyResult
from dilated.files import plural
from dilated.report.charts import Chart
from dilated.report.curves import draw_training
from dilated.report.differing_images import ComparedImage
from dilated.report.page import render
from dilated.training.log import History


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
    arms, seconds = plural(len(result.arms), "arm"), format_duration(result.settings.seconds)
    return render(
        "study.html",
        title=title,
        subtitle=f"{result.settings.data}: {arms}, {seconds}",
        result=result,
        units=units,
        names_and_colors=list(zip(classes.names, classes.colors, strict=True)),
        curves=curves,
        images=images,
        values=result.to_dict(),
    )
