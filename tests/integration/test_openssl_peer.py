"""The `openssl` program as a TLS peer: version 1 as the original speaks it, and what version 2 lets nobody have.

Needs the program `openssl` (Debian: apt install openssl).
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
from tests.support import conversations, links
from tests.support.conversations import recorded
from tests.support.lines import client_end, signer_end
from tests.support.links import certificate, key
from tests.support.wire import TIME_LIMIT_S, End, Loop, accept, free_port, running_loop

from cassiopeia.core.request import CertificateRequest
from cassiopeia.errors import Unavailable
from cassiopeia.link.credentials import certificate_pin
from cassiopeia.link.stream import open_listener, parse_address
from cassiopeia.link.tcp import connect_tcp
from cassiopeia.protocol.channel import LinkTls
from cassiopeia.protocol.events import CertificateIssued, LogConfirmed, LogReceived, SignRequested
from cassiopeia.protocol.message import Role

ORIGINAL_CIPHER = "ECDHE-RSA-AES256-GCM-SHA384"
# The original sends its certificate with the root that issued it.
ORIGINAL = ["-cert", str(certificate("original")), "-key", str(key("original"))]
ORIGINAL_TLS = ["-tls1_2", "-cipher", ORIGINAL_CIPHER, *ORIGINAL, "-cert_chain", str(certificate("original_root"))]


@pytest.fixture
def loop() -> Iterator[Loop]:
    with running_loop() as made:
        yield made


@contextmanager
def openssl(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = ["openssl", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def s_client(
    loop: Loop, tls: LinkTls, options: Sequence[str]
) -> Iterator[tuple[End, subprocess.Popen[bytes], bytearray]]:
    """Our signer's end, `openssl s_client` at the other, and what that prints."""
    port = free_port()
    listener = open_listener(parse_address(f"tcp:127.0.0.1:{port}"))
    with openssl("s_client", "-connect", f"127.0.0.1:{port}", *options) as process:
        assert process.stdout is not None
        printed = loop.collect(process.stdout.fileno())
        signer = loop.add(accept(listener), signer_end(tls=tls))
        listener.close()
        yield signer, process, printed


