"""The tree gives what RFC 9162 2.1 defines, for every size and every leaf, as the slow definitions do."""

from __future__ import annotations

import pytest

from cassiopeia.core import merkle
from cassiopeia.errors import InternalError
from cassiopeia.journal.tree import Tree

LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(37)]


@pytest.fixture(scope="module")
def tree() -> Tree:
    made = Tree()
    for leaf in LEAVES:
        made.append(leaf)
    return made


@pytest.mark.parametrize("size", range(len(LEAVES) + 1))
def test_roots_and_paths_are_those_of_the_definition(tree: Tree, size: int) -> None:
    leaves = LEAVES[:size]

    assert tree.root_at(size) == merkle.frontier_of(leaves).root()
    for number in range(size):
        path = tree.path(number, size)
        assert path == merkle.inclusion_path(number, leaves)
        merkle.check_inclusion(LEAVES[number], number=number, size=size, path=path, root=tree.root_at(size))


def test_leaves_are_kept(tree: Tree) -> None:
    assert [tree.leaf(number) for number in range(tree.size)] == LEAVES


@pytest.mark.parametrize("size", [-1, 38])
def test_a_size_that_never_was_is_our_own_mistake(tree: Tree, size: int) -> None:
    with pytest.raises(InternalError, match="was never one of"):
        tree.root_at(size)


@pytest.mark.parametrize("number", [-1, 5])
def test_a_leaf_that_is_not_there_is_our_own_mistake(tree: Tree, number: int) -> None:
    with pytest.raises(InternalError, match="has no leaf"):
        tree.path(number, 5)
