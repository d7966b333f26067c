"""What whoever holds a part of the system gets from the signer, and what not: lines of the threat model."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.support.authorities import NOW, PROFILES, alt_names, certification_request, load_profile
from tests.support.evidence import TestValidator, judging_worker
from tests.support.issuing import assert_failed, certificate_of, intent_in, kinds, log_of, wanted
from tests.support.signer import CONFIGURATION_HASH, Front

from cassiopeia.core import rules_document
from cassiopeia.core.evidence import OBSERVATION_KINDS
from cassiopeia.core.request import CertificateRequest
from cassiopeia.journal.entry import decode_body, decode_entry
from cassiopeia.journal.order import CAPS, DisableValidator, EnableValidator, RaiseCap
from cassiopeia.journal.replay import Replay
from cassiopeia.protocol.events import OrderObeyed, RequestRefused
from cassiopeia.signer.journal_file import FILE_NAME
from cassiopeia.signer.journal_reader import read_journal
from cassiopeia.signer.worker import Worker

PROFILE: Final = load_profile("0004-server")
# Attests whatever waits in the queue under the account that stands there, as `cassiopeia validator run` does.
AUTOMATIC: Final = TestValidator()
# Somebody else has this one's key.
CAPTURED: Final = TestValidator(b"c", name="captured")


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    limits = dict(CAPS) | {"validator-certificates": 2}
    made = Front(directory=tmp_path, validators=(AUTOMATIC.key_id, CAPTURED.key_id), limits=limits)
    made.worker = judging_worker(AUTOMATIC, CAPTURED)
    yield made
    made.journal.close()


def wish(name: str = "www.example.org", *, number: int = 1, **changes: object) -> CertificateRequest:
    values = {"profile": PROFILE.name, "attributes": (), "alt_names": alt_names(f"DNS,{name}")} | changes
    return wanted(**({"request_id": bytes([number]) * 32} | values))


def of_alice(validator: TestValidator = AUTOMATIC) -> tuple[bytes, ...]:
    """What was observed for alice, and lies in the store for everybody who can read there."""
    return validator.observe_all(wish(), PROFILE)


def test_the_store_gets_what_was_proved_for_an_account_if_a_validator_believes_it(front: Front) -> None:
    """A request that alice never made, with somebody else's key: the validator has nothing but the store's word."""
    mine = wish(key_proof=certification_request("Ed25519"))
    request = AUTOMATIC.prove(mine, *of_alice(), nonce=front.nonces.current)
    assert certificate_of(front, front.connect(), request)


def test_the_store_moves_no_proof_to_another_account_name_or_kind(front: Front) -> None:
    pair = front.connect()
    for number, request in enumerate(
        (
            wish(account="mallory"),
            wish("bank.example.com"),
            wish("www.example.org.example.com"),
            wish("*.example.org"),
        ),
        start=1,
    ):
        asked = dataclasses.replace(request, request_id=bytes([number]) * 32)
        answer = front.ask(pair, AUTOMATIC.prove(asked, *of_alice(), nonce=front.nonces.current))
        assert isinstance(answer, RequestRefused)
    assert kinds(front) == ["refusal"] * 4


def test_without_a_validator_s_key_no_request_and_no_key_is_certified(front: Front) -> None:
    """The store has alice's proofs, and an attestation of her request: they are for her request and her key."""
    pair = front.connect()
    honest = AUTOMATIC.prove(wish(), *of_alice(), nonce=front.nonces.current)
    attempts = [
        dataclasses.replace(honest, proofs=()),
        dataclasses.replace(honest, proofs=of_alice()),
        dataclasses.replace(honest, request_id=b"x" * 32),
        dataclasses.replace(honest, key_proof=certification_request("Ed25519")),
        dataclasses.replace(honest, wish_to="6m"),
    ]
    for attempt in attempts:
        assert isinstance(front.ask(pair, attempt), RequestRefused)
    own = TestValidator(b"o", name="their own")
    assert_failed(front.ask(pair, own.prove_all(wish(), PROFILE, nonce=front.nonces.current)), "validator-unknown")
    assert certificate_of(front, pair, honest)


