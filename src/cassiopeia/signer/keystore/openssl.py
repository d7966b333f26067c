"""Key files signed with OpenSSL through pyca/cryptography.

A key is an encrypted PKCS#8 PEM file. Loading skips the library's RSA key validation (310 ms for 4096 bits): the caller
proves each key at start by verifying a signature against the CA's certificate, and verifies every signature after that,
so a damaged key can't go unnoticed.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.errors import InternalError, OperatorError

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


class OpenSslKeyStore:
    """Keys named by `file:PATH`, unlocked with one passphrase."""

    def __init__(self, *, passphrase: bytes, directory: Path) -> None:
        self._passphrase = passphrase
        self._directory = directory
        self._keys: dict[str, PrivateKeyTypes] = {}

    def add(self, name: str, uri: str) -> None:
        scheme, _, location = uri.partition(":")
        if scheme != "file":
            raise OperatorError(f"{name}: key {uri!r}: this version knows key files only; write file:PATH")
        path = self._directory / location
        try:
            if path.stat().st_mode & 0o077:
                raise OperatorError(f"{path}: others can read this CA key; run: chmod 600 {path}")
            self._keys[name] = load_pem_private_key(
                path.read_bytes(), self._passphrase, unsafe_skip_rsa_key_validation=True
            )
        except OSError as error:
            raise OperatorError(f"{path}: cannot read the key of {name}: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise OperatorError(
                f"{path}: cannot unlock the key of {name}: wrong passphrase, or not an encrypted PKCS#8 PEM file"
            ) from error

    def subject_public_key_info(self, name: str) -> bytes:
        return self._keys[name].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, name: str, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        key = self._keys[name]
        if isinstance(key, rsa.RSAPrivateKey):
            digest = _HASHES[algorithm.hash_name]
            scheme: padding.AsymmetricPadding = padding.PKCS1v15()
            if algorithm.is_pss:
                # RFC 4055 3.1: the salt is as long as the hash.
                scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
            return key.sign(octets, scheme, digest)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(octets, ec.ECDSA(_HASHES[algorithm.hash_name]))
        if isinstance(
            key,
            ed25519.Ed25519PrivateKey
            | ed448.Ed448PrivateKey
            | mldsa.MLDSA44PrivateKey
            | mldsa.MLDSA65PrivateKey
            | mldsa.MLDSA87PrivateKey,
        ):
            return key.sign(octets)
        raise InternalError(f"no way to sign with a {type(key).__name__}")
