"""Every crypto backend with a CA key of every kind that it takes: what the suite that they share runs over.

Owns what each is expected to claim: a backend that claims less than is written here fails, and so does one whose
library is not installed.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Final, get_args

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.authorities import PrivateKey
from tests.support.ca_keys import CaKey as KeyKind
from tests.support.ca_keys import ca_key
from tests.support.signer import PASSPHRASE, write_key
from tests.support.softhsm import MODULE, SoftHsm, softhsm_here

from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm, algorithms_for
from cassiopeia.core.key_uri import FileUri, KeyUri, Pkcs11Uri
from cassiopeia.secret_source import SecretSource
from cassiopeia.signer.keystore.backends import load_backend
from cassiopeia.signer.keystore.ca_key import CA_KEY_ALGORITHMS
from cassiopeia.signer.keystore.interface import Backend, CaKey, KeyStore, StoreSettings

_ALL: Final = tuple(each.name for each in ALGORITHMS)

# No other library than OpenSSL has ML-DSA in Debian 12.
_CLASSIC: Final = tuple(each for each in _ALL if not each.startswith("ML-DSA"))
_MADE: Final = tuple(each for each in CA_KEY_ALGORITHMS if not each.startswith("ML-DSA"))

SIGNS: Final[dict[str, tuple[str, ...]]] = {
    "openssl": _ALL,
    "gnutls": _CLASSIC,
    "wolfssl": _CLASSIC,
    "pkcs11": _CLASSIC,
}
"""What each backend signs with, by the names of the algorithms."""
VERIFIES: Final[dict[str, tuple[str, ...]]] = SIGNS | {"pkcs11": ()}
"""What each backend verifies. A token would be asked about its own work."""
MAKES: Final[dict[str, tuple[str, ...]]] = {
    "openssl": CA_KEY_ALGORITHMS,
    "gnutls": _MADE,
    "wolfssl": _MADE,
    "pkcs11": _MADE,
}
"""The kinds of key that each backend makes."""
BACKENDS: Final = tuple(SIGNS)
FILE_BACKENDS: Final = tuple(each for each in BACKENDS if each != "pkcs11")

_KINDS: Final[dict[str, KeyKind]] = {
    "RSA": "RSA-2048", "ECsha256": "P-256", "ECsha384": "P-384", "ECsha512": "P-521", "Ed25519": "Ed25519",
    "Ed448": "Ed448", "ML-DSA-44": "ML-DSA-44", "ML-DSA-65": "ML-DSA-65", "ML-DSA-87": "ML-DSA-87",
}  # fmt: skip

_SHARED: Final = "shared suite"
_IMPORTABLE: Final = tuple(each for each in get_args(KeyKind) if not each.startswith("ML-DSA"))


def kind_for(algorithm: SignatureAlgorithm) -> KeyKind:
    """The kind of key that the suite takes for an algorithm."""
    return _KINDS[algorithm.key_kind + (algorithm.hash_name if algorithm.key_kind == "EC" else "")]


def private_key(kind: KeyKind) -> PrivateKey:
    """The same for the whole run."""
    return ca_key(kind)[0]


def public_key_info(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_kind(public_key: PublicKeyTypes) -> str:
    """What `CA_KEY_ALGORITHMS` calls it."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"RSA-{public_key.key_size}"
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return f"P-{public_key.key_size}"
    return algorithms_for(public_key)[0].key_kind


def signing(*, names: tuple[str, ...] = _ALL) -> list[tuple[str, SignatureAlgorithm]]:
    """Every backend with each of these algorithms that it signs with."""
    return _named(SIGNS, names)


def verifying(*, names: tuple[str, ...] = _ALL) -> list[tuple[str, SignatureAlgorithm]]:
    """Every backend with each of these algorithms that it verifies."""
    return _named(VERIFIES, names)


def _named(claims: dict[str, tuple[str, ...]], names: tuple[str, ...]) -> list[tuple[str, SignatureAlgorithm]]:
    return [
        (backend, each)
        for backend, claimed in claims.items()
        for each in ALGORITHMS
        if each.name in names and each.name in claimed
    ]


def verifiers(algorithm: SignatureAlgorithm) -> list[Backend]:
    return [load_backend(each) for each in BACKENDS if algorithm.name in VERIFIES[each]]


def title(value: object) -> str:
    """How pytest calls a parameter."""
    return value.name if isinstance(value, SignatureAlgorithm) else str(value)


class CaKeys:
    """The keys of `private_key`, each in every backend's store under one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stores: dict[str, KeyStore] = {}
        self._open: dict[tuple[str, KeyKind], CaKey] = {}
        self._imported: set[KeyKind] = set()
        self._stack = contextlib.ExitStack()

    def open(self, backend: str, kind: KeyKind) -> CaKey:
        """The same object whenever it is asked for again."""
        if (backend, kind) not in self._open:
            self._open[backend, kind] = self.store(backend).open(self.put(backend, kind))
        return self._open[backend, kind]

    def put(self, backend: str, kind: KeyKind) -> KeyUri:
        """Bring the key to where this backend finds it."""
        path = self.directory / f"{kind}.key"
        if not path.exists():
            write_key(path, private_key(kind))
        if backend != "pkcs11":
            return FileUri(path=str(path))
        if kind not in self._imported and kind in _IMPORTABLE:
            self._softhsm.import_key(
                _SHARED, kind, path, identifier=kind.encode().hex(), passphrase=PASSPHRASE.decode()
            )
            self._imported.add(kind)
        return Pkcs11Uri(token=_SHARED, label=kind)

    def new(self, backend: str, name: str) -> KeyUri:
        """Where this backend could make a key."""
        if backend == "pkcs11":
            return Pkcs11Uri(token=_SHARED, label=f"new {name}")
        return FileUri(path=str(self.directory / f"{backend}-{name}.key"))

    def store(self, backend: str) -> KeyStore:
        if backend not in self._stores:
            self._stores[backend] = load_backend(backend).open_store(self.settings(backend))
        return self._stores[backend]

    def settings(self, backend: str) -> StoreSettings:
        settings = file_settings(self.directory)
        if backend != "pkcs11":
            return settings
        pin = SecretSource(what="the PIN", file=self._softhsm.write_pin())
        return replace(settings, module=MODULE, pin=pin, state=self.directory)

    @functools.cached_property
    def _softhsm(self) -> SoftHsm:
        made = self._stack.enter_context(softhsm_here(self.directory / "softhsm"))
        made.make_token(_SHARED)
        return made

    def close(self) -> None:
        for store in self._stores.values():
            store.close()
        self._stack.close()


def file_settings(directory: Path, *, passphrase: bytes = PASSPHRASE) -> StoreSettings:
    """For key files whose passphrase is written down beside them."""
    file = directory / "passphrase"
    file.write_bytes(passphrase)
    file.chmod(0o600)
    return StoreSettings(passphrase=SecretSource(what="the passphrase", file=file))


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program `openssl`, whatever it answers."""
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
