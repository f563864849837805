"""The state of a training, and the checkpoint that holds it: everything needed to continue exactly where it was."""

from __future__ import annotations

import dataclasses
import functools
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dilated.config import to_toml
from dilated.data.labels import Classes
from dilated.environment import require_memory
from dilated.errors import InputError
from dilated.files import atomic_path, atomic_write, sync_folder
from dilated.lock import LOCK_FILE
from dilated.models.base import BaseSegmenter
from dilated.models.guarded_build import build_guarded, find_shapes, require_fit, require_stored_types
from dilated.models.network_file import require_usable
from dilated.run_folder import DATA_FILE, LOG_FILE, PLAN_FILE, REASONS_FILE, RECIPE_FILE
from dilated.training.checkpoint_schema import require_archive, require_checkpoint, require_random_state
from dilated.training.config import Recipe, recipe_to_table
from dilated.training.optim import WeightEMA
from dilated.weights.bundled import read_config


@dataclasses.dataclass
class TrainingState:
    """How far a training is."""

    segmenter: BaseSegmenter
    ema: WeightEMA | None = None
    stage_index: int = 0
    step: int = 0
    """Steps of the stage so far."""
    total_steps: int = 0
    """Steps over all stages."""
    best_mean_iou: float = -1.0
    spent_seconds: float = 0.0
    """Seconds so far, those before interruptions included."""
    stage_started: float = 0.0
    """Seconds at which the stage began."""
    stage_seconds: float = 0.0
    """Seconds that the stage was given then, where the recipe has a time budget."""
    validation_seconds: float = 0.0
    """Seconds that the last validation took."""
    step_state: dict[str, Any] | None = None
    """The state of `TrainStep`, such as the optimizer's; None at the start of a stage."""


def state_to_dict(state: TrainingState) -> dict[str, Any]:
    """Return plain values, which `torch.load(weights_only=True)` reads back."""
    plain = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    plain |= {
        "network": plain_values(dataclasses.asdict(state.segmenter.config)),
        "weights": state.segmenter.state_dict(),
        "ema": state.ema.segmenter.state_dict() if state.ema else None,
        "ema_steps": state.ema.steps if state.ema else 0,
        "cards": [plain_values(network.card) for network in _networks(state)],
        "random": _get_rng_state(),
    }
    del plain["segmenter"]
    return plain


def state_from_dict(values: dict[str, Any], classes: Classes, decay: float, where: Path) -> TrainingState:
    """Restore the state that `state_to_dict` returned, and the random generators.

    Args:
        decay: of the moving average.
        where: the run, for messages.

    Raises:
        InputError: weights that are NaN or infinite.
    """
    config = read_config(values["network"], f"{where}: checkpoint")
    build = functools.partial(config.build, classes.names, classes.colors)
    shapes = find_shapes(values["weights"])
    segmenter = build_guarded(build, config, len(classes.names), shapes, f"{where}: checkpoint")
    _load_weights(segmenter, values, "weights", where)
    ema = None
    if values["ema"] is not None:
        ema = WeightEMA(segmenter, decay)
        _load_weights(ema.segmenter, values, "ema", where)
        ema.steps = values["ema_steps"]
    state = TrainingState(segmenter, ema)
    with named_damage(where, "the cards of its networks"):
        for network, card in zip(_networks(state), values["cards"], strict=True):
            network.card = card
    rest = {f.name: values[f.name] for f in dataclasses.fields(TrainingState) if f.name not in ("segmenter", "ema")}
    with named_damage(where, "the state of the random generators"):
        _set_rng_state(values["random"])
    return dataclasses.replace(state, **rest)


def _load_weights(segmenter: BaseSegmenter, values: dict[str, Any], key: str, where: Path) -> None:
    task, state, tensors = f"{where}: checkpoint: {key}", segmenter.state_dict(), values[key]
    require_fit(state, tensors, task)
    require_stored_types(state, tensors, task)
    require_usable(tensors, task)
    segmenter.load_state_dict(tensors)


@contextmanager
def named_damage(where: Path, what: str) -> Iterator[None]:
    """Name the checkpoint where something in it cannot be restored.

    Args:
        where: the run.
        what: is being restored.
    """
    try:
        yield
    except (ValueError, KeyError, IndexError, RuntimeError, OverflowError) as error:  # the schema has seen to types
        require_memory(error, f"{where}: checkpoint: {what}")
        raise InputError(
            f"{where}: checkpoint: {what} cannot be restored ({type(error).__name__}: {str(error)[:200]})",
            hint="start a new run with --init-from on this one",
        ) from error


