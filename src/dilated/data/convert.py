"""Write a data set in another format, image by image, and read it back to see that every label is the same.

    convert("my-data", "as-voc", "voc")

Classes are matched by name. What the other format cannot hold is an error: a class that it does not have, ignored
pixels, a split. Images are written as upright RGB PNG, for VOC, SBD and COCO as JPEG; those of other bands or numbers
are copied as they are, where the format takes such files. A conversion that fails leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dilated.data.auto_split import split_by_hash
from dilated.data.dataset import Dataset, open_dataset
from dilated.data.formats import FORMATS, Format, IgnoredPixelsError
from dilated.data.formats._classes import BACKGROUND
from dilated.data.formats._match import SPLITS
from dilated.data.formats._sample_arrays import SampleArrays
from dilated.data.input_description import format_proposal
from dilated.data.labels import Classes, save_classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import move_into_place
from dilated.label_ids import LabelArray, label_dtype
from dilated.lock import lock_file, remove_abandoned_lock
from dilated.progress import ProgressCallback

WRITABLE_FORMATS = tuple(name for name, format_class in FORMATS.items() if format_class.is_writable())


@dataclass(frozen=True)
class ConvertOptions:
    """What `convert` writes, and how."""

    splits: tuple[str, ...] = ()
    """The splits to write; by default those of train, val and test that exist."""
    val_fraction: float | None = None
    """The fraction of val, for data without splits of its own; by default the splits are kept."""
    seed: int = 0
    """Another seed chooses another val of about the same size."""
    ignore_as_class: str | None = None
    """The class that ignored pixels become, for formats that cannot ignore; by default they are an error there."""


@dataclass(frozen=True)
class ConversionResult:
    """What was written: the number of images by split, the classes as the format has them, and what to note."""

    images: dict[str, int]
    classes: Classes
    notes: tuple[str, ...]


def convert(
    data: Dataset | Path | str,
    out: Path | str,
    format: str,
    options: ConvertOptions | None = None,
    progress: ProgressCallback | None = None,
) -> ConversionResult:
    """Write a data set in another format, and read it back.

    Args:
        data: a data set, or its folder.
        out: a folder that is empty or does not exist.
        format: one of `WRITABLE_FORMATS`.
        options: which splits to write, and what becomes of ignored pixels.
        progress: called with the steps done and their total; writing and reading back are one step each per image.

    Raises:
        InputError: a folder that is not empty or that another process writes to, a format that cannot be written or
            cannot hold the data, data that is damaged.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> sample = ("a", np.zeros((2, 3, 3), np.uint8), np.full((2, 3), 2, np.uint8))
        >>> FORMATS["kitti2018"].save(root, "train", [sample])
        >>> convert(root, root / "out", "coco_json").images
        {'train': 1}
        >>> open_dataset(root / "out").classes.names[:3]
        ('background', 'road', 'sidewalk')
    """
    data = data if isinstance(data, Dataset) else open_dataset(data)
    out, options = Path(out), options or ConvertOptions()
    if format not in WRITABLE_FORMATS:
        problem = "is read and not written" if format in FORMATS else "is unknown"
        raise InputError(f"format: {format!r} {problem}", hint=f"give one of {', '.join(WRITABLE_FORMATS)}")
    if data.input is not None and not FORMATS[format].keeps_image_files:
        kept = [name for name in WRITABLE_FORMATS if FORMATS[name].keeps_image_files]
        raise InputError(
            f"{data.root}: its images hold {data.input.describe()}, and {format} is written with images of 8-bit RGB",
            hint=f"give one of {', '.join(kept)}, which copy such images as they are",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        remove_abandoned_lock(out)  # of a conversion that was killed when it was done
        raise InputError(f"{out}: exists and is not empty", hint="give an empty folder or a new one")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out.parent}: could not be made ({error.strerror})", hint="choose another place") from error
    with lock_file(out, "converting a data set") as left_behind:
        part_folder = out.with_name(f"{out.name}.part")
        if left_behind:  # by a conversion that was killed; without its lock, the folder may be anything
            shutil.rmtree(part_folder, ignore_errors=True)
        if part_folder.exists():
            raise InputError(f"{part_folder}: is in the way", hint="remove it, then convert again")
        return _convert(data, out, format, options, progress)


def _convert(
    data: Dataset, out: Path, format: str, options: ConvertOptions, progress: ProgressCallback | None
) -> ConversionResult:
    part_folder = out.with_name(f"{out.name}.part")
    samples_by_split, notes = _select_splits(data, options)
    stems = _output_stems(samples_by_split, data.contents.image_suffix, notes)
    total = 2 * sum(map(len, samples_by_split.values()))
    steps = iter(range(1, total + 1))

    def report_step() -> None:
        done = next(steps)
        if progress:
            progress(done, total)

    writer = _Writer(FORMATS[format], part_folder, data, options.ignore_as_class, report_step)
    notes += writer.notes
    try:
        part_folder.mkdir()
        writer.write(samples_by_split, stems)
        writer.keep_image_files(samples_by_split, stems)
        writer.verify_round_trip()
        if out.exists():
            out.rmdir()
        move_into_place(part_folder, out)
    except BaseException:
        shutil.rmtree(part_folder, ignore_errors=True)
        raise
    counts = {split: len(samples) for split, samples in samples_by_split.items()}
    return ConversionResult(counts, writer.classes, tuple(notes))


def _select_splits(data: Dataset, options: ConvertOptions) -> tuple[dict[str, list[Sample]], list[str]]:
    """The samples of each split to write, and what to note."""
    if options.val_fraction is not None:
        return _split_by_hash(data, options.val_fraction, options.seed), []
    chosen_splits = options.splits or tuple(split for split in data.splits if split in SPLITS)
    omitted = [split for split in data.splits if split not in chosen_splits]
    notes = [f"Not written: the splits {', '.join(omitted)}."] if omitted else []
    if not chosen_splits:
        raise InputError(f"{data.root}: its splits are {', '.join(data.splits) or 'none'}, without train, val or test")
    return {split: data.samples(split) for split in chosen_splits}, notes


def _split_by_hash(data: Dataset, val_fraction: float, seed: int) -> dict[str, list[Sample]]:
    if data.contents.has_listed_or_own_splits() and data.splits != ("train",):
        raise InputError(
            f"{data.root}: has splits of its own, {', '.join(data.splits)}, and a fraction for val is given",
            hint="leave the fraction out",
        )
    samples = [sample for split in data.splits for sample in data.samples(split)]
    by_name = {sample.name: sample for sample in sorted(samples, key=lambda sample: sample.name)}
    if len(by_name) < len(samples):
        raise InputError(f"{data.root}: two images have one stem", hint="give each its own: they are divided by stem")
    groups = data.contents.group(list(by_name.values()))
    stems_by_split = split_by_hash(list(by_name), val_fraction, seed, groups.labels)
    return {split: [by_name[stem] for stem in stems] for split, stems in stems_by_split.items()}


def _output_stems(
    samples_by_split: dict[str, list[Sample]], image_suffix: str, notes: list[str]
) -> dict[str, list[str]]:
    """A name for each image: its own, after the split's where images of two splits share one."""
    sources_by_name: dict[str, set[tuple[Path, str]]] = {}
    for samples in samples_by_split.values():
        for sample in samples:
            name = sample.name.removesuffix(image_suffix)
            sources_by_name.setdefault(name, set()).add((sample.image, sample.stem))
    shared = {name for name, sources in sources_by_name.items() if len(sources) > 1}
    if shared:
        notes.append(f"{len(shared)} names are in several splits, as {min(shared)!r}; the split is put before them.")
    return {
        split: [
            f"{split}_{name}" if name in shared else name
            for name in (sample.name.removesuffix(image_suffix) for sample in samples)
        ]
        for split, samples in samples_by_split.items()
    }


