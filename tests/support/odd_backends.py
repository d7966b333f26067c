"""Crypto libraries that do not do what they must: OpenSSL with one fault each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.key_uri import KeyUri
from cassiopeia.errors import SignatureInvalid
from cassiopeia.signer.keystore.interface import CaKey, KeyStore, StoreSettings
from cassiopeia.signer.keystore.openssl import OpenSsl

Sign = Callable[[CaKey, SignatureAlgorithm, bytes], bytes]
Verify = Callable[..., None]


@dataclass(kw_only=True)
class OddBackend:
    """OpenSSL under another name, but for what is given; `opened` and `closed` count its stores."""

    name: str = "gnutls"
    version: str = "odd 1.0"
    signs: Sequence[SignatureAlgorithm] = OpenSsl.signs
    verifies: Sequence[SignatureAlgorithm] = OpenSsl.verifies
    sign: Sign | None = None
    verify: Verify = field(default_factory=lambda: OpenSsl().verify)
    public_key_info: bytes | None = None
    algorithms: Sequence[SignatureAlgorithm] | None = None
    opening: Callable[[KeyUri], None] = field(default=lambda _: None)
    opened: int = 0
    closed: int = 0

    def open_store(self, settings: StoreSettings) -> KeyStore:
        self.opened += 1
        return _Store(self, OpenSsl().open_store(settings))


class _Store:
    def __init__(self, backend: OddBackend, store: KeyStore) -> None:
        self._backend = backend
        self._store = store

    def list_keys(self) -> Sequence[KeyUri]:
        return self._store.list_keys()

    def open(self, uri: KeyUri) -> CaKey:
        self._backend.opening(uri)
        return _Key(self._backend, self._store.open(uri))

    def generate(self, uri: KeyUri, key_algorithm: str) -> CaKey:
        return self._store.generate(uri, key_algorithm)

    def close(self) -> None:
        self._backend.closed += 1


class _Key:
    def __init__(self, backend: OddBackend, key: CaKey) -> None:
        self._backend = backend
        self._key = key
        self.public_key_info = backend.public_key_info or key.public_key_info
        self.algorithms = key.algorithms if backend.algorithms is None else backend.algorithms

    def sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        if self._backend.sign is not None:
            return self._backend.sign(self._key, algorithm, octets)
        return self._key.sign(algorithm, octets)


def flips_a_bit(key: CaKey, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
    signature = bytearray(key.sign(algorithm, octets))
    signature[len(signature) // 2] ^= 1
    return bytes(signature)


def signs_other_octets(key: CaKey, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
    return key.sign(algorithm, octets + b"!")


def raises_something(*_: Any) -> bytes:
    raise ZeroDivisionError("no inverse")


def takes_everything(*_: Any) -> None:
    """Every signature is a good one."""


def takes_nothing(*_: Any) -> None:
    raise SignatureInvalid("no")


def overlooks_the_last_octet(info: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes) -> None:
    """As GnuTLS 3.7 does it with Ed448, whose last octet is always zero."""
    OpenSsl().verify(info, algorithm, signature[:-1] + b"\0", octets)
