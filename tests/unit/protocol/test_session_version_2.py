from __future__ import annotations

import dataclasses
import hashlib
import os
from typing import Any

import pytest
from tests.support.conversations import (
    HEAD,
    REVOCATION_REQUEST,
    REVOKED_ANSWER,
    STATUS_REPORT,
    TIMESTAMP,
    Pair,
    certificate_request,
    hello,
    joined,
)
from tests.support.journal_entries import intent_log

from cassiopeia.core import structure
from cassiopeia.core.request import RevocationRequest, SubjectAttribute
from cassiopeia.errors import InternalError, PeerError, Refused, Unavailable
from cassiopeia.protocol import payload
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import ClientCommand, SignerCommand
from cassiopeia.protocol.record import FRAGMENT_OCTETS, Version2Writer
from cassiopeia.protocol.session import (
    AbandonRequested,
    CertificateIssued,
    FullCrlReceived,
    FullCrlRequested,
    HelloReceived,
    LogConfirmed,
    LogReceived,
    RequestAbandoned,
    RequestFailed,
    RequestRefused,
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


def records(*messages: tuple[int, int, bytes], opened: bool = True) -> bytes:
    """Messages of (code, handle, payload), behind a hello."""
    writer = Version2Writer()
    if opened:
        writer.put(ClientCommand.HELLO.code, 0, structure.encode(hello()))
    for code, handle, octets in messages:
        writer.put(code, handle, octets)
    return writer.take()


def opened_signer(limits: Limits | None = None) -> tuple[Session, Version2Writer]:
    """A signer whose opening is over, and the writer of its peer."""
    writer = Version2Writer()
    writer.put(ClientCommand.HELLO.code, 0, structure.encode(hello()))
    signer = Session(role=Role.SIGNER, version=2, limits=limits)
    signer.receive(writer.take())
    signer.hello(hello(limits))
    signer.data_to_send()
    return signer, writer


def requested(pair: Pair, number: int = 0) -> int:
    handle = pair.client.submit(certificate_request(number))
    pair.to_signer()
    return handle


def logged(pair: Pair, number: int = 0) -> int:
    handle = requested(pair, number)
    pair.signer.send_log(handle, b"log")
    pair.to_client()
    return handle


def issue(pair: Pair, handle: int) -> None:
    pair.signer.send_certificate(handle, signing_ca=CA, signature=b"signature", index=4, certificate=b"")


def log_of(number: int) -> bytes:
    request = certificate_request(number, key_proof=os.urandom(600))
    return intent_log(request, index=number, previous_hash=os.urandom(32), tbs_certificate=os.urandom(100))


class TestOpening:
    def test_both_say_hello(self) -> None:
        client, signer = Session(role=Role.CLIENT, version=2), Session(role=Role.SIGNER, version=2)
        assert client.capacity == 0
        client.hello(hello())
        assert signer.receive(client.data_to_send()) == [HelloReceived(hello=hello())]
        answer = dataclasses.replace(hello(), signer_id=1, boot_id=b"b", present_head=b"h")
        signer.hello(answer)
        assert client.receive(signer.data_to_send()) == [HelloReceived(hello=answer)]
        assert client.peer_hello == answer
        assert client.capacity == Limits().open_requests

    def test_an_unknown_extension_is_passed_over(self) -> None:
        pair = joined()
        client = Session(role=Role.CLIENT, version=2)
        client.hello(dataclasses.replace(hello(), extensions=(payload.Extension(id=77, value=b"later"),)))
        assert len(Session(role=Role.SIGNER, version=2).receive(client.data_to_send())) == 1
        assert not pair.client.closed

    def test_a_request_before_hello_is_a_peer_error(self) -> None:
        signer = Session(role=Role.SIGNER, version=2)
        with pytest.raises(PeerError, match="before the opening"):
            signer.receive(records((ClientCommand.GET_TIMESTAMP.code, 1, b""), opened=False))

    def test_a_request_before_the_answer_to_hello_is_a_peer_error(self) -> None:
        signer = Session(role=Role.SIGNER, version=2)
        with pytest.raises(PeerError, match="before the opening"):
            signer.receive(records((ClientCommand.GET_TIMESTAMP.code, 1, b"")))

    def test_our_client_does_not_ask_before_the_answer_to_hello(self) -> None:
        client = Session(role=Role.CLIENT, version=2)
        client.hello(hello())
        with pytest.raises(InternalError, match="not open"):
            client.get_timestamp()

    def test_a_hello_without_our_version_is_a_peer_error(self) -> None:
        client = Session(role=Role.CLIENT, version=2)
        client.hello(dataclasses.replace(hello(), versions=(3, 4)))
        with pytest.raises(PeerError, match="does not name the version"):
            Session(role=Role.SIGNER, version=2).receive(client.data_to_send())

    def test_handle_0_is_for_the_opening_alone(self) -> None:
        signer, writer = opened_signer()
        writer.put(ClientCommand.GET_TIMESTAMP.code, 0, b"")
        with pytest.raises(PeerError, match="opening is over"):
            signer.receive(writer.take())


class TestCertificate:
    def test_from_request_to_signature(self) -> None:
        pair = joined()
        handle = pair.client.submit(certificate_request())
        assert pair.to_signer() == [SignRequested(handle=handle, request=certificate_request())]
        log = log_of(1)
        pair.signer.send_log(handle, log, head=HEAD)
        assert pair.to_client() == [LogReceived(handle=handle, log=log, head=HEAD)]
        pair.client.confirm_log(handle)
        assert pair.to_signer() == [LogConfirmed(handle=handle, log_hash=hashlib.sha256(log).digest())]
        pair.signer.send_certificate(
            handle, signing_ca=CA, signature=b"signature", index=4, certificate=b"", head=b"a newer head"
        )
        assert pair.to_client() == [
            CertificateIssued(handle=handle, signing_ca=CA, signature=b"signature", index=4, head=b"a newer head"),
        ]
        assert pair.client.open_handles == pair.signer.open_handles == frozenset()
        assert not pair.client.closed

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"key_kind": "spkac"},
            {"profile": "", "ocsp_target_ca": CA},
            {"account": "", "signature_hash": "", "wish_from": "", "wish_to": "", "attributes": (), "alt_names": ()},
            {"attributes": (SubjectAttribute(type="CN", value=""), SubjectAttribute(type="", value=",,"))},
            {"proofs": (b"", b"\0" * 4096), "key_proof": b"\0" * 20_000},
        ],
    )
    def test_a_request_arrives_as_it_was_sent(self, changes: dict[str, Any]) -> None:
        pair = joined()
        request = certificate_request(**changes)
        handle = pair.client.submit(request)
        (event,) = pair.to_signer()
        assert event == SignRequested(handle=handle, request=request)

    def test_many_at_once_in_any_order(self) -> None:
        pair = joined()
        handles = [pair.client.submit(certificate_request(number)) for number in range(5)]
        assert [event.request.request_id[-1] for event in pair.to_signer() if isinstance(event, SignRequested)] == [
            *range(5)
        ]
        logs = {handle: log_of(handle) for handle in handles}
        for handle in reversed(handles):
            pair.signer.send_log(handle, logs[handle])
        assert pair.to_client() == [LogReceived(handle=handle, log=logs[handle]) for handle in reversed(handles)]
        for handle in handles:
            pair.client.confirm_log(handle)
        pair.to_signer()
        for handle in handles[::2]:
            issue(pair, handle)
        assert pair.signer.open_handles == set(handles[1::2])
        assert len(pair.to_client()) == 3
        assert pair.client.open_handles == set(handles[1::2])

    def test_our_client_does_not_confirm_what_it_has_not_seen(self) -> None:
        pair = joined()
        handle = requested(pair)
        with pytest.raises(InternalError, match="before it came"):
            pair.client.confirm_log(handle)

    def test_an_id_is_not_left_out(self) -> None:
        pair = joined()
        with pytest.raises(InternalError, match="0 octets where 32"):
            pair.client.submit(certificate_request(request_id=b""))
        assert not pair.client.has_data_to_send

    @pytest.mark.parametrize("answer", [SignerCommand.REFUSED, SignerCommand.FAILED])
    def test_a_no_ends_the_request_and_not_the_session(self, answer: SignerCommand) -> None:
        pair = joined()
        handle, other = requested(pair), requested(pair, 1)
        if answer is SignerCommand.REFUSED:
            pair.signer.send_refused(handle, Refused("No such profile.", code="unknown-profile", field="profile"))
            expected: object = RequestRefused(
                handle=handle, code="unknown-profile", field="profile", message="No such profile."
            )
        else:
            pair.signer.send_failed(handle, Unavailable("Busy.", code="busy", retry_after_s=7))
            expected = RequestFailed(handle=handle, code="busy", message="Busy.", retry_after_s=7)
        assert pair.to_client() == [expected]
        assert pair.client.open_handles == {other}


