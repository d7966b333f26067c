"""A signer whose clock is wrong signs CRLs of the future: nobody sees them, and all goes on when it is put right."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.client import record_certificates
from tests.support.signer import Front
from tests.support.syncing import DAY, Syncing

from cassiopeia.client import crl_sync
from cassiopeia.protocol.events import Event, RevocationAnswered
from cassiopeia.store.database import Store

LATER = dt.timedelta(seconds=crl_sync._AHEAD_RETRY_S + 1)


@pytest.fixture
def client(store: Store, tmp_path: Path) -> Iterator[Syncing]:
    front = Front(directory=tmp_path / "journal")
    front.revocation.renew(now=front.now)
    front.settle()
    yield Syncing(store, front, tmp_path / "public")
    front.journal.close()


def answer_ahead(client: Syncing, by: dt.timedelta) -> Event:
    """What the signer answers whose clock is ahead by so much."""
    client.front.now += by
    (event,) = client.hear()
    client.front.now -= by
    return event


def test_a_crl_that_is_dated_ahead_is_not_published(
    client: Syncing, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    [serial] = [each.serial_number for each in record_certificates(store, client.front, 1)]
    client.run()
    before = client.published().number
    client.revoke(serial)
    client.lease()
    client.send()

    answer = answer_ahead(client, 20 * DAY)
    assert isinstance(answer, RevocationAnswered)
    client.take(answer)

    assert client.published().number == before
    assert client.state(serial) == "requested"
    assert "has not come: it is not published" in caplog.text
    assert not client.sync.due(now=client.front.now)

    # The signer's clock is put right: the same request gets a CRL that is of now.
    client.front.now += LATER
    client.run()
    assert client.published().number == before + 2
    assert client.published().this_update == client.front.now
    assert (client.listed(), client.state(serial)) == ([serial], "revoked")


def test_clocks_may_differ_by_minutes(client: Syncing) -> None:
    client.run()
    client.front.now += DAY
    client.send()
    client.take(answer_ahead(client, dt.timedelta(minutes=59)))
    assert client.published().this_update > client.front.now


def test_a_signer_whose_clock_was_turned_back_signs_anew_at_once(client: Syncing) -> None:
    client.run()
    before = client.published().number
    client.front.now += 20 * DAY
    client.front.revocation.renew(now=client.front.now)
    client.front.settle()
    client.front.now -= 20 * DAY
    client.front.revocation.renew(now=client.front.now)
    client.front.settle()
    current = client.front.revocation.lists[0].current
    assert current is not None
    assert (current.number, current.this_update) == (before + 2, client.front.now)
