"""A revocation has an id that a retry has again, so that the same message gets the same answer."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.client import record_certificates
from tests.support.signer import Front
from tests.support.syncing import DAY, Syncing

from cassiopeia.core.request import RevocationRequest
from cassiopeia.protocol.events import RevocationAnswered, RevocationRequested
from cassiopeia.store.database import Store


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path / "journal")
    yield made
    made.journal.close()


@pytest.fixture
def serials(store: Store, front: Front) -> list[int]:
    return [each.serial_number for each in record_certificates(store, front, 1, 2)]


@pytest.fixture
def client(store: Store, front: Front, tmp_path: Path, serials: list[int]) -> Syncing:
    front.revocation.renew(now=front.now)
    front.settle()
    made = Syncing(store, front, tmp_path / "public")
    made.run()
    assert serials
    return made


def asked(client: Syncing) -> RevocationRequest:
    """What the client asks for now; the signer never hears of it."""
    client.lease()
    assert client.send() == 1
    (event,) = client.pair.to_signer()
    assert isinstance(event, RevocationRequested)
    return event.request


def again(client: Syncing) -> RevocationRequest:
    """The same after the client's end."""
    client.store.queue.release("client", now=client.front.now)
    client.restart()
    return asked(client)


def test_the_same_message_has_the_same_id_after_a_crash(client: Syncing, serials: list[int]) -> None:
    client.revoke(serials[0], reason=1, invalidity_date=client.front.now - DAY)
    first = asked(client)
    assert len(first.request_id) == 32
    assert again(client) == first


def test_another_message_has_another_id(client: Syncing, serials: list[int]) -> None:
    client.revoke(serials[0])
    found = [asked(client)]
    client.revoke(serials[1])
    found.append(again(client))
    assert len(found[1].revocations) == 2
    assert len({each.request_id for each in found}) == 2


def test_what_is_asked_of_a_newer_crl_is_another_message(client: Syncing, serials: list[int]) -> None:
    """What was answered to the older one would not patch it."""
    client.revoke(serials[0])
    first = asked(client)
    client.store.queue.release("client", now=client.front.now)
    client.front.now += 2 * DAY
    client.front.revocation.renew(now=client.front.now)
    client.front.settle()
    client.restart()
    client.sync._counters[client.front.authority.name].full_wanted = True
    client.take(client.exchange())
    second = asked(client)
    assert second.revocations == first.revocations
    assert second.crl_number > first.crl_number
    assert second.request_id != first.request_id


def test_a_fresh_signature_needs_no_id(client: Syncing) -> None:
    client.front.now += 2 * DAY
    assert asked(client).request_id == b""


def test_a_lost_answer_comes_again_word_for_word(client: Syncing, serials: list[int]) -> None:
    client.revoke(*serials)
    client.lease()
    lost = client.exchange()
    assert isinstance(lost, RevocationAnswered)
    size = client.front.journal.size
    client.store.queue.release("client", now=client.front.now)
    client.restart()
    client.front.now += dt.timedelta(minutes=5)
    client.lease()
    answer = client.exchange()
    assert isinstance(answer, RevocationAnswered)
    assert answer.answer == lost.answer
    # Nothing was revoked, signed or journaled a second time.
    assert client.front.journal.size == size
    client.take(answer)
    assert [client.state(each) for each in serials] == ["revoked", "revoked"]