def say(process: subprocess.Popen[bytes], octets: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(octets)
    process.stdin.flush()


def test_a_recorded_request_comes_through_and_the_signer_closes_after_the_certificate(loop: Loop) -> None:
    from_client = b"".join(line.octets for line in recorded("sign") if line.sender is Role.CLIENT)
    with s_client(loop, links.signer(peers_1=("original",)), [*ORIGINAL_TLS, "-quiet"]) as (signer, process, printed):
        say(process, from_client)
        loop.run_until(lambda: bool(signer.events))
        (asked,) = signer.events
        assert isinstance(asked, SignRequested)
        assert asked.request.profile == recorded_profile(from_client)
        assert signer.connection.version == 1

        signer.session.send_log(asked.handle, b"what was done")
        # The original confirms right behind `sign`.
        loop.run_until(lambda: len(signer.events) == 2)
        assert signer.events[1] == LogConfirmed(handle=asked.handle, log_hash=b"")
        signer.session.send_certificate(
            asked.handle, signing_ca="unassured_2026_2", signature=b"", index=0, certificate=original_der()
        )
        loop.run_until(lambda: signer.closed)
        assert process.wait(TIME_LIMIT_S) == 0
        # In the order of the original: the log, the sub-CA, the certificate.
        loop.run_until(lambda: len(records_in(printed)) == 3)
    said = [bytes.fromhex(record[1:].decode())[17:-1] for record in records_in(printed)]
    assert said[:2] == [b"what was done", b"unassured_2026_2"]
    assert said[2].startswith(b"-----BEGIN CERTIFICATE-----")
    assert signer.failures == []


def test_our_client_gets_a_recorded_certificate_from_a_peer_like_the_original_signer(loop: Loop) -> None:
    answers = [line.octets for line in recorded("sign") if line.sender is Role.SIGNER]
    port = free_port()
    options = ["-accept", f"127.0.0.1:{port}", *ORIGINAL_TLS, "-naccept", "1", "-quiet"]
    verify = ["-Verify", "1", "-verify_return_error", "-CAfile", str(certificate("client_1"))]
    with openssl("s_server", *options, *verify) as process:
        assert process.stdout is not None
        printed = loop.collect(process.stdout.fileno())
        client = connect(loop, port, links.client_1(peers=("original",)))
        loop.run_until(lambda: client.established)
        handle = client.session.submit(version_1_request())
        # Commands are little-endian: 80 is sign, 81 logSaved.
        loop.run_until(lambda: any(record.startswith(b":8000") for record in records_in(printed)))
        say(process, answers[0])
        loop.run_until(lambda: len(client.events) == 1)
        (log,) = client.events
        assert isinstance(log, LogReceived)
        client.session.confirm_log(handle)
        loop.run_until(lambda: any(record.startswith(b":8100") for record in records_in(printed)))
        say(process, b"".join(answers[1:]))
        loop.run_until(lambda: len(client.events) == 2)
        (_, issued) = client.events
        assert isinstance(issued, CertificateIssued)
        assert issued.handle == handle
        assert issued.certificate is not None
        assert issued.certificate.startswith(b"\x30\x82")
    assert client.failures == []


def test_our_client_turns_a_signer_away_whose_key_is_not_pinned(loop: Loop) -> None:
    port = free_port()
    with openssl("s_server", "-accept", f"127.0.0.1:{port}", *ORIGINAL_TLS, "-naccept", "1", "-quiet"):
        client = connect(loop, port, links.client_1())
        loop.run_until(lambda: client.closed)
    assert client.failures[0].startswith("the peer's link certificate has the pin ")
    assert client.events == []


def test_version_2_has_no_ticket_and_no_compression(loop: Loop) -> None:
    own = ["-cert", str(certificate("client")), "-key", str(key("client"))]
    options = ["-tls1_3", "-alpn", "cassiopeia/2", "-CAfile", str(certificate("signer")), "-verify_return_error", *own]
    with s_client(loop, links.signer(), options) as (signer, process, printed):
        loop.run_until(lambda: signer.established and b"Verify return code" in printed)
        signer.connection.close()
        loop.run_until(lambda: signer.closed)
        process.wait(TIME_LIMIT_S)
    assert signer.failures == []
    assert b"ALPN protocol: cassiopeia/2" in printed
    assert b"Verify return code: 0 (ok)" in printed
    assert b"Compression: NONE" in printed
    assert b"New Session Ticket" not in printed
    assert b"TLS session ticket" not in printed


def test_nobody_renegotiates(loop: Loop) -> None:
    with s_client(loop, links.signer(peers_1=("original",)), ORIGINAL_TLS) as (signer, process, printed):
        loop.run_until(lambda: signer.established and b"---\n" in printed)
        say(process, b"R\n")
        loop.run_until(lambda: b"no renegotiation" in printed)
        assert signer.events == []
    assert b"RENEGOTIATING" in printed


def test_a_peer_without_a_certificate_is_told_apart_from_a_wrong_one(loop: Loop) -> None:
    with s_client(loop, links.signer(), ["-tls1_3", "-alpn", "cassiopeia/2", "-quiet"]) as (signer, _, printed):
        loop.run_until(lambda: signer.closed)
        loop.run_until(lambda: b"alert" in printed)
    expected = certificate_pin(certificate("client"))
    assert signer.failures == [f"the peer presented no link certificate; expected: {expected} (version 2)"]
    # What the peer sees is the alert of TLS; no pin, no reason.
    assert expected.encode() not in printed


def connect(loop: Loop, port: int, tls: LinkTls) -> End:
    """Connect as soon as the server listens."""
    deadline = time.monotonic() + TIME_LIMIT_S
    while time.monotonic() < deadline:
        with suppress(Unavailable):
            return loop.add(connect_tcp("127.0.0.1", port), client_end(tls=tls))
        time.sleep(0.01)
    raise AssertionError("the server never listened")


def records_in(printed: bytearray) -> list[bytes]:
    """The complete records of version 1 among what the program printed."""
    lines = bytes(printed).splitlines(keepends=True)
    return [line.rstrip() for line in lines if line.startswith(b":") and line.endswith(b"\n")]


def version_1_request() -> CertificateRequest:
    return conversations.certificate_request(
        key_proof=b"-----BEGIN CERTIFICATE REQUEST-----\n", request_id=b"", account="", proofs=()
    )


def recorded_profile(octets: bytes) -> str:
    """Payload of the recorded setProfile (11): behind 17 octets of header, before the checksum."""
    (line,) = [line for line in octets.splitlines() if line.startswith(b":1100")]
    return bytes.fromhex(line[1:].decode())[17:-1].decode()


def original_der() -> bytes:
    issued = [line.octets for line in recorded("sign") if line.sender is Role.SIGNER and line.octets[:5] == b":8100"]
    pem = bytes.fromhex(issued[0][1:].decode())[17:-1]
    done = subprocess.run(["openssl", "x509", "-outform", "der"], input=pem, capture_output=True, check=True)
    return done.stdout
