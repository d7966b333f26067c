"""The seam behind which CA keys live, and the libraries that sign with them.

Nothing else in this software calls a crypto library with a CA's private key. What is signed is octets: a key store
knows nothing of certificates. A `Backend` is one library, a `KeyStore` what it makes of one configuration, a `CaKey`
one key in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.key_uri import KeyUri
from cassiopeia.errors import InternalError
from cassiopeia.secret_source import SecretSource


class SignatureMistrusted(InternalError):
    """A key's own store gave a signature that does not verify: it must not leave this process, nor be kept.

    One wrong RSA signature can give the key away. `signing` and `verifying` name the backends that disagree.
    """

    def __init__(self, message: str, *, signing: str, verifying: str) -> None:
        super().__init__(message)
        self.message = message
        self.signing = signing
        self.verifying = verifying


class CaKey(Protocol):
    """One key, which never leaves its store.

    `sign` may be called from several threads at once. It gives a complete signature, or raises `Unavailable` (the token
    is away: retry) or `OperatorError` (the key is wrong or gone). A returned signature is not trusted: the caller
    verifies it before anything is released.
    """

    @property
    def public_key_info(self) -> bytes:
        """DER of the SubjectPublicKeyInfo (RFC 5280 4.1.2.7)."""
        ...

    @property
    def algorithms(self) -> Sequence[SignatureAlgorithm]:
        """What this store can sign with by this key."""
        ...

    def sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        """Signature over `octets`, encoded as X.509 wants it (ECDSA: DER)."""
        ...


class KeyStore(Protocol):
    """The keys that one backend reaches with one set of settings. Errors are those of `CaKey.sign`."""

    def list_keys(self) -> Sequence[KeyUri]:
        """Every private key that is there."""
        ...

    def open(self, uri: KeyUri) -> CaKey: ...

    def generate(self, uri: KeyUri, key_algorithm: str) -> CaKey:
        """Make a new key, of one of `ca_key.CA_KEY_ALGORITHMS`; nothing is ever overwritten.

        Raises `OperatorError`, also where this store makes no keys, or none of this kind.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """What a key store needs to know; paths in URIs are absolute, or relative to the working directory.

    `passphrase` is that of key files. `module` is the PKCS#11 library and `pin` the PIN for URIs that name none;
    `sessions` is how many sessions all processes of this signer together may have with one token (0: as many as the
    token allows), `processes` how many there are at the most; `state` is a directory of this signer's own that outlives
    it (None: nothing is remembered).
    """

    passphrase: SecretSource
    module: str = ""
    pin: SecretSource | None = None
    sessions: int = 0
    processes: int = 1
    state: Path | None = None


class Backend(Protocol):
    """One crypto library that was found on this machine."""

    @property
    def name(self) -> str:
        """One of `key_uri.BACKENDS`."""
        ...

    @property
    def version(self) -> str:
        """Which library it is, as it says itself; empty where that depends on the token."""
        ...

    @property
    def signs(self) -> Sequence[SignatureAlgorithm]: ...

    @property
    def verifies(self) -> Sequence[SignatureAlgorithm]: ...

    def open_store(self, settings: StoreSettings) -> KeyStore: ...

    def verify(self, public_key_info: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes) -> None:
        """Raise `SignatureInvalid` unless the signature is one over these octets; may be called from any thread.

        Every other exception means that the library could not say: `OperatorError` for a key that it does not take,
        `InternalError` for a fault of its own.
        """
        ...
