"""What the fuzzer calls: any octets into a session or a payload, in any role and version, must be a value or PeerError.

The first octet chooses role, version and how far the session is when the octets come; the second their pieces. With
the flag FRAMED the rest is taken as messages and framed rightly, so that the fuzzer is not stopped by sequence numbers
and checksums.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.conversations import (
    HEAD,
    REVOKED_ANSWER,
    STATUS_REPORT,
    TIMESTAMP,
    certificate_request,
    hello,
    recorded,
    sample,
)

from cassiopeia.core import structure
from cassiopeia.core.request import RevocationRequest
from cassiopeia.errors import PeerError, Refused
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import (
    ClientCommand,
    Command,
    Message,
    Role,
    SignerCommand,
    decode_message,
    encode_message,
)
from cassiopeia.protocol.payload import MAXIMUM_ENTRIES
from cassiopeia.protocol.record import Version1Writer, Version2Writer, writer_for
from cassiopeia.protocol.session import (
    AbandonRequested,
    EntriesReceived,
    EntriesRequested,
    Event,
    FullCrlRequested,
    HelloReceived,
    LogConfirmed,
    LogReceived,
    OrderReceived,
    RevocationRequested,
    Session,
    SignRequested,
    StatusRequested,
    TimestampRequested,
)

SIGNER_ROLE, VERSION_2, OPENED, FRAMED, REVOKING, COPYING = 1, 2, 4, 8, 16, 32

LIMITS = Limits(
    open_requests=4, request_octets=2000, message_octets=4000, crl_octets=8000, session_octets=8000, request_seconds=1
)
# Smaller than a header: what comes behind `sign` finds its answer under way.
SEED_PIECE_OCTETS = 16
# One line of version 1 is the most that a reader holds of what is not a message yet.
READER_OCTETS = 130_000

SPOKEN = [(command, version) for command in [*ClientCommand, *SignerCommand] for version in command.versions]


def exercise(octets: bytes) -> int:
    """Feed these octets to a session; return how many events they gave, -1 when they broke the protocol."""
    if len(octets) < 2:
        return 0
    flags, size, rest = octets[0], octets[1], octets[2:]
    role = Role.SIGNER if flags & SIGNER_ROLE else Role.CLIENT
    session = Session(role=role, version=2 if flags & VERSION_2 else 1, limits=LIMITS)
    writer = writer_for(session.version, counting=role is Role.SIGNER)
    if flags & OPENED:
        _open(session, writer, revoking=bool(flags & REVOKING), copying=bool(flags & COPYING))
    stream = _framed(rest, session, writer) if flags & FRAMED else writer.take() + rest
    count = 0
    try:
        for start in range(0, len(stream), size or max(1, len(stream))):
            events = session.receive(stream[start : start + (size or len(stream))])
            while events:
                count += len(events)
                for event in events:
                    _answer(session, event)
                events = session.take_events()
            session.data_to_send()
            _check_bounds(session)
    except PeerError:
        assert session.closed
        return -1
    return count


def exercise_payload(octets: bytes) -> int:
    """Decode these octets as the payload of a message that the first octet chooses; 1 for a value, -1 for a fault."""
    if not octets:
        return 0
    command, version = SPOKEN[octets[0] % len(SPOKEN)]
    try:
        message = decode_message(command, octets[1:], version=version)
    except PeerError:
        return -1
    try:
        again = encode_message(message, version=version)
    except Refused:
        # Version 1 counts no days: a signer takes `90d` for what it is, our client does not send it.
        assert (command, version) == (ClientCommand.WISH_TO, 1)
        return 1
    assert decode_message(command, again, version=version) == message
    return 1


def seeds() -> Iterator[bytes]:
    """Inputs that go all the way: where the fuzzer starts."""
    for name, asking in (("sign", OPENED), ("revoke", OPENED | REVOKING)):
        streams = {role: b"".join(line.octets for line in recorded(name) if line.sender is role) for role in Role}
        yield bytes([SIGNER_ROLE, 0]) + streams[Role.CLIENT]
        yield bytes([asking, SEED_PIECE_OCTETS]) + streams[Role.SIGNER]
    client = ClientCommand
    certificate = [client.SET_REQUEST_ID, client.SET_CSR, client.SET_ACCOUNT, client.ADD_AVA, client.ADD_SAN]
    certificate += [client.ADD_PROOF_LINE, client.WISH_TO, client.SIGN, client.LOG_SAVED]
    flags = SIGNER_ROLE | VERSION_2 | OPENED | FRAMED
    yield _seed(flags, [(command, 2) for command in certificate])
    yield _seed(flags, [(command, 2) for command in [*certificate[:2], client.SIGN, client.ABANDON]])
    yield _seed(
        flags, [(client.ADD_SERIAL, 1), (client.REVOKE, 1), (client.GET_FULL_CRL, 2), (client.GET_TIMESTAMP, 3)]
    )
    yield _seed(flags, [(client.GET_ENTRIES, 1), (client.SEND_ORDER, 2), (client.GET_STATUS_REPORT, 3)])
    yield _seed(SIGNER_ROLE | FRAMED, [(command, 1) for command in [client.SET_CSR, *certificate[3:]]])
    signer = SignerCommand
    answers = [(signer.SET_LOG, 1), (signer.RESPOND_CERTIFICATE, 1), (signer.REVOKED, 2), (signer.FULL_CRL, 3)]
    yield _seed(VERSION_2 | OPENED | FRAMED, [*answers, (signer.TIMESTAMP_RESPONSE, 4)])
    yield _seed(VERSION_2 | OPENED | FRAMED | COPYING, [(signer.ENTRIES, 1), (signer.OBEYED, 2), (signer.ABANDONED, 3)])
    yield _seed(VERSION_2 | OPENED | FRAMED, [(signer.REFUSED, 1), (signer.FAILED, 2), (signer.FAILED, 3)])
    yield _seed(OPENED | FRAMED, [(signer.SET_LOG, 1), (signer.SIGNING_CA, 1), (signer.RESPOND_CERTIFICATE, 1)])


def payload_seeds() -> Iterator[bytes]:
    """One good payload for each message."""
    for number, (command, version) in enumerate(SPOKEN):
        message = Message(command=command, value=sample(command, version))
        yield bytes([number]) + encode_message(message, version=version)


def _seed(flags: int, messages: list[tuple[Command, int]]) -> bytes:
    """Messages as `_framed` reads them."""
    version = 2 if flags & VERSION_2 else 1
    octets = bytes([flags, SEED_PIECE_OCTETS])
    for command, handle in messages:
        value = Message(command=command, value=sample(command, version))
        payload = encode_message(value, version=version)
        octets += bytes([_commands(flags & SIGNER_ROLE).index(command), handle]) + len(payload).to_bytes(2) + payload
    return octets


def _commands(of_client: int) -> list[Command]:
    return [*ClientCommand] if of_client else [*SignerCommand]


def _framed(octets: bytes, session: Session, writer: Version1Writer | Version2Writer) -> bytes:
    commands = _commands(session.role is Role.SIGNER)
    while len(octets) >= 4:
        number, handle, length = octets[0], octets[1], int.from_bytes(octets[2:4])
        code = commands[number % len(commands)].code if number < 2 * len(commands) else number
        writer.put(code, handle % 8, octets[4 : 4 + length])
        octets = octets[4 + length :]
    return writer.take()


def _open(session: Session, writer: Version1Writer | Version2Writer, *, revoking: bool, copying: bool) -> None:
    """Bring a session past its opening, a client's also past its questions: one of each, or one in version 1."""
    if session.version > 1:
        if session.role is Role.CLIENT:
            session.hello(hello(LIMITS))
        writer.put(ClientCommand.HELLO.code, 0, structure.encode(hello(LIMITS)))
        session.receive(writer.take())
        if session.role is Role.SIGNER:
            session.hello(hello(LIMITS))
    if session.role is Role.CLIENT and copying and session.version > 1:
        session.get_entries(1, 100)
        session.send_order(b"an order")
    if session.role is Role.CLIENT and not revoking:
        session.submit(certificate_request())
    if session.role is Role.CLIENT and session.capacity:
        session.revoke(RevocationRequest(signing_ca="unassured_2026_2"))
    if session.role is Role.CLIENT and session.capacity > 1:
        session.get_full_crl("unassured_2026_2")
        session.get_timestamp()
    session.data_to_send()


