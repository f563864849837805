"""Where the maps of tiles wait until everything that reads them is done: in memory, or in files.

with Store(folder) as store:                         # or Store(None): in memory
    store[(0, 3)] = [features, fine]                 # (F, h, w) each
    store.window((0, 3), 0, slice(2, 9), slice(0, 4))
    store.keep(lambda key: key[0] > 0)               # forget the rest
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

TileKey = tuple[int, ...]


class TileCache:
    """Maps of tiles by key.

    Args:
        folder: where they are written, one file a map; it is emptied at the start and removed at the end. In memory
            where there is none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._in_memory: dict[TileKey, list[Tensor]] = {}
        self._on_disk: set[TileKey] = set()

    def __enter__(self) -> Self:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._in_memory.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __contains__(self, key: TileKey) -> bool:
        return key in self._in_memory or key in self._on_disk

    def __setitem__(self, key: TileKey, maps: Sequence[Tensor]) -> None:
        if self.folder is None:
            self._in_memory[key] = list(maps)
            return
        for i, feature_map in enumerate(maps):
            np.save(self._path(key, i), feature_map.numpy())
        self._on_disk.add(key)

    def window(self, key: TileKey, index: int, rows: slice, columns: slice) -> Tensor:
        """Part of a map: (F, rows, columns)."""
        if self.folder is None:
            return self._in_memory[key][index][:, rows, columns]
        # Mapped for a moment, so that only what is asked for is read; a copy, so that no page stays in memory.
        return torch.tensor(np.load(self._path(key, index), mmap_mode="r")[:, rows, columns])

    def retain(self, is_needed: Callable[[TileKey], bool]) -> None:
        """Forget all tiles but those that are still wanted."""
        for key in [key for key in self._in_memory if not is_needed(key)]:
            del self._in_memory[key]
        for key in [key for key in self._on_disk if not is_needed(key)]:
            self._on_disk.remove(key)
            for path in self._folder().glob(f"{self._stem(key)}.*.npy"):
                path.unlink()

    def _folder(self) -> Path:
        assert self.folder is not None
        return self.folder

    def _path(self, key: TileKey, index: int) -> Path:
        return self._folder() / f"{self._stem(key)}.{index}.npy"

    @staticmethod
    def _stem(key: TileKey) -> str:
        return "-".join(map(str, key))
