"""Everything about a run on one page.

    write_report(Path("runs/mine"), open_dataset("my-data"))        # runs/mine/report.html

The pictures of the split are labelled once; all figures are those of `dilated evaluate`.
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

from dilated.data.dataset import Data
from dilated.errors import InputError
from dilated.evaluate.evaluate import evaluate, same_classes
from dilated.evaluate.evaluation import Evaluation
from dilated.evaluate.report import curves, looks, made, pictures, splits, tables, trust
from dilated.evaluate.report.history import History, read_history
from dilated.evaluate.report.machine import machine, seconds
from dilated.evaluate.report.markup import text
from dilated.evaluate.report.page import Section, page
from dilated.weights import network_file

BEST, RECIPE, PLAN = "best.safetensors", "recipe.toml", "plan.toml"
ROOM = 20_000
"""Figures of single pictures up to which the page holds them for machines."""


def write_report(
    run: Path,
    data: Data,
    out: Path | None = None,
    split: str = "val",
    device: str | None = None,
    tick: Callable[[], object] | None = None,
) -> Path:
    """Measure a run's best network and write the page.

    Args:
        run: a run's folder, with `best.safetensors`; recipe, plan and log are shown where it has them.
        data: with the network's classes, in any order.
        out: the page's file; `report.html` in the run if not given. It is replaced whole or not at all.
        split: the pictures to measure.
        device: `cpu` or `cuda`; CUDA where there is one if not given.
        tick: called after each picture.

    Returns:
        The page's file.

    Raises:
        InputError: no such run, one without a network or with one of other classes, an unreadable picture or log, or
            nowhere to write.
    """
    began = time.monotonic()
    run, out = Path(run), Path(out) if out is not None else Path(run) / "report.html"
    _check(run, out)
    segmenter = network_file.load(run / BEST)
    same_classes(segmenter.classes, data.classes)
    pairs = data.pairs(split)
    history, recipe, plan = read_history(run), _read(run / RECIPE), _read(run / PLAN)
    settings = _settings(recipe, run)
    watched = pictures.Watched(segmenter, device=device)
    result = evaluate(watched, pairs, data.classes, tick, boundary=True, trimap=made.WIDTHS, calibration=True)
    measured = time.monotonic() - began
    classes = data.classes
    sections = [
        Section("figures-first", "In short", tables.headline(result, split, split == "val")),
        Section("data", "Data", splits.section(data, splits.count_splits(data), split)),
        Section("training", "Training", curves.section(history, settings, classes)),
        Section("classes", "Classes", tables.per_class(result, classes)),
        Section("confusions", "Confusions", tables.confusions(result, classes)),
        Section("pictures", "Best and worst pictures", pictures.section(result, watched, pairs, classes)),
        Section("trust", "Confidence and borders", trust.section(result)),
        Section("field", "What it looks at", looks.section(segmenter, pairs[0], watched.device)),
        Section(
            "made",
            "How it was made",
            made.section(
                recipe,
                plan,
                machine(watched.device.type),
                _times(history, len(pairs), measured, time.monotonic() - began),
            ),
        ),
        Section("again", "Do it again", made.commands(run, data, split, str(settings.get("weights", "bundled")))),
    ]
    name = run.name or run.resolve().name
    what = (
        f"{text(type(segmenter).__name__)} with {_parameters(segmenter)} parameters, output stride "
        f"{segmenter.output_stride}{_stage(segmenter.card)}; measured on {text(split)} of {text(data.root.name)}."
    )
    shown = page(f"{name}: report", what, sections, _figures(result))
    _replace(out, shown)
    return out


def _check(run: Path, out: Path) -> None:
    """Raise, before the work, where there is nothing to report on or nowhere to write."""
    if not run.is_dir():
        found = "a file" if run.exists() else "no such folder"
        raise InputError(
            f"{run}: found {found}; expected a run's folder, as `dilated train DATA --out RUN` makes it. For a network "
            "file alone there is `dilated evaluate`."
        )
    if not (run / BEST).is_file():
        raise InputError(
            f"{run}: holds no {BEST}; expected a run that has reached its first validation. `dilated train DATA --out "
            f"{run} --resume` goes on with it."
        )
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: its folder is not there; expected one to write the page to. Make it first.")
    if out.is_dir():
        raise InputError(f"{out}: found a folder; expected a file's name, such as {out / 'report.html'}")


def _read(path: Path) -> str | None:
    """The text of a file; None where there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _settings(recipe: str | None, run: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(recipe or "")
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{run / RECIPE}: is no TOML: {error}; expected the recipe that training wrote") from error


def _times(history: History | None, number: int, measured: float, whole: float) -> dict[str, str]:
    """What took how long."""
    found = {}
    if history is not None and history.seconds:
        found["training"] = f"{seconds(history.seconds)} for {history.steps:,} steps, validations not counted"
    found["measuring"] = f"{seconds(measured)} for {number:,} pictures"
    found["this page"] = f"{seconds(whole)} in all"
    return found


def _parameters(segmenter: torch.nn.Module) -> str:
    number = sum(one.numel() for one in segmenter.parameters())
    return f"{number / 1e6:.1f} million" if number >= 1e5 else f"{number:,}"


def _stage(card: dict[str, object]) -> str:
    """Where in its training the network was kept."""
    return f", of stage {text(card['stage'])}, step {text(card['step'])}" if {"stage", "step"} <= card.keys() else ""


def _figures(result: Evaluation) -> dict[str, Any]:
    """As `dilated evaluate --json` has them; those of single pictures where they are not too many."""
    return result.to_dict(per_picture=len(result.names) * len(result.confusion.classes) <= ROOM)


def _replace(out: Path, shown: str) -> None:
    """Write the file whole: at any moment it is the old one or the new one."""
    handle, name = tempfile.mkstemp(dir=out.absolute().parent, prefix=f".{out.name}.", suffix=".part")
    partial = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(shown)
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)  # mkstemp's files are for their owner alone
        partial.replace(out)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