class TestAbandonment:
    def test_the_client_vetoes(self) -> None:
        pair = joined()
        handle = logged(pair)
        pair.client.abandon(handle, "the lint says no")
        assert pair.to_signer() == [AbandonRequested(handle=handle, reason="the lint says no")]
        pair.signer.send_abandoned(handle, index=10, head=HEAD)
        assert pair.to_client() == [RequestAbandoned(handle=handle, index=10, head=HEAD)]
        assert not pair.client.open_handles

    def test_nothing_is_journaled_of_a_request_without_an_intent(self) -> None:
        pair = joined()
        handle = requested(pair)
        pair.client.abandon(handle, "")
        pair.to_signer()
        pair.signer.send_abandoned(handle)
        assert pair.to_client() == [RequestAbandoned(handle=handle, index=None, head=None)]

    def test_a_veto_crosses_with_the_log(self) -> None:
        pair = joined()
        handle, other = requested(pair), requested(pair, 1)
        pair.client.abandon(handle, "")
        pair.signer.send_log(handle, log_of(1))
        pair.signer.send_log(other, log_of(2))
        crossing = pair.to_client()
        assert [event.handle for event in crossing if isinstance(event, LogReceived)] == [other]
        pair.to_signer()
        pair.signer.send_abandoned(handle)
        assert pair.to_client() == [RequestAbandoned(handle=handle)]

    def test_a_confirmation_crosses_with_the_signers_own_abandonment(self) -> None:
        pair = joined()
        handle = logged(pair)
        pair.signer.send_abandoned(handle)
        pair.client.confirm_log(handle)
        assert pair.to_signer() == []
        assert pair.to_client() == [RequestAbandoned(handle=handle)]

    def test_what_is_confirmed_cannot_be_vetoed(self) -> None:
        pair = joined()
        handle = logged(pair)
        pair.client.confirm_log(handle)
        with pytest.raises(InternalError, match="abandon"):
            pair.client.abandon(handle, "too late")


