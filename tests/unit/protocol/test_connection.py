"""Framing, TLS and session as one connection: how it begins, what ends it, and what outlives the end."""

from __future__ import annotations

import os
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support import conversations, links
from tests.support.lines import NONCE, MemoryLine, client_end, greet, opened, session, signer_end

from cassiopeia.errors import InternalError, PeerError
from cassiopeia.link.credentials import certificate_pin
from cassiopeia.protocol.connection import Connection, reset_nonce
from cassiopeia.protocol.events import (
    CertificateIssued,
    FullCrlReceived,
    FullCrlRequested,
    LogConfirmed,
    LogReceived,
    SignRequested,
    StatusRequested,
)
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import Role


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize(("version", "client", "signer"), [(2, "client", "signer"), (1, "client_1", "signer_1")])
def test_a_session_opens_for_the_version_and_the_peer_of_the_handshake(
    *, serial: bool, version: int, client: str, signer: str
) -> None:
    line = opened(version=version, serial=serial)
    for end, peer in ((line.signer, client), (line.client, signer)):
        assert end.established
        assert end.handshake_started
        assert end.version == version
        assert end.peer_pin == certificate_pin(links.certificate(peer))
        assert session(end).version == version
    assert session(line.signer).role is Role.SIGNER
    assert session(line.client).role is Role.CLIENT


@pytest.mark.parametrize("serial", [False, True])
def test_before_the_handshake_there_is_no_session(*, serial: bool) -> None:
    for end in (signer_end(serial=serial), client_end(serial=serial)):
        assert (end.established, end.version, end.peer_pin, end.session) == (False, 0, "", None)
        assert end.handshake_started is not serial


@pytest.mark.parametrize("serial", [False, True])
def test_requests_pass_in_one_tls_record_a_flight(*, serial: bool) -> None:
    line = opened(serial=serial)
    for _ in range(3):
        session(line.client).get_status()
    before = len(line.to_signer)
    line.run()
    assert [type(event) for event in line.signer_events] == [StatusRequested] * 3
    if not serial:
        # RFC 8446 5.2: header, content type and authentication tag; three headers of version 2, no payload.
        assert len(line.to_signer) - before == 5 + 3 * 18 + 1 + 16


@pytest.mark.parametrize("serial", [False, True])
def test_every_octet_on_the_line_is_counted(*, serial: bool) -> None:
    line = opened(serial=serial)
    assert line.client.wire_octets_out == line.signer.wire_octets_in == len(line.to_signer)
    assert line.signer.wire_octets_out == line.client.wire_octets_in == len(line.to_client)


def test_a_large_answer_can_be_taken_in_parts() -> None:
    line = opened()
    session(line.client).get_full_crl("unassured_2026_2")
    line.run()
    (asked,) = line.signer_events
    assert isinstance(asked, FullCrlRequested)
    crl = bytes(300_000)
    session(line.signer).send_full_crl(asked.handle, crl)
    parts = []
    while line.signer.has_data_to_send:
        parts.append(line.signer.data_to_send(bulk_octets=20_000))
        line.client_events += line.client.receive(parts[-1])
    assert len(parts) > 5
    assert max(map(len, parts)) < 60_000
    assert line.client_events == [FullCrlReceived(handle=asked.handle, der=crl)]


# How a connection ends


@pytest.mark.parametrize("serial", [False, True])
def test_version_1_closes_after_the_certificate_behind_its_last_octet(*, serial: bool) -> None:
    line = opened(version=1, serial=serial)
    issued_der = run_version_1(line)
    (issued,) = [event for event in line.client_events if isinstance(event, CertificateIssued)]
    assert issued.certificate == issued_der
    assert line.client.closed
    assert line.client.session is None
    assert line.signer.session is None
    # The signer's end of a serial line lives on, for the next reset.
    assert line.signer.closed is not serial
    assert line.failures == []
    assert line.signer.take_failure() is None


@pytest.mark.parametrize("closing", ["client", "signer"])
def test_close_ends_both_ends_in_good_order(closing: str) -> None:
    line = opened()
    (line.client if closing == "client" else line.signer).close()
    line.run()
    assert line.client.closed
    assert line.signer.closed
    assert line.failures == []
    assert line.signer.receive(b"late") == []
    assert not line.signer.has_data_to_send


