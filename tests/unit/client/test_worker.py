"""The client's loop, turn by turn, over a real line to the signer's desks: both in the test's own thread."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy import text
from tests.support import links
from tests.support.authorities import default_ca
from tests.support.client_loop import Client
from tests.support.conversations import STATUS_REPORT
from tests.support.signer import SIGNING_CA
from tests.support.store import request_id

from cassiopeia.client import worker as worker_module
from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.protocol.events import HelloReceived, StatusRequested
from cassiopeia.protocol.limits import Limits
from cassiopeia.store.database import Store
from cassiopeia.store.records import SigningLog


def test_the_queue_is_worked_off(make: Callable[..., Client]) -> None:
    client = make()
    client.submit(1, 2, 3)
    client.run_until_issued(1, 2, 3)
    client.submit(4)
    client.run_until_issued(4)
    # All in one session.
    assert sum(isinstance(each, HelloReceived) for each in client.signer.asked) == 1


def test_ca_certificates_and_crls_are_published(make: Callable[..., Client]) -> None:
    client = make()
    public = client.directory / "public"
    assert sorted(path.name for path in public.iterdir()) == [
        "root.crt",
        "root.pem",
        f"{SIGNING_CA}.crt",
        f"{SIGNING_CA}.pem",
    ]
    certificate = x509.load_der_x509_certificate((public / f"{SIGNING_CA}.crt").read_bytes())
    assert certificate == default_ca().certificate
    client.run_until((public / f"{SIGNING_CA}.crl").exists)
    assert client.listed() == []


def test_revocations_and_crl_wishes_come_through(make: Callable[..., Client]) -> None:
    client = make()
    client.submit(1)
    client.run_until_issued(1)
    record = client.store.requests.find(request_id(1))
    assert record is not None
    client.store.certificates.request_revocation(record.serial_number, now=dt.datetime.now(dt.UTC))
    client.run_until(lambda: client.listed() == [int(record.serial_number, 16)])


def test_what_the_signer_says_of_itself_is_kept(make: Callable[..., Client]) -> None:
    client = make()
    client.run_until(lambda: bool(client.store.signers.list()))
    (status,) = client.store.signers.list()
    assert (status.signer_id, status.report["state"]) == (1, "running")
    assert status.report["configuration_hash"] == STATUS_REPORT.configuration_hash.hex()
    assert status.report["authorities"][0]["next_update"].startswith("2026-11-23T08:32:13")
    assert json.dumps(status.report)


def test_a_signer_that_is_about_to_begin_is_asked_again_soon(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_STATUS_SOON_S", 0.02)
    client = make()
    client.signer.report = STATUS_REPORT
    client.run_until(lambda: bool(client.store.signers.list()))
    client.signer.report = dataclasses.replace(STATUS_REPORT, state="running", reason="")
    client.run_until(lambda: client.store.signers.list()[0].report["state"] == "running")
    asked = sum(isinstance(each, StatusRequested) for each in client.signer.asked)
    for _ in range(20):
        client.turn()
    assert sum(isinstance(each, StatusRequested) for each in client.signer.asked) == asked


def test_a_signer_with_many_sub_cas_is_not_asked_as_often(make: Callable[..., Client]) -> None:
    """Each has its line in the answer: a slow serial line has other things to carry."""
    client = make()
    halted = dataclasses.replace(STATUS_REPORT, authorities=STATUS_REPORT.authorities[:1] * 80)
    client.run_until(lambda: bool(client.store.signers.list()))
    earliest = time.monotonic() + 80 * worker_module._STATUS_AUTHORITY_S
    client.client._save_status(halted, dt.datetime.now(dt.UTC))
    assert client.client._next_status >= earliest


@pytest.mark.parametrize("open_requests", [1, 2, 3])
def test_a_signer_that_bears_few_requests_at_once_gets_no_more(make: Callable[..., Client], open_requests: int) -> None:
    """Status, CRLs and certificates share what there is, and none starves."""
    client = make()
    client.signer.limits = Limits(open_requests=open_requests)
    client.submit(*range(8))
    client.run_until_issued(*range(8))
    client.run_until(lambda: bool(client.store.signers.list()))
    assert (client.directory / f"public/{SIGNING_CA}.crl").exists()
    assert sum(isinstance(each, HelloReceived) for each in client.signer.asked) == 1


def test_a_window_is_refilled_when_a_quarter_of_it_is_free(make: Callable[..., Client]) -> None:
    client = make(window=4)
    client.submit(*range(20))
    client.run_until_issued(*range(20))
    under_way: list[int] = []
    client.submit(*range(20, 40))

    def note() -> bool:
        under_way.append(client.client._issuance.under_way)
        return all(client.state(number) == "issued" for number in range(20, 40))

    client.run_until(note)
    assert max(under_way) == 4


def test_a_line_that_breaks_loses_nothing(make: Callable[..., Client]) -> None:
    client = make()
    client.submit(*range(5))
    client.run_until(lambda: client.client._issuance.under_way == 5)
    client.signer.hang_up()
    client.run_until_issued(*range(5))
    assert sum(isinstance(each, HelloReceived) for each in client.signer.asked) == 2
    record = client.store.requests.find(request_id(0))
    assert record is not None
    assert record.tries == 0


def test_a_signer_that_is_away_is_sought_until_it_comes_back(
    make: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    client = make()
    client.signer.go_away()
    client.submit(1)
    for _ in range(5):
        client.turn()
    assert "no signer answers" in caplog.text
    client.signer.listen()
    client.run_until_issued(1)


def test_the_wait_for_a_signer_grows_and_has_an_end(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_RECONNECT_LAST_S", 0.05)
    client = make()
    delays = []
    for _ in range(5):
        client.client._back_off()
        delays.append(client.client._reconnect_delay)
    assert delays == [0.02, 0.04, 0.05, 0.05, 0.05]


def test_a_signer_that_keeps_silent_is_left(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "_ANSWER_TIME_LIMIT_S", 0.2)
    client = make()
    client.signer.silent = True
    client.submit(1)
    client.run_until(lambda: "the signer keeps silent" in caplog.text)
    client.signer.silent = False
    client.run_until_issued(1)


def test_a_signer_that_does_not_speak_this_version_is_left(
    make: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    client = make()
    client.signer.versions = (3,)
    client.run_until(lambda: "version" in caplog.text)
    client.signer.versions = (2, 3)
    client.submit(1)
    client.run_until_issued(1)


def test_a_signer_that_is_not_pinned_is_not_spoken_to(
    make: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    client = make(peers=(links.certificate("stranger"),))
    client.submit(1)
    client.run_until(lambda: "pin" in caplog.text or "certificate" in caplog.text)
    assert client.signer.asked == []
    assert client.state(1) == "queued"


def test_a_store_that_goes_away_costs_the_session_and_nothing_else(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = make()
    client.submit(*range(3))
    client.run_until(lambda: client.client._issuance.under_way == 3)
    save_logs = client.store.results.save_logs

    def fail(*_: object, **__: object) -> object:
        monkeypatch.setattr(client.store.results, "save_logs", save_logs)
        raise Unavailable("the store is away")

    monkeypatch.setattr(client.store.results, "save_logs", fail)
    client.run_until_issued(*range(3))
    assert "the store is away" in caplog.text
    assert client.store.queue.statistics(now=client.front.now).leased["sign"] == 0


def test_what_a_client_had_in_hand_is_given_back_at_its_end(make: Callable[..., Client]) -> None:
    client = make()
    client.submit(*range(3))
    client.run_until(lambda: client.client._issuance.under_way == 3)
    client.client.close()
    statistics = client.store.queue.statistics(now=dt.datetime.now(dt.UTC))
    assert (statistics.leased["sign"], statistics.waiting["sign"]) == (0, 3)


def test_an_event_that_no_client_gets_is_logged(make: Callable[..., Client], caplog: pytest.LogCaptureFixture) -> None:
    client = make()
    client.client._take_answers([StatusRequested(handle=1)], client.front.now)
    assert "an event that a client never gets: StatusRequested" in caplog.text


def test_draining_ends_when_nothing_waits(make: Callable[..., Client]) -> None:
    client = make()
    client.submit(1)
    assert not client.client._is_drained()
    client.run_until(client.client._is_drained)
    assert client.state(1) == "issued"
    assert (client.directory / f"public/{SIGNING_CA}.crl").exists()


def test_draining_waits_for_a_crl_that_is_put_off(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = make()
    client.run_until(client.client._is_drained)
    (counter,) = client.client._crl_sync._counters.values()
    monkeypatch.setattr(counter, "copy", None)
    monkeypatch.setattr(counter, "not_before", dt.datetime.max.replace(tzinfo=dt.UTC))
    assert not client.client._is_drained()
    monkeypatch.setattr(worker_module, "_DRAIN_PATIENCE_S", 0)
    client.run_until(client.client._is_drained)
    assert "1 sub-CAs have no CRL that can be published" in caplog.text


def test_draining_gives_up_when_the_signer_stays_away(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_DRAIN_PATIENCE_S", 0.1)
    client = make()
    client.signer.go_away()
    client.submit(1)
    with pytest.raises(OperatorError, match="does not answer; the queue is as it was"):
        client.run_until(client.client._is_drained)
    assert client.state(1) == "queued"


def test_draining_leaves_what_is_another_signers(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "_DRAIN_PATIENCE_S", 0.1)
    client = make()
    client.submit(1, 2)
    # Another signer has sent the log of the first.
    now = dt.datetime.now(dt.UTC)
    (job, *_) = client.store.queue.lease("another", limit=1, lease_s=0, now=now)
    client.store.results.save_logs(
        "another", [SigningLog(job_id=job.id, sha256=bytes(32), entry=b"log")], now=now, signer_id=2
    )
    client.store.queue.release("another", now=now)
    client.run_until(client.client._is_drained)
    assert "1 jobs are left" in caplog.text
    assert sorted(client.state(number) for number in (1, 2)) == ["issued", "queued"]


# Version 1: a session for each piece of work.


@pytest.fixture
def make_1(make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Client]:
    monkeypatch.setattr(worker_module, "_RECONNECT_VERSION_1_S", 0.01)

    def start(**changes: Any) -> Client:
        return make(
            version=1,
            certificate=links.certificate("client_1"),
            key=links.key("client_1"),
            peers=(links.certificate("signer_1"),),
            **changes,
        )

    return start


def test_over_version_1_each_certificate_has_its_session(make_1: Callable[..., Client]) -> None:
    client = make_1()
    client.submit(1, 2)
    client.run_until_issued(1, 2)
    client.run_until((client.directory / f"public/{SIGNING_CA}.crl").exists)
    assert not any(isinstance(each, HelloReceived) for each in client.signer.asked)
    # A session each, and one for the first CRL.
    assert client.signer.accepted >= 3
    client.run_until(client.client._is_drained)
    before = client.signer.accepted
    for _ in range(20):
        client.turn()
    assert client.signer.accepted == before  # nothing to do, no session


def test_over_version_1_a_list_that_cannot_be_patched_is_asked_for_in_the_same_session(
    make_1: Callable[..., Client],
) -> None:
    """Its answers lack number and entries, and our signer's lists have both."""
    client = make_1()
    client.submit(1)
    client.run_until_issued(1)
    record = client.store.requests.find(request_id(1))
    assert record is not None
    client.store.certificates.request_revocation(record.serial_number, now=dt.datetime.now(dt.UTC))
    before = client.signer.accepted
    client.run_until(lambda: client.listed() == [int(record.serial_number, 16)])
    assert client.signer.accepted == before + 1


