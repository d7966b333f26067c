"""A journal as a text file: JSON, one entry a line, for archives, for strangers, and to make a lost journal again.

Owns the format (docs/journal.md) and its strict reading. A header comes first: whose journal it is and by which keys
it is signed. Each entry carries its octets, which alone count, and what they say, which is for people and is not read
back. Exports of a client's copy go on with what the client holds besides: logs and CRLs that the copy may lack. The
last line is the newest signed head. Opens no file: lines come from a `readline`, and leave as octets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from cassiopeia.core import merkle, structure
from cassiopeia.core.decoding import explain
from cassiopeia.errors import PeerError
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal import readable
from cassiopeia.journal.entry import Log
from cassiopeia.journal.head import SignedHead

FORMAT: Final = "cassiopeia journal"
VERSION: Final = 1
# The longest line is that of the configuration: profiles and certificates of all sub-CAs.
MAXIMUM_LINE_OCTETS: Final = 32 * 1024 * 1024

Readline = Callable[[int], bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Whose journal it is. `keys` (DER SubjectPublicKeyInfo) have signed it, the oldest first."""

    signer_id: int
    keys: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedLog:
    """An intent's log (DER) that the client saved; `signature` is that of the certificate, empty if there is none."""

    log: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedCrl:
    """The client's CRL (DER) of this sub-CA."""

    signing_ca: str
    crl: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """A signed head (DER) over entries that are there, and the newest one that is known, which may cover more.

    Either is empty when there is none; `newest` also when it is `head`.
    """

    head: bytes
    newest: bytes = b""


Item = Header | Log | SavedLog | SavedCrl | End


class _Line(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, tag_field="line"):
    pass


class _HeaderLine(_Line, tag="header"):
    format: str
    version: int
    signer_id: int
    keys: list[bytes]


class _EntryLine(_Line, tag="entry"):
    index: int
    kind: str
    time: str
    hash: str
    entry: bytes
    parts: list[bytes]
    says: dict[str, str | int | list[str]] = {}


class _SavedLogLine(_Line, tag="saved-log"):
    log: bytes
    signature: bytes


class _SavedCrlLine(_Line, tag="saved-crl"):
    signing_ca: str
    crl: bytes


class _EndLine(_Line, tag="head"):
    size: int
    head_octets: bytes
    head_signature: bytes
    newest_octets: bytes
    newest_signature: bytes


_AnyLine = _HeaderLine | _EntryLine | _SavedLogLine | _SavedCrlLine | _EndLine
_decoder: Final = msgspec.json.Decoder(_AnyLine)
_encoder: Final = msgspec.json.Encoder()
# What may follow what: a file is cut short, or put together wrongly, more often than it is forged.
_ORDER: Final[dict[type[_Line], tuple[type[_Line], ...]]] = {
    _HeaderLine: (_EntryLine,),
    _EntryLine: (_EntryLine, _SavedLogLine, _SavedCrlLine, _EndLine),
    _SavedLogLine: (_SavedLogLine, _SavedCrlLine, _EndLine),
    _SavedCrlLine: (_SavedCrlLine, _EndLine),
    _EndLine: (),
}


def encode_item(item: Item) -> bytes:
    """One line, with its line end."""
    match item:
        case Header():
            line: _Line = _HeaderLine(format=FORMAT, version=VERSION, signer_id=item.signer_id, keys=list(item.keys))
        case Log():
            entry = entries.decode_entry(item.entry)
            line = _EntryLine(
                index=entry.index,
                kind=entry.kind,
                time=readable.moment(entry.time),
                hash=merkle.leaf_hash(item.entry).hex(),
                entry=item.entry,
                parts=list(item.parts),
                says=dict(readable.facts(entry, entries.decode_body(entry), item.parts)),
            )
        case SavedLog():
            line = _SavedLogLine(log=item.log, signature=item.signature)
        case SavedCrl():
            line = _SavedCrlLine(signing_ca=item.signing_ca, crl=item.crl)
        case _:
            line = _end_line(item)
    return _encoder.encode(line) + b"\n"


