from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.authorities import NOW
from tests.support.client import OWNER, record_certificates, submit
from tests.support.conversations import RSA_WITH_SHA256, joined
from tests.support.signer import SIGNING_CA, Front
from tests.support.store import issued, lease_sign
from tests.support.syncing import DAY, Syncing, front_with_crl, make_crl, put

from cassiopeia.client.publish import Publisher
from cassiopeia.core import crl
from cassiopeia.errors import PeerError
from cassiopeia.protocol.events import (
    FullCrlReceived,
    RequestAbandoned,
    RequestFailed,
    RequestRefused,
    RevocationAnswered,
)
from cassiopeia.protocol.limits import Limits
from cassiopeia.store.database import Store


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with front_with_crl(tmp_path / "journal") as made:
        yield made


@pytest.fixture
def client(store: Store, front: Front, tmp_path: Path) -> Syncing:
    return Syncing(store, front, tmp_path / "public")


@pytest.fixture
def serials(store: Store, front: Front) -> list[int]:
    return [each.serial_number for each in record_certificates(store, front, 1, 2, 3, 4)]


def test_an_empty_client_fetches_the_full_crl(client: Syncing) -> None:
    assert client.sync.due(now=NOW)
    event = client.exchange()
    assert isinstance(event, FullCrlReceived)
    assert client.sync.under_way
    client.take(event)
    assert client.published().number == 1
    assert not client.sync.due(now=NOW)
    assert not client.sync.under_way


def test_revocations_are_patched_stored_and_published(client: Syncing, serials: list[int]) -> None:
    client.run()
    client.revoke(*serials[:2], reason=1)
    assert [client.state(each) for each in serials] == ["requested", "requested", "none", "none"]
    client.lease()
    event = client.exchange()
    assert isinstance(event, RevocationAnswered)  # not the full CRL
    client.take(event)
    assert client.listed() == serials[:2]
    assert [client.state(each) for each in serials] == ["revoked", "revoked", "none", "none"]
    assert client.store.certificates.look_up(f"{serials[0]:x}").revoked_at == NOW
    client.revoke(serials[2])
    client.run()
    assert client.listed() == serials[:3]
    assert client.published().number == 3


def test_a_client_whose_first_work_is_a_revocation_needs_no_full_crl(client: Syncing, serials: list[int]) -> None:
    client.revoke(serials[0])
    client.lease()
    event = client.exchange()
    assert isinstance(event, RevocationAnswered)
    client.take(event)
    assert client.listed() == serials[:1]


def test_one_message_at_a_time_for_each_sub_ca(client: Syncing, serials: list[int]) -> None:
    client.run()
    client.revoke(serials[0])
    client.lease()
    assert client.send() == 1
    client.revoke(serials[1])
    client.lease()
    assert client.send() == 0
    assert client.sync.busy
    client.take(*client.hear())
    assert client.listed() == serials[:1]
    assert client.send() == 1
    client.take(*client.hear())
    assert client.listed() == serials[:2]


def test_a_message_carries_a_hundred(client: Syncing, store: Store, front: Front) -> None:
    many = [each.serial_number for each in record_certificates(store, front, *range(130))]
    client.run()
    client.revoke(*many)
    client.lease()
    client.take(client.exchange())
    assert len(client.listed()) == 100
    client.take(client.exchange())
    assert client.listed() == many


def test_a_job_that_comes_twice_is_sent_once(client: Syncing, serials: list[int]) -> None:
    client.run()
    client.revoke(serials[0])
    client.lease()
    client.front.now += dt.timedelta(seconds=61)  # the lease ran out while it waited here
    client.lease()
    client.take(client.exchange())
    assert client.listed() == serials[:1]
    assert not client.sync.busy


def test_a_fresh_signature_that_somebody_wants(client: Syncing) -> None:
    client.run()
    client.store.queue.request_crl(SIGNING_CA, now=NOW)
    client.run()
    assert client.published().number == 2
    assert client.store.queue.statistics(now=NOW).leased["crl"] == 0


