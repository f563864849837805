"""Hashes of what a job leaves, equal where its content is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from dilated.run_folder import CHECKPOINT_FILE


def digest(path: Path) -> str:
    """The hash of a file; of a checkpoint that of all its values, as pickle writes equal ones in several ways."""
    if path.name != CHECKPOINT_FILE:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    values = torch.load(path, weights_only=True)
    parts: list[bytes] = []

    def collect(name: str, value: object) -> None:
        if isinstance(value, dict):
            for key in value:
                collect(f"{name}.{key}", value[key])
        elif isinstance(value, torch.Tensor):
            parts.append(f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
        elif isinstance(value, list | tuple):
            collect(name, dict(enumerate(value)))
        else:
            parts.append(f"{name} {value!r}".encode())

    collect("", values)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