class TestHandles:
    def test_a_message_for_an_answered_request_is_passed_over(self) -> None:
        signer, writer = opened_signer()
        writer.put(0x7ABC, 5, b"")
        writer.put(ClientCommand.SET_REQUEST_ID.code, 5, b"i" * 32)
        writer.put(ClientCommand.SIGN.code, 4, b"never open: handles only rise")
        assert signer.receive(writer.take()) == []
        assert not signer.open_handles

    def test_a_second_request_under_an_open_handle_is_a_peer_error(self) -> None:
        signer, writer = opened_signer()
        for _ in range(2):
            writer.put(ClientCommand.SET_REQUEST_ID.code, 1, b"i" * 32)
        with pytest.raises(PeerError, match="setRequestId came while"):
            signer.receive(writer.take())

    def test_an_answer_for_nothing_is_a_peer_error(self) -> None:
        pair = joined()
        writer = Version2Writer()
        writer.put(0, 0, b"")
        writer.take()
        writer.put(SignerCommand.ABANDONED.code, 9, b"")
        with pytest.raises(PeerError, match="nothing is open"):
            pair.client.receive(writer.take())

    def test_an_answer_to_nothing_is_our_own_mistake(self) -> None:
        pair = joined()
        with pytest.raises(InternalError, match="nothing is open"):
            pair.signer.send_abandoned(1)

    def test_nobody_speaks_for_the_other_side(self) -> None:
        pair = joined()
        handle = logged(pair)
        with pytest.raises(InternalError, match="the client can't send"):
            pair.client.send_abandoned(handle)
        with pytest.raises(InternalError, match="the signer can't send getTimestamp"):
            pair.signer.get_timestamp()

    def test_handles_end(self) -> None:
        pair = joined()
        pair.client._highest_handle = 0xFFFF_FFFF
        with pytest.raises(Unavailable):
            pair.client.get_timestamp()


