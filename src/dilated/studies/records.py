"""What a study keeps of each training, and of its data: results, costs, failures, each a file that may be damaged.

save_result(folder, evaluate(predictor, samples, classes))
result = read_result(folder, data)                   # None where there is none
read_failure(folder)                                 # "step 40: the loss is nan", or ""
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from dilated.config import build_dataclass
from dilated.data.dataset import Dataset
from dilated.data.manifest import make_manifest, read_manifest
from dilated.errors import InputError
from dilated.evaluation.result import EvaluationResult
from dilated.evaluation.study import NetworkCost
from dilated.files import atomic_path, atomic_write, read_json
from dilated.run_folder import DATA_FILE
from dilated.training.same_data import describe_difference

RESULT_FILE, COST_FILE, FAILURE_FILE = "result.npz", "cost.json", "failed.json"
_LONGEST_REASON = 500


def record_study_data(data: Dataset, out: Path) -> None:
    """Write what the data holds into a study, or hold the data against what was written.

    Raises:
        InputError: images, labels or classes are not those that the study was begun with.
    """
    path = out / DATA_FILE
    previous = read_manifest(path)
    if previous is None and path.is_file():
        raise InputError(
            f"{path}: does not say what data the study was begun with", hint="remove it, if the data is the same"
        )
    samples = {split: data.samples(split) for split in ("train", "val")}
    manifest = make_manifest(samples, data.classes, data.root, previous, lambda done, total: None)
    if previous is not None and previous.digest != manifest.digest:
        changes = describe_difference(previous.describe_changes(manifest))
        raise InputError(
            f"{data.root}: the data is not what the study was begun with: {changes}",
            hint="restore it, or give another --out",
        )
    manifest.save(path)


def save_result(folder: Path, result: EvaluationResult) -> None:
    """Write the counts of the validation images of a fold."""
    with atomic_path(folder / RESULT_FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, pooled=result.pooled, class_counts=result.class_counts)


def read_result(folder: Path, data: Dataset) -> EvaluationResult | None:
    """Read the counts of the validation images of a fold; None where they have not been measured.

    Raises:
        InputError: a damaged file, or one of other images.
    """
    path, classes = folder / RESULT_FILE, data.classes.names
    if not path.is_file():
        return None
    samples = data.samples("val")
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            pooled, class_counts = arrays["pooled"], arrays["class_counts"]
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise _damaged(path, "the result of a training") from error
    if pooled.shape != (len(classes), len(classes)) or class_counts.shape != (len(samples), 3 * len(classes)):
        raise InputError(f"{path}: not of the images of {data.root}", hint="give the data that it was begun with")
    if pooled.dtype != np.int64 or class_counts.dtype != np.int64 or min(pooled.min(), class_counts.min()) < 0:
        raise _damaged(path, "the result of a training")
    names, indices = tuple(sample.name for sample in samples), tuple(range(len(samples)))
    result = EvaluationResult(classes, names, indices, len(samples), pooled, class_counts)
    return result.with_groups(data.groups("val"))


def save_cost(folder: Path, cost: NetworkCost) -> None:
    """Write what the network of an arm costs."""
    atomic_write(folder / COST_FILE, json.dumps(asdict(cost)) + "\n")


def read_cost(path: Path) -> NetworkCost | None:
    """Read what the network of an arm costs; None where it has not been measured.

    Raises:
        InputError: a damaged file.
    """
    if not path.is_file():
        return None
    try:
        cost: NetworkCost = build_dataclass(NetworkCost, read_json(path), str(path))
    except InputError as error:
        raise InputError(f"{path}: not the cost of a network", hint="remove it: the page goes without it") from error
    return cost


def describe_failure(error: Exception) -> str:
    """Say in one line why a training failed."""
    text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:_LONGEST_REASON]


def save_failure(folder: Path, reason: str) -> None:
    """Write why a training failed."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / FAILURE_FILE, json.dumps({"reason": reason}) + "\n")


def read_failure(folder: Path) -> str:
    """Read why a training failed; empty where it did not.

    Raises:
        InputError: a damaged file.
    """
    path = folder / FAILURE_FILE
    if not path.is_file():
        return ""
    table = read_json(path)
    reason = table.get("reason") if isinstance(table, dict) else None
    if not isinstance(reason, str) or not reason:
        raise InputError(f"{path}: does not say why a training failed", hint="remove it: the training is tried again")
    return reason


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path}: not {what}", hint="remove it: the network is measured again")
