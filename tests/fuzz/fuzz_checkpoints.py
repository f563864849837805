"""Damaged checkpoints: an `InputError` that names the file or its run, or a state from which a training goes on.

for outcome in run(seed=0, numbers=range(1000)): ...
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from fuzz_bytes import damage
from fuzz_networks import ODD_VALUES, spots
from fuzz_outcome import Outcome, SilentError, examine
from torch import Tensor

from dilated import Segmenter, SegmenterConfig
from dilated.data.labels import Classes
from dilated.run_folder import CHECKPOINT_FILE
from dilated.training import checkpoint
from dilated.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint, state_from_dict, state_to_dict
from dilated.training.config import Recipe, load_recipe, recipe_to_table
from dilated.training.distributed.world import World
from dilated.training.optim import WeightEMA
from dilated.training.step import TrainStep

CLASSES = Classes(("a", "b"), ((0, 0, 0), (255, 255, 255)))


def make_recipe() -> Recipe:
    recipe = load_recipe("quick", ["precision=fp32"])
    return dataclasses.replace(recipe, aux_loss_weight=0.4)


def make_values(recipe: Recipe) -> dict[str, Any]:
    """What a training would write after a step."""
    torch.manual_seed(0)
    segmenter = Segmenter(CLASSES.names, CLASSES.colors, SegmenterConfig(backbone="test_efficientnet", features=4))
    step = TrainStep(segmenter, recipe.stage[0], recipe, World(), notify=str)
    step(torch.rand(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long), 2, 0)
    state = TrainingState(segmenter, WeightEMA(segmenter, 0.9), step=1, total_steps=1, step_state=step.state_dict())
    extra = {
        "recipe": checkpoint.plain_values(recipe_to_table(recipe)),
        "data": {"root": "x", "format": "folders", "digest": "", "group_by": None},
        "image_counts": {"train": 4},
        "log": 0,
    }
    return copy.deepcopy(state_to_dict(state) | extra)


def run(seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    """The cases of these numbers; each depends on the seed and its number alone."""
    recipe = make_recipe()
    healthy = make_values(recipe)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, CHECKPOINT_FILE)
        save_checkpoint(path, healthy)
        content = path.read_bytes()
        for number in numbers:
            random = Random(f"checkpoints/{seed}/{number}")
            if random.random() < 0.3:
                damaged, changes = damage(content, random)
                path.write_bytes(damaged)
            else:
                values = copy.deepcopy(healthy)
                changes: tuple[str, ...] = ()
                try:
                    changes = tuple(change(values, random) for _ in range(random.choice([1, 1, 2, 3])))
                    torch.save(values, path)
                except RecursionError:
                    yield Outcome(number, changes, "skipped")  # which no program could write either
                    continue
            random_state = torch.get_rng_state()
            # A run is named by its folder where what was read does not fit into the network.
            yield examine(number, changes, Path(folder), lambda: resume(path, recipe))
            torch.set_rng_state(random_state)


def change(values: dict[str, Any], random: Random) -> str:
    """Change a value anywhere in a checkpoint; what was done."""
    key = random.choice(list(values)) if values else ""
    places = [(values, key), *(spots(values.get(key))[:2000])]
    where, name = random.choice(places) if random.random() < 0.8 else (values, key)
    if name not in (where if isinstance(where, dict) else range(len(where))):
        return "nothing"
    value = where[name]
    how = random.random()
    if how < 0.1:
        del where[name]
        return f"{key}: no {str(name)[:40]}"
    if isinstance(value, Tensor) and how < 0.8:
        return f"{key}: {change_tensor(where, name, value, random)}"
    where[name] = copy.deepcopy(
        random.choice([*ODD_VALUES, torch.zeros(3), torch.tensor(float("nan")), (1,), "\x1b[2J"])
    )
    return f"{key}: {str(name)[:40]}"


def change_tensor(where: Any, name: Any, value: Tensor, random: Random) -> str:
    kinds = {
        "NaN": lambda: torch.full_like(value, float("nan")) if value.is_floating_point() else value - 1,
        "infinite": lambda: torch.full_like(value, float("inf")) if value.is_floating_point() else value + 1,
        "shape": lambda: value.reshape(-1, 1),
        "empty": lambda: value.flatten()[:0],
        "more": lambda: torch.zeros(value.numel() + 1, dtype=value.dtype),
        "expanded": lambda: torch.zeros(1, dtype=value.dtype).expand(2**33),
        "complex": lambda: value.to(torch.complex64),
        "bool": lambda: value.to(torch.bool),
        "half": lambda: value.to(torch.float16),
        "sparse": lambda: value.to_sparse(),
        "meta": lambda: value.to("meta"),
    }
    kind = random.choice(list(kinds))
    where[name] = kinds[kind]()
    return f"{kind} {str(name)[:40]}"


def resume(path: Path, recipe: Recipe) -> None:
    """Restore a training from a checkpoint, and make a step.

    Raises:
        SilentError: weights that are not finite.
    """
    values = load_checkpoint(path)
    state = state_from_dict(values, CLASSES, 0.9, path.parent)
    if not all(weight.isfinite().all() for weight in state.segmenter.state_dict().values()):
        raise SilentError("weights that are not finite")
    step = TrainStep(state.segmenter, recipe.stage[0], recipe, World(), notify=str)
    if state.step_state:
        with checkpoint.named_damage(path.parent, "the optimizer's state"):
            step.load_state_dict(state.step_state)
    step(torch.rand(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.long), 2, 0)