def test_close_before_the_handshake_is_harmless() -> None:
    end = client_end(serial=True)
    end.close()
    assert end.closed
    assert end.data_to_send() == b"\xc0" + NONCE


def test_the_end_of_the_link_ends_the_connection_in_silence() -> None:
    for serial in (False, True):
        line = opened(serial=serial)
        session(line.client).get_status()
        for end in (line.client, line.signer):
            end.receive_eof()
            assert end.closed
            assert end.session is None
            assert end.data_to_send() == b""


def test_a_broken_session_ends_tls_and_tells_the_peer_nothing() -> None:
    line = opened()
    line.client._channel.send(b"\xff" * 40)  # type: ignore[union-attr] # the handshake is done
    with pytest.raises(PeerError):
        line.signer.receive(line.client.data_to_send())
    assert line.signer.closed
    assert line.signer.session is None
    assert line.client.receive(line.signer.data_to_send()) == []
    assert line.client.closed


def test_a_refused_peer_gets_an_alert_and_no_more() -> None:
    line = MemoryLine(signer=signer_end(), client=client_end(tls=links.client(name="stranger")))
    line.run()
    assert len(line.failures) == 2
    assert "the peer's link certificate has the pin" in line.failures[0]
    assert "unknown ca" in line.failures[1]
    assert line.signer.closed
    assert line.client.closed


def test_a_peer_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    line = opened()
    monkeypatch.setattr("cassiopeia.protocol.connection._BACKLOG_OCTETS", 0)
    line.signer._channel.send(b"x")  # type: ignore[union-attr] # the handshake is done
    session(line.client).get_status()
    with pytest.raises(PeerError, match="the peer takes nothing"):
        line.signer.receive(line.client.data_to_send())
    assert line.signer.closed


# Serial lines


def test_the_client_says_nothing_but_its_reset_until_it_is_answered() -> None:
    client = client_end(serial=True)
    assert [client.has_data_to_send, client.data_to_send()] == [True, b"\xc0" + NONCE]
    assert client.receive(b"\xc0\x01\x02\x03\x04\x05\x06\x07\x08 an old session") == []
    assert [client.has_data_to_send, client.data_to_send()] == [False, b""]
    client.receive(b"\xc0" + NONCE)
    assert client.handshake_started
    # A TLS record of the handshake type.
    assert client.data_to_send()[0] == 0x16


def test_a_serial_line_carries_no_bare_c0_but_the_resets() -> None:
    line = opened(serial=True)
    session(line.client).submit(conversations.certificate_request(key_proof=b"\xc0\xdb" * 2000))
    line.run()
    for octets in (line.to_signer, line.to_client):
        assert octets.count(b"\xc0") == 1
        assert octets.startswith(b"\xc0" + NONCE)
    # Four thousand octets of ciphertext are never without a C0.
    assert b"\xdb\xdc" in line.to_signer
    (asked,) = line.signer_events
    assert isinstance(asked, SignRequested)
    assert asked.request.key_proof == b"\xc0\xdb" * 2000


def test_the_original_client_need_not_wait_for_the_answer() -> None:
    signer = signer_end(serial=True, tls=links.signer(peers_1=("original",)))
    original = links.BareTls(links.bare_client(name="original_chain", tls=ssl.TLSVersion.TLSv1_2))
    reset = bytes.fromhex("c00102030405060708")
    signer.receive(reset + escaped(original.data_to_send()))
    answer = signer.data_to_send()
    assert answer.startswith(reset)
    original.receive(unescaped(answer.removeprefix(reset)))
    signer.receive(escaped(original.data_to_send()))
    assert (signer.established, signer.version) == (True, 1)


