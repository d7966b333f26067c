"""What a subscriber asks for, exactly as it travels: unjudged values and the digest that names them.

These types carry text and octets that nobody has checked yet; `policy.decide` is where checking happens. The digest
is defined here because client and signer must compute it alike (wire specification, "Requests").
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat import asn1

KeyKind = Literal["csr", "spkac"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SubjectAttribute:
    """One attribute of the wished subject: `type` is CN, EMAIL, C, L, ST, O or OU."""

    type: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SubjectAltName:
    """One wished subject alternative name: `type` is DNS, email, IP or URI."""

    type: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateRequest:
    """One wish for a certificate.

    `request_id` is 32 octets that name the request for ever (empty over version 1). `key_proof` is a CSR or SPKAC: DER
    over version 2, PEM or `SPKAC=` text over version 1. `ocsp_target_ca` is the exact sub-CA of an OCSP responder
    certificate (then `profile` is empty). `proofs` are the signed statements that came along.
    """

    key_kind: KeyKind
    key_proof: bytes
    profile: str = ""
    account: str = ""
    request_id: bytes = b""
    signature_hash: str = ""
    wish_from: str = ""
    wish_to: str = ""
    attributes: tuple[SubjectAttribute, ...] = ()
    alt_names: tuple[SubjectAltName, ...] = ()
    ocsp_target_ca: str = ""
    proofs: tuple[bytes, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Revocation:
    """One certificate to be revoked: `reason` is a CRLReason (RFC 5280 5.3.1) or None for unspecified.

    `proof` is the signature of the certificate's own key over `compromise.compromise_statement`, where there is one.
    """

    serial_number: int
    reason: int | None = None
    invalidity_date: dt.datetime | None = None
    proof: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RevocationRequest:
    """Revoke these serials of one sub-CA; none at all asks for a fresh signature over its CRL.

    `crl_number` (0: none) and `tbs_hash` (SHA-256 of the TBSCertList, empty: none) say which CRL the client holds.
    """

    signing_ca: str
    revocations: tuple[Revocation, ...] = ()
    crl_number: int = 0
    tbs_hash: bytes = b""
    request_id: bytes = b""


@asn1.sequence
class _Revoked:
    serial_number: int
    reason: int
    invalidity_date: str


@asn1.sequence
class _RevocationDigested:
    """RevocationDigestInput in the project's ASN.1 module."""

    signing_ca: str
    revocations: list[_Revoked]


def revocation_digest(request: RevocationRequest) -> bytes:
    """SHA-256 (32 octets) of the DER of what is to be revoked; never of proofs, nor of the CRL that the client holds.

    Source: wire specification, "Revocation": same id and same digest get the same answer.
    """
    digested = _RevocationDigested(
        signing_ca=request.signing_ca,
        revocations=[
            _Revoked(
                serial_number=each.serial_number,
                reason=each.reason or 0,
                invalidity_date=each.invalidity_date.isoformat() if each.invalidity_date else "",
            )
            for each in request.revocations
        ],
    )
    return hashlib.sha256(asn1.encode_der(digested)).digest()


@asn1.sequence
class _Pair:
    type: str
    value: str


@asn1.sequence
class _Digested:
    """RequestDigestInput in the project's ASN.1 module."""

    key_kind: str
    key_proof: bytes
    profile: str
    ocsp_target_ca: str
    account: str
    signature_hash: str
    wish_from: str
    wish_to: str
    attributes: list[_Pair]
    alt_names: list[_Pair]


def request_digest(request: CertificateRequest) -> bytes:
    """SHA-256 (32 octets) of the DER of everything that decides what is signed; never of the evidence.

    Source: wire specification, "Requests": same id and same digest give the same certificate.
    """
    digested = _Digested(
        key_kind=request.key_kind,
        key_proof=request.key_proof,
        profile=request.profile,
        ocsp_target_ca=request.ocsp_target_ca,
        account=request.account,
        signature_hash=request.signature_hash,
        wish_from=request.wish_from,
        wish_to=request.wish_to,
        attributes=[_Pair(type=each.type, value=each.value) for each in request.attributes],
        alt_names=[_Pair(type=each.type, value=each.value) for each in request.alt_names],
    )
    return hashlib.sha256(asn1.encode_der(digested)).digest()
