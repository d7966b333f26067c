"""The keys of a signer's sub-CAs: each proved before anything relies on it, each signature verified before it leaves.

OpenSSL verifies every signature whoever made it, and where the configuration says so another library does it too. What
does not verify is never given to anybody: it raises `SignatureMistrusted`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia.config import KeyUse
from cassiopeia.core import algorithms
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.authority import Authority
from cassiopeia.errors import OperatorError, SignatureInvalid
from cassiopeia.signer.keystore.backends import load_backend
from cassiopeia.signer.keystore.interface import Backend, CaKey, KeyStore, SignatureMistrusted, StoreSettings

_CHALLENGE: Final = b"cassiopeia: proof of possession"
_FIRST_OPINION: Final = "openssl"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Held:
    authority: Authority
    use: KeyUse
    key: CaKey
    second_opinion: Backend | None


class KeyRing:
    """Signs by the name of a sub-CA. One store for each backend is opened when the first key needs it."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._stores: dict[str, KeyStore] = {}
        self._held: dict[str, _Held] = {}

    def add(self, authority: Authority, use: KeyUse) -> None:
        """Open the key and prove it to be this sub-CA's, able to do what it must.

        Raises `OperatorError` for a wrong key, `SignatureMistrusted` for one that makes wrong signatures, and
        `Unavailable` for what may come: a token, a passphrase on a medium, a library that is not installed.
        """
        name = authority.name
        # 1. The libraries: who signs, and who is asked for a second opinion.
        second_opinion = load_backend(use.verify_with) if use.verify_with else None
        key = self._store(use.backend).open(use.uri)
        # 2. Whether it is the key of the certificate, and whether both libraries can do what this sub-CA signs with.
        expected = authority.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if key.public_key_info != expected:
            raise OperatorError(
                f"{name}: the key {use.uri} does not belong to this sub-CA's certificate: put the right one there, "
                "or say in signer.toml where it is"
            )
        algorithm = algorithms.choose_algorithm(authority.public_key, "", pss=authority.pss)
        if algorithm not in key.algorithms:
            raise OperatorError(
                f"{name}: {use.backend} cannot sign with {algorithm.name} here: name another backend for "
                f"[authority.{name}] in signer.toml"
            )
        if second_opinion is not None and algorithm not in second_opinion.verifies:
            raise OperatorError(
                f"{name}: {second_opinion.name} cannot verify {algorithm.name}: name another library, or write "
                f'[authority.{name}] verify_with = "none" in signer.toml'
            )
        # 3. A signature shows it.
        held = _Held(authority=authority, use=use, key=key, second_opinion=second_opinion)
        try:
            _sign(held, algorithm, _CHALLENGE)
        except SignatureMistrusted as error:
            raise SignatureMistrusted(
                f"{name}: the key {use.uri} makes wrong signatures: it is damaged, restore it from its backup, or let "
                f"another library sign ({error})",
                signing=error.signing,
                verifying=error.verifying,
            ) from error
        self._held[name] = held

    def prove(self, name: str) -> None:
        """Raise as `sign` does when this key, which was added, does not sign any more."""
        held = self._held[name]
        _sign(held, algorithms.choose_algorithm(held.authority.public_key, "", pss=held.authority.pss), _CHALLENGE)

    def sign(self, name: str, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        """A signature that has been verified; raises `SignatureMistrusted`, or as `CaKey.sign` does."""
        return _sign(self._held[name], algorithm, octets)

    def close(self) -> None:
        """End the keys as well: a library overwrites its own when nobody holds it any more."""
        self._held.clear()
        for store in self._stores.values():
            store.close()
        self._stores.clear()

    def _store(self, backend: str) -> KeyStore:
        if backend not in self._stores:
            self._stores[backend] = load_backend(backend).open_store(self._settings)
        return self._stores[backend]


def _sign(held: _Held, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
    signature = held.key.sign(algorithm, octets)
    verifying = _FIRST_OPINION
    try:
        algorithms.verify(held.authority.public_key, algorithm, signature, octets)
        if held.second_opinion is not None:
            verifying = held.second_opinion.name
            held.second_opinion.verify(held.key.public_key_info, algorithm, signature, octets)
    except SignatureInvalid as error:
        raise SignatureMistrusted(
            f"{held.authority.name}: {verifying} finds a signature wrong that {held.use.backend} made ({error})",
            signing=held.use.backend,
            verifying=verifying,
        ) from error
    return signature
