"""Structured payloads: the values of the ASN.1 module (docs/wire.asn1), PEM and the answer to a revocation.

Owns what these octets look like, never whether what they say is right: an encoded value that was decoded is the same
octets, and any octets give a value or PeerError. Names and order of the fields are those of the ASN.1 module, which a
test compares with this file.
"""

from __future__ import annotations

import binascii
import datetime as dt
import re
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat import asn1

from cassiopeia.core import der, structure
from cassiopeia.errors import PeerError
from cassiopeia.protocol import compression

DEFLATE_CAPABILITY: Final = "deflate"
BUNDLE_CAPABILITY: Final = "bundle"

PLAIN: Final = 0
DEFLATED: Final = 1

MAXIMUM_ENTRIES: Final = 1_000
"""Journal entries in one message at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extension:
    """Something that a later 1.x adds; whoever does not know the id skips it."""

    id: int
    value: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class HelloLimits:
    """What the sender of a hello lets the other side do at most."""

    open_requests: int
    request_octets: int
    request_seconds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Hello:
    """First message of either side. `present_head` is the newest signed journal head that the sender holds."""

    versions: tuple[int, ...]
    limits: HelloLimits
    capabilities: tuple[str, ...]
    signer_id: int | None = None
    boot_id: bytes | None = None
    present_head: bytes | None = None
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SetLog:
    """A journal entry with its parts as it travels: `encoding` is PLAIN or DEFLATED. `head`: a signed journal head."""

    encoding: int
    octets: bytes
    head: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Issued:
    """The signature over the TBSCertificate of the log; `index` is the result's place in the journal."""

    index: int
    signing_ca: str
    signature: bytes
    head: bytes | None = None
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Abandoned:
    """The signer's word that an intent will never be signed: `head` covers the entry at `index` that says so.

    Both are absent where there never was an intent.
    """

    index: int | None = None
    head: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GetEntries:
    """A wish for journal entries from `first` on."""

    first: int
    at_most: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Entries:
    """Journal entries from `first` on, one behind the other, and the newest signed head."""

    first: int
    encoding: int
    octets: bytes
    head: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Obeyed:
    """An order was carried out; `index` is its place in the journal."""

    index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedBundle:
    """A signed bundle (`core.bundle.SignedBundle`) as it travels: `encoding` is PLAIN or DEFLATED."""

    encoding: int
    octets: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Final: a stable code, the offending field, a sentence for a person."""

    code: str
    field: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Not final: the same request may succeed after `retry_after` seconds."""

    code: str
    message: str
    retry_after: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Revoke:
    """Which CRL to sign anew, and which one the client holds (0 and empty: none)."""

    signing_ca: str
    crl_number: int
    tbs_hash: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Timestamp:
    """The signer's word on time and journal. `signature` is the journal key's, over all the rest.

    `boot_seconds` is CLOCK_BOOTTIME of the signer's machine, `head` its newest signed journal head.
    """

    time: dt.datetime
    signer_id: int
    boot_id: bytes
    boot_seconds: int
    nonce: bytes
    head: bytes
    signature: bytes | None = None
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorityStatus:
    """One sub-CA; `crl_number` is 0 and `next_update` absent before its first CRL.

    `mistrusted` says what was wrong with a signature by its key, for which it is halted, and `key_fault` why its key
    cannot be used now; absent where nothing is wrong.
    """

    name: str
    not_before: dt.datetime
    not_after: dt.datetime
    issued: int
    revoked: int
    crl_number: int
    next_update: dt.datetime | None = None
    mistrusted: str | None = None
    key_fault: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidatorStatus:
    """A validator whose statements count, by its name in `signer.toml` and its key id."""

    name: str
    key_id: bytes
    kinds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CapStatus:
    """A cap and its limit at this moment; `ends` says until when it is raised, if it is."""

    name: str
    limit: int
    ends: dt.datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StandingOrders:
    """What the operators have ordered, and what orders can be about; `blocked_keys` is how many there are."""

    halted_authorities: tuple[str, ...]
    disabled_validators: tuple[bytes, ...]
    blocked_keys: int
    validators: tuple[ValidatorStatus, ...]
    caps: tuple[CapStatus, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusReport:
    """How the signer is: `state` is `locked`, `running` or `halted`, `reason` says why in words.

    `boot_seconds` is CLOCK_BOOTTIME; `free_octets` are on the journal's disk, of which it takes `octets_a_day` lately
    (0: not known yet). `clock_warning` is empty while the signer believes its clock. `order_sequence` is that of the
    last order that was obeyed, `orders` what they add up to. `alarms` are sentences about what goes on, and needs a
    person all the same.
    """

    state: str
    reason: str
    software_version: str
    time: dt.datetime
    boot_seconds: int
    configuration_hash: bytes
    profiles: tuple[str, ...]
    authorities: tuple[AuthorityStatus, ...]
    boot_id: bytes
    free_octets: int
    octets_a_day: int
    clock_warning: str
    order_sequence: int
    orders: StandingOrders
    alarms: tuple[str, ...]
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RevokedAnswer:
    """All that patches a CRL: `algorithm` is the DER of its AlgorithmIdentifier, `entries` the DER of the new entries.

    `date` is None when nothing was revoked (a fresh signature only). Version 1 has no number and sends no entries.
    """

    date: dt.datetime | None
    algorithm: bytes
    signature: bytes
    this_update: dt.datetime
    next_update: dt.datetime
    crl_number: int = 0
    entries: bytes = b""


def pack(octets: bytes, known: bytes, *, deflate: bool) -> tuple[int, bytes]:
    """Encoding and octets as they travel: deflated with what the other side has, where it can and that is shorter."""
    if deflate:
        deflated = compression.deflate(octets, known)
        if len(deflated) < len(octets):
            return DEFLATED, deflated
    return PLAIN, octets


def unpack(encoding: int, octets: bytes, known: bytes, *, limit: int) -> bytes:
    """Turn `pack` back; raises PeerError."""
    if encoding == PLAIN:
        return octets
    if encoding != DEFLATED:
        raise PeerError(f"octets are encoded in the unknown way {encoding}")
    return compression.inflate(octets, known, limit=limit)


def encode_revoked(answer: RevokedAnswer, *, version: int) -> bytes:
    """Put one element behind the other: [date,] algorithm, signature, two dates; in version 2 number and entries."""
    parts = [] if answer.date is None else [_encode_time(answer.date)]
    parts += [
        answer.algorithm,
        der.encode(der.BIT_STRING, b"\0", answer.signature),
        _encode_time(answer.this_update),
        _encode_time(answer.next_update),
    ]
    if version > 1:
        parts += [asn1.encode_der(answer.crl_number), answer.entries]
    return b"".join(parts)


def decode_revoked(octets: bytes, *, version: int) -> RevokedAnswer:
    """Split an answer to a revocation; the entries are not judged. Raises PeerError."""
    try:
        tag, _, end = der.read(octets)
        date, start = None, 0
        if tag != der.SEQUENCE:
            date, start = _decode_time(octets[:end]), end
        algorithm, start = _element(octets, start, der.SEQUENCE)
        bits, start = _element(octets, start, der.BIT_STRING)
        this_update, start = _time_element(octets, start)
        next_update, start = _time_element(octets, start)
        crl_number = 0
        if version > 1:
            number, start = _element(octets, start, der.INTEGER)
            crl_number = _decode_crl_number(number)
        signature = asn1.decode_der(asn1.BitString, bits)
    except ValueError as error:
        raise PeerError("the answer to a revocation holds a value that is not DER") from error
    if signature.padding_bits():
        raise PeerError("the signature over a CRL is not a whole number of octets")
    if version == 1 and start != len(octets):
        raise PeerError("something follows the answer to a revocation")
    return RevokedAnswer(
        date=date,
        algorithm=algorithm,
        signature=signature.as_bytes(),
        this_update=this_update,
        next_update=next_update,
        crl_number=crl_number,
        entries=octets[start:],
    )


def encode_base64(octets: bytes) -> bytes:
    """RFC 4648, in one line."""
    return binascii.b2a_base64(octets, newline=False)


def encode_pem(label: str, octets: bytes) -> bytes:
    """RFC 7468: 64 characters a line, a line feed behind each."""
    # 48 octets make one line.
    lines = b"".join(binascii.b2a_base64(octets[start : start + 48]) for start in range(0, len(octets), 48))
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label.encode(), lines, label.encode())