def test_a_captured_validator_has_any_name_certified_until_its_cap(front: Front) -> None:
    pair = front.connect()

    def attempt(number: int) -> CertificateRequest:
        request = wish(
            f"bank-{number}.example.com",
            number=number,
            account="mallory",
            key_proof=certification_request("Ed25519"),
        )
        return CAPTURED.prove_all(request, PROFILE, nonce=front.nonces.current)

    for number in (1, 2):
        assert certificate_of(front, pair, attempt(number))
    assert_failed(front.ask(pair, attempt(3)), "cap-validator-certificates")
    # What others prove goes on.
    assert certificate_of(front, pair, AUTOMATIC.prove_all(wish(number=4), PROFILE, nonce=front.nonces.current))
    # An hour later it could go on, had nobody disabled it.
    front.now += dt.timedelta(hours=1, minutes=2)
    front.clock += 3720
    assert isinstance(front.tell(pair, DisableValidator(validator=CAPTURED.key_id), 0), OrderObeyed)
    fresh = CAPTURED.observe_all(wish(account="mallory"), PROFILE, observed_at=front.now)
    assert_failed(
        front.ask(pair, CAPTURED.prove(wish(number=5, account="mallory"), *fresh, nonce=front.nonces.current)),
        "reattest",
    )


def test_what_a_captured_validator_had_certified_stands_in_the_journal_under_its_key(front: Front) -> None:
    request = CAPTURED.prove_all(wish("bank.example.com"), PROFILE, nonce=front.nonces.current)
    _, _, part = intent_in(log_of(front, front.connect(), request).log)
    assert part.proofs == request.proofs
    assert all(CAPTURED.key_id in each for each in part.proofs)


@pytest.mark.parametrize("kinds_", [("attestation",), OBSERVATION_KINDS], ids=["attests-only", "observes-only"])
def test_a_captured_validator_of_some_kinds_proves_nothing_alone(front: Front, kinds_: tuple[str, ...]) -> None:
    captured = TestValidator(b"c", kinds=kinds_)
    front.worker = judging_worker(AUTOMATIC, captured)
    request = captured.prove_all(wish("bank.example.com", account="mallory"), PROFILE, nonce=front.nonces.current)
    assert_failed(front.ask(front.connect(), request), "validator-unknown")


def test_one_operator_stops_and_starts_nothing_again(front: Front) -> None:
    pair = front.connect()
    assert isinstance(front.tell(pair, DisableValidator(validator=AUTOMATIC.key_id), 0), OrderObeyed)
    for loosens in (
        EnableValidator(validator=AUTOMATIC.key_id),
        RaiseCap(cap="revocations", limit=50_000, hours=1),
    ):
        answer = front.tell(pair, loosens, 0)
        assert isinstance(answer, RequestRefused)
        assert answer.code == "order-quorum"


def test_the_client_s_machine_is_answered_without_end_and_fills_no_disk(front: Front) -> None:
    """Each request of its own making is refused; so many of them an hour are written down."""
    front.limits["refusals"] = 3
    front.restart()
    pair = front.connect()
    answers = [front.ask(pair, wish(request_id=hashlib.sha256(b"%d" % number).digest())) for number in range(10)]
    assert [isinstance(each, RequestRefused) for each in answers].count(True) == 3
    rows = front.journal._database.execute("SELECT entry FROM entry").fetchall()
    refusals = [each for (octets,) in rows if (each := decode_entry(octets)).kind == "refusal"]
    assert len(refusals) == 3
    assert {decode_body(each).code for each in refusals} == {"evidence-missing"}
    assert front.now == NOW


def test_a_worker_that_lies_is_believed_by_the_front_and_found_by_a_stranger(front: Front) -> None:
    """It was taken over: what nobody proved is approved, and all that the front can do is to write it down."""
    front.journal.record_configuration(CONFIGURATION_HASH, documents(front), now=front.now)
    honest = front.worker
    lenient = dataclasses.replace(PROFILE, evidence=())
    front.worker = Worker(rules=dataclasses.replace(honest._rules, profiles={PROFILE.name: lenient}), keys=honest._keys)
    assert certificate_of(front, front.connect(), wish("bank.example.com"))
    front.journal.close()

    replay = Replay(judge=True)
    for log in read_journal(front.directory / FILE_NAME):
        replay.append(log)
    assert replay.judging is not None
    (found,) = replay.judging.findings.kept
    assert "attestation, dns-control for bank.example.com" in found.reason


def documents(front: Front) -> list[tuple[str, bytes]]:
    """What requests were to be judged by."""
    pinned = rules_document.PinnedValidator(
        name="front", public_key=AUTOMATIC.public_key, kinds=tuple(sorted(AUTOMATIC.pinned.kinds))
    )
    rules = rules_document.RulesDocument(signer_id=1, validators=(pinned,))
    return [
        (rules_document.RULES_DOCUMENT, rules_document.encode_rules_document(rules)),
        (f"{PROFILE.name}.toml", (PROFILES / f"{PROFILE.name}.toml").read_bytes()),
        (f"{front.authority.name}.crt", front.authority.certificate),
    ]
