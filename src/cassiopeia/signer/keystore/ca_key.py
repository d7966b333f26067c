"""Making CA keys, and their files: encrypted PKCS#8, PEM (RFC 5958, PBES2 of RFC 8018).

Owns which kinds there are, and which keys must never be a CA's. The offline ceremony makes its keys here, and so does
every signer that keeps them in files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from cassiopeia.core import keycheck
from cassiopeia.errors import OperatorError, Refused

_PUBLIC_EXPONENT: Final = 65537
# What the library can lock with; it can unlock with more.
_MAXIMUM_PASSPHRASE_OCTETS: Final = 1023

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

_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_OTHERS: Final[dict[type, str]] = {
    ed25519.Ed25519PublicKey: "Ed25519",
    ed448.Ed448PublicKey: "Ed448",
    mldsa.MLDSA44PublicKey: "ML-DSA-44",
    mldsa.MLDSA65PublicKey: "ML-DSA-65",
    mldsa.MLDSA87PublicKey: "ML-DSA-87",
}


def make_ca_key(algorithm: str) -> CertificateIssuerPrivateKeyTypes:
    """A new key of one of `CA_KEY_ALGORITHMS`."""
    return _MAKERS[algorithm]()


def encrypt_ca_key(key: CertificateIssuerPrivateKeyTypes, passphrase: bytes | bytearray) -> bytes:
    """Raises OperatorError for a passphrase that is too long."""
    if len(passphrase) > _MAXIMUM_PASSPHRASE_OCTETS:
        raise OperatorError(
            f"no key can be locked with a passphrase of {len(passphrase)} octets: take one with "
            f"{_MAXIMUM_PASSPHRASE_OCTETS} at the most"
        )
    # The library takes nothing but `bytes`, which nobody can wipe: a copy that lives for this call.
    encryption = BestAvailableEncryption(bytes(passphrase))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def ca_key_algorithm(public_key: PublicKeyTypes) -> str:
    """What `CA_KEY_ALGORITHMS` calls a key of this kind; for one that is not among them, another word."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"RSA-{public_key.key_size}"
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return _CURVES.get(public_key.curve.name, public_key.curve.name)
    return next((name for kind, name in _OTHERS.items() if isinstance(public_key, kind)), type(public_key).__name__)


def check_ca_key(public_key: PublicKeyTypes) -> None:
    """Raise OperatorError for a key that no CA may have: of an unknown kind, or one that anybody can find.

    Tokens made such keys, for years, and certified ones among them (ROCA).
    """
    algorithm = ca_key_algorithm(public_key)
    if algorithm not in CA_KEY_ALGORITHMS:
        raise OperatorError(f"this is a key {algorithm}, and a CA has one of {', '.join(CA_KEY_ALGORITHMS)}")
    if isinstance(public_key, ed448.Ed448PublicKey):
        return  # there is nothing to look at
    try:
        keycheck.check_public_key(public_key)
        keycheck.check_strength(public_key)
    except Refused as refusal:
        raise OperatorError(f"this key must not be a CA's: {refusal.message}") from refusal
