"""A data set from one format to another, picture by picture, and read back to see that every label is the same.

    convert(open_dataset("my-data"), Path("as-voc"), "voc")

Classes go by name. What the other format cannot hold is an error: a class that it has not, ignored pixels, a split.
Pictures are written as upright RGB PNG, for VOC, SBD and COCO as JPEG. Nothing is left of what fails.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from dilated.data.dataset import FORMATS, Data, open_dataset
from dilated.data.formats import named, parting
from dilated.data.formats.coding import Sample
from dilated.data.formats.pairs import Pair
from dilated.data.labels import IGNORE, Classes, Labels, save_classes
from dilated.errors import InputError

SPLITS = ("train", "val", "test")
JPEG = ("voc", "voc_sbd", "sbd", "coco")
WRITABLE = tuple(name for name, form in FORMATS.items() if hasattr(form, "save"))


@dataclass(frozen=True)
class Converted:
    """What was written: pictures by split, the classes as the format has them, and what to say of it."""

    pictures: dict[str, int]
    classes: Classes
    notes: tuple[str, ...]


def convert(
    data: Data,
    out: Path,
    format: str,
    *,
    splits: tuple[str, ...] = (),
    val: float | None = None,
    seed: int = 0,
    ignored_as: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Converted:
    """Write a data set in another format, and read it back.

    Args:
        out: a folder that is empty or not there.
        format: one of `WRITABLE`.
        splits: those to write; train, val and test of those there are, if not given.
        val: the share of val, for data without splits of its own.
        seed: for another such share of the same size.
        ignored_as: the class that ignored pixels become, for formats that cannot ignore.
        progress: called with the steps done and those of all; writing and reading back are a step each.

    Raises:
        InputError: a folder that is not empty, a format that cannot be written or cannot hold the data, data that is
            damaged.

    Example:
        >>> import tempfile
        >>> from dilated.data.formats import kitti2018
        >>> root = Path(tempfile.mkdtemp())
        >>> kitti2018.save(root, "train", [("a", np.zeros((2, 3, 3), np.uint8), np.full((2, 3), 2, np.uint8))])
        >>> convert(open_dataset(root), root / "out", "coco_json").pictures
        {'train': 1}
        >>> open_dataset(root / "out").classes.names[:3]
        ('background', 'road', 'sidewalk')
    """
    if format not in WRITABLE:
        raise InputError(f"format: found {format!r}; expected one of {', '.join(WRITABLE)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already, and not empty; expected an empty folder or none")
    part = out.with_name(f"{out.name}.part")
    if part.exists():
        raise InputError(f"{part}: is left of a conversion that was cut off; remove it, then convert again")
    form = FORMATS[format]
    plan, notes = _plan(data, splits, val, seed)
    stems = _stems(plan, notes)
    target, table = _table(data.classes, form, format, ignored_as)
    if target.names[0] == named.BACKGROUND and named.BACKGROUND not in data.classes.names:
        notes.append(f"{format} has a class for pixels of no object: background, of which no pixel is.")
    if ignored_as is not None:
        notes.append(f"Ignored pixels are written as {ignored_as}.")
    if format in JPEG:
        notes.append(f"{format} keeps pictures as JPEG: their pixels differ slightly from the original's.")
    total = 2 * sum(map(len, plan.values()))
    steps = iter(range(1, total + 1))

    def tick() -> None:
        done = next(steps)
        if progress:
            progress(done, total)

    try:
        part.mkdir(parents=True)
        if target is not form.CLASSES:
            save_classes(target, part / "classes.toml")
        digests = {
            split: _write(form, part, split, pairs, stems[split], data.classes, target, table, tick)
            for split, pairs in plan.items()
        }
        _read_back(part, format, target, digests, tick)
        if out.exists():
            out.rmdir()
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return Converted({split: len(pairs) for split, pairs in plan.items()}, target, tuple(notes))


def _plan(data: Data, splits: tuple[str, ...], val: float | None, seed: int) -> tuple[dict[str, list[Pair]], list[str]]:
    """The pairs of each split to write, and what to say of them."""
    form = FORMATS[data.layout]
    if val is not None:
        own = not (hasattr(form, "unsplit") and form.unsplit(data.root)) or bool(parting.listed(data.root))
        if own and data.splits != ("train",):
            raise InputError(
                f"{data.root}: has splits of its own, {', '.join(data.splits)}; expected none where a share for val is "
                "given. Leave it out."
            )
        pairs = [pair for split in data.splits for pair in data.pairs(split)]
        by_name = {pair.name: pair for pair in sorted(pairs, key=lambda pair: pair.name)}
        if len(by_name) < len(pairs):
            raise InputError(f"{data.root}: two pictures have one stem; expected stems that differ, to part them")
        parted = parting.share_out(list(by_name), val, seed)
        return {split: [by_name[stem] for stem in chosen] for split, chosen in parted.items()}, []
    chosen = splits or tuple(split for split in data.splits if split in SPLITS)
    left = [split for split in data.splits if split not in chosen]
    notes = [f"Not written: the splits {', '.join(left)}."] if left else []
    if not chosen:
        raise InputError(
            f"{data.root}: found the splits {', '.join(data.splits) or 'none'}; expected train, val or test"
        )
    return {split: data.pairs(split) for split in chosen}, notes


def _stems(plan: dict[str, list[Pair]], notes: list[str]) -> dict[str, list[str]]:
    """A name for each picture: its own, with the split before it where pictures of two splits share one."""
    places: dict[str, set[tuple[Path, str]]] = {}
    for pairs in plan.values():
        for pair in pairs:
            places.setdefault(_name(pair), set()).add((pair.image, pair.stem))
    shared = {name for name, found in places.items() if len(found) > 1}
    if shared:
        notes.append(f"{len(shared)} names are in several splits, as {min(shared)!r}; the split is put before them.")
    return {
        split: [f"{split}_{_name(pair)}" if _name(pair) in shared else _name(pair) for pair in pairs]
        for split, pairs in plan.items()
    }


def _name(pair: Pair) -> str:
    """A pair's name; Cityscapes' pictures have their kind at its end, which no other format needs."""
    return pair.name.removesuffix("_leftImg8bit")


def _table(classes: Classes, form: ModuleType, format: str, ignored_as: str | None) -> tuple[Classes, Labels]:
    """The classes as the format has them, and for each id of the source the format's id, by name."""
    if hasattr(form, "arranged"):
        target: Classes = form.arranged(classes)
    else:
        target = named.plain(classes) if form.CLASSES is None else form.CLASSES
    missing = [name for name in classes.names if name not in target.names]
    if missing:
        raise InputError(
            f"{format}: has no class {missing[0]!r} ({len(missing)} such); expected classes of its own: "
            f"{', '.join(target.names)}"
        )
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[: len(classes)] = [target.names.index(name) for name in classes.names]
    if ignored_as is not None:
        if ignored_as not in target.names:
            raise InputError(f"ignored as: found {ignored_as!r}; expected one of {', '.join(target.names)}")
        table[IGNORE] = target.names.index(ignored_as)
    return target, table


