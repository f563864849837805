"""The networks that come with the package, and which file a name, a run, a path or an address means, without PyTorch.

find_network("street")                               # .../dilated/weights/files/street.safetensors
find_network("runs/mine")                            # runs/mine/best.safetensors
find_network("hf://owner/name")                      # fetched, where it is not there yet
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from dilated.errors import InputError, suggest
from dilated.run_folder import BEST_FILE
from dilated.weights.remote import WEIGHTS_FILE, fetch_network, is_remote

BUNDLED_FILES = resources.files("dilated.weights") / "files"
BUNDLED_NETWORKS = {
    "street": "11 classes of street scenes (CamVid), EfficientNet-lite0, stride 8, context module",
    "cells": "nuclei in microscope images (2018 Data Science Bowl), EfficientNet-lite0, stride 8",
}


def find_network(name_or_path: Path | str) -> Path:
    """The network file that a bundled name, a run's folder, a folder of the Hub's layout, a path or an address means.

    Raises:
        InputError: nothing of that name, a run without a network yet, or an address that gives no network.

    Example:
        >>> find_network("street").name
        'street.safetensors'
    """
    text, path = str(name_or_path), Path(name_or_path)
    if text in BUNDLED_NETWORKS and not path.exists():
        return Path(str(BUNDLED_FILES / f"{text}.safetensors"))
    if is_remote(text):
        return fetch_network(text)
    if "://" in text:
        raise InputError(f"{text}: a URL of another kind", hint="download it and give the file")
    if path.is_dir():
        best = path / BEST_FILE
        if not best.is_file() and (path / WEIGHTS_FILE).is_file():
            return path / WEIGHTS_FILE
        if not best.is_file():
            raise InputError(f"{path}: holds no {BEST_FILE}", hint="give a run that has reached its first validation")
        return best
    if not path.exists():
        known = ", ".join(BUNDLED_NETWORKS)
        raise InputError(
            f"{path}: no such file, and no network of that name is bundled (bundled: {known})",
            hint=suggest(text, BUNDLED_NETWORKS, "give a .safetensors network file or a run's folder"),
        )
    return path


def read_checksums() -> dict[str, str]:
    """The SHA-256 of each file that comes with the package, by its name, as they were released.

    Example:
        >>> len(read_checksums()["street.safetensors"])
        64
    """
    lines = (BUNDLED_FILES / "SHA256SUMS").read_text().splitlines()
    return {name: sha256 for sha256, name in (line.split() for line in lines)}