def _networks(state: TrainingState) -> list[BaseSegmenter]:
    return [state.segmenter, *([state.ema.segmenter] if state.ema else [])]


def require_same_recipe(values: dict[str, Any], recipe: Recipe, out: Path) -> None:
    """Raise where a checkpoint was made with another recipe, and name what differs."""
    before = _comparable_recipe(values["recipe"])
    now = _comparable_recipe(plain_values(recipe_to_table(recipe)))
    if before != now:
        changes = _describe_changes(before, now)
        raise InputError(
            f"{out}: its checkpoint was made with another recipe: {', '.join(changes[:5])}"
            + (f" and {len(changes) - 5} more" if len(changes) > 5 else ""),
            hint="resume with the recipe that it began with, or start a new run with --init-from on this one",
        )


def _describe_changes(before: Any, now: Any, name: str = "") -> list[str]:
    """Return what is other in nested tables, as "stage.0.lr was 0.1, is 0.2"."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        pairs: list[tuple[object, Any, Any]] = [(key, before.get(key), now.get(key)) for key in keys]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = [(index, *pair) for index, pair in enumerate(zip(before, now, strict=True))]
    else:
        return [] if before == now else [f"{name} was {_shorten(before)}, is {_shorten(now)}"]
    return [change for key, old, new in pairs for change in _describe_changes(old, new, f"{name}.{key}".lstrip("."))]


def _shorten(value: object) -> str:
    text = "not given" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _comparable_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's table without the keys that may change when a training is resumed."""
    return {key: value for key, value in recipe.items() if key not in ("fsdp", "workers", "cache")}


def plain_values(value: Any) -> Any:
    """Return nested tables with lists for tuples, as a checkpoint holds them: equal tables are then equal values."""
    if isinstance(value, dict):
        return {key: plain_values(item) for key, item in value.items()}
    return [plain_values(item) for item in value] if isinstance(value, list | tuple) else value


def create_run_folder(out: Path) -> None:
    """Create the folder of a run.

    Raises:
        InputError: it holds something that is worth keeping.
    """
    # A run that was killed before its first checkpoint leaves these, and nothing worth keeping.
    leftovers = {DATA_FILE, RECIPE_FILE, PLAN_FILE, REASONS_FILE, LOG_FILE, LOCK_FILE}
    if out.exists() and (
        not out.is_dir() or any(p.name not in leftovers and p.suffix != ".part" for p in out.iterdir())
    ):
        raise InputError(f"{out}: is not empty", hint="give a new folder for the run, or --resume to continue this one")
    out.mkdir(parents=True, exist_ok=True)
    sync_folder(out.absolute().parent)


def write_recipe(out: Path, recipe: Recipe) -> None:
    """Write what the training does into its folder, unless the file says it already."""
    path, text = out / RECIPE_FILE, to_toml(recipe_to_table(recipe))
    if not path.is_file() or path.read_bytes() != text.encode():
        atomic_write(path, text)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically: killed at any moment, `path` is the old checkpoint or the new one.

    Raises:
        InputError: it cannot be written, for example on a full disk; the previous one is untouched.
    """
    try:
        with atomic_path(path) as temporary, temporary.open("wb", buffering=1 << 20) as file:
            torch.save(state, file)  # given a name, it would write that into the file
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError where the disk is full
        has_previous = path.is_file()
        next_step = "continue with --resume" if has_previous else "run the same command again"
        require_memory(error, f"{path}: writing the checkpoint", f"free memory, and {next_step}")
        kept = (
            "the checkpoint before it is whole" if has_previous else "it would have been the first, and no step is lost"
        )
        raise InputError(
            f"{path}: could not be written ({_short_reason(error)}); {kept}",
            hint=f"make room, and {next_step}",
        ) from error


def _short_reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error).splitlines()[0][:160]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        InputError: it is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, so there is nothing to resume; start without --resume")
    require_archive(path)
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises anything on damaged bytes
        require_memory(error, f"{path}: reading the checkpoint", "free memory, and try again")
        raise InputError(
            f"{path}: the checkpoint is damaged ({type(error).__name__}: {str(error)[:300]})", hint="start a new run"
        ) from error
    return require_checkpoint(values, path)


def _get_rng_state() -> dict[str, Any]:
    version, state_words, gauss = random.getstate()
    numpy = np.random.get_state()
    state: dict[str, Any] = {
        "python": [version, list(state_words), gauss],
        "numpy": [numpy[0], numpy[1].tolist(), *numpy[2:]],  # type: ignore[index]
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_rng_state(state: dict[str, Any]) -> None:
    require_random_state(state)
    version, state_words, gauss = state["python"]
    random.setstate((version, tuple(state_words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
