"""CRLs when something is wrong for long: a signer that says "not now", workers and lines that end, a full disk."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import NOW
from tests.support.client import OWNER, record_certificates
from tests.support.signer import SIGNING_CA, Front
from tests.support.syncing import DAY, Syncing, front_with_crl, make_crl, put

from cassiopeia.client import crl_sync as crl_sync_module
from cassiopeia.core import crl
from cassiopeia.protocol.events import RequestFailed
from cassiopeia.store.database import Store
from cassiopeia.store.records import RevokeJob


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with front_with_crl(tmp_path / "journal") as made:
        yield made


@pytest.fixture
def client(store: Store, front: Front, tmp_path: Path) -> Syncing:
    made = Syncing(store, front, tmp_path / "public")
    made.run()
    return made


@pytest.fixture
def serials(store: Store, front: Front) -> list[int]:
    return [each.serial_number for each in record_certificates(store, front, 1, 2, 3, 4)]


def say_not_now(client: Syncing, *, code: str = "busy") -> None:
    event = client.exchange()
    client.take(RequestFailed(handle=event.handle, code=code, message="not now", retry_after_s=1))  # type: ignore[union-attr] # it is an answer


def seconds_until_due(client: Syncing) -> float:
    waited = 0
    while not client.sync.due(now=client.front.now + dt.timedelta(seconds=waited)):
        waited += 1
    client.front.now += dt.timedelta(seconds=waited)
    return waited


def test_a_signer_that_keeps_saying_not_now_is_asked_ever_less_often(client: Syncing) -> None:
    client.front.now += DAY
    waits = []
    for _ in range(13):
        say_not_now(client)
        waits.append(seconds_until_due(client))
    assert waits == [1, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1800, 1800]
    client.run()
    client.front.now += DAY
    say_not_now(client)
    assert seconds_until_due(client) == 1


def test_a_signer_that_has_changed_is_asked_at_once(client: Syncing) -> None:
    client.front.now += DAY
    for _ in range(9):
        say_not_now(client)
        seconds_until_due(client)
    say_not_now(client)
    assert not client.sync.due(now=client.front.now)
    client.sync.hurry()
    client.run()


def test_what_comes_while_nothing_may_be_asked_goes_back_for_so_long(client: Syncing, serials: list[int]) -> None:
    """Else it would be held for hours, and another client could not have it."""
    client.revoke(serials[0])
    client.lease()
    say_not_now(client)
    client.revoke(serials[1])
    client.lease()
    assert not client.sync.busy
    statistics = client.store.queue.statistics(now=client.front.now)
    assert (statistics.leased["revoke"], statistics.waiting["revoke"]) == (0, 2)
    client.front.now += dt.timedelta(seconds=1)
    client.run()
    assert client.listed() == serials[:2]


def take_suspect(client: Syncing) -> RevokeJob:
    job = client.store.queue.lease_suspect(OWNER, lease_s=60, now=client.front.now)
    assert isinstance(job, RevokeJob)
    client.sync.take(job, now=client.front.now)
    return job


def test_a_revocation_that_ends_the_signers_workers_is_found_and_set_aside(client: Syncing, serials: list[int]) -> None:
    client.revoke(*serials[:2])
    client.lease()
    say_not_now(client, code="worker-died")
    assert client.store.queue.statistics(now=client.front.now).suspected == 2
    client.front.now += dt.timedelta(seconds=1)
    for innocent in (True, False, False):
        job = take_suspect(client)
        assert client.send(alone=job.id) == 1
        (event,) = client.hear()
        if innocent:
            client.take(event)
        else:
            failed = RequestFailed(handle=event.handle, code="worker-died", message="ended two", retry_after_s=300)  # type: ignore[union-attr] # it is an answer
            client.take(failed)
            client.front.now += dt.timedelta(minutes=10)
    assert [client.state(each) for each in serials[:2]] == ["revoked", "requested"]
    [aside] = client.store.queue.set_aside_jobs(limit=9)
    assert int(aside.serial_number, 16) == serials[1]


def test_nothing_is_sent_beside_what_is_alone(client: Syncing, serials: list[int]) -> None:
    client.revoke(serials[0])
    job = client.store.queue.lease(OWNER, limit=1, lease_s=60, now=NOW)[0]
    client.store.queue.blame(OWNER, [job.id], "it was killed", now=NOW)
    client.revoke(*serials[1:])
    client.lease()
    suspect = take_suspect(client)
    assert client.send(alone=404) == 0
    assert client.send(alone=suspect.id) == 1
    client.take(*client.hear())
    assert client.listed() == serials[:1]
    client.run()
    assert sorted(client.listed()) == sorted(serials)


def lose_line(client: Syncing) -> None:
    client.front.vanish(client.pair)
    client.sync.line_lost("the line was lost", now=client.front.now, proven=False)
    client.pair = client.front.connect()


def test_a_crl_that_ends_the_signer_leaves_time_for_certificates(client: Syncing) -> None:
    client.front.now += DAY
    waits = []
    for _ in range(5):
        client.send()
        lose_line(client)
        waits.append(seconds_until_due(client))
    assert waits == [0, 1, 5, 25, 125]
    client.run()
    assert client.published().number == 2


def test_a_revocation_that_was_under_way_at_two_losses_is_suspected(client: Syncing, serials: list[int]) -> None:
    client.revoke(serials[0])
    for _ in range(2):
        client.lease()
        client.send()
        lose_line(client)
    assert client.store.queue.statistics(now=client.front.now).suspected == 1
    assert client.store.queue.statistics(now=client.front.now).set_aside["revoke"] == 0


@pytest.mark.parametrize(("full", "limit_s"), [(False, "_ANSWER_TIME_LIMIT_S"), (True, "_FULL_CRL_TIME_LIMIT_S")])
def test_an_answer_is_overdue_after_its_time(
    client: Syncing, monkeypatch: pytest.MonkeyPatch, *, full: bool, limit_s: str
) -> None:
    (counter,) = client.sync._counters.values()
    counter.full_wanted = full
    client.front.now += DAY
    seen = [client.sync.overdue]
    client.send()
    seen.append(client.sync.overdue)
    monkeypatch.setattr(crl_sync_module, limit_s, 0)
    time.sleep(0.001)
    seen.append(client.sync.overdue)
    client.take(*client.hear())
    seen.append(client.sync.overdue)
    assert seen == [False, False, True, False]


# The client's own disk.


def test_a_revocation_that_cannot_be_published_is_not_done(client: Syncing, serials: list[int]) -> None:
    before = client.published()
    away = client.directory.rename(client.directory.with_name("away"))
    client.revoke(serials[0])
    client.run()
    assert client.state(serials[0]) == "requested"
    stored = client.store.crls.get(SIGNING_CA)
    assert stored is not None
    assert (stored.number, before.number) == (2, 1)
    # Meanwhile others are revoked, and none of it is lost.
    client.revoke(serials[1])
    client.run()
    assert client.store.queue.statistics(now=client.front.now).postponed["revoke"] == 2

    away.rename(client.directory)
    client.front.now += dt.timedelta(seconds=60)
    client.run()
    assert client.listed() == serials[:2]
    assert [client.state(each) for each in serials[:2]] == ["revoked", "revoked"]


def test_a_client_that_starts_with_a_full_disk_goes_on_all_the_same(client: Syncing, serials: list[int]) -> None:
    client.run()
    published = client.directory / f"{SIGNING_CA}.crl"
    newer = make_crl(7)
    published.with_suffix(".crl.pem").unlink()
    published.with_suffix(".crl.pem").mkdir()
    put(client.store, newer)
    client.restart()
    assert crl.read_crl(published.read_bytes()).number == 1
    (counter,) = client.sync._counters.values()
    assert counter.copy is not None
    assert counter.copy.number == 7


def test_a_wish_that_was_set_aside_is_fulfilled_by_the_next_crl(client: Syncing) -> None:
    client.store.queue.request_crl(SIGNING_CA, now=NOW)
    [job] = client.store.queue.lease(OWNER, limit=1, lease_s=60, now=NOW)
    client.store.queue.set_aside(OWNER, [(job.id, "it kills clients")], now=NOW)
    client.front.now += DAY
    client.run()
    assert client.store.queue.set_aside_jobs(limit=9) == ()
