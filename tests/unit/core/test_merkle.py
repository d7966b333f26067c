from __future__ import annotations

import hashlib

import pytest

from cassiopeia.core import merkle
from cassiopeia.errors import PeerError, SignatureInvalid

LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(20)]
ROOT = merkle.frontier_of(LEAVES).root()


def node_by_definition(leaves: list[bytes]) -> bytes:
    """RFC 9162 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = node_by_definition(leaves[:split]), node_by_definition(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def test_a_leaf_is_never_taken_for_a_node() -> None:
    left, right = LEAVES[:2]
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)
    assert merkle.leaf_hash(b"") != merkle.EMPTY_ROOT


class TestFrontier:
    @pytest.mark.parametrize("size", range(len(LEAVES) + 1))
    def test_its_root_is_that_of_the_whole_tree(self, size: int) -> None:
        assert merkle.frontier_of(LEAVES[:size]).root() == node_by_definition(LEAVES[:size])

    def test_it_says_which_subtrees_a_leaf_completes(self) -> None:
        frontier = merkle.Frontier()
        for number, leaf in enumerate(LEAVES):
            completed = frontier.append(leaf)
            assert completed[0] == (0, number, leaf)
            for level, place, root in completed:
                first = place << level
                assert first + (1 << level) == number + 1
                assert root == node_by_definition(LEAVES[first : number + 1])
            # As many levels as there are ones at the end of the leaf's number.
            assert [level for level, _, _ in completed] == [*range(((number + 1) & -(number + 1)).bit_length())]

    def test_it_comes_back_from_its_octets(self) -> None:
        for size in range(len(LEAVES)):
            frontier = merkle.frontier_of(LEAVES[:size])
            again = merkle.Frontier.decode(size, frontier.encode())
            assert (again.size, again.roots) == (frontier.size, frontier.roots)
            again.append(LEAVES[size])
            assert again.root() == merkle.frontier_of(LEAVES[: size + 1]).root()

    def test_a_copy_goes_its_own_way(self) -> None:
        frontier = merkle.frontier_of(LEAVES[:5])
        copy = frontier.copy()
        copy.append(LEAVES[5])
        assert (frontier.size, frontier.root()) == (5, node_by_definition(LEAVES[:5]))
        assert (copy.size, copy.root()) == (6, node_by_definition(LEAVES[:6]))

    @pytest.mark.parametrize(
        ("size", "octets"),
        [
            (0, bytes(32)),
            (1, b""),
            (1, bytes(31)),
            (1, bytes(33)),
            (3, bytes(32)),
            (2, bytes(64)),
            ((1 << 168) - 1, b""),
        ],
    )
    def test_another_number_of_hashes_is_a_peer_error(self, size: int, octets: bytes) -> None:
        with pytest.raises(PeerError, match=f"tree of {size} leaves"):
            merkle.Frontier.decode(size, octets)


class TestInclusion:
    @pytest.mark.parametrize("number", range(20))
    def test_every_leaf_is_shown_to_be_there(self, number: int) -> None:
        path = merkle.inclusion_path(number, LEAVES)
        merkle.check_inclusion(LEAVES[number], number=number, size=20, path=path, root=ROOT)

    @pytest.mark.parametrize("number", [-1, 20, 1 << 167])
    def test_a_leaf_outside_the_tree_is_not(self, number: int) -> None:
        with pytest.raises(SignatureInvalid, match="has none at place"):
            merkle.check_inclusion(LEAVES[0], number=number, size=20, path=(), root=ROOT)

    def test_a_tree_of_none_has_no_leaf(self) -> None:
        with pytest.raises(SignatureInvalid):
            merkle.check_inclusion(LEAVES[0], number=0, size=0, path=(), root=merkle.EMPTY_ROOT)

    def test_a_path_that_is_too_long_is_no_proof(self) -> None:
        path = (*merkle.inclusion_path(3, LEAVES), bytes(32))
        with pytest.raises(SignatureInvalid, match="too long"):
            merkle.check_inclusion(LEAVES[3], number=3, size=20, path=path, root=ROOT)

    def test_a_path_that_is_too_short_is_no_proof(self) -> None:
        # What it leads to is the root of a subtree, and yet not that of the tree that was named.
        path = merkle.inclusion_path(3, LEAVES)[:-1]
        root = node_by_definition(LEAVES[:16])
        merkle.check_inclusion(LEAVES[3], number=3, size=16, path=path, root=root)
        with pytest.raises(SignatureInvalid, match="does not lead"):
            merkle.check_inclusion(LEAVES[3], number=3, size=20, path=path, root=root)

    def test_another_leaf_is_not_at_its_place(self) -> None:
        path = merkle.inclusion_path(3, LEAVES)
        with pytest.raises(SignatureInvalid, match="does not lead"):
            merkle.check_inclusion(LEAVES[4], number=3, size=20, path=path, root=ROOT)
