"""Certification requests: PKCS#10 (RFC 2986) and SPKAC (the `keygen` element of HTML 5, "SignedPublicKeyAndChallenge").

Owns the way from hostile octets to a `CertifiedKey`: a public key that may be certified and whose owner signed the
request with it. Nothing else of a request is used: its subject, attributes, extensions and challenge are never copied,
so they are not even looked at. Any octets give a value or `Refused`, and are bounded before they are parsed.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final, NoReturn

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import SignatureAlgorithmOID

from cassiopeia.core.keycheck import check_public_key
from cassiopeia.core.request import KeyKind
from cassiopeia.errors import Refused

MAXIMUM_REQUEST_OCTETS: Final = 64 * 1024
MAXIMUM_CHALLENGE_CHARACTERS: Final = 1024

_CSR_LABELS: Final = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")  # RFC 7468 7
_PEM_BEGIN = re.compile(rb"-----BEGIN ([\x20-\x7e]{0,64}?)-----")
_DER_SEQUENCE: Final = b"\x30"
_BLANKS: Final = b" \t\r\n"

_WHAT: Final[dict[KeyKind, str]] = {"csr": "certification request", "spkac": "SPKAC"}
_MAKE: Final[dict[KeyKind, str]] = {
    "csr": "make it anew, as with: openssl req -new -sha256 -key KEYFILE",
    "spkac": "make it anew, as with: openssl spkac -digest sha256 -key KEYFILE",
}

# What the libraries raise on hostile input beyond ValueError: for a version or an algorithm of no standard, for a key
# that cannot verify, for whatever comes out of OpenSSL.
_HOSTILE: Final = (ValueError, TypeError, OverflowError, UnsupportedAlgorithm, x509.InvalidVersion, InternalError)

# The signatures that a request may bear, with the kind of key and the hash: RFC 4055, 5758, 8410, 9881.
_SIGNATURES: Final[dict[x509.ObjectIdentifier, tuple[type, hashes.HashAlgorithm]]] = {
    SignatureAlgorithmOID.RSA_WITH_SHA256: (rsa.RSAPublicKey, hashes.SHA256()),
    SignatureAlgorithmOID.RSA_WITH_SHA384: (rsa.RSAPublicKey, hashes.SHA384()),
    SignatureAlgorithmOID.RSA_WITH_SHA512: (rsa.RSAPublicKey, hashes.SHA512()),
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: (ec.EllipticCurvePublicKey, hashes.SHA256()),
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: (ec.EllipticCurvePublicKey, hashes.SHA384()),
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: (ec.EllipticCurvePublicKey, hashes.SHA512()),
}
# These name their key exactly and hash by themselves.
_PURE_SIGNATURES: Final[dict[x509.ObjectIdentifier, type]] = {
    SignatureAlgorithmOID.ED25519: ed25519.Ed25519PublicKey,
    SignatureAlgorithmOID.ML_DSA_44: mldsa.MLDSA44PublicKey,
    SignatureAlgorithmOID.ML_DSA_65: mldsa.MLDSA65PublicKey,
    SignatureAlgorithmOID.ML_DSA_87: mldsa.MLDSA87PublicKey,
}
_BROKEN_SIGNATURES: Final = {
    x509.ObjectIdentifier("1.2.840.113549.1.1.2"): "MD2",
    SignatureAlgorithmOID.RSA_WITH_MD5: "MD5",
    SignatureAlgorithmOID.RSA_WITH_SHA1: "SHA-1",
    SignatureAlgorithmOID.ECDSA_WITH_SHA1: "SHA-1",
    SignatureAlgorithmOID.DSA_WITH_SHA1: "SHA-1",
}
_PSS_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


@dataclass(frozen=True, kw_only=True, slots=True)
class CertifiedKey:
    """A public key whose owner proved to have the private half, and that may be certified.

    `subject_public_key_info` is its DER exactly as the request has it, which is also its only encoding. `algorithm` is
    what `check_public_key` calls it. `key_identifier` is SHA-1 of the key's bits (RFC 5280 4.2.1.2, method 1).
    """

    subject_public_key_info: bytes
    public_key: PublicKeyTypes
    algorithm: str
    key_identifier: bytes


def parse_certification_request(octets: bytes) -> CertifiedKey:
    """Parse and verify a PKCS#10 request in PEM or DER; raises Refused."""
    der = to_der(octets, "csr")
    try:
        request = x509.load_der_x509_csr(der)
        information = asn1.decode_der(_CertificationRequestInformation, request.tbs_certrequest_bytes)
    except x509.InvalidVersion as error:
        _refuse("csr", "request-malformed", "has a version other than 1", error)
    except _HOSTILE as error:
        _refuse("csr", "request-malformed", "is damaged or cut off (its DER does not parse)", error)
    certified_key = _certified_key(information.subject_public_key_info, "csr")
    # The key is known to be small and sound by now: to verify with it takes well under a millisecond.
    try:
        _verify_request(request, certified_key.public_key)
    except (InvalidSignature, *_HOSTILE) as error:
        _refuse_signature("csr", error)
    return certified_key


