"""The proof that something stands in a journal: entries, their paths to a signed head, and the key that signed it.

Owns the document (JSON, docs/journal.md) and its checking (RFC 9162 2.1.3.2). Whoever has the signer's public key can
check it without this software. A proof shows what was written and that it cannot be taken back; not what was not
written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from cassiopeia.core import merkle, structure
from cassiopeia.core.decoding import explain
from cassiopeia.errors import Inconsistent, PeerError
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal import readable
from cassiopeia.journal.entry import JournalEntry, Log
from cassiopeia.journal.head import JournalHead, SignedHead

FORMAT: Final = "cassiopeia journal proof"
VERSION: Final = 1
MAXIMUM_OCTETS: Final = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class ProvedEntry:
    """One entry with its parts, and the hashes that lead from it to the root."""

    log: Log
    path: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """`head` is DER of a SignedHead, `public_key` (DER SubjectPublicKeyInfo) what has signed it."""

    entries: tuple[ProvedEntry, ...]
    head: bytes
    public_key: bytes


class _Entry(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    index: int
    kind: str
    time: str
    entry: bytes
    parts: list[bytes]
    path: list[str]
    says: dict[str, str | int | list[str]] = {}


class _Document(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    format: str
    version: int
    entries: list[_Entry]
    size: int
    root_hash: str
    head_octets: bytes
    head_signature: bytes
    public_key: bytes


def encode_proof(proof: Proof) -> bytes:
    """The document, as JSON that people can read too."""
    signed = structure.decode(SignedHead, proof.head)
    head = structure.decode(JournalHead, signed.head)
    document = _Document(
        format=FORMAT,
        version=VERSION,
        entries=[_entry(each) for each in proof.entries],
        size=head.size,
        root_hash=head.root_hash.hex(),
        head_octets=signed.head,
        head_signature=signed.signature,
        public_key=proof.public_key,
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def read_proof(octets: bytes) -> Proof:
    """Read a document; raises PeerError. `check_proof` finds out whether it proves anything."""
    if len(octets) > MAXIMUM_OCTETS:
        raise PeerError(f"a proof has no more than {MAXIMUM_OCTETS} octets")
    try:
        document = msgspec.json.decode(octets, type=_Document)
        paths = [tuple(bytes.fromhex(node) for node in each.path) for each in document.entries]
    except (msgspec.DecodeError, ValueError) as error:
        reason, key = explain(str(error))
        raise PeerError(f"{key}: {reason}" if key else f"this is not a proof: {reason}") from error
    if (document.format, document.version) != (FORMAT, VERSION):
        raise PeerError(
            f"this is {document.format[:40]!a}, version {document.version}; known here: {FORMAT!r}, version {VERSION}"
        )
    return Proof(
        entries=tuple(
            ProvedEntry(log=Log(entry=each.entry, parts=tuple(each.parts)), path=path)
            for each, path in zip(document.entries, paths, strict=True)
        ),
        head=structure.encode(SignedHead(head=document.head_octets, signature=document.head_signature)),
        public_key=document.public_key,
    )


def check_proof(proof: Proof, keys: Collection[bytes]) -> tuple[JournalHead, Sequence[JournalEntry]]:
    """The head and the entries that a proof shows; raises PeerError unless one of `keys` signed the head over them."""
    # 1. The signature, by a key that the reader trusts, whatever key the document names.
    head = heads.verify_head(proof.head, keys)
    if not proof.entries:
        raise PeerError("the proof is about no entry")
    # 2. Each entry: its parts, its place, its path.
    shown = []
    for each in proof.entries:
        entry = entries.decode_entry(each.log.entry)
        if entry.signer_id != head.signer_id:
            raise Inconsistent(entry.index, f"this is an entry of signer {entry.signer_id}, not {head.signer_id}")
        entries.check_parts(entry, each.log.parts)
        merkle.check_inclusion(
            merkle.leaf_hash(each.log.entry),
            number=entry.index - 1,
            size=head.size,
            path=each.path,
            root=head.root_hash,
        )
        shown.append(entry)
    return head, shown


def _entry(proved: ProvedEntry) -> _Entry:
    entry = entries.decode_entry(proved.log.entry)
    return _Entry(
        index=entry.index,
        kind=entry.kind,
        time=readable.moment(entry.time),
        entry=proved.log.entry,
        parts=list(proved.log.parts),
        path=[each.hex() for each in proved.path],
        says=dict(readable.facts(entry, entries.decode_body(entry), proved.log.parts)),
    )
