"""The finished blocks of a raster, in a folder, so that a run that was killed goes on where it was.

Each block is one compressed file with a checksum, which appears whole or not at all. `manifest.json` says what the
blocks belong to, so that a run of another image, network or setting does not mix with them.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.manifest import stamp_file
from dilated.errors import InputError
from dilated.files import atomic_write, hash_file, read_json
from dilated.prediction.views import Block, assemble_window

_MANIFEST = "manifest.json"
_CACHE_BYTES = 128 << 20  # of unpacked blocks that are kept while the raster is put together


class BlockStore:
    """A folder of blocks.

    Args:
        provenance: what the labels depend on, as JSON has it.
        blocks: those of a regular grid that covers the raster, row by row.
        dtype: of the labels.
        is_shared: whether another process has made the folder, and others write to it.

    Raises:
        InputError: the folder holds blocks of something else; the message says how that differs.
    """

    def __init__(
        self,
        folder: Path,
        provenance: dict[str, Any],
        blocks: Sequence[Block],
        dtype: np.dtype[Any],
        is_shared: bool = False,
    ) -> None:
        self.folder, self.dtype = folder, dtype.newbyteorder("<")
        self.indices = {block: i for i, block in enumerate(blocks)}
        self.block_size = blocks[0].height, blocks[0].width
        self.block_at = {(block.top, block.left): block for block in blocks}
        self.cache: OrderedDict[Block, NDArray[Any]] = OrderedDict()
        table = [[b.top, b.left, b.height, b.width] for b in blocks]
        manifest = json.loads(json.dumps({**provenance, "dtype": str(dtype), "blocks": table}))
        if is_shared:
            _check_manifest(folder / _MANIFEST, manifest)
            return
        for leftover in (*folder.glob("*.new"), *folder.glob(".*.part")):
            leftover.unlink()
        path = folder / _MANIFEST
        if path.exists() and any(folder.glob("*.block")):
            _check_manifest(path, manifest)
            return
        foreign_files = [p.name for p in folder.iterdir() if not _is_own_file(p)]
        if foreign_files:
            raise InputError(
                f"{folder}: holds {foreign_files[0]!r}, which is not of an unfinished run", hint="move the folder away"
            )
        for block in folder.glob("*.block"):
            block.unlink()  # of a run that was killed while it cleaned up
        with explain_write_errors(folder):
            atomic_write(path, json.dumps(manifest))

    @staticmethod
    def is_empty(folder: Path) -> bool:
        """Return whether a folder holds no finished block, and no file of something else."""
        return all(_is_own_file(p) and p.suffix != ".block" for p in folder.iterdir())

    def has(self, block: Block) -> bool:
        """Return whether a block is finished.

        Raises:
            InputError: its file is damaged.
        """
        if not self._path(block).exists():
            return False
        self._load(block)
        return True

    def write(self, block: Block, labels: NDArray[Any]) -> None:
        """Write a block's labels, (block.height, block.width).

        Raises:
            InputError: the disk is full.
        """
        with explain_write_errors(self.folder):
            atomic_write(self._path(block), zlib.compress(labels.astype(self.dtype).tobytes(), 6))

    def read_window(self, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Read labels across blocks, all of which are finished: (height, width).

        Raises:
            InputError: a block's file is damaged.
        """

        def load(i: int, j: int) -> NDArray[Any]:
            return self._load_cached(self.block_at[i * self.block_size[0], j * self.block_size[1]])

        return assemble_window(Block(top, left, height, width), self.block_size, load, self.dtype)

    def remove(self) -> None:
        """Delete the folder; first the manifest, so that what remains after a kill is not taken for unfinished work."""
        (self.folder / _MANIFEST).unlink()
        shutil.rmtree(self.folder)

    def _load_cached(self, block: Block) -> NDArray[Any]:
        if block not in self.cache:
            self.cache[block] = self._load(block)
            while len(self.cache) > 1 and sum(part.nbytes for part in self.cache.values()) > _CACHE_BYTES:
                self.cache.popitem(last=False)
        self.cache.move_to_end(block)
        return self.cache[block]

    def _load(self, block: Block) -> NDArray[Any]:
        path = self._path(block)
        try:
            data = zlib.decompress(path.read_bytes())
        except (OSError, zlib.error) as error:
            raise _damaged_error(path, str(error)) from error
        expected = block.height * block.width * self.dtype.itemsize
        if len(data) != expected:
            raise _damaged_error(path, f"{len(data)} bytes of labels, {expected} expected")
        return np.frombuffer(data, self.dtype).reshape(block.height, block.width)

    def _path(self, block: Block) -> Path:
        return self.folder / f"{self.indices[block]:06d}.block"


def _is_own_file(path: Path) -> bool:
    """Return whether a file is one that an unfinished run leaves."""
    return path.suffix in (".block", ".new", ".part") or path.name in (_MANIFEST, "maps")


@contextmanager
def explain_write_errors(folder: Path) -> Iterator[None]:
    """Turn a failure to write into an `InputError` that says how to go on."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: could not be written ({error})",
            hint="make room on the disk and run the same command again: finished blocks are kept",
        ) from error


def identify_source(path: Path, folder: Path) -> dict[str, Any]:
    """Identify an image by the hash of its content, and say where it is.

    Args:
        folder: of the blocks; what their manifest says of an image that is untouched is taken over.

    Raises:
        InputError: the image cannot be read.
    """
    stamp = stamp_file(path)
    identity = {"path": str(path.resolve()), "stamp": stamp}
    with suppress(InputError, KeyError, TypeError):
        before = read_json(folder / _MANIFEST)["source"]
        if stamp and before["stamp"] == stamp and before["path"] == identity["path"]:
            return {**identity, "content": str(before["content"])}
    return {**identity, "content": hash_file(path)}


def _check_manifest(path: Path, current: dict[str, Any]) -> None:
    """Refuse to go on with blocks of something else."""
    try:
        differences = _describe_differences(read_json(path), current)
    except (ValueError, AttributeError) as error:
        hint = f"delete the folder {path.parent} to start again"
        raise InputError(f"{path}: not the manifest of an unfinished run ({error})", hint=hint) from error
    if differences:
        raise InputError(
            f"{path}: the unfinished run was of something else: {'; '.join(differences)}",
            hint=f"run it as it was to finish it, or delete the folder {path.parent} to start again",
        )


def _describe_differences(saved: dict[str, Any], current: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key in sorted({*saved, *current}):
        before, after = saved.get(key), current.get(key)
        if key == "source" and isinstance(before, dict) and isinstance(after, dict):
            # the same image may have been moved or touched
            if before.get("content") != after["content"]:
                lines.append(f"the image was {_describe_image(before)} and is {_describe_image(after)}")
        elif isinstance(before, dict) and isinstance(after, dict):
            lines += _describe_differences(before, after, f"{prefix}{key}.")
        elif before != after and key == "blocks":
            lines.append("blocks differ")
        elif before != after:
            lines.append(f"{prefix}{key} was {before!r} and is {after!r}")
    return lines


def _describe_image(source: dict[str, Any]) -> str:
    return f"{source.get('path')} of SHA-256 {str(source.get('content'))[:12]}"


def _damaged_error(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path}: the block is damaged ({reason})",
        hint="delete this one file and run the same command again: only this block is labelled again",
    )
