"""Everything about a run on one page.

    write_report(Path("runs/mine"), open_dataset("my-data"))        # runs/mine/report.html

The images of the split are labelled once; all figures are those of `dilated evaluate`.
"""

from __future__ import annotations

import os
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dilated.data.dataset import Dataset
from dilated.environment import describe_machine, format_duration
from dilated.errors import InputError
from dilated.evaluation.accumulator import MetricsConfig
from dilated.evaluation.evaluate import evaluate, require_same_classes
from dilated.evaluation.result import EvaluationResult
from dilated.models import network_file
from dilated.report import calibration, curves, field_of_view, images, provenance, splits, tables
from dilated.report.history import History, read_history
from dilated.report.markup import escape_text
from dilated.report.page import Section, render_page

_BEST, _RECIPE, _PLAN = "best.safetensors", "recipe.toml", "plan.toml"
_MAX_VALUES_PER_IMAGE = 20_000
"""Figures of single images up to which the page holds them for machines."""


def write_report(
    run: Path,
    data: Dataset,
    out: Path | None = None,
    split: str = "val",
    device: str | None = None,
    on_progress: Callable[[], object] | None = None,
) -> Path:
    """Measure a run's best network and write the page.

    Args:
        run: a run's folder, with `best.safetensors`; recipe, plan and log are shown where it has them.
        data: with the network's classes, in any order.
        out: the page's file; `report.html` in the run if not given. It is replaced whole or not at all.
        split: the images to measure.
        device: `cpu` or `cuda`; CUDA where there is one if not given.
        tick: called after each image.

    Returns:
        The page's file.

    Raises:
        InputError: no such run, one without a network or with one of other classes, an unreadable image or log, or
            nowhere to write.
    """
    started_at = time.monotonic()
    run, out = Path(run), Path(out) if out is not None else Path(run) / "report.html"
    _check_paths(run, out)
    segmenter = network_file.load(run / _BEST)
    require_same_classes(segmenter.classes, data.classes)
    samples = data.samples(split)
    history, recipe, plan = read_history(run), _read_text_if_exists(run / _RECIPE), _read_text_if_exists(run / _PLAN)
    recipe_table = _parse_recipe(recipe, run)
    recorder = images.RecordingPredictor(segmenter, device=device)
    result = evaluate(
        recorder,
        samples,
        data.classes,
        MetricsConfig(boundary=True, trimap=provenance.TRIMAP_WIDTHS, calibration=True),
        on_progress,
    )
    evaluation_seconds = time.monotonic() - started_at
    classes = data.classes
    sections = [
        Section("figures-first", "In short", tables.render_headline(result, split, split == "val")),
        Section("data", "Data", splits.render_splits(data, splits.count_splits(data), split)),
        Section("training", "Training", curves.render_training(history, recipe_table, classes)),
        Section("classes", "Classes", tables.render_class_table(result, classes)),
        Section("confusions", "Confusions", tables.render_confusions(result, classes)),
        Section("images", "Best and worst images", images.render_images(result, recorder, samples, classes)),
        Section("trust", "Confidence and borders", calibration.render_calibration(result)),
        Section(
            "field", "What it looks at", field_of_view.render_field_of_view(segmenter, samples[0], recorder.device)
        ),
        Section(
            "made",
            "How it was made",
            provenance.render_provenance(
                recipe,
                plan,
                describe_machine(recorder.device.type),
                _describe_times(history, len(samples), evaluation_seconds, time.monotonic() - started_at),
            ),
        ),
        Section(
            "again",
            "Do it again",
            provenance.render_commands(run, data, split, str(recipe_table.get("weights", "bundled"))),
        ),
    ]
    name = run.name or run.resolve().name
    subtitle = (
        f"{escape_text(type(segmenter).__name__)} with {_format_parameter_count(segmenter)} parameters, output stride "
        f"{segmenter.output_stride}{_describe_stage(segmenter.card)}; measured on {escape_text(split)} of {escape_text(data.root.name)}."
    )
    html = render_page(f"{name}: report", subtitle, sections, _page_metrics(result))
    _write_atomically(out, html)
    return out


def _check_paths(run: Path, out: Path) -> None:
    """Raise, before the work, where there is nothing to report on or nowhere to write."""
    if not run.is_dir():
        times = "a file" if run.exists() else "no such folder"
        raise InputError(
            f"{run}: found {times}; expected a run's folder, as `dilated train DATA --out RUN` makes it. For a network "
            "file alone there is `dilated evaluate`."
        )
    if not (run / _BEST).is_file():
        raise InputError(
            f"{run}: holds no {_BEST}; expected a run that has reached its first validation. `dilated train DATA --out "
            f"{run} --resume` goes on with it."
        )
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: its folder is not there; expected one to write the page to. Make it first.")
    if out.is_dir():
        raise InputError(f"{out}: found a folder; expected a file's name, such as {out / 'report.html'}")


def _read_text_if_exists(path: Path) -> str | None:
    """The text of a file; None where there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _parse_recipe(recipe: str | None, run: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(recipe or "")
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{run / _RECIPE}: is no TOML: {error}; expected the recipe that training wrote") from error


def _describe_times(
    history: History | None, count: int, evaluation_seconds: float, total_seconds: float
) -> dict[str, str]:
    """What took how long."""
    times = {}
    if history is not None and history.seconds:
        times["training"] = f"{format_duration(history.seconds)} for {history.steps:,} steps, validations not counted"
    times["measuring"] = f"{format_duration(evaluation_seconds)} for {count:,} images"
    times["this page"] = f"{format_duration(total_seconds)} in all"
    return times


def _format_parameter_count(segmenter: torch.nn.Module) -> str:
    count = sum(one.numel() for one in segmenter.parameters())
    return f"{count / 1e6:.1f} million" if count >= 1e5 else f"{count:,}"


def _describe_stage(card: dict[str, object]) -> str:
    """Where in its training the network was kept."""
    return (
        f", of stage {escape_text(card['stage'])}, step {escape_text(card['step'])}"
        if {"stage", "step"} <= card.keys()
        else ""
    )


def _page_metrics(result: EvaluationResult) -> dict[str, Any]:
    """As `dilated evaluate --json` has them; those of single images where they are not too many."""
    return result.to_dict(per_image=len(result.names) * len(result.confusion.classes) <= _MAX_VALUES_PER_IMAGE)


def _write_atomically(out: Path, html: str) -> None:
    """Write the file whole: at any moment it is the old one or the new one."""
    handle, name = tempfile.mkstemp(dir=out.absolute().parent, prefix=f".{out.name}.", suffix=".part")
    partial = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(html)
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)  # mkstemp's files are for their owner alone
        partial.replace(out)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
