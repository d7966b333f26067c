"""The protocol's laws: decode of encode is identity, pieces don't matter, any octets give a value or a peer error."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.conversations import (
    HEAD,
    REVOCATION_REQUEST,
    REVOKED_ANSWER,
    RSA_WITH_SHA256,
    certificate_request,
    joined,
)
from tests.support.strategies import cuts, instances, moments, numbers, octet_strings, pieces, texts, tuples

from cassiopeia.core import der, structure
from cassiopeia.core.request import (
    CertificateRequest,
    Revocation,
    SubjectAltName,
    SubjectAttribute,
)
from cassiopeia.errors import PeerError, Refused
from cassiopeia.protocol import compression, payload
from cassiopeia.protocol.message import (
    ClientCommand,
    Command,
    Role,
    SignerCommand,
    decode_message,
    encode_message,
)
from cassiopeia.protocol.record import (
    Frame,
    MessageLimits,
    Version1Reader,
    Version1Record,
    Version1Writer,
    Version2Reader,
    Version2Writer,
)
from cassiopeia.protocol.session import EntriesReceived, Event, Session, SignRequested

SIGNING_CA = "unassured_2026_2"
LIMITS = MessageLimits(by_code={}, otherwise=1 << 20, together=1 << 22, unfinished=100)

STRUCTURES = [
    payload.Hello,
    payload.SetLog,
    payload.Issued,
    payload.Abandoned,
    payload.GetEntries,
    payload.Entries,
    payload.Obeyed,
    payload.Refusal,
    payload.Failure,
    payload.Revoke,
    payload.Timestamp,
    payload.StatusReport,
    Revocation,
]
EVERY_MESSAGE = [(command, version) for command in [*ClientCommand, *SignerCommand] for version in command.versions]
# What is written in one way only: the octets of any value that was decoded come back.
LENIENT = {
    (ClientCommand.ADD_SERIAL, 1),  # upper or lower case, leading zeros
    (SignerCommand.RESPOND_CERTIFICATE, 1),  # PEM in lines of any length
    (SignerCommand.FULL_CRL, 1),
}

requests = st.builds(
    CertificateRequest,
    key_kind=st.sampled_from(["csr", "spkac"]),
    key_proof=octet_strings,
    profile=texts,
    account=texts,
    request_id=st.binary(min_size=32, max_size=32),
    signature_hash=texts,
    wish_from=texts,
    wish_to=texts,
    attributes=tuples(st.builds(SubjectAttribute, type=st.sampled_from(["CN", "O", "X"]), value=texts)),
    alt_names=tuples(st.builds(SubjectAltName, type=st.sampled_from(["DNS", "IP"]), value=texts)),
    ocsp_target_ca=texts,
    proofs=tuples(octet_strings),
)


@pytest.mark.parametrize("kind", STRUCTURES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_structure_comes_back(kind: type[Any], data: st.DataObject) -> None:
    value = data.draw(instances(kind))
    assert structure.decode(kind, structure.encode(value)) == value


@pytest.mark.parametrize("kind", STRUCTURES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_changed_der_is_another_value_or_a_peer_error(kind: type[Any], data: st.DataObject) -> None:
    octets = bytearray(structure.encode(data.draw(instances(kind))))
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        value = structure.decode(kind, bytes(octets))
    except PeerError:
        return
    assert structure.encode(value) == octets


@pytest.mark.parametrize(("command", "version"), EVERY_MESSAGE, ids=lambda value: getattr(value, "wire_name", value))
@given(octets=st.binary(max_size=80) | texts.map(str.encode))
def test_any_payload_is_a_value_that_encodes_to_it_or_a_peer_error(
    command: Command, version: int, octets: bytes
) -> None:
    try:
        message = decode_message(command, octets, version=version)
    except PeerError:
        return
    try:
        again = encode_message(message, version=version)
    except Refused:
        # Version 1 counts no days: a signer takes `90d` for what it is, our client does not send it.
        assert (command, version) == (ClientCommand.WISH_TO, 1)
        return
    assert again == octets or (command, version) in LENIENT
    assert decode_message(command, again, version=version) == message


@given(
    date=st.none() | moments,
    signature=octet_strings,
    this_update=moments,
    next_update=moments,
    crl_number=numbers,
    entries=octet_strings,
)
def test_the_answer_to_a_revocation_comes_back(**fields: Any) -> None:
    answer = payload.RevokedAnswer(algorithm=RSA_WITH_SHA256, **fields)
    assert payload.decode_revoked(payload.encode_revoked(answer, version=2), version=2) == answer
    first = dataclasses.replace(answer, crl_number=0, entries=b"")
    assert payload.decode_revoked(payload.encode_revoked(first, version=1), version=1) == first


@given(octets=octet_strings, known=octet_strings)
def test_octets_inflate_to_what_was_deflated(octets: bytes, known: bytes) -> None:
    assert compression.inflate(compression.deflate(octets, known), known, limit=len(octets)) == octets


@given(octets=octet_strings, known=octet_strings, deflate=st.booleans())
def test_octets_unpack_to_what_was_packed(octets: bytes, known: bytes, *, deflate: bool) -> None:
    encoding, packed = payload.pack(octets, known, deflate=deflate)
    assert len(packed) <= len(octets)
    assert payload.unpack(encoding, packed, known, limit=len(octets)) == octets


@given(
    encoding=st.sampled_from([0, 1, 2]) | numbers,
    packed=st.binary(max_size=200) | octet_strings.map(lambda octets: compression.deflate(octets * 50, b"")),
    limit=st.integers(min_value=0, max_value=1000),
)
def test_any_octets_unpack_to_no_more_than_the_limit_or_are_a_peer_error(
    encoding: int, packed: bytes, limit: int
) -> None:
    try:
        octets = payload.unpack(encoding, packed, b"", limit=limit)
    except PeerError:
        return
    # What came plain was bounded as a message already.
    assert len(octets) <= max(limit, len(packed))


@given(octets=st.binary(max_size=100) | st.lists(octet_strings).map(lambda all_: b"".join(map(framed, all_))))
def test_entries_are_all_the_octets_that_came_or_a_peer_error(octets: bytes) -> None:
    pair = joined(capabilities=())
    handle = pair.client.get_entries(1, 1)
    pair.to_signer()
    pair.signer.send_entries(handle, 1, [octets], head=HEAD)
    try:
        (event,) = pair.to_client()
    except PeerError:
        assert pair.client.closed
        return
    assert isinstance(event, EntriesReceived)
    assert b"".join(event.logs) == octets
    assert b"" not in event.logs


messages_of_frames = st.lists(
    st.tuples(st.integers(0, 0x7FFF), st.integers(0, 5), st.binary(max_size=50) | st.integers(0, 70_000).map(bytes)),
    max_size=6,
)


@given(messages=messages_of_frames, sizes=cuts, counting=st.booleans())
def test_version_1_messages_come_back_from_pieces(
    messages: list[tuple[int, int, bytes]], sizes: list[int], *, counting: bool
) -> None:
    writer, reader = Version1Writer(counting=counting), Version1Reader(LIMITS)
    for code, handle, octets in messages:
        writer.put(code, handle, octets)
    stream = writer.take()
    frames = [frame for piece in pieces(stream, [1 + 50 * size for size in sizes]) for frame in reader.receive(piece)]
    assert frames == [Frame(code=code, handle=0, payload=octets) for code, _, octets in messages]
    assert not reader.incomplete
    for line in stream.splitlines(keepends=True):
        assert Version1Record.decode(line[:-1]).encode() == line


@given(messages=messages_of_frames, sizes=cuts)
def test_version_2_messages_come_back_from_pieces(messages: list[tuple[int, int, bytes]], sizes: list[int]) -> None:
    writer, reader = Version2Writer(), Version2Reader(LIMITS)
    for code, handle, octets in messages:
        writer.put(code, handle, octets)
    stream = pieces(writer.take(), [1 + 50 * size for size in sizes])
    frames = [frame for piece in stream for frame in reader.receive(piece)]
    assert frames == [Frame(code=code, handle=handle, payload=octets) for code, handle, octets in messages]
    assert not reader.incomplete


@given(data=st.data(), contents=st.lists(st.lists(st.binary(min_size=1, max_size=9), min_size=1), max_size=5))
def test_interleaved_fragments_find_their_message(data: st.DataObject, contents: list[list[bytes]]) -> None:
    waiting = {handle: list(fragments) for handle, fragments in enumerate(contents, start=1)}
    stream, finished, sequence = b"", [], 0
    while waiting:
        handle = data.draw(st.sampled_from(sorted(waiting)))
        fragment = waiting[handle].pop(0)
        more, sequence = bool(waiting[handle]), sequence + 1
        stream += struct.pack(">IHIQ", len(fragment), handle | more << 15, handle, sequence) + fragment
        if not more:
            del waiting[handle]
            finished.append(Frame(code=handle, handle=handle, payload=b"".join(contents[handle - 1])))
    assert list(Version2Reader(LIMITS).receive(stream)) == finished


@given(first=requests, second=requests, sizes=cuts)
def test_requests_arrive_as_they_were_sent_whatever_the_pieces(
    first: CertificateRequest, second: CertificateRequest, sizes: list[int]
) -> None:
    pair = joined()
    handles = [pair.client.submit(first), pair.client.submit(second)]
    events = [event for piece in pieces(pair.client.data_to_send(), sizes) for event in pair.signer.receive(piece)]
    assert events == [
        SignRequested(handle=handle, request=request) for handle, request in zip(handles, (first, second), strict=True)
    ]


def framed(octets: bytes) -> bytes:
    return der.encode(der.SEQUENCE, octets)


def talk(version: int, sizes: Sequence[int]) -> list[Event]:
    """A whole conversation whose flights arrive in pieces: all its events."""
    pair = joined(version)
    events: list[Event] = []

    def carry(sender: Session, receiver: Session) -> None:
        for piece in pieces(sender.data_to_send(), sizes):
            events.extend(receiver.receive(piece))

    handle = pair.client.submit(certificate_request(1))
    carry(pair.client, pair.signer)
    pair.signer.send_log(handle, b"the log of this request")
    carry(pair.signer, pair.client)
    pair.client.confirm_log(handle)
    carry(pair.client, pair.signer)
    pair.signer.send_certificate(handle, signing_ca=SIGNING_CA, signature=b"s" * 64, index=1, certificate=b"\x30\x00")
    carry(pair.signer, pair.client)
    if version > 1:
        revocation, full = pair.client.revoke(REVOCATION_REQUEST), pair.client.get_full_crl(SIGNING_CA)
        copies, order = pair.client.get_entries(1, 50), pair.client.send_order(b"an order")
        carry(pair.client, pair.signer)
        pair.signer.send_full_crl(full, bytes(40_000))
        pair.signer.send_entries(copies, 1, [framed(bytes(1000))] * 50, head=HEAD)
        pair.signer.send_revoked(revocation, REVOKED_ANSWER)
        pair.signer.send_obeyed(order, 51)
        carry(pair.signer, pair.client)
    return events


@pytest.mark.parametrize("version", [1, 2])
@given(sizes=cuts)
def test_a_conversation_in_pieces_is_the_same_conversation(version: int, sizes: list[int]) -> None:
    whole = talk(version, [1 << 20])
    assert len(whole) == {1: 4, 2: 12}[version]
    assert talk(version, sizes) == whole


def outcome(session: Session, stream: Sequence[bytes]) -> tuple[list[Event], bool]:
    events: list[Event] = []
    try:
        for piece in stream:
            events += session.receive(piece)
    except PeerError:
        return events, True
    return events, False


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("version", [1, 2])
@given(octets=st.binary(max_size=300), sizes=cuts)
def test_any_octets_give_events_or_a_peer_error(role: Role, version: int, octets: bytes, sizes: list[int]) -> None:
    at_once, in_pieces = (Session(role=role, version=version) for _ in range(2))
    events, broken = outcome(at_once, [octets])
    others, other_broken = outcome(in_pieces, pieces(octets, sizes))
    # A fault drops what the same octets had said before it: in pieces, more of that may have got through.
    assert broken == other_broken
    assert broken or events == others
    assert others[: len(events)] == events
