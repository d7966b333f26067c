"""Issuing while something stands in the way: nothing new is signed, and what is signed is given out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.conversations import Pair
from tests.support.issuing import assert_failed, certificate_of, journaled, kinds, log_of, wanted
from tests.support.signer import NOW, SIGNING_CA, Front

from cassiopeia.protocol.events import CertificateIssued, LogReceived, RequestAbandoned, RequestFailed
from cassiopeia.signer.gate import Obstacle
from cassiopeia.signer.issuance import INTENT_LIFE_S
from cassiopeia.signer.tasks import Deferred

FULL = Obstacle(code="disk-full", message="the signer's disk is full: make room")


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path)
    yield made
    made.journal.close()


def confirm(front: Front, pair: Pair, log: LogReceived) -> None:
    """Confirm a log, up to the commit."""
    pair.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()


def test_a_new_request_may_be_asked_for_later(front: Front) -> None:
    front.obstacle = FULL
    failed = assert_failed(front.ask(front.connect(), wanted()), "disk-full")
    assert (failed.message, failed.retry_after_s) == (FULL.message, 300)
    assert kinds(front) == []
    front.obstacle = None
    certificate_of(front, front.connect())


def test_version_1_is_sent_away(front: Front) -> None:
    front.obstacle = FULL
    pair = front.connect(1)
    pair.client.submit(wanted(request_id=b""))
    front.settle()
    assert pair.signer.finished
    assert kinds(front) == []


def test_a_certificate_that_is_there_is_given_out(front: Front) -> None:
    signature = certificate_of(front, front.connect())
    front.obstacle = FULL
    assert certificate_of(front, front.connect()) == signature
    front.gate.halt("order", "an audit", now=NOW)
    front.journal.commit()
    front.restart()
    assert certificate_of(front, front.connect()) == signature
    assert kinds(front) == ["intent", "confirmation", "result", "halt"]


def test_a_log_that_is_confirmed_now_is_confirmed_by_nobody(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    front.obstacle = FULL
    assert_failed(front.confirm(pair, log.handle), "disk-full")
    assert kinds(front) == ["intent"]
    assert not front.signing
    # The log comes again all the same, and may be confirmed when the way is free.
    again = log_of(front, pair)
    assert again.log == log.log
    front.obstacle = None
    assert isinstance(front.confirm(pair, again.handle), CertificateIssued)
    assert kinds(front) == ["intent", "confirmation", "result"]


def test_what_was_confirmed_before_is_signed_when_the_way_is_free(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    confirm(front, pair, log)
    task = front.tasks.popleft()
    front.deliver(Deferred(task=task.task, code="internal", message="no key", retry_after_s=60))
    front.answers(pair)
    front.obstacle = FULL
    again = log_of(front, pair)
    assert_failed(front.confirm(pair, again.handle), "disk-full")
    assert not front.signing
    assert journaled(front).state == "confirmed"
    front.obstacle = None
    again = log_of(front, pair)
    assert isinstance(front.confirm(pair, again.handle), CertificateIssued)
    assert kinds(front) == ["intent", "confirmation", "result"]


def test_what_is_being_signed_already_is_given_out(front: Front) -> None:
    pair = front.connect()
    confirm(front, pair, log_of(front, pair))
    assert len(front.signing) == 1
    front.gate.halt("order", "an audit", now=NOW)
    front.settle()
    assert [type(each) for each in front.answers(pair)] == [CertificateIssued]
    assert kinds(front) == ["intent", "confirmation", "halt", "result"]


def test_what_is_decided_behind_a_halt_is_not_journaled(front: Front) -> None:
    """An intent behind a halt would contradict it."""
    pair = front.connect()
    pair.client.submit(wanted())
    front.carry()
    front.gate.halt("order", "an audit", now=NOW)
    front.settle()
    assert_failed(front.answers(pair)[0], "order")
    assert kinds(front) == ["halt"]
    assert front.issuance.issued == {}


def test_a_refusal_behind_a_halt_is_one(front: Front) -> None:
    pair = front.connect()
    pair.client.submit(wanted(profile="none"))
    front.carry()
    front.obstacle = FULL
    front.settle()
    assert len(front.answers(pair)) == 1
    assert kinds(front) == ["refusal"]


def test_a_veto_that_comes_together_with_its_request_is_answered(front: Front) -> None:
    front.obstacle = FULL
    pair = front.connect()
    handle = pair.client.submit(wanted())
    pair.client.abandon(handle, "changed my mind")
    front.settle()
    assert front.answers(pair) == [RequestAbandoned(handle=handle)]
    assert kinds(front) == []


def test_a_veto_of_a_request_that_was_answered_at_once_is_passed_over(front: Front) -> None:
    """The second one has its answer before its veto is looked at."""
    pair = front.connect()
    pair.client.submit(wanted())
    twin = pair.client.submit(wanted())
    pair.client.abandon(twin, "changed my mind")
    front.carry()
    (answer,) = front.answers(pair)
    assert isinstance(answer, RequestFailed)
    assert (answer.handle, answer.code) == (twin, "busy")


def test_intents_end_all_the_same(front: Front) -> None:
    pairs = front.connect(), front.connect()
    logs = [log_of(front, pair, wanted(request_id=bytes([number]) * 32)) for number, pair in enumerate(pairs)]
    front.obstacle = FULL
    pairs[0].client.abandon(logs[0].handle, "veto")
    front.settle()
    front.clock += INTENT_LIFE_S + 1
    front.issuance.expire(now=NOW)
    front.journal.commit()
    assert [type(front.answers(pair)[0]) for pair in pairs] == [RequestAbandoned] * 2
    assert kinds(front) == ["intent", "intent", "abandonment", "abandonment"]
    assert front.issuance.issued == {SIGNING_CA: 0}
