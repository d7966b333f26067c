"""Jobs with which clients have died: tried alone, set aside at the third death, and in nobody's way meanwhile."""

from __future__ import annotations

import pytest
from tests.support.store import NOW, after, issue, lease_revoke, lease_sign, lease_suspects, request_id, submit

from cassiopeia.store.database import Store
from cassiopeia.store.records import CrlJob, CrlRecord, Postponement, RevokeJob, SetAsideJob, SigningLog, SignJob


def kill(store: Store, *numbers: int, at: float = 0) -> None:
    """Submit requests, and let a client die with all of them in hand."""
    for number in numbers:
        submit(store, number, at=after(at))
    lease_sign(store, f"client@host:{at:g}", at=after(at))
    store.queue.release(f"client@host:{at:g}", now=after(at), death="it was killed")


def die_again(store: Store, name: str, *, at: float) -> None:
    assert store.queue.lease_suspect(name, lease_s=60, now=after(at)) is not None
    assert store.queue.release(name, now=after(at + 1), death="it was killed") == 1


def only_set_aside(store: Store) -> SetAsideJob:
    [job] = store.queue.set_aside_jobs(limit=10)
    return job


def test_a_lease_that_ran_out_counts_a_death_and_is_handed_out_alone(store: Store) -> None:
    for number in range(3):
        submit(store, number)
    lease_sign(store, "one", limit=2)
    assert [job.request.request_id for job in lease_sign(store, "two", at=after(59.999999))] == [request_id(2)]
    assert lease_sign(store, "two", at=after(60)) == []
    first = store.queue.lease_suspect("two", lease_s=60, now=after(60))
    assert first is not None
    assert (first.deaths, first.tries) == (1, 0)
    assert len(lease_suspects(store, "three", at=after(60))) == 1
    assert store.queue.lease_suspect("one", lease_s=60, now=after(60)) is None


def test_leases_that_ran_out_do_not_hide_what_waits_behind_them(store: Store) -> None:
    for number in range(10):
        submit(store, number)
    lease_sign(store, "one", limit=5)
    jobs = lease_sign(store, "two", limit=2, at=after(60))
    assert [job.request.request_id for job in jobs] == [request_id(5), request_id(6)]
    assert store.queue.statistics(now=after(60)).suspected == 5


def test_what_the_dead_held_counts_a_death(store: Store) -> None:
    kill(store, 1, 2)
    assert lease_sign(store) == []
    assert store.queue.suspect_waits(now=NOW)
    suspect = store.queue.lease_suspect("two", lease_s=60, now=NOW)
    assert suspect is not None
    assert suspect.deaths == 1
    record = store.requests.find(request_id(1))
    assert record is not None
    assert record.dead_holders == ("client@host:0, 2026-11-23 12:00:00Z to 2026-11-23 12:00:00Z: it was killed",)
    assert record.last_error.startswith("it is tried alone after death 1 of 3: client@host:0, ")


def test_nothing_waits_when_there_is_no_suspect_or_none_is_ready(store: Store) -> None:
    assert not store.queue.suspect_waits(now=NOW)
    assert store.queue.lease_suspect("one", lease_s=60, now=NOW) is None
    kill(store, 1)
    [job_id] = lease_suspects(store)
    store.queue.retry_later("client", [Postponement(job_id=job_id, delay_s=30, counts=False, reason="later")], now=NOW)
    assert not store.queue.suspect_waits(now=after(29))
    assert store.queue.suspect_waits(now=after(30))


