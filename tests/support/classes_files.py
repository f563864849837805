"""The classes of a `classes.toml` alone."""

from __future__ import annotations

from pathlib import Path

from dilated.data.labels import Classes, load_classes_file


def load_classes(path: Path) -> Classes:
    """Read the classes of a `classes.toml` that has some."""
    classes, *_ = load_classes_file(path)
    assert classes is not None
    return classes
