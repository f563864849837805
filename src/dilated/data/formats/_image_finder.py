"""Where an image lies that an annotation file names: at the places that its tool uses, otherwise by its name alone.

finder = ImageFinder(Path("my-data"))
finder.find("cats/1.jpg", ("images",))               # my-data/images/cats/1.jpg, or the one file of that name
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from dilated.data.images import IMAGE_SUFFIXES, is_file
from dilated.errors import InputError


class ImageFinder:
    """Find images below a folder, which is walked once, when one is at none of its places.

    Args:
        root: the data folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, name: str, folders: Iterable[str]) -> Path | None:
        """The image of a name, which may hold folders; None where there is none.

        Args:
            name: as the annotation file has it; without a suffix, any suffix of an image is added.
            folders: where to look first, below the data folder, in this order.

        Raises:
            InputError: several images fit equally.
        """
        parts = _split_name(name)
        if not parts:
            return None
        for folder in folders:
            for suffix in ("",) if PurePosixPath(parts[-1]).suffix.lower() in IMAGE_SUFFIXES else _ADDED_SUFFIXES:
                path = self.root.joinpath(folder, *parts[:-1], f"{parts[-1]}{suffix}")
                if is_file(path):
                    return path
        return self._find_by_name(name, parts)

    def _find_by_name(self, name: str, parts: tuple[str, ...]) -> Path | None:
        """The image whose path ends in the most parts of the name."""
        paths = self._by_name.get(parts[-1]) or self._by_stem.get(parts[-1], [])
        shared = [_count_shared_ends(path.relative_to(self.root).parts[:-1], parts[:-1]) for path in paths]
        best = [path for path, count in zip(paths, shared, strict=True) if count == max(shared)]
        if len(best) > 1:
            raise InputError(
                f"{best[0]}: fits the image {name!r}, and so does {best[1]}", hint="move one of them out of the data"
            )
        return best[0] if best else None

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """All images below the folder by their names; links to folders are followed at the top alone."""
        by_name: dict[str, list[Path]] = {}
        tops = [self.root, *(path for path in self.root.iterdir() if path.is_symlink() and path.is_dir())]
        for top in tops:
            for folder, subfolders, names in os.walk(top):
                subfolders[:] = sorted(entry for entry in subfolders if not entry.startswith("."))
                for name in sorted(names):
                    if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                        by_name.setdefault(name, []).append(Path(folder, name))
        return by_name

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        by_stem: dict[str, list[Path]] = {}
        for paths in self._by_name.values():
            for path in paths:
                by_stem.setdefault(path.stem, []).append(path)
        return by_stem


_ADDED_SUFFIXES = ("", *IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES))


def _split_name(name: str) -> tuple[str, ...]:
    """The parts of a name, without those that lead out of a folder.

    Example:
        >>> _split_name(r"C:\\cats\\..\\1.jpg")
        ('cats', '1.jpg')
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return tuple(part for part in parts if part not in ("/", "//", ".", "..") and not part.endswith(":"))


def _count_shared_ends(path: tuple[str, ...], name: tuple[str, ...]) -> int:
    """How many parts two paths share, counted from their ends."""
    count = 0
    for first, second in zip(reversed(path), reversed(name), strict=False):
        if first != second:
            break
        count += 1
    return count
