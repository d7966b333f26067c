"""The same request again, signatures that were lost, intents that end, and sessions that vanish."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import NOW, default_authority, subject_public_key_info
from tests.support.issuing import assert_failed, certificate_of, intent_in, journaled, kinds, log_of, wanted
from tests.support.signer import SIGNING_CA, Front

from cassiopeia.core.certificate import check_certificate, compose_certificate
from cassiopeia.errors import InternalError
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.protocol.events import (
    CertificateIssued,
    RequestAbandoned,
    RequestRefused,
)
from cassiopeia.signer.issuance import INTENT_LIFE_S


def ended(front: Front) -> list[tuple[str, str]]:
    """Code and reason of every abandonment."""
    found = []
    for _, octets, parts in front.journal.entries(1, front.journal.next_position):
        body = entries.decode_body(entries.decode_entry(octets))
        if isinstance(body, entries.Abandonment):
            found.append((body.code, entries.decode_part(entries.Reason, parts[0]).message))
    return found


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


# What was lost, or removed for its age.


def lose_signature(front: Front) -> None:
    """As when the journal was made again from a copy that lacks it: the next epoch begins."""
    front.journal.record_epoch(head=b"", now=NOW)
    front.journal._execute("DELETE FROM part WHERE position = ?", (journaled(front).result_position,))
    front.journal.commit()
    front.restart()
    assert journaled(front).state == "issued"
    assert journaled(front).signature == b""


def test_a_signature_that_was_lost_is_made_again_over_the_same_octets(front: Front) -> None:
    log = log_of(front, front.connect())
    certificate_of(front, front.connect())
    lose_signature(front)

    pair = front.connect()
    again = log_of(front, pair)
    assert again.log == log.log
    issued = front.confirm(pair, again.handle)

    assert isinstance(issued, CertificateIssued)
    assert issued.index == 6
    # It was confirmed before; one more certificate it is not.
    assert kinds(front) == ["intent", "confirmation", "result", "epoch", "result"]
    assert front.issuance.issued == {SIGNING_CA: 1}
    _, _, part = intent_in(log.log)
    check_certificate(
        compose_certificate(part.tbs_certificate, issued.signature or b""),
        request=wanted(),
        subject_public_key_info=subject_public_key_info(wanted()),
        authority=default_authority(),
    )
    # From now on it is that.
    assert certificate_of(front, front.connect()) == issued.signature
    front.restart()
    assert certificate_of(front, front.connect()) == issued.signature


def test_twins_share_what_is_signed_again(front: Front) -> None:
    certificate_of(front, front.connect())
    lose_signature(front)
    pairs = front.connect(), front.connect()
    logs = [log_of(front, pair) for pair in pairs]
    for pair, log in zip(pairs, logs, strict=True):
        pair.client.confirm_log(log.handle)
    front.settle()
    answers = [front.answers(pair)[0] for pair in pairs]
    assert len({each.signature for each in answers if isinstance(each, CertificateIssued)}) == 1
    assert kinds(front)[3:] == ["epoch", "result"]


def test_a_certificate_that_was_removed_is_not_made_again(front: Front) -> None:
    """Its TBSCertificate is gone, and so nothing could be said about what would be signed."""
    certificate_of(front, front.connect())
    front.now = NOW + dt.timedelta(days=3 * 365)
    assert front.journal.remove_parts(before=front.now, now=front.now) == 1
    front.journal.commit()
    for restarted in (False, True):
        if restarted:
            front.restart()
        answer = front.ask(front.connect(), wanted())
        assert isinstance(answer, RequestRefused)
        assert (answer.code, answer.field) == ("removed", "id")
    assert kinds(front) == ["intent", "confirmation", "result", "removal", "refusal", "refusal"]
    assert not front.tasks
    # Another request under that id is told that first.
    answer = front.ask(front.connect(), wanted(account="mallory"))
    assert isinstance(answer, RequestRefused)
    assert answer.code == "request-id-taken"


# Abandonment.


def test_a_veto_ends_the_intent_and_the_serial_is_burned(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.abandon(log.handle, "a bad certificate")
    front.carry()
    assert kinds(front) == ["intent", "abandonment"]
    assert front.answers(pair) == []
    front.journal.commit()
    head = front.journal.signed_head()
    assert front.answers(pair) == [RequestAbandoned(handle=log.handle, index=3, head=head)]
    assert ended(front) == [("vetoed", "a bad certificate")]
    assert heads.read_head(head).size == 3
    assert front.issuance.issued == {SIGNING_CA: 0}

    serials = {intent_in(each.log)[1].serial_number for each in (log, log_of(front, pair))}
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


def test_what_is_decided_in_the_turn_of_the_veto_is_not_journaled(front: Front) -> None:
    """The client has the signer's word that there is no intent."""
    pair = front.connect()
    handle = pair.client.submit(wanted())
    front.carry()
    pair.client.abandon(handle, "changed my mind")
    front.carry()
    front.settle()
    assert kinds(front) == []
    assert front.answers(pair) == [RequestAbandoned(handle=handle)]


