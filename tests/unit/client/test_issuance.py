from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.authorities import (
    approve,
    certification_request,
    default_authority,
    make_authority,
    make_ca,
    p256_key,
    server_request,
)
from tests.support.client import OWNER, Certifying, find, submit
from tests.support.conversations import joined
from tests.support.journal_maker import JournalMaker
from tests.support.signer import Front
from tests.support.store import lease_sign, lease_suspects, logs_of, request_id

from cassiopeia.client.issuance import Issuance
from cassiopeia.core import structure
from cassiopeia.core.certificate import assemble_tbs
from cassiopeia.core.request import CertificateRequest, request_digest
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.protocol.events import (
    CertificateIssued,
    Event,
    HelloReceived,
    LogReceived,
    RequestAbandoned,
    RequestFailed,
    RequestRefused,
)
from cassiopeia.protocol.limits import Limits
from cassiopeia.store.database import Store
from cassiopeia.store.records import Outcome


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path / "journal")
    yield made
    made.journal.close()


@pytest.fixture
def client(store: Store, front: Front) -> Certifying:
    return Certifying(store=store, front=front)


def first_log(client: Certifying) -> LogReceived:
    """Send one request and return its log, not taken yet."""
    submit(client.store, client.front)
    client.send()
    (event,) = client.hear()
    assert isinstance(event, LogReceived)
    return event


def first_certificate(client: Certifying) -> CertificateIssued:
    client.take(first_log(client))
    (event,) = client.hear()
    assert isinstance(event, CertificateIssued)
    return event


def journaled_state(client: Certifying) -> str | None:
    found = client.front.journal.index.find_request(request_id(1))
    return None if found is None else found.state


def forge(
    request: CertificateRequest, *, about: CertificateRequest | None = None, tbs: bytes = b"", **changes: Any
) -> bytes:
    """A log about one request, with the certificate of another."""
    approved = approve(request)
    part = entries.requested(about or request, salt=b"s" * 16, tbs_certificate=tbs or assemble_tbs(approved))
    body = entries.Intent(
        protocol=2,
        boot_id=b"b" * 16,
        request_id=request.request_id,
        request_digest=request_digest(about or request),
        configuration_hash=bytes(32),
        profile=request.profile,
        signing_ca=default_authority().name,
        serial_number=approved.serial_number.to_bytes(16, "big"),
        algorithm=approved.algorithm.der,
    )
    journal = JournalMaker()
    journal.add(dataclasses.replace(body, **changes), structure.encode(part))
    return entries.encode_log(journal.logs[-1])


@pytest.mark.parametrize("version", [1, 2])
def test_a_request_goes_out_and_its_certificate_is_written_back(store: Store, front: Front, version: int) -> None:
    client = Certifying(store=store, front=front, version=version)
    submit(store, front)
    client.send()
    assert client.issuance.under_way == 1
    client.run()
    assert client.issuance.under_way == 0
    record = find(store)
    assert record.state == "issued"
    certificate = store.certificates.look_up(record.serial_number)
    assert certificate.subject == "CN=www.example.org"
    assert certificate.authority == front.authority.name
    assert len(logs_of(store, 1)) == 1


def test_the_log_is_saved_before_it_is_confirmed(client: Certifying, monkeypatch: pytest.MonkeyPatch) -> None:
    log = first_log(client)
    said: list[tuple[int, bytes]] = []
    save = client.store.results.save_logs

    def note(*arguments: object, **details: object) -> tuple[Outcome, ...]:
        said.append((len(logs_of(client.store, 1)), client.pair.client.data_to_send()))
        return save(*arguments, **details)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(client.store.results, "save_logs", note)
    client.take(log)
    assert said == [(0, b"")]
    (kept,) = logs_of(client.store, 1)
    assert kept == (hashlib.sha256(log.log).digest(), log.log)
    assert client.pair.client.has_data_to_send


def test_a_job_belongs_to_the_signer_that_sent_its_log(client: Certifying) -> None:
    client.take(first_log(client))
    client.issuance.line_lost("the line was lost", now=client.front.now, proven=True)
    assert client.store.queue.lease(OWNER, limit=9, lease_s=9, now=client.front.now, signer_id=2) == ()
    (job,) = client.store.queue.lease(OWNER, limit=9, lease_s=9, now=client.front.now, signer_id=1)
    assert (job.signer_id, job.tries) == (1, 0)


