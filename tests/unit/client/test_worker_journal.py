"""The client's loop and the signer's journal: what is copied between other things, and what the alarm stops."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from typing import Any

import pytest
from tests.support import links
from tests.support.client_loop import Client
from tests.support.signer import SIGNING_CA, Front
from tests.support.store import request_id

from cassiopeia.client import journal_copy
from cassiopeia.journal.entry import Log
from cassiopeia.protocol.events import EntriesRequested, SignRequested


def journal_of(front: Front) -> list[Log]:
    return [Log(entry=octets, parts=parts) for _, octets, parts in front.journal.entries(1, 10**6)]


def copied(client: Client) -> list[Log]:
    return list(client.store.journal_copies.logs(1))


def serial_of(client: Client, number: int) -> str:
    record = client.store.requests.find(request_id(number))
    assert record is not None
    return record.serial_number


def report(client: Client) -> Any:
    signers = client.store.signers.list()
    return signers[0].report.get("journal") if signers else None


def issue_and_copy(client: Client, *numbers: int) -> None:
    client.submit(*numbers)
    client.run_until_issued(*numbers)
    client.run_until(lambda: client.front.journal.size == len(copied(client)))


def test_whatever_is_done_is_copied(make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_copy, "_IDLE_S", 0.05)
    client = make()
    issue_and_copy(client, 1, 2)
    client.submit(3, profile="none")
    client.run_until(lambda: client.state(3) == "refused")
    serial = serial_of(client, 1)
    client.store.certificates.request_revocation(serial, now=dt.datetime.now(dt.UTC), reason=1)
    client.run_until(lambda: client.listed() == [int(serial, 16)])
    client.run_until(lambda: client.front.journal.size == len(copied(client)))
    assert copied(client) == journal_of(client.front)
    client.client._next_status = 0.0
    client.run_until(lambda: (report(client) or {}).get("copied") == client.front.journal.size)
    assert report(client)["alarm"] == ""


def test_a_client_that_drains_leaves_nothing_behind(make: Callable[..., Client]) -> None:
    client = make()
    client.submit(*range(5))
    client.run_until(client.client._is_drained)
    assert [client.state(number) for number in range(5)] == ["issued"] * 5
    assert copied(client) == journal_of(client.front)


def test_the_signer_is_shown_the_newest_head(make: Callable[..., Client]) -> None:
    client = make()
    client.submit(1)
    client.run_until(client.client._is_drained)
    shown = [client.signer.presented]
    client.signer.hang_up()
    client.run_until(lambda: client.signer.presented is not None)
    shown.append(client.signer.presented)
    head = client.store.journal_copies.state(1).head
    assert head is not None
    assert shown == [None, head.octets]
    client.submit(2)
    client.run_until_issued(2)


def test_a_signer_that_has_lost_its_past_renews_crls_and_issues_nothing(
    make: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    client = make()
    early = client.front.journal.signed_head()
    client.submit(1)
    client.run_until(client.client._is_drained)
    client.signer.head = lambda: early
    client.signer.hang_up()
    client.signer.asked.clear()
    client.submit(2)
    serial = serial_of(client, 1)
    client.store.certificates.request_revocation(serial, now=dt.datetime.now(dt.UTC), reason=1)
    client.store.queue.request_crl(SIGNING_CA, now=dt.datetime.now(dt.UTC))

    client.run_until(lambda: client.listed() == [int(serial, 16)])
    client.run_until(lambda: bool((report(client) or {}).get("alarm")))

    assert client.state(2) == "queued"
    assert not any(isinstance(event, SignRequested | EntriesRequested) for event in client.signer.asked)
    (error,) = {record.message for record in caplog.records if record.levelno == logging.ERROR}
    assert "the journal of signer 1 is not the one that this client has copied" in error
    # The signer was made anew, or it was a mistake: a session with a good head, and work goes on.
    client.signer.head = client.front.journal.signed_head
    client.signer.hang_up()
    client.run_until_issued(2)
    client.run_until(lambda: (report(client) or {}).get("alarm") == "")


def test_a_signer_that_shows_no_head_at_first_is_not_left_alone(make: Callable[..., Client]) -> None:
    client = make()
    client.signer.head = lambda: None
    client.submit(1)
    client.run_until_issued(1)
    requested = [type(event) for event in client.signer.asked if isinstance(event, EntriesRequested | SignRequested)]
    assert requested[:2] == [EntriesRequested, SignRequested]


def test_new_certificates_wait_for_what_is_missing_in_the_copy(make: Callable[..., Client]) -> None:
    """Another client has worked with this signer, and its store is gone."""
    client = make()
    client.front.record_issued(7)
    client.submit(1)
    client.run_until_issued(1)
    requested = [type(event) for event in client.signer.asked if isinstance(event, EntriesRequested | SignRequested)]
    assert requested[:2] == [EntriesRequested, SignRequested]
    client.run_until(client.client._is_drained)
    assert copied(client) == journal_of(client.front)


def test_over_version_1_nothing_is_copied(make: Callable[..., Client]) -> None:
    client = make(
        version=1,
        journal_keys=(),
        certificate=links.certificate("client_1"),
        key=links.key("client_1"),
        peers=(links.certificate("signer_1"),),
    )
    client.submit(1)
    client.run_until_issued(1)
    assert client.store.journal_copies.states() == ()
