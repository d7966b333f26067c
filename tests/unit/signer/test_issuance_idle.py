"""Requests whose sub-CA has no key at the moment, or is halted because a signature was wrong: they wait, and come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.conversations import Pair
from tests.support.issuing import assert_failed, journaled, kinds, log_of, wanted
from tests.support.signer import NOW, SIGNING_CA, Front

from cassiopeia.core.authority import Idle
from cassiopeia.journal.entry import SIGNATURE_HALT
from cassiopeia.journal.order import ResumeAuthority
from cassiopeia.protocol.events import CertificateIssued, OrderObeyed, RequestAbandoned
from cassiopeia.signer.tasks import Deferred, Mistrusted, Sign

AWAY = Idle(code="key-away", why="cannot use its key now", retry_after_s=15)
CODE = SIGNATURE_HALT + SIGNING_CA


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path)
    yield made
    made.journal.close()


def signing(front: Front) -> tuple[Pair, Sign]:
    """A request whose log is confirmed, and the task that a worker was given."""
    pair = front.connect()
    pair.client.confirm_log(log_of(front, pair).handle)
    front.carry()
    front.journal.commit()
    task = front.tasks.popleft()
    assert isinstance(task, Sign)
    return pair, task


def test_nothing_is_promised_without_a_key(front: Front) -> None:
    front.idle[SIGNING_CA] = AWAY
    assert_failed(front.ask(front.connect(), wanted()), "key-away")
    assert kinds(front) == []


def test_what_was_decided_when_it_had_a_key_is_not_promised_behind_that(front: Front) -> None:
    pair = front.connect()
    pair.client.submit(wanted())
    front.carry()
    front.idle[SIGNING_CA] = AWAY
    front.settle()
    assert_failed(front.answers(pair)[0], "key-away")
    assert kinds(front) == []


def test_what_was_promised_and_not_confirmed_is_for_another(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    front.issuance.became_idle("unassured_2026_9", NOW)
    assert journaled(front).state == "intent"
    front.issuance.became_idle(SIGNING_CA, NOW)
    front.settle()
    (answer,) = front.answers(pair)
    assert isinstance(answer, RequestAbandoned)
    assert answer.handle == log.handle
    assert kinds(front) == ["intent", "abandonment"]


def test_what_was_confirmed_is_signed_when_the_key_is_there(front: Front) -> None:
    pair, task = signing(front)
    front.idle[SIGNING_CA] = AWAY
    front.deliver(Deferred(task=task.task, code="token-away", message="the token ca is away", retry_after_s=5))
    front.journal.commit()
    (waits,) = front.answers(pair)
    assert_failed(waits, "key-away")
    # Nobody asks the key before it is there.
    again = log_of(front, pair)
    assert_failed(front.confirm(pair, again.handle), "key-away")
    assert not front.signing
    front.idle.clear()
    again = log_of(front, pair)
    assert isinstance(front.confirm(pair, again.handle), CertificateIssued)
    assert kinds(front) == ["intent", "confirmation", "result"]


def test_a_sub_ca_is_resumed_by_order_and_the_certificate_comes_once(front: Front) -> None:
    pair, task = signing(front)
    front.gate.halt(CODE, "gnutls finds it wrong", now=NOW)
    front.deliver(
        Mistrusted(task=task.task, signing_ca=SIGNING_CA, signing="openssl", verifying="gnutls", message="wrong")
    )
    # The halt that it names is on the disk first.
    assert front.answers(pair) == []
    front.journal.commit()
    (waits,) = front.answers(pair)
    assert_failed(waits, "authority-halted")
    front.restart()
    pair = front.connect()
    assert_failed(front.confirm(pair, log_of(front, pair).handle), "authority-halted")

    assert isinstance(front.tell(pair, ResumeAuthority(authority=SIGNING_CA)), OrderObeyed)
    assert isinstance(front.confirm(pair, log_of(front, pair).handle), CertificateIssued)
    assert kinds(front) == ["intent", "confirmation", "halt", "order", "resume", "result"]
    # One that is not halted is resumed by nothing.
    assert isinstance(front.tell(pair, ResumeAuthority(authority=SIGNING_CA)), OrderObeyed)
    assert kinds(front)[-2:] == ["result", "order"]
