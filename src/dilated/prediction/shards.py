"""A part of the images for each of several machines, which label them into one folder.

    shard = Shard.parse("2/4")
    sources = shard.select(search.sources)               # about a quarter; the four parts are all, and none twice

An image's part is decided by its name alone, so machines agree without talking, also where one sees more images.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from dilated.errors import InputError
from dilated.prediction.sources import InputImage, Source


@dataclass(frozen=True)
class Shard:
    """The part of a number of parts."""

    number: int
    """From 1."""
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `K/N`.

        Raises:
            InputError: not two numbers, or K not in 1..N.

        Example:
            >>> Shard.parse("2/4")
            Shard(number=2, count=4)
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"shard: {text!r} is not K/N with K in 1..N", hint="give 1/4, 2/4, 3/4 and 4/4")
        return cls(int(match[1]), int(match[2]))

    def select(self, sources: Sequence[Source]) -> list[Source]:
        """Return the images and videos of this part, in their order.

        Example:
            >>> from pathlib import Path
            >>> sources = [Source(Path(f"{i}.png"), Path(str(i))) for i in range(40)]
            >>> parts = [Shard(number, 3).select(sources) for number in (1, 2, 3)]
            >>> [len(part) for part in parts], len({source for part in parts for source in part})
            ([10, 14, 16], 40)
        """
        key = (zlib.crc32(InputImage(source).key.encode("utf-8", "surrogateescape")) for source in sources)
        return [s for s, number in zip(sources, key, strict=True) if number % self.count == self.number - 1]

    @property
    def suffix(self) -> str:
        """What the files of a part are told apart by.

        Example:
            >>> Shard(2, 4).suffix
            '.2-of-4'
        """
        return f".{self.number}-of-{self.count}"