def test_a_crl_is_renewed_after_a_day(client: Syncing) -> None:
    client.run()
    client.front.now += DAY - dt.timedelta(seconds=1)
    assert not client.sync.due(now=client.front.now)
    client.front.now += dt.timedelta(seconds=1)
    client.run()
    assert client.published().number == 2
    assert client.published().this_update == client.front.now


def test_a_crl_that_lives_for_a_day_is_renewed_at_half_time(client: Syncing) -> None:
    """As the original's."""
    client.run()
    (counter,) = client.sync._counters.values()
    assert counter.copy is not None
    counter.copy = dataclasses.replace(counter.copy, next_update=NOW + DAY)
    assert not client.sync.due(now=NOW + DAY / 2 - dt.timedelta(seconds=1))
    assert client.sync.due(now=NOW + DAY / 2)


# What does not fit.


def test_a_copy_that_the_signer_does_not_know_is_replaced_by_the_full_crl(client: Syncing, serials: list[int]) -> None:
    """Another client was faster, or the copy is of a life that the signer has lost."""
    client.run()
    (counter,) = client.sync._counters.values()
    counter.copy = crl.read_crl(make_crl(1, this_update=NOW - DAY))
    client.revoke(serials[0])
    client.lease()
    patch = client.exchange()
    assert isinstance(patch, RevocationAnswered)
    client.take(patch)
    assert client.state(serials[0]) == "requested"
    full = client.exchange()
    assert isinstance(full, FullCrlReceived)
    client.take(full)
    assert client.listed() == serials[:1]
    assert client.state(serials[0]) == "revoked"


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": b"\0" * 70},
        {"entries": b""},
        {"crl_number": 1},
        {"crl_number": 99},
        {"next_update": NOW + 99 * DAY},
        {"algorithm": RSA_WITH_SHA256},
        {"algorithm": b"\x30\x00"},
    ],
)
def test_an_answer_that_does_not_verify_is_not_believed(
    client: Syncing, serials: list[int], changes: dict[str, Any]
) -> None:
    client.run()
    client.revoke(serials[0])
    client.lease()
    event = client.exchange()
    assert isinstance(event, RevocationAnswered)
    client.take(dataclasses.replace(event, answer=dataclasses.replace(event.answer, **changes)))
    assert client.published().number == 1
    assert client.state(serials[0]) == "requested"
    client.run()
    assert client.listed() == serials[:1]


@pytest.mark.parametrize("octets", [b"", b"\x30\x00", b"not a CRL"])
def test_a_full_crl_that_does_not_verify_is_asked_for_again_after_a_while(client: Syncing, octets: bytes) -> None:
    event = client.exchange()
    client.take(FullCrlReceived(handle=event.handle, der=octets))  # type: ignore[union-attr] # it was one
    assert client.store.crls.get(SIGNING_CA) is None
    assert not client.sync.due(now=NOW + dt.timedelta(seconds=29))
    client.front.now += dt.timedelta(seconds=30)
    client.run()
    assert client.published().number == 1


