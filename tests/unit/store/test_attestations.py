from __future__ import annotations

import datetime as dt

import pytest
from sqlalchemy import func, select
from tests.support.store import (
    NONCE,
    NOW,
    after,
    attest,
    certificate_request,
    demand,
    issued,
    lease_sign,
    lease_suspects,
    request_id,
    submit,
    to_attest,
)

from cassiopeia.errors import InternalError
from cassiopeia.store.database import Store
from cassiopeia.store.evidence import NONCE_LIFE, EvidenceDelay, StoredAttestation
from cassiopeia.store.lint_streaks import HOLD_AFTER, PROBE_EVERY, LintVerdict
from cassiopeia.store.models import attestation
from cassiopeia.store.records import Outcome, Postponement, Refusal, RequestRecord, SigningLog, SignJob

OTHER = b"o" * 16
LATER = after(1)


def find(store: Store, number: int = 1) -> RequestRecord:
    record = store.requests.find(request_id(number))
    assert record is not None
    return record


def lease(
    store: Store,
    *nonces: bytes,
    owner: str = "client",
    signer_id: int | None = 1,
    limit: int = 100,
    at: dt.datetime = NOW,
) -> list[SignJob]:
    jobs = store.queue.lease(owner, limit=limit, lease_s=60, now=at, signer_id=signer_id, nonces=nonces or (NONCE,))
    return [job for job in jobs if isinstance(job, SignJob)]


def numbers(jobs: list[SignJob]) -> list[int]:
    by_id = {request_id(number): number for number in range(1_000)}
    return [by_id[job.request.request_id] for job in jobs]


def save_log(store: Store, job: SignJob, *, signer_id: int = 1) -> None:
    store.results.save_logs(
        "client", [SigningLog(job_id=job.id, sha256=b"%032d" % job.id, entry=b"log")], now=NOW, signer_id=signer_id
    )


def kept_attestations(store: Store) -> int:
    with store.database.read() as connection:
        return connection.execute(select(func.count()).select_from(attestation)).scalar_one()


def send_back(store: Store, job: SignJob, *, delay_s: float = 0, at: dt.datetime = NOW) -> None:
    back = Postponement(
        job_id=job.id, delay_s=delay_s, counts=False, reason="the nonce is stale", lengthens=False, reattest=True
    )
    store.queue.retry_later("client", [back], now=at)


# What demands evidence.


def test_what_demands_nothing_is_leased_as_ever(store: Store) -> None:
    demand(store, "0004-server")
    submit(store, 1)
    assert to_attest(store) == []
    assert [job.request.proofs for job in lease_sign(store)] == [()]


def test_what_demands_evidence_waits_for_it(store: Store) -> None:
    demand(store)
    submit(store, 1)
    assert lease(store) == []
    assert (find(store).awaits_evidence, find(store).state) == (True, "queued")
    assert find(store).last_error == "waits for evidence: no validator has vouched for it yet"
    [waiting] = to_attest(store)
    assert (waiting.request, waiting.signer_id, waiting.reattested, waiting.difficulty) == (
        find(store).request,
        None,
        0,
        "",
    )
    attest(store)
    assert to_attest(store) == []
    assert not find(store).awaits_evidence
    [job] = lease(store)
    assert job.request.proofs == (b"seen", b"vouched for " + request_id(1))


def test_a_profile_may_begin_to_demand_evidence(store: Store) -> None:
    submit(store, 1)
    [under_way] = lease_sign(store, limit=1)
    submit(store, 2)
    demand(store)
    assert [each.request.request_id for each in to_attest(store)] == [request_id(2)]
    assert lease(store) == []
    assert store.results.finish_issued([issued(under_way)], now=NOW) == (Outcome.RECORDED,)


def test_a_profile_may_cease_to_demand_evidence(store: Store) -> None:
    """What was attested is one thing too many then."""
    demand(store)
    for number in (1, 2):
        submit(store, number)
    attest(store, limit=1)
    store.evidence.demand({certificate_request().profile: False}, now=NOW)
    assert [job.request.proofs for job in lease(store)] == [(), ()]
    assert kept_attestations(store) == 0
    submit(store, 3)
    assert len(lease(store)) == 1


