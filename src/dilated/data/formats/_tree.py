"""Folders and images below a data folder, wherever people put them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from dilated.data.images import list_image_files


def list_folders(root: Path, depth: int) -> Iterator[Path]:
    """The folder itself and those at most `depth` levels below it, sorted by name; hidden ones are left out."""
    yield root
    if depth:
        try:
            with os.scandir(root) as entries:  # which knows folders without asking for each file
                folders = sorted(root / e.name for e in entries if not e.name.startswith(".") and e.is_dir())
        except OSError:  # not ours to read
            return
        for folder in folders:
            yield from list_folders(folder, depth - 1)


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
