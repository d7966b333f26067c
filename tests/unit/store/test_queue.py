from __future__ import annotations

import datetime as dt
from collections import Counter

import pytest
from tests.support.store import (
    NOW,
    after,
    issue,
    issued,
    lease_revoke,
    lease_sign,
    lease_suspects,
    request_id,
    submit,
)

from cassiopeia.store.database import Store
from cassiopeia.store.queue import MAXIMUM_LEASE
from cassiopeia.store.records import CrlJob, Outcome, Postponement, Refusal, RevokeJob, SetAsideJob, SigningLog, SignJob


def postponed(job_id: int, *, delay_s: float = 60, counts: bool = True, abandoned: bool = False) -> Postponement:
    return Postponement(job_id=job_id, delay_s=delay_s, counts=counts, reason="later", abandoned=abandoned)


def test_an_empty_queue_gives_nothing(store: Store) -> None:
    assert store.queue.lease("client", limit=10, lease_s=60, now=NOW) == ()


def test_a_job_has_one_holder(store: Store) -> None:
    submit(store, 1)
    assert len(lease_sign(store, "one")) == 1
    assert lease_sign(store, "two") == []
    assert lease_sign(store, "one") == []


def test_the_oldest_comes_first_and_the_limit_holds(store: Store) -> None:
    for number in range(5):
        submit(store, number, at=after(number))
    jobs = lease_sign(store, limit=3, at=after(10))
    assert [job.request.request_id for job in jobs] == [request_id(number) for number in range(3)]
    assert [job.created_at for job in jobs] == [after(number) for number in range(3)]