def test_nothing_changes_for_a_profile_that_is_not_named(store: Store) -> None:
    demand(store)
    submit(store, 1)
    store.evidence.demand({}, now=NOW)
    store.evidence.demand({"9001-other": False}, now=NOW)
    assert len(to_attest(store)) == 1


def test_a_request_whose_intent_is_journaled_needs_no_evidence(store: Store) -> None:
    """A profile may have begun to demand evidence since: the signer answers from its journal."""
    submit(store, 1)
    [job] = lease_sign(store)
    save_log(store, job)
    store.queue.release("client", now=NOW)
    demand(store)
    assert [each.id for each in lease(store)] == [job.id]


# Leases and nonces.


def test_an_attestation_counts_under_its_nonce_alone(store: Store) -> None:
    demand(store)
    for number in (1, 2):
        submit(store, number)
    attest(store, limit=1)
    attest(store, nonce=OTHER, signer_id=2)
    assert store.queue.lease("c", limit=9, lease_s=60, now=NOW, signer_id=1) == ()
    assert lease(store, b"x" * 16) == []
    assert numbers(lease(store, b"x" * 16, NONCE)) == [1]
    assert numbers(lease(store, OTHER, signer_id=2)) == [2]


def test_the_order_is_kept_whatever_is_attested_first(store: Store) -> None:
    demand(store)
    for number in range(4):
        submit(store, number)
    waiting = to_attest(store)
    for each in reversed(waiting):
        row = StoredAttestation(number=each.number, signer_id=1, boot_id=b"b", nonce=NONCE, proofs=(b"p",))
        assert store.evidence.put_attestations([row], now=NOW) == (Outcome.RECORDED,)
    assert numbers(lease(store)) == [0, 1, 2, 3]


def test_what_waits_for_evidence_stops_nobody(store: Store) -> None:
    demand(store)
    submit(store, 1)
    store.evidence.demand({certificate_request().profile: True, "free": False}, now=NOW)
    store.requests.submit(certificate_request(profile="free"), request_id=request_id(2), now=NOW)
    assert numbers(lease(store)) == [2]


def test_a_suspect_is_handed_out_when_it_is_attested(store: Store) -> None:
    demand(store)
    submit(store, 1)
    attest(store)
    [job] = lease(store)
    assert lease(store, at=after(61)) == []  # its holder died: a suspect now
    assert store.queue.suspect_waits(now=after(61), nonces=[NONCE])
    assert not store.queue.suspect_waits(now=after(61), nonces=[OTHER])
    assert lease_suspects(store, at=after(61)) == []
    suspect = store.queue.lease_suspect("client", lease_s=60, now=after(61), nonces=[NONCE])
    assert suspect is not None
    assert (suspect.id, suspect.deaths) == (job.id, 1)
    store.queue.release("client", now=after(62))
    assert len(to_attest(store, nonces=[OTHER], at=after(62))) == 1


def test_a_lease_that_runs_out_is_noticed_whatever_was_attested(store: Store) -> None:
    demand(store)
    submit(store, 1)
    attest(store)
    lease(store)
    assert lease(store, OTHER, at=after(61)) == []
    assert len(find(store).dead_holders) == 1
    assert len(to_attest(store, nonces=[OTHER], at=after(61))) == 1


# When an attestation is void.


def test_under_a_nonce_that_has_run_out_it_is_attested_anew(store: Store) -> None:
    demand(store)
    for number in (1, 2):
        submit(store, number)
    attest(store, limit=1)
    assert [each.request.request_id for each in to_attest(store, nonces=[OTHER, NONCE])] == [request_id(2)]
    assert len(to_attest(store, nonces=[OTHER])) == 2
    assert attest(store, nonce=OTHER)
    assert numbers(lease(store, OTHER)) == [1, 2]
    assert kept_attestations(store) == 2