def _write(
    form: ModuleType,
    root: Path,
    split: str,
    pairs: list[Pair],
    stems: list[str],
    classes: Classes,
    target: Classes,
    table: Labels,
    tick: Callable[[], None],
) -> dict[str, bytes]:
    """Write a split; a digest of each label, by stem."""
    digests: dict[str, bytes] = {}

    def samples() -> Iterator[Sample]:
        for stem, pair in zip(stems, pairs, strict=True):
            image = pair.read_image()
            ids = table[pair.read_label(classes, image.shape[:2])]
            digests[stem] = _digest(ids)
            yield stem, image, ids
            tick()

    takes_classes = form.CLASSES is None or hasattr(form, "arranged")
    try:
        form.save(root, split, samples(), *([target] if takes_classes else []))
    except InputError as error:
        if "ignored pixels" in str(error):
            raise InputError(
                f"{error}. Say what they shall be with --ignored-as CLASS, or take another format."
            ) from error
        raise
    return digests


def _read_back(
    root: Path, format: str, target: Classes, digests: dict[str, dict[str, bytes]], tick: Callable[[], None]
) -> None:
    """Raise where a label that was written is not read as the same."""
    data = open_dataset(root, format)
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[: len(data.classes)] = [target.names.index(name) for name in data.classes.names]
    for split, written in digests.items():
        pairs = data.pairs(split)
        names = [_name(pair) for pair in pairs]
        if sorted(names) != sorted(written):
            if format != "tiff_pages" or len(pairs) != len(written):  # whose pages have no names
                lost = sorted(set(written) - set(names))
                raise InputError(
                    f"{format}: {split}: of {len(written)} pictures written {len(pairs)} are read back"
                    f"{f', without {lost[0]}' if lost else ''}; expected all. This format leaves such pictures out: "
                    "take another."
                )
            names = list(written)
        for name, pair in zip(names, pairs, strict=True):
            if _digest(table[pair.read_label(data.classes, pair.size())]) != written[name]:
                raise InputError(f"{format}: {split}: the label of {name} is not read back as it was written")
            tick()


def _digest(ids: Labels) -> bytes:
    return hashlib.sha256(repr(ids.shape).encode() + ids.tobytes()).digest()