def test_a_refusal_is_what_the_subscriber_sees(client: Certifying) -> None:
    submit(client.store, client.front, profile="none")
    client.send()
    client.run()
    record = find(client.store)
    assert (record.state, record.refusal_code, record.refusal_field) == ("refused", "profile-unknown", "profile")
    assert "none" in record.refusal_message
    assert client.issuance.under_way == 0


def test_what_cannot_even_be_sent_is_refused_and_the_others_go(client: Certifying) -> None:
    submit(client.store, client.front, 1, key_proof=b"no key")
    submit(client.store, client.front, 2)
    client.send()
    assert client.issuance.under_way == 1
    client.write_back()
    assert find(client.store, 1).refusal_field == "csr"
    client.run()
    assert find(client.store, 2).state == "issued"


def test_what_finds_no_room_in_the_session_goes_back_to_the_queue(client: Certifying) -> None:
    client.pair = joined(limits=Limits(open_requests=2))
    client.front.pairs.append(client.pair)
    for number in range(3):
        submit(client.store, client.front, number)
    client.send()
    assert client.issuance.under_way == 2
    client.run()
    assert find(client.store, 2).tries == 0
    client.send()
    client.run()
    assert [find(client.store, number).state for number in range(3)] == ["issued"] * 3


def test_a_signer_that_cannot_answer_now_is_asked_again(client: Certifying) -> None:
    client.front.issuance.issued[client.front.authority.name] = 10**6
    submit(client.store, client.front)
    client.send()
    client.run()
    record = find(client.store)
    assert (record.state, record.tries) == ("queued", 0)
    assert "is full" in record.last_error
    assert lease_sign(client.store, at=client.front.now) == []


def test_a_wait_beyond_all_measure_ends_after_a_day(client: Certifying) -> None:
    first_log(client)
    event = RequestFailed(handle=1, code="busy", message="never", retry_after_s=(1 << 168) - 1)
    client.take(event)
    tomorrow = client.front.now + dt.timedelta(days=1)
    assert lease_sign(client.store, at=tomorrow - dt.timedelta(seconds=1)) == []
    assert len(lease_sign(client.store, at=tomorrow)) == 1


def test_a_request_that_ends_workers_is_set_aside(client: Certifying) -> None:
    log = first_log(client)
    client.take(RequestFailed(handle=log.handle, code="worker-died", message="ended two", retry_after_s=300))
    record = find(client.store)
    assert (record.set_aside, record.last_error) == (True, "ended two")


# The veto.


def altered(request: CertificateRequest, which: str) -> bytes:
    """Logs of a signer that makes something else of a request than was asked for."""
    other = dataclasses.replace(server_request(alt_names=()), request_id=request.request_id)
    names = dataclasses.replace(
        request, alt_names=(*request.alt_names, dataclasses.replace(request.alt_names[0], value="evil.example.org"))
    )
    elsewhere = make_authority(make_ca("elsewhere", key=p256_key()), name="unassured_2027_1")
    makers: dict[str, Callable[[], bytes]] = {
        "another request": lambda: forge(request, about=dataclasses.replace(request, account="mallory")),
        "another name": lambda: forge(request, tbs=assemble_tbs(approve(names))),
        "another key": lambda: forge(request, tbs=assemble_tbs(approve(_with_another_key(request)))),
        "another issuer": lambda: forge(request, tbs=assemble_tbs(approve(request, authority=elsewhere))),
        "another digest": lambda: forge(request, request_digest=b"d" * 32),
        "another id": lambda: forge(request, request_id=b"i" * 32),
        "another serial number": lambda: forge(request, serial_number=b"\1" * 16),
        "a request that was not made": lambda: forge(
            request, about=dataclasses.replace(request, wish_to="1m"), request_digest=request_digest(request)
        ),
        "no intent": _confirmation,
        "no part": lambda: _without_part(forge(request)),
        "no certificate": lambda: forge(request, tbs=b"\x30\x00"),
        "no log": lambda: b"\x30\x00",
        "another subject": lambda: forge(
            request,
            tbs=assemble_tbs(approve(dataclasses.replace(request, attributes=other.attributes[:0]))),
        ),
    }
    return makers[which]()


