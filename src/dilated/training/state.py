"""A training's state as plain values and tensors: what a checkpoint holds, and how a training is put back from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from dilated.config import build_dataclass
from dilated.data.labels import Classes
from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.run_folder import CHECKPOINT_FILE, LOG_FILE, REASONS_FILE
from dilated.training import checkpoint
from dilated.training.config import Recipe, recipe_to_table
from dilated.training.ema import WeightEMA
from dilated.weights.bundled import AnyConfig


@dataclasses.dataclass
class TrainingState:
    """Where a training is."""

    segmenter: BaseSegmenter
    ema: WeightEMA | None = None
    stage_index: int = 0
    step: int = 0
    """Of the stage."""
    total_steps: int = 0
    """Steps over all stages."""
    best_mean_iou: float = -1.0
    spent_seconds: float = 0.0
    """Seconds so far, of all processes that worked at it one after another."""
    stage_started: float = 0.0
    """Seconds at which the stage began, ..."""
    stage_seconds: float = 0.0
    """... and what it was given then, where time is what counts."""
    validation_seconds: float = 0.0
    """Seconds that the last validation took."""
    step_state: dict[str, Any] | None = None
    """Optimiser and what else belongs to `TrainStep`; None at the start of a stage."""


def state_to_dict(state: TrainingState) -> dict[str, Any]:
    """What `torch.save` keeps and `torch.load(weights_only=True)` reads."""
    plain = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    plain |= {
        "network": json.dumps(dataclasses.asdict(state.segmenter.config)),
        "weights": state.segmenter.state_dict(),
        "ema": state.ema.segmenter.state_dict() if state.ema else None,
        "ema_steps": state.ema.steps if state.ema else 0,
        "random": checkpoint.get_rng_state(),
    }
    del plain["segmenter"]
    return plain


def state_from_dict(values: dict[str, Any], classes: Classes, decay: float, where: Path) -> TrainingState:
    """The state that `state_to_dict` wrote; the random generators are put back too.

    Args:
        decay: of the moving average.
        where: the run, for messages.
    """
    config = build_dataclass(AnyConfig, json.loads(values["network"]), f"{where}: network")
    segmenter = config.build(classes.names, classes.colors)
    segmenter.load_state_dict(values["weights"])
    ema = None
    if values["ema"] is not None:
        ema = WeightEMA(segmenter, decay)
        ema.segmenter.load_state_dict(values["ema"])
        ema.steps = values["ema_steps"]
    rest = {f.name: values[f.name] for f in dataclasses.fields(TrainingState) if f.name not in ("segmenter", "ema")}
    checkpoint.set_rng_state(values["random"])
    return TrainingState(segmenter, ema, **rest)


def require_same_training(
    values: dict[str, Any], recipe: Recipe, image_counts: dict[str, int], out: Path, root: Path
) -> None:
    """Raise where a checkpoint is of another training."""
    if _comparable_recipe(values["recipe"]) != _comparable_recipe(json.dumps(recipe_to_table(recipe))):
        recipe_file = out / "recipe.toml"
        raise InputError(f"{out}: its checkpoint was made with another recipe; resume with {recipe_file}")
    if values["image_counts"] != image_counts:
        raise InputError(
            f"{root}: found {image_counts} images; the run began with {values['image_counts']}. Resume "
            "on the data that it began with, or start a new run with --init-from on this one."
        )


def _comparable_recipe(recipe: str) -> dict[str, Any]:
    """A recipe without what may change between two parts of a training."""
    table = dict(json.loads(recipe))
    table.pop("fsdp", None)
    return table


def create_run_folder(out: Path) -> None:
    """Make the run's folder.

    Raises:
        InputError: there is something in it that is worth keeping.
    """
    # A run that was killed before its first checkpoint leaves these, and nothing worth keeping.
    leftovers = {"recipe.toml", "plan.toml", REASONS_FILE, LOG_FILE, f"{CHECKPOINT_FILE}.part"}
    if out.exists() and (not out.is_dir() or any(p.name not in leftovers for p in out.iterdir())):
        raise InputError(f"{out}: is not empty; expected a new folder for the run. Use --resume to go on with it.")
    out.mkdir(parents=True, exist_ok=True)
