"""The same revocation again, CRLs that cannot be signed now, and those that were lost."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.conversations import Pair
from tests.support.issuing import assert_failed
from tests.support.revoking import Copy, kinds, renew, revoke
from tests.support.signer import NOW, Front, record_issued

from cassiopeia.core import crl
from cassiopeia.core.request import RevocationRequest
from cassiopeia.journal import entry as entries
from cassiopeia.journal.crls import NUMBERS_SKIPPED
from cassiopeia.protocol import payload
from cassiopeia.protocol.events import RequestRefused, RevocationAnswered
from cassiopeia.signer.gate import Obstacle
from cassiopeia.signer.tasks import Deferred

DAY = dt.timedelta(days=1)
ID = b"i" * 32
WILD = Obstacle(code="clock-implausible", message="the signer's clock is wild", stops_crls=True)
FULL = Obstacle(code="disk-full", message="the signer's disk is full")


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path)
    yield made
    made.journal.close()


def answered(front: Front, request: RevocationRequest, pair: Pair | None = None) -> payload.RevokedAnswer:
    event = revoke(front, pair or front.connect(), request)
    assert isinstance(event, RevocationAnswered)
    return event.answer


def journaled(front: Front) -> list[tuple[bytes, int]]:
    """Of every entry about revocations: the id, and how many were new."""
    found = []
    for _, octets, _ in front.journal.entries(1, front.journal.next_position):
        body = entries.decode_body(entries.decode_entry(octets))
        if isinstance(body, entries.Revocations):
            found.append((body.request_id, len(body.entries)))
    return found


def answers_in_journal(front: Front) -> list[tuple[bytes, ...]]:
    """Which ids each CRL answers."""
    bodies = [entries.decode_body(entries.decode_entry(octets)) for _, octets, _ in front.journal.entries(1, 1000)]
    return [body.answers for body in bodies if isinstance(body, entries.SignedCrl)]


# The same id.


def test_the_same_id_has_the_same_answer_to_the_octet(front: Front) -> None:
    first, second = record_issued(front.journal, 1, 2)
    request = Copy(front).request(first, request_id=ID)
    answer = answered(front, request)
    front.now += DAY
    # Another revocation in between, and a restart.
    answered(front, Copy(front).request(second, request_id=b"j" * 32))
    again = [answered(front, request)]
    front.restart()
    again.append(answered(front, request))
    expected = payload.encode_revoked(answer, version=2)
    assert [payload.encode_revoked(each, version=2) for each in again] == [expected] * 2
    assert kinds(front) == ["revocation", "crl", "revocation", "crl"]
    assert answers_in_journal(front) == [(ID,), (b"j" * 32,)]


def test_a_retry_that_holds_another_crl_by_now_gets_what_it_lacks(front: Front) -> None:
    """What a client holds is no part of what it asks for."""
    serials = record_issued(front.journal, 1, 2)
    copy = Copy(front)
    assert copy.patch(revoke(front, front.connect(), copy.request(serials[0]))) == serials[:1]
    fresh = Copy(front)
    request = copy.request(serials[1], request_id=ID)
    answered(front, request)
    without = dataclasses.replace(request, crl_number=0, tbs_hash=b"")
    assert copy.patch(revoke(front, front.connect(), request)) == serials
    assert fresh.patch(revoke(front, front.connect(), without)) == serials


def test_another_revocation_under_the_same_id_is_refused(front: Front) -> None:
    first, second = record_issued(front.journal, 1, 2)
    answered(front, Copy(front).request(first, request_id=ID))
    for restarted in (False, True):
        if restarted:
            front.restart()
        refused = revoke(front, front.connect(), Copy(front).request(first, second, request_id=ID))
        assert isinstance(refused, RequestRefused)
        assert (refused.code, refused.field) == ("request-id-taken", "id")
    assert kinds(front) == ["revocation", "crl", "refusal", "refusal"]
    assert front.revocation.lists[0].revoked == 1


def test_it_is_refused_also_while_both_wait(front: Front) -> None:
    """Behind a CRL that is being signed, neither of them is journaled yet."""
    serials = record_issued(front.journal, 1, 2, 3)
    pairs = [front.connect() for _ in range(4)]
    pairs[0].client.revoke(Copy(front).request(serials[0]))
    front.carry()
    front.journal.commit()
    for pair, serial in zip(pairs[1:], (serials[1], serials[2], serials[1]), strict=True):
        pair.client.revoke(Copy(front).request(serial, request_id=ID))
        front.carry()
    front.settle()
    answers = [front.answers(pair)[0] for pair in pairs]
    assert [type(each) for each in answers] == [
        *(RevocationAnswered, RevocationAnswered),
        *(RequestRefused, RevocationAnswered),
    ]
    assert Copy(front).patch(answers[3]) == serials[:2]
    assert journaled(front) == [(b"", 1), (ID, 1)]


def test_what_changes_nothing_has_an_answer_of_its_own(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    answered(front, Copy(front).request(serial, request_id=ID))
    front.now += DAY
    request = Copy(front).request(serial, request_id=b"j" * 32)
    answer = answered(front, request)
    assert (answer.crl_number, answer.date) == (2, front.now)
    assert journaled(front) == [(ID, 1), (b"j" * 32, 0)]
    front.restart()
    assert answered(front, request) == answer
    assert answers_in_journal(front) == [(ID,), (b"j" * 32,)]


def test_what_nobody_named_is_signed_anew_each_time(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    numbers = [answered(front, Copy(front).request(serial)).crl_number for _ in range(2)]
    # As is a wish for a fresh signature, whatever it is called.
    numbers += [answered(front, Copy(front).request(request_id=ID)).crl_number for _ in range(2)]
    assert numbers == [1, 2, 3, 4]
    assert journaled(front) == [(b"", 1)]


def test_a_retry_that_comes_while_its_crl_is_signed_shares_it(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    request = Copy(front).request(serial, request_id=ID)
    lost, again = front.connect(), front.connect()
    lost.client.revoke(request)
    front.carry()
    front.journal.commit()
    again.client.revoke(request)
    front.carry()
    front.vanish(lost)
    front.settle()
    assert Copy(front).patch(front.answers(again)[0]) == [serial]
    assert kinds(front) == ["revocation", "crl"]


def test_a_retry_behind_the_signature_waits_for_the_disk_as_well(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    request = Copy(front).request(serial, request_id=ID)
    pair = front.connect()
    pair.client.revoke(request)
    front.carry()
    front.journal.commit()
    front.work()
    again = front.connect()
    again.client.revoke(request)
    front.carry()
    assert front.answers(again) == []
    front.journal.commit()
    assert front.answers(again) == front.answers(pair)


# CRLs that cannot be signed now.


def test_a_revocation_is_journaled_also_when_no_crl_can_be_signed(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    request = Copy(front).request(serial, request_id=ID)
    front.obstacle = WILD
    pair = front.connect()
    pair.client.revoke(request)
    front.carry()
    assert front.answers(pair) == []
    front.journal.commit()
    failed = assert_failed(front.answers(pair)[0], "busy")
    assert failed.message == "the revocation is journaled, no CRL can be signed now: the signer's clock is wild"
    assert kinds(front) == ["revocation"]
    assert not front.tasks
    # Nor does housekeeping sign one.
    renew(front)
    assert kinds(front) == ["revocation"]

    front.obstacle = None
    assert Copy(front).patch(revoke(front, pair, request)) == [serial]
    assert kinds(front) == ["revocation", "crl"]
    assert journaled(front) == [(ID, 1)]


def test_the_next_crl_answers_what_was_put_off(front: Front) -> None:
    first, second = record_issued(front.journal, 1, 2)
    front.obstacle = WILD
    requests = [Copy(front).request(each, request_id=bytes([each % 251]) * 32) for each in (first, second)]
    for request in requests:
        assert_failed(revoke(front, front.connect(), request), "busy")
    front.obstacle = None
    renew(front)
    assert answers_in_journal(front) == [tuple(sorted(each.request_id for each in requests))]
    answers = [answered(front, request) for request in requests]
    assert answers[0] == answers[1]
    assert answers[0].crl_number == 1
    assert kinds(front) == ["revocation", "revocation", "crl"]


def test_what_stops_certificates_alone_stops_no_crl(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    front.obstacle = FULL
    assert answered(front, Copy(front).request(serial)).crl_number == 1
    front.now += DAY
    renew(front)
    assert kinds(front) == ["revocation", "crl", "crl"]


def test_what_is_put_off_says_what_stops_it(front: Front) -> None:
    """Not what else stands in the way."""
    (serial,) = record_issued(front.journal, 1)
    front.gate.halt("order", "an audit", now=NOW)
    front.obstacle = WILD
    failed = assert_failed(revoke(front, front.connect(), Copy(front).request(serial)), "busy")
    assert "the signer's clock is wild" in failed.message


def test_a_crl_that_a_worker_could_not_sign_is_made_up_for(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    request = Copy(front).request(serial, request_id=ID)
    pair = front.connect()
    pair.client.revoke(request)
    front.carry()
    front.journal.commit()
    task = front.tasks.popleft()
    front.deliver(Deferred(task=task.task, code="internal", message="no key", retry_after_s=60))
    front.journal.commit()
    assert_failed(front.answers(pair)[0], "busy")
    front.restart()
    renew(front)
    assert answers_in_journal(front) == [(ID,)]
    assert Copy(front).patch(revoke(front, front.connect(), request)) == [serial]
    assert kinds(front) == ["revocation", "crl"]


# Crashes.


@pytest.mark.parametrize("signed", [False, True])
def test_a_crl_that_was_lost_in_a_crash_is_made_by_housekeeping(front: Front, *, signed: bool) -> None:
    (serial,) = record_issued(front.journal, 1)
    request = Copy(front).request(serial, request_id=ID)
    front.connect().client.revoke(request)
    front.carry()
    front.journal.commit()
    if signed:
        front.work()  # and the disk has not heard of it
    front.restart()
    assert kinds(front) == ["revocation"]
    renew(front)
    answer = answered(front, request)
    assert (answer.crl_number, answers_in_journal(front)) == (1, [(ID,)])
    assert kinds(front) == ["revocation", "crl"]


def test_what_changed_nothing_is_answered_after_a_crash_as_well(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    answered(front, Copy(front).request(serial))
    request = Copy(front).request(serial, request_id=ID)
    front.connect().client.revoke(request)
    front.carry()
    front.journal.commit()
    front.restart()
    # No CRL is due for it.
    renew(front)
    assert kinds(front) == ["revocation", "crl", "revocation"]
    answer = answered(front, request)
    assert (answer.crl_number, journaled(front)) == (2, [(b"", 1), (ID, 0)])
    front.restart()
    assert answered(front, request) == answer


def test_a_revocation_that_the_disk_never_had_is_none(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    request = Copy(front).request(serial, request_id=ID)
    front.connect().client.revoke(request)
    front.carry()
    front.restart()
    assert kinds(front) == []
    assert Copy(front).patch(revoke(front, front.connect(), request)) == [serial]


# After a journal was made again from a copy.


def test_no_number_of_an_earlier_epoch_is_used_again(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    request = Copy(front).request(serial, request_id=ID)
    answered(front, request)
    front.journal.record_epoch(head=b"", now=NOW)
    # Its signature is not in the copy.
    front.journal._execute("DELETE FROM part WHERE position IN (SELECT position FROM crl)")
    front.journal.commit()
    front.restart()
    assert front.ask_full(front.connect()) == []
    renew(front)
    numbers = [each.current.number if each.current else 0 for each in front.revocation.lists]
    assert numbers == [1 + NUMBERS_SKIPPED + 1]
    (der,) = front.ask_full(front.connect())
    assert list(crl.entry_serials(crl.check_crl(der, authority=front.authority).entries)) == [serial]
    # The CRL that answered it cannot be given again: a fresh one lists the same.
    assert Copy(front).patch(revoke(front, front.connect(), request)) == [serial]


def test_a_crl_that_is_dated_ahead_is_signed_anew(front: Front) -> None:
    """The clock was turned back by its operators since."""
    renew(front)
    front.now -= dt.timedelta(seconds=1)
    front.journal.record_clock(machine_time=NOW, true_time=front.now)
    renew(front)
    assert kinds(front) == ["crl", "clock", "crl"]
    renew(front)
    assert kinds(front) == ["crl", "clock", "crl"]
