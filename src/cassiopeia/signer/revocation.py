"""The signer's CRLs: which serial numbers are revoked, what is signed next, and what each client still lacks.

One `RevocationList` a sub-CA. Entries are kept as DER, one behind the other in journal order, so that a CRL of 21,300
entries is assembled by joining octets. Revocations only grow and CRL numbers only rise (RFC 5280 5.2.3).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cassiopeia.core import algorithms, crl
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.authority import Authority
from cassiopeia.core.compromise import KEY_COMPROMISE, CompromiseClaim
from cassiopeia.core.crl_size import RESPONDERS
from cassiopeia.core.request import Revocation
from cassiopeia.errors import Refused
from cassiopeia.signer.journal import CrlRecord, Journal
from cassiopeia.signer.journal_index import SERIAL_OCTETS

_log = logging.getLogger(__name__)

# Each takes its certificate along to a worker: thousands would hold much memory, and keep a worker busy.
MAXIMUM_PROOFS: Final = 100
# So long after a sub-CA has ended to issue it may still do so, if the operators set the clock back.
_CLOCK_TRUST: Final = dt.timedelta(days=7)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A CRL that waits for its signature."""

    number: int
    this_update: dt.datetime
    next_update: dt.datetime
    entries: int
    algorithm: SignatureAlgorithm
    tbs: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Revoked:
    """How many certificates were revoked just now, and how many of those asked for there was no room for.

    `proved` are the serial numbers of those that were revoked by a proof of their own key, which needs no room.
    """

    taken: int
    left: int
    proved: tuple[bytes, ...] = ()