def decode_pem(label: str, octets: bytes) -> bytes:
    """Read the one block with this label, and nothing around it; raises PeerError."""
    found = _PEM.fullmatch(octets)
    if found is None or found["label"] != label.encode():
        raise PeerError(f"this is not one PEM block labelled {label}")
    try:
        return binascii.a2b_base64(re.sub(rb"\s", b"", found["text"]), strict_mode=True)
    except ValueError as error:
        raise PeerError(f"the text of the {label} is not base64") from error


_PEM: Final = re.compile(
    rb"-----BEGIN (?P<label>[A-Z0-9 ]{1,64})-----\r?\n(?P<text>[A-Za-z0-9+/=\r\n]*)-----END (?P=label)-----\s*"
)


def _encode_time(moment: dt.datetime) -> bytes:
    return asn1.encode_der(der.time(moment))


def _decode_time(octets: bytes) -> dt.datetime:
    tag, _, _ = der.read(octets)
    if tag == der.UTC_TIME:
        return der.moment(asn1.decode_der(asn1.UTCTime, octets))
    return der.moment(asn1.decode_der(asn1.GeneralizedTime, octets))


def _decode_crl_number(octets: bytes) -> int:
    number = asn1.decode_der(int, octets)
    if number < 0 or number.bit_length() > structure.INTEGER_BITS:
        raise PeerError("a CRL number is out of range")
    return number


def _element(octets: bytes, start: int, tag: int) -> tuple[bytes, int]:
    found, _, end = der.read(octets, start)
    if found != tag:
        raise PeerError(f"the answer to a revocation has tag {found:02x} where {tag:02x} stands")
    return octets[start:end], end


def _time_element(octets: bytes, start: int) -> tuple[dt.datetime, int]:
    _, _, end = der.read(octets, start)
    return _decode_time(octets[start:end]), end
