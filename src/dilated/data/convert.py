"""A data set from one format to another, image by image, and read back to see that every label is the same.

    convert(open_dataset("my-data"), Path("as-voc"), "voc")

Classes go by name. What the other format cannot hold is an error: a class that it has not, ignored pixels, a split.
Images are written as upright RGB PNG, for VOC, SBD and COCO as JPEG. Nothing is left of what fails.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from dilated.data import auto_split
from dilated.data.dataset import FORMATS, Dataset, open_dataset
from dilated.data.formats import _classes
from dilated.data.formats._colors import SampleArrays
from dilated.data.labels import IGNORE, Classes, LabelArray, save_classes
from dilated.data.sample import Sample
from dilated.errors import InputError

_SPLITS = ("train", "val", "test")
_JPEG_FORMATS = ("voc", "voc_sbd", "sbd", "coco")
WRITABLE_FORMATS = tuple(name for name, format_module in FORMATS.items() if hasattr(format_module, "save"))


@dataclass(frozen=True)
class ConversionResult:
    """What was written: images by split, the classes as the format has them, and what to say of it."""

    images: dict[str, int]
    classes: Classes
    notes: tuple[str, ...]


def convert(
    data: Dataset,
    out: Path,
    format: str,
    *,
    splits: tuple[str, ...] = (),
    val_fraction: float | None = None,
    seed: int = 0,
    ignore_as_class: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> ConversionResult:
    """Write a data set in another format, and read it back.

    Args:
        out: a folder that is empty or not there.
        format: one of `WRITABLE_FORMATS`.
        splits: those to write; train, val and test of those there are, if not given.
        val: the share of val, for data without splits of its own.
        seed: for another such share of the same size.
        ignore_as_class: the class that ignored pixels become, for formats that cannot ignore.
        progress: called with the steps done and those of all; writing and reading back are a step each.

    Raises:
        InputError: a folder that is not empty, a format that cannot be written or cannot hold the data, data that is
            damaged.

    Example:
        >>> import tempfile
        >>> from dilated.data.formats import kitti2018
        >>> root = Path(tempfile.mkdtemp())
        >>> kitti2018.save(root, "train", [("a", np.zeros((2, 3, 3), np.uint8), np.full((2, 3), 2, np.uint8))])
        >>> convert(open_dataset(root), root / "out", "coco_json").images
        {'train': 1}
        >>> open_dataset(root / "out").classes.names[:3]
        ('background', 'road', 'sidewalk')
    """
    if format not in WRITABLE_FORMATS:
        raise InputError(f"format: found {format!r}; expected one of {', '.join(WRITABLE_FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already, and not empty; expected an empty folder or none")
    part_folder = out.with_name(f"{out.name}.part")
    if part_folder.exists():
        raise InputError(f"{part_folder}: is left of a conversion that was cut off; remove it, then convert again")
    format_module = FORMATS[format]
    samples_by_split, notes = _select_splits(data, splits, val_fraction, seed)
    stems = _output_stems(samples_by_split, notes)
    target_classes, id_map = _map_classes(data.classes, format_module, format, ignore_as_class)
    if target_classes.names[0] == _classes.BACKGROUND and _classes.BACKGROUND not in data.classes.names:
        notes.append(f"{format} has a class for pixels of no object: background, of which no pixel is.")
    if ignore_as_class is not None:
        notes.append(f"Ignored pixels are written as {ignore_as_class}.")
    if format in _JPEG_FORMATS:
        notes.append(f"{format} keeps images as JPEG: their pixels differ slightly from the original's.")
    total = 2 * sum(map(len, samples_by_split.values()))
    steps = iter(range(1, total + 1))

    def tick() -> None:
        done = next(steps)
        if progress:
            progress(done, total)

    try:
        part_folder.mkdir(parents=True)
        if target_classes is not format_module.CLASSES:
            save_classes(target_classes, part_folder / "classes.toml")
        digests = {
            split: _write_split(
                format_module, part_folder, split, samples, stems[split], data.classes, target_classes, id_map, tick
            )
            for split, samples in samples_by_split.items()
        }
        _verify_round_trip(part_folder, format, target_classes, digests, tick)
        if out.exists():
            out.rmdir()
        part_folder.rename(out)
    except BaseException:
        shutil.rmtree(part_folder, ignore_errors=True)
        raise
    return ConversionResult(
        {split: len(samples) for split, samples in samples_by_split.items()}, target_classes, tuple(notes)
    )


def _select_splits(
    data: Dataset, splits: tuple[str, ...], val_fraction: float | None, seed: int
) -> tuple[dict[str, list[Sample]], list[str]]:
    """The pairs of each split to write, and what to say of them."""
    format_module = FORMATS[data.format]
    if val_fraction is not None:
        has_own_splits = not (
            hasattr(format_module, "has_no_splits") and format_module.has_no_splits(data.root)
        ) or bool(auto_split.find_split_lists(data.root))
        if has_own_splits and data.splits != ("train",):
            raise InputError(
                f"{data.root}: has splits of its own, {', '.join(data.splits)}; expected none where a share for val is "
                "given. Leave it out."
            )
        samples = [sample for split in data.splits for sample in data.samples(split)]
        by_name = {sample.name: sample for sample in sorted(samples, key=lambda sample: sample.name)}
        if len(by_name) < len(samples):
            raise InputError(f"{data.root}: two images have one stem; expected stems that differ, to part them")
        stems_by_split = auto_split.split_by_hash(list(by_name), val_fraction, seed)
        return {split: [by_name[stem] for stem in chosen_splits] for split, chosen_splits in stems_by_split.items()}, []
    chosen_splits = splits or tuple(split for split in data.splits if split in _SPLITS)
    omitted = [split for split in data.splits if split not in chosen_splits]
    notes = [f"Not written: the splits {', '.join(omitted)}."] if omitted else []
    if not chosen_splits:
        raise InputError(
            f"{data.root}: found the splits {', '.join(data.splits) or 'none'}; expected train, val or test"
        )
    return {split: data.samples(split) for split in chosen_splits}, notes


def _output_stems(samples_by_split: dict[str, list[Sample]], notes: list[str]) -> dict[str, list[str]]:
    """A name for each image: its own, with the split before it where images of two splits share one."""
    sources_by_name: dict[str, set[tuple[Path, str]]] = {}
    for samples in samples_by_split.values():
        for sample in samples:
            sources_by_name.setdefault(_base_stem(sample), set()).add((sample.image, sample.stem))
    shared = {name for name, sources in sources_by_name.items() if len(sources) > 1}
    if shared:
        notes.append(f"{len(shared)} names are in several splits, as {min(shared)!r}; the split is put before them.")
    return {
        split: [
            f"{split}_{_base_stem(sample)}" if _base_stem(sample) in shared else _base_stem(sample)
            for sample in samples
        ]
        for split, samples in samples_by_split.items()
    }


def _base_stem(sample: Sample) -> str:
    """A pair's name; Cityscapes' images have their kind at its end, which no other format needs."""
    return sample.name.removesuffix("_leftImg8bit")


def _map_classes(
    classes: Classes, format_module: ModuleType, format: str, ignore_as_class: str | None
) -> tuple[Classes, LabelArray]:
    """The classes as the format has them, and for each id of the source the format's id, by name."""
    if hasattr(format_module, "adapt_classes"):
        target_classes: Classes = format_module.adapt_classes(classes)
    else:
        target_classes = _classes.reset_values(classes) if format_module.CLASSES is None else format_module.CLASSES
    missing = [name for name in classes.names if name not in target_classes.names]
    if missing:
        raise InputError(
            f"{format}: has no class {missing[0]!r} ({len(missing)} such); expected classes of its own: "
            f"{', '.join(target_classes.names)}"
        )
    id_map = np.full(256, IGNORE, dtype=np.uint8)
    id_map[: len(classes)] = [target_classes.names.index(name) for name in classes.names]
    if ignore_as_class is not None:
        if ignore_as_class not in target_classes.names:
            raise InputError(
                f"ignored as: found {ignore_as_class!r}; expected one of {', '.join(target_classes.names)}"
            )
        id_map[IGNORE] = target_classes.names.index(ignore_as_class)
    return target_classes, id_map


