"""A training's state as plain values and tensors: what a checkpoint holds, and how a training is put back from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from dilated.data.labels import Classes
from dilated.errors import InputError
from dilated.nn.base import BaseSegmenter
from dilated.nn.build import AnyNetwork, build_segmenter
from dilated.tables import build
from dilated.train import checkpoint
from dilated.train.ema import Average
from dilated.train.log import NAME
from dilated.train.recipe import Recipe, as_table


@dataclasses.dataclass
class State:
    """Where a training is."""

    segmenter: BaseSegmenter
    average: Average | None = None
    stage: int = 0
    step: int = 0
    """Of the stage."""
    total: int = 0
    """Steps over all stages."""
    best: float = -1.0
    spent: float = 0.0
    """Seconds so far, of all processes that worked at it one after another."""
    stage_began: float = 0.0
    """Seconds at which the stage began, ..."""
    stage_seconds: float = 0.0
    """... and what it was given then, where time is what counts."""
    validation: float = 0.0
    """Seconds that the last validation took."""
    steps: dict[str, Any] | None = None
    """Optimiser and what else belongs to `Step`; None at the start of a stage."""


def as_values(state: State) -> dict[str, Any]:
    """What `torch.save` keeps and `torch.load(weights_only=True)` reads."""
    plain = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    plain |= {
        "network": json.dumps(dataclasses.asdict(state.segmenter.network)),
        "weights": state.segmenter.state_dict(),
        "average": state.average.network.state_dict() if state.average else None,
        "average_steps": state.average.steps if state.average else 0,
        "random": checkpoint.random_state(),
    }
    del plain["segmenter"]
    return plain


def from_values(values: dict[str, Any], classes: Classes, decay: float, where: Path) -> State:
    """The state that `as_values` wrote; the random generators are put back too.

    Args:
        decay: of the moving average.
        where: the run, for messages.
    """
    network = build(AnyNetwork, json.loads(values["network"]), f"{where}: network")
    segmenter = build_segmenter(classes.names, classes.colors, network)
    segmenter.load_state_dict(values["weights"])
    average = None
    if values["average"] is not None:
        average = Average(segmenter, decay)
        average.network.load_state_dict(values["average"])
        average.steps = values["average_steps"]
    rest = {f.name: values[f.name] for f in dataclasses.fields(State) if f.name not in ("segmenter", "average")}
    checkpoint.set_random_state(values["random"])
    return State(segmenter, average, **rest)


def same_training(values: dict[str, Any], recipe: Recipe, pictures: dict[str, int], out: Path, root: Path) -> None:
    """Raise where a checkpoint is of another training."""
    if _what_counts(values["recipe"]) != _what_counts(json.dumps(as_table(recipe))):
        mine = out / "recipe.toml"
        raise InputError(f"{out}: its checkpoint was made with another recipe; resume with {mine}")
    if values["pictures"] != pictures:
        raise InputError(
            f"{root}: found {pictures} pictures; the run began with {values['pictures']}. Resume "
            "on the data that it began with, or start a new run with --start on this one."
        )


def _what_counts(recipe: str) -> dict[str, Any]:
    """A recipe without what may change between two parts of a training."""
    table = dict(json.loads(recipe))
    table.pop("shard", None)
    return table


def new_folder(out: Path) -> None:
    """Make the run's folder.

    Raises:
        InputError: there is something in it that is worth keeping.
    """
    # A run that was killed before its first checkpoint leaves these, and nothing worth keeping.
    begun = {"recipe.toml", "plan.toml", NAME, f"{checkpoint.NAME}.part"}
    if out.exists() and (not out.is_dir() or any(p.name not in begun for p in out.iterdir())):
        raise InputError(f"{out}: is not empty; expected a new folder for the run. Use --resume to go on with it.")
    out.mkdir(parents=True, exist_ok=True)
