from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import NOW
from tests.support.revoking import Copy, kinds, renew, revoke
from tests.support.signer import SIGNING_CA, Front, record_issued

from cassiopeia.core import crl
from cassiopeia.core.request import Revocation, RevocationRequest
from cassiopeia.errors import SignatureInvalid
from cassiopeia.journal.entry import LOST_PAST
from cassiopeia.protocol.events import RequestFailed, RequestRefused, RevocationAnswered
from cassiopeia.signer.pool import WORKER_DIED
from cassiopeia.signer.tasks import Deferred, Sign, Signed

DAY = dt.timedelta(days=1)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path)
    yield made
    made.journal.close()


def test_revocation_is_durable_then_signed_then_durable_then_told(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    pair, copy = front.connect(), Copy(front)
    pair.client.revoke(copy.request(serial))
    front.carry()
    assert kinds(front) == ["revocation"]
    assert not front.tasks
    front.journal.commit()
    front.work()
    assert kinds(front) == ["revocation", "crl"]
    assert front.answers(pair) == []
    front.journal.commit()
    (answer,) = front.answers(pair)
    assert copy.patch(answer) == [serial]
    assert isinstance(answer, RevocationAnswered)
    assert answer.answer.date == NOW


def test_a_client_patches_from_one_to_the_next(front: Front) -> None:
    serials = record_issued(front.journal, *range(1, 5))
    pair, copy = front.connect(), Copy(front)
    assert copy.patch(revoke(front, pair, copy.request(serials[0]))) == serials[:1]
    assert copy.patch(revoke(front, pair, copy.request(serials[1], serials[2]))) == serials[:3]
    # Without serials it is a fresh signature, and without a date.
    front.now += DAY
    fresh = revoke(front, pair, copy.request())
    assert isinstance(fresh, RevocationAnswered)
    assert fresh.answer.date is None
    assert copy.patch(fresh) == serials[:3]
    # Over a restart too.
    front.restart()
    assert copy.patch(revoke(front, front.connect(), copy.request(serials[3]))) == serials


def test_requests_that_come_while_a_crl_is_being_signed_share_the_next(front: Front) -> None:
    serials = record_issued(front.journal, *range(1, 5))
    pairs = [front.connect() for _ in serials]
    pairs[0].client.revoke(Copy(front).request(serials[0]))
    front.carry()
    front.journal.commit()
    for pair, serial in zip(pairs[1:], serials[1:], strict=True):
        pair.client.revoke(Copy(front).request(serial))
    front.carry()
    assert len(front.tasks) == 1
    front.work()
    front.journal.commit()
    assert [len(front.answers(pair)) for pair in pairs] == [1, 0, 0, 0]
    front.settle()
    answers = [front.answers(pair) for pair in pairs[1:]]
    assert [len(each) for each in answers] == [1, 1, 1]
    assert len({repr(each[0].answer) for each in answers if isinstance(each[0], RevocationAnswered)}) == 1
    assert [Copy(front).patch(each[0]) for each in answers] == [serials] * 3
    assert kinds(front).count("crl") == 2


def test_a_retry_of_what_was_answered_into_nothing_gets_the_same_revocation(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    lost, copy = front.connect(), Copy(front)
    lost.client.revoke(copy.request(serial))
    front.carry()
    front.vanish(lost)
    front.settle()
    assert lost.signer.data_to_send() == b""
    front.now += DAY
    assert copy.patch(revoke(front, front.connect(), copy.request(serial))) == [serial]
    assert kinds(front) == ["revocation", "crl", "crl"]


def test_a_signer_that_dies_before_it_signed_lists_the_revocation_in_the_next(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    front.connect().client.revoke(Copy(front).request(serial))
    front.carry()
    front.journal.commit()
    front.restart()
    renew(front)
    (answer,) = front.ask_full(front.connect())
    assert list(crl.entry_serials(crl.check_crl(answer, authority=front.authority).entries)) == [serial]


@pytest.mark.parametrize(
    ("request_", "code", "offending"),
    [
        (RevocationRequest(signing_ca="nobody_2026_1"), "unknown-ca", "signingCA"),
        (RevocationRequest(signing_ca=SIGNING_CA, revocations=(Revocation(serial_number=7),)), "unknown-serial", "7"),
    ],
)
def test_a_refusal_is_journaled_and_then_told(
    front: Front, request_: RevocationRequest, code: str, offending: str
) -> None:
    pair = front.connect()
    pair.client.revoke(request_)
    front.carry()
    assert kinds(front) == ["refusal"]
    assert front.answers(pair) == []
    front.journal.commit()
    (refused,) = front.answers(pair)
    assert isinstance(refused, RequestRefused)
    assert (refused.code, refused.field) == (code, offending)
    assert not front.tasks


def test_a_refused_member_is_told_apart_while_the_others_are_served(front: Front) -> None:
    """All wait for the CRL before: none of them takes the signer or another with it."""
    first, good, bad = record_issued(front.journal, 1, 2, 3)
    pairs = [front.connect() for _ in range(4)]
    pairs[0].client.revoke(Copy(front).request(first))
    front.carry()
    front.journal.commit()
    pairs[1].client.revoke(Copy(front).request(good))
    for pair, revocation in zip(
        pairs[2:],
        [
            Revocation(serial_number=bad, reason=6),
            Revocation(serial_number=bad, invalidity_date=NOW + DAY),
        ],
        strict=True,
    ):
        pair.client.revoke(RevocationRequest(signing_ca=SIGNING_CA, revocations=(revocation,)))
    front.settle()
    assert [type(front.answers(pair)[0]) for pair in pairs] == [
        RevocationAnswered,
        RevocationAnswered,
        RequestRefused,
        RequestRefused,
    ]
    assert kinds(front).count("revocation") == 2
    # Nothing to sign behind nothing but refusals.
    pairs[2].client.revoke(Copy(front).request(99))
    front.settle()
    assert kinds(front).count("crl") == 2


def test_a_client_may_hold_a_crl_with_any_number(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    request = RevocationRequest(
        signing_ca=SIGNING_CA,
        revocations=(Revocation(serial_number=serial),),
        crl_number=(1 << 168) - 1,
        tbs_hash=b"?" * 32,
    )
    answer = revoke(front, front.connect(), request)
    assert isinstance(answer, RevocationAnswered)
    assert answer.answer.entries == b""


def test_a_crl_that_cannot_be_signed_now_may_be_asked_for_again(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    pair = front.connect()
    pair.client.revoke(Copy(front).request(serial))
    front.carry()
    front.journal.commit()
    task = front.tasks.popleft()
    front.deliver(Deferred(task=task.task, code="internal", message="no key", retry_after_s=60))
    assert front.answers(pair) == []
    front.journal.commit()
    (failed,) = front.answers(pair)
    assert isinstance(failed, RequestFailed)
    assert failed.retry_after_s == 5
    assert "could not be signed now" in failed.message
    # The revocation stands, once.
    assert Copy(front).patch(revoke(front, pair, Copy(front).request(serial))) == [serial]
    assert kinds(front) == ["revocation", "crl"]


def test_what_waited_behind_a_crl_that_failed_is_signed_next(front: Front) -> None:
    serials = record_issued(front.journal, 1, 2)
    pairs = front.connect(), front.connect()
    for pair, serial in zip(pairs, serials, strict=True):
        pair.client.revoke(Copy(front).request(serial))
        front.carry()
        front.journal.commit()
    task = front.tasks.popleft()
    front.deliver(Deferred(task=task.task, code="internal", message="no key", retry_after_s=60))
    front.settle()
    assert isinstance(front.answers(pairs[0])[0], RequestFailed)
    assert Copy(front).patch(front.answers(pairs[1])[0]) == serials


def test_an_outcome_of_a_task_that_nobody_gave_is_nobodys(front: Front) -> None:
    assert not front.revocation.delivered(Signed(task=99, signature=b""), now=NOW)


def test_every_crl_is_renewed_daily(front: Front) -> None:
    def numbers() -> list[int]:
        return [each.current.number if each.current else 0 for each in front.revocation.lists]

    assert numbers() == [0]
    renew(front)
    assert numbers() == [1]
    front.now += DAY - dt.timedelta(seconds=1)
    renew(front)
    assert numbers() == [1]
    front.now += dt.timedelta(seconds=1)
    renew(front)
    assert numbers() == [2]


def test_one_renewal_at_a_time(front: Front) -> None:
    front.revocation.renew(now=NOW)
    front.revocation.renew(now=NOW)
    front.journal.commit()
    front.revocation.renew(now=NOW)
    assert [type(each) for each in front.tasks] == [Sign]
    front.settle()
    assert kinds(front) == ["crl"]


def test_a_renewal_that_fails_is_tried_again(front: Front) -> None:
    front.revocation.renew(now=NOW)
    front.journal.commit()
    task = front.tasks.popleft()
    front.deliver(Deferred(task=task.task, code="internal", message="no key", retry_after_s=60))
    renew(front)
    assert kinds(front) == ["crl"]


def test_one_that_fails_again_and_again_is_tried_ever_less_often(front: Front) -> None:
    desk, delays = front.revocation, []
    desk._clock = lambda: front.clock
    for _ in range(9):
        began = front.clock
        while True:
            desk.renew(now=NOW)
            front.journal.commit()
            if front.tasks:
                break
            front.clock += 1.0
        delays.append(front.clock - began)
        task = front.tasks.popleft()
        front.deliver(Deferred(task=task.task, code="internal", message="no key", retry_after_s=60))
    assert delays == [0, 0, 5, 10, 20, 40, 80, 160, 300]
    # Another configuration may have another library sign.
    desk.follow([front.authority], lifetime=10 * DAY, resign_after=DAY)
    renew(front)
    assert kinds(front) == ["crl"]


def test_a_crl_that_ends_workers_is_put_off_though_its_key_can_be_used_again(front: Front) -> None:
    front.revocation._clock = lambda: front.clock
    died = functools.partial(Deferred, code=WORKER_DIED, message="it ends workers", retry_after_s=300)
    for _ in range(3):
        front.clock += 5.0
        front.revocation.renew(now=NOW)
        front.journal.commit()
        front.deliver(died(task=front.tasks.popleft().task))
        front.revocation.try_again(SIGNING_CA)
    front.revocation.renew(now=NOW)
    front.journal.commit()
    assert not front.tasks
    # Once it fails for another reason, or another library signs, it is not put off any longer.
    front.clock += 10.0
    front.revocation.renew(now=NOW)
    front.journal.commit()
    front.deliver(Deferred(task=front.tasks.popleft().task, code="token-away", message="it is away", retry_after_s=5))
    front.revocation.try_again(SIGNING_CA)
    renew(front)
    assert kinds(front) == ["crl"]


def test_while_it_is_put_off_revocations_are_taken(front: Front) -> None:
    serials = record_issued(front.journal, 1, 2)
    front.revocation._clock = lambda: front.clock
    for _ in range(2):
        front.revocation.renew(now=NOW)
        front.journal.commit()
        task = front.tasks.popleft()
        front.deliver(Deferred(task=task.task, code="internal", message="no key", retry_after_s=60))
    pair, copy = front.connect(), Copy(front)
    waits = revoke(front, pair, copy.request(serials[0]))
    assert isinstance(waits, RequestFailed)
    assert "the revocation is journaled, no CRL can be signed now: unassured_2026_2 could not sign" in waits.message
    assert kinds(front) == ["revocation"]
    front.revocation.try_again("unassured_2020_1")  # not one of ours
    front.revocation.try_again(SIGNING_CA)
    assert copy.patch(revoke(front, pair, copy.request(serials[1]))) == serials


def test_a_key_that_is_away_is_not_asked(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    away = {SIGNING_CA}
    front.revocation._is_away = away.__contains__
    front.revocation.renew(now=NOW)
    waits = revoke(front, front.connect(), Copy(front).request(serial))
    assert isinstance(waits, RequestFailed)
    assert waits.message.endswith(f"the key of {SIGNING_CA} cannot be used now")
    assert not front.tasks
    away.clear()
    renew(front)
    assert kinds(front) == ["revocation", "crl"]


def test_a_wrong_signature_of_a_crl_is_not_journaled(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    said: list[tuple[str, str]] = []
    front.revocation._mistrusted = lambda *words: said.append(words)
    pair, copy = front.connect(), Copy(front)
    pair.client.revoke(copy.request(serial))
    front.carry()
    front.journal.commit()
    task = front.tasks.popleft()
    with pytest.raises(SignatureInvalid):
        front.deliver(Signed(task=task.task, signature=b"wrong"))
    # That it is halted is on the disk first.
    assert front.answers(pair) == []
    front.journal.commit()
    (waits,) = front.answers(pair)
    assert isinstance(waits, RequestFailed)
    assert [name for name, _ in said] == [SIGNING_CA]
    assert kinds(front) == ["revocation"]
    assert copy.patch(revoke(front, pair, copy.request(serial))) == [serial]


def test_a_sub_ca_whose_time_is_over_signs_no_more(front: Front) -> None:
    front.now = front.authority.not_after
    renew(front)
    assert kinds(front) == ["crl"]
    front.now += DAY
    renew(front)
    assert kinds(front) == ["crl"]


def test_a_revocation_that_comes_while_a_renewal_is_signed_waits_for_its_own(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    front.revocation.renew(now=NOW)
    front.journal.commit()
    pair = front.connect()
    pair.client.revoke(Copy(front).request(serial))
    front.settle()
    assert Copy(front).patch(front.answers(pair)[0]) == [serial]
    assert kinds(front) == ["crl", "revocation", "crl"]


def test_the_full_crl_is_the_one_that_was_signed_last(front: Front) -> None:
    pair = front.connect()
    pair.client.get_full_crl(SIGNING_CA)
    front.settle()
    (failed,) = front.answers(pair)
    assert isinstance(failed, RequestFailed)
    assert (failed.code, failed.retry_after_s) == ("no-crl", 5)

    (serial,) = record_issued(front.journal, 1)
    revoke(front, pair, Copy(front).request(serial))
    (der,) = front.ask_full(pair)
    assert crl.check_crl(der, authority=front.authority).number == 1
    front.restart()
    assert front.ask_full(front.connect()) == [der]


def test_a_signer_that_has_lost_its_past_gives_out_no_crl(front: Front) -> None:
    """Its number may be one that was given out before."""
    pair = front.connect()
    (serial,) = record_issued(front.journal, 1)
    revoke(front, pair, Copy(front).request(serial))
    front.gate.halt(LOST_PAST, "a client holds more", now=NOW)
    pair.client.get_full_crl(SIGNING_CA)
    front.settle()
    (failed,) = front.answers(pair)
    assert isinstance(failed, RequestFailed)
    assert failed.code == LOST_PAST


def test_the_full_crl_of_nobody_is_refused(front: Front) -> None:
    pair = front.connect()
    pair.client.get_full_crl("nobody_2026_1")
    front.settle()
    (refused,) = front.answers(pair)
    assert isinstance(refused, RequestRefused)
    assert refused.code == "unknown-ca"


def test_version_1_gets_no_entries_and_no_number(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    pair = front.connect(1)
    answer = revoke(front, pair, Copy(front).request(serial))
    assert isinstance(answer, RevocationAnswered)
    assert (answer.answer.crl_number, answer.answer.entries, answer.answer.date) == (0, b"", NOW)
