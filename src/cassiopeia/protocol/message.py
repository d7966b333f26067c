"""Messages: the commands of both versions with their codes and wire names, and what each payload says.

The only module that knows wire names. Owns the way from payload octets to a value and back, not whether a message may
be sent now (`transitions`) or what it means (`session`). Wire specification, "Requests", "Answers", "Revocation".
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cassiopeia.core import structure
from cassiopeia.core.request import Revocation, SubjectAltName, SubjectAttribute
from cassiopeia.errors import InternalError, PeerError, Refused
from cassiopeia.protocol import payload

HASH_OCTETS: Final = 32
REQUEST_ID_OCTETS: Final = 32

_SERIAL: Final = re.compile(r"[0-9A-Fa-f]{1,42}")
_DAYS: Final = re.compile(r"[0-9]+d")
_VERSION_1_ALT_NAMES: Final = frozenset({"DNS", "email"})


class Role(enum.Enum):
    """Who speaks."""

    CLIENT = "client"
    SIGNER = "signer"

    __hash__ = object.__hash__  # as that of a command


class Command(enum.Enum):
    """What a message is: its code, its wire name and the versions that have it."""

    def __init__(self, code: int, wire_name: str, versions: tuple[int, ...]) -> None:
        self.code = code
        self.wire_name = wire_name
        self.versions = versions

    # A member is equal to itself alone. What `Enum` has hashes its name, in Python, and each message asks four tables.
    __hash__ = object.__hash__


class ClientCommand(Command):
    """What a client sends."""

    SET_CSR = (0x01, "setCSR", (1, 2))
    SET_SPKAC = (0x02, "setSPKAC", (1, 2))
    SET_SIGNATURE_TYPE = (0x10, "setSignatureType", (1, 2))
    SET_PROFILE = (0x11, "setProfile", (1, 2))
    WISH_FROM = (0x12, "wishFrom", (1, 2))
    WISH_TO = (0x13, "wishTo", (1, 2))
    OCSP_TARGET_CA = (0x14, "ocspTargetCA", (1, 2))
    SET_REQUEST_ID = (0x15, "setRequestId", (2,))
    SET_ACCOUNT = (0x16, "setAccount", (2,))
    ADD_SAN = (0x18, "addSAN", (1, 2))
    ADD_AVA = (0x19, "addAVA", (1, 2))
    ADD_PROOF_LINE = (0x40, "addProofLine", (1, 2))
    SIGN = (0x80, "sign", (1, 2))
    LOG_SAVED = (0x81, "logSaved", (1, 2))
    ABANDON = (0x82, "abandon", (2,))
    GET_TIMESTAMP = (0xC0, "getTimestamp", (1, 2))
    GET_ENTRIES = (0xC1, "getEntries", (2,))
    GET_STATUS_REPORT = (0xD0, "getStatusReport", (1, 2))
    SEND_ORDER = (0xD1, "sendOrder", (2,))
    ANNOUNCE_BUNDLE = (0xD2, "announceBundle", (2,))
    SEND_BUNDLE = (0xD3, "sendBundle", (2,))
    REVOKE = (0x100, "revoke", (1, 2))
    GET_FULL_CRL = (0x101, "getFullCRL", (1, 2))
    ADD_SERIAL = (0x102, "addSerial", (1, 2))
    HELLO = (0x200, "hello", (2,))


class SignerCommand(Command):
    """What a signer answers."""

    SET_LOG = (0x80, "setLog", (1, 2))
    RESPOND_CERTIFICATE = (0x81, "respondCertificate", (1, 2))
    SIGNING_CA = (0x82, "signingCA", (1,))
    ABANDONED = (0x83, "abandoned", (2,))
    TIMESTAMP_RESPONSE = (0xC0, "timestampResponse", (1, 2))
    ENTRIES = (0xC1, "entries", (2,))
    STATUS_REPORT = (0xD0, "statusReport", (1, 2))
    OBEYED = (0xD1, "obeyed", (2,))
    BUNDLE_HELD = (0xD2, "bundleHeld", (2,))
    REFUSED = (0xF0, "refused", (2,))
    FAILED = (0xF1, "failed", (2,))
    REVOKED = (0x100, "revoked", (1, 2))
    FULL_CRL = (0x101, "fullCRL", (1, 2))
    HELLO = (0x200, "hello", (2,))


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One command with the value that its payload says (None where there is none to say)."""

    command: Command
    value: Any


def find_command(sender: Role, version: int, code: int) -> Command | None:
    """Return the command that a sender means by a code, None for an unknown one."""
    return _BY_CODE.get((sender, version, code))


