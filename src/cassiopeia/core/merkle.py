"""The hash tree over the journal's entries, as RFC 9162 2.1 has it: leaf and node hashes, roots, inclusion proofs.

A root over n leaves binds every one of them and their order; a path of at most 64 hashes shows that one entry is
under it. Hashes are SHA-256, 32 octets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from cassiopeia.errors import PeerError, SignatureInvalid

HASH_OCTETS: Final = 32
# RFC 9162 2.1.1: the root of no leaves.
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

_LEAF: Final = b"\0"
_NODE: Final = b"\1"


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one entry's octets; it is also what the next entry names as the hash of the one before."""
    return hashlib.sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


class Frontier:
    """What is kept of a tree that only grows: the roots of its complete subtrees, the largest first.

    Their sizes are the powers of two that make up `size`, so there are at most as many as `size` has bits.
    """

    def __init__(self, size: int = 0, roots: Sequence[bytes] = ()) -> None:
        if len(roots) != size.bit_count() or any(len(each) != HASH_OCTETS for each in roots):
            raise PeerError(f"the frontier of a tree of {size} leaves has {size.bit_count()} hashes of 32 octets")
        self.size = size
        self._roots = list(roots)

    @property
    def roots(self) -> tuple[bytes, ...]:
        return tuple(self._roots)

    def copy(self) -> Frontier:
        return Frontier(self.size, self._roots)

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf's hash; return the subtrees that it completes: level (0: a leaf), number within it, root."""
        completed = [(0, self.size, leaf)]
        root, level = leaf, 0
        while self.size >> level & 1:
            root, level = node_hash(self._roots.pop(), root), level + 1
            completed.append((level, self.size >> level, root))
        self._roots.append(root)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """RFC 9162 2.1.1: the root of the whole tree."""
        if not self._roots:
            return EMPTY_ROOT
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = node_hash(left, root)
        return root

    def encode(self) -> bytes:
        """The hashes one behind the other; the size stands elsewhere."""
        return b"".join(self._roots)

    @classmethod
    def decode(cls, size: int, octets: bytes) -> Frontier:
        """Read what `encode` gave; raises PeerError."""
        return cls(size, [octets[at : at + HASH_OCTETS] for at in range(0, len(octets), HASH_OCTETS)])


def frontier_of(leaves: Sequence[bytes]) -> Frontier:
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier


def inclusion_path(number: int, leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """RFC 9162 2.1.3.1: the hashes that lead from leaf `number` (from 0) to the root over `leaves`."""
    if len(leaves) <= 1:
        return ()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    left, right = leaves[:split], leaves[split:]
    if number < split:
        return (*inclusion_path(number, left), frontier_of(right).root())
    return (*inclusion_path(number - split, right), frontier_of(left).root())


def check_inclusion(leaf: bytes, *, number: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 2.1.3.2: raises SignatureInvalid unless `path` shows that the leaf stands at `number` under `root`."""
    if root_of_path(leaf, number=number, size=size, path=path) != root:
        raise SignatureInvalid("the inclusion proof does not lead to the root")


def root_of_path(leaf: bytes, *, number: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the root that an inclusion proof leads to; raises SignatureInvalid for one of another length."""
    if not 0 <= number < size:
        raise SignatureInvalid(f"a tree of {size} entries has none at place {number}")
    position, last, found = number, size - 1, leaf
    for each in path:
        if not last:
            raise SignatureInvalid("the inclusion proof is too long")
        if position & 1 or position == last:
            found = node_hash(each, found)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found = node_hash(found, each)
        position, last = position >> 1, last >> 1
    if last:
        raise SignatureInvalid("the inclusion proof does not lead to the root")
    return found