def _confirmation() -> bytes:
    journal = JournalMaker()
    journal.confirmation(1, b"h" * 32)
    return entries.encode_log(journal.logs[-1])


def _without_part(log: bytes) -> bytes:
    return entries.encode_log(dataclasses.replace(entries.decode_log(log), parts=(b"",)))


def _with_another_key(request: CertificateRequest) -> CertificateRequest:
    return dataclasses.replace(request, key_proof=certification_request("Ed25519"))


@pytest.mark.parametrize(
    "which",
    [
        *("another request", "another name", "another key", "another issuer", "another subject", "another digest"),
        *("another id", "another serial number", "a request that was not made", "no intent", "no part"),
        *("no certificate", "no log"),
    ],
)
def test_a_certificate_that_was_not_asked_for_is_vetoed_before_it_exists(client: Certifying, which: str) -> None:
    log = first_log(client)
    request = find(client.store).request
    client.take(dataclasses.replace(log, log=altered(request, which)))

    # Not before the signer has said that nothing is signed.
    assert find(client.store).state == "queued"
    assert logs_of(client.store, 1) == []
    (answer,) = client.hear()
    assert isinstance(answer, RequestAbandoned)
    assert journaled_state(client) is None
    client.take(answer)
    assert client.issuance.under_way == 0
    record = find(client.store)
    assert (record.state, record.refusal_code) == ("refused", "vetoed")


def test_a_veto_that_comes_after_the_confirmation_refuses_nothing_and_calls_a_person(client: Certifying) -> None:
    """As when a new release compares more strictly than the one that confirmed."""
    log = first_log(client)
    failed = RequestFailed(handle=1, code="log-confirmed", message="the log is confirmed", retry_after_s=5)
    client.take(dataclasses.replace(log, log=b"nonsense"), failed)
    record = find(client.store)
    assert (record.state, record.set_aside) == ("queued", True)
    assert "its log was confirmed before; now the client's veto" in record.last_error


def test_a_sub_ca_that_the_client_does_not_know_yet_costs_nobody_his_request(store: Store, front: Front) -> None:
    client = Certifying(store=store, front=front)
    client.issuance = Issuance(authorities={}, store=store, owner=OWNER, version=2, profiles={})
    client.take(first_log(client))
    record = find(store)
    assert (record.state, record.tries) == ("queued", 0)
    assert "does not know the sub-CA unassured_2026_2: install the client bundle" in record.last_error
    # The signer hears of it, and gives the serial number up.
    assert client.pair.client.has_data_to_send


def test_a_veto_behind_which_the_session_ends_is_given_again(client: Certifying) -> None:
    log = first_log(client)
    assert client.issuance.receive(dataclasses.replace(log, log=b"nonsense"))
    client.write_back(session_ended=True)
    client.issuance.line_lost("the line was lost", now=client.front.now, proven=True)
    assert find(client.store).state == "queued"
    assert len(lease_sign(client.store, at=client.front.now)) == 1


# What else a signer may say.


@pytest.mark.parametrize(
    "damage", [{"signature": b"\0" * 70}, {"signature": None}, {"signing_ca": "nobody_2026_1"}, {"signing_ca": "other"}]
)
def test_a_bad_signature_is_not_believed_and_the_request_comes_again(
    store: Store, front: Front, damage: dict[str, Any]
) -> None:
    """Nor one that is said to be of another sub-CA than the log had named, though that one is known."""
    client = Certifying(store=store, front=front, others=[dataclasses.replace(front.authority, name="other")])
    issued = first_certificate(client)
    client.take(dataclasses.replace(issued, **damage))
    record = find(client.store)
    assert (record.state, record.tries) == ("queued", 1)
    assert record.last_error.startswith("bad certificate: ")
    assert lease_sign(client.store, at=client.front.now) == []
    # Asked again, the signer gives the very same certificate, undamaged this time.
    client.front.now += dt.timedelta(seconds=60)
    client.send()
    client.run()
    assert find(client.store).state == "issued"


