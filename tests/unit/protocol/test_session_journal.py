"""Copies of the journal and orders of the operators, over version 2."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import pytest
from tests.support.conversations import HEAD, Pair, certificate_request, hello, joined
from tests.support.journal_entries import log

from cassiopeia.core import der, structure
from cassiopeia.errors import InternalError, PeerError, Refused, Unavailable
from cassiopeia.protocol import compression, payload
from cassiopeia.protocol.events import Event
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import ClientCommand, SignerCommand
from cassiopeia.protocol.record import FRAGMENT_OCTETS, Version2Writer
from cassiopeia.protocol.session import (
    BundleHeld,
    BundleReceived,
    EntriesReceived,
    EntriesRequested,
    OrderObeyed,
    OrderReceived,
    RequestFailed,
    RequestRefused,
    Role,
    Session,
    SignRequested,
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


def announced(pair: Pair, bundle: bytes, *messages: payload.PackedBundle) -> list[Event]:
    """Let the signer receive a bundle in a way in which no client of ours would send it."""
    writer = Version2Writer()
    writer.put(0, 0, b"")
    writer.take()
    writer.put(ClientCommand.ANNOUNCE_BUNDLE.code, 1, hashlib.sha256(bundle).digest())
    for each in messages:
        writer.put(ClientCommand.SEND_BUNDLE.code, 1, structure.encode(each))
    return pair.signer.receive(writer.take())


class TestBundles:
    @pytest.mark.parametrize("capabilities", [(), ("deflate",)], ids=["plain", "deflated"])
    def test_one_is_held(self, capabilities: tuple[str, ...]) -> None:
        pair = joined()
        pair.client.peer_hello = hello(capabilities=capabilities)
        bundle = b"what a ceremony signed" * 10_000
        handle = pair.client.send_bundle(bundle)
        octets = pair.client.data_to_send()
        assert (len(octets) < 2_000) == bool(capabilities)
        assert pair.signer.receive(octets) == [BundleReceived(handle=handle, bundle=bundle)]
        pair.signer.send_bundle_held(handle)
        assert pair.to_client() == [BundleHeld(handle=handle)]
        assert pair.client.open_handles == pair.signer.open_handles == frozenset()

    def test_it_may_be_larger_than_a_request_and_holds_nothing_up(self) -> None:
        pair = joined()
        bundle = os.urandom(Limits().request_octets + Limits().message_octets)
        first = pair.client.send_bundle(bundle)
        events = []
        for number in range(3):
            assert pair.signer.receive(pair.client.data_to_send(FRAGMENT_OCTETS)) == []
            assert pair.signer.incomplete
            handle = pair.client.get_timestamp()
            events += pair.signer.receive(pair.client.data_to_send(FRAGMENT_OCTETS))
            assert events[number:] == [TimestampRequested(handle=handle)]
        assert pair.to_signer() == [BundleReceived(handle=first, bundle=bundle)]

    def test_as_many_octets_as_it_may_have(self) -> None:
        pair = joined(limits=Limits(bundle_octets=100_000))
        bundle = os.urandom(100_000)
        handle = pair.client.send_bundle(bundle)
        assert pair.to_signer() == [BundleReceived(handle=handle, bundle=bundle)]
        with pytest.raises(Refused, match="100000 octets: carry it") as refused:
            pair.client.send_bundle(bundle + b"x")
        assert refused.value.code == "request-too-large"

    def test_no_more_than_the_session_may_hold(self) -> None:
        pair = joined(limits=Limits(session_octets=100_000))
        pair.client.submit(certificate_request(key_proof=os.urandom(60_000)))
        handle = pair.client.send_bundle(os.urandom(45_000))
        assert [type(each) for each in pair.to_signer()] == [SignRequested]
        (failed,) = pair.to_client()
        assert isinstance(failed, RequestFailed)
        assert (failed.handle, failed.code) == (handle, "busy")

    def test_one_is_held_at_a_time(self) -> None:
        """Each is a thousand times what travels: of many that come at once, none but the first is inflated."""
        pair = joined()
        pair.client.peer_hello = hello()
        bundle = bytes(1_000_000)
        first, *others = (pair.client.send_bundle(bundle) for _ in range(4))
        assert pair.to_signer() == [BundleReceived(handle=first, bundle=bundle)]
        answers = [each for each in pair.to_client() if isinstance(each, RequestFailed)]
        assert [(each.handle, each.code) for each in answers] == [(each, "busy") for each in others]
        pair.signer.send_bundle_held(first)
        assert pair.to_client() == [BundleHeld(handle=first)]
        again = pair.client.send_bundle(bundle)
        assert pair.to_signer() == [BundleReceived(handle=again, bundle=bundle)]

    def test_one_may_be_refused_before_it_came(self) -> None:
        pair = joined()
        handle = pair.client.send_bundle(os.urandom(3 * FRAGMENT_OCTETS))
        assert pair.signer.receive(pair.client.data_to_send(1)) == []
        pair.signer.send_refused(handle, Refused("No.", code="bundle-unheard"))
        # What is still under way is passed over.
        assert pair.to_signer() == []
        assert pair.to_client() == [RequestRefused(handle=handle, code="bundle-unheard", field="", message="No.")]

    @pytest.mark.parametrize(
        ("packed", "words"),
        [
            (payload.PackedBundle(encoding=payload.PLAIN, octets=b"another"), "not the one that was announced"),
            (payload.PackedBundle(encoding=payload.DEFLATED, octets=b"a bundle"), "cannot be inflated"),
            (
                payload.PackedBundle(encoding=payload.DEFLATED, octets=compression.deflate(bytes(50_001), b"")),
                "inflate to more than 50000",
            ),
            (payload.PackedBundle(encoding=payload.PLAIN, octets=bytes(50_100)), "longer than its limit"),
            (payload.PackedBundle(encoding=2, octets=b"a bundle"), "unknown way"),
        ],
        ids=["another", "not deflated", "a bomb", "too long", "unknown encoding"],
    )
    def test_anything_but_the_announced_bundle_is_a_peer_error(self, packed: payload.PackedBundle, words: str) -> None:
        pair = joined(limits=Limits(bundle_octets=50_000))
        with pytest.raises(PeerError, match=words):
            announced(pair, b"a bundle", packed)

    def test_it_comes_once(self) -> None:
        pair = joined()
        packed = payload.PackedBundle(encoding=payload.PLAIN, octets=b"a bundle")
        with pytest.raises(PeerError, match="sendBundle came while waiting"):
            announced(pair, b"a bundle", packed, packed)


@pytest.mark.parametrize(
    ("say", "name"),
    [
        (lambda client: client.get_entries(1, 1), "getEntries"),
        (lambda client: client.send_order(b""), "sendOrder"),
        (lambda client: client.send_bundle(b""), "announceBundle"),
    ],
    ids=["entries", "order", "bundle"],
)
def test_version_1_has_none_of_it(say: Callable[[Session], int], name: str) -> None:
    client = joined(1).client
    with pytest.raises(InternalError, match=f"can't send {name}"):
        say(client)
    assert not client.has_data_to_send
