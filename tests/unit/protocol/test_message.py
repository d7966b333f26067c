from __future__ import annotations

import pytest
from tests.support.conversations import NOW, sample

from cassiopeia.core.request import Revocation, SubjectAltName, SubjectAttribute
from cassiopeia.errors import InternalError, PeerError, Refused
from cassiopeia.protocol import payload
from cassiopeia.protocol.message import (
    ClientCommand,
    Command,
    Message,
    Role,
    SignerCommand,
    decode_message,
    encode_message,
    find_command,
)

COMMANDS: list[tuple[Role, Command]] = [
    *((Role.CLIENT, command) for command in ClientCommand),
    *((Role.SIGNER, command) for command in SignerCommand),
]
SPOKEN = [(sender, command, version) for sender, command in COMMANDS for version in command.versions]


def spoken_name(value: object) -> str:
    return value.wire_name if isinstance(value, Command) else str(getattr(value, "value", value))


@pytest.mark.parametrize(("sender", "command", "version"), SPOKEN, ids=spoken_name)
def test_a_message_comes_back(sender: Role, command: Command, version: int) -> None:
    message = Message(command=command, value=sample(command, version))
    octets = encode_message(message, version=version)
    assert find_command(sender, version, command.code) is command
    assert decode_message(command, octets, version=version) == message


@pytest.mark.parametrize(("sender", "command"), COMMANDS, ids=spoken_name)
def test_a_version_has_only_its_own_commands(sender: Role, command: Command) -> None:
    found = {version for version in (1, 2, 3) if find_command(sender, version, command.code) is command}
    assert found == set(command.versions)


@pytest.mark.parametrize(
    ("command", "version", "broken"),
    [
        (ClientCommand.SET_PROFILE, 1, b"\xff"),
        (ClientCommand.SET_PROFILE, 2, b"\xed\xa0\x80"),
        (ClientCommand.SIGN, 1, b"x"),
        (ClientCommand.SIGN, 2, b"x"),
        (SignerCommand.ABANDONED, 2, b"x"),
        (ClientCommand.ADD_AVA, 1, b"CN"),
        (ClientCommand.ADD_AVA, 2, b""),
        (ClientCommand.ADD_SAN, 1, b"IP,192.0.2.1"),
        (ClientCommand.ADD_SAN, 1, b"DNS"),
        (ClientCommand.ADD_SAN, 2, b"DNS"),
        (ClientCommand.LOG_SAVED, 1, b"x" * 31),
        (ClientCommand.LOG_SAVED, 2, b""),
        (ClientCommand.SET_REQUEST_ID, 2, b"x" * 33),
        (ClientCommand.ADD_SERIAL, 1, b""),
        (ClientCommand.ADD_SERIAL, 1, b"0x12"),
        (ClientCommand.ADD_SERIAL, 1, b"-1"),
        (ClientCommand.ADD_SERIAL, 1, b"\xff"),
        (ClientCommand.ADD_SERIAL, 1, b"1" * 43),
        (ClientCommand.ADD_SERIAL, 2, b"12"),
        (ClientCommand.HELLO, 2, b""),
        (SignerCommand.FULL_CRL, 1, b"\x30\x00"),
    ],
    ids=spoken_name,
)
def test_a_payload_with_a_fault_is_a_peer_error(command: Command, version: int, broken: bytes) -> None:
    with pytest.raises(PeerError):
        decode_message(command, broken, version=version)


@pytest.mark.parametrize(
    ("command", "version", "value", "code"),
    [
        (ClientCommand.SET_PROFILE, 1, "\ud800", "not-text"),
        (ClientCommand.ADD_AVA, 2, SubjectAttribute(type="CN", value="\udfff"), "not-text"),
        (ClientCommand.ADD_AVA, 2, SubjectAttribute(type="C,N", value="x"), "name-type"),
        (ClientCommand.ADD_SAN, 1, SubjectAltName(type="URI", value="https://example.org/"), "version-1-name"),
        (ClientCommand.WISH_TO, 1, "90d", "version-1-date"),
    ],
    ids=spoken_name,
)
def test_a_request_that_cannot_travel_is_refused(command: Command, version: int, value: object, code: str) -> None:
    with pytest.raises(Refused) as refused:
        encode_message(Message(command=command, value=value), version=version)
    assert refused.value.code == code


def test_an_id_of_the_wrong_length_is_our_own_mistake() -> None:
    with pytest.raises(InternalError, match="31 octets where 32"):
        encode_message(Message(command=ClientCommand.SET_REQUEST_ID, value=b"x" * 31), version=2)


def test_version_1_revokes_with_nothing_but_serial_and_sub_ca() -> None:
    revocation = Message(
        command=ClientCommand.ADD_SERIAL,
        value=Revocation(serial_number=0xAB, reason=1, invalidity_date=NOW, proof=b"p"),
    )
    revoke = Message(
        command=ClientCommand.REVOKE, value=payload.Revoke(signing_ca="a_2026_1", crl_number=3, tbs_hash=b"h")
    )
    assert encode_message(revocation, version=1) == b"ab"
    assert encode_message(revoke, version=1) == b"a_2026_1"


def test_a_proof_travels_with_its_serial() -> None:
    said = Revocation(serial_number=0xAB, reason=1, proof=b"signature")
    octets = encode_message(Message(command=ClientCommand.ADD_SERIAL, value=said), version=2)
    assert octets.endswith(b"\x82\x09signature")
    assert decode_message(ClientCommand.ADD_SERIAL, octets, version=2).value == said


@pytest.mark.parametrize("digits", [b"ab", b"AB", b"00ab"])
def test_a_version_1_serial_is_hex(digits: bytes) -> None:
    assert decode_message(ClientCommand.ADD_SERIAL, digits, version=1).value == Revocation(serial_number=0xAB)
