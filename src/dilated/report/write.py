"""Everything about a run on one page.

    write_report(Path("runs/mine"), open_dataset("my-data"))        # runs/mine/report.html

The images of the split are labelled once; all figures are those of `dilated evaluate`.
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup

from dilated.data.dataset import Dataset
from dilated.environment import describe_machine, format_duration
from dilated.errors import InputError
from dilated.evaluation.evaluate import MetricsConfig, evaluate, require_same_classes
from dilated.evaluation.result import EvaluationResult
from dilated.files import atomic_write
from dilated.prediction.predictor import Predictor
from dilated.progress import ProgressCallback
from dilated.report import calibration, curves, field_of_view, images, provenance, splits, tables
from dilated.report.markup import escape_text
from dilated.report.page import Section, render_report
from dilated.run_folder import BEST_FILE, RECIPE_FILE, REPORT_FILE
from dilated.training.config import load_recipe
from dilated.training.log import History, read_history
from dilated.weights.bundled import load

_MAX_VALUES_PER_IMAGE = 20_000
"""Number of metrics of single images up to which the page holds them for machines."""


def write_report(
    run: Path,
    data: Dataset,
    out: Path | None = None,
    split: str = "val",
    device: str | None = None,
    on_progress: ProgressCallback | None = None,
    layout: str | None = None,
) -> Path:
    """Measure a run's best network and write the page.

    Args:
        run: a run's folder, with `best.safetensors`; recipe, plan and log are shown where it has them.
        data: data with the network's classes, in any order.
        out: the page's file; `report.html` in the run if not given. It is replaced whole or not at all.
        split: the part of the data to measure.
        device: `cpu` or `cuda`; CUDA where there is one if not given.
        on_progress: called after each image with how many are done and how many there are.
        layout: the name of the data's layout, where it had to be given: the page's commands then give it too.

    Returns:
        The page's file.

    Raises:
        InputError: no such run, one without a network or with one of other classes, an unreadable image or log, or
            nowhere to write.
    """
    started_at = time.monotonic()
    run, out = Path(run), Path(out) if out is not None else Path(run) / REPORT_FILE
    _check_paths(run, out)
    segmenter = load(run / BEST_FILE)
    require_same_classes(segmenter.classes, data.classes)
    samples = data.samples(split)
    history, reasons, recipe_file = read_history(run), provenance.read_reasons(run), run / RECIPE_FILE
    recipe = load_recipe(str(recipe_file)) if recipe_file.is_file() else None
    predictor, recorder = Predictor(segmenter, device=device), images.PredictionRecorder(segmenter.classes)
    result = evaluate(
        predictor,
        samples,
        data.classes,
        MetricsConfig(boundary=True, trimap=provenance.TRIMAP_WIDTHS, calibration=True),
        on_progress,
        recorder,
    )
    evaluation_seconds = time.monotonic() - started_at
    classes = data.classes
    sections = [
        Section("figures-first", "In short", tables.render_headline(result, split, split == "val")),
        Section("data", "Data", splits.render_splits(data, splits.count_splits(data), split)),
        Section("training", "Training", curves.render_training(history, recipe, classes)),
        Section("classes", "Classes", tables.render_class_table(result, classes)),
        Section("confusions", "Confusions", tables.render_confusions(result, classes)),
        Section("images", "Best and worst images", images.render_images(result, recorder, samples, classes)),
        Section("trust", "Confidence and borders", calibration.render_calibration(result)),
        Section(
            "field", "What it looks at", field_of_view.render_field_of_view(segmenter, samples[0], predictor.device)
        ),
        Section(
            "made",
            "How it was made",
            provenance.render_provenance(
                recipe_file.read_text(encoding="utf-8") if recipe is not None else None,
                reasons,
                describe_machine(predictor.device.type),
                _describe_times(history, len(samples), evaluation_seconds, time.monotonic() - started_at),
            ),
        ),
        Section(
            "again",
            "Do it again",
            provenance.render_commands(
                run, data.root, split, layout, recipe is not None and recipe.weights == "init-from"
            ),
        ),
    ]
    name = run.name or run.resolve().name
    subtitle = (
        f"{escape_text(type(segmenter).__name__)} with {_format_parameter_count(segmenter)} parameters, output stride "
        f"{segmenter.output_stride}{_describe_stage(segmenter.card)}; measured on {escape_text(split)} of "
        f"{escape_text(data.root.name)}."
    )
    atomic_write(out, render_report(f"{name}: report", Markup(subtitle), sections, _page_metrics(result)))
    return out


def _check_paths(run: Path, out: Path) -> None:
    """Raise, before the work, where there is nothing to report on or nowhere to write."""
    if not run.is_dir():
        found = "a file" if run.exists() else "no such folder"
        raise InputError(
            f"report on {run}: found {found}; expected a run's folder, as `dilated train DATA --out RUN` makes it",
            hint="for a network file alone, run `dilated evaluate`",
        )
    if not (run / BEST_FILE).is_file():
        raise InputError(
            f"report on {run}: holds no {BEST_FILE}; expected a run that has reached its first validation",
            hint=f"continue it with `dilated train DATA --out {shlex.quote(str(run))} --resume`",
        )
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: its folder is not there", hint="make the folder first")
    if out.is_dir():
        raise InputError(f"{out}: found a folder; expected a file's name, such as {out / REPORT_FILE}")


def _describe_times(
    history: History | None, count: int, evaluation_seconds: float, total_seconds: float
) -> dict[str, str]:
    """Say what took how long."""
    times = {}
    if history is not None and history.seconds:
        times["training"] = f"{format_duration(history.seconds)} for {history.steps:,} steps, validations not counted"
    times["measuring"] = f"{format_duration(evaluation_seconds)} for {count:,} images"
    times["this page"] = f"{format_duration(total_seconds)} in all"
    return times


def _format_parameter_count(segmenter: torch.nn.Module) -> str:
    count = sum(parameter.numel() for parameter in segmenter.parameters())
    return f"{count / 1e6:.1f} million" if count >= 1e5 else f"{count:,}"


def _describe_stage(card: dict[str, object]) -> str:
    """Say at which stage and step of its training the network was kept."""
    return (
        f", of stage {escape_text(card['stage'])}, step {escape_text(card['step'])}"
        if {"stage", "step"} <= card.keys()
        else ""
    )


def _page_metrics(result: EvaluationResult) -> dict[str, Any]:
    """As `dilated evaluate --json` has them; those of single images where they are not too many."""
    return result.to_dict(per_image=len(result.names) * len(result.confusion.classes) <= _MAX_VALUES_PER_IMAGE)
