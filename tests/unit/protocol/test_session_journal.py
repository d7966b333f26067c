"""Copies of the journal and orders of the operators, over version 2."""

from __future__ import annotations

import os

import pytest
from tests.support.conversations import HEAD, Pair, hello, joined
from tests.support.journal_entries import log

from cassiopeia.core import der, structure
from cassiopeia.errors import InternalError, PeerError, Refused, Unavailable
from cassiopeia.protocol import compression, payload
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import ClientCommand, SignerCommand
from cassiopeia.protocol.record import FRAGMENT_OCTETS, Version2Writer
from cassiopeia.protocol.session import (
    EntriesReceived,
    EntriesRequested,
    OrderObeyed,
    OrderReceived,
    RequestFailed,
    RequestRefused,
    Role,
    Session,
    TimestampRequested,
)

LARGEST = (1 << 168) - 1
LOGS = tuple(log(kind, index=index) for index, kind in enumerate(["key", "start", "intent"], start=7))


def wanted(pair: Pair) -> int:
    handle = pair.client.get_entries(7, 100)
    pair.to_signer()
    return handle


def answer(pair: Pair, handle: int, encoding: int, octets: bytes) -> None:
    """Let the client receive `entries` as no signer of ours would send them."""
    writer = Version2Writer()
    writer.put(0, 0, b"")
    writer.take()
    entries = payload.Entries(first=7, encoding=encoding, octets=octets, head=HEAD)
    writer.put(SignerCommand.ENTRIES.code, handle, structure.encode(entries))
    pair.client.receive(writer.take())


class TestEntries:
    def test_a_wish_and_its_answer(self) -> None:
        pair = joined()
        handle = pair.client.get_entries(7, 100)
        assert pair.to_signer() == [EntriesRequested(handle=handle, first=7, at_most=100)]
        pair.signer.send_entries(handle, 7, LOGS, head=HEAD)
        assert pair.to_client() == [EntriesReceived(handle=handle, first=7, logs=LOGS, head=HEAD)]
        assert pair.client.open_handles == pair.signer.open_handles == frozenset()

    def test_there_may_be_none(self) -> None:
        pair = joined()
        handle = wanted(pair)
        pair.signer.send_entries(handle, 7, [], head=HEAD)
        assert pair.to_client() == [EntriesReceived(handle=handle, first=7, logs=(), head=HEAD)]

    @pytest.mark.parametrize("number", [0, 1 << 63, 1 << 64, LARGEST])
    def test_any_number_that_the_wire_has_arrives(self, number: int) -> None:
        pair = joined()
        handle = pair.client.get_entries(number, number)
        assert pair.to_signer() == [EntriesRequested(handle=handle, first=number, at_most=number)]

    @pytest.mark.parametrize("first", ["0201ff", "0216" + "01" + "00" * 21])
    def test_a_number_that_the_wire_has_not_is_a_peer_error(self, first: str) -> None:
        signer = Session(role=Role.SIGNER, version=2)
        writer = Version2Writer()
        writer.put(ClientCommand.HELLO.code, 0, structure.encode(hello()))
        signer.receive(writer.take())
        signer.hello(hello())
        octets = der.encode(der.SEQUENCE, bytes.fromhex(first), b"\x02\x01\x05")
        writer.put(ClientCommand.GET_ENTRIES.code, 1, octets)
        with pytest.raises(PeerError, match="GetEntries"):
            signer.receive(writer.take())

    def test_they_are_deflated_for_a_client_that_inflates(self) -> None:
        sizes = []
        for capabilities in ((), ("deflate",)):
            pair = joined(capabilities=capabilities)
            handle = wanted(pair)
            pair.signer.send_entries(handle, 7, LOGS * 10, head=HEAD)
            octets = pair.signer.data_to_send()
            sizes.append(len(octets))
            assert pair.client.receive(octets) == [EntriesReceived(handle=handle, first=7, logs=LOGS * 10, head=HEAD)]
        assert sizes[1] < sizes[0] / 5

    def test_they_hold_nothing_up(self) -> None:
        pair = joined(capabilities=())
        first = wanted(pair)
        logs = (der.encode(der.SEQUENCE, os.urandom(10 * FRAGMENT_OCTETS)),)
        pair.signer.send_entries(first, 7, logs, head=HEAD)
        assert pair.client.receive(pair.signer.data_to_send(FRAGMENT_OCTETS)) == []
        second = pair.client.get_timestamp()
        assert pair.to_signer() == [TimestampRequested(handle=second)]
        pair.signer.send_failed(second, Unavailable("Not now.", code="busy"))
        (event,) = pair.client.receive(pair.signer.data_to_send(FRAGMENT_OCTETS))
        assert isinstance(event, RequestFailed)
        assert pair.to_client() == [EntriesReceived(handle=first, first=7, logs=logs, head=HEAD)]

    def test_as_many_as_a_message_holds(self) -> None:
        pair = joined()
        handle = wanted(pair)
        pair.signer.send_entries(handle, 7, [b"\x30\x00"] * payload.MAXIMUM_ENTRIES, head=HEAD)
        (event,) = pair.to_client()
        assert isinstance(event, EntriesReceived)
        assert len(event.logs) == payload.MAXIMUM_ENTRIES

    @pytest.mark.parametrize(
        ("encoding", "octets"),
        [
            (payload.PLAIN, b"\x30"),
            (payload.PLAIN, LOGS[0][:-1]),
            (payload.PLAIN, LOGS[0] + b"\0"),
            (payload.PLAIN, b"\x30\x80\x00\x00"),
            (payload.PLAIN, b"\x30\x84\xff\xff\xff\xff"),
            (payload.PLAIN, b"\x3f\x01\x00"),
            (payload.PLAIN, b"\x30\x00" * (payload.MAXIMUM_ENTRIES + 1)),
            (payload.DEFLATED, compression.deflate(b"\x30\x00" * (payload.MAXIMUM_ENTRIES + 1), b"")),
            (payload.DEFLATED, compression.deflate(bytes(1 << 20), b"")),
            (payload.DEFLATED, compression.deflate(LOGS[0], b"")[:-1]),
            (payload.DEFLATED, compression.deflate(LOGS[0], b"") + b"\0"),
            (payload.DEFLATED, LOGS[0]),
            (2, b""),
            (LARGEST, b""),
        ],
        ids=[
            *("a tag alone", "cut short", "an octet behind it", "indefinite length", "4 GiB long", "long tag"),
            *("too many", "too many deflated", "a bomb", "deflated and cut short", "deflated and more"),
            *("not deflated", "unknown encoding", "hugest encoding"),
        ],
    )
    def test_anything_but_der_elements_is_a_peer_error(self, encoding: int, octets: bytes) -> None:
        pair = joined()
        handle = wanted(pair)
        with pytest.raises(PeerError):
            answer(pair, handle, encoding, octets)
        assert pair.client.closed

    def test_an_answer_above_the_bound_of_a_crl_is_a_peer_error(self) -> None:
        pair = joined(limits=Limits(message_octets=50_000, crl_octets=100_000), capabilities=())
        handle = wanted(pair)
        pair.signer.send_entries(handle, 7, [der.encode(der.SEQUENCE, bytes(110_000))], head=HEAD)
        with pytest.raises(PeerError, match="limit"):
            pair.to_client()

    def test_nobody_sends_what_was_not_asked_for(self) -> None:
        pair = joined()
        handle = pair.client.get_timestamp()
        pair.to_signer()
        with pytest.raises(InternalError, match="entries"):
            pair.signer.send_entries(handle, 7, LOGS, head=HEAD)
        with pytest.raises(PeerError, match="entries came while waiting"):
            answer(pair, handle, payload.PLAIN, LOGS[0])