def decode_message(command: Command, octets: bytes, *, version: int) -> Message:
    """Read the payload of a message; raises PeerError."""
    return Message(command=command, value=_CODECS[version][command].decode(octets))


def encode_message(message: Message, *, version: int) -> bytes:
    """Return the payload of a message; raises Refused for text of a request that cannot travel."""
    return _CODECS[version][message.command].encode(message.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Codec:
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _encode_text(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Refused("The request holds a character that is none (half a surrogate pair).", code="not-text") from None


def _decode_text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise PeerError("a text is not UTF-8") from None


def _encode_nothing(value: None) -> bytes:
    del value
    return b""


def _decode_nothing(octets: bytes) -> None:
    if octets:
        raise PeerError("a message that has no payload has one")


def _octets(octets: bytes) -> bytes:
    return octets


def _exactly(length: int) -> _Codec:
    def encode(octets: bytes) -> bytes:
        if len(octets) != length:
            raise InternalError(f"{len(octets)} octets where {length} are due")
        return octets

    def decode(octets: bytes) -> bytes:
        if len(octets) != length:
            raise PeerError(f"{len(octets)} octets where {length} are due")
        return octets

    return _Codec(encode=encode, decode=decode)


def _encode_pair(pair: SubjectAttribute | SubjectAltName) -> bytes:
    if "," in pair.type:
        raise Refused("The type of a name has a comma in it.", code="name-type", field=pair.type)
    return _encode_text(f"{pair.type},{pair.value}")


def _decode_pair(kind: type[SubjectAttribute | SubjectAltName]) -> Callable[[bytes], Any]:
    def decode(octets: bytes) -> SubjectAttribute | SubjectAltName:
        type_, comma, value = _decode_text(octets).partition(",")
        if not comma:
            raise PeerError("a name has no comma behind its type")
        return kind(type=type_, value=value)

    return decode


_decode_alt_name: Final = _decode_pair(SubjectAltName)


def _encode_version_1_alt_name(name: SubjectAltName) -> bytes:
    if name.type not in _VERSION_1_ALT_NAMES:
        raise Refused(
            f"Version 1 of the signer protocol has no alternative names of type {name.type}.",
            code="version-1-name",
            field=name.type,
        )
    return _encode_pair(name)


def _decode_version_1_alt_name(octets: bytes) -> SubjectAltName:
    name: SubjectAltName = _decode_alt_name(octets)
    if name.type not in _VERSION_1_ALT_NAMES:
        raise PeerError("version 1 has alternative names of type DNS and email only")
    return name


def _encode_version_1_wish_to(wish: str) -> bytes:
    # The original takes whatever it does not understand for the longest that the profile allows.
    if _DAYS.fullmatch(wish):
        raise Refused(
            f"Version 1 of the signer protocol counts no days; write the last day as YYYY-MM-DD instead of {wish}.",
            code="version-1-date",
            field="wish_to",
        )
    return _encode_text(wish)


def _encode_version_1_serial(revocation: Revocation) -> bytes:
    # Version 1 has no place for reason and invalidity date.
    return b"%x" % revocation.serial_number


def _decode_version_1_serial(octets: bytes) -> Revocation:
    text = octets.decode("latin-1")
    if _SERIAL.fullmatch(text) is None:
        raise PeerError("a serial number is not up to 42 hex digits")
    return Revocation(serial_number=int(text, 16))


def _encode_version_1_revoke(revoke: payload.Revoke) -> bytes:
    return _encode_text(revoke.signing_ca)


def _decode_version_1_revoke(octets: bytes) -> payload.Revoke:
    return payload.Revoke(signing_ca=_decode_text(octets), crl_number=0, tbs_hash=b"")


def _decode_version_1_confirmation(octets: bytes) -> bytes:
    # The original sends no hash, we do (and it does not look).
    if len(octets) not in (0, HASH_OCTETS):
        raise PeerError("the log's checksum is neither empty nor a SHA-256")
    return octets


def _structured(kind: type[Any]) -> _Codec:
    return _Codec(encode=structure.encode, decode=lambda octets: structure.decode(kind, octets))


def _pem(label: str) -> _Codec:
    return _Codec(
        encode=lambda octets: payload.encode_pem(label, octets),
        decode=lambda octets: payload.decode_pem(label, octets),
    )


def _revoked(version: int) -> _Codec:
    return _Codec(
        encode=lambda answer: payload.encode_revoked(answer, version=version),
        decode=lambda octets: payload.decode_revoked(octets, version=version),
    )


_TEXT: Final = _Codec(encode=_encode_text, decode=_decode_text)
_NOTHING: Final = _Codec(encode=_encode_nothing, decode=_decode_nothing)
_OCTETS: Final = _Codec(encode=_octets, decode=_octets)

# The same in both versions; the tables below add what differs.
_SHARED: Final[dict[Command, _Codec]] = {
    ClientCommand.SET_CSR: _OCTETS,
    ClientCommand.SET_SPKAC: _OCTETS,
    ClientCommand.SET_SIGNATURE_TYPE: _TEXT,
    ClientCommand.SET_PROFILE: _TEXT,
    ClientCommand.WISH_FROM: _TEXT,
    ClientCommand.WISH_TO: _TEXT,
    ClientCommand.OCSP_TARGET_CA: _TEXT,
    ClientCommand.ADD_AVA: _Codec(encode=_encode_pair, decode=_decode_pair(SubjectAttribute)),
    ClientCommand.ADD_PROOF_LINE: _OCTETS,
    ClientCommand.SIGN: _NOTHING,
    ClientCommand.GET_FULL_CRL: _TEXT,
    ClientCommand.GET_TIMESTAMP: _NOTHING,
    ClientCommand.GET_STATUS_REPORT: _NOTHING,
}
_CODECS: Final[dict[int, dict[Command, _Codec]]] = {
    1: _SHARED
    | {
        ClientCommand.WISH_TO: _Codec(encode=_encode_version_1_wish_to, decode=_decode_text),
        ClientCommand.ADD_SAN: _Codec(encode=_encode_version_1_alt_name, decode=_decode_version_1_alt_name),
        ClientCommand.LOG_SAVED: _Codec(encode=_octets, decode=_decode_version_1_confirmation),
        ClientCommand.REVOKE: _Codec(encode=_encode_version_1_revoke, decode=_decode_version_1_revoke),
        ClientCommand.ADD_SERIAL: _Codec(encode=_encode_version_1_serial, decode=_decode_version_1_serial),
        SignerCommand.SET_LOG: _OCTETS,
        SignerCommand.RESPOND_CERTIFICATE: _pem("CERTIFICATE"),
        SignerCommand.SIGNING_CA: _TEXT,
        SignerCommand.TIMESTAMP_RESPONSE: _TEXT,
        SignerCommand.STATUS_REPORT: _TEXT,
        SignerCommand.REVOKED: _revoked(1),
        SignerCommand.FULL_CRL: _pem("X509 CRL"),
    },
    2: _SHARED
    | {
        ClientCommand.SET_REQUEST_ID: _exactly(REQUEST_ID_OCTETS),
        ClientCommand.SET_ACCOUNT: _TEXT,
        ClientCommand.ADD_SAN: _Codec(encode=_encode_pair, decode=_decode_alt_name),
        ClientCommand.LOG_SAVED: _exactly(HASH_OCTETS),
        ClientCommand.ABANDON: _TEXT,
        ClientCommand.REVOKE: _structured(payload.Revoke),
        ClientCommand.ADD_SERIAL: _structured(Revocation),
        ClientCommand.GET_ENTRIES: _structured(payload.GetEntries),
        ClientCommand.SEND_ORDER: _OCTETS,
        ClientCommand.ANNOUNCE_BUNDLE: _exactly(HASH_OCTETS),
        ClientCommand.SEND_BUNDLE: _structured(payload.PackedBundle),
        ClientCommand.HELLO: _structured(payload.Hello),
        SignerCommand.SET_LOG: _structured(payload.SetLog),
        SignerCommand.RESPOND_CERTIFICATE: _structured(payload.Issued),
        SignerCommand.ABANDONED: _structured(payload.Abandoned),
        SignerCommand.ENTRIES: _structured(payload.Entries),
        SignerCommand.OBEYED: _structured(payload.Obeyed),
        SignerCommand.BUNDLE_HELD: _NOTHING,
        SignerCommand.TIMESTAMP_RESPONSE: _structured(payload.Timestamp),
        SignerCommand.STATUS_REPORT: _structured(payload.StatusReport),
        SignerCommand.REFUSED: _structured(payload.Refusal),
        SignerCommand.FAILED: _structured(payload.Failure),
        SignerCommand.REVOKED: _revoked(2),
        SignerCommand.FULL_CRL: _OCTETS,
        SignerCommand.HELLO: _structured(payload.Hello),
    },
}
_BY_CODE: Final[dict[tuple[Role, int, int], Command]] = {
    (sender, version, command.code): command
    for sender, commands in ((Role.CLIENT, ClientCommand), (Role.SIGNER, SignerCommand))
    for command in commands
    for version in command.versions
}