def test_a_reset_in_the_middle_drops_the_session_and_is_answered_first() -> None:
    line = opened(serial=True)
    old = session(line.signer)
    session(line.client).get_status()
    line.signer.receive(line.client.data_to_send())
    line.signer._channel.send(b"never sent")  # type: ignore[union-attr] # the handshake is done
    line.client = client_end(serial=True, nonce=b"ABCDEFGH")
    assert line.signer.receive(line.client.data_to_send()) == []
    assert line.signer.session is None
    assert str(line.signer.take_failure()) == ("the serial line lost its session: a reset in the middle of the stream")
    assert line.signer.take_failure() is None
    line.run()
    assert line.to_client.count(b"\xc0") == 2
    assert b"\xc0ABCDEFGH" in line.to_client
    greet(line)
    assert line.client.established
    assert session(line.signer) is not old


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"\xdb\x00", "the serial line lost its session: DB followed by 00 in the stream"),
        (b"\x17\x03\x03\x00\x02xx", "TLS failed: "),
    ],
)
def test_a_fault_on_the_signers_serial_line_ends_the_session_alone(octets: bytes, reason: str) -> None:
    line = opened(serial=True)
    assert line.signer.receive(octets + b"more of the same") == []
    assert str(line.signer.take_failure()).startswith(reason)
    ended = line.signer
    assert [ended.closed, ended.established, ended.handshake_started] == [False, False, False]
    assert line.signer.receive(b"still of the old session") == []
    line.client = client_end(serial=True, nonce=b"ABCDEFGH")
    line.run()
    greet(line)
    assert line.signer.established
    assert line.client.established


def test_a_second_fault_behind_the_end_of_a_session_says_nothing_new() -> None:
    line = opened(serial=True)
    line.signer.receive(b"\x17\x03\x03\x00\x02xx")
    assert line.signer.take_failure() is not None
    line.signer.receive(b"\xdb\x00")
    assert line.signer.take_failure() is None


@pytest.mark.parametrize("octets", [b"\xc0", b"\xdb\x00"])
def test_a_fault_on_the_clients_serial_line_ends_the_connection(octets: bytes) -> None:
    line = opened(serial=True)
    with pytest.raises(PeerError, match="the serial line lost its session"):
        line.client.receive(octets)
    assert line.client.closed


def test_a_client_that_closes_in_order_leaves_the_serial_line_to_the_next() -> None:
    line = opened(serial=True)
    line.client.close()
    line.run()
    assert line.signer.session is None
    assert not line.signer.closed
    assert line.signer.take_failure() is None
    line.client = client_end(serial=True, nonce=b"ABCDEFGH")
    line.run()
    greet(line)
    assert line.signer.established


def test_the_next_session_of_a_serial_line_begins_with_other_credentials() -> None:
    line = opened(serial=True)
    limits = Limits(open_requests=7)
    line.signer.follow(tls=links.signer(peers=("next_client",)), limits=limits)
    assert session(line.signer).limits == Limits()  # who is there goes on as before
    line.client.close()
    line.client = client_end(serial=True, nonce=b"ABCDEFGH")
    line.run()
    assert line.signer.session is None
    line.client = client_end(serial=True, nonce=b"12345678", tls=links.client(name="next_client"))
    line.run()
    greet(line)
    assert session(line.signer).limits == limits


def test_a_serial_client_needs_a_nonce() -> None:
    with pytest.raises(InternalError, match="needs a nonce"):
        Connection(role=Role.CLIENT, tls=links.client(), limits=Limits(), serial=True)


def test_a_fresh_nonce_has_eight_octets_and_no_c0() -> None:
    portions = [b"\xc01\xc0\xc0\xc023\xc0", b"4\xc0567", b"8"]
    asked = []

    def random(octets: int) -> bytes:
        asked.append(octets)
        return portions.pop(0)

    assert reset_nonce(random) == b"12345678"
    assert asked == [8, 5, 1]
    assert len(reset_nonce(os.urandom)) == 8


def run_version_1(line: MemoryLine) -> bytes:
    """One certificate over version 1; returns its DER."""
    der = x509.load_pem_x509_certificate(links.certificate("client_1").read_bytes()).public_bytes(Encoding.DER)
    handle = session(line.client).submit(conversations.certificate_request(request_id=b"", account="", proofs=()))
    line.run()
    (asked,) = [event for event in line.signer_events if isinstance(event, SignRequested)]
    session(line.signer).send_log(asked.handle, b"the log")
    line.run()
    assert LogReceived(handle=handle, log=b"the log") in line.client_events
    session(line.client).confirm_log(handle)
    line.run()
    (confirmed,) = [event for event in line.signer_events if isinstance(event, LogConfirmed)]
    session(line.signer).send_certificate(
        confirmed.handle, signing_ca="unassured_2026_2", signature=b"", index=0, certificate=der
    )
    line.run()
    return der


def escaped(octets: bytes) -> bytes:
    return octets.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")


def unescaped(octets: bytes) -> bytes:
    return octets.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")
