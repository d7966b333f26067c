"""What is measured, and who takes part; never how quick it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.authorities import p256_key, rsa_key
from tests.support.crypto_backends import public_key_info
from tests.support.odd_backends import OddBackend

from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm
from cassiopeia.core.key_uri import Pkcs11Uri
from cassiopeia.errors import OperatorError, Refused
from cassiopeia.signer.keystore import speed
from cassiopeia.signer.keystore.ca_key import CA_KEY_ALGORITHMS
from cassiopeia.signer.keystore.interface import KeyStore
from cassiopeia.signer.keystore.openssl import OpenSsl
from cassiopeia.signer.keystore.speed import Contestant
from cassiopeia.signer.keystore.trial_keys import TrialKeys, trial_keys

RSA, PSS, P256 = ("sha256WithRSAEncryption", "rsassaPss-sha256", "ecdsa-with-SHA256")


@pytest.fixture(scope="module")
def trial() -> Iterator[TrialKeys]:
    with trial_keys() as keys:
        yield keys


@dataclass(kw_only=True)
class Key:
    public_key_info: bytes
    algorithms: tuple[SignatureAlgorithm, ...] = ()
    signed: int = 0

    def sign(self, _algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        self.signed += 1
        return octets


def by_name(*names: str) -> tuple[SignatureAlgorithm, ...]:
    return tuple(each for each in ALGORITHMS if each.name in names)


def test_every_kind_of_ca_key_is_known_by_its_name(trial: TrialKeys) -> None:
    with ExitStack() as scope:
        store = OpenSsl().open_store(trial.settings)
        scope.callback(store.close)
        for name in CA_KEY_ALGORITHMS:
            assert speed.key_algorithm_of(store.open(trial.key(name))) == name


class Token:
    """A store that gives the key that was meant for each object."""

    def __init__(self, **keys: Key) -> None:
        self._keys = keys

    def open(self, uri: Pkcs11Uri) -> Key:
        return self._keys[uri.label]


def in_tokens(store: Token, *uris: Pkcs11Uri) -> list[Contestant]:
    return speed.token_contestants(OpenSsl(), cast("KeyStore", store), uris)


def test_a_key_of_another_size_is_refused_by_name() -> None:
    key = Key(public_key_info=public_key_info(rsa.generate_private_key(65537, 2304)))

    with pytest.raises(OperatorError, match=r"^nothing is measured with a key of RSA-2304: take one of RSA-2048, "):
        in_tokens(Token(ca=key), Pkcs11Uri(token="one", label="ca"))


def test_a_token_takes_part_with_all_its_keys() -> None:
    one, two = Key(public_key_info=public_key_info(rsa_key())), Key(public_key_info=public_key_info(p256_key()))
    uris = [
        Pkcs11Uri(token="one", label="first"),
        Pkcs11Uri(token="one", label="second"),
        Pkcs11Uri(serial="0815", label="second"),
    ]

    found = in_tokens(Token(first=one, second=two), *uris)

    assert [(each.name, list(each.keys)) for each in found] == [("one", ["RSA-2048", "P-256"]), ("0815", ["P-256"])]
    with pytest.raises(OperatorError, match="name one RSA-2048 key of this token"):
        in_tokens(Token(first=one, second=one), *uris[:2])


def test_a_key_that_cannot_sign_certificates_is_refused() -> None:
    public_key = x25519.X25519PrivateKey.generate().public_key()
    key = Key(public_key_info=public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    with pytest.raises(Refused, match="This CA key cannot be used"):
        speed.key_algorithm_of(key)


def test_a_library_takes_part_with_the_kinds_that_it_knows(trial: TrialKeys) -> None:
    backend = OddBackend(signs=by_name(RSA, P256))

    found = speed.file_contestant(backend, backend.open_store(trial.settings), trial, ("RSA-2048", "P-256", "P-384"))

    assert list(found.keys) == ["RSA-2048", "P-256"]


def test_each_that_can_takes_part_and_signs() -> None:
    info = public_key_info(rsa_key())
    able, less = (
        Key(public_key_info=info, algorithms=by_name(RSA, PSS)),
        Key(public_key_info=info, algorithms=by_name(RSA)),
    )
    none = Key(public_key_info=info)
    contestants = [
        Contestant(name=name, backend=OpenSsl(), keys=keys)
        for name, keys in (
            ("able", {"RSA-2048": able}),
            ("less", {"RSA-2048": less}),
            ("none", {"RSA-2048": none}),
            ("out", {}),
        )
    ]

    figures = list(speed.measure(contestants, ["RSA-2048", "P-256"], seconds=0.0001))

    assert [(each.key_algorithm, each.algorithm.name, each.by) for each in figures] == [
        ("RSA-2048", RSA, "able"),
        ("RSA-2048", RSA, "less"),
        ("RSA-2048", PSS, "able"),
    ]
    assert all(each.a_second > 0 for each in figures)
    # Once before it counts, and at least once that counts.
    assert less.signed >= 2
    assert none.signed == 0


def test_verifying_is_measured_for_those_who_verify(trial: TrialKeys) -> None:
    openssl, odd = OpenSsl(), OddBackend(signs=by_name(P256), verifies=())
    contestants = [
        speed.file_contestant(each, each.open_store(trial.settings), trial, ("P-256",)) for each in (odd, openssl)
    ]

    figures = list(speed.measure_verifying(contestants, ["P-256", "P-384"], seconds=0.0001))

    assert [(each.algorithm.name, each.by) for each in figures] == [(P256, "openssl")]