class TestUnknownCommands:
    @pytest.mark.parametrize(
        "begun",
        [
            [],
            [(ClientCommand.SET_REQUEST_ID.code, b"i" * 32)],
            [(ClientCommand.SET_REQUEST_ID.code, b"i" * 32), (ClientCommand.SET_CSR.code, b"csr")],
            [(ClientCommand.ADD_SERIAL.code, structure.encode(REVOCATION_REQUEST.revocations[0]))],
        ],
    )
    def test_one_is_refused_and_the_session_lives(self, begun: list[tuple[int, bytes]]) -> None:
        signer, writer = opened_signer()
        for code, octets in begun:
            writer.put(code, 1, octets)
        writer.put(0x7ABC, 1, b"from a later version")
        writer.put(ClientCommand.SIGN.code, 1, b"")
        writer.put(ClientCommand.GET_TIMESTAMP.code, 2, b"")
        assert signer.receive(writer.take()) == [TimestampRequested(handle=2)]
        assert b"unknown-command" in signer.data_to_send()

    def test_one_amid_an_answer_is_a_peer_error(self) -> None:
        signer, writer = opened_signer()
        writer.put(ClientCommand.GET_TIMESTAMP.code, 1, b"")
        writer.put(0x7ABC, 1, b"")
        with pytest.raises(PeerError, match="unknown code"):
            signer.receive(writer.take())

    def test_one_from_a_signer_is_a_peer_error(self) -> None:
        pair = joined()
        handle = requested(pair)
        writer = Version2Writer()
        writer.put(0, 0, b"")
        writer.take()
        writer.put(0x7ABC, handle, b"")
        with pytest.raises(PeerError, match="unknown code"):
            pair.client.receive(writer.take())


