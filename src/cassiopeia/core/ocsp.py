"""OCSP: requests read strictly, answers put together around what is already encoded (RFC 6960, RFC 5019, RFC 9654).

Owns the octets of both, and nothing of what is true: whether a certificate is good is the journal's and the CRL's
knowledge, and who signs is the caller's. A request's signature is not looked at, for answers hold nothing secret.
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat import asn1

from cassiopeia.core import der
from cassiopeia.errors import InternalError, PeerError

MAXIMUM_REQUEST_OCTETS: Final = 16 * 1024
MAXIMUM_CERT_IDS: Final = 32
"""How many certificates one request may ask about."""
ANSWERED_NONCE_OCTETS: Final = 32
_MAXIMUM_NONCE_OCTETS: Final = 128  # RFC 9654 2.1: Nonce ::= OCTET STRING (SIZE(1..128))

_MAXIMUM_EXTENSIONS: Final = 16
_MAXIMUM_SERIAL_OCTETS: Final = 21
_UNSPECIFIED: Final = 0  # RFC 5280 5.3.1: it is left out

_CONTEXT_0: Final = 0xA0  # version, signature, extensions of one certificate, nextUpdate, response, certificates
_CONTEXT_1: Final = 0xA1  # requestor, revoked, extensions of a response
_CONTEXT_2: Final = 0xA2  # extensions of a request, responder by its key
_OBJECT_IDENTIFIER: Final = 0x06
_BOOLEAN: Final = 0x01
_TRUE: Final = b"\x01\x01\xff"
_FALSE: Final = b"\x01\x01\x00"
_VERSION_1: Final = b"\x02\x01\x00"
_NULL: Final = b"\x05\x00"
_OCSP_BASIC: Final = bytes.fromhex("06092b0601050507300101")  # 1.3.6.1.5.5.7.48.1.1
_NONCE: Final = bytes.fromhex("06092b0601050507300102")  # 1.3.6.1.5.5.7.48.1.2

RESPONDER_ACCOUNT: Final = "ocsp-responder"
"""Whose requests those for the responders' own certificates are, in the queue and in the journal."""

HASHES: Final = ("sha1", "sha256", "sha384", "sha512")
"""What a CertID may be made with. SHA-1 proves nothing there, it only names an issuer, and RFC 5019 demands it."""
_IDENTIFIERS: Final = (
    ("06052b0e03021a", "sha1"),
    ("0609608648016503040201", "sha256"),
    ("0609608648016503040202", "sha384"),
    ("0609608648016503040203", "sha512"),
)
# RFC 5754 2: without parameters; NULL is what most software writes.
_HASH_OF: Final = {
    der.encode(der.SEQUENCE, bytes.fromhex(identifier), parameters): name
    for identifier, name in _IDENTIFIERS
    for parameters in (b"", _NULL)
}
_HASH_OCTETS: Final = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}


class ErrorStatus(enum.Enum):
    """RFC 6960 4.2.1, but for `successful` and `sigRequired`: an answer of these says nothing else, and is not signed.

    UNAUTHORIZED: this responder knows nothing of that issuer (RFC 5019 2.2.3).
    """

    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    UNAUTHORIZED = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class CertId:
    """Which certificate is meant; `octets` are its DER as it came, which the answer repeats (RFC 6960 4.1.1)."""

    octets: bytes
    hash_name: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial_number: int

    @property
    def issuer(self) -> IssuerId:
        return self.hash_name, self.issuer_name_hash, self.issuer_key_hash


