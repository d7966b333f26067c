"""What `cassiopeia backend check` tries: whether a crypto library signs and verifies as it claims, here and now.

Three kinds of trial. A library by itself: known answers (`known_answers`), then a fresh key whose signature every other
library verifies, and which each refuses with one bit flipped. The keys of a configuration: each opened and proved as a
signer does it at its start. One key by its URI. Nothing is changed but what is remembered of a PIN.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
)

from cassiopeia.config import KeyUse
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.authority import Authority
from cassiopeia.core.key_uri import FILE_BACKENDS, PKCS11, FileUri, KeyUri, Pkcs11Uri
from cassiopeia.errors import CassiopeiaError, SignatureInvalid, Unavailable
from cassiopeia.signer.keystore.backends import load_backend
from cassiopeia.signer.keystore.interface import Backend, CaKey, KeyStore, StoreSettings
from cassiopeia.signer.keystore.known_answers import KnownAnswer, known_answers
from cassiopeia.signer.keystore.pkcs11 import Pkcs11KeyStore
from cassiopeia.signer.keystore.ring import KeyRing
from cassiopeia.signer.keystore.trial_keys import TrialKeys, key_algorithm_for

_OCTETS: Final = b"cassiopeia: self-test"
_DEFAULT_BACKEND: Final = "openssl"
_PIN_REFUSED: Final = "pin-refused"
_ADVICE: Final = "let another library sign and verify where this one does: backend and verify_with in signer.toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One trial of a backend: `done` says what was seen, or `fault` what is wrong and what to do."""

    subject: str
    backend: str
    done: str = ""
    fault: str = ""


class _Wrong(Exception):
    """A library does not do what it must; the text says what."""


def check_backend(backend: Backend, others: Sequence[Backend], trial: TrialKeys) -> Iterator[Finding]:
    """Try everything that this library claims; `others` verify what it signs. One finding for each algorithm."""
    signs_files = backend.name in FILE_BACKENDS
    for answer in known_answers():
        algorithm = answer.algorithm
        signs = signs_files and algorithm in backend.signs
        if not signs and algorithm not in backend.verifies:
            continue

        def trial_of_one(answer: KnownAnswer = answer, *, signs: bool = signs) -> str:
            done = [*_verify_known(backend, answer)]
            if signs:
                store = backend.open_store(trial.settings)
                try:
                    done += _sign_known(store, answer, trial)
                    key = store.open(trial.key(key_algorithm_for(answer.algorithm)))
                    done += _sign_fresh(backend, key, answer.algorithm, [backend, *others])
                finally:
                    store.close()
            return "; ".join(done)

        yield _finding(f"{backend.name} {algorithm.name}", backend.name, trial_of_one, advice=_ADVICE)