def test_the_third_death_sets_a_request_aside_with_all_that_is_known(store: Store) -> None:
    kill(store, 1)
    die_again(store, "two@host:2", at=10)
    assert store.queue.lease_suspect("three@host:3", lease_s=60, now=after(20)) is not None
    # The third one does not even say goodbye: whoever looks for work next finds it dead.
    assert store.queue.lease_suspect("four", lease_s=60, now=after(80)) is None

    job = only_set_aside(store)
    assert (job.kind, job.request_id, job.set_aside_at) == ("sign", request_id(1).hex(), after(80))
    last = "three@host:3, 2026-11-23 12:00:20Z to 2026-11-23 12:01:20Z: it let its lease run out"
    assert job.dead_holders == (
        "client@host:0, 2026-11-23 12:00:00Z to 2026-11-23 12:00:00Z: it was killed",
        "two@host:2, 2026-11-23 12:00:10Z to 2026-11-23 12:00:11Z: it was killed",
        last,
    )
    short = request_id(1).hex()[:12]
    assert job.reason == (
        f"3 clients died with it in hand, the last one was {last}; "
        f"see `cassiopeia request show {short}`, and put it back with `cassiopeia request retry {short}`"
    )
    assert lease_sign(store, at=after(9_999)) == []
    assert lease_suspects(store, at=after(9_999)) == []


def test_what_was_put_back_begins_anew(store: Store) -> None:
    kill(store, 1)
    die_again(store, "two", at=1)
    die_again(store, "three", at=3)
    record = store.requests.retry(request_id(1).hex(), now=after(10))
    assert (record.set_aside, record.dead_holders) == (False, ())
    [job] = lease_sign(store, at=after(10))
    assert job.deaths == 0


def test_a_revocation_is_set_aside_too(store: Store) -> None:
    [result] = issue(store, 1)
    serial = store.certificates.request_revocation(f"{result.serial_number:x}", now=NOW).serial_number
    assert len(lease_revoke(store, "one")) == 1
    store.queue.release("one", now=after(1), death="it was killed")
    assert lease_revoke(store, "two", at=after(1)) == []
    assert isinstance(store.queue.lease_suspect("two", lease_s=60, now=after(1)), RevokeJob)
    store.queue.release("two", now=after(2), death="it was killed")
    die_again(store, "three", at=2)
    job = only_set_aside(store)
    assert (job.kind, len(job.dead_holders)) == ("revoke", 3)
    assert job.reason.endswith(
        f"see `cassiopeia certificate show {serial}`, and put its revocation back with "
        f"`cassiopeia certificate revoke {serial}`"
    )


def test_a_crl_is_set_aside_until_a_newer_one_is_there(store: Store) -> None:
    store.queue.request_crl("unassured_2026_1", now=NOW)
    store.queue.lease("one", limit=1, lease_s=60, now=NOW)
    store.queue.release("one", now=NOW, death="it was killed")
    assert isinstance(store.queue.lease_suspect("two", lease_s=60, now=NOW), CrlJob)
    store.queue.release("two", now=NOW, death="it was killed")
    die_again(store, "three", at=2)
    assert only_set_aside(store).reason.endswith("the next CRL of unassured_2026_1 is asked for as usual")

    def put(authority: str, number: int) -> None:
        record = CrlRecord(authority=authority, number=number, this_update=NOW, next_update=after(9_999), der=b"crl")
        store.crls.put(record, now=after(10))

    put("assured_2026_1", 1)
    assert len(store.queue.set_aside_jobs(limit=10)) == 1
    put("unassured_2026_1", 1)
    assert store.queue.set_aside_jobs(limit=10) == ()
    # It was an older CRL that nobody got: what is set aside later stays.
    assert store.queue.request_crl("unassured_2026_1", now=after(20))


def test_suspects_come_in_the_order_in_which_they_became_ready(store: Store) -> None:
    for number in range(5):
        submit(store, number)
    for number, seconds in ((0, 50), (1, 40), (2, 30)):
        [job] = lease_sign(store, f"client {number}", limit=1, at=after(1))
        store.queue.blame(f"client {number}", [job.id], "the line was lost", now=after(seconds))
    jobs = [store.queue.lease_suspect("client", lease_s=60, now=after(60)) for _ in range(3)]
    served = [job.request.request_id for job in jobs if isinstance(job, SignJob)]
    assert served == [request_id(2), request_id(1), request_id(0)]


