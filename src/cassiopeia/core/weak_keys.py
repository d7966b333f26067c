"""Keys whose private halves are published: those of Debian's broken random numbers (CVE-2008-0166) above all.

Owns the two formats in which such lists are published, and the search in them. A list is sorted, so that a search reads
a few records and no more, wherever they are kept; reading files is not done here.

`openssl-blacklist` (Debian's package of that name, and other lists made alike): a line for each RSA key, the last 20
hexadecimal digits of SHA-1 over `Modulus=`, the modulus in capital hexadecimal digits and a line feed.

`badkeys` (its docs/BLOCKLISTFORMAT.md, format 0): sorted records of 16 octets: the first 15 of SHA-256 over the one
number that makes a key ("BKHASH120"), without leading zeros, and the number of the collection where the key was found.
For RSA that number is the modulus, for curves of NIST the x, for Ed25519 the 32 octets of the key; of ML-DSA keys all
octets are hashed.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import operator
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from cassiopeia.errors import OperatorError, Refused

WeakKeyFormat = Literal["openssl-blacklist", "badkeys"]

BADKEYS_RECORD_OCTETS: Final = 16
_BADKEYS_DIGEST_OCTETS: Final = 15
_BADKEYS_FORMAT: Final = 0
OPENSSL_DIGEST_OCTETS: Final = 10

_OPENSSL_LINE = re.compile(rb"(?:[0-9a-f]{20}|#.*|)\s*", re.DOTALL)
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e]*")
_TEXT_LOOK: Final = 1024


class Records(Protocol):
    """Records of one length, ascending. Reading one may fail: then it raises Unavailable."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> bytes: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class WeakKeyList:
    """A published list, under the `name` that messages call it. `collections` are names for its numbers, if known."""

    name: str
    format: WeakKeyFormat
    records: Records
    collections: Mapping[int, str] = field(default_factory=dict)


def check_not_published(public_key: PublicKeyTypes, lists: Iterable[WeakKeyList]) -> None:
    """Raise Refused for a key that is on one of these lists; Unavailable when a list cannot be read."""
    for weak_keys in lists:
        digest = _DIGESTS[weak_keys.format](public_key)
        record = _find(weak_keys.records, digest)
        if not record:
            continue
        collection = weak_keys.collections.get(record[-1]) if len(record) > len(digest) else None
        where = f"{weak_keys.name}, {collection}" if collection else weak_keys.name
        raise Refused(
            f"The key is on a list of keys whose private halves are published ({where}): it is an example, or came out"
            " of broken random numbers, as Debian's of 2006 to 2008; make a new key on a system of today.",
            code="key-published",
            field="key",
        )


def detect_format(beginning: bytes) -> WeakKeyFormat:
    """By the first octets of a file: a list of text, or records of digests, of which hardly any is printable."""
    return "openssl-blacklist" if _TEXT.fullmatch(beginning[:_TEXT_LOOK]) else "badkeys"


def parse_openssl_blacklist(text: bytes, *, source: str) -> bytes:
    """The digests of such a list, ascending, one behind the other; raises OperatorError."""
    digests = []
    for number, line in enumerate(text.split(b"\n"), start=1):
        if not _OPENSSL_LINE.fullmatch(line):
            raise _damaged(source, f"line {number} is neither 20 hexadecimal digits nor a comment (#)")
        if line[:1] != b"#" and (digits := line.strip()):
            digests.append(bytes.fromhex(digits.decode("ascii")))
    if not digests:
        raise _damaged(source, "it lists no key")
    return b"".join(sorted(digests))


def check_badkeys_records(block: bytes, previous: bytes, *, source: str) -> bytes:
    """Go through a block of records behind the record `previous`; return the last. Raises OperatorError."""
    if not block or len(block) % BADKEYS_RECORD_OCTETS:
        raise _damaged(source, f"its length is not a multiple of {BADKEYS_RECORD_OCTETS}: it is cut off")
    starts = [start for (start,) in struct.iter_unpack(">Q8x", block)]
    ascending = all(map(operator.le, starts, itertools.islice(starts, 1, None)))
    if not ascending or block[:BADKEYS_RECORD_OCTETS] < previous:
        raise _damaged(source, "its records are not in ascending order")
    return block[-BADKEYS_RECORD_OCTETS:]


class _Collection(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Metadata(msgspec.Struct, frozen=True):
    bkformat: int
    blocklist_sha256: str
    blocklists: tuple[_Collection, ...]


def parse_badkeys_metadata(octets: bytes, *, sha256: bytes, source: str) -> dict[int, str]:
    """The names of the collections in `badkeysdata.json`, which must belong to the records of this hash.

    Raises OperatorError.
    """
    try:
        metadata = msgspec.json.decode(octets, type=_Metadata)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(source, f"it is not what badkeys writes ({error})") from error
    if metadata.bkformat != _BADKEYS_FORMAT:
        raise OperatorError(f"{source}: its format is {metadata.bkformat}, and only {_BADKEYS_FORMAT} is known here")
    if metadata.blocklist_sha256.lower() != sha256.hex():
        raise _damaged(source, "it has the hash of another blocklist.dat than the one beside it")
    return {each.id: each.name for each in metadata.blocklists}


def _damaged(source: str, what: str) -> OperatorError:
    return OperatorError(f"{source}: this list of weak keys is damaged: {what}; fetch it again")


def _openssl_digest(public_key: PublicKeyTypes) -> bytes:
    """Empty for a key that is not RSA: it is on no such list."""
    if not isinstance(public_key, rsa.RSAPublicKey):
        return b""
    octets = f"Modulus={public_key.public_numbers().n:X}\n".encode("ascii")
    return hashlib.sha1(octets, usedforsecurity=False).digest()[-OPENSSL_DIGEST_OCTETS:]


def _badkeys_digest(public_key: PublicKeyTypes) -> bytes:
    match public_key:
        case rsa.RSAPublicKey():
            octets = _shortest(public_key.public_numbers().n)
        case ec.EllipticCurvePublicKey():
            octets = _shortest(public_key.public_numbers().x)
        case ed25519.Ed25519PublicKey():
            octets = public_key.public_bytes_raw().lstrip(b"\0")
        case _:
            octets = public_key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(octets).digest()[:_BADKEYS_DIGEST_OCTETS]


_DIGESTS: Final[Mapping[WeakKeyFormat, Callable[[PublicKeyTypes], bytes]]] = {
    "openssl-blacklist": _openssl_digest,
    "badkeys": _badkeys_digest,
}


def _shortest(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _find(records: Records, digest: bytes) -> bytes:
    """The record that begins with this digest; empty when there is none, or no digest."""
    if not digest:
        return b""
    at = bisect.bisect_left(records, digest)
    if at < len(records) and (record := records[at]).startswith(digest):
        return record
    return b""