class KeyChecks:
    """Tries keys one after the other, by a person's will: somebody has looked at the PINs.

    A PIN that a token refused before is given to it again, once, and what is remembered of that ends when it takes it.
    When one is refused now, no further key in a token is tried.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._pin_refused = False
        self._logged_in: set[Pkcs11Uri] = set()

    def check_authority(self, authority: Authority, use: KeyUse) -> Finding:
        """Open and prove the key of one sub-CA, and ask for a second opinion, as a signer does it at its start."""

        def trial() -> str:
            ring = KeyRing(self._settings)
            try:
                ring.add(authority, use)
            finally:
                ring.close()
            second = f", and by {use.verify_with}" if use.verify_with else ""
            return f"{use.uri}: {use.backend} signs, verified by {_DEFAULT_BACKEND}{second}"

        return self._try(authority.name, use.uri, trial)

    def check_key(self, uri: KeyUri, verifiers: Sequence[Backend]) -> Finding:
        """Open one key, and let every library verify a signature by each algorithm that it can be used with."""

        def trial() -> str:
            backend = load_backend(backend_of(uri))
            store = backend.open_store(self._settings)
            try:
                key = store.open(uri)
                return "; ".join(
                    f"{each.name} {done}"
                    for each in key.algorithms
                    for done in _sign_fresh(backend, key, each, verifiers)
                )
            finally:
                store.close()

        return self._try(str(uri), uri, trial)

    def _try(self, subject: str, uri: KeyUri, trial: Callable[[], str]) -> Finding:
        if self._pin_refused and isinstance(uri, Pkcs11Uri):
            return Finding(
                subject=subject, backend=PKCS11, fault="not tried, for a token has refused its PIN: correct that first"
            )

        def watched() -> str:
            try:
                if isinstance(uri, Pkcs11Uri):
                    self._log_in(uri)
                return trial()
            except Unavailable as error:
                self._pin_refused = self._pin_refused or error.code == _PIN_REFUSED
                raise

        found = _finding(subject, backend_of(uri), watched)
        # A key ring names the sub-CA by itself.
        return replace(found, fault=found.fault.removeprefix(f"{subject}: "))

    def _log_in(self, uri: Pkcs11Uri) -> None:
        token = replace(uri, label="", identifier=b"")
        if token in self._logged_in:
            return
        store = load_backend(PKCS11).open_store(self._settings)
        try:
            if isinstance(store, Pkcs11KeyStore):
                store.log_in_once(uri)
        finally:
            store.close()
        self._logged_in.add(token)


def backend_of(uri: KeyUri) -> str:
    """Which library opens this key where no configuration says it."""
    return (uri.backend or _DEFAULT_BACKEND) if isinstance(uri, FileUri) else PKCS11


def _finding(subject: str, backend: str, trial: Callable[[], str], *, advice: str = "") -> Finding:
    try:
        return Finding(subject=subject, backend=backend, done=trial())
    except (_Wrong, CassiopeiaError) as error:
        fault = str(error)
    except Exception as error:  # noqa: BLE001 - a broken library may raise anything, and the others are still to be tried
        fault = f"the library raised {type(error).__name__}: {error}"
    return Finding(subject=subject, backend=backend, fault=f"{fault}; {advice}" if advice else fault)


def _verify_known(backend: Backend, answer: KnownAnswer) -> Iterator[str]:
    if answer.algorithm not in backend.verifies or not answer.signature:
        return
    info = (
        load_der_private_key(answer.private_key, None)
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    _must_verify(backend, info, answer.algorithm, answer.signature, answer.octets, "a known signature")
    yield "known signature verified"


def _sign_known(store: KeyStore, answer: KnownAnswer, trial: TrialKeys) -> Iterator[str]:
    key = store.open(trial.known_key(key_algorithm_for(answer.algorithm), answer.private_key))
    if hashlib.sha256(key.public_key_info).digest() != answer.public_key_digest:
        raise _Wrong("it gives a known key another public key")
    if not answer.is_only_signature:
        yield "known public key given"
    elif key.sign(answer.algorithm, answer.octets) != answer.signature:
        raise _Wrong("a known key gives another signature than it must")
    else:
        yield "known signature made"


def _sign_fresh(
    backend: Backend, key: CaKey, algorithm: SignatureAlgorithm, verifiers: Sequence[Backend]
) -> Iterator[str]:
    if algorithm not in key.algorithms:
        raise _Wrong(f"it claims to sign with {algorithm.name}, and does not with a key for it")
    signature = key.sign(algorithm, _OCTETS)
    asked = [each for each in verifiers if algorithm in each.verifies]
    if not asked:
        raise _Wrong("there is no library here that can verify what it signs")
    for each in asked:
        _must_verify(each, key.public_key_info, algorithm, signature, _OCTETS, f"a signature by {backend.name}")
    yield f"signed, verified by {', '.join(each.name for each in asked)}"


def _must_verify(
    backend: Backend, info: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes, what: str
) -> None:
    """It must take this signature, and refuse it with a bit flipped at either end or in the middle, or on others."""
    try:
        backend.verify(info, algorithm, signature, octets)
    except SignatureInvalid as error:
        raise _Wrong(f"{backend.name} finds {what} wrong: {error}") from error
    for position in (0, len(signature) // 2, len(signature) - 1):
        flipped = bytearray(signature)
        flipped[position] ^= 1
        _must_refuse(backend, info, algorithm, bytes(flipped), octets, f"{what} with a bit flipped in octet {position}")
    _must_refuse(backend, info, algorithm, signature, octets + b"\0", f"{what} on other octets")


def _must_refuse(
    backend: Backend, info: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes, what: str
) -> None:
    try:
        backend.verify(info, algorithm, signature, octets)
    except SignatureInvalid:
        return
    raise _Wrong(f"{backend.name} takes {what} for a good one")
