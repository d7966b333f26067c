"""Every state x sender x command x version, against a table of its own and through real sessions."""

from __future__ import annotations

import itertools

import pytest
from tests.support.conversations import hello, sample

from cassiopeia.errors import CassiopeiaError, InternalError, PeerError
from cassiopeia.protocol.exchange import Exchange
from cassiopeia.protocol.message import ClientCommand, Command, Message, Role, SignerCommand, encode_message
from cassiopeia.protocol.record import writer_for
from cassiopeia.protocol.session import Session
from cassiopeia.protocol.transitions import COLLECTING, RESTING, TRANSITIONS, State, as_markdown

# state: what may come there, and the state after it. Versions that have it follow in brackets where not both do.
EXPECTED = """
CLIENT_HELLO: client.hello>SIGNER_HELLO[2]
SIGNER_HELLO: signer.hello>OPEN[2]
OPEN:
REQUEST: client.setRequestId>SUBJECT[2] client.setCSR>SIGN[1] client.setSPKAC>SIGN[1]
    client.addSerial>REVOKE client.revoke>REVOKED client.getFullCRL>FULL_CRL
    client.getTimestamp>TIMESTAMP client.getStatusReport>STATUS client.getEntries>ENTRIES[2]
    client.sendOrder>OBEDIENCE[2] client.announceBundle>BUNDLE[2] signer.refused>END[2] signer.failed>END[2]
SUBJECT: client.setCSR>SIGN[2] client.setSPKAC>SIGN[2] client.addSerial>REVOKE[2] client.revoke>REVOKED[2]
    signer.refused>END[2] signer.failed>END[2]
SIGN: client.setSignatureType>SIGN client.setProfile>SIGN client.wishFrom>SIGN client.wishTo>SIGN
    client.ocspTargetCA>SIGN client.addSAN>SIGN client.addAVA>SIGN client.addProofLine>SIGN
    client.setAccount>SIGN[2] client.sign>LOG signer.refused>END[2] signer.failed>END[2]
LOG: signer.setLog>CONFIRMATION client.logSaved>CONFIRMED_LOG[1] client.abandon>ABANDONMENT[2]
    signer.abandoned>END[2] signer.refused>END[2] signer.failed>END[2]
CONFIRMED_LOG: signer.setLog>CERTIFICATE[1]
CONFIRMATION: client.logSaved>CERTIFICATE client.abandon>ABANDONMENT[2]
    signer.abandoned>END[2] signer.refused>END[2] signer.failed>END[2]
CERTIFICATE: signer.signingCA>NAMED_CERTIFICATE[1] signer.respondCertificate>END[2]
    signer.abandoned>END[2] signer.refused>END[2] signer.failed>END[2]
NAMED_CERTIFICATE: signer.respondCertificate>END[1]
ABANDONMENT: signer.setLog>ABANDONMENT[2] signer.abandoned>END[2] signer.refused>END[2] signer.failed>END[2]
REVOKE: client.addSerial>REVOKE client.revoke>REVOKED signer.refused>END[2] signer.failed>END[2]
REVOKED: signer.revoked>FULL_CRL_OR_END[1] signer.revoked>END[2] signer.refused>END[2] signer.failed>END[2]
FULL_CRL: signer.fullCRL>END signer.refused>END[2] signer.failed>END[2]
FULL_CRL_OR_END: client.getFullCRL>FULL_CRL[1]
TIMESTAMP: signer.timestampResponse>REQUEST[1] signer.timestampResponse>END[2]
    signer.refused>END[2] signer.failed>END[2]
STATUS: signer.statusReport>REQUEST[1] signer.statusReport>END[2] signer.refused>END[2] signer.failed>END[2]
ENTRIES: signer.entries>END[2] signer.refused>END[2] signer.failed>END[2]
OBEDIENCE: signer.obeyed>END[2] signer.refused>END[2] signer.failed>END[2]
BUNDLE: client.sendBundle>KEEPING[2] signer.refused>END[2] signer.failed>END[2]
KEEPING: signer.bundleHeld>END[2] signer.refused>END[2] signer.failed>END[2]
END:
"""


def expected() -> dict[tuple[int, State, Command], State]:
    commands: dict[str, Command] = {f"client.{each.wire_name}": each for each in ClientCommand}
    commands |= {f"signer.{each.wire_name}": each for each in SignerCommand}
    cells: dict[tuple[int, State, Command], State] = {}
    for row in EXPECTED.replace("\n    ", " ").strip().splitlines():
        state, _, entries = row.partition(":")
        for entry in entries.split():
            message, _, after = entry.partition(">")
            after, _, only = after.partition("[")
            for version in [int(only.removesuffix("]"))] if only else [1, 2]:
                cells[version, State[state], commands[message]] = State[after]
    return cells


