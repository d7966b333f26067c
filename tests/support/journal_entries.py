"""Entries of a journal, made by hand: one body of each kind, the log of an intent, a signed head."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

from tests.support.conversations import NOW, RSA_WITH_SHA256, certificate_request
from tests.support.journal_keys import JOURNAL_KEY, JOURNAL_PUBLIC_KEY

from cassiopeia.core import merkle, structure
from cassiopeia.core.request import CertificateRequest, request_digest
from cassiopeia.journal import entry, head

SIGNER_ID = 1
SIGNING_CA = "unassured_2026_2"
BOOT_ID = b"b" * 16
SALT = b"s" * entry.SALT_OCTETS

REQUESTED = entry.requested(certificate_request(), salt=SALT, tbs_certificate=b"tbs")
REASON = entry.Reason(salt=SALT, field="profile", message="There is no such profile.")
DOCUMENTS = entry.Documents(documents=(entry.Document(name="9004-unproved-server", octets=b"server = true\n"),))

# One body of each kind, every field with something in it.
BODIES: dict[str, Any] = {
    "key": entry.Key(public_key=JOURNAL_PUBLIC_KEY, signature=b"k" * 64),
    "epoch": entry.Epoch(number=2, public_key=JOURNAL_PUBLIC_KEY, head=b"head"),
    "start": entry.Start(boot_id=BOOT_ID, boot_seconds=60, configuration_hash=b"c" * 32, software_version="1.0"),
    "configuration": entry.Configuration(configuration_hash=b"c" * 32),
    "intent": entry.Intent(
        protocol=2,
        boot_id=BOOT_ID,
        request_id=certificate_request().request_id,
        request_digest=request_digest(certificate_request()),
        configuration_hash=b"c" * 32,
        profile="9004-unproved-server",
        signing_ca=SIGNING_CA,
        serial_number=b"\x01" + b"n" * 15,
        algorithm=RSA_WITH_SHA256,
    ),
    "confirmation": entry.Confirmation(intent=9, log_hash=b"l" * 32),
    "result": entry.Result(intent=9),
    "abandonment": entry.Abandonment(intent=9, code="unconfirmed"),
    "refusal": entry.Refusal(request_id=b"i" * 32, request_digest=b"d" * 32, code="unknown-profile"),
    "revocation": entry.Revocations(
        signing_ca=SIGNING_CA, request_id=b"i" * 32, request_digest=b"d" * 32, entries=(b"0\0", b"0\0")
    ),
    "crl": entry.SignedCrl(
        signing_ca=SIGNING_CA,
        number=8,
        this_update=NOW,
        next_update=NOW + dt.timedelta(days=10),
        entries=2,
        tbs_hash=b"t" * 32,
        algorithm=RSA_WITH_SHA256,
        answers=(b"i" * 32,),
    ),
    "halt": entry.Halt(code="clock"),
    "resume": entry.Resume(code="clock"),
    "clock": entry.ClockEpoch(machine_time=NOW, true_time=NOW + dt.timedelta(hours=1)),
    "order": entry.OrderObeyed(sequence=3, order=b"order"),
    "removal": entry.Removal(last=8, parts=2),
}
# The parts that belong to them, as far as parts have a structure (those of results and CRLs are signatures).
PARTS: dict[str, tuple[bytes, ...]] = {
    "intent": (structure.encode(REQUESTED),),
    "configuration": (structure.encode(DOCUMENTS),),
    "result": (b"a signature",),
    "crl": (b"a signature",),
    **dict.fromkeys(("abandonment", "refusal", "halt"), (structure.encode(REASON),)),
}


def journal_entry(kind: str = "intent", **changes: Any) -> entry.JournalEntry:
    """An entry of this kind with the parts that belong to it."""
    made = entry.JournalEntry(
        version=entry.VERSION,
        signer_id=SIGNER_ID,
        epoch=1,
        index=9,
        previous_hash=b"p" * 32,
        time=NOW,
        kind=kind,
        body=structure.encode(BODIES[kind]),
        parts=tuple(map(entry.part_hash, PARTS.get(kind, ()))),
    )
    return dataclasses.replace(made, **changes)


def log(kind: str = "intent", **changes: Any) -> bytes:
    """DER of an entry of this kind with its parts."""
    octets = structure.encode(journal_entry(kind, **changes))
    return entry.encode_log(entry.Log(entry=octets, parts=PARTS.get(kind, ())))


def intent_log(request: CertificateRequest, *, index: int, previous_hash: bytes, tbs_certificate: bytes) -> bytes:
    """DER of an intent's log for this request."""
    intent = dataclasses.replace(
        BODIES["intent"], request_id=request.request_id, request_digest=request_digest(request)
    )
    part = structure.encode(entry.requested(request, salt=SALT, tbs_certificate=tbs_certificate))
    made = journal_entry(
        index=index, previous_hash=previous_hash, body=structure.encode(intent), parts=(entry.part_hash(part),)
    )
    return entry.encode_log(entry.Log(entry=structure.encode(made), parts=(part,)))


def chain(kinds: Sequence[str]) -> list[bytes]:
    """The octets of entries of these kinds, each naming the hash of the one before."""
    octets: list[bytes] = []
    for index, kind in enumerate(kinds, start=1):
        previous_hash = merkle.leaf_hash(octets[-1]) if octets else entry.NO_ENTRY
        octets.append(structure.encode(journal_entry(kind, index=index, previous_hash=previous_hash)))
    return octets


def signed_head(entries: Sequence[bytes], **changes: Any) -> bytes:
    """A head over these entries, signed by the tests' journal key."""
    root_hash = merkle.frontier_of([merkle.leaf_hash(each) for each in entries]).root()
    made = head.JournalHead(signer_id=SIGNER_ID, epoch=1, size=len(entries), root_hash=root_hash, time=NOW)
    return head.sign_head(dataclasses.replace(made, **changes), JOURNAL_KEY)