class TestOrders:
    def test_one_is_carried_out(self) -> None:
        pair = joined()
        handle = pair.client.send_order(b"what operators signed")
        assert pair.to_signer() == [OrderReceived(handle=handle, order=b"what operators signed")]
        pair.signer.send_obeyed(handle, 12)
        assert pair.to_client() == [OrderObeyed(handle=handle, index=12)]
        assert not pair.client.open_handles

    def test_one_is_refused_and_the_session_lives(self) -> None:
        pair = joined()
        handle = pair.client.send_order(b"")
        assert pair.to_signer() == [OrderReceived(handle=handle, order=b"")]
        pair.signer.send_refused(handle, Refused("The order has no signature.", code="order-unsigned"))
        assert pair.to_client() == [
            RequestRefused(handle=handle, code="order-unsigned", field="", message="The order has no signature.")
        ]
        assert pair.client.capacity

    def test_one_that_is_too_large_does_not_travel(self) -> None:
        pair = joined()
        with pytest.raises(Refused) as refused:
            pair.client.send_order(bytes(Limits().request_octets))
        assert refused.value.code == "request-too-large"


@pytest.mark.parametrize(
    "command", [ClientCommand.GET_ENTRIES, ClientCommand.SEND_ORDER], ids=lambda each: each.wire_name
)
def test_version_1_has_neither(command: ClientCommand) -> None:
    client = joined(1).client
    with pytest.raises(InternalError, match=f"can't send {command.wire_name}"):
        client.get_entries(1, 1) if command is ClientCommand.GET_ENTRIES else client.send_order(b"")
    assert not client.has_data_to_send
