"""Version 1 of the protocol: logs as text, certificates whole, and requests that nobody names."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import alt_names, certification_request, default_authority, subject_public_key_info
from tests.support.issuing import certificate_of, kinds, log_of, wanted
from tests.support.signer import NOW, SIGNING_CA, Front

from cassiopeia.core.certificate import check_certificate
from cassiopeia.core.request import CertificateRequest
from cassiopeia.journal import entry as entries
from cassiopeia.protocol.events import CertificateIssued, LogReceived
from cassiopeia.protocol.message import ClientCommand
from cassiopeia.signer.issuance import INTENT_LIFE_S

DAY = dt.timedelta(hours=24)
SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path)
    yield made
    made.journal.close()


def unnamed(**changes: object) -> CertificateRequest:
    """As version 1 can ask: without id and account."""
    return wanted(**({"request_id": b"", "account": ""} | changes))


def bought(front: Front, request: CertificateRequest | None = None) -> bytes:
    """Take a request all the way in a session of its own; return the certificate."""
    pair = front.connect(1)
    log = log_of(front, pair, request or unnamed())
    issued = front.confirm(pair, log.handle)
    front.vanish(pair)
    assert isinstance(issued, CertificateIssued)
    assert issued.certificate is not None
    return issued.certificate


def test_version_1_has_its_log_as_text_and_its_certificate_whole(front: Front) -> None:
    pair = front.connect(1)
    request = wanted(request_id=b"", account="")
    log = log_of(front, pair, request)
    text = log.log.decode()
    assert text.startswith(f"profile: {request.profile}\nname: CN=www.example.org\n")
    assert "alternative name: DNS=example.org\n" in text
    (stored,) = front.journal.index.open_intents()
    assert f"signing CA: {SIGNING_CA}\nserial number: {stored.serial_number.hex()}\n" in text
    assert text.endswith(f"journal entry SHA-256: {stored.log_hash.hex()}\n")
    # Nobody named the request: it has a random id.
    assert len(stored.request_id) == 32

    issued = front.confirm(pair, log.handle)

    assert isinstance(issued, CertificateIssued)
    assert issued.signing_ca == SIGNING_CA
    check_certificate(
        issued.certificate or b"",
        request=request,
        subject_public_key_info=subject_public_key_info(request),
        authority=default_authority(),
    )


def test_version_1_may_confirm_what_it_has_not_seen(front: Front) -> None:
    """As the original does; the log is durable before the key is used all the same."""
    pair = front.connect(1)
    pair.client.submit(wanted(request_id=b""))
    octets = pair.client.data_to_send()
    # The original's `logSaved`, right behind `sign`.
    pair.client._writer.put(ClientCommand.LOG_SAVED.code, 1, b"")
    for event in pair.signer.receive(octets + pair.client.data_to_send()):
        front.on_event(pair.signer, event)
    front.work()
    assert kinds(front) == ["intent"]
    assert not front.signing
    front.settle()
    assert kinds(front) == ["intent", "confirmation", "result"]
    assert pair.signer.data_to_send().count(b"\n") >= 3


def test_version_1_confirms_with_the_hash_of_the_text(front: Front) -> None:
    pair = front.connect(1)
    log = log_of(front, pair, wanted(request_id=b""))
    pair.client._exchange(log.handle).log_hash = bytes(32)
    pair.client.confirm_log(log.handle)
    front.settle()
    assert pair.signer.finished
    assert kinds(front) == ["intent"]
    assert not front.signing


def test_the_reason_for_a_version_1_refusal_stays_in_the_log(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    pair = front.connect(1)
    pair.client.submit(wanted(request_id=b"", profile="none"))
    with caplog.at_level(logging.WARNING, logger="cassiopeia"):
        front.settle()
    assert pair.signer.finished
    assert "refused, and closed without a word" in caplog.text


# The same request again.


def test_an_identical_request_has_the_same_certificate(front: Front) -> None:
    certificate = bought(front)
    front.now += DAY
    assert bought(front) == certificate
    front.restart()
    assert bought(front) == certificate
    assert kinds(front) == ["intent", "confirmation", "result"]
    assert front.issuance.issued == {SIGNING_CA: 1}


def test_after_a_day_it_is_a_new_one(front: Front) -> None:
    certificate = bought(front)
    front.now += DAY + SECOND
    again = bought(front)
    assert again != certificate
    assert front.issuance.issued == {SIGNING_CA: 2}
    # Of two the newest counts, and counts a day from then.
    front.now += DAY
    assert bought(front) == again


def test_the_day_begins_with_the_certificate(front: Front) -> None:
    pair = front.connect(1)
    log = log_of(front, pair, unnamed())
    front.now += dt.timedelta(minutes=10)
    issued = front.confirm(pair, log.handle)
    assert isinstance(issued, CertificateIssued)
    front.now += DAY
    assert bought(front) == issued.certificate


@pytest.mark.parametrize(
    "change",
    [
        {"key_proof": certification_request("Ed25519")},
        {"wish_to": "1m"},
        {"signature_hash": "sha384"},
        {"alt_names": alt_names("DNS,www.example.org")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_other_request_has_its_own(front: Front, change: dict[str, object]) -> None:
    certificate = bought(front)
    assert bought(front, unnamed(**change)) != certificate
    assert bought(front) == certificate
    assert front.issuance.issued == {SIGNING_CA: 2}


def test_a_named_request_has_its_own(front: Front) -> None:
    """Version 2 says itself what is the same, whatever it asks for."""
    certificate = bought(front)
    named = certificate_of(front, front.connect(), unnamed(request_id=b"n" * 32))
    assert named not in certificate
    assert bought(front) == certificate
    assert front.issuance.issued == {SIGNING_CA: 2}


def test_one_that_nobody_confirmed_is_taken_up_again(front: Front) -> None:
    pair = front.connect(1)
    log = log_of(front, pair, unnamed())
    front.vanish(pair)
    again = front.connect(1)
    same = log_of(front, again, unnamed())
    assert same.log == log.log
    assert isinstance(front.confirm(again, same.handle), CertificateIssued)
    assert kinds(front) == ["intent", "confirmation", "result"]


def test_after_a_restart_it_is_a_new_one_unless_it_was_confirmed(front: Front) -> None:
    log = log_of(front, front.connect(1), unnamed())
    front.restart()
    pair = front.connect(1)
    other = log_of(front, pair, unnamed())
    assert other.log != log.log
    pair.client.confirm_log(other.handle)
    front.carry()
    front.journal.commit()
    front.restart()
    same = log_of(front, front.connect(1), unnamed())
    assert same.log == other.log
    assert kinds(front) == ["intent", "abandonment", "intent", "confirmation"]


def test_while_one_is_being_decided_its_twin_is_sent_away(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    first, second, other, named = front.connect(1), front.connect(1), front.connect(1), front.connect()
    for pair, request in (
        (first, unnamed()),
        (second, unnamed()),
        (other, unnamed(wish_to="1m")),
        (named, unnamed(request_id=b"n" * 32)),
    ):
        pair.client.submit(request)
    with caplog.at_level(logging.WARNING, logger="cassiopeia"):
        front.settle()
    assert second.signer.finished
    assert "this request is being decided already" in caplog.text
    for pair in (first, other, named):
        assert [type(each) for each in front.answers(pair)] == [LogReceived]
    assert kinds(front) == ["intent"] * 3


def test_a_named_request_is_not_kept_waiting_by_an_unnamed_one(front: Front) -> None:
    unnamed_pair, named = front.connect(1), front.connect()
    unnamed_pair.client.submit(unnamed())
    front.carry()
    named.client.submit(unnamed(request_id=b"n" * 32))
    front.settle()
    assert [type(front.answers(pair)[0]) for pair in (unnamed_pair, named)] == [LogReceived] * 2


# Intents that end.


def test_an_intent_that_ends_ends_the_session(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    """There is no message to say so."""
    pair = front.connect(1)
    log_of(front, pair, unnamed())
    front.clock += INTENT_LIFE_S + 1
    with caplog.at_level(logging.WARNING, logger="cassiopeia"):
        front.issuance.expire(now=NOW)
        front.journal.commit()
    assert pair.signer.finished
    assert "not now, and closed without a word, as version 1 has none: nobody confirmed the log" in caplog.text
    assert kinds(front) == ["intent", "abandonment"]
    bought(front)
    assert kinds(front)[2:] == ["intent", "confirmation", "result"]


def test_a_confirmation_names_no_hash_in_the_journal(front: Front) -> None:
    """The text that version 1 saves is not what is journaled."""
    logs: list[bytes] = []
    for hashed in (False, True):
        pair = front.connect(1)
        log = log_of(front, pair, unnamed(wish_to="1m" if hashed else ""))
        if not hashed:
            pair.client._exchange(log.handle).log_hash = b""
        assert isinstance(front.confirm(pair, log.handle), CertificateIssued)
    for _, octets, _ in front.journal.entries(1, 100):
        body = entries.decode_body(entries.decode_entry(octets))
        if isinstance(body, entries.Confirmation):
            logs.append(body.log_hash)
    assert logs == [b"", b""]


def serials(front: Front) -> list[bytes]:
    rows = front.journal._database.execute("SELECT serial_number FROM certificate ORDER BY position")
    return [serial for (serial,) in rows]