class TestBounds:
    def test_a_request_too_large_is_refused_by_the_client_already(self) -> None:
        pair = joined(limits=Limits(request_octets=20_000))
        with pytest.raises(Refused) as refused:
            pair.client.submit(certificate_request(key_proof=bytes(20_000)))
        assert refused.value.code == "request-too-large"
        assert pair.client.submit(certificate_request())

    def test_a_request_too_large_is_refused_by_the_signer_and_the_session_lives(self) -> None:
        signer, writer = opened_signer(Limits(request_octets=1000))
        writer.put(ClientCommand.SET_REQUEST_ID.code, 1, b"i" * 32)
        writer.put(ClientCommand.SET_CSR.code, 1, bytes(2000))
        writer.put(ClientCommand.SIGN.code, 1, b"")
        writer.put(ClientCommand.GET_TIMESTAMP.code, 2, b"")
        assert signer.receive(writer.take()) == [TimestampRequested(handle=2)]
        assert b"request-too-large" in signer.data_to_send()

    def test_empty_messages_cost_too(self) -> None:
        signer, writer = opened_signer(Limits(request_octets=1000))
        writer.put(ClientCommand.SET_REQUEST_ID.code, 1, b"i" * 32)
        writer.put(ClientCommand.SET_CSR.code, 1, b"")
        for _ in range(20):
            writer.put(ClientCommand.ADD_PROOF_LINE.code, 1, b"")
        signer.receive(writer.take())
        assert b"request-too-large" in signer.data_to_send()

    def test_no_more_proofs_and_no_larger_ones_than_the_bound(self) -> None:
        limits = Limits(proofs=3, proof_octets=100)
        for sizes, words in (([100] * 3, None), ([100] * 4, b"more than 3 proofs"), ([101], b"100 octets in a proof")):
            signer, writer = opened_signer(limits)
            writer.put(ClientCommand.SET_REQUEST_ID.code, 1, b"i" * 32)
            writer.put(ClientCommand.SET_CSR.code, 1, b"")
            for size in sizes:
                writer.put(ClientCommand.ADD_PROOF_LINE.code, 1, bytes(size))
            writer.put(ClientCommand.SIGN.code, 1, b"")
            writer.put(ClientCommand.GET_TIMESTAMP.code, 2, b"")
            events = signer.receive(writer.take())
            assert events[-1] == TimestampRequested(handle=2)
            assert len(events) == (1 if words else 2)
            assert (words or b"") in signer.data_to_send()

    def test_as_many_proofs_as_a_request_may_have_fit_into_it(self) -> None:
        pair = joined()
        proofs = tuple(bytes([number % 256]) * 400 for number in range(Limits().proofs))
        pair.client.submit(certificate_request(proofs=proofs))
        (event,) = pair.to_signer()
        assert isinstance(event, SignRequested)
        assert event.request.proofs == proofs

    def test_a_session_that_holds_too_much_fails_the_next_request(self) -> None:
        signer, writer = opened_signer(Limits(session_octets=1000))
        for handle in range(1, 12):
            writer.put(ClientCommand.SET_REQUEST_ID.code, handle, b"i" * 32)
        signer.receive(writer.take())
        assert signer.data_to_send().count(b"busy") == 1
        assert len(signer.open_handles) == 10

    def test_what_an_answered_request_held_is_free_again(self) -> None:
        limits = Limits(session_octets=1000)
        signer, writer = opened_signer(limits)
        for handle in range(1, 100):
            writer.put(ClientCommand.GET_TIMESTAMP.code, handle, b"")
            assert signer.receive(writer.take()) == [TimestampRequested(handle=handle)]
            signer.send_timestamp(handle, TIMESTAMP)
        assert b"busy" not in signer.data_to_send()

    def test_too_many_open_requests_fail(self) -> None:
        signer, writer = opened_signer(Limits(open_requests=2))
        for handle in (1, 2, 3):
            writer.put(ClientCommand.GET_TIMESTAMP.code, handle, b"")
        assert len(signer.receive(writer.take())) == 2
        assert b"busy" in signer.data_to_send()
        assert signer.open_handles == {1, 2}

    def test_our_client_keeps_to_the_smaller_bound(self) -> None:
        pair = joined(limits=Limits(open_requests=2))
        pair.client.get_timestamp()
        assert pair.client.capacity == 1
        pair.client.get_timestamp()
        with pytest.raises(Unavailable):
            pair.client.get_timestamp()

    def test_only_crls_may_be_large(self) -> None:
        pair = joined(limits=Limits(message_octets=50_000, crl_octets=100_000))
        handle = pair.client.get_full_crl(CA)
        pair.to_signer()
        pair.signer.send_full_crl(handle, bytes(100_000))
        assert len(pair.to_client()) == 1
        other = requested(pair)
        pair.signer.send_log(other, os.urandom(60_000))
        with pytest.raises(PeerError, match="limit"):
            pair.to_client()

    def test_who_owes_what_shows(self) -> None:
        signer, writer = opened_signer()
        owed = [signer.incomplete]
        writer.put(ClientCommand.SET_REQUEST_ID.code, 1, b"i" * 32)
        writer.put(
            ClientCommand.REVOKE.code, 1, structure.encode(payload.Revoke(signing_ca=CA, crl_number=0, tbs_hash=b""))
        )
        octets = writer.take()
        for piece in (octets[:5], octets[5:50], octets[50:60], octets[60:]):
            signer.receive(piece)
            owed.append(signer.incomplete)
        assert owed == [False, True, True, True, False]