class _Writer:
    """Writes samples in a format, and reads them back.

    Args:
        format: what to write.
        root: the folder to write to.
        data: what the samples are of.
        ignore_as_class: the class that ignored pixels become.
        report_step: called after each image that is written, and after each that is read back.

    Raises:
        InputError: the format lacks one of the classes.
    """

    def __init__(
        self,
        format: type[Format],
        root: Path,
        data: Dataset,
        ignore_as_class: str | None,
        report_step: Callable[[], None],
    ) -> None:
        self.format, self.root, self.report_step = format, root, report_step
        classes, self.input = data.classes, data.input
        self.classes = format.adapt_classes(classes)
        self.id_map = _map_ids(classes, self.classes, format.name, ignore_as_class)
        self.digests: dict[str, dict[str, bytes]] = {}
        self.notes = []
        if self.classes.names[0] == BACKGROUND and BACKGROUND not in classes.names:
            self.notes.append(f"{format.name} has a class for pixels of no object: background, which no pixel has.")
        if ignore_as_class is not None:
            self.notes.append(f"Ignored pixels are written as {ignore_as_class}.")
        if format.writes_jpeg:
            self.notes.append(f"{format.name} keeps images as JPEG: their pixels differ slightly from the original's.")

    def write(self, samples_by_split: dict[str, list[Sample]], stems: dict[str, list[str]]) -> None:
        """Write the splits, and keep a digest of each label."""
        if self.classes is not self.format.fixed_classes:
            save_classes(self.classes, self.root / "classes.toml")
            if self.input is not None:
                with (self.root / "classes.toml").open("a", encoding="utf-8") as file:
                    file.write(f"\n{format_proposal(self.input)}\n")
        for split, samples in samples_by_split.items():
            self.digests[split] = {}
            arrays = self._read_arrays(samples, stems[split], self.digests[split])
            try:
                self.format.save(self.root, split, arrays, self.classes)
            except IgnoredPixelsError as error:
                hint = "name a class for them with --ignore-as-class CLASS, or choose another format"
                raise InputError(error.message, hint=hint) from error

    def _read_arrays(
        self, samples: list[Sample], stems: list[str], digests: dict[str, bytes]
    ) -> Iterator[SampleArrays]:
        for stem, sample in zip(stems, samples, strict=True):
            # For other than 8-bit RGB a placeholder, which the image's file replaces.
            image = sample.read_image() if self.input is None else np.zeros((*sample.size(), 3), np.uint8)
            ids = self.id_map[sample.read_label(image.shape[:2])]
            digests[stem] = _digest(ids)
            yield stem, image, ids
            self.report_step()

    def keep_image_files(self, samples_by_split: dict[str, list[Sample]], stems: dict[str, list[str]]) -> None:
        """Put copies of the images' files where placeholders were written, for images that are not 8-bit RGB."""
        if self.input is None:
            return
        written = open_dataset(self.root, self.format.name)
        for split, samples in samples_by_split.items():
            placeholders = {sample.name: sample.image for sample in written.contents.match_split(split).samples}
            for stem, sample in zip(stems[split], samples, strict=True):
                placeholder = placeholders[stem]
                placeholder.unlink()
                shutil.copyfile(sample.image, placeholder.with_name(f"{stem}{sample.image.suffix}"))

    def verify_round_trip(self) -> None:
        """Raise where a label that was written is not read as the same."""
        name = self.format.name
        data = open_dataset(self.root, name)
        id_map = _map_ids(data.classes, self.classes, name, None)
        for split, digests in self.digests.items():
            samples = data.samples(split)
            stems = [sample.name.removesuffix(self.format.image_suffix) for sample in samples]
            if not self.format.keeps_names and len(stems) == len(digests):
                stems = list(digests)
            if sorted(stems) != sorted(digests):
                missing_stems = sorted(set(digests) - set(stems))
                raise InputError(
                    f"{name}: {split}: of {len(digests)} images written {len(samples)} are read back"
                    f"{f', without {missing_stems[0]}' if missing_stems else ''}",
                    hint="choose another format: this one leaves such images out",
                )
            for stem, sample in zip(stems, samples, strict=True):
                if _digest(id_map[sample.read_label(sample.size())]) != digests[stem]:
                    raise InputError(f"{name}: {split}: the label of {stem} is not read back as it was written")
                self.report_step()


def _map_ids(classes: Classes, target_classes: Classes, format: str, ignore_as_class: str | None) -> LabelArray:
    """For each id of the source the format's id, by name; the ignored one at the end."""
    place = {name: i for i, name in enumerate(target_classes.names)}
    missing = [name for name in classes.names if name not in place]
    if missing:
        raise InputError(
            f"{format}: has no class {missing[0]!r} ({len(missing)} such)",
            hint=f"give its classes the names {', '.join(target_classes.names)}",
        )
    id_map = np.full(classes.ignore_id + 1, target_classes.ignore_id, dtype=label_dtype(len(place)))
    id_map[: len(classes)] = [place[name] for name in classes.names]
    if ignore_as_class is not None:
        if ignore_as_class not in target_classes.names:
            raise InputError(
                f"ignore_as_class: {ignore_as_class!r} is no class",
                hint=f"give one of {', '.join(target_classes.names)}",
            )
        id_map[classes.ignore_id] = target_classes.names.index(ignore_as_class)
    return id_map


def _digest(ids: LabelArray) -> bytes:
    return hashlib.sha256(repr(ids.shape).encode() + ids.tobytes()).digest()