def test_what_is_attested_for_one_signer_is_left_alone_by_others(store: Store) -> None:
    demand(store)
    submit(store, 1)
    attest(store, signer_id=1)
    assert to_attest(store, signer_id=2, nonces=[OTHER]) == []
    assert numbers(lease(store)) == [1]


def test_another_signer_takes_over_when_one_stays_away(store: Store) -> None:
    demand(store)
    submit(store, 1)
    attest(store, signer_id=1)
    assert to_attest(store, signer_id=2, nonces=[OTHER], at=NOW + NONCE_LIFE - dt.timedelta(seconds=1)) == []
    assert len(to_attest(store, signer_id=2, nonces=[OTHER], at=NOW + NONCE_LIFE)) == 1


def test_a_client_says_that_nonces_have_run_out(store: Store) -> None:
    demand(store)
    for number in (1, 2):
        submit(store, number)
    attest(store, limit=1)
    attest(store, nonce=OTHER, signer_id=2)
    assert store.evidence.lapse(1, [NONCE], now=NOW) == 0
    assert store.evidence.lapse(1, [OTHER], now=LATER) == 1
    assert [find(store, number).awaits_evidence for number in (1, 2)] == [True, False]
    assert store.evidence.lapse(2, [], now=LATER) == 1


def test_what_was_put_off_stays_so_when_its_nonce_runs_out(store: Store) -> None:
    demand(store)
    submit(store, 1)
    attest(store)
    later = Postponement(job_id=lease(store)[0].id, delay_s=60, counts=False, reason="the signer is halted")
    store.queue.retry_later("client", [later], now=NOW)
    assert store.evidence.lapse(1, [], now=LATER) == 1
    assert to_attest(store, at=after(59)) == []
    assert len(to_attest(store, at=after(60))) == 1


def test_what_a_signer_has_journaled_may_be_sent_again_under_any_nonce(store: Store) -> None:
    demand(store)
    submit(store, 1)
    attest(store)
    [job] = lease(store)
    save_log(store, job)
    store.queue.release("client", now=NOW)
    assert store.evidence.lapse(1, [OTHER], now=NOW) == 0
    assert to_attest(store, nonces=[OTHER]) == []
    assert [each.id for each in lease(store, OTHER)] == [job.id]
    store.queue.release("client", now=NOW)
    assert lease(store, OTHER, signer_id=2) == []


def test_what_the_signer_has_abandoned_needs_evidence_again(store: Store) -> None:
    demand(store)
    submit(store, 1)
    attest(store)
    [job] = lease(store)
    save_log(store, job)
    back = Postponement(job_id=job.id, delay_s=0, counts=False, reason="vetoed", abandoned=True)
    store.queue.retry_later("client", [back], now=NOW)
    assert lease(store, OTHER) == []
    assert [each.signer_id for each in to_attest(store, nonces=[OTHER])] == [None]


def test_what_the_signer_sends_back_is_attested_anew(store: Store) -> None:
    demand(store)
    submit(store, 1)
    attest(store)
    [job] = lease(store)
    send_back(store, job)
    assert lease(store) == []
    assert find(store).last_error == "waits for evidence: the nonce is stale"
    [waiting] = to_attest(store)
    assert (waiting.reattested, waiting.difficulty) == (1, "waits for evidence: the nonce is stale")
    attest(store)
    [again] = lease(store)
    assert (again.tries, again.postponed, again.reattested) == (0, 0, 1)
    assert find(store).last_error == ""
    save_log(store, again)
    store.queue.release("client", now=NOW)
    assert lease(store)[0].reattested == 0


def test_what_is_sent_back_again_and_again_is_left_alone_for_a_while(store: Store) -> None:
    demand(store)
    submit(store, 1)
    attest(store)
    send_back(store, lease(store)[0], delay_s=4)
    assert to_attest(store, at=after(3)) == []
    assert len(to_attest(store, at=after(4))) == 1


