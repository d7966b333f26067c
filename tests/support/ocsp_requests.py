"""OCSP requests as the library makes them."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from tests.support.authorities import TestCa, default_ca

HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - names an issuer, and proves nothing
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


def key_info(ca: TestCa) -> bytes:
    return ca.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def issuer_name_hash(ca: TestCa, name: str) -> bytes:
    return hashlib.new(name, ca.certificate.subject.public_bytes()).digest()


def issuer_key_hash(ca: TestCa, name: str) -> bytes:
    """Of a P-256 key."""
    point = ca.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return hashlib.new(name, point).digest()


def asked(serial: int = 0x1234, *, name: str = "sha256", nonce: bytes = b"", ca: TestCa | None = None) -> bytes:
    """A request for one certificate of this CA, whose key is P-256."""
    ca = ca or default_ca()
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        issuer_name_hash(ca, name), issuer_key_hash(ca, name), serial, HASHES[name]
    )
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)
