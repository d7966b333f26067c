"""Takes certificates and revocations that a journal has, and the store has lost, into the store again.

As after a restore of an older database: the client copies the journal anew, but nothing asks it for certificates whose
requests are lost as well. Only what a trusted signed head covers is taken. Each certificate is verified under its
sub-CA's certificate, as `authorities.toml` has it, else as the journal's configuration has it. What the store says is
never overwritten (`store.recovery`); what contradicts it is told.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from cassiopeia.core import certificate, crl, csr, structure
from cassiopeia.core.authority import Authority
from cassiopeia.core.request import CertificateRequest
from cassiopeia.errors import OperatorError, PeerError, Refused
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.certificates import Issuance
from cassiopeia.journal.entry import JournalEntry, Log
from cassiopeia.journal.readable import serial_text
from cassiopeia.journal.replay import Replay
from cassiopeia.journal.transcript import End, Item
from cassiopeia.store import recovery
from cassiopeia.store.database import Store
from cassiopeia.store.recovery import PastIssuance, PastRevocation, Recovery

_AT_ONCE: Final = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """The journal to recover from, given as often as it is asked for, and the keys that are trusted to sign it.

    `items` gives all there is, each entry after the replay has taken it; `logs` gives the entries alone.
    """

    items: Callable[[Replay], Iterator[Item]]
    logs: Callable[[], Iterator[Log]]
    keys: Collection[bytes]


@dataclass(kw_only=True)
class Recovered:
    """What was found and done. `problems` says what could not be taken in, one sentence each."""

    signer_id: int = 0
    entries: int = 0
    covered: int = 0
    """Entries that the newest signed head over them covers; what is behind it was left alone."""
    ahead: int = 0
    """Entries that the signer has signed and that are not here."""
    known: int = 0
    """Certificates of the journal that the store had."""
    outcomes: Counter[Recovery] = field(default_factory=Counter)
    recovered_revoked: int = 0
    newly_revoked: int = 0
    """Certificates that the store had, and did not take for revoked."""
    alone: list[str] = field(default_factory=list)
    """Serial numbers of certificates that were taken in without a request."""
    bare: list[str] = field(default_factory=list)
    """Serial numbers of certificates whose octets are not in this journal: removed by age, or never copied."""
    problems: list[str] = field(default_factory=list)

    @property
    def taken(self) -> int:
        return sum(self.outcomes[each] for each in (Recovery.RECOVERED, Recovery.COMPLETED, Recovery.ALONE))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Intended:
    entry: JournalEntry
    body: entries.Intent
    log: Log


def recover(store: Store, material: Material, authorities: Mapping[str, Authority], *, now: dt.datetime) -> Recovered:
    """Bring the store up to the journal; may be repeated. Raises OperatorError, or Inconsistent for a wrong journal."""
    done = Recovered()
    # 1. The journal, which must be right and trusted; only its signatures are left for later.
    replay, revocations = _replay(material, done)
    authorities = {**replay.authorities, **authorities}
    _add_published(store, authorities, revocations, done)
    # 2. What of it the store lacks.
    missing = _missing(store, replay, done)
    # 3. Those certificates, from their intents and results.
    past: list[PastIssuance] = []
    for intended, result, signature in _signed(material, missing, done):
        try:
            each = _compose(intended, result, signature, authorities, revocations)
        except PeerError as error:
            done.problems.append(f"{_serial(intended.body)}: it cannot be taken in: {error}")
            continue
        past.append(each)
        if len(past) >= _AT_ONCE:
            _put(store, past, done, now=now)
            past = []
    if past:
        _put(store, past, done, now=now)
    # 4. Who was revoked since.
    done.newly_revoked = recovery.put_revocations(store.database, revocations.values())
    return done


_Key = tuple[str, str]  # of a certificate: its sub-CA's name, its serial number as text


def _replay(material: Material, done: Recovered) -> tuple[Replay, dict[_Key, PastRevocation]]:
    replay = Replay(deep=False)
    listed: list[tuple[int, entries.Revocations]] = []
    end = End(head=b"")
    for item in material.items(replay):
        if isinstance(item, Log):
            entry = structure.decode(JournalEntry, item.entry)
            if entry.kind == "revocation":
                listed.append((entry.index, entries.decode_body(entry)))
        elif isinstance(item, End):
            end = item
    if not end.head:
        raise OperatorError(
            "there is no signed head over this journal yet: start the client, which copies one, and try again"
        )
    done.signer_id, done.entries = replay.signer_id, replay.size
    done.covered = replay.check_head(end.head, material.keys).size
    newest = heads.read_head(end.newest).size if end.newest else 0
    done.ahead = max(0, newest - replay.size)
    revocations: dict[_Key, PastRevocation] = {}
    for index, body in listed:
        if index <= done.covered:
            _add_revocations(revocations, body.signing_ca, b"".join(body.entries))
    return replay, revocations


def _add_published(
    store: Store, authorities: Mapping[str, Authority], revocations: dict[_Key, PastRevocation], done: Recovered
) -> None:
    """The store's CRLs, which may be newer than the journal that is read."""
    for header in store.crls.headers():
        record, authority = store.crls.get(header.authority), authorities.get(header.authority)
        if record is None or authority is None:
            continue  # of another signer, and no business of this journal
        try:
            _add_revocations(revocations, authority.name, crl.check_crl(record.der, authority=authority).entries)
        except PeerError as error:
            done.problems.append(f"the store's CRL of {authority.name} is not believed: {error}")


