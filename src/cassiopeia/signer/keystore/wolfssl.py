"""Key files signed with wolfSSL: RSA PKCS#1 and PSS up to 4096 bits, ECDSA on P-256, P-384 and P-521, Ed25519, Ed448.

Everything that concerns a key is done by wolfSSL: unlocking its file, hashes, signatures, verification. Of key files it
takes PKCS#8 encrypted by PBES2 (RFC 8018) with PBKDF2 by HMAC-SHA-1 or HMAC-SHA-256 and AES-128-CBC, AES-256-CBC or
3DES, which is how this software and `openssl pkcs8 -topk8` write them; neither scrypt nor another hash. ML-DSA (RFC
9881) is not in the version that Debian 12 has.

A key is used by one thread at a time, under a lock of its own: wolfSSL's RSA functions keep their state in the key.
Measured with 5.5.4, 16 threads on one RSA key without that lock: 130 of 960 signatures wrong, each reported as good.
Verifying makes its objects anew each time, and so needs no lock.
"""

from __future__ import annotations

import base64
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cassiopeia import files
from cassiopeia.core import der
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.key_uri import KeyUri
from cassiopeia.errors import OperatorError, SignatureInvalid
from cassiopeia.secret_source import SecretSource, wipe
from cassiopeia.signer.keystore.interface import CaKey, StoreSettings
from cassiopeia.signer.keystore.key_file import key_path, locked, read_key_file
from cassiopeia.signer.keystore.wolfssl_keys import (
    AES_BLOCK_OCTETS,
    MAKERS,
    SUPPORTED,
    Key,
    is_key_info,
    open_key,
    split_public_key,
)
from cassiopeia.signer.keystore.wolfssl_library import Library

_PEM_BEGIN: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
_PEM_END: Final = b"-----END ENCRYPTED PRIVATE KEY-----"
_ENCRYPTION: Final = (
    "PBES2 by PBKDF2 with HMAC-SHA-256 and AES-256-CBC, which openssl pkcs8 -topk8 -v2 aes-256-cbc makes of any other"
)

_ITERATIONS: Final = 100_000
# RFC 8018 C, and RFC 8018 B.1.2 as AlgorithmIdentifier with NULL.
_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2: Final = bytes.fromhex("06092a864886f70d01050c")
_HMAC_SHA256: Final = bytes.fromhex("300c06082a864886f70d02090500")
_AES256_CBC: Final = bytes.fromhex("060960864801650304012a")


def load() -> WolfSsl:
    return WolfSsl(Library())


class WolfSsl:
    """The version of wolfSSL that Debian 12 has."""

    name = "wolfssl"
    signs: Sequence[SignatureAlgorithm] = SUPPORTED
    verifies: Sequence[SignatureAlgorithm] = SUPPORTED

    def __init__(self, library: Library) -> None:
        self._library = library

    @property
    def version(self) -> str:
        return self._library.version

    def open_store(self, settings: StoreSettings) -> WolfSslKeyStore:
        return WolfSslKeyStore(self._library, settings.passphrase)

    def verify(self, public_key_info: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes) -> None:
        kind, key = split_public_key(public_key_info)
        if algorithm not in kind.algorithms:
            raise SignatureInvalid(f"this key does not sign with {algorithm.name}")
        if not kind.verifies(self._library, key, algorithm, signature, octets):
            raise SignatureInvalid(f"the {algorithm.name} signature does not verify")


class WolfSslKeyStore:
    """Key files, unlocked with one passphrase."""

    def __init__(self, library: Library, passphrase: SecretSource) -> None:
        self._library = library
        self._passphrase = passphrase
        self._opened: weakref.WeakSet[Key] = weakref.WeakSet()

    def list_keys(self) -> Sequence[KeyUri]:
        """None: files are named one by one."""
        return ()

    def open(self, uri: KeyUri) -> CaKey:
        path = key_path(uri)
        octets = _encrypted_octets(read_key_file(path), path)
        try:
            with self._passphrase.read() as passphrase:
                length = self._library.decrypt(octets, passphrase)
            if not is_key_info(octets, length):
                raise OperatorError(f"{locked(path)}; wolfSSL needs {_ENCRYPTION}")
            key = open_key(self._library, octets, length, path)
        finally:
            wipe(octets)
        self._opened.add(key)
        return key

    def generate(self, uri: KeyUri, key_algorithm: str) -> CaKey:
        path = key_path(uri)
        kind = MAKERS.get(key_algorithm)
        if kind is None:
            raise OperatorError(
                f"wolfSSL makes no {key_algorithm} keys: take {', '.join(MAKERS)}, or let another library make it"
            )
        encrypted = self._encrypt(kind.make(self._library))
        with files.new_file(path) as stream:
            stream.write(encrypted)
        return self.open(uri)

    def close(self) -> None:
        """Overwrite every key."""
        for key in list(self._opened):
            key.close()
        self._opened.clear()

    def _encrypt(self, padded: bytearray) -> bytes:
        """PEM of an EncryptedPrivateKeyInfo (RFC 5958 3) with PBES2 (RFC 8018 6.2); wipes the key in clear."""
        library = self._library
        try:
            salt, vector = library.random(AES_BLOCK_OCTETS), library.random(AES_BLOCK_OCTETS)
            with self._passphrase.read() as passphrase:
                encrypted = library.encrypt(padded, passphrase, salt, _ITERATIONS, vector)
        finally:
            wipe(padded)
        iterations = der.encode(der.INTEGER, _ITERATIONS.to_bytes(_ITERATIONS.bit_length() // 8 + 1, "big"))
        derivation = der.encode(der.SEQUENCE, der.encode(der.OCTET_STRING, salt), iterations, _HMAC_SHA256)
        scheme = der.encode(
            der.SEQUENCE,
            der.encode(der.SEQUENCE, _PBKDF2, derivation),
            der.encode(der.SEQUENCE, _AES256_CBC, der.encode(der.OCTET_STRING, vector)),
        )
        info = der.encode(
            der.SEQUENCE, der.encode(der.SEQUENCE, _PBES2, scheme), der.encode(der.OCTET_STRING, encrypted)
        )
        text = base64.b64encode(info)
        lines = (text[start : start + 64] for start in range(0, len(text), 64))
        return b"\n".join((_PEM_BEGIN, *lines, _PEM_END, b""))


def _encrypted_octets(pem: bytes, path: Path) -> bytearray:
    """EncryptedPrivateKeyInfo (RFC 7468 11)."""
    text = b"".join(pem.removeprefix(_PEM_BEGIN).strip().removesuffix(_PEM_END).split())
    try:
        octets = bytearray(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise locked(path) from error
    if not octets:
        raise locked(path)
    return octets