def _write_split(
    format_module: ModuleType,
    root: Path,
    split: str,
    samples: list[Sample],
    stems: list[str],
    classes: Classes,
    target_classes: Classes,
    id_map: LabelArray,
    tick: Callable[[], None],
) -> dict[str, bytes]:
    """Write a split; a digest of each label, by stem."""
    digests: dict[str, bytes] = {}

    def iterate_arrays() -> Iterator[SampleArrays]:
        for stem, sample in zip(stems, samples, strict=True):
            image = sample.read_image()
            ids = id_map[sample.read_label(classes, image.shape[:2])]
            digests[stem] = _digest(ids)
            yield stem, image, ids
            tick()

    takes_classes = format_module.CLASSES is None or hasattr(format_module, "adapt_classes")
    try:
        format_module.save(root, split, iterate_arrays(), *([target_classes] if takes_classes else []))
    except InputError as error:
        if "ignored pixels" in str(error):
            raise InputError(
                f"{error}. Say what they shall be with --ignore-as-class CLASS, or take another format."
            ) from error
        raise
    return digests


def _verify_round_trip(
    root: Path, format: str, target_classes: Classes, digests: dict[str, dict[str, bytes]], tick: Callable[[], None]
) -> None:
    """Raise where a label that was written is not read as the same."""
    data = open_dataset(root, format)
    id_map = np.full(256, IGNORE, dtype=np.uint8)
    id_map[: len(data.classes)] = [target_classes.names.index(name) for name in data.classes.names]
    for split, expected_digests in digests.items():
        samples = data.samples(split)
        names = [_base_stem(sample) for sample in samples]
        if sorted(names) != sorted(expected_digests):
            if format != "tiff_pages" or len(samples) != len(expected_digests):  # whose pages have no names
                missing_stems = sorted(set(expected_digests) - set(names))
                raise InputError(
                    f"{format}: {split}: of {len(expected_digests)} images written {len(samples)} are read back"
                    f"{f', without {missing_stems[0]}' if missing_stems else ''}; expected all. This format leaves such images out: "
                    "take another."
                )
            names = list(expected_digests)
        for name, sample in zip(names, samples, strict=True):
            if _digest(id_map[sample.read_label(data.classes, sample.size())]) != expected_digests[name]:
                raise InputError(f"{format}: {split}: the label of {name} is not read back as it was written")
            tick()


def _digest(ids: LabelArray) -> bytes:
    return hashlib.sha256(repr(ids.shape).encode() + ids.tobytes()).digest()
