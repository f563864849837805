"""Everything about a run on one page.

    write_report("runs/mine", "my-data")                 # runs/mine/report.html

The images of the split are labelled once; all figures are those of `dilated evaluate`.
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from dilated.data.dataset import Dataset, open_dataset
from dilated.environment import describe_machine, format_duration
from dilated.errors import InputError
from dilated.evaluation.evaluate import MetricsConfig, evaluate, require_same_classes
from dilated.files import atomic_write, read_json
from dilated.prediction.predictor import Predictor
from dilated.progress import ProgressCallback
from dilated.report import images
from dilated.report.curves import draw_reliability, draw_training
from dilated.report.field_of_view import show_field
from dilated.report.page import render
from dilated.report.tables import count_splits, find_confusions
from dilated.run_folder import BEST_FILE, REASONS_FILE, RECIPE_FILE, REPORT_FILE
from dilated.training.autoplan.choices import Choice
from dilated.training.config import load_recipe
from dilated.training.log import History, read_history
from dilated.weights.bundled import load

_TRIMAP_WIDTHS = (1, 2, 4, 8, 16, 32)
"""Widths of the trimap bands, in pixels."""
_MAX_VALUES_PER_IMAGE = 20_000
"""Number of metrics of single images up to which the page holds them for machines."""


def write_report(
    run: str | Path,
    data: str | Path | Dataset,
    out: str | Path | None = None,
    split: str = "val",
    device: str | None = None,
    on_progress: ProgressCallback | None = None,
    format: str | None = None,
) -> Path:
    """Measure a run's best network and write one page about it: metrics, curves, images, recipe, commands.

    Args:
        run: the folder of a training, with `best.safetensors`; recipe, plan and log are shown where it has them.
        data: a data folder or an opened one, with the network's class names in any order.
        out: the page's file; `report.html` in the run if not given. An error leaves a page of that name as it was.
        split: the part of the data to measure.
        device: `cpu` or `cuda`; CUDA where there is one if not given.
        on_progress: called after each image with how many are done and how many there are.
        format: the data's layout, where it is not recognized; the page's commands then name it too.

    Returns:
        The page's file.

    Raises:
        InputError: no such run or data, classes that differ, an unreadable file, or nowhere to write.

    Example:
        >>> write_report("runs/mine", "my-data")  # doctest: +SKIP
        PosixPath('runs/mine/report.html')
    """
    started_at = time.monotonic()
    run, out = Path(run), Path(out) if out is not None else Path(run) / REPORT_FILE
    _check_paths(run, out)
    segmenter = load(run / BEST_FILE)
    data = data if isinstance(data, Dataset) else open_dataset(data, format)
    require_same_classes(segmenter.classes, data.classes)
    samples = data.samples(split)
    history, reasons, recipe_file = read_history(run), _read_reasons(run), run / RECIPE_FILE
    recipe = load_recipe(str(recipe_file)) if recipe_file.is_file() else None
    predictor, recorder = Predictor(segmenter, device=device), images.PredictionRecorder(segmenter.classes)
    has_few = len(segmenter.classes) <= 255  # of more the logits of an image could fill the memory
    result = evaluate(
        predictor,
        samples,
        data.classes,
        MetricsConfig(boundary=True, trimap=_TRIMAP_WIDTHS, calibration=has_few),
        on_progress,
        recorder,
    ).with_groups(data.groups(split))
    seconds = time.monotonic() - started_at
    worst, best = images.show_images(result, recorder, samples, data.classes)
    page = render(
        "report.html",
        title=f"{run.name or run.resolve().name}: report",
        segmenter=segmenter,
        kind=type(segmenter).__name__,
        num_parameters=sum(parameter.numel() for parameter in segmenter.parameters()),
        data=data,
        split=split,
        classes=data.classes,
        result=result,
        splits=count_splits(data),
        history=history,
        curves=draw_training(history, data.classes) if history is not None else None,
        confusions=find_confusions(result, data.classes),
        worst=worst,
        best=best,
        error_color=images.ERROR_COLOR,
        trust=draw_reliability(result),
        field=show_field(segmenter, samples[0], predictor.device),
        reasons=reasons,
        recipe=recipe,
        recipe_text=recipe_file.read_text(encoding="utf-8") if recipe is not None else "",
        facts=_describe_times(history, len(samples), seconds, time.monotonic() - started_at)
        | describe_machine(predictor.device.type),
        commands=_list_commands(run, data.root, split, format, recipe is not None and recipe.weights == "init-from"),
        metrics=result.to_dict(per_image=len(samples) * len(data.classes) <= _MAX_VALUES_PER_IMAGE),
    )
    atomic_write(out, page)
    return out


def _check_paths(run: Path, out: Path) -> None:
    """Raise, before the work, where there is nothing to report on or nowhere to write."""
    if not run.is_dir():
        problem = "a file, and no run's folder" if run.exists() else "no such folder"
        raise InputError(
            f"report on {run}: {problem}",
            hint="give a run's folder, as `dilated train DATA --out RUN` makes it; for a network file alone, run "
            "`dilated evaluate`",
        )
    if not (run / BEST_FILE).is_file():
        raise InputError(
            f"report on {run}: it has no {BEST_FILE}, so the run has not reached its first validation",
            hint=f"continue it with `dilated train DATA --out {shlex.quote(str(run))} --resume`",
        )
    if not out.absolute().parent.is_dir():
        raise InputError(f"write the report to {out}: its folder does not exist", hint="make the folder first")
    if out.is_dir():
        raise InputError(f"write the report to {out}: it is a folder", hint=f"give a file such as {out / REPORT_FILE}")


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


def _read_reasons(run: Path) -> list[Choice]:
    """Read why a planned run is as it is; empty for a run that was not planned.

    Raises:
        InputError: a damaged file.
    """
    path = run / REASONS_FILE
    if not path.is_file():
        return []
    try:
        return [Choice(str(row["choice"]), str(row["value"]), str(row["reason"])) for row in read_json(path)]
    except (TypeError, KeyError) as error:
        raise InputError(f"{path}: not a list of choices with value and reason", hint="delete the file") from error


def _list_commands(run: Path, data: Path, split: str, format: str | None, needs_init: bool) -> dict[str, str]:
    """List the commands that do it all again, by what they do.

    Args:
        format: the name of the data's layout, where it has to be given.
        needs_init: whether training started from a network that has to be given.
    """
    name, root = shlex.quote(str(run)), shlex.quote(str(data))
    new_run = shlex.quote(f"{run}-again")
    option = f" --format {format}" if format else ""
    init_from = " --init-from NETWORK" if needs_init else ""
    split = "" if split == "val" else f" --split {shlex.quote(split)}"
    recipe = shlex.quote(str(run / RECIPE_FILE))
    return {
        "train": f"dilated train {root} --recipe {recipe} --out {new_run}{init_from}{option}",
        "evaluate": (
            f"dilated evaluate {name} {root}{split}{option} --trimap {' '.join(map(str, _TRIMAP_WIDTHS))} --calibration"
        ),
        "predict": f"dilated predict {name} IMAGE --out LABELS",
        "this page": f"dilated report {name} {root}{split}{option}",
    }
