"""Making CA keys, and their files: encrypted PKCS#8, PEM (RFC 5958, PBES2 of RFC 8018).

Owns which kinds there are. The offline ceremony and `signer csr` make theirs here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

_PUBLIC_EXPONENT: Final = 65537

_MAKERS: Final[dict[str, Callable[[], CertificateIssuerPrivateKeyTypes]]] = {
    "RSA-2048": lambda: rsa.generate_private_key(public_exponent=_PUBLIC_EXPONENT, key_size=2048),
    "RSA-3072": lambda: rsa.generate_private_key(public_exponent=_PUBLIC_EXPONENT, key_size=3072),
    "RSA-4096": lambda: rsa.generate_private_key(public_exponent=_PUBLIC_EXPONENT, key_size=4096),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
    "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate,
    "ML-DSA-87": mldsa.MLDSA87PrivateKey.generate,
}
CA_KEY_ALGORITHMS: Final = tuple(_MAKERS)


def make_ca_key(algorithm: str) -> CertificateIssuerPrivateKeyTypes:
    """A new key of one of `CA_KEY_ALGORITHMS`."""
    return _MAKERS[algorithm]()


def encrypt_ca_key(key: CertificateIssuerPrivateKeyTypes, passphrase: bytes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))
