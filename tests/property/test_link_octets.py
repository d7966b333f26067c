"""Whatever comes over a line, in whatever portions: a value or a peer error, and the portions never matter."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import conversations, links
from tests.support.lines import NONCE, MemoryLine, client_end, opened, session, signer_end

from cassiopeia.errors import OperatorError, PeerError
from cassiopeia.link.address import parse_address
from cassiopeia.protocol.channel import TlsChannel, public_key_pin
from cassiopeia.protocol.slip import Data, SlipClient, SlipEvent, SlipSigner, StreamStarted, escape

# Octets that matter to the framing come up often enough only if they are asked for.
LINE_OCTETS = st.lists(
    st.one_of(st.binary(max_size=6), st.sampled_from([b"\xc0", b"\xdb", b"\xdb\xdc", b"\xdb\xdd", b"\xc0" + NONCE]))
).map(b"".join)


@given(LINE_OCTETS)
def test_the_stream_behind_a_reset_is_what_was_sent(octets: bytes) -> None:
    for end, started in ((SlipSigner(), b"\xc0" + NONCE), (SlipClient(NONCE), b"")):
        events = end.receive(b"\xc0" + NONCE + escape(octets))
        assert events == [StreamStarted(answer=started), *([Data(octets=octets)] if octets else [])]


@given(LINE_OCTETS)
def test_escaped_octets_hold_no_bare_c0(octets: bytes) -> None:
    assert b"\xc0" not in escape(octets)


@given(LINE_OCTETS, st.data())
def test_a_line_cut_anywhere_says_the_same(octets: bytes, data: st.DataObject) -> None:
    for make in (SlipSigner, lambda: SlipClient(NONCE)):
        whole = merged(make().receive(octets))
        by_octet = make()
        assert merged(event for octet in octets for event in by_octet.receive(bytes([octet]))) == whole
        at = data.draw(st.integers(0, len(octets)))
        in_two = make()
        assert merged([*in_two.receive(octets[:at]), *in_two.receive(octets[at:])]) == whole


@given(LINE_OCTETS)
def test_framing_keeps_at_most_nine_octets(octets: bytes) -> None:
    for end in (SlipSigner(), SlipClient(NONCE)):
        end.receive(octets)
        assert len(end._pending) < 9


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_an_octet_at_a_time_is_as_good_as_all_at_once(*, serial: bool, version: int) -> None:
    lines = [opened(version=version, serial=serial, portion=portion) for portion in (0, 1)]
    for line in lines:
        session(line.client).submit(conversations.certificate_request())
        line.run()
    assert lines[0].signer_events == lines[1].signer_events != []
    assert [line.failures for line in lines] == [[], []]


@given(st.binary(max_size=300))
def test_any_octets_instead_of_a_handshake(octets: bytes) -> None:
    for server_side in (True, False):
        tls = links.signer(peers_1=("client_1",)) if server_side else links.client()
        with contextlib.suppress(PeerError):
            assert TlsChannel(tls=tls, server_side=server_side).receive(octets) == []


@settings(max_examples=50)
@given(st.data())
def test_a_handshake_with_one_wrong_octet_opens_no_session_unseen(data: st.DataObject) -> None:
    signer, client = signer_end(), client_end()
    hello = bytearray(client.data_to_send())
    # Behind the record's header: its version is ignored for all purposes (RFC 8446 5.1), its length is no handshake.
    at = data.draw(st.integers(5, len(hello) - 1))
    hello[at] ^= data.draw(st.integers(1, 255))
    line = MemoryLine(signer=signer, client=client)
    try:
        signer.receive(bytes(hello))
    except PeerError:
        assert signer.closed
        return
    line.run()
    # TLS authenticates the whole handshake: what was changed on the way is found out, or is still being waited for.
    assert not signer.established


@given(LINE_OCTETS)
def test_any_octets_on_a_serial_line(octets: bytes) -> None:
    signer = signer_end(serial=True)
    assert signer.receive(octets) == []
    assert not signer.closed
    # Whatever came before: the next client gets through.
    line = MemoryLine(signer=signer, client=client_end(serial=True, nonce=b"ABCDEFGH"))
    line.run()
    if not line.client.established:
        # Its reset was taken for the rest of one that had begun: it asks again, as it does after its time limit.
        line = MemoryLine(signer=signer, client=client_end(serial=True, nonce=b"abcdefgh"))
        line.run()
    assert line.client.established


@given(st.binary(max_size=200))
def test_any_octets_in_an_established_connection(octets: bytes) -> None:
    for end in ("signer", "client"):
        line = opened()
        receiver = line.signer if end == "signer" else line.client
        try:
            assert receiver.receive(octets) == []
        except PeerError:
            assert receiver.closed


@given(st.binary(max_size=300))
def test_any_octets_as_a_certificate(octets: bytes) -> None:
    with pytest.raises(ValueError, match="not a readable certificate"):
        public_key_pin(octets)


@given(st.one_of(st.text(), st.from_regex(r"(unix|tcp|serial):[\[\]0-9a-f.:?=/]*", fullmatch=True)))
def test_any_text_as_an_address(text: str) -> None:
    try:
        address = parse_address(text)
    except OperatorError:
        return
    assert parse_address(str(address)) == address


def merged(events: Iterable[SlipEvent]) -> list[SlipEvent]:
    """The same events, with neighbouring data joined."""
    joined: list[SlipEvent] = []
    for event in events:
        if isinstance(event, Data) and joined and isinstance(joined[-1], Data):
            joined[-1] = Data(octets=joined[-1].octets + event.octets)
        else:
            joined.append(event)
    return joined
