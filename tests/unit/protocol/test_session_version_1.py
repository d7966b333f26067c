"""Version 1 between our own two sides, and what the original does that ours do not. See tests/vectors too."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from tests.support.conversations import (
    NOW,
    REVOCATION_REQUEST,
    RSA_WITH_SHA256,
    STATUS_REPORT,
    TIMESTAMP,
    certificate_request,
    joined,
)

from cassiopeia.core.request import CertificateRequest, RevocationRequest, SubjectAltName, SubjectAttribute
from cassiopeia.errors import InternalError, PeerError, Refused, Unavailable
from cassiopeia.protocol import payload
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import ClientCommand
from cassiopeia.protocol.record import Version1Writer
from cassiopeia.protocol.session import (
    CertificateIssued,
    FullCrlReceived,
    FullCrlRequested,
    LogConfirmed,
    LogReceived,
    RevocationAnswered,
    RevocationRequested,
    Role,
    Session,
    SignRequested,
    StatusReceived,
    StatusRequested,
    TimestampReceived,
    TimestampRequested,
)

CA = "unassured_2026_2"
REQUEST = CertificateRequest(key_kind="csr", key_proof=b"-----BEGIN", profile="0004-server")


def lines(*messages: tuple[ClientCommand, bytes]) -> bytes:
    writer = Version1Writer(counting=True)
    for command, octets in messages:
        writer.put(command.code, 0, octets)
    return writer.take()


def test_a_certificate_from_request_to_end() -> None:
    pair = joined(1)
    handle = pair.client.submit(REQUEST)
    assert pair.client.open_handles == {handle}
    assert pair.client.capacity == 0
    # The original's client always says the hash.
    heard = dataclasses.replace(REQUEST, signature_hash="sha256")
    assert pair.to_signer() == [SignRequested(handle=1, request=heard)]
    pair.signer.send_log(1, b"the log")
    assert pair.signer.take_events() == []
    assert pair.to_client() == [LogReceived(handle=handle, log=b"the log")]
    pair.client.confirm_log(handle)
    assert pair.to_signer() == [LogConfirmed(handle=1, log_hash=hashlib.sha256(b"the log").digest())]

    pair.signer.send_certificate(1, signing_ca=CA, signature=b"", index=0, certificate=b"\x30\x00")

    assert pair.signer.finished
    assert pair.signer.has_data_to_send
    assert pair.to_client() == [CertificateIssued(handle=handle, signing_ca=CA, certificate=b"\x30\x00")]
    assert pair.client.finished
    assert pair.client.closed
    assert pair.client.capacity == 0


def test_what_comes_after_the_end_is_not_looked_at() -> None:
    pair = joined(1)
    pair.client.get_full_crl(CA)
    pair.to_signer()
    pair.signer.send_full_crl(1, b"\x30\x00")
    octets = pair.signer.data_to_send()
    assert pair.client.receive(octets + b"garbage\n") == [FullCrlReceived(handle=1, der=b"\x30\x00")]
    assert pair.client.receive(b"more garbage\n") == []


def test_only_what_version_1_knows_is_sent() -> None:
    pair = joined(1)
    pair.client.submit(
        certificate_request(
            key_kind="spkac",
            key_proof=b"SPKAC=TUlJ",
            wish_from="",
            attributes=(SubjectAttribute(type="CN", value=""), SubjectAttribute(type="O", value="x")),
        )
    )
    (event,) = pair.to_signer()
    assert event == SignRequested(
        handle=1,
        request=certificate_request(
            key_kind="spkac",
            key_proof=b"SPKAC=TUlJ",
            account="",
            request_id=b"",
            wish_from="",
            attributes=(SubjectAttribute(type="O", value="x"),),
        ),
    )


def test_an_spkac_that_is_der_goes_as_text() -> None:
    pair = joined(1)
    pair.client.submit(CertificateRequest(key_kind="spkac", key_proof=b"\x30\x03\x02\x01\x01", profile="0004-server"))
    (event,) = pair.to_signer()
    assert isinstance(event, SignRequested)
    assert event.request.key_proof == b"SPKAC=MAMCAQE="


def test_an_attribute_without_value_is_dropped_by_the_signer() -> None:
    signer = Session(role=Role.SIGNER, version=1)
    (event,) = signer.receive(
        lines(
            (ClientCommand.SET_CSR, b"csr"),
            (ClientCommand.ADD_AVA, b"OU,"),
            (ClientCommand.ADD_AVA, b"O,x"),
            (ClientCommand.SIGN, b""),
        )
    )
    assert isinstance(event, SignRequested)
    assert event.request.attributes == (SubjectAttribute(type="O", value="x"),)


def test_an_early_confirmation_must_be_empty() -> None:
    signer = Session(role=Role.SIGNER, version=1)
    signer.receive(lines((ClientCommand.SET_CSR, b"csr"), (ClientCommand.SIGN, b"")))
    with pytest.raises(PeerError, match="before it came"):
        signer.receive(lines((ClientCommand.LOG_SAVED, b"x" * 32)))


def test_our_client_does_not_confirm_what_it_has_not_seen() -> None:
    pair = joined(1)
    handle = pair.client.submit(REQUEST)
    with pytest.raises(InternalError, match="before it came"):
        pair.client.confirm_log(handle)


def test_a_name_that_version_1_lacks_is_refused_and_nothing_is_sent() -> None:
    pair = joined(1)
    with pytest.raises(Refused):
        pair.client.submit(
            certificate_request(key_proof=b"x", alt_names=(SubjectAltName(type="IP", value="192.0.2.1"),))
        )
    assert not pair.client.has_data_to_send
    assert pair.client.capacity == 1


@pytest.mark.parametrize("end", ["refused", "failed"])
def test_a_no_has_no_words(end: str) -> None:
    pair = joined(1)
    pair.client.submit(REQUEST)
    pair.to_signer()
    if end == "refused":
        pair.signer.send_refused(1, Refused("No.", code="no"))
    else:
        pair.signer.send_failed(1, Unavailable("Not now."))
    assert pair.signer.finished
    assert pair.signer.data_to_send() == b""
    with pytest.raises(InternalError, match="closed"):
        pair.signer.send_log(1, b"log")
    with pytest.raises(InternalError, match="closed"):
        pair.signer.send_refused(1, Refused("No.", code="no"))


def test_one_request_at_a_time() -> None:
    pair = joined(1)
    pair.client.submit(REQUEST)
    with pytest.raises(Unavailable):
        pair.client.get_full_crl(CA)


def test_a_revocation_may_be_followed_by_the_full_crl() -> None:
    pair = joined(1)
    first = pair.client.revoke(REVOCATION_REQUEST)
    (event,) = pair.to_signer()
    assert isinstance(event, RevocationRequested)
    assert [each.serial_number for each in event.request.revocations] == [0x20, 0x21]
    answer = payload.RevokedAnswer(
        date=None, algorithm=RSA_WITH_SHA256, signature=b"s", this_update=NOW, next_update=NOW
    )
    pair.signer.send_revoked(1, answer)
    assert pair.to_client() == [RevocationAnswered(handle=first, answer=answer)]
    assert not pair.client.closed
    with pytest.raises(InternalError):
        pair.client.submit(REQUEST)

    second = pair.client.get_full_crl(CA)

    assert second != first
    assert pair.to_signer() == [FullCrlRequested(handle=2, signing_ca=CA)]
    pair.signer.send_full_crl(2, bytes(100_000))
    assert pair.to_client() == [FullCrlReceived(handle=second, der=bytes(100_000))]
    assert pair.client.finished


def test_a_client_may_end_after_a_revocation() -> None:
    pair = joined(1)
    pair.client.revoke(RevocationRequest(signing_ca=CA))
    pair.client.finish()
    assert pair.client.finished
    assert pair.client.has_data_to_send
    with pytest.raises(InternalError, match="not open"):
        pair.client.get_full_crl(CA)


def test_time_and_status_are_texts_and_the_session_goes_on() -> None:
    pair = joined(1)
    pair.client.get_timestamp()
    assert pair.to_signer() == [TimestampRequested(handle=1)]
    pair.signer.send_timestamp(1, TIMESTAMP)
    assert pair.to_client() == [TimestampReceived(handle=1, text="2026-11-23T08:32:13Z")]
    pair.client.get_status()
    assert pair.to_signer() == [StatusRequested(handle=2)]
    pair.signer.send_status(2, STATUS_REPORT)
    assert pair.to_client() == [StatusReceived(handle=2, text="locked the keys are being unlocked")]
    assert pair.client.capacity == 1


def test_there_is_no_hello() -> None:
    pair = joined(1)
    with pytest.raises(InternalError):
        pair.client.hello(payload.Hello(versions=(1,), limits=Limits().as_payload(), capabilities=()))


def test_an_answer_without_a_question_is_a_peer_error() -> None:
    writer = Version1Writer(counting=False)
    writer.put(0x81, 0, b"")
    client = Session(role=Role.CLIENT, version=1)
    with pytest.raises(PeerError, match="nothing is open"):
        client.receive(writer.take())
    assert client.closed
    assert not client.finished
    with pytest.raises(PeerError, match="broken before"):
        client.receive(b"")


@pytest.mark.parametrize(
    ("fault", "octets"),
    [
        ("unknown code", lines((ClientCommand.HELLO, b""))),
        ("came while", lines((ClientCommand.SET_PROFILE, b"0004-server"))),
        ("came while", lines((ClientCommand.SET_CSR, b""), (ClientCommand.SET_CSR, b""))),
        ("twice", lines((ClientCommand.SET_CSR, b""), (ClientCommand.WISH_TO, b""), (ClientCommand.WISH_TO, b""))),
    ],
)
def test_what_does_not_belong_there_is_a_peer_error(fault: str, octets: bytes) -> None:
    with pytest.raises(PeerError, match=fault):
        Session(role=Role.SIGNER, version=1).receive(octets)


def test_a_request_is_bounded() -> None:
    limits = Limits(request_octets=1000)
    proof = (ClientCommand.ADD_PROOF_LINE, b"")
    start = (ClientCommand.SET_CSR, b"")
    assert Session(role=Role.SIGNER, version=1, limits=limits).receive(lines(start, *[proof] * 14)) == []
    with pytest.raises(PeerError, match="more than 1000 octets"):
        Session(role=Role.SIGNER, version=1, limits=limits).receive(lines(start, *[proof] * 15))


def test_proof_lines_are_bounded() -> None:
    start, proof = (ClientCommand.SET_CSR, b""), (ClientCommand.ADD_PROOF_LINE, b"x" * 10)
    for limits, fault in ((Limits(proofs=2), "more than 2 proofs"), (Limits(proof_octets=9), "more than 9 octets")):
        with pytest.raises(PeerError, match=fault):
            Session(role=Role.SIGNER, version=1, limits=limits).receive(lines(start, *[proof] * 3))


def test_a_session_is_bounded() -> None:
    limits = Limits(session_octets=100)
    with pytest.raises(PeerError, match="more than it may"):
        Session(role=Role.SIGNER, version=1, limits=limits).receive(lines((ClientCommand.SET_CSR, b"x" * 50)))