IssuerId = tuple[str, bytes, bytes]
"""A hash's name, and by that hash an issuer's name and key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OcspRequest:
    """At least one certificate. `nonce` is what the answer has to repeat; empty: none."""

    cert_ids: tuple[CertId, ...]
    nonce: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class SingleResponse:
    """What is said of one certificate: `status` is `GOOD`, `UNKNOWN` or `revoked()`."""

    cert_id: CertId
    status: bytes
    this_update: dt.datetime
    next_update: dt.datetime


GOOD: Final = b"\x80\x00"
UNKNOWN: Final = b"\x82\x00"


def revoked(date: dt.datetime, reason: int | None) -> bytes:
    """The status of a revoked certificate; `reason` is a CRLReason, None or 0 for unspecified."""
    explained = b""
    if reason not in (None, _UNSPECIFIED):
        explained = der.encode(_CONTEXT_0, der.encode(der.ENUMERATED, bytes((reason,))))
    return der.encode(_CONTEXT_1, der.generalized_time(date), explained)


def issuer_ids(subject: bytes, subject_public_key_info: bytes) -> tuple[IssuerId, ...]:
    """What CertIDs may call this issuer: its Name and its SubjectPublicKeyInfo (DER), by each of `HASHES`."""
    key = _key_octets(subject_public_key_info)
    return tuple((each, _hash(each, subject), _hash(each, key)) for each in HASHES)


def responder_id(subject_public_key_info: bytes) -> bytes:
    """How answers name the key that signs them: KeyHash, which is SHA-1 in any case (RFC 6960 4.2.1)."""
    return _hash("sha1", _key_octets(subject_public_key_info))


def read_request(octets: bytes) -> OcspRequest:
    """Read a request; raises PeerError for what is none, and for one that asks too much."""
    if len(octets) > MAXIMUM_REQUEST_OCTETS:
        raise PeerError(f"an OCSP request has at most {MAXIMUM_REQUEST_OCTETS} octets")
    # 1. tbsRequest, and perhaps a signature over it.
    outer = der.elements(der.content(octets, der.SEQUENCE), at_most=2)
    if [tag for tag, _ in outer] not in ([der.SEQUENCE], [der.SEQUENCE, _CONTEXT_0]):
        raise PeerError("this is not an OCSP request")
    parts = der.elements(der.content(outer[0][1], der.SEQUENCE), at_most=4)
    # 2. Version (v1, which DER leaves out and some write) and requestor.
    if parts and parts[0][0] == _CONTEXT_0 and der.content(parts.pop(0)[1], _CONTEXT_0) != _VERSION_1:
        raise PeerError("this version of OCSP is not known here")
    if parts and parts[0][0] == _CONTEXT_1:
        del parts[0]
    # 3. The certificates.
    if not parts or [tag for tag, _ in parts[1:]] not in ([], [_CONTEXT_2]):
        raise PeerError("this is not an OCSP request")
    listed = der.elements(der.content(parts[0][1], der.SEQUENCE), at_most=MAXIMUM_CERT_IDS)
    if not listed:
        raise PeerError("the OCSP request asks about nothing")
    cert_ids = tuple(_read_single_request(each) for _, each in listed)
    # 4. The nonce.
    nonce = b""
    for identifier, value in _read_extensions(parts[1][1] if len(parts) > 1 else b"", _CONTEXT_2, known=_NONCE):
        if identifier == _NONCE:
            nonce = _read_nonce(value)
    return OcspRequest(cert_ids=cert_ids, nonce=nonce)


def assemble_tbs_response(
    *, responder: bytes, produced_at: dt.datetime, responses: Iterable[SingleResponse], nonce: bytes
) -> bytes:
    """DER of the ResponseData that is signed; `responder` is a `responder_id`, and an empty `nonce` is left out."""
    singles = [
        der.encode(
            der.SEQUENCE,
            each.cert_id.octets,
            each.status,
            der.generalized_time(each.this_update),
            der.encode(_CONTEXT_0, der.generalized_time(each.next_update)),
        )
        for each in responses
    ]
    if not singles:
        raise InternalError("an OCSP response says something of a certificate")
    extensions = b""
    if nonce:
        value = der.encode(der.OCTET_STRING, der.encode(der.OCTET_STRING, nonce))
        extensions = der.encode(_CONTEXT_1, der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, _NONCE, value)))
    return der.encode(
        der.SEQUENCE,
        der.encode(_CONTEXT_2, der.encode(der.OCTET_STRING, responder)),
        der.generalized_time(produced_at),
        der.encode(der.SEQUENCE, *singles),
        extensions,
    )


def compose_response(tbs: bytes, *, algorithm: bytes, signature: bytes, certificates: Sequence[bytes]) -> bytes:
    """DER of the OCSPResponse: what was signed, the AlgorithmIdentifier, and the certificate of whoever signed."""
    basic = der.encode(
        der.SEQUENCE,
        tbs,
        algorithm,
        der.encode(der.BIT_STRING, b"\0", signature),
        der.encode(_CONTEXT_0, der.encode(der.SEQUENCE, *certificates)),
    )
    response_bytes = der.encode(der.SEQUENCE, _OCSP_BASIC, der.encode(der.OCTET_STRING, basic))
    return der.encode(der.SEQUENCE, der.encode(der.ENUMERATED, b"\0"), der.encode(_CONTEXT_0, response_bytes))


def error_response(status: ErrorStatus) -> bytes:
    """DER of an OCSPResponse that says why there is no answer."""
    return der.encode(der.SEQUENCE, der.encode(der.ENUMERATED, bytes((status.value,))))


def _hash(name: str, octets: bytes) -> bytes:
    return hashlib.new(name, octets, usedforsecurity=False).digest()


def _key_octets(subject_public_key_info: bytes) -> bytes:
    """RFC 6960 4.1.1: the subjectPublicKey without tag, length and number of unused bits."""
    parts = der.elements(der.content(subject_public_key_info, der.SEQUENCE), at_most=2)
    if [tag for tag, _ in parts] != [der.SEQUENCE, der.BIT_STRING]:
        raise PeerError("this is not a SubjectPublicKeyInfo")
    return der.content(parts[1][1], der.BIT_STRING)[1:]


def _read_single_request(octets: bytes) -> CertId:
    parts = der.elements(der.content(octets, der.SEQUENCE), at_most=2)
    if not parts or [tag for tag, _ in parts[1:]] not in ([], [_CONTEXT_0]):
        raise PeerError("a member of the OCSP request is not a CertID")
    _read_extensions(parts[1][1] if len(parts) > 1 else b"", _CONTEXT_0, known=b"")
    return _read_cert_id(parts[0][1])


def _read_cert_id(octets: bytes) -> CertId:
    parts = der.elements(der.content(octets, der.SEQUENCE), at_most=4)
    if [tag for tag, _ in parts] != [der.SEQUENCE, der.OCTET_STRING, der.OCTET_STRING, der.INTEGER]:
        raise PeerError("a member of the OCSP request is not a CertID")
    algorithm, name, key, number = (each for _, each in parts)
    hash_name = _HASH_OF.get(algorithm)
    if hash_name is None:
        raise PeerError(f"the hash algorithm {algorithm[:40].hex()} of a CertID is not known here")
    name_hash, key_hash = der.content(name, der.OCTET_STRING), der.content(key, der.OCTET_STRING)
    if {len(name_hash), len(key_hash)} != {_HASH_OCTETS[hash_name]}:
        raise PeerError(f"the hashes of a CertID are not those of {hash_name}")
    value = der.content(number, der.INTEGER)
    if not 1 <= len(value) <= _MAXIMUM_SERIAL_OCTETS:
        raise PeerError("the serial number of a CertID is none")
    try:
        serial_number = asn1.decode_der(int, number)
    except ValueError as error:
        raise PeerError("the serial number of a CertID is not in DER") from error
    return CertId(
        octets=octets,
        hash_name=hash_name,
        issuer_name_hash=name_hash,
        issuer_key_hash=key_hash,
        serial_number=serial_number,
    )


def _read_extensions(octets: bytes, tag: int, *, known: bytes) -> list[tuple[bytes, bytes]]:
    """Identifier (DER) and value of each; a critical one that is not `known` makes the request void (RFC 6960 4.4)."""
    if not octets:
        return []
    found: list[tuple[bytes, bytes]] = []
    content = der.content(der.content(octets, tag), der.SEQUENCE)
    for _, each in der.elements(content, at_most=_MAXIMUM_EXTENSIONS):
        parts = der.elements(der.content(each, der.SEQUENCE), at_most=3)
        tags = [tag for tag, _ in parts]
        if tags not in (
            [_OBJECT_IDENTIFIER, der.OCTET_STRING],
            [_OBJECT_IDENTIFIER, _BOOLEAN, der.OCTET_STRING],
        ):
            raise PeerError("an extension of the OCSP request is none")
        identifier = parts[0][1]
        critical = parts[1][1] if len(parts) > 2 else _FALSE  # noqa: PLR2004 - identifier and value
        if critical not in (_TRUE, _FALSE):
            raise PeerError("an extension of the OCSP request is neither critical nor not")
        if identifier in [known_before for known_before, _ in found]:
            raise PeerError("an extension of the OCSP request stands there twice")
        if critical == _TRUE and identifier != known:
            raise PeerError("a critical extension of the OCSP request is not known here")
        found.append((identifier, der.content(parts[-1][1], der.OCTET_STRING)))
    return found


def _read_nonce(value: bytes) -> bytes:
    """Empty for one that is not repeated: RFC 9654 2.1 lets a responder ignore what is longer than 32 octets."""
    nonce = der.content(value, der.OCTET_STRING)
    if not 1 <= len(nonce) <= _MAXIMUM_NONCE_OCTETS:
        raise PeerError(f"a nonce has 1 to {_MAXIMUM_NONCE_OCTETS} octets")
    return nonce if len(nonce) <= ANSWERED_NONCE_OCTETS else b""
