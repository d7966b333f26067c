"""CRLs over version 1: no entries, no number, no words for no."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import NOW, default_authority, entries, p256_key, sign
from tests.support.client import OWNER, record_certificates
from tests.support.signer import SIGNING_CA, Front
from tests.support.syncing import DAY, Syncing, front_with_crl

from cassiopeia.client.crl_sync import CrlSync
from cassiopeia.client.publish import Publisher
from cassiopeia.core import algorithms, crl, der
from cassiopeia.protocol.events import (
    FullCrlReceived,
    RevocationAnswered,
)
from cassiopeia.protocol.payload import RevokedAnswer
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


def make_version_1_crl(listed: bytes, *, this_update: dt.datetime) -> tuple[bytes, RevokedAnswer]:
    """A v1 CRL as the original makes them, and what its signer tells of it."""
    authority = default_authority()
    algorithm = algorithms.choose_algorithm(authority.public_key, "")
    next_update = this_update + DAY
    tbs = der.encode(
        der.SEQUENCE, *crl._assemble_body(authority.subject, algorithm.der, this_update, next_update, listed)
    )
    signature = sign(p256_key(), algorithm, tbs)
    answer = RevokedAnswer(
        date=this_update,
        algorithm=algorithm.der,
        signature=signature,
        this_update=this_update,
        next_update=next_update,
    )
    return crl.compose_crl(tbs, signature), answer


def test_a_version_1_client_writes_the_entries_itself(client: Syncing, serials: list[int]) -> None:
    first, _ = make_version_1_crl(b"", this_update=NOW)
    event = client.exchange()
    assert isinstance(event, FullCrlReceived)
    client.take(dataclasses.replace(event, der=first))
    client.revoke(*serials[:2])
    client.lease()
    client.send()
    (counter,) = client.sync._counters.values()
    assert counter.handle is not None
    later = NOW + dt.timedelta(hours=1)
    both = b"".join(entries(range(each, each + 1), later) for each in serials[:2])
    second, answer = make_version_1_crl(both, this_update=later)
    client.take(RevocationAnswered(handle=counter.handle, answer=answer))
    assert (client.directory / f"{SIGNING_CA}.crl").read_bytes() == second
    assert client.listed() == serials[:2]


def test_what_stands_in_the_copy_already_is_not_written_twice(client: Syncing, serials: list[int]) -> None:
    known = entries(range(serials[0], serials[0] + 1))
    first, _ = make_version_1_crl(known, this_update=NOW)
    event = client.exchange()
    assert isinstance(event, FullCrlReceived)
    client.take(dataclasses.replace(event, der=first))
    client.revoke(serials[0])
    client.lease()
    client.send()
    (counter,) = client.sync._counters.values()
    assert counter.handle is not None
    later = NOW + dt.timedelta(hours=1)
    second, answer = make_version_1_crl(known, this_update=later)
    client.take(RevocationAnswered(handle=counter.handle, answer=answer))
    assert (client.directory / f"{SIGNING_CA}.crl").read_bytes() == second


def test_without_words_revocations_are_tried_alone_and_ever_later(client: Syncing, serials: list[int]) -> None:
    client.run()
    client.revoke(*serials[:3])
    client.lease()
    client.send()
    client.front.vanish(client.pair)
    client.sync.left_unanswered(now=client.front.now)
    assert not client.sync.busy
    assert client.store.queue.statistics(now=NOW).waiting["revoke"] == 3
    client.front.now += dt.timedelta(seconds=2)
    client.pair = client.front.connect()
    client.lease()
    client.take(client.exchange())
    assert client.listed() == serials[:1]
    client.take(client.exchange())
    assert client.listed() == serials[:2]


def test_without_words_a_fresh_crl_is_asked_for_ever_later(client: Syncing, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for seconds in (1, 5, 25):
            client.send()
            client.sync.left_unanswered(now=client.front.now)
            assert not client.sync.due(now=client.front.now + dt.timedelta(seconds=seconds - 0.5))
            client.front.now += dt.timedelta(seconds=seconds)
            assert client.sync.due(now=client.front.now)
            client.front.vanish(client.pair)
            client.pair = client.front.connect()
    assert "again in 25 seconds" in caplog.text
    client.run()
    client.front.now += DAY
    client.pair = client.front.connect()
    client.send()
    client.sync.left_unanswered(now=client.front.now)
    # An answer has set it back.
    assert client.sync.due(now=client.front.now + dt.timedelta(seconds=1))


def test_nothing_under_way_is_nothing_unanswered(client: Syncing) -> None:
    client.run()
    client.sync.left_unanswered(now=NOW)
    assert not client.sync.due(now=NOW)


def test_one_message_at_most_and_the_full_crl_alone(client: Syncing, store: Store, front: Front) -> None:
    other = dataclasses.replace(front.authority, name="unassured_2027_1")
    client.sync = CrlSync(
        authorities=[front.authority, other],
        store=store,
        owner=OWNER,
        publisher=Publisher(client.directory),
        renew_after=DAY,
    )
    assert client.send(only_full=True) == 0
    assert client.send(at_most=0) == 0
    assert client.send(at_most=1) == 1
    assert client.send(at_most=1) == 1
    first, second = client.sync._counters.values()
    for counter in (first, second):
        counter.handle = None
    second.full_wanted = True
    assert client.send(only_full=True) == 1
    assert (first.handle, second.handle is None) == (None, False)
