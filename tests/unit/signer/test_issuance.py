from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import NOW, default_authority, subject_public_key_info
from tests.support.issuing import REQUEST_ID, assert_failed, intent_in, journaled, kinds, log_of, wanted
from tests.support.signer import BOOT_ID, CONFIGURATION_HASH, SIGNING_CA, Front

from cassiopeia.core import merkle
from cassiopeia.core.certificate import check_certificate, check_tbs, compose_certificate
from cassiopeia.core.request import request_digest
from cassiopeia.errors import StateUnknown
from cassiopeia.journal.entry import as_request
from cassiopeia.protocol.events import (
    CertificateIssued,
    LogReceived,
    RequestFailed,
    RequestRefused,
)
from cassiopeia.signer.tasks import Decided, Deferred, Signed


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path)
    yield made
    made.journal.close()


# The order of things.


def test_the_log_leaves_after_the_intent_is_durable_and_before_any_key_is_used(front: Front) -> None:
    pair = front.connect()
    pair.client.submit(wanted())
    front.carry()
    assert kinds(front) == []
    front.work()
    # Journaled, and not a word of it outside before the disk has it.
    assert kinds(front) == ["intent"]
    assert front.answers(pair) == []
    front.journal.commit()
    (log,) = front.answers(pair)
    assert isinstance(log, LogReceived)
    assert not front.tasks

    entry, intent, part = intent_in(log.log)
    ((_, first, _),) = front.journal.entries(1, 1)
    assert (entry.signer_id, entry.kind, entry.index, entry.time) == (1, "intent", 2, NOW)
    assert entry.previous_hash == merkle.leaf_hash(first)
    assert (intent.boot_id, intent.configuration_hash, intent.protocol) == (BOOT_ID, CONFIGURATION_HASH, 2)
    assert (intent.request_id, intent.request_digest) == (REQUEST_ID, request_digest(wanted()))
    assert (intent.profile, intent.signing_ca) == (wanted().profile, SIGNING_CA)
    assert as_request(part, request_id=REQUEST_ID) == wanted()
    check_tbs(
        part.tbs_certificate,
        request=wanted(),
        subject_public_key_info=subject_public_key_info(wanted()),
        authority=default_authority(),
    )
    assert journaled(front).log == log.log