def test_a_bad_certificate_of_a_version_1_signer_is_set_aside(store: Store, front: Front) -> None:
    """It would make another one each time."""
    client = Certifying(store=store, front=front, version=1)
    issued = first_certificate(client)
    client.take(dataclasses.replace(issued, certificate=default_authority().certificate))
    assert find(store).set_aside
    assert find(store).last_error.startswith("bad certificate: ")


def test_an_intent_that_the_signer_gave_up_is_asked_for_again_of_any_signer(client: Certifying) -> None:
    """It had sent the log, and nobody confirmed it."""
    log = first_log(client)
    client.issuance.receive(log)
    client.write_back(session_ended=True)
    client.front.clock += 901
    client.front.issuance.expire(now=client.front.now)
    client.front.journal.commit()
    (answer,) = client.hear()
    assert isinstance(answer, RequestAbandoned)
    client.take(answer)
    record = find(client.store)
    assert (record.state, record.tries, record.last_error) == ("queued", 0, "the signer has abandoned the intent")
    (job,) = client.store.queue.lease(OWNER, limit=9, lease_s=9, now=client.front.now, signer_id=2)
    assert job.signer_id is None


@pytest.mark.parametrize("which", ["no place", "no head", "a head that does not cover it", "a forged head"])
def test_only_a_signed_head_sets_a_job_free(client: Certifying, which: str) -> None:
    log = first_log(client)
    client.take(log)
    size = client.front.journal.size
    forged = heads.read_head(client.front.journal.signed_head())
    said = {
        "no place": RequestAbandoned(handle=log.handle),
        "no head": RequestAbandoned(handle=log.handle, index=size + 1),
        "a head that does not cover it": RequestAbandoned(
            handle=log.handle, index=size + 1, head=client.front.journal.signed_head()
        ),
        "a forged head": RequestAbandoned(
            handle=log.handle,
            index=size + 1,
            head=heads.sign_head(dataclasses.replace(forged, size=size + 1), Ed25519PrivateKey.generate()),
        ),
    }
    client.take(said[which])
    assert find(client.store).state == "queued"
    (job,) = client.store.queue.lease(OWNER, limit=9, lease_s=9, now=client.front.now)
    assert job.signer_id == 1


@pytest.mark.parametrize(
    "last",
    [
        RequestAbandoned(handle=1),
        RequestFailed(handle=1, code="intent-ended", message="too late", retry_after_s=0),
        RequestRefused(handle=1, code="halted", field="", message="halted"),
    ],
)
@pytest.mark.parametrize("vetoed", [False, True])
def test_a_last_word_that_comes_right_behind_the_log_is_the_last_word(
    client: Certifying, last: Event, *, vetoed: bool
) -> None:
    """As when the client slept for longer than the signer waits: both are there in one turn."""
    log = first_log(client)
    client.take(dataclasses.replace(log, log=b"nonsense") if vetoed else log, last)
    assert client.issuance.under_way == 0
    assert not client.pair.client.has_data_to_send
    refused = isinstance(last, RequestRefused) or (vetoed and isinstance(last, RequestAbandoned))
    assert find(client.store).state == ("refused" if refused else "queued")
    assert len(logs_of(client.store, 1)) == (0 if vetoed else 1)


def test_a_job_that_another_client_has_taken_over_is_left_to_it(client: Certifying) -> None:
    log = first_log(client)
    # The lease of 60 seconds ran out.
    later = client.front.now + dt.timedelta(seconds=61)
    assert lease_sign(client.store, "another", at=later) == []
    assert len(lease_suspects(client.store, "another", at=later)) == 1
    client.take(log)
    # It is abandoned and not confirmed: the handle is free again with the signer's word.
    client.run()
    assert client.issuance.under_way == 0
    assert client.front.journal.index.used_counts() == {}
    # The log is kept: it is a fact.
    assert len(logs_of(client.store, 1)) == 1


def test_a_certificate_that_the_store_knows_otherwise_is_looked_into(
    client: Certifying, caplog: pytest.LogCaptureFixture
) -> None:
    issued = first_certificate(client)
    assert client.issuance.receive(issued)
    (result,) = client.issuance._answers.issued
    other = dataclasses.replace(result, serial_number=result.serial_number + 1, certificate=b"another")
    client.store.results.finish_issued([other], now=client.front.now)
    client.write_back()
    assert "is not the one that the store has for its request" in caplog.text
    assert client.issuance.under_way == 0
    assert find(client.store).state == "issued"