class RevocationList:
    """The CRL of one sub-CA, over its whole life."""

    def __init__(self, authority: Authority, journal: Journal, *, lifetime: dt.timedelta) -> None:
        self._journal = journal
        self.follow(authority, lifetime=lifetime)
        self._entries = bytearray()
        self._ends = array("L", [0])  # octets taken by the first n entries
        for entry in journal.index.revocation_entries(authority.name):
            self._extend(entry)
        self.current = journal.index.crl(authority.name)
        self._floor = journal.index.crl_floor(authority.name)

    def follow(self, authority: Authority, *, lifetime: dt.timedelta) -> None:
        """This is what the sub-CA is like from now on; its name and key are those that it had."""
        self.authority = authority
        self._room = authority.crl_room
        self._lifetime = lifetime
        self._algorithm = algorithms.choose_algorithm(authority.public_key, "", pss=authority.pss)

    @property
    def revoked(self) -> int:
        """How many certificates of this sub-CA are revoked."""
        return len(self._ends) - 1

    def holds_another(self, issued: int) -> bool:
        """Whether the list, if everything were revoked, has room for one certificate more than these.

        Invalidity dates may have taken it, where operators let a sub-CA issue more, or again, behind them.
        """
        return self._room.holds(self._ends[-1], to_come=issued + 1 - self.revoked)

    @property
    def is_behind(self) -> bool:
        """Whether a new CRL is due whatever the time: there is none yet in this epoch, or it lacks revocations."""
        return self.current is None or self.current.number <= self._floor or self.current.entries < self.revoked

    def revoke(
        self,
        revocations: tuple[Revocation, ...],
        *,
        request_id: bytes = b"",
        request_digest: bytes = b"",
        proofs: Mapping[bytes, bytes] | None = None,
        at_most: int | None = None,
        now: dt.datetime,
    ) -> Revoked:
        """Journal what is new, but no more than `at_most`; the first date and reason of a serial number stand.

        `proofs` are those that a worker has verified, by serial number: these come beyond `at_most`.

        Where the CRL would have no room left for a certificate that may still be revoked, an entry goes without its
        invalidity date, and the log says so: the answer's entries show it.

        A request with an id is journaled even if it changes nothing, so that a retry gets the same answer; one of which
        something is left is not answered yet, and its id is not journaled.

        Raises `Refused`, whose field is the serial number in hexadecimal, for the first one that this sub-CA never
        issued, or of which it is said what no CRL can say; then nothing of all this is journaled.
        """
        new: dict[bytes, bytes] = {}
        dated: dict[bytes, Revocation] = {}
        for revocation in revocations:
            serial_number = self._issued_serial(revocation.serial_number)
            if serial_number not in new and not self._journal.index.is_revoked(serial_number):
                new[serial_number] = _encode(revocation, now)
                if revocation.invalidity_date is not None:
                    dated[serial_number] = revocation
        proved = {serial_number: proof for serial_number, proof in (proofs or {}).items() if serial_number in new}
        others = [serial_number for serial_number in new if serial_number not in proved][:at_most]
        chosen = {*others, *proved}
        taken = self._fit({number: entry for number, entry in new.items() if number in chosen}, dated, now=now)
        left = len(new) - len(taken)
        if taken or (not left and revocations and self._is_unknown(request_id)):
            self._journal.record_revocations(
                self.authority.name,
                taken,
                request_id=b"" if left else request_id,
                request_digest=b"" if left else request_digest,
                proofs=proved,
                now=now,
            )
            for entry in taken:
                self._extend(entry)
        return Revoked(taken=len(taken), left=left, proved=tuple(proved))

    def claims(self, revocations: tuple[Revocation, ...]) -> tuple[CompromiseClaim, ...]:
        """The proofs that have to be verified, for certificates that are not revoked yet.

        Where retention has removed the certificate's key nothing can be verified: that is a revocation as any other.
        Raises `Refused` as `revoke` does, and for a proof that comes with another reason than keyCompromise.
        """
        if sum(each.proof is not None for each in revocations) > MAXIMUM_PROOFS:
            raise Refused(
                f"A message has at most {MAXIMUM_PROOFS} proofs of compromised keys; send the others in another.",
                code="request-too-large",
                field="proof",
            )
        claims = {}
        for revocation in revocations:
            if revocation.proof is None:
                continue
            number = f"{revocation.serial_number:x}"
            if revocation.reason != KEY_COMPROMISE:
                raise Refused(
                    f"serial number {number}: a proof of the compromised key goes with the reason keyCompromise",
                    code="proof-reason",
                    field=number,
                )
            serial_number = self._issued_serial(revocation.serial_number)
            intent = self._journal.index.find_serial(serial_number)
            if intent is not None and intent.tbs_certificate and not self._journal.index.is_revoked(serial_number):
                claims[serial_number] = CompromiseClaim(
                    serial_number=serial_number, tbs_certificate=intent.tbs_certificate, proof=revocation.proof
                )
        return tuple(claims.values())

    def draft(self, *, now: dt.datetime) -> Draft:
        """The next CRL, to be signed."""
        number = max(self.current.number if self.current else 0, self._floor) + 1
        next_update = now + self._lifetime
        tbs = self._assemble(
            number=number,
            this_update=now,
            next_update=next_update,
            entries=self.revoked,
            algorithm=self._algorithm,
        )
        return Draft(
            number=number,
            this_update=now,
            next_update=next_update,
            entries=self.revoked,
            algorithm=self._algorithm,
            tbs=tbs,
        )

    def complete(self, draft: Draft, signature: bytes, *, answers: Sequence[bytes] = (), now: dt.datetime) -> CrlRecord:
        """Journal the signed CRL as the current one; it answers the revocation requests of these ids."""
        record = CrlRecord(
            signing_ca=self.authority.name,
            number=draft.number,
            this_update=draft.this_update,
            next_update=draft.next_update,
            entries=draft.entries,
            tbs_hash=hashlib.sha256(draft.tbs).digest(),
            algorithm=draft.algorithm.der,
            signature=signature,
        )
        self._journal.record_crl(record, answers=answers, now=now)
        self.current = record
        return record

    def entries_since(self, number: int, tbs_hash: bytes, record: CrlRecord) -> bytes:
        """DER of the entries that `record` has and the client's CRL lacks.

        A client that names a CRL which we did not sign gets none: its patched CRL will not verify, and it asks for the
        full one.
        """
        known = self._journal.index.crl(self.authority.name, number) if number else None
        first = record.entries if number else 0
        if known is not None and known.tbs_hash == tbs_hash:
            first = known.entries
        return bytes(self._entries[self._ends[first] : self._ends[record.entries]])

    def full(self) -> bytes | None:
        """DER of the current CRL, made again from its parts; None before the first.

        After the journal was made again from a copy, the last signature may be lost: then the next CRL is the first.
        """
        if self.current is None or not self.current.signature:
            return None
        tbs = self._assemble(
            number=self.current.number,
            this_update=self.current.this_update,
            next_update=self.current.next_update,
            entries=self.current.entries,
            algorithm=algorithms.algorithm_from_der(self.current.algorithm),
        )
        return crl.compose_crl(tbs, self.current.signature)

    def _assemble(
        self,
        *,
        number: int,
        this_update: dt.datetime,
        next_update: dt.datetime,
        entries: int,
        algorithm: SignatureAlgorithm,
    ) -> bytes:
        return crl.assemble_tbs_crl(
            issuer=self.authority.subject,
            algorithm=algorithm,
            this_update=this_update,
            next_update=next_update,
            entries=bytes(memoryview(self._entries)[: self._ends[entries]]),
            crl_number=number,
            authority_key_identifier=self.authority.key_identifier,
        )

    def _fit(
        self, entries: Mapping[bytes, bytes], dated: Mapping[bytes, Revocation], *, now: dt.datetime
    ) -> list[bytes]:
        """The entries as they are revoked: without invalidity dates that the CRL has no room for."""
        if dated.keys().isdisjoint(entries):
            return list(entries.values())
        room, octets, to_come = self._room, self._ends[-1], self._to_come(now)
        fitting, undated = [], []
        for serial_number, entry in entries.items():
            to_come -= 1
            revocation, fits = dated.get(serial_number), entry
            if revocation is not None and not room.holds(octets + len(entry), to_come=to_come):
                fits = _encode(replace(revocation, invalidity_date=None), now)
                undated.append(f"{revocation.serial_number:x}")
            fitting.append(fits)
            octets += len(fits)
        if undated:
            _log.warning(
                "CRL of %s: %d %s revoked without the invalidity date, because the list has to keep room for every "
                "certificate that may still be revoked: %s",
                self.authority.name,
                len(undated),
                "certificate is" if len(undated) == 1 else "certificates are",
                ", ".join(undated),
            )
        return fitting

    def _to_come(self, now: dt.datetime) -> int:
        """How many certificates may still be revoked at most: those that are there, and those that may yet come."""
        used = self._journal.index.used_counts().get(self.authority.name, 0)
        over = self.authority.retired or now >= self.authority.issues_until + _CLOCK_TRUST
        issued = used if over else max(used, self.authority.maximum_certificates)
        return issued + RESPONDERS - self.revoked

    def _is_unknown(self, request_id: bytes) -> bool:
        """Whether this is the id of a request that the journal does not know yet."""
        return bool(request_id) and self._journal.index.find_revocation(request_id) is None

    def _issued_serial(self, number: int) -> bytes:
        octets = number.to_bytes(SERIAL_OCTETS, "big") if 0 < number < 1 << (8 * SERIAL_OCTETS) else b""
        if self._journal.index.issued_by(octets) != self.authority.name:
            raise Refused(
                f"{self.authority.name} never issued a certificate with serial number {number:x}",
                code="unknown-serial",
                field=f"{number:x}",
            )
        return octets

    def _extend(self, entry: bytes) -> None:
        self._entries += entry
        self._ends.append(len(self._entries))


def _encode(revocation: Revocation, date: dt.datetime) -> bytes:
    try:
        return crl.encode_revocation(revocation, date)
    except Refused as refusal:
        # One message revokes many: what counts is which one of them is at fault.
        number = f"{revocation.serial_number:x}"
        raise Refused(f"serial number {number}: {refusal.message}", code=refusal.code, field=number) from refusal
