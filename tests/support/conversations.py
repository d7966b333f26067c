"""Material for protocol tests: sample values, sessions joined back to back, the recorded conversations."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cassiopeia.core.request import (
    CertificateRequest,
    Revocation,
    RevocationRequest,
    SubjectAltName,
    SubjectAttribute,
)
from cassiopeia.protocol import payload
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import ClientCommand, Command, SignerCommand
from cassiopeia.protocol.session import Event, Role, Session

NOW = dt.datetime(2026, 11, 23, 8, 32, 13, tzinfo=dt.UTC)
RSA_WITH_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")

VECTORS = Path(__file__).parents[1] / "vectors" / "legacy"


@dataclass(frozen=True, kw_only=True)
class RecordedLine:
    """One line of a recording: who sent it, and the octets with their line feed."""

    sender: Role
    octets: bytes


def recorded(name: str) -> list[RecordedLine]:
    lines = []
    for line in (VECTORS / f"{name}.records.txt").read_bytes().splitlines(keepends=True):
        direction, octets = line.split(b" ", 1)
        lines.append(RecordedLine(sender=Role.CLIENT if direction == b"C>S" else Role.SIGNER, octets=octets))
    return lines


def hello(limits: Limits | None = None, *, capabilities: tuple[str, ...] = ("deflate",)) -> payload.Hello:
    return payload.Hello(versions=(2,), limits=(limits or Limits()).as_payload(), capabilities=capabilities)


def certificate_request(number: int = 0, **changes: Any) -> CertificateRequest:
    fields: dict[str, Any] = {
        "key_kind": "csr",
        "key_proof": bytes([0x30, 0x03, 0x02, 0x01, number % 128]),
        "profile": "9004-unproved-server",
        "account": "account-1",
        "request_id": number.to_bytes(32, "big"),
        "signature_hash": "sha256",
        "wish_from": "2026-11-24",
        "wish_to": "6m",
        "attributes": (SubjectAttribute(type="CN", value="a, b"), SubjectAttribute(type="O", value="Übung")),
        "alt_names": (SubjectAltName(type="DNS", value="www.example.org"),),
        "proofs": (b"one", b"two"),
    }
    return CertificateRequest(**(fields | changes))


REVOCATION_REQUEST = RevocationRequest(
    signing_ca="unassured_2026_2",
    revocations=(Revocation(serial_number=0x20), Revocation(serial_number=0x21, reason=1, invalidity_date=NOW)),
    crl_number=7,
    tbs_hash=b"\x07" * 32,
    request_id=b"\x09" * 32,
)
HEAD = b"a signed head"
TIMESTAMP = payload.Timestamp(
    time=NOW, signer_id=1, boot_id=b"b" * 16, boot_seconds=60, nonce=b"n" * 16, head=HEAD, signature=b"s" * 64
)
STATUS_REPORT = payload.StatusReport(
    state="locked",
    reason="the keys are being unlocked",
    software_version="1.0",
    time=NOW,
    boot_seconds=60,
    configuration_hash=b"c" * 32,
    profiles=("9004-unproved-server",),
    authorities=(
        payload.AuthorityStatus(
            name="unassured_2026_2", not_before=NOW, not_after=NOW, issued=3, revoked=1, crl_number=2, next_update=NOW
        ),
        payload.AuthorityStatus(
            name="unassured_2026_3",
            not_before=NOW,
            not_after=NOW,
            issued=0,
            revoked=0,
            crl_number=0,
            mistrusted="gnutls finds a signature wrong that openssl made",
            key_fault="the token is away",
        ),
    ),
    boot_id=b"b" * 16,
    free_octets=10**12,
    octets_a_day=5_000_000,
    clock_warning="",
    alarms=("the list of weak keys is missing",),
    order_sequence=3,
    orders=payload.StandingOrders(
        halted_authorities=("unassured_2026_1",),
        disabled_validators=(b"v" * 8,),
        blocked_keys=2,
        validators=(payload.ValidatorStatus(name="front", key_id=b"v" * 8, kinds=("attestation",)),),
        caps=(
            payload.CapStatus(name="refusals", limit=10),
            payload.CapStatus(name="revocations", limit=9, ends=NOW),
        ),
    ),
)
REVOKED_ANSWER = payload.RevokedAnswer(
    date=NOW,
    algorithm=RSA_WITH_SHA256,
    signature=b"s" * 256,
    this_update=NOW,
    next_update=NOW + dt.timedelta(days=10),
    crl_number=8,
    entries=bytes.fromhex("3013020120170e") + b"2611230832130Z"[:13],
)
ISSUED = payload.Issued(index=6, signing_ca="unassured_2026_2", signature=b"s" * 64, head=HEAD)

# A value for each message that both sides understand.
SAMPLES: dict[Command, Any] = {
    ClientCommand.SET_CSR: b"csr",
    ClientCommand.SET_SPKAC: b"spkac",
    ClientCommand.SET_SIGNATURE_TYPE: "sha384",
    ClientCommand.SET_PROFILE: "0004-server",
    ClientCommand.WISH_FROM: "",
    ClientCommand.WISH_TO: "2y",
    ClientCommand.OCSP_TARGET_CA: "unassured_2026_2",
    ClientCommand.SET_REQUEST_ID: b"\x01" * 32,
    ClientCommand.SET_ACCOUNT: "account",
    ClientCommand.ADD_SAN: SubjectAltName(type="email", value="a@example.org"),
    ClientCommand.ADD_AVA: SubjectAttribute(type="CN", value="Müller, Ä"),
    ClientCommand.ADD_PROOF_LINE: b"01,02",
    ClientCommand.SIGN: None,
    ClientCommand.LOG_SAVED: b"\x02" * 32,
    ClientCommand.ABANDON: "lint",
    ClientCommand.GET_TIMESTAMP: None,
    ClientCommand.GET_ENTRIES: payload.GetEntries(first=1, at_most=100),
    ClientCommand.GET_STATUS_REPORT: None,
    ClientCommand.SEND_ORDER: b"a signed order",
    ClientCommand.ANNOUNCE_BUNDLE: hashlib.sha256(b"a signed bundle").digest(),
    ClientCommand.SEND_BUNDLE: payload.PackedBundle(encoding=0, octets=b"a signed bundle"),
    ClientCommand.REVOKE: payload.Revoke(signing_ca="unassured_2026_2", crl_number=0, tbs_hash=b""),
    ClientCommand.GET_FULL_CRL: "unassured_2026_2",
    ClientCommand.ADD_SERIAL: Revocation(serial_number=0x7F),
    ClientCommand.HELLO: hello(),
    SignerCommand.SET_LOG: payload.SetLog(encoding=0, octets=b"log", head=HEAD),
    SignerCommand.RESPOND_CERTIFICATE: ISSUED,
    SignerCommand.SIGNING_CA: "unassured_2026_2",
    SignerCommand.ABANDONED: payload.Abandoned(index=7, head=HEAD),
    SignerCommand.TIMESTAMP_RESPONSE: TIMESTAMP,
    SignerCommand.ENTRIES: payload.Entries(first=1, encoding=0, octets=b"\x30\x00\x30\x00", head=HEAD),
    SignerCommand.STATUS_REPORT: STATUS_REPORT,
    SignerCommand.OBEYED: payload.Obeyed(index=8),
    SignerCommand.BUNDLE_HELD: None,
    SignerCommand.REFUSED: payload.Refusal(code="evidence-missing", field="dns", message="No."),
    SignerCommand.FAILED: payload.Failure(code="busy", message="Not now.", retry_after=5),
    SignerCommand.REVOKED: REVOKED_ANSWER,
    SignerCommand.FULL_CRL: b"der",
    SignerCommand.HELLO: hello(),
}
# Version 1 says these in another way.
VERSION_1_SAMPLES: dict[Command, Any] = SAMPLES | {
    SignerCommand.SET_LOG: b"log",
    SignerCommand.RESPOND_CERTIFICATE: b"certificate",
    SignerCommand.TIMESTAMP_RESPONSE: "2026-11-23T08:32:13Z",
    SignerCommand.STATUS_REPORT: "running",
    SignerCommand.REVOKED: payload.RevokedAnswer(
        date=None, algorithm=RSA_WITH_SHA256, signature=b"s", this_update=NOW, next_update=NOW
    ),
}


def sample(command: Command, version: int) -> Any:
    return (VERSION_1_SAMPLES if version == 1 else SAMPLES)[command]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A client's and a signer's session, joined without a line."""

    client: Session
    signer: Session

    def to_signer(self) -> list[Event]:
        return self.signer.receive(self.client.data_to_send())

    def to_client(self) -> list[Event]:
        return self.client.receive(self.signer.data_to_send())


def joined(version: int = 2, *, limits: Limits | None = None, capabilities: tuple[str, ...] = ("deflate",)) -> Pair:
    """Two sessions of one version; in version 2 the opening is over."""
    pair = Pair(
        client=Session(role=Role.CLIENT, version=version, limits=limits),
        signer=Session(role=Role.SIGNER, version=version, limits=limits),
    )
    if version > 1:
        pair.client.hello(hello(limits, capabilities=capabilities))
        pair.to_signer()
        pair.signer.hello(hello(limits))
        pair.to_client()
    return pair
