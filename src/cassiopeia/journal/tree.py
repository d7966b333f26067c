"""The whole hash tree of a journal in memory: its root at any size, and inclusion proofs (RFC 9162 2.1).

Where `merkle.Frontier` keeps what the next root needs, this keeps the root of every complete subtree: 64 octets an
entry. Then each root, and each path, takes as many steps as the size has bits.
"""

from __future__ import annotations

from cassiopeia.core.merkle import EMPTY_ROOT, HASH_OCTETS, node_hash
from cassiopeia.errors import InternalError


class Tree:
    """A tree that only grows. Leaves are counted from 0."""

    def __init__(self) -> None:
        self.size = 0
        # Level 0: the leaves one behind the other; level n: the roots over each 2^n of them.
        self._levels: list[bytearray] = []

    def append(self, leaf: bytes) -> None:
        """Add a leaf's hash."""
        node, level, number = leaf, 0, self.size
        while True:
            if level == len(self._levels):
                self._levels.append(bytearray())
            nodes = self._levels[level]
            nodes += node
            if not number & 1:
                break
            node = node_hash(bytes(nodes[-2 * HASH_OCTETS : -HASH_OCTETS]), node)
            level, number = level + 1, number >> 1
        self.size += 1

    def leaf(self, number: int) -> bytes:
        return self._node(0, number)

    def root_at(self, size: int) -> bytes:
        """RFC 9162 2.1.1: the root over the first `size` leaves."""
        self._check(size)
        return self._root(0, size) if size else EMPTY_ROOT

    def path(self, number: int, size: int) -> tuple[bytes, ...]:
        """RFC 9162 2.1.3.1: the hashes that lead from leaf `number` to the root over the first `size` leaves."""
        self._check(size)
        if not 0 <= number < size:
            raise InternalError(f"a tree of {size} leaves has no leaf {number}")
        path = []
        start, end = 0, size
        while end - start > 1:
            split = start + _split(end - start)
            if number < split:
                path.append(self._root(split, end))
                end = split
            else:
                path.append(self._root(start, split))
                start = split
        return tuple(reversed(path))

    def _check(self, size: int) -> None:
        if not 0 <= size <= self.size:
            raise InternalError(f"a tree of {self.size} leaves was never one of {size}")

    def _root(self, start: int, end: int) -> bytes:
        """The root over these leaves; `start` is a multiple of the largest power of two below their number."""
        count = end - start
        if count & (count - 1) == 0:
            level = count.bit_length() - 1
            return self._node(level, start >> level)
        split = start + _split(count)
        return node_hash(self._root(start, split), self._root(split, end))

    def _node(self, level: int, number: int) -> bytes:
        return bytes(self._levels[level][number * HASH_OCTETS : (number + 1) * HASH_OCTETS])


def _split(count: int) -> int:
    """The largest power of two that is smaller."""
    return 1 << (count - 1).bit_length() - 1
