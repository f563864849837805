"""Divide a data set into train and val, or into folds, so that no group is on two sides and classes are spread.

    division = split("my-data", SplitOptions(val=0.2))   # writes my-data/train.txt and my-data/val.txt
    division = split("my-data", SplitOptions(folds=5), out="lists")
    print(division)

Groups are dealt out one by one, those with the most of the rare classes first, each to the part that it brings nearest
to its fraction of images and of pixels of every class (as scikit-learn's StratifiedGroupKFold does). The same data,
groups and seed give the same parts.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dilated.data.auto_split import find_split_lists, resolve_list
from dilated.data.dataset import Dataset, DatasetDivision, open_dataset
from dilated.data.groups import SINGLE_IMAGES, Groups, describe_groups
from dilated.data.list_files import remove_unfinished, write_lists
from dilated.data.sample import Sample, SampleKey, name_from_root
from dilated.data.statistics import count_pixels
from dilated.errors import InputError
from dilated.files import plural
from dilated.progress import ProgressCallback, track

Unit = Literal["group", "image"]


@dataclass(frozen=True)
class SplitOptions:
    """How a data set is divided."""

    by: Unit = "group"
    """`group`: no group is in two parts. `image`: images are divided one by one, whatever belongs together."""
    val: float = 0.2
    """The fraction of val."""
    test: float = 0.0
    """The fraction of test; 0 for none."""
    folds: int = 0
    """Make so many folds, each of which is val once, instead of one val; 0 for none."""
    seed: int = 0
    """Another seed gives another division."""

    def __post_init__(self) -> None:
        if self.by not in get_args(Unit):
            raise InputError(f"by: {self.by!r} is unknown", hint=f"give {' or '.join(get_args(Unit))}")
        if self.folds < 0 or self.folds == 1:
            raise InputError(f"folds: {self.folds} do not divide", hint="give 2 or more")
        if not (0 < self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise InputError(
                f"val: the fractions {self.val:g} of val and {self.test:g} of test leave no train",
                hint="give fractions above 0 that sum to less than 1",
            )


@dataclass(frozen=True, repr=False)
class Division:
    """A data set divided: the names of the images of each part.

    Args:
        parts: by the name of the split, or of the fold (`fold 1`) that is val then.
        groups: of all images, in the order of `names`.
        names: of all images.
        counts: (P, C + 1), the pixels of each part by class, then ignored ones, in the order of `parts`.
        classes: their names.
        seed: of the division.
    """

    parts: Mapping[str, tuple[str, ...]]
    groups: Groups
    names: tuple[str, ...]
    counts: NDArray[np.int64]
    classes: tuple[str, ...]
    seed: int
    files: tuple[Path, ...] = ()
    """The lists that were written."""

    @property
    def group_counts(self) -> dict[str, int]:
        """The number of groups of each part."""
        labels = dict(zip(self.names, self.groups.labels, strict=True))
        return {part: len({labels[name] for name in names}) for part, names in self.parts.items()}

    def __str__(self) -> str:
        """Return the parts with their images, groups and class fractions, and where the groups came from."""
        groups = self.group_counts
        lines = [f"{describe_groups(self.groups)} Seed {self.seed}."]
        for (part, names), counts in zip(self.parts.items(), self.counts, strict=True):
            total = max(int(counts[:-1].sum()), 1)
            fractions = ", ".join(
                f"{name} {count / total:.1%}" for name, count in zip(self.classes, counts[:-1].tolist(), strict=True)
            )
            lines.append(f"{part}: {plural(len(names), 'image')}, {plural(groups[part], 'group')}; {fractions}")
        return "\n".join(lines)

    __repr__ = __str__


def split(
    data: Dataset | Path | str,
    options: SplitOptions = SplitOptions(),
    out: Path | str | None = None,
    group_by: str | None = None,
    progress: ProgressCallback | None = None,
) -> Division:
    """Divide a data set by group, and write list files.

    The lists of folds are in `fold1/train.txt`, `fold1/val.txt` and so on. `dilated train DATA --lists FOLDER` and
    `open_divided(data, lists=folder)` take such a folder.

    Args:
        data: a data set, or its folder; a split `test` of its own stays apart.
        options: the fractions or folds, and the seed.
        out: the folder of the lists, by default that of data without splits; without lists there.
        group_by: what tells which images belong together; see `open_dataset`.
        progress: called with the labels that are read and their number.

    Raises:
        InputError: fewer groups than parts, other lists that exist, or a label that cannot be read.

    Example:
        >>> import tempfile
        >>> from dilated.data.formats import FORMATS
        >>> root = Path(tempfile.mkdtemp())
        >>> names = ["film7_1", "film7_2", "film8_1", "film9_1"]
        >>> image, label = np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint8)
        >>> FORMATS["kitti2018"].save(root, "train", [(name, image, label) for name in names])
        >>> split(root, SplitOptions(val=0.3), out=root / "lists").group_counts
        {'train': 2, 'val': 1}
    """
    remove_unfinished(Path(out) if out is not None else data.root if isinstance(data, Dataset) else Path(data))
    dataset = data if isinstance(data, Dataset) else open_dataset(data, group_by=group_by)
    folder = _choose_folder(dataset, out)
    samples, groups = pool_samples(dataset)
    if options.by == SINGLE_IMAGES:
        names = tuple(name_from_root(sample, dataset.root) for sample in samples)
        groups = Groups(names, (None,) * len(names), "each image on its own, as asked for")
    parts, counts = divide(dataset, samples, groups, options, progress)
    names = _name_samples(samples, dataset.root)
    division = Division(
        {part: tuple(names[i] for i in members) for part, members in parts.items()},
        groups,
        names,
        counts,
        dataset.classes.names,
        options.seed,
    )
    files = _write_lists(division, folder, options.folds)
    return replace(division, files=files)


def open_divided(
    root: Path | str,
    format: str | None = None,
    group_by: str | None = None,
    lists: Path | str | None = None,
    fold: str | None = None,
) -> Dataset:
    """Open a data set with other splits than its folder's.

    Args:
        root, format, group_by: as for `open_dataset`.
        lists: a folder with train.txt and val.txt, and perhaps test.txt, that `split` wrote or people.
        fold: such as `2/5`: train and val are pooled and divided into five folds by group, of which the second is val.
            As many folds as groups leave one group out at a time. The same fold is the same images each time.

    Raises:
        InputError: as for `open_dataset`; lists that name an image that is not there or one twice, a fold that is none,
            both lists and a fold, or fewer groups than folds.
    """
    data = open_dataset(root, format, group_by)
    if lists is not None and fold is not None:
        raise InputError("fold: given beside lists, which divide the data too", hint="give one of the two")
    if lists is not None:
        return _apply_lists(data, Path(lists))
    return data if fold is None else select_fold(data, fold)


def select_fold(data: Dataset, fold: str) -> Dataset:
    """The data set whose val is one of several folds by group; see `open_divided`.

    Raises:
        InputError: a fold that is none, or fewer groups than folds.
    """
    number, count = parse_fold(fold)
    samples, groups = pool_samples(data)
    parts, _ = divide(data, samples, groups, SplitOptions(folds=count))
    held_out = set(parts[f"fold {number}"])
    division = {
        "train": [sample for i, sample in enumerate(samples) if i not in held_out],
        "val": [sample for i, sample in enumerate(samples) if i in held_out],
    }
    labels = sorted({groups.labels[i] for i in held_out})
    shown = ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if labels[4:] else "")
    note = f"Fold {number} of {count}: val is {plural(len(held_out), 'image')} of {shown}. {describe_groups(groups)}"
    notes = (*data.notes, note)
    return replace(data, division=DatasetDivision(division, {"fold": fold}), notes=notes)


def parse_fold(fold: str) -> tuple[int, int]:
    """The number of a fold and that of all.

    Raises:
        InputError: it is not of the form `2/5`, or the first is above the second.

    Example:
        >>> parse_fold("2/5")
        (2, 5)
    """
    words = fold.split("/")
    if len(words) != 2 or not all(word.isdecimal() and len(word) < 9 for word in words):
        raise InputError(f"fold: {fold!r} is no fold", hint="give one such as 2/5: the second of five")
    number, count = map(int, words)
    if count < 2 or not 1 <= number <= count:
        raise InputError(f"fold: there is no fold {number} of {count}", hint="give one such as 2/5: the second of five")
    return number, count


def _apply_lists(data: Dataset, folder: Path) -> Dataset:
    """The data set with the splits that the lists of a folder name."""
    samples, _ = pool_samples(data, with_test=True)
    by_name: dict[str, Sample] = {}
    for sample, name in zip(samples, _name_samples(samples, data.root), strict=True):
        by_name[name] = by_name[name_from_root(sample, data.root)] = sample
    parts: dict[str, list[Sample]] = {}
    seen: dict[SampleKey, str] = {}
    for split_name in find_split_lists(folder):
        parts[split_name], problems = resolve_list(folder / f"{split_name}.txt", by_name)
        if problems:
            raise InputError(problems[0], hint=f"name images of {data.root}")
        for sample in parts[split_name]:
            if sample.key in seen:
                raise InputError(f"{folder}: {sample.name} is in {seen[sample.key]} and in {split_name}")
            seen[sample.key] = split_name
    for split_name in ("train", "val"):
        if not parts.get(split_name):
            raise InputError(
                f"{folder}: has no {split_name}.txt that names an image", hint="`dilated split` writes both"
            )
    note = f"The splits are those of the lists in {folder}."
    division = DatasetDivision(parts, {"lists": str(folder.resolve())})
    return replace(data, division=division, notes=(*data.notes, note))


def divide(
    data: Dataset,
    samples: Sequence[Sample],
    groups: Groups,
    options: SplitOptions,
    progress: ProgressCallback | None = None,
) -> tuple[dict[str, list[int]], NDArray[np.int64]]:
    """Divide samples by their groups.

    Returns:
        The indices of each part, and (P, C + 1) pixels by class, then ignored ones, of each part.

    Raises:
        InputError: fewer groups than parts, or a label that cannot be read.
    """
    fractions = _part_fractions(options)
    members = groups.indices
    if len(members) < len(fractions):
        raise InputError(
            f"{data.root}: found {plural(len(members), 'group')} (by {groups.source}) for {len(fractions)} parts",
            hint="give other groups with --group-by, or divide by image if images are independent of each other",
        )
    pixels = _count_labels(samples, len(data.classes), progress)
    sizes = np.array([[len(indices)] for indices in members.values()], dtype=np.float64)
    totals = np.stack([pixels[list(indices)].sum(0) for indices in members.values()])
    weights = np.concatenate([sizes, totals[:, :-1]], axis=1)
    place = _deal(weights, np.array(list(fractions.values())), options.seed)
    parts: dict[str, list[int]] = {part: [] for part in fractions}
    for number, indices in zip(place.tolist(), members.values(), strict=True):
        parts[list(fractions)[number]] += indices
    counts = np.stack([pixels[indices].sum(0) for indices in parts.values()])
    return {part: sorted(indices) for part, indices in parts.items()}, counts


def _part_fractions(options: SplitOptions) -> dict[str, float]:
    if options.folds:
        return {f"fold {number}": 1 / options.folds for number in range(1, options.folds + 1)}
    fractions = {"train": 1 - options.val - options.test, "val": options.val, "test": options.test}
    return {part: fraction for part, fraction in fractions.items() if fraction}


def _deal(weights: NDArray[np.float64], fractions: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Deal groups to parts.

    Args:
        weights: (G, K), what each group has of K things to be spread: images, and pixels by class.
        fractions: (P,), of each thing that each part should have.

    Returns:
        (G,), the part of each group; every part has one at least.
    """
    rng = np.random.default_rng(seed)
    present = weights.sum(0) > 0
    normalized = weights[:, present] / weights[:, present].sum(0)
    order = np.lexsort((rng.permutation(len(weights)), -normalized.max(1).round(3)))
    filled = np.zeros((len(fractions), normalized.shape[1]))
    place = np.zeros(len(weights), dtype=np.int64)
    for step, group in enumerate(order.tolist()):
        is_empty = filled.sum(1) == 0
        must_fill = len(order) - step <= is_empty.sum()
        # what a part lacks of its fraction, in that fraction: a small part is filled as fast as a large one
        before = ((filled - fractions[:, None]) / fractions[:, None]) ** 2
        after = ((filled + normalized[group] - fractions[:, None]) / fractions[:, None]) ** 2
        cost = ((after - before) * fractions[:, None]).sum(1) + np.where(must_fill & ~is_empty, np.inf, 0)
        choices = np.flatnonzero(cost <= cost.min() + 1e-12)
        part = int(choices[rng.integers(len(choices))])
        filled[part] += normalized[group]
        place[group] = part
    return place


