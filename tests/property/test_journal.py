"""The journal's laws: entries come back, heads and paths hold for what was signed, and tampering is noticed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.journal_entries import BODIES, chain, signed_head
from tests.support.journal_keys import JOURNAL_KEY, JOURNAL_PUBLIC_KEY
from tests.support.strategies import instances, octet_strings

from cassiopeia.core import ed25519, merkle, structure
from cassiopeia.errors import PeerError, SignatureInvalid
from cassiopeia.journal import entry, head

STRUCTURES: list[type[Any]] = [
    entry.JournalEntry,
    entry.Log,
    *entry.BODIES.values(),
    entry.Documents,
    entry.Requested,
    entry.Reason,
    head.JournalHead,
    head.SignedHead,
]
LARGEST_TREE = 70

hashes = st.binary(min_size=32, max_size=32)
kinds = st.sampled_from(sorted(BODIES))
sizes = st.integers(min_value=1, max_value=LARGEST_TREE)


@pytest.mark.parametrize("kind", STRUCTURES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_structure_comes_back(kind: type[Any], data: st.DataObject) -> None:
    value = data.draw(instances(kind))
    assert structure.decode(kind, structure.encode(value)) == value


@given(value=instances(entry.JournalEntry), kind=kinds)
def test_an_entry_is_read_as_it_was_written(value: entry.JournalEntry, kind: str) -> None:
    made = dataclasses.replace(value, version=entry.VERSION, kind=kind)
    assert entry.decode_entry(structure.encode(made)) == made


@pytest.mark.parametrize(
    "read",
    [entry.decode_entry, entry.decode_log, entry.without_previous, head.read_head, ed25519.load_public_key],
    ids=lambda read: read.__name__,
)
@given(data=st.data())
def test_any_octets_are_a_value_or_a_peer_error(read: Any, data: st.DataObject) -> None:
    good = [*map(structure.encode, BODIES.values()), *chain(["key", "intent"]), signed_head([]), JOURNAL_PUBLIC_KEY]
    octets = bytearray(data.draw(st.sampled_from(good)))
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    for each in (bytes(octets), data.draw(octet_strings)):
        try:
            value = read(each)
        except PeerError:
            continue
        assert value is not None


@pytest.mark.parametrize("kind", sorted(BODIES))
@given(data=st.data())
def test_any_body_is_that_of_its_kind_or_a_peer_error(kind: str, data: st.DataObject) -> None:
    value = data.draw(instances(entry.JournalEntry))
    body = data.draw(octet_strings | st.sampled_from([structure.encode(each) for each in BODIES.values()]))
    try:
        told = entry.decode_body(dataclasses.replace(value, kind=kind, body=body))
    except PeerError:
        return
    assert entry.KINDS[type(told)] == kind
    assert structure.encode(told) == body


@given(drawn=st.lists(kinds, min_size=1, max_size=12))
def test_a_copy_without_hashes_becomes_the_same_chain(drawn: list[str]) -> None:
    whole, previous_hash = chain(drawn), entry.NO_ENTRY
    for each in whole:
        again = entry.put_previous(entry.without_previous(each), previous_hash)
        assert again == each
        previous_hash = merkle.leaf_hash(again)


@given(data=st.data(), drawn=st.lists(kinds, min_size=1, max_size=12))
def test_a_copy_with_one_changed_octet_is_not_under_the_head(data: st.DataObject, drawn: list[str]) -> None:
    whole = chain(drawn)
    known = head.verify_head(signed_head(whole), [JOURNAL_PUBLIC_KEY])
    copied = [entry.without_previous(each) for each in whole]
    number = data.draw(st.integers(0, len(copied) - 1))
    changed = bytearray(copied[number])
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    copied[number] = bytes(changed)
    previous_hash, frontier = entry.NO_ENTRY, merkle.Frontier()
    for each in copied:
        try:
            previous_hash = merkle.leaf_hash(entry.put_previous(each, previous_hash))
        except PeerError:
            return
        frontier.append(previous_hash)
    assert frontier.size == known.size
    assert frontier.root() != known.root_hash


@given(parts=st.lists(octet_strings.filter(bool), max_size=4), data=st.data())
def test_a_log_takes_no_part_but_its_own(parts: list[bytes], data: st.DataObject) -> None:
    made = dataclasses.replace(
        data.draw(instances(entry.JournalEntry)),
        version=entry.VERSION,
        kind="result",
        parts=tuple(map(entry.part_hash, parts)),
    )
    withheld = [part if data.draw(st.booleans()) else b"" for part in parts]
    log = entry.Log(entry=structure.encode(made), parts=tuple(withheld))
    assert entry.decode_log(entry.encode_log(log)) == log
    foreign = data.draw(octet_strings.filter(bool))
    for number in range(len(parts)):
        others = [*withheld[:number], foreign, *withheld[number + 1 :]]
        octets = entry.encode_log(dataclasses.replace(log, parts=tuple(others)))
        if foreign == parts[number]:
            entry.decode_log(octets)
        else:
            with pytest.raises(PeerError):
                entry.decode_log(octets)


@given(value=instances(head.JournalHead), data=st.data())
def test_a_head_with_one_changed_octet_has_no_word(value: head.JournalHead, data: st.DataObject) -> None:
    octets = bytearray(head.sign_head(value, JOURNAL_KEY))
    assert head.verify_head(bytes(octets), [JOURNAL_PUBLIC_KEY]) == value
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PeerError):
        head.verify_head(bytes(octets), [JOURNAL_PUBLIC_KEY])


@pytest.mark.parametrize("size", range(1, LARGEST_TREE + 1))
def test_every_leaf_of_every_tree_is_shown_to_be_there(size: int) -> None:
    leaves = [merkle.leaf_hash(number.to_bytes(2)) for number in range(size)]
    root = merkle.frontier_of(leaves).root()
    for number, leaf in enumerate(leaves):
        path = merkle.inclusion_path(number, leaves)
        assert len(path) <= (size - 1).bit_length()
        merkle.check_inclusion(leaf, number=number, size=size, path=path, root=root)


@given(size=sizes, data=st.data())
def test_a_path_shows_nothing_else(size: int, data: st.DataObject) -> None:
    leaves = [merkle.leaf_hash(number.to_bytes(2)) for number in range(size)]
    number = data.draw(st.integers(0, size - 1))
    root, path = merkle.frontier_of(leaves).root(), merkle.inclusion_path(number, leaves)
    claim: dict[str, Any] = {"leaf": leaves[number], "number": number, "size": size, "path": path, "root": root}
    other = data.draw(hashes)
    lies: list[dict[str, Any]] = [{"leaf": other}, {"root": other}, {"path": (*path, other)}, {"path": (other, *path)}]
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        lies += [
            {"path": (*path[:place], other, *path[place + 1 :])},
            {"path": path[:-1]},
            {"path": path[1:]},
            {"path": (*path[:place], path[place] + b"\0", *path[place + 1 :])},
            {"number": data.draw(st.integers(0, size - 1).filter(lambda each: each != number))},
        ]
    for lie in lies:
        told = claim | lie
        if told == claim:
            continue
        with pytest.raises(SignatureInvalid):
            merkle.check_inclusion(told.pop("leaf"), **told)


@given(before=sizes, data=st.data())
def test_a_journal_that_begins_otherwise_has_another_root(before: int, data: st.DataObject) -> None:
    leaves = [merkle.leaf_hash(number.to_bytes(2)) for number in range(before)]
    number = data.draw(st.integers(0, before - 1))
    other = [*leaves]
    match data.draw(st.sampled_from(["changed", "dropped", "doubled", "swapped"])):
        case "changed":
            other[number] = data.draw(hashes.filter(lambda each: each != leaves[number]))
        case "dropped":
            del other[number]
        case "doubled":
            other.insert(number, leaves[number])
        case _:
            place = data.draw(st.integers(0, before - 1))
            other[number], other[place] = other[place], other[number]
    assert (merkle.frontier_of(other).root() == merkle.frontier_of(leaves).root()) == (other == leaves)


@given(size=st.integers(0, LARGEST_TREE), more=st.lists(hashes, max_size=10))
def test_a_frontier_goes_on_from_its_octets(size: int, more: list[bytes]) -> None:
    leaves = [merkle.leaf_hash(number.to_bytes(2)) for number in range(size)]
    frontier = merkle.Frontier.decode(size, merkle.frontier_of(leaves).encode())
    for leaf in more:
        frontier.append(leaf)
    assert frontier.root() == merkle.frontier_of([*leaves, *more]).root()


@given(size=st.integers(0, 1 << 70), octets=st.binary(max_size=200))
def test_any_octets_are_a_frontier_or_a_peer_error(size: int, octets: bytes) -> None:
    try:
        frontier = merkle.Frontier.decode(size, octets)
    except PeerError:
        return
    assert frontier.encode() == octets
    assert len(frontier.root()) == merkle.HASH_OCTETS
