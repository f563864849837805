"""Pairs of folders of images and of labels, found by what the folders are called, in any arrangement with the splits.

search = find_pairs(root)
search.pairs[0].images, search.pairs[0].labels, search.pairs[0].split
search.notes                                         # what was chosen where the names leave a choice
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dilated.data.formats._match import SPLIT_ALIASES, UNDIVIDED
from dilated.data.formats._stems import find_beside_suffix
from dilated.data.formats._tree import walk_folders
from dilated.data.images import list_image_files
from dilated.errors import InputError

_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "pngimages", "rgb", "photos", "frames")
_LABEL_FOLDERS = (
    *("labels", "masks", "annotations", "label", "mask", "annotation", "ann", "anns", "gt", "gts", "groundtruth"),
    *("segmentationclass", "segmentationclasspng", "segmentationclassraw", "segmentationclassaug", "segmentation"),
    *("segmentations", "segmaps", "segmap", "targets", "labelmaps"),
)
"""What folders of labels are called, in lower case."""
_OTHER_WORDS = {
    *("visualization", "visualizations", "vis", "viz", "overlay", "overlays", "preview", "previews"),
    *("instance", "instances", "object", "objects", "boundary", "boundaries", "edge", "edges", "pred", "preds"),
    *("prediction", "predictions", "depth", "color", "colors", "colored"),
}
"""Words of folders that hold something else, which only looks like labels."""
_DEPTH = 4
_MAX_LINES = 4


@dataclass(frozen=True)
class FolderPair:
    """A folder of images, and the folder where their labels are or should be."""

    images: Path
    labels: Path
    split: str
    """`UNDIVIDED` where no folder names one."""
    group: tuple[str, ...] = ()
    """The folders between, such as those of a site, which become a part of the samples' names."""


@dataclass(frozen=True)
class PairSearch:
    """The pairs of a data folder, the splits in the order of their folders' names, and what to say of them."""

    pairs: list[FolderPair]
    notes: list[str]

    def of_split(self, split: str) -> list[FolderPair]:
        """The pairs of a split."""
        return [pair for pair in self.pairs if pair.split == split]


@dataclass(frozen=True)
class _Role:
    """What the names of a folder and those above it say."""

    kind: str
    """images, labels, or nothing."""
    rank: int
    """Less where the name is a more usual one."""
    split: str
    group: tuple[str, ...]
    depth: int
    """Where the kind stands among the parts."""


@dataclass(frozen=True)
class _Tree:
    """The folders below a data folder, and what their names say."""

    root: Path
    roles: dict[Path, _Role]

    def kind_folder(self, path: Path) -> Path:
        """The folder itself or above it whose name says the kind."""
        parts = path.relative_to(self.root).parts
        return self.root.joinpath(*parts[: self.roles[path].depth + 1]) if self.roles[path].depth >= 0 else path


def find_pairs(root: Path, label_folder: str | None = None) -> PairSearch:
    """Find the folders of images below a data folder, and those of their labels.

    Args:
        root: the data folder.
        label_folder: the name of the folders of labels, where a file says it.

    Raises:
        InputError: two folders could hold the labels of one folder of images.
    """
    folders = {f.path: f for f in walk_folders(root, _DEPTH)}
    tree = _Tree(root, {path: _find_role(path.relative_to(root).parts, label_folder) for path in folders})
    images: dict[tuple[str, tuple[str, ...]], list[Path]] = {}
    labels: dict[tuple[str, tuple[str, ...]], list[Path]] = {}
    parents = {path.parent for path in folders}
    for path, role in tree.roles.items():
        if role.kind == "images" and (folders[path].has_images or path not in parents):
            images.setdefault((role.split, role.group), []).append(path)
        elif role.kind == "labels":
            labels.setdefault((role.split, role.group), []).append(path)
    for path, role in tree.roles.items():  # the images of train_masks/ are in train/
        key = (role.split, role.group)
        if role.kind == "" and folders[path].has_images and key in labels and key not in images:
            images[key] = [path]
    notes: list[str] = []
    pairs = []
    for key, candidates in images.items():
        image_folder = _choose(candidates, tree, notes)
        label_folders = [path for path in labels.get(key, []) if folders[path].has_images] or labels.get(key, [])
        nested = [
            path
            for (split, group), paths in labels.items()
            if (split, group[:-1]) == key and (split, group) not in images
            for path in paths
            if folders[path].has_images
        ]
        if len(nested) == 1 and not any(folders[path].has_images for path in label_folders):
            label_folders = nested  # such as annotations/trimaps/
            notes.append(f"The labels are read from {nested[0]}, the only images below {nested[0].parent}.")
        label = _choose(label_folders, tree, notes) if label_folders else _expect_labels(image_folder, tree)
        pairs.append(FolderPair(image_folder, label, *key))
    paired = {path for pair in pairs for path in (pair.images, pair.labels)}
    pairs += [
        FolderPair(path, path, tree.roles[path].split, tree.roles[path].group)
        for path, folder in folders.items()
        if folder.has_images and path not in paired and tree.roles[path].kind != "labels" and find_beside_suffix(path)
    ]
    if not any(pair.labels.is_dir() for pair in pairs):  # photos/ alone are no data set
        pairs = [pair for pair in pairs if tree.roles[pair.images].rank == 0]
    return _keep_splits(_shorten_groups(pairs), [*notes, *_describe_names(pairs, tree)])


