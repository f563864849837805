"""Everything that a training needs to go on exactly where it was, in one file that is replaced whole."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dilated.errors import InputError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint. At any moment, also that of a kill, `path` is the old one or the new one, whole.

    Raises:
        InputError: it cannot be written, as on a full disk; the one before it is untouched.
    """
    temporary = path.with_name(f"{path.name}.part")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError where the disk is full
        with suppress(OSError):
            temporary.unlink()
        raise InputError(
            f"{path}: could not be written ({_short_reason(error)}); the checkpoint before it is whole. Make room, and "
            "go on with --resume."
        ) from error


def _short_reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error).splitlines()[0][:160]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        InputError: none there, or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file, so there is nothing to resume; start without --resume")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises anything on damaged bytes
        raise InputError(f"{path}: the checkpoint is damaged ({type(error).__name__}: {error}); start anew") from error


def get_rng_state() -> dict[str, Any]:
    """The state of every generator that training may draw from."""
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


def set_rng_state(state: dict[str, Any]) -> None:
    version, state_words, gauss = state["python"]
    random.setstate((version, tuple(state_words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