def test_over_version_1_what_is_left_unanswered_is_tried_later(
    make_1: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    client = make_1()
    client.run_until((client.directory / f"public/{SIGNING_CA}.crl").exists)
    client.submit(1, profile="none")
    client.submit(2)
    client.run_until_issued(2)
    client.run_until(lambda: "closed the session without a word" in caplog.text)
    record = client.store.requests.find(request_id(1))
    assert record is not None
    assert (record.state, record.tries) == ("queued", 1)


def test_over_version_1_what_was_taken_in_hand_is_put_back_when_nobody_answers(
    make_1: Callable[..., Client],
) -> None:
    client = make_1()
    client.run_until((client.directory / f"public/{SIGNING_CA}.crl").exists)
    client.run_until(client.client._is_drained)
    client.signer.go_away()
    client.submit(1)

    def is_put_back() -> bool:
        record = client.store.requests.find(request_id(1))
        return record is not None and record.last_error == "the signer could not be reached"

    client.run_until(is_put_back)
    assert not client.client._leases.in_hand
    client.signer.listen()
    client.run_until_issued(1)


def test_a_signal_ends_the_loop_in_good_order(make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of `run`, with what a dead client of this machine left behind."""
    client = make()
    client.submit(1)
    held = client.store.queue.lease(client.client._owner, limit=1, lease_s=999, now=dt.datetime.now(dt.UTC))
    assert len(held) == 1
    step = client.client.step

    def with_signer(patience_s: float) -> None:
        step(patience_s)
        client.signer.step()
        if client.state(1) == "issued":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(client.client, "step", with_signer)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        client.client.run()
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert client.state(1) == "issued"


@pytest.mark.parametrize("nonsense", ["report = '{'", "seen_at = 9000000000000000000"])
def test_nonsense_about_the_signer_in_the_store_is_written_over(
    make: Callable[..., Client], store: Store, nonsense: str
) -> None:
    store.signers.save(1, {"state": "running"}, now=dt.datetime.now(dt.UTC))
    with store.database.write() as connection:
        connection.execute(text(f"UPDATE signer_status SET {nonsense}"))  # noqa: S608 - ours
    client = make()
    client.submit(1)
    client.run_until_issued(1)

    def is_heard() -> bool:
        with store.database.read() as connection:
            row = connection.execute(text("SELECT report, seen_at FROM signer_status")).one()
        return row.report.startswith('{"') and "configuration_hash" in row.report and row.seen_at < 9 * 10**18

    client.run_until(is_heard)
