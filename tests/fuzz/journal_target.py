"""What the fuzzer calls: any octets, read as anything that a journal is made of, must be a value or PeerError.

The first octet chooses what the rest is read as. What was read must be written as the same octets again: chain, tree
and signatures rest on that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.support.journal_entries import (
    BODIES,
    DOCUMENTS,
    PARTS,
    REASON,
    REQUESTED,
    chain,
    journal_entry,
    log,
    signed_head,
)
from tests.support.journal_keys import JOURNAL_KEY, JOURNAL_PUBLIC_KEY

from cassiopeia.core import ed25519, merkle, structure
from cassiopeia.errors import PeerError
from cassiopeia.journal import entry, head


def _entry(octets: bytes) -> bytes:
    read = entry.decode_entry(octets)
    told = entry.decode_body(read)
    if type(told) is not entry.BODIES[read.kind] or structure.encode(told) != read.body:
        raise AssertionError(f"{told!r} is not what entry {read!r} says")
    return structure.encode(read)


def _log(octets: bytes) -> bytes:
    return entry.encode_log(entry.decode_log(octets))


def _copied(octets: bytes) -> bytes:
    whole = entry.put_previous(octets, entry.NO_ENTRY)
    if len(entry.without_previous(whole)) > len(whole):
        raise AssertionError("an entry has grown by what was left out")
    return structure.encode(structure.decode(entry.JournalEntry, octets))


def _requested(octets: bytes) -> bytes:
    part = entry.decode_part(entry.Requested, octets)
    request = entry.as_request(part, request_id=bytes(32))
    return structure.encode(entry.requested(request, salt=part.salt, tbs_certificate=part.tbs_certificate))


def _head(octets: bytes) -> bytes:
    head.read_head(octets)
    return structure.encode(structure.decode(head.SignedHead, octets))


def _signed_head(octets: bytes) -> bytes:
    return head.sign_head(head.verify_head(octets, [JOURNAL_PUBLIC_KEY]), JOURNAL_KEY)


def _frontier(octets: bytes) -> bytes:
    return merkle.Frontier.decode((1 << len(octets) // merkle.HASH_OCTETS) - 1, octets).encode()


READERS: list[Callable[[bytes], bytes]] = [
    _entry,
    _log,
    _copied,
    _requested,
    lambda octets: structure.encode(entry.decode_part(entry.Reason, octets)),
    lambda octets: structure.encode(entry.decode_part(entry.Documents, octets)),
    _head,
    _signed_head,
    _frontier,
    lambda octets: ed25519.public_octets(ed25519.load_public_key(octets)),
]


def exercise_journal(octets: bytes) -> int:
    """Read these octets as the first of them says; 1 for a value, -1 for a fault."""
    if not octets:
        return 0
    read = READERS[octets[0] % len(READERS)]
    try:
        again = read(octets[1:])
    except PeerError:
        return -1
    if again != octets[1:]:
        raise AssertionError(f"{octets[1:].hex()} was read and written as {again.hex()}")
    return 1


def journal_seeds() -> Iterator[bytes]:
    """At least one good input for each reader, and an entry of each kind."""
    good: list[tuple[int, Any]] = [(0, structure.encode(journal_entry(kind))) for kind in BODIES]
    good += [(1, log(kind)) for kind in PARTS]
    good += [(2, entry.without_previous(each)) for each in chain(["key", "intent"])]
    good += [(3 + number, structure.encode(part)) for number, part in enumerate((REQUESTED, REASON, DOCUMENTS))]
    good += [(reader, signed_head(chain(["key"]))) for reader in (6, 7)]
    good += [(8, bytes(96)), (9, JOURNAL_PUBLIC_KEY)]
    for reader, octets in good:
        yield bytes([reader]) + octets