def test_more_than_the_maximum_is_not_leased(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cassiopeia.store.queue.MAXIMUM_LEASE", 2)
    for number in range(3):
        submit(store, number)
    assert len(lease_sign(store, limit=1_000_000)) == 2
    assert MAXIMUM_LEASE == 10_000


def test_released_jobs_are_ready_at_once_and_nobody_died(store: Store) -> None:
    for number in range(3):
        submit(store, number)
    lease_sign(store, "one", limit=2)
    lease_sign(store, "two", limit=1)
    assert store.queue.release("one", now=after(1)) == 2
    jobs = lease_sign(store, "three", at=after(1))
    assert [(job.request.request_id, job.deaths) for job in jobs] == [(request_id(0), 0), (request_id(1), 0)]
    assert store.queue.release("one", now=after(1)) == 0


def test_a_renewed_lease_outlives_its_time_and_nobody_else_renews_it(store: Store) -> None:
    for number in range(2):
        submit(store, number)
    renewed, left = lease_sign(store, "one")
    assert store.queue.renew("one", [renewed.id], lease_s=600, now=after(50)) == 1
    assert store.queue.renew("two", [renewed.id, left.id], lease_s=6000, now=after(50)) == 0
    for seconds, run_out in ((120, [left.id]), (649, []), (651, [renewed.id])):
        assert lease_sign(store, "two", at=after(seconds)) == []
        suspects = lease_suspects(store, "two", at=after(seconds))
        assert suspects == run_out
        store.queue.set_aside("two", [(each, "") for each in suspects], now=after(seconds))


def test_the_owners_are_those_who_hold_something(store: Store) -> None:
    for number in range(3):
        submit(store, number)
    assert store.queue.owners() == ()
    lease_sign(store, "two", limit=2)
    lease_sign(store, "one", limit=1)
    assert store.queue.owners() == ("one", "two")
    store.queue.release("two", now=NOW)
    assert store.queue.owners() == ("one",)


def test_a_postponed_job_comes_back_after_its_own_delay(store: Store) -> None:
    for number in range(3):
        submit(store, number)
    jobs = lease_sign(store)
    outcomes = store.queue.retry_later(
        "client",
        [
            postponed(jobs[0].id, delay_s=60, counts=True),
            postponed(jobs[1].id, delay_s=30.5, counts=False),
        ],
        now=NOW,
    )
    assert outcomes == (Outcome.RECORDED, Outcome.RECORDED)
    assert lease_sign(store, at=after(30)) == []
    assert [(job.id, job.tries) for job in lease_sign(store, at=after(31))] == [(jobs[1].id, 0)]
    store.queue.release("client", now=after(31))
    assert sorted((job.id, job.tries) for job in lease_sign(store, at=after(60))) == [
        (jobs[0].id, 1),
        (jobs[1].id, 0),
        (jobs[2].id, 0),
    ]


def test_only_the_holder_can_postpone_or_set_aside(store: Store) -> None:
    submit(store, 1)
    [job] = lease_sign(store, "one")
    assert store.queue.retry_later("two", [postponed(job.id), postponed(404)], now=NOW) == (
        Outcome.NOT_HELD,
        Outcome.UNKNOWN,
    )
    assert store.queue.set_aside("two", [(job.id, "why")], now=NOW) == (Outcome.NOT_HELD,)
    assert store.queue.retry_later("one", [postponed(job.id)], now=NOW) == (Outcome.RECORDED,)
    assert store.queue.retry_later("one", [postponed(job.id)], now=NOW) == (Outcome.NOT_HELD,)


def test_a_holder_whose_lease_ran_out_may_still_write_until_somebody_took_over(store: Store) -> None:
    submit(store, 1)
    [job] = lease_sign(store, "one")
    assert store.queue.retry_later("one", [postponed(job.id, delay_s=0)], now=after(3_600)) == (Outcome.RECORDED,)
    lease_sign(store, "one", at=after(3_600))
    assert lease_sign(store, "two", at=after(7_200)) == []
    assert store.queue.retry_later("one", [postponed(job.id)], now=after(7_200)) == (Outcome.NOT_HELD,)


def test_a_set_aside_job_blocks_nobody_until_it_is_put_back(store: Store) -> None:
    submit(store, 1)
    submit(store, 2)
    first, second = lease_sign(store)
    assert store.queue.set_aside("client", [(first.id, "died three times"), (404, "")], now=NOW) == (
        Outcome.RECORDED,
        Outcome.UNKNOWN,
    )
    store.queue.release("client", now=NOW)
    assert [job.id for job in lease_sign(store, at=after(10_000))] == [second.id]
    assert store.queue.statistics(now=NOW).set_aside == {"revoke": 0, "crl": 0, "sign": 1}
    store.requests.retry(request_id(1).hex(), now=after(10_000))
    [again] = lease_sign(store, at=after(10_000))
    assert (again.id, again.tries, again.deaths) == (first.id, 0, 0)


def test_set_aside_jobs_are_listed_with_their_reasons(store: Store) -> None:
    assert store.queue.set_aside_jobs(limit=10) == ()
    [result] = issue(store, 1)
    submit(store, 1)
    submit(store, 2)
    store.queue.request_crl("unassured_2026_1", now=NOW)
    serial = store.certificates.request_revocation(f"{result.serial_number:x}", now=NOW).serial_number
    revocation, crl, sign, _ = store.queue.lease("client", limit=10, lease_s=60, now=NOW)
    for seconds, job, why in ((1, sign, "odd"), (2, revocation, "unknown there"), (3, crl, "no such authority")):
        store.queue.set_aside("client", [(job.id, why)], now=after(seconds))

    expected = [
        SetAsideJob(
            id=revocation.id,
            kind="revoke",
            request_id="",
            serial_number=serial,
            authority="unassured_2026_1",
            reason="unknown there",
            set_aside_at=after(2),
            dead_holders=(),
        ),
        SetAsideJob(
            id=crl.id,
            kind="crl",
            request_id="",
            serial_number="",
            authority="unassured_2026_1",
            reason="no such authority",
            set_aside_at=after(3),
            dead_holders=(),
        ),
        SetAsideJob(
            id=sign.id,
            kind="sign",
            request_id=request_id(1).hex(),
            serial_number="",
            authority="",
            reason="odd",
            set_aside_at=after(1),
            dead_holders=(),
        ),
    ]
    expected.sort(key=lambda each: each.id, reverse=True)
    assert list(store.queue.set_aside_jobs(limit=10)) == expected
    assert list(store.queue.set_aside_jobs(limit=2)) == expected[:2]


def test_revocations_come_first_then_crls_then_new_certificates(store: Store) -> None:
    [result] = issue(store, 1)
    submit(store, 1)
    assert store.queue.request_crl("unassured_2026_1", now=NOW)
    store.certificates.request_revocation(f"{result.serial_number:x}", now=NOW)
    jobs = store.queue.lease("client", limit=10, lease_s=60, now=NOW)
    assert [type(job) for job in jobs] == [RevokeJob, CrlJob, SignJob]
    store.queue.release("client", now=NOW)
    assert [type(job) for job in store.queue.lease("client", limit=1, lease_s=60, now=NOW)] == [RevokeJob]


def test_a_crl_is_asked_for_once_at_a_time(store: Store) -> None:
    assert store.queue.request_crl("unassured_2026_1", now=NOW)
    assert not store.queue.request_crl("unassured_2026_1", now=NOW)
    assert store.queue.request_crl("assured_2026_1", now=NOW)
    jobs = store.queue.lease("client", limit=10, lease_s=60, now=NOW)
    assert [job.authority for job in jobs if isinstance(job, CrlJob)] == ["unassured_2026_1", "assured_2026_1"]
    assert not store.queue.request_crl("unassured_2026_1", now=NOW)
    store.results.finish_revoked([jobs[0].id], revoked_at=NOW, now=NOW)
    assert store.queue.request_crl("unassured_2026_1", now=NOW)


def test_a_crl_that_was_set_aside_is_asked_for_anew(store: Store) -> None:
    store.queue.request_crl("unassured_2026_1", now=NOW)
    [job] = store.queue.lease("client", limit=1, lease_s=60, now=NOW)
    store.queue.set_aside("client", [(job.id, "no such authority")], now=NOW)
    assert store.queue.request_crl("unassured_2026_1", now=NOW)


def test_accounts_take_turns(store: Store) -> None:
    for number in range(50):
        submit(store, number, account="busy")
    submit(store, 100, account="bob")
    submit(store, 101, account="carol")
    submit(store, 102, account="bob")
    accounts = [job.request.account for job in lease_sign(store, limit=6)]
    assert accounts == ["busy", "bob", "carol", "busy", "bob", "busy"]


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_whoever_comes_later_waits_for_one_job_of_each_other_account_at_most(store: Store, batch: int) -> None:
    for number in range(30):
        submit(store, number, account="busy")
    served = 0
    while served < 15:
        served += len(lease_sign(store, limit=min(batch, 15 - served)))
    submit(store, 100, account="late")
    submit(store, 101, account="late")
    accounts = [job.request.account for job in lease_sign(store, limit=4)]
    assert sorted(accounts[:2]) == ["busy", "late"]
    assert sorted(accounts[2:]) == ["busy", "late"]


def test_handing_in_one_at_a_time_is_no_way_around_the_turns(store: Store) -> None:
    for number in range(10):
        submit(store, number, account="patient")
    served: Counter[str] = Counter()
    for number in range(100, 110):
        submit(store, number, account="pushy")
        served.update(job.request.account for job in lease_sign(store, limit=1))
    assert served == {"patient": 5, "pushy": 5}


def test_an_account_that_worked_a_lot_is_not_punished_later(store: Store) -> None:
    issue(store, 40, account="busy yesterday")
    for number in range(100, 110):
        submit(store, number, account="new")
    for number in range(200, 210):
        submit(store, number, account="busy yesterday")
    served = Counter(job.request.account for job in lease_sign(store, limit=6))
    assert served == {"new": 3, "busy yesterday": 3}


def test_a_postponed_job_gives_newcomers_no_advantage(store: Store) -> None:
    submit(store, 0, account="unlucky")
    [unlucky] = lease_sign(store)
    store.queue.retry_later("client", [postponed(unlucky.id, delay_s=1_000)], now=NOW)
    for number in range(1, 30):
        submit(store, number, account="busy")
    lease_sign(store, limit=20)
    for number in range(100, 110):
        submit(store, number, account="new")
    served = Counter(job.request.account for job in lease_sign(store, limit=6))
    assert served == {"busy": 3, "new": 3}
    # The one that waited longest is first as soon as it may be.
    assert lease_sign(store, limit=1, at=after(1_000))[0].id == unlucky.id


def test_revocations_take_turns_too(store: Store) -> None:
    many = issue(store, 5, account="alice")
    [one] = issue(store, 1, first=10, account="bob")
    for result in [*many, one]:
        store.certificates.request_revocation(f"{result.serial_number:x}", now=NOW)
    serials = [job.revocation.serial_number for job in lease_revoke(store)]
    assert serials.index(one.serial_number) == 1


def test_a_job_belongs_to_the_signer_that_has_its_intent(store: Store) -> None:
    submit(store, 1)
    [job] = lease_sign(store)
    log = SigningLog(job_id=job.id, sha256=b"\1" * 32, entry=b"entry")
    store.results.save_logs("client", [log], now=NOW, signer_id=1)
    store.queue.release("client", now=NOW)

    def lease(signer_id: int | None) -> list[int | None]:
        jobs = store.queue.lease("client", limit=1, lease_s=60, now=NOW, signer_id=signer_id)
        return [each.signer_id for each in jobs]

    assert lease(2) == []
    assert lease(1) == [1]
    store.queue.retry_later("client", [postponed(job.id, delay_s=0)], now=NOW)
    assert lease(2) == []
    assert lease(None) == [1]
    store.queue.retry_later("client", [postponed(job.id, delay_s=0, abandoned=True)], now=NOW)
    assert lease(2) == [None]


def test_revocations_and_crls_go_to_the_client_of_their_authority(store: Store) -> None:
    [result] = issue(store, 1)
    submit(store, 1)
    store.certificates.request_revocation(f"{result.serial_number:x}", now=NOW)
    store.queue.request_crl("assured_2026_1", now=NOW)

    def kinds(*authorities: str) -> list[type]:
        jobs = store.queue.lease("client", limit=9, lease_s=60, now=NOW, authorities=authorities)
        store.queue.release("client", now=NOW)
        return [type(job) for job in jobs]

    assert kinds() == [SignJob]
    assert kinds("assured_2026_1") == [CrlJob, SignJob]
    assert kinds("unassured_2026_1", "assured_2026_1") == [RevokeJob, CrlJob, SignJob]


def test_revocations_and_crls_are_given_alone(store: Store) -> None:
    [result] = issue(store, 1)
    submit(store, 1)
    submit(store, 2)
    store.certificates.request_revocation(f"{result.serial_number:x}", now=NOW)
    store.queue.request_crl("assured_2026_1", now=NOW)
    jobs = store.queue.lease("client", limit=9, lease_s=60, now=NOW, certificates=False)
    assert [type(job) for job in jobs] == [RevokeJob, CrlJob]
    # One died with a certificate in hand: it is a suspect, and waits with the others.
    assert len(lease_sign(store, "another", limit=1)) == 1
    store.queue.release("another", now=NOW, death="it died")
    assert store.queue.suspect_waits(now=NOW)
    assert not store.queue.suspect_waits(now=NOW, certificates=False)
    assert store.queue.lease_suspect("client", lease_s=60, now=NOW, certificates=False) is None
    assert store.queue.lease_suspect("client", lease_s=60, now=NOW) is not None


def test_statistics_of_an_empty_store(store: Store) -> None:
    statistics = store.queue.statistics(now=NOW)
    nothing = {"revoke": 0, "crl": 0, "sign": 0}
    assert statistics.waiting == statistics.leased == statistics.postponed == statistics.set_aside == nothing
    assert (statistics.oldest_age_s, statistics.oldest_difficulty) == (0, "")
    assert (statistics.suspected, statistics.issued_last_hour) == (0, 0)


def test_statistics_say_how_deep_and_how_old_the_queue_is(store: Store) -> None:
    issue(store, 2)
    for number in range(10, 16):
        submit(store, number, at=after(number))
    later, refused, aside, _held = lease_sign(store, limit=4, at=after(20))
    store.queue.retry_later("client", [postponed(later.id, delay_s=500)], now=after(20))
    store.results.refuse("client", [Refusal(job_id=refused.id, code="no", message="no")], now=after(20))
    store.queue.set_aside("client", [(aside.id, "odd")], now=after(20))
    store.queue.request_crl("unassured_2026_1", now=after(30))

    statistics = store.queue.statistics(now=after(110))
    assert statistics.waiting == {"revoke": 0, "crl": 1, "sign": 3}
    assert statistics.postponed == {"revoke": 0, "crl": 0, "sign": 1}
    assert statistics.leased == {"revoke": 0, "crl": 0, "sign": 1}
    assert statistics.set_aside == {"revoke": 0, "crl": 0, "sign": 1}
    assert (statistics.oldest_age_s, statistics.oldest_difficulty) == (100, "later")
    assert statistics.issued_last_hour == 2
    assert store.queue.statistics(now=NOW + dt.timedelta(hours=1)).issued_last_hour == 0


def test_a_finished_job_never_comes_back(store: Store) -> None:
    submit(store, 1)
    [job] = lease_sign(store)
    store.results.finish_issued([issued(job)], now=NOW)
    assert store.queue.release("client", now=NOW) == 0
    assert lease_sign(store, at=after(100_000)) == []