CELLS = expected()
EVERY_CELL = list(itertools.product((1, 2), State, [*ClientCommand, *SignerCommand]))
# Version 1 has no opening, and nobody is there any more once a request is answered.
OPENING = {State.CLIENT_HELLO, State.SIGNER_HELLO, State.OPEN}


def sender_of(command: Command) -> Role:
    return Role.CLIENT if isinstance(command, ClientCommand) else Role.SIGNER


def waiting(role: Role, version: int, state: State) -> tuple[Session, int]:
    """A session of this role in which a handle is in this state, whatever led there."""
    session = Session(role=role, version=version)
    session.peer_hello = hello()
    if state in OPENING:
        session._opening.state = state
        return session, 0
    exchange = Exchange(state=state, log_hash=b"\x02" * 32)
    if state is State.SIGN:
        exchange.collect(ClientCommand.SET_CSR, b"csr")
    if state is State.BUNDLE:
        exchange.collect(ClientCommand.ANNOUNCE_BUNDLE, sample(ClientCommand.ANNOUNCE_BUNDLE, 2))
    session._opening.state = State.OPEN
    session._exchanges[1] = exchange
    session._highest_handle = 1
    return session, 1


def state_of(session: Session, handle: int) -> State:
    if handle == 0:
        return session._opening.state
    if handle in session._exchanges:
        return session._exchanges[handle].state
    return session._resting if session.version == 1 else State.END


def cell_name(value: object) -> str:
    if isinstance(value, Command):
        return f"{sender_of(value).value}.{value.wire_name}"
    return value.name if isinstance(value, State) else str(value)


def test_the_table_is_the_expected_one() -> None:
    assert TRANSITIONS == CELLS


@pytest.mark.parametrize("sending", [False, True], ids=["received", "sent"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("state", State, ids=cell_name)
def test_every_cell_of_a_state_holds_in_a_session(version: int, state: State, *, sending: bool) -> None:
    if version == 1 and state in OPENING:
        assert not [cell for cell in CELLS if cell[:2] == (version, state)]
        return
    for command in [*ClientCommand, *SignerCommand]:
        after = CELLS.get((version, state, command))
        if sending:
            check_sent(version, state, command, after)
        else:
            check_received(version, state, command, after)


def check_sent(version: int, state: State, command: Command, after: State | None) -> None:
    session, handle = waiting(sender_of(command), version, state)
    if after is None:
        with pytest.raises(InternalError):
            session._send(handle, command, sample(command, version))
        assert session.data_to_send() == b""
        assert state_of(session, handle) is state
    else:
        session._send(handle, command, sample(command, version))
        assert session.data_to_send()
        assert state_of(session, handle) is after


def check_received(version: int, state: State, command: Command, after: State | None) -> None:
    receiver = Role.SIGNER if sender_of(command) is Role.CLIENT else Role.CLIENT
    session, handle = waiting(receiver, version, state)
    writer = writer_for(version, counting=False)
    writer.put(command.code, handle, payload_of(command, version, state))
    failure: CassiopeiaError | None = None
    try:
        session.receive(writer.take())
    except PeerError as error:
        failure = error
    if after is None:
        assert failure is not None, f"{cell_name(command)} was taken in {state.name}"
        assert session.closed
    else:
        assert failure is None, f"{cell_name(command)} in {state.name}: {failure}"
        assert state_of(session, handle) is after


def payload_of(command: Command, version: int, state: State) -> bytes:
    if version not in command.versions:
        return b""
    if command is ClientCommand.LOG_SAVED and state is State.LOG:
        return b""  # only an original client confirms so early, with nothing
    return encode_message(Message(command=command, value=sample(command, version)), version=version)


def test_resting_and_collecting_states_are_what_their_names_say() -> None:
    # Nothing is owed by a signer in a resting state, and by nobody else than the client in a collecting one.
    for version, state, command in EVERY_CELL:
        is_answer = (version, state, command) in CELLS and sender_of(command) is Role.SIGNER
        if is_answer and state in RESTING | COLLECTING:
            assert command in {SignerCommand.REFUSED, SignerCommand.FAILED}
    assert {state for state in State if not any(cell[1] is state for cell in CELLS)} == {State.END, State.OPEN}


def test_every_state_is_reached_and_left() -> None:
    for version in (1, 2):
        cells = {cell: after for cell, after in CELLS.items() if cell[0] == version}
        reached = set(cells.values()) | {State.REQUEST, State.CLIENT_HELLO}
        assert {state for _, state, _ in cells} <= reached


def test_the_markdown_has_a_row_for_each_cell() -> None:
    for version in (1, 2):
        rows = as_markdown(version).splitlines()[2:]
        assert len(rows) == len([cell for cell in CELLS if cell[0] == version])
    assert "| LOG | setLog | signer | CONFIRMATION |" in as_markdown(1).splitlines()
