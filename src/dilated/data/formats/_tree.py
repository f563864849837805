"""Folders and images below a data folder, wherever people put them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dilated.data.images import IMAGE_SUFFIXES, is_folder, list_image_files


def list_folders(root: Path, depth: int) -> Iterator[Path]:
    """The folder itself and those at most `depth` levels below it, sorted by name; hidden ones are left out."""
    return (folder.path for folder in walk_folders(root, depth))


@dataclass(frozen=True)
class FolderContents:
    """A folder, and whether images lie directly in it."""

    path: Path
    has_images: bool


def walk_folders(root: Path, depth: int) -> Iterator[FolderContents]:
    """The folder itself and those at most `depth` levels below it, sorted by name; hidden ones are left out."""
    folders, has_images = [], False
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                is_image = os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES
                has_images = has_images or is_image
                folder = root / entry.name
                if not is_image and is_folder(folder) and not (entry.is_symlink() and _leads_upwards(folder)):
                    folders.append(folder)
    except OSError:  # not ours to read
        return
    yield FolderContents(root, has_images)
    if depth:
        for folder in sorted(folders):
            yield from walk_folders(folder, depth - 1)


def _leads_upwards(link: Path) -> bool:
    """Whether a link to a folder leads to one that it lies in, whose images would be found again below it."""
    return link.parent.resolve().is_relative_to(link.resolve())


class ImageIndex:
    """The images in a data folder and up to three levels below it, by their names, listed when first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def _images(self) -> dict[str, list[Path]]:
        images: dict[str, list[Path]] = {}
        for folder in list_folders(self.root, depth=3):
            for image in list_image_files(folder):
                images.setdefault(image.name, []).append(image)
        return images

    def find(self, name: str, label: Path) -> list[Path]:
        """The images of a name; where several have it, those whose folders end as the label's do."""
        candidates = self._images.get(name, [])
        parts = label.parent.relative_to(self.root).parts
        for count in range(len(parts), 0, -1):
            alike = [path for path in candidates if path.parent.parts[-count:] == parts[-count:]]
            if len(candidates) > 1 and alike:
                return alike
        return candidates