def read_transcript(readline: Readline) -> Iterator[Item]:
    """Read a whole file, header to head; raises PeerError that names the line.

    Lines are bounded and in order, entries are complete and belong to their hashes; what they say, and whether they
    follow from each other, is `replay`'s to judge.
    """
    allowed: tuple[type[_Line], ...] = (_HeaderLine,)
    number, index = 0, 0
    while octets := readline(MAXIMUM_LINE_OCTETS + 1):
        number += 1
        try:
            line = _decode(octets, allowed)
            index += isinstance(line, _EntryLine)
            item = _item(line, index)
        except PeerError as error:
            raise PeerError(f"line {number}: {error}") from error
        yield item
        allowed = _ORDER[type(line)]
    if allowed:
        raise PeerError(f"the file ends after line {number}, and its last line is not a signed head: it was cut short")


def _decode(octets: bytes, allowed: tuple[type[_Line], ...]) -> _AnyLine:
    if len(octets) > MAXIMUM_LINE_OCTETS:
        raise PeerError(f"it is longer than {MAXIMUM_LINE_OCTETS} octets")
    if not octets.endswith(b"\n"):
        raise PeerError("it has no line end: the file was cut short")
    try:
        line: _AnyLine = _decoder.decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason, key = explain(str(error))
        raise PeerError(
            f"{key}: {reason}" if key else f"this is not a line of an exported journal: {reason}"
        ) from error
    if not allowed:
        raise PeerError("nothing may follow the signed head")
    if type(line) not in allowed:
        tags = " or ".join(str(each.__struct_config__.tag) for each in allowed)
        raise PeerError(f"a line of the kind {line.__struct_config__.tag} is out of place; expected: {tags}")
    return line


def _item(line: _AnyLine, index: int) -> Item:
    match line:
        case _HeaderLine():
            if (line.format, line.version) != (FORMAT, VERSION):
                raise PeerError(
                    f"this is {line.format[:40]!a}, version {line.version}; known here: {FORMAT!r}, version {VERSION}"
                )
            return Header(signer_id=line.signer_id, keys=tuple(line.keys))
        case _EntryLine():
            return _log(line, index)
        case _SavedLogLine():
            return SavedLog(log=line.log, signature=line.signature)
        case _SavedCrlLine():
            return SavedCrl(signing_ca=line.signing_ca, crl=line.crl)
        case _:
            return _end(line)


def _log(line: _EntryLine, index: int) -> Log:
    entry = entries.decode_entry(line.entry)
    said = (line.index, line.kind, line.time, line.hash)
    found = (entry.index, entry.kind, readable.moment(entry.time), merkle.leaf_hash(line.entry).hex())
    if said != found:
        raise PeerError("index, kind, time or hash beside the entry is not that of the entry")
    if entry.index != index:
        raise PeerError(f"entry {entry.index} stands where entry {index} belongs")
    return Log(entry=line.entry, parts=tuple(line.parts))


def _end(line: _EndLine) -> End:
    head = _joined(line.head_octets, line.head_signature)
    if (heads.read_head(head).size if head else 0) != line.size:
        raise PeerError("the size beside the signed head is not that of the head")
    return End(head=head, newest=_joined(line.newest_octets, line.newest_signature))


def _end_line(end: End) -> _EndLine:
    head, newest = _split(end.head), _split(end.newest)
    return _EndLine(
        size=heads.read_head(end.head).size if end.head else 0,
        head_octets=head.head,
        head_signature=head.signature,
        newest_octets=newest.head,
        newest_signature=newest.signature,
    )


def _split(octets: bytes) -> SignedHead:
    return structure.decode(SignedHead, octets) if octets else SignedHead(head=b"", signature=b"")


def _joined(head: bytes, signature: bytes) -> bytes:
    """The signed head of these two, which must be one, or empty."""
    if not head:
        return b""
    octets = structure.encode(SignedHead(head=head, signature=signature))
    heads.read_head(octets)
    return octets