class TestLogs:
    def test_a_log_is_deflated_with_request_and_log_before(self) -> None:
        pair = joined()
        csr = os.urandom(600)
        sizes = []
        for number in (1, 2):
            request = certificate_request(number, key_proof=csr)
            handle = pair.client.submit(request)
            pair.to_signer()
            log = b"the same in every log " * 10 + os.urandom(1) + csr
            pair.signer.send_log(handle, log)
            octets = pair.signer.data_to_send()
            sizes.append(len(octets))
            assert pair.client.receive(octets) == [LogReceived(handle=handle, log=log)]
        assert sizes[0] < 150
        assert sizes[1] < sizes[0]

    def test_a_log_is_plain_for_a_client_that_does_not_inflate(self) -> None:
        pair = joined(capabilities=())
        handle = requested(pair)
        pair.signer.send_log(handle, bytes(1000))
        octets = pair.signer.data_to_send()
        assert len(octets) > 1000
        assert pair.client.receive(octets) == [LogReceived(handle=handle, log=bytes(1000))]

    def test_a_log_is_plain_when_deflating_gains_nothing(self) -> None:
        pair = joined()
        handle = requested(pair)
        log = os.urandom(100)
        pair.signer.send_log(handle, log)
        octets = pair.signer.data_to_send()
        assert log in octets
        assert pair.client.receive(octets) == [LogReceived(handle=handle, log=log)]

    @pytest.mark.parametrize("encoding", [1, 2])
    def test_a_log_that_cannot_be_read_is_a_peer_error(self, encoding: int) -> None:
        pair = joined()
        handle = requested(pair)
        writer = Version2Writer()
        writer.put(0, 0, b"")
        writer.take()
        octets = structure.encode(payload.SetLog(encoding=encoding, octets=b"\xff"))
        writer.put(SignerCommand.SET_LOG.code, handle, octets)
        with pytest.raises(PeerError):
            pair.client.receive(writer.take())


class TestRevocation:
    def test_a_revocation_and_its_answer(self) -> None:
        pair = joined()
        handle = pair.client.revoke(REVOCATION_REQUEST)
        assert pair.to_signer() == [RevocationRequested(handle=handle, request=REVOCATION_REQUEST)]
        pair.signer.send_revoked(handle, REVOKED_ANSWER)
        assert pair.to_client() == [RevocationAnswered(handle=handle, answer=REVOKED_ANSWER)]

    def test_a_fresh_signature_needs_neither_id_nor_serials(self) -> None:
        pair = joined()
        request = RevocationRequest(signing_ca=CA)
        handle = pair.client.revoke(request)
        assert pair.to_signer() == [RevocationRequested(handle=handle, request=request)]

    def test_a_full_crl_holds_nothing_up(self) -> None:
        pair = joined()
        crl = os.urandom(10 * FRAGMENT_OCTETS)
        first = pair.client.get_full_crl(CA)
        assert pair.to_signer() == [FullCrlRequested(handle=first, signing_ca=CA)]
        pair.signer.send_full_crl(first, crl)
        assert pair.client.receive(pair.signer.data_to_send(FRAGMENT_OCTETS)) == []
        second = pair.client.get_timestamp()
        pair.to_signer()
        pair.signer.send_timestamp(second, TIMESTAMP)
        octets = pair.signer.data_to_send(FRAGMENT_OCTETS)
        assert pair.client.receive(octets) == [TimestampReceived(handle=second, timestamp=TIMESTAMP)]
        assert pair.to_client() == [FullCrlReceived(handle=first, der=crl)]
        assert not pair.signer.has_data_to_send


def test_the_signers_word() -> None:
    pair = joined()
    first, second = pair.client.get_timestamp(), pair.client.get_status()
    assert pair.to_signer() == [TimestampRequested(handle=first), StatusRequested(handle=second)]
    pair.signer.send_status(second, STATUS_REPORT)
    pair.signer.send_timestamp(first, TIMESTAMP)
    assert pair.to_client() == [
        StatusReceived(handle=second, report=STATUS_REPORT),
        TimestampReceived(handle=first, timestamp=TIMESTAMP),
    ]


def test_a_broken_session_stays_broken() -> None:
    signer, writer = opened_signer()
    writer.put(ClientCommand.GET_TIMESTAMP.code, 1, b"no payload is due")
    with pytest.raises(PeerError, match="no payload"):
        signer.receive(writer.take())
    assert signer.closed
    with pytest.raises(PeerError, match="broken before"):
        signer.receive(b"")
    with pytest.raises(InternalError, match="closed"):
        signer.send_timestamp(1, TIMESTAMP)
