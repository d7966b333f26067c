"""Revocations over the signer's cap: they wait here, none is lost or refused, and they go on by themselves."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import PrivateKey
from tests.support.client import OWNER, record_certificates, submit
from tests.support.compromising import certify, key_of, proved
from tests.support.signer import Front
from tests.support.store import issued, lease_sign
from tests.support.syncing import Syncing, front_with_crl

from cassiopeia.journal.order import RaiseCap
from cassiopeia.protocol.events import OrderObeyed, RequestFailed
from cassiopeia.store.database import Store

COUNT = 10
CAP = 4


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with front_with_crl(tmp_path / "journal") as made:
        made.limits["revocations"] = CAP
        yield made


@pytest.fixture
def client(store: Store, front: Front, tmp_path: Path) -> Syncing:
    made = Syncing(store, front, tmp_path / "public")
    made.run()
    return made


@pytest.fixture
def serials(store: Store, front: Front) -> list[int]:
    return [each.serial_number for each in record_certificates(store, front, *range(1, COUNT + 1))]


def states(client: Syncing, serials: list[int]) -> list[str]:
    return [client.state(each) for each in serials]


def test_as_many_as_there_is_room_for_are_revoked_and_known_to_be(client: Syncing, serials: list[int]) -> None:
    client.revoke(*serials)
    client.run()
    assert client.listed() == serials[:CAP]
    assert states(client, serials) == ["revoked"] * CAP + ["requested"] * (COUNT - CAP)
    statistics = client.store.queue.statistics(now=client.front.now)
    assert (statistics.waiting["revoke"], statistics.postponed["revoke"]) == (COUNT - CAP, COUNT - CAP)
    assert "cap is reached" in statistics.oldest_difficulty


def test_the_rest_follows_hour_by_hour(client: Syncing, serials: list[int]) -> None:
    client.revoke(*serials)
    client.run()
    hours = 0
    while "requested" in states(client, serials):
        client.front.now += dt.timedelta(minutes=65)
        client.run()
        hours += 1
        assert hours < COUNT
    assert client.listed() == serials
    assert hours <= COUNT / CAP + 1


def test_a_raised_cap_lets_all_of_them_through(client: Syncing, serials: list[int]) -> None:
    client.revoke(*serials)
    client.run()
    raised = RaiseCap(cap="revocations", limit=100, hours=1)
    assert isinstance(client.front.tell(client.front.connect(), raised), OrderObeyed)
    # What the client does when it hears that an order was obeyed.
    client.sync.hurry()
    client.store.queue.hurry(1, now=client.front.now)
    client.run()
    assert states(client, serials) == ["revoked"] * COUNT


def test_messages_become_smaller_and_larger_again(client: Syncing, serials: list[int]) -> None:
    client.revoke(*serials)
    client.lease()
    sizes = []
    while client.sync.due(now=client.front.now):
        assert client.send() == 1
        (counter,) = client.sync._counters.values()
        sizes.append(len(counter.jobs))
        client.take(*client.hear())
    # 10 are too many, and 5; of 2 each are taken until one alone is too many.
    assert sizes[0] == COUNT
    assert sizes[-1] == 1
    assert all(after <= 2 * before for before, after in itertools.pairwise(sizes))


def certified(client: Syncing, number: int, key: PrivateKey) -> int:
    """A certificate for this key that both sides know."""
    submit(client.store, client.front, number)
    (job,) = lease_sign(client.store, OWNER, at=client.front.now)
    result = issued(job, authority=client.front.authority.name)
    client.store.results.finish_issued([result], now=client.front.now)
    certify(client.front, result.serial_number, key)
    return result.serial_number


def test_what_a_compromised_key_proves_is_not_kept_waiting(client: Syncing, serials: list[int]) -> None:
    key = key_of("Ed25519")
    ours = certified(client, 90, key)
    client.revoke(*serials, ours)
    client.run()
    assert client.state(ours) == "requested"
    # It waits already, for most of an hour; with the proof it does not, whatever the client was told of the others.
    client.revoke(ours, reason=1, proof=proved(ours, key).proof)
    client.run()
    assert client.state(ours) == "revoked"
    assert states(client, serials) == ["revoked"] * CAP + ["requested"] * (COUNT - CAP)
    assert client.listed() == [*serials[:CAP], ours]


def test_what_is_proved_travels_first_and_by_itself(client: Syncing, serials: list[int]) -> None:
    keys = [key_of("Ed25519", number) for number in range(3)]
    ours = [certified(client, 90 + number, key) for number, key in enumerate(keys)]
    client.revoke(*serials)
    for serial, key in zip(ours, keys, strict=True):
        client.revoke(serial, reason=1, proof=proved(serial, key).proof)
    client.lease()
    client.take(client.exchange())
    assert client.listed() == ours
    client.run()
    assert client.listed() == [*ours, *serials[:CAP]]


def test_a_wrong_proof_takes_no_other_with_it(client: Syncing) -> None:
    keys = [key_of("Ed25519", number) for number in range(2)]
    ours = [certified(client, 90 + number, key) for number, key in enumerate(keys)]
    client.revoke(ours[0], reason=1, proof=b"nobody's")
    client.revoke(ours[1], reason=1, proof=proved(ours[1], keys[1]).proof)
    client.run()
    assert states(client, ours) == ["requested", "revoked"]
    (aside,) = client.store.queue.set_aside_jobs(limit=9)
    assert "proof-invalid" in aside.reason


def test_a_full_hour_asks_once_and_then_waits_as_it_was_told(client: Syncing, serials: list[int]) -> None:
    client.front.limits["revocations"] = 1
    client.revoke(serials[0])
    client.run()
    client.revoke(serials[1])
    client.lease()
    answer = client.exchange()
    assert isinstance(answer, RequestFailed)
    client.take(answer)
    assert not client.sync.due(now=client.front.now)
    client.front.now += dt.timedelta(seconds=answer.retry_after_s)
    client.run()
    assert client.listed() == serials[:2]
