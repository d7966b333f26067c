from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import pytest

from cassiopeia.errors import InternalError, PeerError
from cassiopeia.protocol.record import (
    FRAGMENT_OCTETS,
    VERSION_1_PAYLOAD_OCTETS,
    Frame,
    MessageLimits,
    Version1Reader,
    Version1Record,
    Version1Writer,
    Version2Reader,
    Version2Writer,
    reader_for,
    writer_for,
)

LIMITS = MessageLimits(by_code={0x101: 1 << 20}, otherwise=1 << 18, together=1 << 21, unfinished=4)


def line(*, payload: bytes = b"abc", **changes: int) -> bytes:
    """One line of version 1 with any of its fields wrong, and a right checksum."""
    fields = {"code": 0x11, "flags": 0, "session": 13, "count": 1, "total": len(payload), "offset": 0}
    fields |= {"length": len(payload)} | changes
    body = struct.pack("<HBIHIHH", *fields.values()) + payload
    return b":" + (body + bytes([0xFF - sum(body) % 256])).hex().upper().encode() + b"\n"


def version_2(*records: tuple[int, int, int, bytes], first: int = 1) -> bytes:
    """Records of (code, more, handle, payload) with their sequence numbers."""
    octets = b""
    for sequence, (code, more, handle, payload) in enumerate(records, start=first):
        octets += struct.pack(">IHIQ", len(payload), code | more << 15, handle, sequence) + payload
    return octets


def read_1(*lines: bytes, limits: MessageLimits = LIMITS) -> list[Frame]:
    return list(Version1Reader(limits).receive(b"".join(lines)))


def read_2(octets: bytes, limits: MessageLimits = LIMITS) -> list[Frame]:
    return list(Version2Reader(limits).receive(octets))