def test_the_key_is_used_after_the_confirmation_is_durable(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    assert kinds(front) == ["intent", "confirmation"]
    assert not front.tasks
    front.journal.commit()
    assert len(front.signing) == 1


def test_the_signature_leaves_after_the_result_is_durable(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    front.work()
    assert kinds(front) == ["intent", "confirmation", "result"]
    assert front.answers(pair) == []
    front.journal.commit()
    (issued,) = front.answers(pair)
    assert isinstance(issued, CertificateIssued)
    assert (issued.signing_ca, issued.index) == (SIGNING_CA, 4)
    _, _, part = intent_in(log.log)
    check_certificate(
        compose_certificate(part.tbs_certificate, issued.signature or b""),
        request=wanted(),
        subject_public_key_info=subject_public_key_info(wanted()),
        authority=default_authority(),
    )


def test_many_requests_of_one_turn_share_its_commits(front: Front) -> None:
    pair = front.connect()
    for number in range(20):
        pair.client.submit(wanted(request_id=bytes([number]) * 32))
    front.settle()
    logs = front.answers(pair)
    assert len(logs) == 20
    for log in logs:
        assert isinstance(log, LogReceived)
        pair.client.confirm_log(log.handle)
    front.settle()
    assert len(front.answers(pair)) == 20
    assert front.journal.commits == 1 + 3  # the first is the beginning of the journal
    assert front.issuance.issued == {SIGNING_CA: 20}


@pytest.mark.parametrize("step", ["intent", "confirmation", "result"])
def test_when_the_disk_fails_nothing_leaves(front: Front, step: str) -> None:
    pair = front.connect()
    pair.client.submit(wanted())
    front.carry()
    if step != "intent":
        front.work()
        front.journal.commit()
        (log,) = front.answers(pair)
        assert isinstance(log, LogReceived)
        pair.client.confirm_log(log.handle)
        front.carry()
    if step == "result":
        front.journal.commit()
    front.work()
    assert kinds(front)[-1] == step
    # The database is gone under the journal's hands.
    front.journal._database.close()
    with pytest.raises(StateUnknown):
        front.journal.commit()
    assert front.answers(pair) == []
    assert not front.signing


# What the client says.


def test_a_wrong_hash_signs_nothing_and_the_request_may_come_again(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    exchange = pair.client._exchange(log.handle)
    exchange.log_hash = hashlib.sha256(log.log + b"!").digest()
    assert_failed(front.confirm(pair, log.handle), "log-mismatch")
    assert kinds(front) == ["intent"]
    assert not front.signing

    again = log_of(front, pair)
    assert again.log == log.log
    assert isinstance(front.confirm(pair, again.handle), CertificateIssued)


def test_a_log_is_confirmed_by_its_own_hash_and_no_other(front: Front) -> None:
    """Each of two logs confirmed with the other's hash."""
    pair = front.connect()
    logs = [log_of(front, pair, wanted(request_id=each * 32)) for each in (b"1", b"2")]
    first, second = (pair.client._exchange(each.handle) for each in logs)
    first.log_hash, second.log_hash = second.log_hash, first.log_hash
    for each in logs:
        assert_failed(front.confirm(pair, each.handle), "log-mismatch")
    assert not front.signing


def test_a_refusal_is_journaled_and_then_told(front: Front) -> None:
    pair = front.connect()
    pair.client.submit(wanted(profile="none"))
    front.carry()
    front.work()
    assert kinds(front) == ["refusal"]
    assert front.answers(pair) == []
    front.journal.commit()
    (refused,) = front.answers(pair)
    assert isinstance(refused, RequestRefused)
    assert (refused.code, refused.field) == ("profile-unknown", "profile")
    # Refused is final for the request as it was, not for its id: nothing exists under it.
    assert isinstance(front.ask(pair, wanted()), LogReceived)


def test_what_cannot_be_decided_now_is_not_journaled(front: Front) -> None:
    pair = front.connect()
    front.issuance.issued[SIGNING_CA] = front.authority.maximum_certificates
    failed = assert_failed(front.ask(pair, wanted()), "authority-full")
    assert failed.retry_after_s == 3600
    assert kinds(front) == []


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Deferred(task=1, code="worker-died", message="ended two workers", retry_after_s=300), "worker-died"),
        (Signed(task=1, signature=b"not asked for"), "internal"),
        (
            Decided(task=1, signing_ca="elsewhere", serial_number=b"1" * 16, algorithm=b"", tbs_certificate=b""),
            "internal",
        ),
    ],
)
def test_whatever_a_worker_answers_the_request_has_its_answer(
    front: Front, outcome: Deferred | Signed | Decided, code: str
) -> None:
    pair = front.connect()
    pair.client.submit(wanted())
    front.carry()
    front.tasks.clear()
    front.deliver(outcome)
    front.journal.commit()
    (answer,) = front.answers(pair)
    assert_failed(answer, code)
    assert kinds(front) == []


def test_an_outcome_of_a_task_that_nobody_gave_is_nobodys(front: Front) -> None:
    assert not front.issuance.delivered(Signed(task=99, signature=b""), now=NOW)


def test_a_signature_that_could_not_be_made_may_be_asked_for_again(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    (task,) = front.signing
    front.tasks.clear()
    front.deliver(Deferred(task=task.task, code="internal", message="no key", retry_after_s=7))
    (failed,) = front.answers(pair)
    assert assert_failed(failed, "internal").retry_after_s == 7
    assert journaled(front).state == "confirmed"
    # The intent is confirmed for good: the same certificate comes when the key is there again.
    again = log_of(front, pair)
    assert again.log == log.log
    assert isinstance(front.confirm(pair, again.handle), CertificateIssued)
    assert kinds(front) == ["intent", "confirmation", "result"]


# Room.


def test_a_sub_ca_that_fills_up_between_decision_and_journal_takes_no_more(tmp_path: Path) -> None:
    front = Front(directory=tmp_path, authority=dataclasses.replace(default_authority(), maximum_certificates=2))
    pair = front.connect()
    for number in range(3):
        pair.client.submit(wanted(request_id=bytes([number]) * 32))
    front.settle()
    answers = front.answers(pair)
    assert [type(each) for each in answers] == [LogReceived, LogReceived, RequestFailed]
    failed = assert_failed(answers[2], "busy")
    assert (failed.retry_after_s, SIGNING_CA in failed.message) == (1, True)
    assert front.issuance.issued == {SIGNING_CA: 2}
    # One that is abandoned makes room.
    assert isinstance(answers[0], LogReceived)
    pair.client.abandon(answers[0].handle, "veto")
    front.settle()
    front.answers(pair)
    assert isinstance(front.ask(pair, wanted(request_id=b"4" * 32)), LogReceived)
    front.journal.close()


# Times.


def test_times_in_the_journal_are_the_signers(front: Front) -> None:
    front.now = NOW + dt.timedelta(hours=3)
    entry, _, _ = intent_in(log_of(front, front.connect()).log)
    assert entry.time == front.now