def test_a_veto_that_crosses_with_a_refusal_is_answered_once(front: Front) -> None:
    pair = front.connect()
    handle = pair.client.submit(wanted(profile="none"))
    front.carry()
    front.work()
    pair.client.abandon(handle, "changed my mind")
    front.carry()
    front.settle()
    assert front.answers(pair) == [RequestAbandoned(handle=handle)]
    assert kinds(front) == ["refusal"]


def test_a_veto_that_crosses_with_the_log_ends_the_intent(front: Front) -> None:
    pair = front.connect()
    handle = pair.client.submit(wanted())
    front.carry()
    front.work()
    pair.client.abandon(handle, "changed my mind")
    front.carry()
    front.journal.commit()
    assert front.answers(pair) == [RequestAbandoned(handle=handle, index=3, head=front.journal.signed_head())]
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
        # Both are told where it stands.
        assert front.answers(pair) == [RequestAbandoned(handle=log.handle, index=3, head=front.journal.signed_head())]
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
    # The word of it waits for the disk; a confirmation that comes before is told as well.
    assert front.answers(pair) == []
    assert_failed(front.confirm(pair, log.handle), "intent-ended")
    assert not front.signing


def test_whoever_still_waits_is_told_when_an_intent_ends(front: Front) -> None:
    pairs = front.connect(), front.connect()
    logs = [log_of(front, pair) for pair in pairs]
    log_of(front, front.connect(), wanted(request_id=b"o" * 32))
    front.vanish(front.pairs[-1])
    front.clock += INTENT_LIFE_S + 1
    front.issuance.expire(now=NOW)
    front.journal.commit()
    head = front.journal.signed_head()
    for pair, log in zip(pairs, logs, strict=True):
        assert front.answers(pair) == [RequestAbandoned(handle=log.handle, index=4, head=head)]
    assert heads.read_head(head).size == 5
    assert kinds(front) == ["intent", "intent", "abandonment", "abandonment"]
    assert ended(front) == [("expired", "nobody confirmed the log in time")] * 2


def test_a_confirmation_that_crosses_with_the_end_is_passed_over(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    front.clock += INTENT_LIFE_S + 1
    front.issuance.expire(now=NOW)
    front.journal.commit()
    pair.client.confirm_log(log.handle)
    front.settle()
    assert [type(each) for each in front.answers(pair)] == [RequestAbandoned]
    assert kinds(front) == ["intent", "abandonment"]
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
    other = log_of(front, front.connect(), wanted(request_id=b"o" * 32))
    front.restart()
    assert kinds(front) == ["intent", "intent", "abandonment", "abandonment"]
    assert ended(front) == [("restart", "the signer was started again")] * 2
    assert front.issuance.issued == {SIGNING_CA: 0}
    # Both may be asked for again, and get other serial numbers.
    again = log_of(front, front.connect())
    assert intent_in(again.log)[1].serial_number not in {intent_in(each.log)[1].serial_number for each in (log, other)}
    front.restart()
    assert kinds(front)[4:] == ["intent", "abandonment"]
    certificate_of(front, front.connect())
    front.restart()
    assert kinds(front)[6:] == ["intent", "confirmation", "result"]
    assert front.issuance.issued == {SIGNING_CA: 1}


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
