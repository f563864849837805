"""Whether the data of a resumed training is what it began with: what has changed is named, and accepted only if asked.

The names of files and the classes are compared before anything is built, the content of files after that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dilated.data.dataset import Dataset
from dilated.data.manifest import DataManifest, make_manifest, read_manifest
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.run_folder import DATA_FILE
from dilated.training.progress import TrainingProgress

_MOST_NAMED = 5


def require_same_listing(
    checkpoint: Mapping[str, Any],
    samples: Mapping[str, Sequence[Sample]],
    data: Dataset,
    out: Path,
    accept_changes: bool,
) -> None:
    """Raise where classes or files were added, removed or renamed since a training began.

    Args:
        checkpoint: its values.
        samples: of each split.
        out: the run.
        accept_changes: allow them, except for another number of classes.

    Raises:
        InputError: the first few changes.
    """
    previous = read_manifest(out / DATA_FILE)
    if previous is not None and previous.digest == checkpoint["data"]["digest"]:
        changes = previous.describe_listing_changes(samples, data.classes, data.root)
        if (before := len(previous.classes.get("names", ()))) != len(data.classes.names):
            named = describe_difference(changes)
            raise InputError(
                f"{data.root}: found {len(data.classes.names)} classes; the run began with {before}: {named}",
                hint="restore them, or start a new run with --init-from on this one",
            )
        if changes and not accept_changes:
            raise _changed(data.root, changes)
    counts = {split: len(group) for split, group in samples.items()}
    if not accept_changes and checkpoint["image_counts"] != counts:
        raise _changed(data.root, [f"found {counts} images, and it began with {checkpoint['image_counts']}"])


def record_data(
    samples: Mapping[str, Sequence[Sample]],
    data: Dataset,
    out: Path,
    began_with: str | None,
    accept_changes: bool,
    progress: TrainingProgress,
) -> str:
    """Write what the data holds into a run, and return its digest.

    Args:
        samples: of each split.
        out: the run.
        began_with: the digest of what the training began with; None for one that begins.
        accept_changes: say what has changed, and go on.

    Raises:
        InputError: the data is not what the training began with.
    """
    path = out / DATA_FILE
    previous = read_manifest(path)
    files = 2 * sum(map(len, samples.values()))
    with progress.track(files, "reading the data") as report:
        manifest = make_manifest(samples, data.classes, data.root, previous, report)
    if began_with not in (None, manifest.digest):
        error = _changed(data.root, _describe(previous, manifest, began_with, path))
        if not accept_changes:
            raise error
        progress.notify(error.message)
    manifest.save(path)
    return manifest.digest


def _describe(previous: DataManifest | None, manifest: DataManifest, began_with: str | None, path: Path) -> list[str]:
    if previous is None or previous.digest != began_with:
        return [f"{path} does not say how"]
    return previous.describe_changes(manifest)


def _changed(root: Path, changes: list[str]) -> InputError:
    return InputError(
        f"{root}: the data is not what the run began with: {describe_difference(changes)}",
        hint="restore it, or give --accept-changed-data to go on with the data as it is",
    )


def describe_difference(changes: list[str]) -> str:
    """Name the first few changes of data.

    Example:
        >>> describe_difference(["a.png is gone", *"bcdefg"])
        'a.png is gone, b, c, d, e and 2 more'
    """
    more = len(changes) - _MOST_NAMED
    return ", ".join(changes[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
