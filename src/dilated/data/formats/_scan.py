"""What a JSON file is, told by the words in it, without parsing what may be gigabytes."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path

_SCAN_BYTES = 1 << 16


def holds_words(path: Path, opening: bytes, words: Iterable[bytes]) -> bool:
    """Whether a JSON file begins with a bracket and holds all of these words anywhere.

    Args:
        opening: `[` or `{`.
    """
    try:
        with path.open("rb") as file:
            if not file.read(_SCAN_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(opening):
                return False
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                return all(text.find(word) >= 0 for word in words)
    except (OSError, ValueError):  # a folder, a link to nothing, an empty file
        return False
