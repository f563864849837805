"""What the files of a data set hold, so that a training that is resumed tells what has changed since it began.

    manifest = make_manifest({"train": data.samples("train")}, data.classes, data.root)
    manifest.save(Path("runs/mine/data.json"))
    manifest.describe_changes(make_manifest(...))        # ["labels/train/p3.png has changed"]

Every file is read once and hashed whole. It is read again only if its size, its times or its inode are other than they
were: content cannot change without the time of its last change, `ctime`, which no program sets. Data that was copied or
touched is the same where its bytes are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import atomic_write, hash_file, read_json
from dilated.progress import ProgressCallback

_SETTLED_NS = 2_000_000_000  # times of some file systems have steps of 2 s
_THREADS = 4  # a hash releases the interpreter's lock


@dataclass(frozen=True)
class DataManifest:
    """The samples of some splits, their files and what these hold.

    Args:
        classes: what the labels' values mean, as JSON has it.
        samples: of each split, the name, image and label of each sample; paths are relative to the data's folder.
        files: of each path, the SHA-256 of its bytes.
        stamps: of each path, its size, times and inode when it was read.
    """

    classes: dict[str, Any]
    samples: dict[str, list[list[str]]]
    files: dict[str, str]
    stamps: dict[str, list[int]] = dataclasses.field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The hash of all but the stamps."""
        content = json.dumps([self.classes, self.samples, self.files], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            OSError: it cannot be written.
        """
        atomic_write(path, json.dumps(dataclasses.asdict(self), indent=0) + "\n")

    def describe_changes(self, current: DataManifest) -> list[str]:
        """Return what is other in the current data, one change each; empty where nothing is."""
        changes = _describe_class_changes(self.classes, current.classes)
        for path in sorted({*self.files, *current.files}):
            before, now = self.files.get(path), current.files.get(path)
            if before != now:
                state = "is new" if before is None else "is gone" if now is None else "has changed"
                changes.append(f"{path} {state}")
        if not changes:
            splits = sorted({*self.samples, *current.samples})
            changes = [
                f"the split {split} has its images in another order, or those of another split"
                for split in splits
                if self.samples.get(split) != current.samples.get(split)
            ]
        return changes

    def describe_listing_changes(
        self, samples_by_split: Mapping[str, Sequence[Sample]], classes: Classes, root: Path
    ) -> list[str]:
        """Return what is other in the names of current files and in the classes, as if no content had changed.

        Args:
            root: the data's folder.
        """
        paths, samples = _list_samples(samples_by_split, root)
        files = {name: self.files.get(name, "") for name in paths}
        return self.describe_changes(DataManifest(_class_table(classes), samples, files))


def make_manifest(
    samples_by_split: Mapping[str, Sequence[Sample]],
    classes: Classes,
    root: Path,
    previous: DataManifest | None = None,
    on_progress: ProgressCallback | None = None,
) -> DataManifest:
    """Read the files of samples.

    Args:
        root: the data's folder.
        previous: an earlier manifest of the same folder; what it has of files that are untouched is taken over.
        on_progress: called after each file with how many are done and how many there are.

    Raises:
        InputError: a file that cannot be read.
    """
    names, samples = _list_samples(samples_by_split, root)

    def read(name: str) -> tuple[str, list[int]]:
        stamp = stamp_file(names[name])
        if stamp and previous is not None and name in previous.files and previous.stamps.get(name) == stamp:
            return previous.files[name], stamp
        return hash_file(names[name]), stamp

    files, stamps = {}, {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for number, (name, (content, stamp)) in enumerate(zip(names, pool.map(read, names), strict=True), 1):
            files[name], stamps[name] = content, stamp
            if on_progress is not None:
                on_progress(number, len(names))
    return DataManifest(_class_table(classes), samples, files, stamps)


def _list_samples(
    samples_by_split: Mapping[str, Sequence[Sample]], root: Path
) -> tuple[dict[str, Path], dict[str, list[list[str]]]]:
    """The files by the names that a manifest has, and the samples of each split."""
    paths, samples = {}, {}
    for split, group in samples_by_split.items():
        samples[split] = [[sample.name, *(_name(p, root) for p in (sample.image, sample.label))] for sample in group]
        paths.update({_name(path, root): path for sample in group for path in _list_files(sample)})
    return paths, samples


def _class_table(classes: Classes) -> dict[str, Any]:
    compared = {field.name: getattr(classes, field.name) for field in dataclasses.fields(classes) if field.compare}
    table: dict[str, Any] = json.loads(json.dumps(compared))
    return table


def _describe_class_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    names_before, names = before.get("names", []), now.get("names", [])
    if names_before != names:
        changes = [f"class {name!r} is gone" for name in names_before if name not in names]
        changes += [f"class {name!r} is new" for name in names if name not in names_before]
        return changes or ["the classes are in another order"]
    return [
        f"the {key.replace('_', ' ')} of the classes ({json.dumps(before.get(key))[:60]}) have changed"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def _list_files(sample: Sample) -> tuple[Path, ...]:
    return sample.image, sample.label, *sample.rules


def read_manifest(path: Path) -> DataManifest | None:
    """Read what `DataManifest.save` wrote; None where the file is missing, or damaged as by a loss of power."""
    try:
        table = read_json(path)
        manifest = DataManifest(**{field.name: table[field.name] for field in dataclasses.fields(DataManifest)})
    except (InputError, KeyError, TypeError):
        return None
    return manifest if all(isinstance(value, dict) for value in vars(manifest).values()) else None


def stamp_file(path: Path) -> list[int]:
    """Return what a change of a file's content changes too: size, times and inode; empty where they do not tell.

    Raises:
        InputError: it cannot be read.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    is_settled = time.time_ns() - stat.st_ctime_ns > _SETTLED_NS
    if path.is_dir() or os.name == "nt" or not is_settled:
        return []  # its times do not tell: of a folder, without a `ctime`, or where the next change may have the same
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _name(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return os.path.abspath(path)
