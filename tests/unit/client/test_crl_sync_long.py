"""A long list and one revocation more: the client looks at what is new, and says what the list had no room for."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import NOW
from tests.support.client import record_certificates
from tests.support.signer import Front
from tests.support.syncing import Syncing, front_with_crl

from cassiopeia.core import crl, crl_size
from cassiopeia.store.database import Store

COUNT = 12
YESTERDAY = NOW - dt.timedelta(days=1)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with front_with_crl(tmp_path / "journal") as made:
        yield made


@pytest.fixture
def client(store: Store, front: Front, tmp_path: Path) -> Syncing:
    return Syncing(store, front, tmp_path / "public")


@pytest.fixture
def serials(store: Store, front: Front) -> list[int]:
    return [each.serial_number for each in record_certificates(store, front, *range(1, COUNT + 1))]


def test_what_was_listed_before_is_not_read_again(
    client: Syncing, serials: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.run()
    client.revoke(*serials[:-1])
    client.run()
    walked: list[int] = []
    entry_serials = crl.entry_serials

    def count(entries: bytes) -> Iterator[int]:
        for each in entry_serials(entries):
            walked.append(each)
            yield each

    client.revoke(serials[-1])
    client.lease()
    answer = client.exchange()
    monkeypatch.setattr(crl, "entry_serials", count)
    client.take(answer)
    assert walked == [serials[-1]]
    assert client.state(serials[-1]) == "revoked"
    monkeypatch.undo()
    assert client.listed() == serials


def test_what_another_client_has_revoked_is_found_in_the_whole_list(
    client: Syncing, serials: list[int], front: Front
) -> None:
    """The answer brings nothing new: it stands in the copy."""
    client.run()
    client.revoke(serials[0])
    client.lease()
    answer = client.exchange()
    (counter,) = client.sync._counters.values()
    jobs = list(counter.jobs)
    client.take(answer)
    # As if the answer had been lost behind the store: the job comes again.
    counter.jobs = jobs
    client.sync._finish_jobs(counter, client.published(), now=front.now, new_entries=b"")
    assert counter.jobs == []


def test_a_date_that_the_list_has_no_room_for_is_told(
    client: Syncing, serials: list[int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Room for the first date, and not for the second.
    kept = (client.front.authority.maximum_certificates + crl_size.RESPONDERS) * 49
    around = crl_size.MAXIMUM_OCTETS - client.front.authority.crl_room.octets
    monkeypatch.setattr(crl_size, "MAXIMUM_OCTETS", kept + around + 30)
    [listed] = client.front.revocation.lists
    listed.follow(client.front.authority, lifetime=dt.timedelta(days=10))
    client.run()
    with caplog.at_level(logging.WARNING):
        client.revoke(*serials[:2], reason=1, invalidity_date=YESTERDAY)
        client.run()
    said = {each.serial_number: each for each, _ in crl.read_revocations(client.published().entries)}
    assert (said[serials[0]].invalidity_date, said[serials[1]].invalidity_date) == (YESTERDAY, None)
    assert {each.reason for each in said.values()} == {1}
    warnings = [each for each in caplog.records if each.levelno >= logging.WARNING]
    told = [each.getMessage() for each in warnings if each.name.endswith("crl_sync")]
    (message,) = told
    assert f"{serials[1]:x} is revoked without its invalidity date, for which the list has no room" in message
    assert [client.state(each) for each in serials[:2]] == ["revoked", "revoked"]
