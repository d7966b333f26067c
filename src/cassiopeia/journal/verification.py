"""`journal verify`: a replay, the signed heads, and then every certificate and CRL that came of the journal.

Keeps count of what was checked and a list of what is wrong, each with the entry where it shows. A journal that
contradicts itself ends the replay; certificates and CRLs are all looked at, whatever is wrong with one of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from cassiopeia.core import certificate, crl
from cassiopeia.errors import Inconsistent, PeerError
from cassiopeia.journal import head as heads
from cassiopeia.journal.certificates import SERIAL_OCTETS, Issuance
from cassiopeia.journal.findings import Findings
from cassiopeia.journal.head import JournalHead
from cassiopeia.journal.readable import serial_text
from cassiopeia.journal.replay import Replay


@dataclass(kw_only=True)
class Verification:
    """What was compared with a journal that was replayed. `ahead` are serial numbers that this copy cannot have yet."""

    replay: Replay
    ahead: Collection[bytes] = ()
    certificates: int = 0
    crls: int = 0
    not_ours: int = 0
    """Certificates and CRLs of other CAs than this signer's."""
    ahead_of_copy: int = 0
    findings: Findings = field(default_factory=Findings)
    is_behind: bool = False
    """Whether a newer head has shown that entries are missing at the end of this copy."""
    seen: set[bytes] = field(default_factory=set)
    revoked_ahead: set[bytes] = field(default_factory=set)
    """Serial numbers that CRLs list which are newer than this copy: show those before the certificates."""

    def __post_init__(self) -> None:
        self._subjects = {each.subject: name for name, each in self.replay.authorities.items()}

    def head(self, octets: bytes, keys: Collection[bytes] | None) -> JournalHead | None:
        """A signed head over entries that are here; returns what it says if it is right."""
        try:
            return self.replay.check_head(octets, keys)
        except Inconsistent as error:
            self.findings.add(error.index, error.reason)
            return None

    def newest(self, octets: bytes, keys: Collection[bytes] | None) -> JournalHead | None:
        """A signed head that may cover more than the entries that are here: then only its signature can be judged."""
        try:
            said = heads.read_head(octets)
            if said.size <= self.replay.size and said.epoch == self.replay.epoch:
                return self.head(octets, keys)
            newest = self.replay.keys[-1].public_key
            verified = heads.verify_head(octets, {newest, *(keys or ())})
        except PeerError as error:
            self.findings.add(0, f"the newest signed head: {error}")
            return None
        self.is_behind = True
        return verified

    def certificate(self, der: bytes, *, where: str, revoked: bool = False) -> None:
        """A certificate (DER) that somebody has; `revoked` says that he takes it for revoked."""
        try:
            tbs = certificate.read_tbs(certificate.split_certificate(der)[0])
            if tbs.issuer not in self._subjects:
                self.not_ours += 1
                return
            serial = _serial(tbs.serial_number)
            self.certificates += 1
            known = self.replay.certificates.find_serial(serial)
            if known is None and serial in self.ahead:
                self.ahead_of_copy += 1
                return
            if self.is_behind and known is not None and known.state in ("open", "confirmed"):
                # Its result is among the entries that this copy has not yet.
                self.replay.certificates.check_unfinished(der, known)
                self.ahead_of_copy += 1
                return
            issuance = self.replay.certificates.check_certificate(der)
        except PeerError as error:
            self.findings.add(0, f"{where}: {error}")
            return
        self.seen.add(serial)
        if revoked and not self.replay.crls.revoked_at(serial) and serial not in self.revoked_ahead:
            self.findings.add(
                issuance.ended, f"{where}: {serial_text(tbs.serial_number)} is revoked, and no entry says so"
            )

    def crl(self, der: bytes, *, where: str, may_be_ahead: bool = False) -> None:
        """A CRL (DER) that somebody has; `may_be_ahead` of the copy that was replayed."""
        try:
            shown = crl.read_crl(der)
            name = self._subjects.get(shown.issuer)
            if name is None:
                self.not_ours += 1
                return
            self.crls += 1
            known = self.replay.crls.lists.get(name)
            if may_be_ahead and shown.number > (known.number if known else 0):
                crl.check_crl(der, authority=self.replay.authorities[name])
                self.ahead_of_copy += 1
                self.revoked_ahead.update(map(_serial, crl.entry_serials(shown.entries)))
                return
            self.replay.crls.check_crl(der, signing_ca=name)
        except PeerError as error:
            self.findings.add(0, f"{where}: {error}")

    def unseen(self) -> tuple[Issuance, ...]:
        """Certificates that the journal issued and `certificate` was not shown."""
        return tuple(
            each for each in self.replay.certificates if each.state == "issued" and each.serial_number not in self.seen
        )


def _serial(number: int) -> bytes:
    octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return octets.rjust(SERIAL_OCTETS, b"\0")
