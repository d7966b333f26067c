"""The same request again, intents that end, and sessions that vanish."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import NOW
from tests.support.issuing import assert_failed, certificate_of, journaled, kinds, log_of, wanted
from tests.support.signer import SIGNING_CA, Front

from cassiopeia.errors import InternalError
from cassiopeia.protocol import payload
from cassiopeia.protocol.events import (
    CertificateIssued,
    RequestAbandoned,
    RequestRefused,
)
from cassiopeia.signer.issuance import INTENT_LIFE_S


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path)
    yield made
    made.journal.close()


# The same request again.


def test_the_same_request_has_the_same_certificate(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    first = front.confirm(pair, log.handle)
    again = log_of(front, pair)
    second = front.confirm(pair, again.handle)
    assert isinstance(first, CertificateIssued)
    assert isinstance(second, CertificateIssued)
    assert (again.log, second.signature, second.signing_ca) == (log.log, first.signature, first.signing_ca)
    assert kinds(front) == ["intent", "confirmation", "result"]
    assert front.issuance.issued == {SIGNING_CA: 1}


def test_and_after_a_restart_too(front: Front) -> None:
    signature = certificate_of(front, front.connect())
    front.restart()
    assert certificate_of(front, front.connect()) == signature
    assert front.issuance.issued == {SIGNING_CA: 1}


def test_evidence_makes_no_other_request_of_it(front: Front) -> None:
    signature = certificate_of(front, front.connect())
    assert certificate_of(front, front.connect(), wanted(proofs=(b"newer",))) == signature


@pytest.mark.parametrize("change", [{"account": "mallory"}, {"wish_to": "1m"}, {"signature_hash": "sha256"}])
@pytest.mark.parametrize("restarted", [False, True])
def test_another_request_under_the_same_id_is_refused(front: Front, change: dict[str, str], *, restarted: bool) -> None:
    signature = certificate_of(front, front.connect())
    if restarted:
        front.restart()
    answer = front.ask(front.connect(), wanted(**change))
    assert isinstance(answer, RequestRefused)
    assert (answer.code, answer.field) == ("request-id-taken", "id")
    assert certificate_of(front, front.connect()) == signature


def test_while_one_is_being_decided_its_twin_waits(front: Front) -> None:
    first, second = front.connect(), front.connect()
    first.client.submit(wanted())
    second.client.submit(wanted())
    front.carry()
    (answer,) = front.answers(second)
    assert assert_failed(answer, "busy").retry_after_s == 1
    front.settle()
    assert len(front.answers(first)) == 1
    assert kinds(front) == ["intent"]


def test_twins_that_confirm_together_share_one_signature(front: Front) -> None:
    pairs = front.connect(), front.connect()
    logs = [log_of(front, pair) for pair in pairs]
    for pair, log in zip(pairs, logs, strict=True):
        pair.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    assert len(front.signing) == 1
    front.settle()
    answers = [front.answers(pair)[0] for pair in pairs]
    assert len({each.signature for each in answers if isinstance(each, CertificateIssued)}) == 1
    assert kinds(front) == ["intent", "confirmation", "result"]


def test_a_twin_that_confirms_while_the_first_is_being_signed_shares_its_signature(front: Front) -> None:
    """Its confirmation waits for the very commit that makes the result durable: nothing is signed a second time."""
    first, second = front.connect(), front.connect()
    log = log_of(front, first)
    twin = log_of(front, second)
    first.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    second.client.confirm_log(twin.handle)
    front.carry()
    front.work()
    front.settle()
    answers = [*front.answers(first), *front.answers(second)]
    assert len(answers) == 2
    assert len({each.signature for each in answers if isinstance(each, CertificateIssued)}) == 1
    assert kinds(front) == ["intent", "confirmation", "result"]


def test_a_twin_that_confirms_behind_the_result_waits_for_the_disk_as_well(front: Front) -> None:
    first, second = front.connect(), front.connect()
    log = log_of(front, first)
    twin = log_of(front, second)
    first.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    front.work()
    second.client.confirm_log(twin.handle)
    front.carry()
    assert kinds(front)[-1] == "result"
    assert front.answers(second) == []
    front.journal.commit()
    assert [type(each) for each in front.answers(second)] == [CertificateIssued]


# Abandonment.


def test_a_veto_ends_the_intent_and_the_serial_is_burned(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.abandon(log.handle, "a bad certificate")
    front.carry()
    assert kinds(front) == ["intent", "abandonment"]
    assert front.answers(pair) == []
    front.journal.commit()
    assert front.answers(pair) == [RequestAbandoned(handle=log.handle)]
    assert front.issuance.issued == {SIGNING_CA: 0}

    serials = {payload.decode_log_entry(each.log).tbs_certificate[10:30] for each in (log, log_of(front, pair))}
    assert len(serials) == 2


def test_a_veto_before_the_log_leaves_nothing_behind(front: Front) -> None:
    pair = front.connect()
    handle = pair.client.submit(wanted())
    front.carry()
    pair.client.abandon(handle, "changed my mind")
    front.carry()
    front.journal.commit()
    assert front.answers(pair) == [RequestAbandoned(handle=handle)]
    front.settle()
    assert front.answers(pair) == []
    assert kinds(front) == []


def test_a_veto_that_crosses_with_the_log_ends_the_intent(front: Front) -> None:
    pair = front.connect()
    handle = pair.client.submit(wanted())
    front.carry()
    front.work()
    pair.client.abandon(handle, "changed my mind")
    front.carry()
    front.journal.commit()
    assert front.answers(pair) == [RequestAbandoned(handle=handle)]
    assert kinds(front) == ["intent", "abandonment"]


@pytest.mark.parametrize("issued", [False, True])
def test_what_was_confirmed_before_cannot_be_abandoned_any_more(front: Front, *, issued: bool) -> None:
    """The signer's word would be a lie: the certificate exists, or comes with the next try."""
    first, second = front.connect(), front.connect()
    log = log_of(front, first)
    twin = log_of(front, second)
    first.client.confirm_log(log.handle)
    front.carry()
    if issued:
        front.settle()
    second.client.abandon(twin.handle, "veto")
    front.settle()
    (answer,) = front.answers(second)
    assert_failed(answer, "log-confirmed")
    (certified,) = front.answers(first)
    assert isinstance(certified, CertificateIssued)


