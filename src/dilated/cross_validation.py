"""Train once for each fold by group, and pool what the networks get on the groups that they have not seen.

    result = train_folds("my-data", "runs/folds", 5, budget="2h")
    print(result)                                        # one confusion matrix over all images

Each image is measured once, by a network that was trained without its group.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np

from dilated.api import Run, TrainOptions, train
from dilated.data.dataset import Dataset
from dilated.data.groups import Groups
from dilated.errors import InputError
from dilated.evaluation.boundary import BoundaryCounts
from dilated.evaluation.metrics import nan_to_none
from dilated.evaluation.result import EvaluationResult
from dilated.files import atomic_write
from dilated.models.base import BaseSegmenter
from dilated.run_folder import CHECKPOINT_FILE
from dilated.training.budget import parse_duration
from dilated.training.config import Recipe

FOLDS_FILE = "folds.json"
_DEFAULTS = TrainOptions()


def train_folds(
    data: str | Path,
    out: str | Path,
    folds: int,
    *,
    budget: str | float | None = None,
    recipe: str | Path | Recipe | None = None,
    init_from: str | Path | BaseSegmenter | None = None,
    options: TrainOptions = _DEFAULTS,
) -> EvaluationResult:
    """Train a network for each fold, and pool their figures.

    Args:
        data: a data folder; train and val are pooled and divided by group, see `dilated.data.splitting.open_divided`.
        out: the folder of the runs, `fold1`, `fold2` and so on, and of `folds.json`. Runs in it that are there already
            go on where they were.
        folds: how many; as many as groups leave one group out at a time.
        budget: the time for all folds together.
        recipe, init_from, options: as for `dilated.train`.

    Returns:
        The counts of all images, with the groups of the data.

    Raises:
        InputError: as for `dilated.train`, and fewer than two folds or fewer groups than folds.
        Interrupted: asked to stop; calling it again continues.

    Example:
        >>> print(train_folds("my-data", "runs/folds", 5, budget="2h"))  # doctest: +SKIP
    """
    if options.fold is not None or options.lists is not None:
        raise InputError("folds: given beside a fold or lists, which divide the data too", hint="give one of them")
    if folds < 2:
        raise InputError(f"folds: {folds} do not divide", hint="give 2 or more")
    seconds = parse_duration(budget) if isinstance(budget, str) else budget
    results = []
    for number in range(1, folds + 1):
        run = train_fold(
            data,
            Path(out) / f"fold{number}",
            seconds / folds if seconds else None,
            recipe,
            init_from,
            replace(options, fold=f"{number}/{folds}"),
        )
        results.append(run.evaluate(device=options.device))
    pooled = pool_results(results)
    table = pooled.to_dict(per_image=True)
    table["folds"] = [
        {"mean_iou": nan_to_none(result.confusion.mean_iou), "groups": result.groups.to_dict()} for result in results
    ]
    atomic_write(Path(out) / FOLDS_FILE, json.dumps(table, indent=2, allow_nan=False) + "\n")
    return pooled


def train_fold(
    data: str | Path | Dataset,
    folder: Path,
    seconds: float | None,
    recipe: str | Path | Recipe | None,
    init_from: str | Path | BaseSegmenter | None,
    options: TrainOptions,
) -> Run:
    """Train one network in a folder, or go on with the training that is there.

    Raises:
        InputError: as for `dilated.train`.
        Interrupted: asked to stop; calling it again continues.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    is_begun = (folder / CHECKPOINT_FILE).is_file()
    return train(
        data,
        folder,
        budget=seconds,
        recipe=None if is_begun else recipe,
        init_from=None if is_begun else init_from,
        resume=is_begun,
        options=options,
    )


def pool_results(results: Sequence[EvaluationResult]) -> EvaluationResult:
    """Pool the results of several networks, each on images of its own, as if one had been measured.

    Raises:
        InputError: results of different classes.

    Example:
        >>> from dilated.evaluation.evaluate import EvaluationAccumulator
        >>> accumulator = EvaluationAccumulator(["sky", "road"], 1)
        >>> accumulator.add(0, np.array([[0, 1]]), np.array([[0, 0]]))
        >>> part = accumulator.result(["p0"], [0], Groups(("f",), (None,), "given"))
        >>> pool_results([part, part]).confusion.counts.tolist()
        [[2, 2], [0, 0]]
    """
    first = results[0]
    if any(result.classes != first.classes for result in results):
        raise InputError("folds: the networks have different classes", hint="train them with one recipe")
    count = sum(len(result.names) for result in results)
    order = list(range(count))
    groups = [result.groups for result in results]
    boundary = [result.boundary for result in results if result.boundary]
    return EvaluationResult(
        first.classes,
        tuple(name for result in results for name in result.names),
        tuple(order),
        count,
        reduce(np.add, [result.pooled for result in results]),
        np.concatenate([result.class_counts for result in results]),
        BoundaryCounts.concatenate(boundary, order) if len(boundary) == len(results) else None,
        known_groups=Groups(
            tuple(label for part in groups for label in part.labels),
            tuple(position for part in groups for position in part.positions),
            groups[0].source,
        ),
    )