def test_a_full_crl_that_has_lost_a_revocation_is_not_taken(
    client: Syncing, serials: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """A signer whose journal was lost signs a CRL that verifies, with a higher number, and without the past."""
    client.revoke(serials[0])
    client.run()
    before = client.published()
    client.revoke(serials[1])
    client.lease()
    event = client.exchange()
    assert isinstance(event, RevocationAnswered)
    client.take(dataclasses.replace(event, answer=dataclasses.replace(event.answer, signature=b"")))
    event = client.exchange()
    assert isinstance(event, FullCrlReceived)
    client.take(dataclasses.replace(event, der=make_crl(before.number + 5)))
    assert f"it lacks 1 revocations that are published, {serials[0]:x} among them" in caplog.text
    assert client.published() == before
    assert client.state(serials[1]) == "requested"


def test_a_stored_crl_that_does_not_verify_is_neither_published_nor_built_upon(client: Syncing) -> None:
    client.run()
    genuine = client.store.crls.get(SIGNING_CA)
    assert genuine is not None
    put(client.store, make_crl(7)[:-1] + b"\0")
    client.restart()
    assert (client.directory / f"{SIGNING_CA}.crl").read_bytes() == genuine.der
    (counter,) = client.sync._counters.values()
    assert counter.copy is None


def test_revocations_behind_a_bad_full_crl_go_back_to_the_queue(client: Syncing, serials: list[int]) -> None:
    client.run()
    client.revoke(serials[0])
    client.lease()
    event = client.exchange()
    assert isinstance(event, RevocationAnswered)
    client.take(dataclasses.replace(event, answer=dataclasses.replace(event.answer, signature=b"")))
    event = client.exchange()
    assert isinstance(event, FullCrlReceived)
    client.take(dataclasses.replace(event, der=b"nonsense"))
    assert client.store.queue.statistics(now=NOW).waiting["revoke"] == 1
    client.front.now += dt.timedelta(seconds=30)
    client.run()
    assert client.listed() == serials[:1]
    assert client.state(serials[0]) == "revoked"


# No, and not now.


def test_of_many_the_refused_one_ends_and_the_others_are_sent_again(
    client: Syncing, serials: list[int], store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    submit(store, client.front, 9)
    (job,) = lease_sign(store, OWNER, at=NOW)
    stranger = issued(job, authority=SIGNING_CA)
    store.results.finish_issued([stranger], now=NOW)
    client.run()
    client.store.queue.request_crl(SIGNING_CA, now=NOW)
    client.revoke(serials[0], stranger.serial_number, serials[1])
    client.lease()

    refused = client.exchange()
    assert isinstance(refused, RequestRefused)
    client.take(refused)
    assert "never issued" in caplog.text
    client.take(client.exchange())

    assert client.listed() == serials[:2]
    assert [client.state(each) for each in (serials[0], stranger.serial_number)] == ["revoked", "requested"]
    statistics = store.queue.statistics(now=NOW)
    assert (statistics.set_aside["revoke"], statistics.set_aside["crl"]) == (1, 0)


def test_a_message_that_is_refused_as_a_whole_ends_as_a_whole(client: Syncing, serials: list[int]) -> None:
    client.run()
    client.revoke(*serials[:2])
    client.lease()
    event = client.exchange()
    assert isinstance(event, RevocationAnswered)
    client.take(RequestRefused(handle=event.handle, code="unknown-ca", field="signingCA", message="no such sub-CA"))
    assert client.store.queue.statistics(now=NOW).set_aside["revoke"] == 2
    assert not client.sync.due(now=NOW)


def test_a_renewal_that_is_refused_is_not_asked_for_at_once(client: Syncing) -> None:
    event = client.exchange()
    assert isinstance(event, FullCrlReceived)
    client.take(RequestRefused(handle=event.handle, code="unknown-ca", field="signingCA", message="no such sub-CA"))
    assert not client.sync.due(now=NOW + dt.timedelta(seconds=29))
    assert client.sync.due(now=NOW + dt.timedelta(seconds=30))


@pytest.mark.parametrize(("told", "waits"), [(7, 7), (0, 0), ((1 << 168) - 1, 24 * 3600)])
def test_a_signer_that_cannot_answer_now_is_asked_again(
    client: Syncing, serials: list[int], told: int, waits: int
) -> None:
    client.run()
    client.revoke(serials[0])
    client.lease()
    event = client.exchange()
    assert isinstance(event, RevocationAnswered)
    client.take(RequestFailed(handle=event.handle, code="busy", message="not now", retry_after_s=told))
    if waits:
        assert not client.sync.due(now=NOW + dt.timedelta(seconds=waits - 1))
    client.front.now += dt.timedelta(seconds=waits)
    client.run()
    assert client.listed() == serials[:1]
    assert client.state(serials[0]) == "revoked"


def test_a_signer_that_has_signed_no_crl_yet_is_no_reason_to_worry(
    client: Syncing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        event = client.exchange()
        assert isinstance(event, FullCrlReceived)
        client.take(RequestFailed(handle=event.handle, code="no-crl", message="it has no CRL yet", retry_after_s=5))
        client.front.now += dt.timedelta(minutes=1)
    assert [
        (each.levelname, "has no CRL yet, as it is in a new signer" in each.message) for each in caplog.records
    ] == [("INFO", True)]
    client.run()
    assert client.listed() == []


def test_a_session_without_room_is_not_asked(client: Syncing, serials: list[int]) -> None:
    """The signer's bound counts requests for certificates as well."""
    client.run()
    client.revoke(serials[0])
    client.lease()
    full = joined(limits=Limits(open_requests=1))
    full.client.get_status()
    assert client.sync.send(full.client, now=NOW) == 0
    assert not client.sync.under_way
    client.take(client.exchange())
    assert client.listed() == serials[:1]


def test_an_answer_of_another_kind_breaks_the_protocol(client: Syncing) -> None:
    event = client.exchange()
    assert isinstance(event, FullCrlReceived)
    with pytest.raises(PeerError, match="RequestAbandoned is no answer to a revocation"):
        client.sync.receive(RequestAbandoned(handle=event.handle), now=NOW)


def test_events_of_others_are_left_to_them(client: Syncing) -> None:
    client.send()
    assert not client.sync.receive(RequestAbandoned(handle=99), now=NOW)


def test_a_sub_ca_that_the_client_does_not_know_is_refused(client: Syncing, store: Store) -> None:
    store.queue.request_crl("nobody_2026_1", now=NOW)
    client.lease()
    assert store.queue.statistics(now=NOW).set_aside["crl"] == 1


# Lines, stores and directories.


@pytest.mark.parametrize("answered", [False, True])
def test_a_lost_line_loses_no_revocation(client: Syncing, serials: list[int], *, answered: bool) -> None:
    client.run()
    client.revoke(*serials[:2])
    client.lease()
    client.send()
    if answered:
        client.front.settle()
    client.front.vanish(client.pair)
    client.sync.line_lost("the line was lost", now=NOW, proven=True)
    client.pair = client.front.connect()
    client.lease()
    client.take(client.exchange())
    assert client.listed() == serials[:2]
    assert client.state(serials[0]) == "revoked"


def test_forgotten_jobs_come_again_from_the_queue(client: Syncing, serials: list[int]) -> None:
    client.run()
    client.revoke(*serials[:2])
    client.lease()
    client.send()
    client.sync.forget()
    assert not client.sync.busy
    client.store.queue.release(OWNER, now=NOW)
    client.pair = client.front.connect()
    client.run()
    assert client.listed() == serials[:2]


def test_a_client_that_starts_publishes_what_the_store_holds(client: Syncing) -> None:
    """A crash between the store's commit and the directory."""
    client.run()
    (client.directory / f"{SIGNING_CA}.crl").unlink()
    client.restart()
    assert client.published().number == 1
    assert not client.sync.due(now=NOW)


def test_a_crl_of_the_same_number_that_is_another_one_is_looked_into(
    client: Syncing, caplog: pytest.LogCaptureFixture
) -> None:
    event = client.exchange()
    put(client.store, make_crl(1, this_update=NOW - DAY))
    client.take(event)
    assert "the store holds another one with number 1: look into it" in caplog.text
    assert not (client.directory / f"{SIGNING_CA}.crl").exists()
    # It is not asked for over and over.
    assert not client.sync.due(now=NOW + dt.timedelta(seconds=29))


@pytest.mark.parametrize("revoking", [False, True])
def test_an_older_crl_never_takes_a_newer_ones_place(client: Syncing, serials: list[int], *, revoking: bool) -> None:
    """Two clients share store and directory; the other was faster."""
    if revoking:
        client.revoke(serials[0])
        client.lease()
    event = client.exchange()
    newer = make_crl(7)
    put(client.store, newer)
    Publisher(client.directory).publish_crl(SIGNING_CA, newer)
    client.take(event)
    assert client.published().number == 7
    # The next patch is one of the newer.
    (counter,) = client.sync._counters.values()
    assert counter.copy is not None
    assert counter.copy.number == 7