def test_a_serial_number_that_is_taken_sets_the_request_aside(client: Certifying) -> None:
    """Else it would come again when its lease runs out, for ever."""
    issued = first_certificate(client)
    assert client.issuance.receive(issued)
    (result,) = client.issuance._answers.issued
    submit(client.store, client.front, 2)
    (other,) = lease_sign(client.store, "another", at=client.front.now)
    taken = dataclasses.replace(result, job_id=other.id, certificate=b"another")
    client.store.results.finish_issued([taken], now=client.front.now)
    client.write_back()
    record = find(client.store)
    assert (record.state, record.set_aside) == ("queued", True)
    assert "or for its serial number" in record.last_error


def test_a_signer_that_keeps_saying_not_now_is_asked_ever_less_often(client: Certifying) -> None:
    """Thousands of jobs would fill the line with it."""
    submit(client.store, client.front)
    for wait in (1, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1800, 1800, 1800):
        (job,) = client.send()
        assert job.tries == 0
        (event,) = client.hear()
        client.take(RequestFailed(handle=event.handle, code="busy", message="no", retry_after_s=1))  # type: ignore[union-attr] # it is an answer
        client.front.now += dt.timedelta(seconds=wait)
        assert lease_sign(client.store, at=client.front.now - dt.timedelta(seconds=0.1)) == []


def test_answers_that_come_too_late_are_passed_over(client: Certifying) -> None:
    log = first_log(client)
    client.issuance.line_lost("the line was lost", now=client.front.now, proven=True)
    client.take(log)
    assert logs_of(client.store, 1) == []
    assert find(client.store).last_error == "the line was lost"


def test_what_is_not_about_certificates_is_somebody_elses(client: Certifying) -> None:
    assert client.pair.client.peer_hello is not None
    assert not client.issuance.receive(HelloReceived(hello=client.pair.client.peer_hello))


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_lost_line_loses_nothing(client: Certifying, *, confirmed: bool) -> None:
    log = first_log(client)
    client.take(log)
    if confirmed:
        client.front.settle()
    client.front.vanish(client.pair)
    client.issuance.line_lost("the line was lost", now=client.front.now, proven=True)
    client.reconnect()
    (job,) = client.send()
    assert job.tries == 0
    client.run()
    assert find(client.store).state == "issued"
    # One certificate, one log: the second was the same.
    assert client.front.issuance.issued == {client.front.authority.name: 1}
    assert len(logs_of(client.store, 1)) == 1


def test_a_session_that_ends_behind_the_log_confirms_nothing(client: Certifying) -> None:
    log = first_log(client)
    assert client.issuance.receive(log)
    client.write_back(session_ended=True)
    assert len(logs_of(client.store, 1)) == 1
    assert not client.pair.client.has_data_to_send


def test_what_version_1_left_unanswered_uses_up_a_try(store: Store, front: Front) -> None:
    client = Certifying(store=store, front=front, version=1)
    submit(store, front)
    client.send()
    client.issuance.left_unanswered(now=front.now)
    assert client.issuance.under_way == 0
    record = find(store)
    assert (record.tries, record.state) == (1, "queued")


def test_forgotten_is_forgotten(client: Certifying) -> None:
    """The store was away: whatever was gathered is asked for anew."""
    log = first_log(client)
    assert client.issuance.receive(log)
    client.issuance.forget()
    assert client.issuance.under_way == 0
    client.write_back()
    assert logs_of(client.store, 1) == []


def test_a_window_of_requests_shares_its_transactions(client: Certifying, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    results = client.store.results

    def note(name: str, method: Callable[..., object]) -> Callable[..., object]:
        def noting(*arguments: object, **details: object) -> object:
            calls.append(name)
            return method(*arguments, **details)

        return noting

    for name in ("save_logs", "finish_issued", "refuse"):
        monkeypatch.setattr(results, name, note(name, getattr(results, name)))
    for number in range(20):
        submit(client.store, client.front, number)
    submit(client.store, client.front, 20, profile="none")
    client.send()
    client.run()
    assert calls == ["save_logs", "refuse", "finish_issued"]
    assert [find(client.store, number).state for number in range(21)] == ["issued"] * 20 + ["refused"]
