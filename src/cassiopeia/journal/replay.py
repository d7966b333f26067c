"""Replay: reads a journal from its first entry to its last and checks everything that it can be held to.

`Replay.append` takes entry after entry and raises `Inconsistent`, with the entry's index, for what must not be: a gap,
a wrong hash, another signer, a time that falls, a serial number used twice, a signature that does not verify. What it
gathers on the way (certificates, revocation lists, keys, the hash tree) is what `verify`, `prove` and a rebuild ask
it for. Parts may be missing, because they were removed or are not in this copy; then what depends on them is counted as
not checked. Trusts nobody: whose keys sign this journal is asked at the end (`check_head`).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from cassiopeia.core import ed25519, merkle
from cassiopeia.core.authority import Authority
from cassiopeia.errors import Inconsistent, PeerError, SignatureInvalid
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.certificates import Certificates
from cassiopeia.journal.crls import Crls
from cassiopeia.journal.documents import read_authorities
from cassiopeia.journal.entry import LOST_PAST, SIGNATURE_HALT, JournalEntry, Log
from cassiopeia.journal.judging import Judging
from cassiopeia.journal.tree import Tree

_SIGNER_IDS: Final = range(1, 128)
_PARTS: Final = {"configuration": 1, "intent": 1, "result": 1, "abandonment": 1, "refusal": 1, "crl": 1, "halt": 1}


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyPeriod:
    """A key that signs heads from the entry `first` on: introduced by the key before it, or (`chained` False) not."""

    first: int
    epoch: int
    public_key: bytes
    chained: bool


class Replay:
    """One journal, as far as it was read. Without `deep`, signatures of certificates and CRLs are not verified.

    With `judge`, every intent's request and its proofs are judged anew (`judging`); that ends nothing.
    """

    def __init__(self, *, deep: bool = True, judge: bool = False) -> None:
        self.signer_id = 0
        self.epoch = 1
        self.last_hash = entries.NO_ENTRY
        self.last_time: dt.datetime | None = None
        self.started: dt.datetime | None = None
        self.keys: list[KeyPeriod] = []
        self.kinds: Counter[str] = Counter()
        self.halts: dict[str, int] = {}
        self.tree = Tree()
        self.configuration_hash = b""
        self.order_sequence = 0
        self.missing_parts = 0
        self._newest_missing_part = 0
        self._explained_to = 0
        self._authorities: dict[str, Authority] = {}
        self._time_may_fall = False
        self._settling = False
        self.certificates = Certificates(self._authorities.get, deep=deep)
        self.crls = Crls(self.certificates, self._authorities.get, deep=deep)
        self.judging = Judging(self._authorities.get) if judge else None
        # One line for each kind; what a kind may not do stands where it goes.
        self._take: dict[str, Callable[[JournalEntry, Any, Log], None]] = {
            "key": self._key,
            "epoch": self._epoch,
            "start": self._start,
            "configuration": self._configuration,
            "intent": self._intent,
            "confirmation": lambda entry, body, _log: self.certificates.confirmation(entry, body),
            "result": self._result,
            "abandonment": lambda entry, body, _log: self.certificates.abandonment(entry, body),
            "refusal": lambda _entry, _body, _log: None,
            "revocation": lambda entry, body, _log: self.crls.revocation(entry, body),
            "crl": self.crls.crl,
            "halt": self._halt,
            "resume": self._resume,
            "clock": lambda _entry, _body, _log: None,
            "order": self._order,
            "removal": self._removal,
        }

    @property
    def size(self) -> int:
        return self.tree.size

    @property
    def unchecked_signatures(self) -> int:
        """Signatures that could not be verified, because what that takes is not in this copy."""
        return self.certificates.unchecked_signatures + self.crls.unchecked_signatures

    @property
    def authorities(self) -> dict[str, Authority]:
        """Every sub-CA whose certificate a configuration of this journal held."""
        return dict(self._authorities)

    def append(self, log: Log) -> tuple[JournalEntry, Any]:
        """Take the next entry with its parts; return what it says. Raises Inconsistent: then nothing more is taken."""
        index = self.size + 1
        try:
            entry = entries.decode_entry(log.entry)
            self._check_place(entry, index)
            _check_parts(entry, log)
            body = entries.decode_body(entry)
            self._take[entry.kind](entry, body, log)
        except Inconsistent as error:
            raise Inconsistent(error.index or index, error.reason) from error
        except PeerError as error:
            raise Inconsistent(index, str(error)) from error
        self._count(entry, log)
        return entry, body

    def finish(self, *, complete: bool = False) -> None:
        """Check what only the end shows; `complete` says that every part that was not removed has to be there."""
        if complete and self._newest_missing_part > self._explained_to:
            raise Inconsistent(self._newest_missing_part, "a part is missing, and no entry says that it was removed")

    def check_head(self, octets: bytes, keys: Collection[bytes] | None = None) -> heads.JournalHead:
        """Read a signed head that this journal has grown from, or into; raises Inconsistent.

        It must be signed by the key that was in force, and that key must be one of `keys`, or follow from one of them
        by entries of the kind `key`. None trusts whatever key the journal names.
        """
        try:
            said = heads.read_head(octets)
        except PeerError as error:
            raise Inconsistent(0, f"the signed head cannot be read: {error}") from error
        # 1. It is of this journal, and not newer.
        if said.signer_id != self.signer_id:
            raise Inconsistent(0, f"the signed head is that of signer {said.signer_id}, not {self.signer_id}")
        if not 0 < said.size <= self.size:
            raise Inconsistent(
                0,
                f"the signed head covers {said.size} entries, and this journal has {self.size}: the rest is missing"
                if said.size
                else "the signed head covers no entry",
            )
        # 2. By the key in force, which is trusted.
        period = self._period(said.size)
        try:
            heads.verify_head(octets, [period.public_key])
        except SignatureInvalid as error:
            raise Inconsistent(
                said.size, f"the signed head over {said.size} entries is not signed by the journal key of that time"
            ) from error
        if keys is not None:
            self._check_trust(said.size, keys)
        # 3. Over these very entries.
        if said.epoch != period.epoch:
            raise Inconsistent(
                0, f"the signed head over {said.size} entries names epoch {said.epoch}, which is another"
            )
        if said.root_hash != self.tree.root_at(said.size):
            raise Inconsistent(0, f"the signed head over {said.size} entries is that of another journal")
        return said

    def key_at(self, size: int) -> bytes:
        """What signs a head over so many entries: DER SubjectPublicKeyInfo."""
        return self._period(size).public_key

    def prove(self, index: int, size: int) -> tuple[bytes, ...]:
        """The inclusion path of this entry in the tree over the first `size` entries."""
        return self.tree.path(index - 1, size)

    def _check_place(self, entry: JournalEntry, index: int) -> None:
        if entry.index != index:
            raise PeerError(f"this entry says that it is entry {entry.index}: the journal has a gap")
        if entry.previous_hash != self.last_hash:
            raise PeerError(f"it does not follow entry {index - 1}: the hash of the entry before is another one")
        if index == 1:
            if entry.kind != "key":
                raise PeerError("the first entry is not a journal key")
            if entry.signer_id not in _SIGNER_IDS:
                raise PeerError(f"{entry.signer_id} is not the number of a signer")
            self.signer_id, self.started = entry.signer_id, entry.time
        if entry.signer_id != self.signer_id:
            raise PeerError(f"this is an entry of signer {entry.signer_id}, not {self.signer_id}")
        entries.check_epoch(entry, self.epoch)
        # Operators may turn the clock back: that is what an entry of the kind `clock` says.
        may_fall = self._time_may_fall or entry.kind == "clock"
        if self.last_time is not None and entry.time < self.last_time and not may_fall:
            raise PeerError(f"its time, {entry.time:%Y-%m-%d %H:%M:%S}Z, is before that of the entry before it")

    def _count(self, entry: JournalEntry, log: Log) -> None:
        self.kinds[entry.kind] += 1
        self.last_time = entry.time
        self._time_may_fall = entry.kind == "clock"
        self.last_hash = merkle.leaf_hash(log.entry)
        self.tree.append(self.last_hash)
        missing = sum(not octets for octets in log.parts)
        if missing:
            self.missing_parts += missing
            self._newest_missing_part = entry.index

    def _key(self, entry: JournalEntry, body: entries.Key, _log: Log) -> None:
        statement = entries.key_statement(
            signer_id=entry.signer_id,
            index=entry.index,
            previous_hash=entry.previous_hash,
            public_key=body.public_key,
        )
        signer = self.keys[-1].public_key if self.keys else body.public_key
        try:
            ed25519.verify(signer, body.signature, heads.KEY_TAG + statement)
        except SignatureInvalid as error:
            raise PeerError("the new journal key is not signed by the one before it") from error
        self.keys.append(
            KeyPeriod(first=entry.index, epoch=self.epoch, public_key=body.public_key, chained=bool(self.keys))
        )

    def _epoch(self, entry: JournalEntry, body: entries.Epoch, _log: Log) -> None:
        if body.number != entry.epoch:
            raise PeerError(f"it opens epoch {body.number}, not {entry.epoch}")
        ed25519.load_public_key(body.public_key)
        if body.head:
            self._check_last_head(body)
        self.crls.epoch(entry.epoch - self.epoch)
        self.epoch = entry.epoch
        self.keys.append(KeyPeriod(first=entry.index, epoch=self.epoch, public_key=body.public_key, chained=False))
        self._settling = True
        self.halts.pop(LOST_PAST, None)
        # Parts that the copy did not have are gone for good.
        self._explained_to = entry.index

    def _check_last_head(self, body: entries.Epoch) -> None:
        """The newest head of the time before: what it covers is here, or was lost and is known to be."""
        said = heads.read_head(body.head)
        if said.size <= self.size and said.epoch <= self.epoch:
            self.check_head(body.head)
            return
        # The lost entries may have introduced another key, with which the signer goes on.
        heads.verify_head(body.head, [self.keys[-1].public_key, body.public_key])
        if said.signer_id != self.signer_id or not self.epoch <= said.epoch < body.number:
            raise PeerError("the head that it ends with is that of another signer or epoch")
        # An epoch that was lost whole began behind the same copy.
        if said.size <= self.size:
            raise PeerError("the head that it ends with is that of a journal which went on from fewer entries")

    def _configuration(self, _entry: JournalEntry, body: entries.Configuration, log: Log) -> None:
        self.configuration_hash = body.configuration_hash
        (part,) = log.parts
        documents = entries.decode_part(entries.Documents, part) if part else None
        if documents is not None:
            self._authorities.update(read_authorities(documents, signer_id=self.signer_id))
        if self.judging is not None:
            self.judging.configuration(documents)

    def _start(self, _entry: JournalEntry, _body: entries.Start, _log: Log) -> None:
        self._settling = False

    def _intent(self, entry: JournalEntry, body: entries.Intent, log: Log) -> None:
        # Between an epoch's begin and the signer's start, what the copy lacked is written down again: nothing of that
        # is decided then.
        if self._settling:
            self.certificates.intent(entry, body, log)
            if self.judging is not None:
                self.judging.not_decided()
            return
        for code, index in self.halts.items():
            if not code.startswith(SIGNATURE_HALT):
                raise PeerError(f"nothing may be issued: {code} since entry {index}")
        self._check_trusted(body.signing_ca)
        if body.configuration_hash != self.configuration_hash:
            raise PeerError("it was judged by another configuration than the newest of this journal")
        self.certificates.intent(entry, body, log)
        if self.judging is not None:
            self.judging.intent(entry, body, log.parts[0])

    def _result(self, entry: JournalEntry, body: entries.Result, log: Log) -> None:
        issuance = self.certificates.result(entry, body, log)
        # What another epoch writes down again was released before.
        if not self._settling:
            self._check_trusted(issuance.signing_ca)

    def _check_trusted(self, signing_ca: str) -> None:
        index = self.halts.get(SIGNATURE_HALT + signing_ca)
        if index is not None:
            raise PeerError(f"{signing_ca} may issue nothing: a signature of it was wrong at entry {index}")

    def _halt(self, entry: JournalEntry, body: entries.Halt, _log: Log) -> None:
        self.halts[body.code] = entry.index

    def _resume(self, _entry: JournalEntry, body: entries.Resume, _log: Log) -> None:
        if self.halts.pop(body.code, None) is None:
            raise PeerError(f"{body.code[:40]!a} has not halted this signer")

    def _order(self, entry: JournalEntry, body: entries.OrderObeyed, _log: Log) -> None:
        if body.sequence <= self.order_sequence:
            raise PeerError(f"the order {body.sequence} comes after the order {self.order_sequence}")
        self.order_sequence = body.sequence
        if self.judging is not None:
            self.judging.order(entry, body)

    def _removal(self, entry: JournalEntry, body: entries.Removal, _log: Log) -> None:
        if body.last >= entry.index:
            raise PeerError(f"it says that parts of entry {body.last} were removed, which was still to come")
        self._explained_to = max(self._explained_to, body.last)

    def _period(self, size: int) -> KeyPeriod:
        """Which key signs a head over so many entries."""
        # Entries that introduce a key are the first that it signs for.
        return next(each for each in reversed(self.keys) if each.first <= size)

    def _check_trust(self, size: int, keys: Collection[bytes]) -> None:
        # The keys in force until then, back to the last one that no key before it vouches for.
        followed = [each for each in self.keys if each.first <= size]
        root = max(each.first for each in followed if not each.chained)
        if not any(each.public_key in keys for each in followed if each.first >= root):
            raise Inconsistent(
                root, "the journal key that is introduced here is none of those that are trusted, and follows from none"
            )


def _check_parts(entry: JournalEntry, log: Log) -> None:
    entries.check_parts(entry, log.parts)
    expected = _PARTS.get(entry.kind, 0)
    if len(entry.parts) != expected:
        raise PeerError(f"{entry.kind} has {expected} parts, not {len(entry.parts)}")
