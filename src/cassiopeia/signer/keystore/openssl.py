"""Key files signed with OpenSSL through pyca/cryptography.

Loading skips the library's RSA key validation (310 ms for 4096 bits): whoever installed the key has validated it, it is
proved against the sub-CA's certificate at each start, and every signature is verified after that, so a damaged key
can't go unnoticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InternalError as LibraryFault
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.backends.openssl.backend import backend as library
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from cassiopeia import files
from cassiopeia.core import algorithms
from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm
from cassiopeia.core.key_uri import KeyUri
from cassiopeia.errors import InternalError, OperatorError, Refused
from cassiopeia.secret_source import SecretSource
from cassiopeia.signer.keystore.ca_key import encrypt_ca_key, make_ca_key
from cassiopeia.signer.keystore.interface import CaKey, StoreSettings
from cassiopeia.signer.keystore.key_file import key_path, locked, read_key_file

_HASHES: Final = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
# RFC 5915 3 wants exactly as many octets as the order has; pyca/cryptography insists, and says so in these words.
_ODD_EC_KEY: Final = "EC private key is not encoded properly"


def load() -> OpenSsl:
    return OpenSsl()


class OpenSsl:
    """The library that is always there."""

    name = "openssl"
    signs: Sequence[SignatureAlgorithm] = ALGORITHMS
    verifies: Sequence[SignatureAlgorithm] = ALGORITHMS

    @property
    def version(self) -> str:
        return library.openssl_version_text()

    def open_store(self, settings: StoreSettings) -> OpenSslKeyStore:
        return OpenSslKeyStore(settings.passphrase)

    def verify(self, public_key_info: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes) -> None:
        try:
            key = load_der_public_key(public_key_info)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise OperatorError(f"OpenSSL does not take this public key: {error}") from error
        algorithms.verify(key, algorithm, signature, octets)


class OpenSslKeyStore:
    """Key files, unlocked with one passphrase."""

    def __init__(self, passphrase: SecretSource) -> None:
        self._passphrase = passphrase

    def list_keys(self) -> Sequence[KeyUri]:
        """None: files are named one by one."""
        return ()

    def open(self, uri: KeyUri) -> CaKey:
        path = key_path(uri)
        octets = read_key_file(path)
        try:
            with self._passphrase.read() as passphrase:
                key = load_pem_private_key(
                    octets,
                    passphrase,  # type: ignore[arg-type] # it takes any buffer, and so there is no copy to be wiped
                    unsafe_skip_rsa_key_validation=True,
                )
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            if _ODD_EC_KEY in str(error):
                raise OperatorError(
                    f"{path}: this EC key is not encoded as OpenSSL wants it here (certtool writes every second one "
                    f"so): run openssl pkcs8 -topk8 -in {path} -out NEW and name NEW, or let gnutls or wolfssl sign"
                ) from error
            raise locked(path) from error
        return _key(key, path)

    def generate(self, uri: KeyUri, key_algorithm: str) -> CaKey:
        path = key_path(uri)
        key = make_ca_key(key_algorithm)
        with self._passphrase.read() as passphrase:
            encrypted = encrypt_ca_key(key, passphrase)
        with files.new_file(path) as stream:
            stream.write(encrypted)
        return _key(key, path)

    def close(self) -> None:
        """Nothing is open."""


class _Key:
    def __init__(self, key: PrivateKeyTypes, path: Path, supported: Sequence[SignatureAlgorithm]) -> None:
        self._key = key
        self._path = path
        self.algorithms = supported
        self.public_key_info = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        if algorithm not in self.algorithms:
            raise InternalError(f"this key does not sign with {algorithm.name}")
        try:
            return self._sign(algorithm, octets)
        except (ValueError, LibraryFault) as error:
            # What the library says then is made up ("Digest or salt length too long for key size").
            raise OperatorError(
                f"{self._path}: cannot sign with {algorithm.name}: this key is damaged: restore it from its backup"
            ) from error

    def _sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        key = self._key
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


def _key(key: PrivateKeyTypes, path: Path) -> _Key:
    try:
        return _Key(key, path, algorithms.algorithms_for(key.public_key()))
    except Refused as refusal:
        raise OperatorError(f"{path}: {refusal.message}") from refusal
