"""The responder's key, in a file for its owner alone (`unattended_key`), and what it signs.

Who has it can call any certificate good until its own certificates end, 30 days later at the most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia import unattended_key
from cassiopeia.core.algorithms import choose_algorithm
from cassiopeia.errors import OperatorError

ResponderKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

_MAKERS: Final[Mapping[str, Callable[[], ResponderKey]]] = MappingProxyType(
    {
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
        "RSA-3072": lambda: rsa.generate_private_key(65537, 3072),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
    }
)
KEY_ALGORITHMS: Final = tuple(_MAKERS)
_HASHES: Final[Mapping[str, hashes.SHA256 | hashes.SHA384]] = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384()}


def make_responder_key(path: Path, *, algorithm: str = "P-256") -> ResponderKey:
    """Make a key, one of `KEY_ALGORITHMS`, and write it to a new file; raises FileExistsError or OSError."""
    key = _MAKERS[algorithm]()
    unattended_key.write_key(path, key)
    return key


def load_responder_key(path: Path) -> ResponderKey:
    """Read a key that nobody else may read; raises OperatorError."""
    key = unattended_key.load_key(path, whose="publisher")
    if not isinstance(key, ResponderKey):
        raise OperatorError(f"{path}: responders have keys of these kinds: {', '.join(KEY_ALGORITHMS)}")
    return key


def public_info(key: ResponderKey) -> bytes:
    """DER SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def public_pem(key: ResponderKey) -> bytes:
    """The public half (SubjectPublicKeyInfo), as signer.toml names it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_public_pem(path: Path) -> bytes:
    """A responder's public key as it stands in a file (PEM); raises OperatorError."""
    key = unattended_key.read_public_key(path, whose="publisher")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certification_request(key: ResponderKey) -> bytes:
    """DER of a PKCS#10 request (RFC 2986) that says nothing but the key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, _hash(key)).public_bytes(Encoding.DER)


def sign(key: ResponderKey, octets: bytes) -> tuple[bytes, bytes]:
    """AlgorithmIdentifier (DER) and signature."""
    algorithm = choose_algorithm(key.public_key(), "")
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return algorithm.der, key.sign(octets)
    digest = _HASHES[algorithm.hash_name]
    if isinstance(key, rsa.RSAPrivateKey):
        return algorithm.der, key.sign(octets, padding.PKCS1v15(), digest)
    return algorithm.der, key.sign(octets, ec.ECDSA(digest))


def _hash(key: ResponderKey) -> hashes.SHA256 | hashes.SHA384 | None:
    name = choose_algorithm(key.public_key(), "").hash_name
    return _HASHES[name] if name else None
