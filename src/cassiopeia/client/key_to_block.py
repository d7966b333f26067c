"""Which public key people mean who want it blocked: a hash, or a file that has the key in it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from cassiopeia.errors import OperatorError

_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")
_Found = TypeVar("_Found")


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyToBlock:
    """`key_hash` is SHA-256 of the SubjectPublicKeyInfo; `found_in` says what was read, for people."""

    key_hash: bytes
    found_in: str


def find_key(text: str) -> KeyToBlock:
    """Read a hash in hexadecimal, or a file with a certificate, a CSR or a public key; raises OperatorError."""
    if _HASH.fullmatch(text):
        return KeyToBlock(key_hash=bytes.fromhex(text), found_in="the hash that was given")
    path = Path(text)
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise OperatorError(
            f"{text}: this is neither the SHA-256 of a public key (64 hexadecimal digits) nor a file that can be read: "
            f"{error.strerror}"
        ) from error
    for read in (_of_certificate, _of_csr, _of_public_key):
        try:
            key, found_in = read(octets)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        return KeyToBlock(key_hash=hashlib.sha256(key).digest(), found_in=found_in)
    raise OperatorError(f"{path}: this holds no certificate, CSR or public key, in PEM or DER")


def _of_certificate(octets: bytes) -> tuple[bytes, str]:
    found = _either(x509.load_pem_x509_certificate, x509.load_der_x509_certificate, octets)
    key = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    subject = found.subject.rfc4514_string() or "without a subject"
    return key, f"the certificate {found.serial_number:x} ({subject})"


def _of_csr(octets: bytes) -> tuple[bytes, str]:
    found = _either(x509.load_pem_x509_csr, x509.load_der_x509_csr, octets)
    key = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key, f"a certification request ({found.subject.rfc4514_string() or 'without a subject'})"


def _of_public_key(octets: bytes) -> tuple[bytes, str]:
    found = _either(load_pem_public_key, load_der_public_key, octets)
    return found.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "a public key"


def _either(pem: Callable[[bytes], _Found], der: Callable[[bytes], _Found], octets: bytes) -> _Found:
    return pem(octets) if octets.lstrip().startswith(b"-----BEGIN ") else der(octets)
