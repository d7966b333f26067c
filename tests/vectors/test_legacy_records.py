"""The recorded conversations of the original (legacy/ORIGIN.md), octet for octet."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.conversations import RecordedLine, recorded

from cassiopeia.core.request import (
    CertificateRequest,
    Revocation,
    RevocationRequest,
    SubjectAltName,
    SubjectAttribute,
)
from cassiopeia.protocol import payload
from cassiopeia.protocol.message import ClientCommand, SignerCommand, decode_message, encode_message, find_command
from cassiopeia.protocol.record import Version1Record
from cassiopeia.protocol.session import (
    CertificateIssued,
    FullCrlRequested,
    LogConfirmed,
    LogReceived,
    RevocationAnswered,
    RevocationRequested,
    Role,
    Session,
    SignRequested,
)

ALL_LINES = [*recorded("sign"), *recorded("revoke")]
SIGNING_CA = "unassured_2026_2"
SERIAL_NUMBER = 0x200000004B7146DBE4CC5B938E7073E75A82323AA


def octets_of(lines: list[RecordedLine], sender: Role) -> bytes:
    return b"".join(line.octets for line in lines if line.sender is sender)


def value_of(lines: list[RecordedLine], command: ClientCommand | SignerCommand) -> Any:
    sender = Role.CLIENT if isinstance(command, ClientCommand) else Role.SIGNER
    for line in lines:
        record = Version1Record.decode(line.octets[:-1])
        if line.sender is sender and record.code == command.code:
            return decode_message(command, record.payload, version=1).value
    raise LookupError(command)


def recorded_request() -> CertificateRequest:
    return CertificateRequest(
        key_kind="csr",
        key_proof=value_of(recorded("sign"), ClientCommand.SET_CSR),
        profile="0004-server",
        signature_hash="sha256",
        wish_from="",
        wish_to="6m",
        attributes=(
            SubjectAttribute(type="CN", value="Test Cert 2"),
            SubjectAttribute(type="EMAIL", value="a2@example.org"),
        ),
        alt_names=(
            SubjectAltName(type="DNS", value="www2.example.org"),
            SubjectAltName(type="email", value="a2@example.org"),
        ),
    )


@pytest.mark.parametrize("line", ALL_LINES, ids=lambda line: f"{line.sender.value}-{line.octets[1:5].decode()}")
def test_a_recorded_record_is_a_message_and_the_message_is_the_record(line: RecordedLine) -> None:
    record = Version1Record.decode(line.octets[:-1])
    command = find_command(line.sender, 1, record.code)
    assert command is not None

    message = decode_message(command, record.payload, version=1)

    again = Version1Record(
        code=message.command.code,
        session_id=record.session_id,
        count=record.count,
        total_length=record.total_length,
        offset=record.offset,
        payload=encode_message(message, version=1),
    )
    assert again.encode() == line.octets


def test_our_client_asks_for_the_recorded_certificate_with_the_recorded_octets() -> None:
    client = Session(role=Role.CLIENT, version=1)

    client.submit(recorded_request())

    asked = [line.octets for line in recorded("sign") if line.sender is Role.CLIENT]
    assert asked.pop().startswith(b":8100")  # logSaved: ours waits for the log
    assert client.data_to_send() == b"".join(asked)


def test_our_client_sends_a_csr_that_it_has_as_der_in_pem() -> None:
    der = payload.decode_pem("CERTIFICATE REQUEST", recorded_request().key_proof)
    client, signer = Session(role=Role.CLIENT, version=1), Session(role=Role.SIGNER, version=1)

    client.submit(dataclasses.replace(recorded_request(), key_proof=der))
    (event,) = signer.receive(client.data_to_send())

    assert isinstance(event, SignRequested)
    assert x509.load_pem_x509_csr(event.request.key_proof).public_bytes(Encoding.DER) == der


def test_our_signer_takes_the_recorded_request_and_answers_with_the_recorded_octets() -> None:
    signer = Session(role=Role.SIGNER, version=1)

    (event,) = signer.receive(octets_of(recorded("sign"), Role.CLIENT))

    assert event == SignRequested(handle=1, request=recorded_request())
    assert signer.data_to_send() == b""
    signer.send_log(1, value_of(recorded("sign"), SignerCommand.SET_LOG))
    assert signer.take_events() == [LogConfirmed(handle=1, log_hash=b"")]
    certificate = value_of(recorded("sign"), SignerCommand.RESPOND_CERTIFICATE)
    signer.send_certificate(1, signing_ca=SIGNING_CA, signature=b"", index=0, certificate=certificate)
    assert signer.data_to_send() == octets_of(recorded("sign"), Role.SIGNER)
    assert signer.finished


def test_our_client_takes_the_recorded_answers() -> None:
    client = Session(role=Role.CLIENT, version=1)
    handle = client.submit(recorded_request())
    log, signing_ca, certificate = (line.octets for line in recorded("sign") if line.sender is Role.SIGNER)

    assert client.receive(log) == [
        LogReceived(handle=handle, log=value_of(recorded("sign"), SignerCommand.SET_LOG)),
    ]
    client.confirm_log(handle)
    (event,) = client.receive(signing_ca + certificate)

    assert isinstance(event, CertificateIssued)
    assert (event.handle, event.signing_ca, event.signature) == (handle, SIGNING_CA, None)
    assert event.certificate is not None
    assert x509.load_der_x509_certificate(event.certificate).serial_number > 0
    assert client.finished


def test_our_client_revokes_with_the_recorded_octets_and_takes_the_recorded_answer() -> None:
    client = Session(role=Role.CLIENT, version=1)

    handle = client.revoke(
        RevocationRequest(signing_ca=SIGNING_CA, revocations=(Revocation(serial_number=SERIAL_NUMBER),))
    )

    assert client.data_to_send() == octets_of(recorded("revoke"), Role.CLIENT)
    (event,) = client.receive(octets_of(recorded("revoke"), Role.SIGNER))
    assert isinstance(event, RevocationAnswered)
    assert event.handle == handle
    assert event.answer.date == event.answer.this_update == dt.datetime(2026, 11, 23, 8, 32, 24, tzinfo=dt.UTC)
    assert event.answer.next_update - event.answer.this_update == dt.timedelta(days=1, seconds=10)
    assert len(event.answer.signature) == 256
    assert not client.closed


def test_our_signer_takes_the_recorded_revocation_and_answers_with_the_recorded_octets() -> None:
    signer = Session(role=Role.SIGNER, version=1)

    (event,) = signer.receive(octets_of(recorded("revoke"), Role.CLIENT))

    assert event == RevocationRequested(
        handle=1,
        request=RevocationRequest(signing_ca=SIGNING_CA, revocations=(Revocation(serial_number=SERIAL_NUMBER),)),
    )
    signer.send_revoked(1, value_of(recorded("revoke"), SignerCommand.REVOKED))
    assert signer.data_to_send() == octets_of(recorded("revoke"), Role.SIGNER)


def test_our_signer_gives_a_full_crl_to_a_client_that_sends_back_the_header_it_received() -> None:
    signer = Session(role=Role.SIGNER, version=1)
    signer.receive(octets_of(recorded("revoke"), Role.CLIENT))
    signer.send_revoked(1, value_of(recorded("revoke"), SignerCommand.REVOKED))

    ask = Version1Record(
        code=ClientCommand.GET_FULL_CRL.code,
        session_id=0,
        count=1,
        total_length=len(SIGNING_CA),
        offset=0,
        payload=SIGNING_CA.encode(),
    )
    assert signer.receive(ask.encode()) == [FullCrlRequested(handle=2, signing_ca=SIGNING_CA)]
    signer.send_full_crl(2, b"\x30\x00")
    assert signer.finished