def test_a_pinned_request_that_is_sent_back_is_attested_for_its_signer_alone(store: Store) -> None:
    """Its intent ran out while the line was away."""
    demand(store)
    submit(store, 1)
    attest(store)
    [job] = lease(store)
    save_log(store, job)
    send_back(store, job)
    assert to_attest(store, signer_id=2) == []
    [waiting] = to_attest(store, signer_id=1)
    assert waiting.signer_id == 1
    row = StoredAttestation(number=waiting.number, signer_id=2, boot_id=b"b", nonce=NONCE, proofs=(b"p",))
    assert store.evidence.put_attestations([row], now=NOW) == (Outcome.NOT_HELD,)
    attest(store)
    assert len(lease(store)) == 1


def test_a_validator_may_take_its_word_back(store: Store) -> None:
    demand(store)
    for number in (1, 2):
        submit(store, number)
    vouched_for = attest(store)
    lease(store, limit=1)
    assert store.evidence.discard(vouched_for, "the validator's key is disabled", now=NOW) == 1
    assert find(store, 2).last_error == "waits for evidence: the validator's key is disabled"
    assert len(to_attest(store)) == 1
    assert store.evidence.discard([], "nothing", now=NOW) == 0


# Validators at work.


def test_two_validators_do_not_attest_one_request_twice(store: Store) -> None:
    demand(store)
    submit(store, 1)
    [waiting] = to_attest(store)
    first = StoredAttestation(number=waiting.number, signer_id=1, boot_id=b"b", nonce=NONCE, proofs=(b"first",))
    second = StoredAttestation(number=waiting.number, signer_id=2, boot_id=b"b", nonce=OTHER, proofs=(b"second",))
    nobodys = StoredAttestation(number=999, signer_id=2, boot_id=b"b", nonce=OTHER, proofs=(b"p",))
    assert store.evidence.put_attestations([first], now=NOW) == (Outcome.RECORDED,)
    assert store.evidence.put_attestations([second, nobodys], now=NOW) == (Outcome.NOT_HELD, Outcome.UNKNOWN)
    assert lease(store)[0].request.proofs == (b"first",)
    assert store.evidence.put_attestations([second], now=NOW) == (Outcome.NOT_HELD,)
    assert store.evidence.put_attestations([], now=NOW) == ()


def test_requests_come_in_the_order_in_which_they_will_be_leased(store: Store) -> None:
    demand(store)
    for number in range(3):
        submit(store, number, account="alice")
    submit(store, 3, account="bob")
    order = [each.request.request_id for each in to_attest(store)]
    assert order == [request_id(number) for number in (0, 3, 1, 2)]
    assert [each.request.request_id for each in to_attest(store, limit=2)] == order[:2]


def test_requests_of_other_profiles_are_left_to_other_validators(store: Store) -> None:
    demand(store, "0001-mail", "")
    store.requests.submit(certificate_request(profile="0001-mail"), request_id=request_id(1), now=NOW)
    responder = certificate_request(profile="", ocsp_target_ca="unassured_2026_1")
    store.requests.submit(responder, request_id=request_id(2), now=NOW)
    assert [each.request.ocsp_target_ca for each in to_attest(store)] == ["unassured_2026_1"]
    assert len(store.evidence.to_attest(1, [NONCE], profiles=["0001-mail"], limit=9, now=NOW)) == 1


def test_what_cannot_be_vouched_for_is_left_alone_for_a_while(store: Store) -> None:
    demand(store)
    for number in (1, 2):
        submit(store, number)
    first, second = to_attest(store)
    delay = EvidenceDelay(number=first.number, reason="caa-permits has lapsed", delay_s=30)
    store.evidence.postpone([delay], now=NOW)
    assert to_attest(store) == [second]
    assert find(store, 1).last_error == "waits for evidence: caa-permits has lapsed"
    assert len(to_attest(store, at=after(30))) == 2
    assert store.queue.statistics(now=NOW).postponed["sign"] == 0
    attest(store, at=after(30))
    store.evidence.postpone([delay], now=after(30))  # too late: it is attested
    assert len(lease(store, at=after(30))) == 2


