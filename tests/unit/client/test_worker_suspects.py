"""The client's loop and what kills: clients, signers, lines. Whatever does, the others get their certificates."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from tests.support import links
from tests.support.client import OWNER
from tests.support.client_loop import Client
from tests.support.conversations import STATUS_REPORT
from tests.support.signer import SIGNING_CA
from tests.support.store import request_id

from cassiopeia.client import company as company_module
from cassiopeia.client import patience as patience_module
from cassiopeia.client import worker as worker_module
from cassiopeia.client.issuance import Issuance
from cassiopeia.client.worker import SignerClient
from cassiopeia.errors import PeerError
from cassiopeia.protocol.events import Event, RevocationRequested, SignRequested
from cassiopeia.store.database import Store
from cassiopeia.store.records import Postponement, SignJob
from cassiopeia.termination import Termination


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company_module, "_TURN_S", 0.05)
    monkeypatch.setattr(company_module, "_LOOK_EVERY_S", 0.01)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def die_with_all(client: Client) -> int:
    """Another client leases what there is, and is killed."""
    client.store.queue.lease(OWNER, limit=1000, lease_s=60, now=now())
    return client.store.queue.release(OWNER, now=now(), death="it was killed")


def is_poison(event: Event, number: int = 0) -> bool:
    return isinstance(event, SignRequested) and event.request.request_id == request_id(number)


def is_set_aside(client: Client, number: int = 0) -> bool:
    record = client.store.requests.find(request_id(number))
    return record is not None and record.set_aside


def test_suspects_travel_alone_and_the_others_in_company(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make()
    client.submit(*range(5))
    assert die_with_all(client) == 5
    client.submit(*range(5, 25))
    seen: list[list[int]] = []
    send = Issuance.send

    def note(issuance: Issuance, session: Any, jobs: list[SignJob]) -> None:
        send(issuance, session, jobs)
        seen.append([flight.job.deaths for flight in issuance._flights.values()])

    monkeypatch.setattr(Issuance, "send", note)
    client.run_until_issued(*range(25))
    with_suspects = [deaths for deaths in seen if any(deaths)]
    assert with_suspects
    assert all(deaths == [1] for deaths in with_suspects)
    assert max(map(len, seen)) > 1
    assert client.store.queue.statistics(now=now()).suspected == 0


def test_a_suspected_revocation_travels_alone_too(make: Callable[..., Client]) -> None:
    client = make()
    client.submit(1, 2)
    client.run_until_issued(1, 2)
    records = [client.store.requests.find(request_id(number)) for number in (1, 2)]
    serials = [record.serial_number for record in records if record is not None]
    for serial in serials:
        client.store.certificates.request_revocation(serial, now=now())
    assert die_with_all(client) == 2
    client.submit(3, 4)
    client.run_until(lambda: len(client.listed()) == 2)
    client.run_until_issued(3, 4)
    revocations = [each for each in client.signer.asked if isinstance(each, RevocationRequested)]
    assert [len(each.request.revocations) for each in revocations if each.request.revocations] == [1, 1]


def test_a_request_that_kills_the_client_is_set_aside_and_the_others_are_issued(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a fault of ours that nobody knows yet: each start is what a supervisor would do."""
    send_one = Issuance._send_one

    def fall_over(issuance: Issuance, session: Any, job: SignJob) -> None:
        if job.request.request_id == request_id(0):
            raise ZeroDivisionError("a fault")
        send_one(issuance, session, job)

    monkeypatch.setattr(Issuance, "_send_one", fall_over)
    client = make()
    client.submit(*range(6))
    deaths = 0
    step = SignerClient.step

    def with_signer(worker: SignerClient, patience_s: float) -> None:
        step(worker, min(patience_s, 0.005))
        client.signer.step()

    monkeypatch.setattr(SignerClient, "step", with_signer)
    monkeypatch.setattr(Termination, "__init__", _no_signals)
    monkeypatch.setattr(Termination, "close", lambda _: None)
    while not is_set_aside(client):
        with pytest.raises(ZeroDivisionError):
            client.client.run(drain=True)
        deaths += 1
        client.client = SignerClient(client.client._config, client.store)
    client.client.run(drain=True)
    client.client = SignerClient(client.client._config, client.store)
    assert deaths == 3
    assert [client.state(number) for number in range(1, 6)] == ["issued"] * 5
    [job] = client.store.queue.set_aside_jobs(limit=9)
    assert all("it ended by a fault of its own (ZeroDivisionError: a fault)" in line for line in job.dead_holders)


def _no_signals(termination: Termination, _selector: object) -> None:
    termination.requested = False


def test_a_request_that_kills_the_signer_is_set_aside_and_the_others_are_issued(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience_module, "LONGEST_DELAY_S", 0.05)
    client = make()
    client.signer.dies_of = is_poison
    client.submit(*range(12))
    client.run_until_issued(*range(1, 12))
    # Alone it is blamed only when the signer has just done other work, and not for the first losses.
    for number in range(100, 10_000):
        if is_set_aside(client):
            break
        client.submit(number)
        client.run_until_issued(number)
    [job] = client.store.queue.set_aside_jobs(limit=9)
    assert job.request_id == request_id(0).hex()
    assert "the line was lost twice in a row while it was under way" in job.dead_holders[0]
    assert client.signer.deaths <= 12


