"""Sealing: what is told to one machine alone, by its public key (HPKE, RFC 9180).

Owns the kind of key, X25519 and ML-KEM-768 together (the hybrid X-Wing: whoever keeps a sealed passphrase for a quantum
computer of later years gets nothing), its files, and what is sealed: short secrets, as the passphrase of a bundle's
keys. A sealed text says nothing of who sealed it: what carries it is signed.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from cassiopeia.errors import OperatorError

_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_PURPOSE: Final = b"cassiopeia bundle passphrase\0"
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----\n.*?\n-----END \1-----\n", re.DOTALL)


def make_sealing_key(passphrase: bytes) -> tuple[bytes, bytes]:
    """A new key as two files: the private halves encrypted with the passphrase, and the public ones (both PEM)."""
    keys = (MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())
    private = b"".join(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase)) for key in keys
    )
    public = b"".join(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in keys)
    return private, public


def sealing_fingerprint(public: bytes) -> str:
    """What people compare: SHA-256 of the two public keys (DER) one behind the other, in hex; raises OperatorError."""
    keys = _load_public(public)
    der = b"".join(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in keys)
    return hashlib.sha256(der).hexdigest()


def seal(secret: bytes, public: bytes, *, context: bytes) -> bytes:
    """The secret for the owner of this key (PEM) alone, and for what `context` names (`bundle.sealing_context`).

    Raises OperatorError for what is no such key.
    """
    return _SUITE.encrypt(secret, MLKEM768X25519PublicKey(*_load_public(public)), _PURPOSE + context)


def unseal(sealed: bytes, private: bytes, passphrase: bytes | bytearray, *, context: bytes) -> bytes:
    """What was sealed; raises OperatorError when the key cannot be unlocked, or it was sealed to or for another one."""
    try:
        mlkem, x25519 = (
            load_pem_private_key(each, passphrase)  # type: ignore[arg-type] # it takes any buffer
            for each in _blocks(private, b"ENCRYPTED PRIVATE KEY")
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OperatorError("the sealing key cannot be unlocked: wrong passphrase, or not a sealing key") from error
    if not isinstance(mlkem, MLKEM768PrivateKey) or not isinstance(x25519, X25519PrivateKey):
        raise OperatorError("this is not a sealing key: it has an ML-KEM-768 key, and an X25519 key behind it")
    try:
        return _SUITE.decrypt(sealed, MLKEM768X25519PrivateKey(mlkem, x25519), _PURPOSE + context)
    except (InvalidTag, ValueError) as error:
        raise OperatorError(
            "the passphrase was sealed to another key than the sealing key of this machine, or for another bundle; "
            "give the ceremony the sealing.pem of this machine"
        ) from error


def _load_public(public: bytes) -> tuple[MLKEM768PublicKey, X25519PublicKey]:
    try:
        mlkem, x25519 = (load_pem_public_key(each) for each in _blocks(public, b"PUBLIC KEY"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise OperatorError(_NO_KEY) from error
    if not isinstance(mlkem, MLKEM768PublicKey) or not isinstance(x25519, X25519PublicKey):
        raise OperatorError(_NO_KEY)
    return mlkem, x25519


_NO_KEY: Final = "this is not the public half of a sealing key, as `cassiopeia signer init` writes it (sealing.pem)"


def _blocks(pem: bytes, label: bytes) -> list[bytes]:
    return [each.group(0) for each in _PEM.finditer(pem.replace(b"\r\n", b"\n")) if each.group(1) == label]