def list_labels(pair: FolderPair) -> list[Path]:
    """The files of the labels of a pair, sorted by name."""
    if not pair.labels.is_dir():
        return []
    files = list_image_files(pair.labels)
    suffix = find_beside_suffix(pair.labels) if pair.images == pair.labels else ""
    return [path for path in files if path.stem.endswith(suffix)]


def _find_role(parts: Sequence[str], label_folder: str | None) -> _Role:
    kind, rank, split, group, depth = "", 0, UNDIVIDED, [], -1
    for i, part in enumerate(parts):
        words = [word for word in re.split(r"[\W_]+", part.casefold()) if word]
        if (before := part.casefold().removesuffix("annot")) in SPLIT_ALIASES and before != part.casefold():
            words = [before, "annotation"]  # trainannot/, as of CamVid's copies
        split_words = [word for word in words if word in SPLIT_ALIASES and word != UNDIVIDED]
        rest = [word for word in words if word not in split_words]
        part_kind, part_rank = _find_kind(rest, part == label_folder)
        is_split = len(split_words) == 1 and (part_kind or not set(rest) - {"data", "set", "dataset", "split"})
        if is_split and split == UNDIVIDED:
            split = SPLIT_ALIASES[split_words[0]]
        if part_kind:
            kind, rank, depth = part_kind, part_rank, i
        elif not is_split:
            group.append(part)
    return _Role(kind, rank, split, tuple(group), depth)


def _find_kind(words: list[str], is_label_folder: bool) -> tuple[str, int]:
    """What a folder of these words holds, and how unusual its name is."""
    if is_label_folder:
        return "labels", -1
    if not words or set(words) & _OTHER_WORDS:
        return "", 0
    name = "".join(words)
    for kind, names in (("labels", _LABEL_FOLDERS), ("images", _IMAGE_FOLDERS)):
        if name in names:
            return kind, names.index(name)
    for kind, names in (("labels", _LABEL_FOLDERS), ("images", _IMAGE_FOLDERS)):
        if set(words) & set(names):
            return kind, 100
    return "", 0


def _choose(candidates: list[Path], tree: _Tree, notes: list[str]) -> Path:
    """The folder of the most usual name; two names that are as usual are an error."""
    ordered = sorted(candidates, key=lambda path: tree.roles[path].rank)
    chosen, *others = ordered
    kind = tree.roles[chosen].kind or "images"
    if others and tree.roles[chosen].rank not in (-1, 0):
        first, second = (tree.kind_folder(path) for path in ordered[:2])
        names = f"{first.name}/ and {second.name if first.parent == second.parent else second}/"
        raise InputError(
            f"{first.parent}: found {names}; expected one, or {kind}/", hint=f"rename the one to read to {kind}/"
        )
    for other in others:
        note = f"The {kind} are read from {tree.kind_folder(chosen)}; {tree.kind_folder(other)} is left alone."
        notes += [note] if note not in notes else []
    return chosen


def _expect_labels(images: Path, tree: _Tree) -> Path:
    """Where the labels of a folder of images should be: as those of the others are, or in labels/."""
    depth = tree.roles[images].depth
    if depth < 0:
        return images / "labels"
    names = {tree.kind_folder(path).name for path, role in tree.roles.items() if role.kind == "labels"}
    name = min(names) if len(names) == 1 else "labels"
    parts = images.relative_to(tree.root).parts
    return tree.root.joinpath(*parts[:depth], name, *parts[depth + 1 :])


def _shorten_groups(pairs: list[FolderPair]) -> list[FolderPair]:
    """The pairs without the folders that all have in common."""
    groups = [pair.group for pair in pairs]
    common = 0
    while groups and all(len(group) > common and group[common] == groups[0][common] for group in groups):
        common += 1
    return [FolderPair(p.images, p.labels, p.split, p.group[common:]) for p in pairs]


def _keep_splits(pairs: list[FolderPair], notes: list[str]) -> PairSearch:
    """The pairs of splits, where there are some; those of none are then left out, and said."""
    divided = [pair for pair in pairs if pair.split != UNDIVIDED]
    if divided and len(divided) < len(pairs):
        left_out = next(pair.images for pair in pairs if pair.split == UNDIVIDED)
        notes.append(f"The images of {left_out} are in no split and left out.")
    return PairSearch(divided or pairs, notes)


def _describe_names(pairs: Sequence[FolderPair], tree: _Tree) -> list[str]:
    """That folders have other names than images/ and labels/."""
    lines: dict[str, None] = {}
    for pair in pairs:
        if pair.images == pair.labels:
            lines[f"The labels are read from {pair.labels}, beside their images."] = None
            continue
        for kind, path in (("images", pair.images), ("labels", pair.labels)):
            if path in tree.roles and tree.roles[path].depth >= 0:
                folder = tree.kind_folder(path)
                if folder.name.casefold() != kind:
                    lines[f"The {kind} are read from {folder}, for there is no {folder.parent / kind}."] = None
    described = list(lines)
    more = len(described) - _MAX_LINES
    return [*described[:_MAX_LINES], *([f"So are those of {more} more folders."] if more > 0 else [])]