def test_a_suspected_revocation_comes_before_certificates(store: Store) -> None:
    [result] = issue(store, 1)
    kill(store, 2)
    store.certificates.request_revocation(f"{result.serial_number:x}", now=after(5))
    lease_revoke(store, "one", at=after(5))
    store.queue.release("one", now=after(6), death="it was killed")
    assert isinstance(store.queue.lease_suspect("two", lease_s=60, now=after(7)), RevokeJob)


def test_only_the_holder_is_blamed(store: Store) -> None:
    submit(store, 1)
    [job] = lease_sign(store, "one")
    assert store.queue.blame("two", [job.id, 404], "it died", now=NOW) == 0
    assert store.queue.blame("one", [job.id], "two\nlines\0", now=NOW) == 1
    record = store.requests.find(request_id(1))
    assert record is not None
    [line] = record.dead_holders
    assert line.endswith(": two lines\\x00")


def test_suspects_are_for_the_same_clients_as_other_jobs(store: Store) -> None:
    submit(store, 1)
    [job] = lease_sign(store, "one")
    store.results.save_logs("one", [SigningLog(job_id=job.id, sha256=b"\1" * 32, entry=b"entry")], now=NOW, signer_id=1)
    store.queue.release("one", now=NOW, death="it was killed")
    assert not store.queue.suspect_waits(now=NOW, signer_id=2)
    assert store.queue.lease_suspect("two", lease_s=60, now=NOW, signer_id=2) is None
    assert store.queue.suspect_waits(now=NOW, signer_id=1)
    store.queue.request_crl("a", now=NOW)
    store.queue.lease("one", limit=1, lease_s=60, now=NOW)
    store.queue.release("one", now=NOW, death="it was killed")
    assert not store.queue.suspect_waits(now=NOW, signer_id=2, authorities=["b"])
    assert store.queue.suspect_waits(now=NOW, signer_id=2, authorities=["a"])


@pytest.mark.parametrize("healthy", [0, 3])
def test_statistics_count_suspects(store: Store, healthy: int) -> None:
    kill(store, 100, 101)
    for number in range(healthy):
        submit(store, number)
    statistics = store.queue.statistics(now=NOW)
    assert (statistics.suspected, statistics.waiting["sign"]) == (2, 2 + healthy)


# Postponed in a row.


def test_postponements_in_a_row_are_counted_and_forgotten_when_the_signer_has_changed(store: Store) -> None:
    submit(store, 1)
    submit(store, 2)

    def postpone(*, lengthens: bool, at: float) -> list[int]:
        jobs = lease_sign(store, at=after(at))
        store.queue.retry_later(
            "client",
            [
                Postponement(job_id=job.id, delay_s=100, counts=False, reason="halted", lengthens=lengthens)
                for job in jobs
            ],
            now=after(at),
        )
        return [job.postponed for job in jobs]

    assert postpone(lengthens=False, at=0) == [0, 0]
    assert store.queue.hurry(1, now=after(1)) == 0
    assert postpone(lengthens=True, at=100) == [0, 0]
    assert postpone(lengthens=True, at=200) == [1, 1]
    assert lease_sign(store, at=after(299)) == []
    assert store.queue.hurry(1, now=after(299)) == 2
    assert [(job.postponed, job.tries) for job in lease_sign(store, at=after(299))] == [(0, 0), (0, 0)]


def test_what_belongs_to_another_signer_is_not_hurried(store: Store) -> None:
    submit(store, 1)
    [job] = lease_sign(store)
    store.results.save_logs(
        "client", [SigningLog(job_id=job.id, sha256=b"\1" * 32, entry=b"entry")], now=NOW, signer_id=1
    )
    store.queue.retry_later(
        "client", [Postponement(job_id=job.id, delay_s=100, counts=False, reason="halted")], now=NOW
    )
    assert store.queue.hurry(2, now=NOW) == 0
    assert store.queue.hurry(1, now=NOW) == 1