def test_new_evidence_makes_the_accounts_requests_ready(store: Store) -> None:
    demand(store)
    for number, account in ((1, "alice"), (2, "bob")):
        submit(store, number, account=account)
    delays = [EvidenceDelay(number=each.number, reason="lapsed", delay_s=3_600) for each in to_attest(store)]
    store.evidence.postpone(delays, now=NOW)
    assert store.evidence.hurry(["alice"], now=LATER) == 1
    assert [each.request.account for each in to_attest(store, at=LATER)] == ["alice"]


def test_a_held_profile_is_attested_for_its_probe_alone(store: Store) -> None:
    demand(store, certificate_request().profile, "")
    for number in (1, 2):
        submit(store, number)
    responder = certificate_request(profile="", ocsp_target_ca="unassured_2026_1")
    store.requests.submit(responder, request_id=request_id(3), now=NOW)
    veto = LintVerdict(profile=certificate_request().profile, findings=("pkix.x",), message="x")
    store.lint_streaks.record([veto] * HOLD_AFTER, now=NOW)
    assert [each.request.profile for each in to_attest(store)] == [""]
    due = NOW + PROBE_EVERY
    assert [each.request.request_id for each in to_attest(store, at=due)] == [request_id(1), request_id(3)]
    attest(store, at=due, limit=1)
    assert numbers(lease(store, at=due)) == [1]
    assert [each.request.profile for each in to_attest(store, at=due)] == [""]


def test_how_far_ahead_the_validators_are(store: Store) -> None:
    demand(store)
    for number in range(5):
        submit(store, number)
    attest(store, limit=3)
    assert store.evidence.attested(1, [NONCE, OTHER], now=NOW) == 3
    assert store.evidence.attested(1, [OTHER], now=NOW) == 0
    assert store.evidence.attested(2, [NONCE], now=NOW) == 0
    lease(store, limit=2)
    assert store.evidence.attested(1, [NONCE], now=NOW) == 1


# What is kept.


def test_proofs_go_when_the_job_is_done(store: Store) -> None:
    demand(store)
    for number in (1, 2, 3):
        submit(store, number)
    attest(store)
    first, second, third = lease(store)
    store.results.finish_issued([issued(first)], now=NOW)
    assert kept_attestations(store) == 2
    store.results.refuse("client", [Refusal(job_id=second.id, code="no", message="no")], now=NOW)
    assert kept_attestations(store) == 1
    send_back(store, third)
    attest(store)
    assert kept_attestations(store) == 1
    store.results.finish_issued([issued(lease(store)[0])], now=NOW)
    assert kept_attestations(store) == 0


def test_what_was_set_aside_comes_back_with_a_clean_slate(store: Store) -> None:
    demand(store)
    submit(store, 1)
    attest(store)
    [job] = lease(store)
    send_back(store, job)
    attest(store)
    store.queue.set_aside("client", [(lease(store)[0].id, "look at it")], now=NOW)
    assert store.evidence.lapse(1, [], now=NOW) == 0
    store.requests.retry(request_id(1).hex(), now=NOW)
    [waiting] = to_attest(store, nonces=[OTHER])
    assert waiting.reattested == 0


def test_the_statistics_count_what_waits_for_evidence(store: Store) -> None:
    demand(store)
    assert (store.queue.statistics(now=NOW).unattested, store.queue.statistics(now=NOW).unattested_s) == (0, 0.0)
    for number in range(3):
        submit(store, number, at=after(number))
    statistics = store.queue.statistics(now=after(10))
    assert (statistics.unattested, statistics.unattested_s, statistics.waiting["sign"]) == (3, 10.0, 3)
    delay = EvidenceDelay(number=to_attest(store, at=after(10))[0].number, reason="lapsed", delay_s=60)
    store.evidence.postpone([delay], now=after(10))
    statistics = store.queue.statistics(now=after(10))
    assert (statistics.unattested, statistics.unattested_s) == (3, 9.0)
    store.evidence.postpone([EvidenceDelay(number=delay.number, reason="", delay_s=0)], now=after(10))
    attest(store, at=after(20))
    assert store.queue.statistics(now=after(20)).unattested == 0


def test_a_naive_time_is_our_own_bug(store: Store) -> None:
    with pytest.raises(InternalError, match="aware"):
        store.evidence.forget(dt.datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