def _add_revocations(revocations: dict[_Key, PastRevocation], signing_ca: str, octets: bytes) -> None:
    for said, date in crl.read_revocations(octets):
        serial = serial_text(said.serial_number)
        revocations.setdefault(
            (signing_ca, serial),
            PastRevocation(
                authority=signing_ca,
                serial_number=serial,
                revoked_at=date,
                reason=said.reason,
                invalidity_date=said.invalidity_date,
            ),
        )


def _missing(store: Store, replay: Replay, done: Recovered) -> dict[int, Issuance]:
    """By the index of the intent: certificates that exist, and that the store has not."""
    found: set[bytes] = set()
    for stored in recovery.stored_certificates(store.database):
        issuance = replay.certificates.find_serial(bytes.fromhex(stored.serial_number))
        if issuance is None or issuance.state != "issued" or issuance.signing_ca != stored.authority:
            continue  # of another signer, or newer than what was read
        found.add(issuance.serial_number)
        try:
            shown = replay.certificates.check_certificate(stored.der)
        except PeerError as error:
            done.problems.append(f"{stored.serial_number}: the store has something else: {error}")
            continue
        if shown is not issuance:
            done.problems.append(f"{stored.serial_number}: the store has another certificate under this number")
    done.known = len(found)
    return {
        each.index: each
        for each in replay.certificates
        if each.state == "issued" and each.ended <= done.covered and each.serial_number not in found
    }


def _signed(
    material: Material, missing: Mapping[int, Issuance], done: Recovered
) -> Iterator[tuple[_Intended, JournalEntry, bytes]]:
    """Each of these certificates, in the order of the journal: its intent, its result and its signature."""
    held: dict[int, _Intended] = {}
    for log in material.logs() if missing else ():
        entry = structure.decode(JournalEntry, log.entry)
        if entry.index > done.covered:
            break
        if entry.kind == "intent" and entry.index in missing:
            held[entry.index] = _Intended(entry=entry, body=entries.decode_body(entry), log=log)
        elif entry.kind == "result":
            body: entries.Result = entries.decode_body(entry)
            (signature,) = log.parts
            intended = held.get(body.intent)
            if intended is not None and signature and intended.log.parts[0]:
                del held[body.intent]
                yield intended, entry, signature
    for intended in held.values():
        done.bare.append(_serial(intended.body))


def _compose(
    intended: _Intended,
    result: JournalEntry,
    signature: bytes,
    authorities: Mapping[str, Authority],
    revocations: Mapping[_Key, PastRevocation],
) -> PastIssuance:
    """The certificate, verified, and what belongs to it; raises PeerError."""
    entry, body = intended.entry, intended.body
    octets = entries.encode_log(intended.log)
    entries.check_parts(entry, intended.log.parts)
    part = entries.decode_part(entries.Requested, intended.log.parts[0])
    authority = authorities.get(body.signing_ca)
    if authority is None:
        raise PeerError(f"the sub-CA {body.signing_ca} is not known here: add its certificate to authorities.toml")
    der = certificate.compose_certificate(part.tbs_certificate, signature)
    checked = certificate.check_existing(der, authority=authority)
    if checked.serial_number != int.from_bytes(body.serial_number, "big"):
        raise PeerError("the certificate has another serial number than the journal says")
    return PastIssuance(
        signer_id=entry.signer_id,
        request=_as_kept(entries.as_request(part, request_id=body.request_id)),
        digest=body.request_digest,
        log=octets,
        log_hash=entries.part_hash(octets),
        authority=body.signing_ca,
        serial_number=checked.serial_number,
        certificate=der,
        subject=checked.subject,
        not_before=checked.not_before,
        not_after=checked.not_after,
        requested_at=entry.time,
        issued_at=result.time,
        revocation=revocations.get((body.signing_ca, serial_text(checked.serial_number))),
    )


def _as_kept(request: CertificateRequest) -> CertificateRequest:
    """As the store keeps requests: over version 1 the key came as text."""
    try:
        return replace(request, key_proof=csr.to_der(request.key_proof, request.key_kind))
    except Refused:
        return request  # its certificate exists all the same


def _put(store: Store, past: list[PastIssuance], done: Recovered, *, now: dt.datetime) -> None:
    outcomes = recovery.put_certificates(store.database, past, now=now)
    for each, outcome in zip(past, outcomes, strict=True):
        done.outcomes[outcome] += 1
        serial = serial_text(each.serial_number)
        if outcome is Recovery.ALONE:
            done.alone.append(serial)
        if outcome is Recovery.CONFLICT:
            done.problems.append(f"{serial}: the store has another certificate of {each.authority} with this number")
        elif outcome is not Recovery.KNOWN:
            done.recovered_revoked += each.revocation is not None


def _serial(body: entries.Intent) -> str:
    return serial_text(int.from_bytes(body.serial_number, "big"))
