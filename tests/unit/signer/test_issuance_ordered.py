"""Orders and caps, from the line to the journal: what is under way when an order comes, and what waits for a cap."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import certification_request, default_ca, make_authority
from tests.support.conversations import Pair
from tests.support.issuing import (
    assert_failed,
    certificate_of,
    journaled,
    kinds,
    log_of,
    wanted,
)
from tests.support.signer import Front

from cassiopeia.core.csr import parse_certification_request
from cassiopeia.core.request import CertificateRequest
from cassiopeia.journal.order import (
    CAPS,
    Arguments,
    BlockKey,
    DisableValidator,
    EnableValidator,
    HaltAuthority,
    RaiseCap,
    ResumeAuthority,
    UnblockKey,
)
from cassiopeia.protocol.events import (
    CertificateIssued,
    LogReceived,
    OrderObeyed,
    RequestAbandoned,
    RequestFailed,
    RequestRefused,
)

CA = make_authority(default_ca()).name
KEY_ID = b"v" * 8
HALT = HaltAuthority(authority=CA)
RESUME = ResumeAuthority(authority=CA)
KEY_HASH = hashlib.sha256(parse_certification_request(certification_request()).subject_public_key_info).digest()
BLOCK = BlockKey(key_hash=KEY_HASH)
UNBLOCK = UnblockKey(key_hash=KEY_HASH)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path, validators=(KEY_ID,))
    yield made
    made.journal.close()


@pytest.fixture
def pair(front: Front) -> Pair:
    return front.connect()


def obeyed(front: Front, pair: Pair, arguments: Arguments) -> None:
    assert isinstance(front.tell(pair, arguments), OrderObeyed)


def request(number: int, **changes: object) -> CertificateRequest:
    return wanted(request_id=bytes([number]) * 32, **changes)


# --- what an order does


@pytest.mark.parametrize(
    ("restricts", "loosens"),
    [
        (HALT, RESUME),
        (BLOCK, UNBLOCK),
        (DisableValidator(validator=KEY_ID), EnableValidator(validator=KEY_ID)),
    ],
    ids=["authority", "key", "validator"],
)
def test_what_stands_outlives_a_restart_and_ends_by_an_order(
    front: Front, pair: Pair, restricts: Arguments, loosens: Arguments
) -> None:
    nothing = front.orders.in_force
    obeyed(front, pair, restricts)
    obeyed(front, pair, restricts)  # is harmless
    stands = front.orders.in_force
    assert stands != nothing
    front.restart()
    assert front.orders.in_force == stands
    pair = front.connect()
    assert isinstance(front.tell(pair, loosens, 0), RequestRefused)
    obeyed(front, pair, loosens)
    assert front.orders.in_force == nothing
    front.restart()
    assert front.orders.in_force == nothing


def test_a_halted_sub_ca_issues_nothing(front: Front, pair: Pair) -> None:
    obeyed(front, pair, HALT)
    answer = assert_failed(front.ask(pair, wanted()), "authority-halted")
    assert f"{CA} is halted by an order" in answer.message
    obeyed(front, pair, RESUME)
    assert certificate_of(front, pair)


def test_its_revocations_and_crls_go_on(front: Front, pair: Pair) -> None:
    serial = 1 << 120
    front.record_issued(serial)
    obeyed(front, pair, HALT)
    front.revocation.renew(now=front.now)
    front.settle()
    assert kinds(front)[-1] == "crl"
    assert front.ask_full(pair)


def test_a_blocked_key_is_refused_for_good(front: Front, pair: Pair) -> None:
    obeyed(front, pair, BLOCK)
    answer = front.ask(pair, wanted())
    assert isinstance(answer, RequestRefused)
    assert answer.code == "key-blocked"


# --- what is under way


@pytest.mark.parametrize(
    "arguments", [HALT, BLOCK, DisableValidator(validator=KEY_ID)], ids=lambda each: type(each).__name__
)
def test_what_is_not_confirmed_is_decided_anew(front: Front, pair: Pair, arguments: Arguments) -> None:
    log = log_of(front, pair)
    other = front.connect()
    pair_before = len(kinds(front))
    obeyed(front, other, arguments)
    assert kinds(front)[pair_before:] == ["order", "abandonment"]
    (answer,) = front.answers(pair)
    assert isinstance(answer, RequestAbandoned)
    assert answer.handle == log.handle
    assert answer.head is not None
    assert front.issuance.issued[CA] == 0


def test_what_loosens_disturbs_nobody(front: Front, pair: Pair) -> None:
    log = log_of(front, pair)
    obeyed(front, front.connect(), RESUME)
    assert isinstance(front.confirm(pair, log.handle), CertificateIssued)


def test_what_a_worker_decides_meanwhile_is_decided_anew(front: Front, pair: Pair) -> None:
    pair.client.submit(wanted())
    front.carry()
    (task,) = front.tasks
    front.tasks.clear()
    outcome = front.worker.carry_out(task)
    obeyed(front, front.connect(), BLOCK)
    front.deliver(outcome)
    front.settle()
    (answer,) = front.answers(pair)
    assert_failed(answer, "busy")
    assert "intent" not in kinds(front)


@pytest.mark.parametrize(("arguments", "code"), [(HALT, "authority-halted"), (BLOCK, "key-blocked")])
def test_a_confirmed_intent_is_not_signed(front: Front, pair: Pair, arguments: Arguments, code: str) -> None:
    """Nothing was signed yet when the power went: the promise stands, and waits for the operators."""
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    assert len(front.signing) == 1
    front.restart()
    assert journaled(front).state == "confirmed"
    pair = front.connect()
    obeyed(front, pair, arguments)
    log = log_of(front, pair)
    assert_failed(front.confirm(pair, log.handle), code)
    assert front.signing == []
    obeyed(front, pair, RESUME if arguments is HALT else UNBLOCK)
    log = log_of(front, pair)
    assert isinstance(front.confirm(pair, log.handle), CertificateIssued)


def test_a_confirmation_that_waits_for_the_disk_while_the_order_comes_is_not_signed(front: Front, pair: Pair) -> None:
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    obeyed(front, front.connect(), HALT)
    (answer,) = front.answers(pair)
    assert_failed(answer, "authority-halted")
    assert "result" not in kinds(front)


@pytest.mark.parametrize(("restrict", "loosen"), [(HALT, RESUME), (BLOCK, UNBLOCK)])
def test_what_a_worker_signs_while_the_order_comes_does_not_come_out(
    front: Front, pair: Pair, restrict: Arguments, loosen: Arguments
) -> None:
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    (task,) = front.signing
    front.tasks.clear()
    signed = front.worker.carry_out(task)
    obeyed(front, front.connect(), restrict)
    front.deliver(signed)
    front.settle()
    (answer,) = front.answers(pair)
    assert isinstance(answer, RequestFailed)
    assert "result" not in kinds(front)
    obeyed(front, front.connect(), loosen)
    assert certificate_of(front, pair)


def test_what_is_signed_already_is_given_out(front: Front, pair: Pair) -> None:
    first = certificate_of(front, pair)
    obeyed(front, pair, HALT)
    log = log_of(front, pair)
    again = front.confirm(pair, log.handle)
    assert isinstance(again, CertificateIssued)
    assert again.signature == first


# --- orders that are not obeyed


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (HaltAuthority(authority="assured_1999_1"), "order-authority", "no sub-CA named 'assured_1999_1'; it has"),
        (ResumeAuthority(authority="assured_1999_1"), "order-authority", "no sub-CA named"),
        (DisableValidator(validator=b"w" * 8), "order-validator", "7777777777777777 is pinned"),
        (EnableValidator(validator=b"w" * 8), "order-validator", "is pinned in this signer's signer.toml"),
        (RaiseCap(cap="refusals", limit=2, hours=1), "order-cap", "is 3 in this signer's signer.toml"),
    ],
)
def test_an_order_about_what_this_signer_does_not_have_is_refused(
    tmp_path: Path, arguments: Arguments, code: str, words: str
) -> None:
    front = Front(directory=tmp_path, validators=(KEY_ID,), limits=dict.fromkeys(CAPS, 3))
    answer = front.tell(front.connect(), arguments)
    assert isinstance(answer, RequestRefused)
    assert answer.code == code
    assert words in answer.message
    assert kinds(front) == []
    front.journal.close()


def test_a_signer_that_lost_its_past_takes_no_order_that_would_be_forgotten(front: Front, pair: Pair) -> None:
    front.gate.halt("lost-past", "shorter than it was", now=front.now)
    answer = front.tell(pair, HALT)
    assert_failed(answer, "lost-past")
    assert "order" not in kinds(front)


# --- caps


@pytest.fixture
def capped(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path, limits=dict.fromkeys(CAPS, 100) | {"account-certificates": 2})
    yield made
    made.journal.close()


def test_a_certificate_over_the_cap_waits_and_comes(capped: Front) -> None:
    pair = capped.connect()
    for number in (1, 2):
        certificate_of(capped, pair, request(number))
    answer = assert_failed(capped.ask(pair, request(3)), "cap-account-certificates")
    assert "2 certificates an hour for the account 'alice'" in answer.message
    assert not capped.tasks
    certificate_of(capped, pair, request(4, account="bob", key_proof=certification_request("Ed25519")))
    capped.now += dt.timedelta(seconds=answer.retry_after_s)
    certificate_of(capped, pair, request(3))


def test_what_was_given_is_given_again_whatever_the_cap(capped: Front) -> None:
    pair = capped.connect()
    first = certificate_of(capped, pair, request(1))
    certificate_of(capped, pair, request(2))
    assert certificate_of(capped, pair, request(1)) == first


def test_a_cap_holds_after_a_restart_and_is_raised_by_an_order(capped: Front) -> None:
    pair = capped.connect()
    for number in (1, 2):
        certificate_of(capped, pair, request(number))
    capped.now += dt.timedelta(minutes=30)
    capped.restart()
    pair = capped.connect()
    assert_failed(capped.ask(pair, request(3)), "cap-account-certificates")
    raised = RaiseCap(cap="account-certificates", limit=3, hours=1)
    assert isinstance(capped.tell(pair, raised, 0), RequestRefused)
    obeyed(capped, pair, raised)
    certificate_of(capped, pair, request(3))
    assert_failed(capped.ask(pair, request(4)), "cap-account-certificates")
    capped.now += dt.timedelta(minutes=61)
    for number in (4, 5):
        certificate_of(capped, pair, request(number))
    assert_failed(capped.ask(pair, request(6)), "cap-account-certificates")


def test_many_at_once_do_not_slip_through(capped: Front) -> None:
    """Decided together, before any was counted: each is looked at again when its intent is written."""
    pair = capped.connect()
    for number in range(1, 6):
        pair.client.submit(request(number))
    capped.settle()
    answers = capped.answers(pair)
    assert [type(each) for each in answers].count(LogReceived) == 2
    assert {each.code for each in answers if isinstance(each, RequestFailed)} == {"cap-account-certificates"}
    assert kinds(capped).count("intent") == 2


def test_so_many_intents_are_open_and_no_more(tmp_path: Path) -> None:
    front = Front(directory=tmp_path, limits=dict.fromkeys(CAPS, 100) | {"open-intents": 1})
    pair = front.connect()
    log = log_of(front, pair, request(1))
    assert_failed(front.ask(pair, request(2)), "cap-open-intents")
    assert isinstance(front.confirm(pair, log.handle), CertificateIssued)
    log_of(front, pair, request(2))
    front.journal.close()


def test_a_flood_of_bad_requests_writes_so_much_and_no_more(tmp_path: Path) -> None:
    front = Front(directory=tmp_path, limits=dict.fromkeys(CAPS, 100) | {"refusals": 2})
    pair = front.connect()
    bad = [request(number, profile="nonsense") for number in range(1, 6)]
    first = [front.ask(pair, each) for each in bad]
    assert [type(each) for each in first] == [RequestRefused] * 2 + [RequestFailed] * 3
    failed = assert_failed(first[-1], "cap-refusals")
    assert "knows no profile 'nonsense'" in failed.message
    assert kinds(front) == ["refusal"] * 2
    front.now += dt.timedelta(seconds=failed.retry_after_s)
    assert isinstance(front.ask(pair, bad[-1]), RequestRefused)
    front.journal.close()
