"""Many revocations at once: in batches that are durable, once each, whatever stops or repeats it; on both databases."""

from __future__ import annotations

import datetime as dt
import hashlib
import threading

import pytest
from tests.support.certified import SERIAL, certify
from tests.support.store import NOW, after, lease_revoke

from cassiopeia.core.request import Revocation
from cassiopeia.store import mass_revocation
from cassiopeia.store.database import Store
from cassiopeia.store.mass_revocation import NamedCertificate, Queued
from cassiopeia.store.records import Postponement, Refusal


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mass_revocation, "AT_ONCE", 2)


def named(store: Store, *serials: str) -> list[NamedCertificate]:
    records = [store.certificates.look_up(each) for each in serials]
    return [
        NamedCertificate(
            serial_number=each.serial_number, authority=each.authority, sha256=hashlib.sha256(each.der).hexdigest()
        )
        for each in records
    ]


def queue(store: Store, wanted: list[NamedCertificate], *, at: dt.datetime = NOW) -> list[Queued]:
    return list(store.mass_revocation.queue(wanted, reason=1, invalidity_date=NOW, now=at))


def test_each_is_queued_once(store: Store) -> None:
    wanted = named(store, *certify(store, 1, 2, 3, at=NOW))
    assert queue(store, wanted) == [Queued(new=2), Queued(new=1)]
    assert queue(store, wanted, at=after(60)) == [Queued(), Queued()]
    jobs = lease_revoke(store)
    assert [job.revocation for job in jobs] == [
        Revocation(serial_number=SERIAL + number, reason=1, invalidity_date=NOW) for number in (1, 2, 3)
    ]
    assert {job.authority for job in jobs} == {"unassured_2026_1"}


def test_who_is_stopped_in_the_middle_goes_on_there(store: Store) -> None:
    wanted = named(store, *certify(store, 1, 2, 3, 4, 5, at=NOW))
    going = store.mass_revocation.queue(wanted, reason=0, invalidity_date=None, now=NOW)
    assert next(going) == Queued(new=2)
    del going
    progress = store.mass_revocation.progress(wanted)
    assert (sum(progress.waiting.values()), progress.not_asked) == (2, 3)
    assert queue(store, wanted) == [Queued(), Queued(new=2), Queued(new=1)]
    reasons = [job.revocation.reason for job in lease_revoke(store)]
    assert reasons == [None, None, 1, 1, 1]


def test_two_at_once_queue_each_once(store: Store) -> None:
    wanted = named(store, *certify(store, *range(1, 9), at=NOW))
    found: list[Queued] = []
    threads = [threading.Thread(target=lambda: found.extend(queue(store, wanted))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each.new for each in found) == 8
    assert len(lease_revoke(store)) == 8


def test_accounts_take_turns(store: Store) -> None:
    """A thousand of one account do not keep another account's single one waiting."""
    many = named(store, *certify(store, 1, 2, 3, at=NOW))
    single = named(store, *certify(store, 4, at=NOW, account="bob"))
    queue(store, many)
    queue(store, single)
    assert [job.revocation.serial_number - SERIAL for job in lease_revoke(store)] == [1, 4, 2, 3]


def test_how_far_it_is(store: Store) -> None:
    first = certify(store, 1, 2, at=NOW)
    second = certify(store, 3, at=NOW, authority="assured_2026_1")
    wanted = named(store, *first, *second)
    queue(store, wanted)
    jobs = {job.revocation.serial_number - SERIAL: job for job in lease_revoke(store)}
    store.results.finish_revoked([jobs[1].id], revoked_at=after(5), now=after(6))
    store.results.refuse("client", [Refusal(job_id=jobs[2].id, code="no", message="never")], now=after(6))
    progress = store.mass_revocation.progress(wanted)
    assert (progress.revoked, progress.waiting, progress.not_asked) == (1, {"assured_2026_1": 1}, 0)
    assert (progress.set_aside, progress.reasons) == (1, ((first[1], "no: never"),))
    assert progress.last_revoked_at == after(5)
    # Set aside is not lost: the same again puts it back.
    assert queue(store, wanted, at=after(60)) == [Queued(again=1), Queued()]
    assert store.mass_revocation.progress(wanted).set_aside == 0


def test_what_a_cap_keeps_waiting_is_told(store: Store) -> None:
    wanted = named(store, *certify(store, 1, at=NOW))
    queue(store, wanted)
    (job,) = lease_revoke(store)
    later = Postponement(job_id=job.id, delay_s=600, counts=False, reason="the signer's cap is reached")
    store.queue.retry_later("client", [later], now=NOW)
    assert store.mass_revocation.progress(wanted).difficulty == "the signer's cap is reached"


def test_certificates_that_this_store_does_not_have(store: Store) -> None:
    (known,) = named(store, *certify(store, 1, at=NOW))
    other = NamedCertificate(serial_number="0777", authority=known.authority, sha256=known.sha256)
    elsewhere = NamedCertificate(serial_number=known.serial_number, authority="assured_2026_1", sha256=known.sha256)
    altered = NamedCertificate(serial_number=known.serial_number, authority=known.authority, sha256="0" * 64)
    wanted = [known, other, elsewhere, altered]
    assert store.mass_revocation.strangers(wanted) == [other, elsewhere, altered]


def test_what_counts_under_a_cap(store: Store) -> None:
    wanted = named(store, *certify(store, 1, 2, 3, 4, at=NOW))
    certify(store, 5, at=NOW, authority="assured_2026_1")
    assert store.mass_revocation.authorities() == ("assured_2026_1", "unassured_2026_1")
    queue(store, wanted)
    store.certificates.request_revocation(wanted[3].serial_number, now=NOW, reason=1, proof=b"proof")
    assert store.mass_revocation.waiting() == {"unassured_2026_1": 3}
    jobs = lease_revoke(store)
    store.results.finish_revoked([job.id for job in jobs[:2]], revoked_at=after(5), now=after(6))
    store.results.finish_revoked([jobs[3].id], revoked_at=after(5), now=after(6))
    assert store.mass_revocation.revoked_since(after(4)) == {"unassured_2026_1": 2}
    assert store.mass_revocation.revoked_since(after(5)) == {}
    assert store.mass_revocation.waiting() == {"unassured_2026_1": 1}


def test_nothing_at_all(store: Store) -> None:
    assert queue(store, []) == []
    assert store.mass_revocation.strangers([]) == []
    assert store.mass_revocation.progress([]).revoked == 0
