"""What a journal says of revocations and CRLs: who was revoked when, and what each signed CRL listed.

Holds the rules against the entries: revocations only grow, and only of certificates that were issued; CRL numbers only
rise (RFC 5280 5.2.3), and leave a gap wherever the journal was made again from a copy; every CRL is the one that its
octets, put together again, give. Part of `replay`. A list of 21,300 entries stays one string of octets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cassiopeia.core import algorithms, crl
from cassiopeia.core.authority import Authority
from cassiopeia.errors import PeerError, SignatureInvalid
from cassiopeia.journal import entry as entries
from cassiopeia.journal.certificates import SERIAL_OCTETS, Certificates
from cassiopeia.journal.entry import JournalEntry, Log
from cassiopeia.journal.readable import serial_text

NUMBERS_SKIPPED: Final = 1 << 16
"""A journal that was made again from a copy may have lost CRLs that went out: their numbers are never used again."""


def raise_floor(floor: int, newest: int, *, epochs: int = 1) -> int:
    """The one rule of CRL numbers and epochs: numbers of the new epoch are above this.

    `floor` is what this gave for the epoch before (0 for the first), `newest` the highest number of the sub-CA so far
    (0: none). `epochs` is by how much the number of the epoch rises: each that was lost may have had CRLs of its own.
    """
    return max(floor, newest) + epochs * NUMBERS_SKIPPED


@dataclass(kw_only=True, slots=True)
class RevocationList:
    """One sub-CA's revocations, `octets` as DER one behind the other, and its CRLs by number."""

    signing_ca: str
    octets: bytearray = field(default_factory=bytearray)
    ends: list[int] = field(default_factory=lambda: [0])  # octets taken by the first n entries
    floor: int = 0
    newest: entries.SignedCrl | None = None
    tbs_hashes: dict[int, bytes] = field(default_factory=dict)  # by CRL number
    indices: dict[int, int] = field(default_factory=dict)  # of the entries, by CRL number

    @property
    def revoked(self) -> int:
        return len(self.ends) - 1

    @property
    def number(self) -> int:
        """Of the newest CRL; 0 before the first."""
        return self.newest.number if self.newest else 0


class Crls:
    """Every revocation of a journal. Raises PeerError for the entry that cannot be."""

    def __init__(
        self, certificates: Certificates, find_authority: Callable[[str], Authority | None], *, deep: bool
    ) -> None:
        self._certificates = certificates
        self._find_authority = find_authority
        self._deep = deep
        self._lists: dict[str, RevocationList] = {}
        self._revoked: dict[bytes, int] = {}
        self._first_floor = 0
        self.unchecked_signatures = 0

    @property
    def lists(self) -> Mapping[str, RevocationList]:
        return self._lists

    def revoked_at(self, serial_number: bytes) -> int:
        """The entry that revoked this certificate; 0 while none has."""
        return self._revoked.get(serial_number, 0)

    def epoch(self, epochs: int) -> None:
        """The journal goes on from a copy here, and the number of its epoch rises by so many."""
        for each in self._lists.values():
            each.floor = raise_floor(each.floor, each.number, epochs=epochs)
        self._first_floor = raise_floor(self._first_floor, 0, epochs=epochs)

    def revocation(self, entry: JournalEntry, body: entries.Revocations) -> None:
        revocations = self._list(body.signing_ca)
        named = set()
        for octets in body.entries:
            numbers = list(crl.entry_serials(octets))
            if len(numbers) != 1:
                raise PeerError("these octets are not one entry of a CRL")
            serial = numbers[0].to_bytes(SERIAL_OCTETS, "big") if numbers[0] < 1 << 8 * SERIAL_OCTETS else b""
            issuance = self._certificates.find_serial(serial)
            if issuance is None or issuance.signing_ca != body.signing_ca or issuance.state != "issued":
                raise PeerError(
                    f"{body.signing_ca} never issued the certificate {serial_text(numbers[0])} that it revokes"
                )
            if serial in self._revoked:
                raise PeerError(f"{serial_text(numbers[0])} is revoked since entry {self._revoked[serial]}")
            self._revoked[serial] = entry.index
            named.add(serial)
            revocations.octets += octets
            revocations.ends.append(len(revocations.octets))
        for proof in body.proofs:
            if proof.serial_number not in named:
                shown = proof.serial_number.hex()[: 2 * SERIAL_OCTETS]
                raise PeerError(f"it proves that the key of {shown} is compromised, which it does not revoke")

    def crl(self, entry: JournalEntry, body: entries.SignedCrl, log: Log) -> None:
        revocations = self._list(body.signing_ca)
        newest = revocations.newest
        # 1. Numbers rise and revocations grow.
        floor = max(revocations.floor, revocations.number)
        if body.number <= floor:
            raise PeerError(f"the CRL number {body.number} of {body.signing_ca} is not above {floor}")
        if body.entries > revocations.revoked or (newest is not None and body.entries < newest.entries):
            raise PeerError(
                f"the CRL lists {body.entries} of {revocations.revoked} revocations,"
                f" the one before {newest.entries if newest else 0}"
            )
        # 2. The octets are those that were signed.
        (signature,) = log.parts
        authority = self._find_authority(body.signing_ca)
        if authority is None:
            self.unchecked_signatures += 1
        else:
            self._check_octets(revocations, authority, body, signature)
        revocations.newest = body
        revocations.tbs_hashes[body.number] = body.tbs_hash
        revocations.indices[body.number] = entry.index

    def check_crl(self, octets: bytes, *, signing_ca: str) -> int:
        """Return the index of the entry that signed this CRL (DER); raises PeerError when none of this journal did."""
        shown = crl.read_crl(octets)
        authority = self._find_authority(signing_ca)
        if authority is not None and shown.issuer != authority.subject:
            raise PeerError(f"the CRL is not that of {signing_ca}")
        revocations = self._list(signing_ca)
        index = revocations.indices.get(shown.number)
        if index is None:
            raise PeerError(f"the CRL number {shown.number} of {signing_ca} is not in this journal")
        if hashlib.sha256(shown.tbs).digest() != revocations.tbs_hashes[shown.number]:
            raise PeerError(f"the CRL number {shown.number} of {signing_ca} is another one than that of entry {index}")
        return index

    def _list(self, signing_ca: str) -> RevocationList:
        if signing_ca not in self._lists:
            self._lists[signing_ca] = RevocationList(signing_ca=signing_ca, floor=self._first_floor)
        return self._lists[signing_ca]

    def _check_octets(
        self, revocations: RevocationList, authority: Authority, body: entries.SignedCrl, signature: bytes
    ) -> None:
        tbs = _assemble(revocations, authority, body)
        if hashlib.sha256(tbs).digest() != body.tbs_hash:
            raise PeerError(f"the CRL that was signed is not the one that the revocations of {authority.name} give")
        if not self._deep:
            return
        if not signature:
            self.unchecked_signatures += 1
            return
        try:
            algorithms.verify(authority.public_key, algorithms.algorithm_from_der(body.algorithm), signature, tbs)
        except SignatureInvalid as error:
            raise PeerError(f"{authority.name} has not signed this CRL: {error}") from error


def _assemble(revocations: RevocationList, authority: Authority, body: entries.SignedCrl) -> bytes:
    return crl.assemble_tbs_crl(
        issuer=authority.subject,
        algorithm=algorithms.algorithm_from_der(body.algorithm),
        this_update=body.this_update,
        next_update=body.next_update,
        entries=bytes(revocations.octets[: revocations.ends[body.entries]]),
        crl_number=body.number,
        authority_key_identifier=authority.key_identifier,
    )