def pool_samples(data: Dataset, with_test: bool = False) -> tuple[list[Sample], Groups]:
    """The samples of all splits, each once, and their groups; those of test only where asked for."""
    splits = [name for name in data.splits if name != "test" or with_test] or list(data.splits)
    samples = {sample.key: sample for name in splits for sample in data.samples(name)}
    return list(samples.values()), data.contents.group(list(samples.values()))


def _count_labels(samples: Sequence[Sample], num_classes: int, progress: ProgressCallback | None) -> NDArray[np.int64]:
    """(N, C + 1): the pixels of each sample by class, then ignored ones."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        counted = pool.map(lambda sample: count_pixels(sample.read_label(), num_classes), samples)
        return np.stack(list(track(counted, len(samples), progress)))


def _name_samples(samples: Sequence[Sample], root: Path) -> tuple[str, ...]:
    """The name of each sample in a list: its stem, or its path from the data folder where two have one stem."""
    sizes = Counter(sample.name for sample in samples)
    return tuple(sample.name if sizes[sample.name] == 1 else name_from_root(sample, root) for sample in samples)


def _choose_folder(data: Dataset, out: Path | str | None) -> Path:
    if out is not None:
        return Path(out)
    if data.contents.has_listed_or_own_splits():
        raise InputError(
            f"{data.root}: has splits of its own, {', '.join(data.splits)}, beside which lists have no effect",
            hint="give a folder for the lists with --out, and that folder to `dilated train` with --lists",
        )
    return data.root


def _write_lists(division: Division, folder: Path, folds: int) -> tuple[Path, ...]:
    lists: dict[Path, Sequence[str]] = {}
    if folds:
        for number, part in enumerate(division.parts, 1):
            rest = {name for other, names in division.parts.items() if other != part for name in names}
            lists[folder / f"fold{number}" / "train.txt"] = [name for name in division.names if name in rest]
            lists[folder / f"fold{number}" / "val.txt"] = division.parts[part]
    else:
        lists = {folder / f"{part}.txt": names for part, names in division.parts.items()}
    texts = {path: "".join(f"{name}\n" for name in names) for path, names in lists.items()}
    write_lists(texts, folder)
    return tuple(lists)