def test_a_twin_of_an_abandoned_intent_gets_nothing(front: Front) -> None:
    first, second = front.connect(), front.connect()
    log = log_of(front, first)
    twin = log_of(front, second)
    first.client.abandon(log.handle, "veto")
    front.settle()
    assert_failed(front.confirm(second, twin.handle), "intent-ended")
    assert not front.signing


def test_both_twins_may_abandon(front: Front) -> None:
    first, second = front.connect(), front.connect()
    logs = [log_of(front, each) for each in (first, second)]
    for pair, log in zip((first, second), logs, strict=True):
        pair.client.abandon(log.handle, "veto")
        front.settle()
        assert front.answers(pair) == [RequestAbandoned(handle=log.handle)]
    assert kinds(front) == ["intent", "abandonment"]
    assert front.issuance.issued == {SIGNING_CA: 0}


def test_an_intent_that_nobody_confirms_ends_after_its_time(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    front.clock += INTENT_LIFE_S
    front.issuance.expire(now=NOW)
    assert kinds(front) == ["intent"]
    front.clock += 1
    front.issuance.expire(now=NOW)
    front.issuance.expire(now=NOW)
    assert kinds(front) == ["intent", "abandonment"]
    assert front.issuance.issued == {SIGNING_CA: 0}
    assert_failed(front.confirm(pair, log.handle), "intent-ended")
    assert not front.signing


def test_a_confirmed_intent_has_all_the_time(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    front.clock += 10 * INTENT_LIFE_S
    front.issuance.expire(now=NOW)
    front.settle()
    assert isinstance(front.answers(pair)[0], CertificateIssued)


def test_what_nobody_confirmed_ends_at_a_restart(front: Front) -> None:
    log = log_of(front, front.connect())
    front.restart()
    assert kinds(front) == ["intent", "abandonment"]
    assert front.issuance.issued == {SIGNING_CA: 0}
    assert log_of(front, front.connect()).log != log.log


def test_what_was_confirmed_lives_through_a_restart(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    front.restart()
    assert front.issuance.issued == {SIGNING_CA: 1}
    pair = front.connect()
    again = log_of(front, pair)
    assert again.log == log.log
    assert isinstance(front.confirm(pair, again.handle), CertificateIssued)


def test_a_confirmation_that_the_disk_never_had_is_none(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    front.restart()
    assert kinds(front) == ["intent", "abandonment"]


# Sessions that vanish.


def test_a_session_that_vanishes_before_the_decision_leaves_nothing(front: Front) -> None:
    pair = front.connect()
    pair.client.submit(wanted())
    front.carry()
    front.vanish(pair)
    front.settle()
    assert kinds(front) == []


def test_a_session_that_vanishes_before_the_commit_leaves_an_intent_for_the_next(front: Front) -> None:
    pair = front.connect()
    pair.client.submit(wanted())
    front.carry()
    front.work()
    front.vanish(pair)
    front.journal.commit()
    assert kinds(front) == ["intent"]
    certificate_of(front, front.connect())
    assert kinds(front) == ["intent", "confirmation", "result"]


def test_a_session_that_vanishes_after_its_confirmation_has_its_certificate_made(front: Front) -> None:
    """Confirmed is confirmed; the next session gets it without any key being used again."""
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    front.vanish(pair)
    front.settle()
    assert kinds(front) == ["intent", "confirmation", "result"]
    certificate_of(front, front.connect())
    assert kinds(front) == ["intent", "confirmation", "result"]


def test_a_session_that_vanishes_while_it_is_refused_is_not_told(front: Front) -> None:
    pair = front.connect()
    pair.client.submit(wanted(profile="none"))
    front.carry()
    front.work()
    front.vanish(pair)
    front.journal.commit()
    assert kinds(front) == ["refusal"]
    assert pair.signer.data_to_send() == b""


def test_a_session_that_vanishes_while_it_is_signed_for_is_not_told(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    front.work()
    front.vanish(pair)
    front.journal.commit()
    assert pair.signer.data_to_send() == b""
    assert journaled(front).state == "issued"


def test_forgetting_one_session_leaves_the_others_alone(front: Front) -> None:
    gone, here = front.connect(), front.connect()
    gone.client.submit(wanted(request_id=b"1" * 32))
    here.client.submit(wanted())
    front.carry()
    front.vanish(gone)
    front.settle()
    assert len(front.answers(here)) == 1


def test_a_confirmation_without_a_log_is_our_own_mistake(front: Front) -> None:
    """The session's table sees to it that none comes."""
    pair = front.connect()
    handle = pair.client.submit(wanted())
    front.carry()
    with pytest.raises(InternalError):
        front.issuance.log_confirmed(pair.signer, handle, bytes(32), now=NOW)
