"""Certification requests that this software makes: a sub-CA's key asks for its certificate (RFC 2986).

Owns the octets that the key signs, and the request around the signature. Signs nothing: that is the key store's part.
What others ask for is read in `csr`.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509

from cassiopeia.core import der
from cassiopeia.core.algorithms import SignatureAlgorithm

_VERSION_1: Final = der.encode(der.INTEGER, b"\0")
_NO_ATTRIBUTES: Final = der.encode(0xA0)


def assemble_request_info(common_name: str, public_key_info: bytes) -> bytes:
    """The CertificationRequestInfo (RFC 2986 4.1) of this subject and key (DER); without attributes."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    return der.encode(der.SEQUENCE, _VERSION_1, subject.public_bytes(), public_key_info, _NO_ATTRIBUTES)


def compose_request(request_info: bytes, algorithm: SignatureAlgorithm, signature: bytes) -> bytes:
    """The CertificationRequest (RFC 2986 4.2)."""
    return der.encode_signed(request_info, algorithm.der, signature)
