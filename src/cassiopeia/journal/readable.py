"""What an entry says, for people: the same facts for a line on the screen and for the lines of an export.

Reads entries only, and decides nothing by them. What stands in a part is shown when the part is there.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cassiopeia.core import algorithms, crl, evidence
from cassiopeia.core.rules_document import RULES_DOCUMENT, read_rules_document
from cassiopeia.errors import PeerError
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.entry import JournalEntry
from cassiopeia.journal.order import explain, read_order

Facts = Mapping[str, str | int | list[str]]

_HASHES: Final = frozenset({"public_key", "configuration", "boot_id", "log_hash", "signature", "tbs_hash", "order"})
_SHOWN_DIGITS: Final = 16


def facts(entry: JournalEntry, body: Any, parts: tuple[bytes, ...]) -> Facts:
    """The entry's facts by name, the most telling first; raises PeerError for a part that is not what it should be."""
    part = parts[0] if parts else b""
    match body:
        case entries.Key():
            return {"public_key": fingerprint(body.public_key)}
        case entries.Epoch():
            said = heads.read_head(body.head).size if body.head else 0
            return {"number": body.number, "public_key": fingerprint(body.public_key), "copy_signed_up_to": said}
        case entries.Start():
            return {
                "software_version": body.software_version,
                "boot_id": body.boot_id.hex(),
                "boot_seconds": body.boot_seconds,
                "configuration": body.configuration_hash.hex(),
            }
        case entries.Configuration():
            documents = entries.decode_part(entries.Documents, part).documents if part else ()
            return {
                "configuration": body.configuration_hash.hex(),
                "signing": _signing(documents),
                "documents": [each.name for each in documents],
            }
        case entries.Intent():
            return _intent(body, part)
        case entries.Confirmation():
            return {"intent": body.intent, "log_hash": body.log_hash.hex()}
        case entries.Result():
            return {"intent": body.intent, "signature": entry.parts[0].hex()}
        case entries.Abandonment():
            return {"intent": body.intent, "code": body.code, **_reason(part)}
        case entries.Refusal():
            return {"code": body.code, **_reason(part), "request": body.request_id.hex()}
        case entries.Revocations():
            serials = [serial_text(serial) for each in body.entries for serial in crl.entry_serials(each)]
            return {
                "signing_ca": body.signing_ca,
                "serials": serials,
                "proved": [serial_text(int.from_bytes(each.serial_number, "big")) for each in body.proofs],
                "request": body.request_id.hex(),
            }
        case entries.SignedCrl():
            return {
                "signing_ca": body.signing_ca,
                "number": body.number,
                "entries": body.entries,
                "this_update": moment(body.this_update),
                "next_update": moment(body.next_update),
                "tbs_hash": body.tbs_hash.hex(),
                "answers": [each.hex() for each in body.answers],
            }
        case entries.Halt():
            return {"code": body.code, **_reason(part)}
        case entries.Resume():
            return {"code": body.code}
        case entries.ClockEpoch():
            return {"machine_time": moment(body.machine_time), "true_time": moment(body.true_time)}
        case entries.OrderObeyed():
            return _order(body)
        case entries.Removal():
            return {"last": body.last, "parts": body.parts}
    raise PeerError(f"nothing is known of the kind {entry.kind[:40]!a}")


def line(entry: JournalEntry, said: Facts) -> str:
    """One line: index, time, kind, then the facts; empty ones are left out, and hashes are shown by their beginning."""
    shown = " ".join(f"{name}={_value(name, value)}" for name, value in said.items() if value not in ("", [], 0))
    return f"{entry.index:>8} {moment(entry.time)} {entry.kind:<13} {shown}".rstrip()


def fingerprint(public_key: bytes) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, in hex: what people compare."""
    return entries.part_hash(public_key).hex()


def serial_text(serial: int) -> str:
    """A serial number as people write it: hexadecimal, whole octets."""
    return serial.to_bytes((serial.bit_length() + 7) // 8, "big").hex()


def moment(time: dt.datetime) -> str:
    return f"{time.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _signing(documents: Sequence[entries.Document]) -> list[str]:
    """By which library the sub-CAs sign, one phrase for all that have the same; none if the rules cannot be read."""
    found: dict[str, list[str]] = {}
    for document in documents:
        if document.name != RULES_DOCUMENT:
            continue
        try:
            uses = read_rules_document(document.octets).keys
        except PeerError:
            return []
        for each in uses:
            by = f"{each.backend} verified by {each.verify_with}" if each.verify_with else each.backend
            found.setdefault(by, []).append(each.authority)
    return [f"{by}: {' '.join(names)}" for by, names in found.items()]


def _intent(body: entries.Intent, part: bytes) -> Facts:
    told: dict[str, str | int | list[str]] = {
        "serial": body.serial_number.hex(),
        "signing_ca": body.signing_ca,
        "profile": body.profile,
        "request": body.request_id.hex(),
        "protocol": body.protocol,
        "algorithm": algorithms.algorithm_from_der(body.algorithm).name,
    }
    if part:
        asked = entries.decode_part(entries.Requested, part)
        told["account"] = asked.account
        names = [f"{each.type}={each.value}" for each in asked.attributes]
        told["names"] = names + [f"{each.type}={each.value}" for each in asked.alt_names]
        told["proofs"] = [_proof(each) for each in asked.proofs]
    return told


def _proof(octets: bytes) -> str:
    """What a proof says, whether it is true or not; lines of version 1 mean nothing here."""
    try:
        seen = evidence.read_observation(octets)
    except PeerError:
        pass
    else:
        return (
            f"{seen.kind} of {seen.value} for account {seen.account} by {seen.validator.hex()} ({seen.method},"
            f" {moment(seen.observed_at)})"
        )
    try:
        return f"attested by {evidence.read_attestation(octets).validator.hex()}"
    except PeerError:
        return f"{len(octets)} octets that are no proof"


def _order(body: entries.OrderObeyed) -> Facts:
    told: dict[str, str | int | list[str]] = {"sequence": body.sequence}
    try:
        order, arguments = read_order(body.order)
    except PeerError:
        told["action"] = "unknown to this release"
    else:
        told |= {"action": order.action, "says": explain(arguments), "reason": order.reason}
    return told | {"order": entries.part_hash(body.order).hex()}


def _reason(part: bytes) -> dict[str, str]:
    if not part:
        return {}
    reason = entries.decode_part(entries.Reason, part)
    return {"message": reason.message, "field": reason.field}


def _value(name: str, value: str | int | list[str]) -> str:
    text = ",".join(value) if isinstance(value, list) else str(value)
    if name in _HASHES:
        return f"{text[:_SHOWN_DIGITS]}..."
    return f'"{text}"' if " " in text else text
