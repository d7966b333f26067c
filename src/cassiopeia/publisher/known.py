"""What the publisher knows of each sub-CA: the certificates that were issued, and those that are revoked.

Comes from two sources, and both are verified: CRLs under the sub-CA's key, and the signers' journals (`journal`). What
either of them says is revoked is revoked. Nothing is ever forgotten, so that a store that was set back takes nothing
back.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cassiopeia.core import crl, der
from cassiopeia.core.authority import Authority
from cassiopeia.publisher.serials import SerialTable


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentCrl:
    """The newest CRL that verified."""

    number: int
    this_update: dt.datetime
    next_update: dt.datetime


class KnownCertificates:
    """Those of one sub-CA. One thread may learn while others ask."""

    def __init__(self) -> None:
        self.crl: CurrentCrl | None = None
        # Counts what was learned: whatever was said before may have changed when this has.
        self.changes = 0
        self._issued = SerialTable()
        self._revoked = SerialTable()
        self._entries: list[bytes] = []
        # How much of the CRL's entries was read, and the SHA-256 of that.
        self._read_octets = 0
        self._read_hash = hashlib.sha256().digest()

    @property
    def issued(self) -> int:
        """How many certificates the journal says that it has issued."""
        return len(self._issued)

    def was_issued(self, serial_number: int) -> bool:
        return self._issued.find(serial_number) is not None

    def revocation(self, serial_number: int) -> tuple[dt.datetime, int | None] | None:
        """When and why it was revoked; None if it was not."""
        place = self._revoked.find(serial_number)
        if place is None:
            return None
        [(revocation, date)] = crl.read_revocations(self._entries[place])
        return date, revocation.reason

    def learn_issued(self, issued: Iterable[tuple[int, int]]) -> None:
        """The journal says that certificates of these serial numbers exist, each in the entry of this index."""
        for serial_number, index in issued:
            self._issued.add(serial_number, index)
        self.changes += 1

    def learn_revoked(self, entries: bytes) -> None:
        """DER of CRL entries, one behind the other; raises PeerError when they are not."""
        start = 0
        for serial_number in crl.entry_serials(entries):
            _, _, end = der.read(entries, start)
            if self._revoked.find(serial_number) is None:
                self._entries.append(entries[start:end])
                self._revoked.add(serial_number, len(self._entries) - 1)
            start = end
        self.changes += 1

    def learn_crl(self, octets: bytes, *, authority: Authority) -> bool:
        """Take a CRL of this sub-CA that is newer than the one before; False for one that is not. Raises PeerError.

        Revocations only grow, and stand in the order in which they came: only what is new is read.
        """
        read = crl.check_crl(octets, authority=authority)
        if self.crl is not None and (read.number, read.this_update) <= (self.crl.number, self.crl.this_update):
            return False
        known = read.entries[: self._read_octets]
        start = self._read_octets if hashlib.sha256(known).digest() == self._read_hash else 0
        self.learn_revoked(read.entries[start:])
        self._read_octets, self._read_hash = len(read.entries), hashlib.sha256(read.entries).digest()
        self.crl = CurrentCrl(number=read.number, this_update=read.this_update, next_update=read.next_update)
        return True