def _answer(session: Session, event: Event) -> None:
    """Answer as an owner would: so the octets behind get further."""
    if session.closed:
        return
    match event:
        case HelloReceived() if session.role is Role.SIGNER:
            session.hello(hello(LIMITS))
        case SignRequested(handle=handle, request=request):
            session.send_log(handle, request.key_proof + b"the log", head=HEAD if session.version > 1 else None)
        case LogConfirmed(handle=handle):
            session.send_certificate(handle, signing_ca="a_2026_1", signature=b"s", index=1, certificate=b"\x30\x00")
        case AbandonRequested(handle=handle):
            session.send_abandoned(handle, index=1, head=HEAD)
        case RevocationRequested(handle=handle):
            session.send_revoked(handle, REVOKED_ANSWER)
        case FullCrlRequested(handle=handle):
            session.send_full_crl(handle, bytes(20_000))
        case TimestampRequested(handle=handle):
            session.send_timestamp(handle, TIMESTAMP)
        case StatusRequested(handle=handle):
            session.send_status(handle, STATUS_REPORT)
        case EntriesRequested(handle=handle, first=first, at_most=at_most):
            session.send_entries(handle, first, [b"\x30\x00"] * min(at_most, MAXIMUM_ENTRIES), head=HEAD)
        case OrderReceived(handle=handle):
            session.send_obeyed(handle, 1)
        case LogReceived(handle=handle):
            session.confirm_log(handle)
        case EntriesReceived(logs=logs):
            assert len(logs) <= MAXIMUM_ENTRIES
            assert sum(map(len, logs)) <= LIMITS.message_octets
        case _:
            assert session.role is Role.CLIENT


def _check_bounds(session: Session) -> None:
    assert len(session.open_handles) <= LIMITS.open_requests
    assert session._held_octets <= LIMITS.session_octets
    assert session._held_octets == sum(exchange.octets for exchange in session._exchanges.values())
    assert len(session._reader._buffer) <= READER_OCTETS
