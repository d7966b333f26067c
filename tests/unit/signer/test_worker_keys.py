"""A worker whose keys cannot be used, or sign wrongly: what it says of them, and how it gets them back."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.support.authorities import default_authority, p256_key
from tests.support.signer import SIGNING_CA, make_worker

from cassiopeia.config import KeyUse
from cassiopeia.core import algorithms
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.authority import Authority
from cassiopeia.core.key_uri import FileUri, KeyUri, Pkcs11Uri
from cassiopeia.core.rules import Rules
from cassiopeia.errors import CassiopeiaError, InternalError, OperatorError, Unavailable
from cassiopeia.secret_source import SecretSource
from cassiopeia.signer.keystore.interface import SignatureMistrusted, StoreSettings
from cassiopeia.signer.keystore.ring import KeyRing
from cassiopeia.signer.tasks import (
    MISTRUSTED,
    Deferred,
    LackingKey,
    Mistrusted,
    Outcome,
    Ready,
    Sign,
    Signed,
    TryKey,
    Usable,
    read_outcomes,
)
from cassiopeia.signer.worker import Worker

OTHER = "unassured_2026_3"
IN_TOKEN, IN_FILE = Pkcs11Uri(token="ca"), FileUri(path="/ca.key")
AWAY = Unavailable("the token ca is away: put it in", code="token-away")
LOCKED = Unavailable("the passphrase is not there", code="locked")
WRONG = SignatureMistrusted("gnutls finds a signature wrong that openssl made", signing="openssl", verifying="gnutls")
ECDSA = algorithms.choose_algorithm(p256_key().public_key(), "")
_numbers = itertools.count(1)


class Ring(KeyRing):
    """Keys that do as told: `faults` are raised for a sub-CA, when its key is opened or used."""

    def __init__(self) -> None:
        super().__init__(StoreSettings(passphrase=SecretSource(what="none", file=Path("/none"))))
        self.faults: dict[str, CassiopeiaError] = {}
        self.said: list[tuple[str, str]] = []

    def add(self, authority: Authority, use: KeyUse) -> None:
        assert use.backend == ("pkcs11" if isinstance(use.uri, Pkcs11Uri) else "")
        self.said.append(("add", authority.name))
        self._raise(authority.name)

    def prove(self, name: str) -> None:
        self.said.append(("prove", name))
        self._raise(name)

    def sign(self, name: str, _algorithm: SignatureAlgorithm, _octets: bytes) -> bytes:
        self._raise(name)
        return b"signed by " + name.encode()

    def _raise(self, name: str) -> None:
        if name in self.faults:
            raise self.faults[name]


class Made:
    """A worker with two sub-CAs and a clock that stands."""

    def __init__(self, uri: KeyUri = IN_TOKEN) -> None:
        self.ring = Ring()
        self.time = 100.0
        first = default_authority()
        self.worker = Worker(
            rules=Rules(signer_id=1, profiles={}, authorities=(first, replace(first, name=OTHER, number=3))),
            keys=self.ring,
            uses={SIGNING_CA: KeyUse(uri=uri), OTHER: KeyUse(uri=IN_FILE)},
            clock=lambda: self.time,
        )

    def sign(self, name: str = SIGNING_CA) -> Outcome:
        return self.worker.carry_out(Sign(task=next(_numbers), signing_ca=name, algorithm=ECDSA.der, octets=b"octets"))

    def try_key(self) -> Outcome:
        return self.worker.carry_out(TryKey(task=next(_numbers), signing_ca=SIGNING_CA))


def code_of(outcome: Outcome) -> str:
    assert isinstance(outcome, Deferred)
    return outcome.code


def test_a_key_that_is_away_keeps_nobody_else() -> None:
    made, opened = Made(), list[str]()
    made.ring.faults[SIGNING_CA] = AWAY
    made.worker.open_keys(opening=opened.append)
    assert opened == [SIGNING_CA, OTHER]
    assert made.worker.lacking == (LackingKey(signing_ca=SIGNING_CA, code="token-away", message=AWAY.message),)
    assert isinstance(made.sign(OTHER), Signed)


def test_what_is_said_of_it_has_an_end() -> None:
    made, long = Made(), "m" * 10**6
    made.ring.faults[SIGNING_CA] = Unavailable(long, code="token-away")
    made.worker.open_keys()
    made.time += 5
    outcomes = [made.sign()]
    for fault in (OperatorError(long), SignatureMistrusted(long, signing="openssl", verifying="gnutls")):
        made.time += 5
        made.ring.faults[SIGNING_CA] = fault
        outcomes.append(made.sign())
    ready = Ready(configuration_hash=b"", lacking=made.worker.lacking)
    assert [type(each) for each in outcomes] == [Deferred, Deferred, Mistrusted]
    for each in (outcomes, [ready]):
        assert read_outcomes(msgspec.msgpack.encode(each)) == each


def test_it_is_asked_for_again_and_not_all_the_time() -> None:
    made = Made()
    made.ring.faults[SIGNING_CA] = AWAY
    made.worker.open_keys()
    made.ring.said.clear()
    assert [code_of(made.sign()), code_of(made.try_key())] == ["token-away"] * 2
    assert made.ring.said == []

    made.time += 5
    assert [code_of(made.sign()) for _ in range(3)] == ["token-away"] * 3
    assert made.ring.said == [("add", SIGNING_CA)]

    made.ring.faults.clear()
    made.time += 5
    assert isinstance(made.sign(), Signed)
    assert made.worker.lacking == ()


def test_a_probe_brings_it_back() -> None:
    made = Made()
    made.ring.faults[SIGNING_CA] = AWAY
    made.worker.open_keys()
    made.time += 5
    made.ring.faults.clear()
    assert isinstance(made.try_key(), Usable)
    # A key that the worker has is not opened again: it signs.
    made.ring.said.clear()
    assert isinstance(made.try_key(), Usable)
    assert made.ring.said == [("prove", SIGNING_CA)]


def test_a_key_that_ended_others_is_not_opened_at_the_start() -> None:
    made = Made()
    made.worker.open_keys(without=[SIGNING_CA])
    assert made.ring.said == [("add", OTHER)]
    assert [each.code for each in made.worker.lacking] == ["key-left-out"]
    assert isinstance(made.try_key(), Usable)


def test_locked_key_files_lock_the_signer_and_a_locked_token_does_not() -> None:
    made = Made(IN_FILE)
    made.ring.faults[SIGNING_CA] = LOCKED
    with pytest.raises(Unavailable, match="the passphrase is not there"):
        made.worker.open_keys()
    made = Made(IN_TOKEN)
    made.ring.faults[SIGNING_CA] = LOCKED
    made.worker.open_keys()
    assert [each.code for each in made.worker.lacking] == ["locked"]


def test_a_wrong_key_keeps_the_signer_from_starting() -> None:
    made = Made()
    made.ring.faults[SIGNING_CA] = OperatorError("this key does not belong to this sub-CA")
    with pytest.raises(OperatorError, match="does not belong"):
        made.worker.open_keys()


def test_wrong_signatures_are_told_and_not_given(capsys: pytest.CaptureFixture[str]) -> None:
    made = Made()
    made.worker.open_keys()
    made.ring.faults[SIGNING_CA] = WRONG
    for outcome in (made.sign(), made.try_key()):
        assert outcome == Mistrusted(
            task=outcome.task, signing_ca=SIGNING_CA, signing="openssl", verifying="gnutls", message=WRONG.message
        )
    assert capsys.readouterr().err.count("gnutls finds a signature wrong that openssl made") == 2
    assert isinstance(made.sign(OTHER), Signed)


def test_a_key_that_signs_wrongly_at_the_start_is_one_that_is_lacking() -> None:
    made = Made()
    made.ring.faults[SIGNING_CA] = WRONG
    made.worker.open_keys()
    assert [(each.signing_ca, each.code) for each in made.worker.lacking] == [(SIGNING_CA, MISTRUSTED)]
    made.time += 5
    assert isinstance(made.sign(), Mistrusted)
    made.ring.faults.clear()
    made.time += 5
    assert isinstance(made.sign(), Signed)


@pytest.mark.parametrize(
    ("fault", "code"),
    [(OperatorError("the key is gone from the token"), "key-unusable"), (InternalError("odd"), "internal")],
)
def test_whatever_goes_wrong_with_a_key_is_told(fault: CassiopeiaError, code: str) -> None:
    made = Made()
    made.worker.open_keys()
    made.ring.faults[SIGNING_CA] = fault
    assert [code_of(made.sign()), code_of(made.try_key())] == [code] * 2


def test_nobody_tries_the_key_of_a_sub_ca_that_is_not_there() -> None:
    assert code_of(make_worker().carry_out(TryKey(task=1, signing_ca="unassured_2020_1"))) == "unknown-ca"