class TestVersion1:
    def test_a_line_is_written_as_the_original_writes_it(self) -> None:
        writer = Version1Writer(counting=True)
        writer.put(0x80, 0, b"")
        assert writer.pending
        assert writer.take() == b":8000000D0000000100000000000000000071\n"
        assert writer.take() == b""

    def test_the_client_counts_and_the_signer_does_not(self) -> None:
        client, signer = Version1Writer(counting=True), Version1Writer(counting=False)
        for writer in (client, signer):
            writer.put(1, 0, b"")
            writer.put(1, 0, b"")
        counts = [
            [(each.session_id, each.count) for each in map(Version1Record.decode, writer.take().splitlines())]
            for writer in (client, signer)
        ]
        assert counts == [[(13, 1), (13, 2)], [(0, 0), (0, 0)]]

    def test_the_count_starts_again_when_its_octets_are_full(self) -> None:
        writer = Version1Writer(counting=True)
        for _ in range(0x10000):
            writer.put(1, 0, b"")
        assert Version1Record.decode(writer.take().splitlines()[-1]).count == 0

    @pytest.mark.parametrize("length", [0, 1, VERSION_1_PAYLOAD_OCTETS, VERSION_1_PAYLOAD_OCTETS + 1, 200_000])
    def test_a_payload_comes_back_however_long_it_is(self, length: int) -> None:
        payload = bytes(range(256)) * (length // 256) + bytes(length % 256)
        writer = Version1Writer(counting=True)
        writer.put(0x101, 0, payload)

        lines = writer.take().splitlines(keepends=True)

        assert len(lines) == max(1, -(-length // VERSION_1_PAYLOAD_OCTETS))
        assert read_1(*lines) == [Frame(code=0x101, handle=0, payload=payload)]

    @pytest.mark.parametrize(
        ("fault", "broken"),
        [
            ("hex", b":11zz\n"),
            ("hex", b":110\n"),
            ("hex", b":1 1\n"),
            ("upper-case", line().lower()),
            ("colon", b";" + line()[1:]),
            ("colon", b"\n"),
            ("header", b":00\n"),
            ("checksum", line()[:-3] + b"00\n"),
            ("flags", line(flags=1)),
            ("length", line(length=4)),
            ("length", line(length=2)),
            ("total length", line(total=2)),
            ("total length", line(total=4)),
            ("continue", line(offset=1)),
            ("limit", line(total=(1 << 18) + 1)),
        ],
    )
    def test_a_record_with_a_fault_is_a_peer_error(self, fault: str, broken: bytes) -> None:
        with pytest.raises(PeerError, match=fault):
            read_1(broken)

    @pytest.mark.parametrize(
        "changes",
        [{"code": 0x12}, {"session": 0}, {"count": 2}, {"total": VERSION_1_PAYLOAD_OCTETS + 4}, {"offset": 2}],
        ids=lambda changes: next(iter(changes)),
    )
    def test_a_continuation_must_repeat_everything(self, changes: dict[str, Any]) -> None:
        total = VERSION_1_PAYLOAD_OCTETS + 3
        first = line(payload=bytes(VERSION_1_PAYLOAD_OCTETS), total=total)
        assert len(read_1(first, line(total=total, offset=1))) == 1
        with pytest.raises(PeerError, match="continue"):
            read_1(first, line(**({"total": total, "offset": 1} | changes)))

    def test_a_code_has_its_own_limit(self) -> None:
        assert not read_1(line(code=0x101, total=1 << 20, payload=bytes(VERSION_1_PAYLOAD_OCTETS)))
        with pytest.raises(PeerError, match="limit"):
            read_1(line(code=0x101, total=(1 << 20) + 1, payload=bytes(VERSION_1_PAYLOAD_OCTETS)))

    def test_octets_without_a_line_feed_are_given_up(self) -> None:
        reader = Version1Reader(LIMITS)
        longest = 1 + 2 * (17 + VERSION_1_PAYLOAD_OCTETS + 1)
        assert list(reader.receive(b"0" * longest)) == []
        with pytest.raises(PeerError, match="longer than any record"):
            list(reader.receive(b"0"))

    def test_a_line_that_is_too_long_is_not_read(self) -> None:
        with pytest.raises(PeerError, match="longer than any record"):
            read_1(b":" + b"0" * 2 * (17 + VERSION_1_PAYLOAD_OCTETS + 2) + b"\n")

    def test_what_is_missing_shows(self) -> None:
        reader = Version1Reader(LIMITS)
        first = line(payload=bytes(VERSION_1_PAYLOAD_OCTETS), total=VERSION_1_PAYLOAD_OCTETS + 1)
        missing = [reader.incomplete]
        for piece in (line()[:5], line()[5:], first):
            list(reader.receive(piece))
            missing.append(reader.incomplete)
        assert missing == [False, True, False, True]


class TestVersion2:
    def test_a_record_is_header_and_payload(self) -> None:
        writer = Version2Writer()
        writer.put(0x11, 7, b"abc")
        assert writer.pending
        assert writer.take() == bytes.fromhex("00000003 0011 00000007 0000000000000001") + b"abc"
        assert writer.take() == b""

    @pytest.mark.parametrize("bulk", [False, True])
    @pytest.mark.parametrize("length", [0, FRAGMENT_OCTETS, FRAGMENT_OCTETS + 1, 3 * FRAGMENT_OCTETS])
    def test_a_payload_comes_back_however_long_it_is(self, length: int, *, bulk: bool) -> None:
        writer = Version2Writer()
        payload = bytes(length)
        writer.put(0x101, 7, payload, bulk=bulk)
        assert read_2(writer.take()) == [Frame(code=0x101, handle=7, payload=payload)]

    def test_bulk_holds_up_nothing_and_takes_turns(self) -> None:
        writer, reader = Version2Writer(), Version2Reader(LIMITS)
        for handle in (1, 2):
            writer.put(0x101, handle, bytes(2 * FRAGMENT_OCTETS), bulk=True)
        flights = [writer.take(1)]
        writer.put(0x81, 3, b"certificate")
        while writer.pending:
            flights.append(writer.take(1))

        assert [len(flight) // FRAGMENT_OCTETS for flight in flights] == [1, 1, 1, 1]
        frames = [[(each.handle, len(each.payload)) for each in reader.receive(flight)] for flight in flights]
        assert frames == [[], [(3, 11)], [(1, 2 * FRAGMENT_OCTETS)], [(2, 2 * FRAGMENT_OCTETS)]]

    def test_a_flight_may_carry_several_fragments_of_bulk(self) -> None:
        writer = Version2Writer()
        writer.put(0x101, 1, bytes(5 * FRAGMENT_OCTETS), bulk=True)
        assert len(writer.take(2 * FRAGMENT_OCTETS)) == 2 * (FRAGMENT_OCTETS + 18)
        assert writer.pending

    def test_a_record_may_come_octet_by_octet(self) -> None:
        reader = Version2Reader(LIMITS)
        octets = version_2((0x11, 0, 7, b"abc"), (0x12, 0, 7, b""))
        frames = [frame for octet in octets for frame in reader.receive(bytes([octet]))]
        assert frames == [Frame(code=0x11, handle=7, payload=b"abc"), Frame(code=0x12, handle=7, payload=b"")]

    def test_fragments_of_different_handles_interleave(self) -> None:
        octets = version_2(
            (1, 1, 5, b"a"), (2, 1, 6, b"x"), (3, 0, 7, b"!"), (1, 1, 5, b"b"), (2, 0, 6, b""), (1, 0, 5, b"c")
        )
        assert [(each.handle, each.payload) for each in read_2(octets)] == [(7, b"!"), (6, b"x"), (5, b"abc")]

    @pytest.mark.parametrize(
        ("fault", "broken"),
        [
            ("due", version_2((1, 0, 1, b""), first=2)),
            ("due", version_2((1, 0, 1, b"")) * 2),
            ("more than any", struct.pack(">IHIQ", FRAGMENT_OCTETS + 1, 1, 1, 1)),
            ("empty", version_2((1, 1, 1, b""))),
            ("amid", version_2((1, 1, 1, b"a"), (2, 0, 1, b"b"))),
            ("too many", version_2(*((1, 1, handle, b"a") for handle in range(5)))),
        ],
    )
    def test_a_record_with_a_fault_is_a_peer_error(self, fault: str, broken: bytes) -> None:
        with pytest.raises(PeerError, match=fault):
            read_2(broken)

    @pytest.mark.parametrize("more", [0, 1])
    def test_a_message_is_bounded_before_it_is_waited_for(self, more: int) -> None:
        limits = MessageLimits(by_code={}, otherwise=10, together=100, unfinished=4)
        assert len(read_2(version_2((1, 1, 1, b"12345"), (1, 0, 1, b"67890")), limits)) == 1
        for header in (
            struct.pack(">IHIQ", 11, 1 | more << 15, 1, 1),
            version_2((1, 1, 1, b"12345"), (1, more, 1, b"678901")),
        ):
            with pytest.raises(PeerError, match="limit"):
                read_2(header[: 18 + 5 + 18], limits)

    def test_all_unfinished_messages_together_are_bounded(self) -> None:
        limits = MessageLimits(by_code={}, otherwise=10, together=12, unfinished=4)
        started = version_2((1, 1, 1, b"1234567890"))
        assert not read_2(started + version_2((1, 1, 2, b"12"), first=2), limits)
        with pytest.raises(PeerError, match="session may"):
            read_2(started + version_2((1, 1, 2, b"123"), first=2), limits)

    def test_finished_messages_no_longer_count(self) -> None:
        limits = MessageLimits(by_code={}, otherwise=10, together=10, unfinished=1)
        records: list[Iterable[tuple[int, int, int, bytes]]] = [
            ((1, 1, handle, b"123456789"), (1, 0, handle, b"0")) for handle in range(1, 5)
        ]
        octets = version_2(*(each for message in records for each in message))
        assert len(read_2(octets, limits)) == 4

    def test_what_is_missing_shows(self) -> None:
        reader = Version2Reader(LIMITS)
        whole, fragment = version_2((1, 0, 1, b"")), version_2((1, 1, 1, b"a"), first=2)
        missing = [reader.incomplete]
        for piece in (whole[:1], whole[1:], fragment):
            list(reader.receive(piece))
            missing.append(reader.incomplete)
        assert missing == [False, True, False, True]


def test_there_are_two_versions() -> None:
    assert isinstance(reader_for(1, LIMITS), Version1Reader)
    assert isinstance(reader_for(2, LIMITS), Version2Reader)
    assert isinstance(writer_for(1, counting=True), Version1Writer)
    assert isinstance(writer_for(2, counting=True), Version2Writer)
    with pytest.raises(InternalError, match="version 3"):
        reader_for(3, LIMITS)