def test_a_signer_that_dies_of_everything_sets_nothing_aside(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is broken. When it is mended everything goes on."""
    monkeypatch.setattr(patience_module, "LONGEST_DELAY_S", 0.05)
    client = make()
    client.signer.dies_of = lambda event: isinstance(event, SignRequested)
    client.submit(*range(3))
    client.run_until(lambda: client.signer.deaths >= 12)
    client.signer.dies_of = lambda _: False
    client.run_until_issued(*range(3))


def test_a_revocation_that_kills_the_signer_does_not_keep_certificates_from_it(
    make: Callable[..., Client],
) -> None:
    client = make()
    client.submit(1)
    client.run_until_issued(1)
    record = client.store.requests.find(request_id(1))
    assert record is not None
    client.signer.dies_of = lambda event: isinstance(event, RevocationRequested) and bool(event.request.revocations)
    client.store.certificates.request_revocation(record.serial_number, now=now())
    client.submit(*range(2, 30))
    client.run_until_issued(*range(2, 30))


def test_an_answer_that_makes_no_sense_is_held_against_what_was_asked(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make()
    take = Issuance._take

    def refuse_to_understand(issuance: Issuance, event: Any, flight: Any) -> None:
        if flight.job.request.request_id == request_id(0):
            raise PeerError("nonsense")
        take(issuance, event, flight)

    monkeypatch.setattr(Issuance, "_take", refuse_to_understand)
    client.submit(*range(4))
    client.run_until_issued(1, 2, 3)
    record = client.store.requests.find(request_id(0))
    assert record is not None
    assert "nonsense" in record.dead_holders[0]


@pytest.mark.parametrize("alone", [False, True])
def test_a_request_that_is_left_unanswered_does_not_hold_its_place_for_ever(
    make: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    alone: bool,
) -> None:
    """The signer answers everything else, so the line is never silent."""
    monkeypatch.setattr(worker_module, "_ALONE_TIME_LIMIT_S" if alone else "_REQUEST_TIME_LIMIT_S", 0.1)
    client = make()
    client.submit(0)
    if alone:
        die_with_all(client)
    on_event = client.front.on_event
    monkeypatch.setattr(client.front, "on_event", lambda session, event: is_poison(event) or on_event(session, event))
    client.run_until(lambda: "leaves one request unanswered" in caplog.text)
    monkeypatch.setattr(client.front, "on_event", on_event)
    client.run_until_issued(0)


def test_what_a_signer_put_off_goes_on_when_it_runs_again(make: Callable[..., Client]) -> None:
    client = make()
    client.signer.report = dataclasses.replace(STATUS_REPORT, state="halted", reason="its clock is wrong")
    client.run_until(lambda: bool(client.store.signers.list()))
    client.submit(1)
    jobs = client.store.queue.lease(OWNER, limit=1, lease_s=60, now=now())
    client.store.queue.retry_later(
        OWNER, [Postponement(job_id=job.id, delay_s=9_999, counts=False, reason="halted") for job in jobs], now=now()
    )
    client.signer.report = dataclasses.replace(STATUS_REPORT, state="running")
    client.client._next_status = 0.0
    client.run_until_issued(1)


def test_a_signer_with_a_new_configuration_is_asked_again_also_by_a_client_that_has_just_started(
    make: Callable[..., Client], store: Store
) -> None:
    """Somebody gave it the sub-CA that was missing."""
    client = make()
    store.signers.save(1, {"state": "running", "configuration_hash": "00"}, now=now())
    client.submit(1)
    jobs = store.queue.lease(OWNER, limit=1, lease_s=60, now=now())
    store.queue.retry_later(
        OWNER, [Postponement(job_id=job.id, delay_s=9_999, counts=False, reason="no sub-CA") for job in jobs], now=now()
    )
    client.run_until_issued(1)


def test_a_full_disk_of_the_client_keeps_no_certificate_waiting(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cassiopeia.client.crl_sync._UNPUBLISHED_RETRY_S", 0.05)
    client = make()
    client.submit(1)
    client.run_until_issued(1)
    record = client.store.requests.find(request_id(1))
    assert record is not None
    public = client.directory / "public"
    client.run_until((public / f"{SIGNING_CA}.crl").exists)
    public.rename(client.directory / "elsewhere")
    client.store.certificates.request_revocation(record.serial_number, now=now())
    client.submit(*range(2, 6))
    client.run_until_issued(*range(2, 6))
    client.run_until(lambda: "cannot publish" in caplog.text)
    assert client.store.certificates.look_up(record.serial_number).revocation_state == "requested"

    (client.directory / "elsewhere").rename(public)
    client.run_until(lambda: client.listed() == [int(record.serial_number, 16)])
    client.run_until(lambda: client.store.certificates.look_up(record.serial_number).revocation_state == "revoked")


def test_over_version_1_suspects_get_their_turn_too(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_RECONNECT_VERSION_1_S", 0.01)
    client = make(
        version=1,
        certificate=links.certificate("client_1"),
        key=links.key("client_1"),
        peers=(links.certificate("signer_1"),),
    )
    client.submit(*range(3))
    assert die_with_all(client) == 3
    client.submit(*range(3, 6))
    client.run_until_issued(*range(6))
    record = client.store.requests.find(request_id(0))
    assert record is not None
    client.store.certificates.request_revocation(record.serial_number, now=now())
    assert die_with_all(client) == 1
    client.run_until(lambda: client.listed() == [int(record.serial_number, 16)])
