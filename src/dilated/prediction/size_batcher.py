"""Batches of images of one size, from images of any sizes."""

from __future__ import annotations

from typing import Generic, TypeVar

_T = TypeVar("_T")


class SizeBatcher(Generic[_T]):
    """Collects items into batches of images of one size; while one fills, at most two batches wait in all.

    Example:
        >>> batches = SizeBatcher(2)
        >>> [batches.add(size, name) for size, name in [((4, 4), "a"), ((8, 8), "b"), ((4, 4), "c")]], batches.pop()
        ([[], [], ['a', 'c']], ['b'])
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.waiting: dict[tuple[int, ...], list[_T]] = {}

    def add(self, size: tuple[int, ...], item: _T) -> list[_T]:
        """Add an item and return the batch to be predicted now: nothing if none is full and few items wait."""
        self.waiting.setdefault(size, []).append(item)
        if len(self.waiting[size]) == self.batch_size:
            return self.waiting.pop(size)
        return self.pop() if sum(map(len, self.waiting.values())) >= 2 * self.batch_size else []

    def pop(self) -> list[_T]:
        """Return the batch that has waited longest; nothing if none waits."""
        return self.waiting.pop(next(iter(self.waiting))) if self.waiting else []