def parse_spkac(octets: bytes) -> CertifiedKey:
    """Parse and verify a SPKAC as `SPKAC=` and base64, base64 alone or DER; raises Refused.

    The challenge is what a web page once made up: it is bounded, and otherwise ignored.
    """
    der = to_der(octets, "spkac")
    try:
        spkac = asn1.decode_der(_SignedPublicKeyAndChallenge, der)
    except _HOSTILE as error:
        _refuse("spkac", "request-malformed", "is damaged or cut off (its DER does not parse)", error)
    if len(spkac.public_key_and_challenge.challenge.as_str()) > MAXIMUM_CHALLENGE_CHARACTERS:
        _refuse("spkac", "request-malformed", f"has a challenge of more than {MAXIMUM_CHALLENGE_CHARACTERS} characters")
    certified_key = _certified_key(spkac.public_key_and_challenge.subject_public_key_info, "spkac")
    try:
        _verify_spkac(spkac, certified_key.public_key)
    except (InvalidSignature, *_HOSTILE) as error:
        _refuse_signature("spkac", error)
    return certified_key


def to_der(octets: bytes, kind: KeyKind) -> bytes:
    """Undo PEM or base64, judging nothing but that; DER passes as it is. Raises Refused."""
    if len(octets) > MAXIMUM_REQUEST_OCTETS:
        _refuse(kind, "request-too-large", f"is longer than {MAXIMUM_REQUEST_OCTETS} octets")
    if not octets.strip(_BLANKS):
        _refuse(kind, "request-empty", "is empty")
    if octets.startswith(_DER_SEQUENCE):
        return octets
    base64 = _pem_body(octets) if kind == "csr" else _spkac_body(octets)
    try:
        return binascii.a2b_base64(base64.translate(None, _BLANKS), strict_mode=True)
    except binascii.Error as error:
        _refuse(kind, "request-malformed", "is damaged or cut off (its base64 does not decode)", error)


@asn1.sequence
class _SubjectPublicKeyInfo:
    """RFC 5280 4.1.2.7; the algorithm's parameters are judged by the library that loads the key."""

    algorithm: asn1.TLV
    subject_public_key: asn1.BitString


@asn1.sequence
class _CertificationRequestInformation:
    """RFC 2986 4.1."""

    version: int
    subject: asn1.TLV
    subject_public_key_info: _SubjectPublicKeyInfo
    attributes: asn1.TLV


@asn1.sequence
class _AlgorithmIdentifier:
    algorithm: x509.ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _PublicKeyAndChallenge:
    subject_public_key_info: _SubjectPublicKeyInfo
    challenge: asn1.IA5String


@asn1.sequence
class _SignedPublicKeyAndChallenge:
    public_key_and_challenge: _PublicKeyAndChallenge
    signature_algorithm: asn1.TLV
    signature: asn1.BitString


def _certified_key(information: _SubjectPublicKeyInfo, kind: KeyKind) -> CertifiedKey:
    """Load and judge the key, in time that hostile numbers cannot stretch; its signature is for the caller."""
    octets = asn1.encode_der(information)
    try:
        public_key = serialization.load_der_public_key(octets)
    except _HOSTILE as error:
        raise Refused(
            f"The {_WHAT[kind]} holds a public key that is damaged or of a kind that is not certified; make a key with"
            " RSA and 3072 bits, P-256, P-384 or Ed25519.",
            code="key-unsupported",
            field="key",
        ) from error
    algorithm = check_public_key(public_key)
    # One key, one encoding: compressed points, RSA keys bound to PSS and stray parameters would else make one key look
    # like two, or lose on the way what their owner meant (RFC 3279 2.3.1, RFC 5480 2).
    canonical = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if canonical != octets:
        raise Refused(
            f"The {_WHAT[kind]} writes its public key in an unusual way (a compressed point, a key bound to RSA-PSS,"
            f" additional parameters); make an ordinary key, then {_MAKE[kind]}.",
            code="key-encoding",
            field="key",
        )
    return CertifiedKey(
        subject_public_key_info=octets,
        public_key=public_key,
        algorithm=algorithm,
        key_identifier=hashlib.sha1(information.subject_public_key.as_bytes(), usedforsecurity=False).digest(),
    )


