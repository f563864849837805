"""Sets that are joined pair by pair: the connected components of a graph whose edges come one after another."""

from __future__ import annotations


class UnionFind:
    """Indices 0 to n - 1, each in a set of its own until it is joined.

    Args:
        size: n.

    Example:
        >>> union = UnionFind(4)
        >>> union.join(0, 2), union.join(2, 0), union.groups()
        (True, False, [[0, 2], [1], [3]])
    """

    def __init__(self, size: int) -> None:
        self._parents = list(range(size))

    def find(self, index: int) -> int:
        """The index that stands for the set: its smallest."""
        while self._parents[index] != index:
            self._parents[index] = self._parents[self._parents[index]]
            index = self._parents[index]
        return index

    def join(self, first: int, second: int) -> bool:
        """Join the sets of two indices.

        Returns:
            Whether they were two.
        """
        low, high = sorted((self.find(first), self.find(second)))
        self._parents[high] = low
        return low != high

    def groups(self) -> list[list[int]]:
        """The sets, each in order, in the order of their smallest."""
        groups: dict[int, list[int]] = {}
        for index in range(len(self._parents)):
            groups.setdefault(self.find(index), []).append(index)
        return list(groups.values())
