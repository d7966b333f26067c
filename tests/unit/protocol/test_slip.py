"""Serial framing, octet for octet as the wire specification has it."""

from __future__ import annotations

import pytest

from cassiopeia.errors import InternalError
from cassiopeia.protocol.slip import Data, SlipClient, SlipSigner, StreamLost, StreamStarted, escape

# What the original client always sends.
ORIGINAL_RESET = bytes.fromhex("c00102030405060708")
NONCE = b"abcdefgh"


def test_escape_leaves_no_bare_c0_and_marks_every_escape() -> None:
    assert escape(bytes.fromhex("00c0dbdcddff")) == bytes.fromhex("00dbdcdbdddcddff")


def test_signer_answers_the_reset_of_the_original_and_keeps_what_follows_at_once() -> None:
    # The original sends its ClientHello right behind, without waiting.
    assert SlipSigner().receive(ORIGINAL_RESET + b"\x16\x03\x01") == [
        StreamStarted(answer=ORIGINAL_RESET),
        Data(octets=b"\x16\x03\x01"),
    ]


def test_signer_skips_everything_before_the_first_c0() -> None:
    assert SlipSigner().receive(b"login: \xdb\xdc" + ORIGINAL_RESET) == [StreamStarted(answer=ORIGINAL_RESET)]


def test_signer_takes_the_eight_octets_as_they_are() -> None:
    reset = bytes.fromhex("c0 db dc db dd db c0 00 ff")
    assert SlipSigner().receive(reset) == [StreamStarted(answer=reset)]


def test_signer_waits_for_all_eight_octets() -> None:
    signer = SlipSigner()
    assert signer.receive(ORIGINAL_RESET[:8]) == []
    assert signer.receive(ORIGINAL_RESET[8:]) == [StreamStarted(answer=ORIGINAL_RESET)]


@pytest.mark.parametrize(
    ("wire", "data"),
    [
        ("dbdc", "c0"),
        ("dbdd", "db"),
        ("dbdddc", "dbdc"),
        ("dbdddbdc", "dbc0"),
        ("dbdcdd", "c0dd"),
        ("dcdd", "dcdd"),
    ],
)
def test_signer_unescapes(wire: str, data: str) -> None:
    assert started_signer().receive(bytes.fromhex(wire)) == [Data(octets=bytes.fromhex(data))]


def test_an_escape_may_be_cut_in_two() -> None:
    signer = started_signer()
    assert signer.receive(b"a\xdb") == [Data(octets=b"a")]
    assert signer.receive(b"\xdcb") == [Data(octets=b"\xc0b")]


def test_a_reset_in_the_middle_of_the_stream_ends_it_and_is_answered() -> None:
    assert started_signer().receive(b"old" + b"\xc0" + NONCE + b"new") == [
        Data(octets=b"old"),
        StreamLost(reason="a reset in the middle of the stream"),
        StreamStarted(answer=b"\xc0" + NONCE),
        Data(octets=b"new"),
    ]


def test_a_wrong_escape_ends_the_stream_until_the_next_reset() -> None:
    signer = started_signer()
    assert signer.receive(b"ok\xdb\x41 lost") == [
        Data(octets=b"ok"),
        StreamLost(reason="DB followed by 41 in the stream"),
    ]
    assert signer.receive(b"lost too") == []
    assert signer.receive(ORIGINAL_RESET) == [StreamStarted(answer=ORIGINAL_RESET)]


def test_a_reset_behind_half_an_escape_is_a_reset() -> None:
    # A client that died between the two octets of an escape, and began anew.
    assert started_signer().receive(b"\xdb" + ORIGINAL_RESET) == [
        StreamLost(reason="DB followed by C0 in the stream"),
        StreamStarted(answer=ORIGINAL_RESET),
    ]


def test_client_sends_its_reset_and_skips_everything_up_to_exactly_its_answer() -> None:
    client = SlipClient(NONCE)
    assert client.reset == b"\xc0" + NONCE
    assert client.receive(ORIGINAL_RESET + b"old session" + b"\xc0abcdefg?") == []
    assert client.receive(b"\xc0abc" + b"\xc0" + NONCE + b"hello") == [StreamStarted(answer=b""), Data(octets=b"hello")]


@pytest.mark.parametrize("cut", range(1, 9))
def test_client_finds_an_answer_that_comes_in_two_parts(cut: int) -> None:
    client = SlipClient(NONCE)
    answer = b"x\xc0" + NONCE
    assert client.receive(answer[: cut + 1]) == []
    assert client.receive(answer[cut + 1 :]) == [StreamStarted(answer=b"")]


def test_client_keeps_nothing_of_what_it_skips() -> None:
    client = SlipClient(NONCE)
    client.receive(b"\xc0" * 1000 + bytes(100_000))
    assert len(client._pending) <= 8


@pytest.mark.parametrize("octets", [b"\xc0", b"\xdb\xde"])
def test_a_lost_stream_stays_lost_for_the_client(octets: bytes) -> None:
    client = SlipClient(NONCE)
    client.receive(client.reset)
    assert [type(event) for event in client.receive(b"x" + octets + NONCE)] == [Data, StreamLost]
    assert client.receive(client.reset + b"late") == []


def test_client_joins_an_escape_cut_in_two() -> None:
    client = SlipClient(NONCE)
    assert client.receive(client.reset + b"\xdb") == [StreamStarted(answer=b"")]
    assert client.receive(b"\xdd") == [Data(octets=b"\xdb")]


@pytest.mark.parametrize("nonce", [b"", b"1234567", b"123456789", b"1234567\xc0"])
def test_a_nonce_is_eight_octets_without_c0(nonce: bytes) -> None:
    with pytest.raises(InternalError):
        SlipClient(nonce)


def started_signer() -> SlipSigner:
    signer = SlipSigner()
    signer.receive(ORIGINAL_RESET)
    return signer