def _verify_request(request: x509.CertificateSigningRequest, key: PublicKeyTypes) -> None:
    """Raises Refused for the algorithm; InvalidSignature, or what the library makes of hostile octets, for the rest."""
    if request.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
        try:
            algorithm = request.signature_hash_algorithm
        except _HOSTILE:  # its parameters are missing or of no standard
            algorithm = None
        if not isinstance(algorithm, _PSS_HASHES):
            problem = "is signed with RSA-PSS and a hash other than SHA-256, SHA-384 and SHA-512"
            _refuse("csr", "signature-algorithm", problem)
    else:
        _check_signature_algorithm(request.signature_algorithm_oid, key, "csr")
    if not request.is_signature_valid:
        raise InvalidSignature


def _verify_spkac(spkac: _SignedPublicKeyAndChallenge, key: PublicKeyTypes) -> None:
    """As `_verify_request`. RSA-PSS is not accepted here: nothing makes such a SPKAC."""
    try:
        identifier = spkac.signature_algorithm.parse(_AlgorithmIdentifier).algorithm
    except _HOSTILE as error:
        _refuse("spkac", "signature-algorithm", "is signed with an algorithm that no SPKAC has", error)
    _check_signature_algorithm(identifier, key, "spkac")
    signed = asn1.encode_der(spkac.public_key_and_challenge)
    signature = spkac.signature.as_bytes()
    match key:
        case rsa.RSAPublicKey():
            key.verify(signature, signed, padding.PKCS1v15(), _SIGNATURES[identifier][1])
        case ec.EllipticCurvePublicKey():
            key.verify(signature, signed, ec.ECDSA(_SIGNATURES[identifier][1]))
        case ed25519.Ed25519PublicKey():
            key.verify(signature, signed)
        case _:
            _refuse("spkac", "signature-algorithm", "is signed with an algorithm that no SPKAC has")


def _check_signature_algorithm(identifier: x509.ObjectIdentifier, key: PublicKeyTypes, kind: KeyKind) -> None:
    if identifier in _BROKEN_SIGNATURES:
        problem = f"is signed with {_BROKEN_SIGNATURES[identifier]}, which is broken"
        _refuse(kind, "signature-algorithm", problem)
    key_type = _SIGNATURES[identifier][0] if identifier in _SIGNATURES else _PURE_SIGNATURES.get(identifier)
    if key_type is None:
        problem = f"is signed with an algorithm that is not accepted ({identifier.dotted_string})"
        _refuse(kind, "signature-algorithm", problem)
    if not isinstance(key, key_type):
        raise InvalidSignature


def _pem_body(octets: bytes) -> bytes:
    """The base64 of the one PEM block (RFC 7468); text before it is ignored, for `openssl req -text` writes some."""
    blocks = list(_PEM_BEGIN.finditer(octets))
    labels = [block[1].decode("ascii") for block in blocks]
    if any(label.endswith("PRIVATE KEY") for label in labels):
        raise Refused(
            "This holds a PRIVATE KEY, which nobody else may ever see; make a new key, never use this one again, and"
            " send the request alone.",
            code="private-key-sent",
            field="csr",
        )
    if not blocks:
        _refuse("csr", "request-malformed", "is neither PEM (-----BEGIN CERTIFICATE REQUEST-----) nor DER")
    if len(blocks) > 1:
        _refuse("csr", "request-malformed", f"comes with {len(blocks) - 1} more PEM blocks")
    if labels[0] not in _CSR_LABELS:
        _refuse("csr", "pem-label", f"is labelled {labels[0]!r} and not 'CERTIFICATE REQUEST'")
    body, end, behind = octets[blocks[0].end() :].partition(f"-----END {labels[0]}-----".encode("ascii"))
    if not end:
        _refuse("csr", "request-malformed", f"is cut off: the line -----END {labels[0]}----- is missing")
    if behind.strip(_BLANKS):
        _refuse("csr", "request-malformed", "has something behind its last line")
    return body


def _spkac_body(octets: bytes) -> bytes:
    label = _PEM_BEGIN.search(octets)
    if label:
        raise Refused(
            f"A SPKAC is one line of base64, and this is PEM labelled {label[1].decode('ascii')!r}; if it is a"
            " certification request, submit it as a CSR.",
            code="pem-label",
            field="spkac",
        )
    return octets.strip(_BLANKS).removeprefix(b"SPKAC=")


def _refuse_signature(kind: KeyKind, error: Exception) -> NoReturn:
    problem = "is not signed by the key it holds: it was changed on its way, or put together from two"
    _refuse(kind, "signature-invalid", problem, error)


def _refuse(kind: KeyKind, code: str, problem: str, error: Exception | None = None) -> NoReturn:
    raise Refused(f"The {_WHAT[kind]} {problem}; {_MAKE[kind]}.", code=code, field=kind) from error
