"""The signer's one durable store: an append-only journal in SQLite, its hash tree, and its signed heads.

SQLite with WAL and `synchronous=FULL` (PRAGMA synchronous: each commit is on the disk when it returns). Entries are
appended in the order in which things happen and are never changed; what they look like is in `cassiopeia.journal`.
The tables of `journal_index` answer questions quickly and are made from the entries.

Several appends share one commit: `record_...` opens a transaction, `commit` waits for the disk. Nothing may leave
the signer before the commit of what it rests on, and heads are signed for committed entries alone. A commit that fails
leaves the state of the disk unknown: `StateUnknown`, and the process ends (fsync(2): after an error, what was written
may be lost, and a second fsync may lie).
"""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cassiopeia.core import ed25519, merkle, structure
from cassiopeia.core.request import CertificateRequest
from cassiopeia.errors import InternalError, OperatorError, PeerError, SignatureInvalid, StateUnknown
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.entry import JournalEntry
from cassiopeia.journal.head import JournalHead
from cassiopeia.signer import journal_file, journal_index
from cassiopeia.signer.journal_index import CrlRecord, Intent, IntentState, JournalIndex

__all__ = ["CrlRecord", "Intent", "IntentState", "Journal"]

# Roots of complete subtrees from this level up are kept: 64 leaves are hashed again quickly.
_KEPT_LEVEL: Final = 6
_ROWS_AT_ONCE: Final = 1_000
_REMOVED_AT_ONCE: Final = 5_000


class Journal:
    """The open journal of one signer. One process writes it; a second one is refused.

    Opening proves it: SQLite's own check of the file, every hash of the chain and of the parts that are there, and that
    the newest key is `key`. A journal that `is_new` takes nothing before `begin`.
    """

    def __init__(self, directory: Path, *, signer_id: int, key: Ed25519PrivateKey) -> None:
        self._signer_id = signer_id
        self._key = key
        self._public_key = ed25519.public_octets(key)
        self._path = directory / journal_file.FILE_NAME
        self._in_transaction = False
        self._failed = False
        self._waiting: list[Callable[[], None]] = []
        self.commits = 0
        self._database = journal_file.open_database(self._path)
        self._epoch = 1
        self._removed = 0
        self._position = 0
        self._head = entries.NO_ENTRY
        self._last_time = dt.datetime.min.replace(tzinfo=dt.UTC)
        self._frontier = merkle.Frontier()
        self.index = JournalIndex(self._execute)
        try:
            self._take_stock()
            self._check_key()
        except BaseException:
            self._database.close()
            raise
        self._epoch = self.index.epoch()
        self._durable: JournalHead = self._describe()
        self._signed: bytes | None = None

    @property
    def is_new(self) -> bool:
        return not self._position

    @property
    def next_position(self) -> int:
        """Index of the entry that will be appended next, counted from 1."""
        return self._position + 1

    @property
    def size(self) -> int:
        """How many entries are on the disk."""
        return self._durable.size

    @property
    def head(self) -> bytes:
        """Hash of the newest entry and, through it, of all before."""
        return self._head

    @property
    def last_time(self) -> dt.datetime:
        """When the newest entry was written. Times of entries never fall."""
        return self._last_time

    @property
    def first_time(self) -> dt.datetime:
        """When the first entry was written; there is one once the journal has begun."""
        ((octets,),) = self._execute("SELECT entry FROM entry WHERE position = 1")
        return entries.decode_entry(octets).time

    @property
    def dirty(self) -> bool:
        """Whether something was appended, or waits for, a commit."""
        return self._in_transaction or bool(self._waiting)

    def close(self) -> None:
        self._database.close()

    def begin(self, *, now: dt.datetime) -> None:
        """Write the first entry of a new journal: its key, signed by itself."""
        self.record_key(self._key, now=now)
        self.commit()

    def when_durable(self, callback: Callable[[], None]) -> None:
        """Call this after the commit of all that was appended so far."""
        self._waiting.append(callback)

    def commit(self) -> None:
        """Wait for the disk, then let go what waited for it."""
        self._check_state()
        if self._in_transaction:
            self._execute("COMMIT")
            self._in_transaction = False
            self.commits += 1
            self._durable, self._signed = self._describe(), None
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()

    def signed_head(self) -> bytes:
        """The head of all that is on the disk, signed by the journal's key: DER, the same until the next commit."""
        if self._signed is None:
            self._signed = heads.sign_head(self._durable, self._key)
        return self._signed

    def sign(self, octets: bytes) -> bytes:
        """Ed25519 signature of the journal's key; `octets` begin with a tag of their own."""
        return self._key.sign(octets)

    def root_at(self, size: int) -> bytes:
        """Root over the first `size` entries (RFC 9162 2.1.1)."""
        if not 0 <= size <= self._position:
            raise InternalError(f"the journal has {self._position} entries, not {size}")
        roots, start = [], 0
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                roots.append(self._subtree(level, start >> level))
                start += 1 << level
        return merkle.Frontier(size, roots).root()

    def contains(self, head: JournalHead) -> bool:
        """Whether this journal begins with all that the head was signed for."""
        return head.size <= self._position and self.root_at(head.size) == head.root_hash

    def outlived(self, head: JournalHead) -> bool:
        """Whether this head is of an earlier epoch, and no newer than the one with which that epoch is known to end.

        The copy that the next epoch began with may have been some entries shorter, or have had nothing of this epoch:
        those entries are lost, and known to be. A head over the copied entries alone is contained, or it is one of
        another journal. Where a later epoch was lost whole, nobody knows how far the one before it went.
        """
        position = self.index.epoch_end(head.epoch)
        if position is None:
            return False
        ((octets,),) = self._execute("SELECT entry FROM entry WHERE position = ?", (position,))
        ended: entries.Epoch = entries.decode_body(entries.decode_entry(octets))
        if not ended.head:
            return False
        newest = heads.read_head(ended.head)
        return head.epoch == newest.epoch and position <= head.size <= newest.size

    def own_head(self, octets: bytes) -> JournalHead:
        """Read a signed head of this signer; raises PeerError when none of its keys has signed it."""
        try:
            head = heads.verify_head(octets, self.index.public_keys())
        except SignatureInvalid as error:
            raise PeerError(f"the client presents a journal head that is not this signer's: {error}") from error
        if head.signer_id != self._signer_id:
            raise PeerError(f"the client presents a journal head of signer {head.signer_id}")
        return head

    def entries(
        self, first: int, at_most: int, *, bare: Collection[int] = ()
    ) -> Iterator[tuple[int, bytes, tuple[bytes, ...]]]:
        """Entries on the disk from `first` on: index, octets, parts (empty where removed).

        Those of `bare` have one part each, which is left empty, too.
        """
        last = min(self.size, first + at_most - 1)
        for position, octets in self._execute(
            "SELECT position, entry FROM entry WHERE position BETWEEN ? AND ? ORDER BY position", (first, last)
        ):
            if position in bare:
                yield position, octets, (b"",)
                continue
            count = len(entries.decode_entry(octets).parts)
            parts: dict[int, bytes] = {}
            if count:
                parts = dict(self._execute("SELECT ordinal, octets FROM part WHERE position = ?", (position,)))
            yield position, octets, tuple(parts.get(ordinal, b"") for ordinal in range(count))

    # What the signer did.

    def record_start(
        self, *, now: dt.datetime, boot_id: bytes, boot_seconds: int, configuration_hash: bytes, software_version: str
    ) -> None:
        self._append(
            entries.Start(
                boot_id=boot_id,
                boot_seconds=boot_seconds,
                configuration_hash=configuration_hash,
                software_version=software_version,
            ),
            now=now,
        )

    def record_configuration(
        self, configuration_hash: bytes, documents: Sequence[tuple[str, bytes]], *, now: dt.datetime
    ) -> None:
        """What requests are judged by from now on, word for word."""
        part = entries.Documents(documents=tuple(entries.Document(name=name, octets=each) for name, each in documents))
        body = entries.Configuration(configuration_hash=configuration_hash)
        self._append(body, structure.encode(part), now=now)

    def record_intent(
        self,
        request: CertificateRequest,
        *,
        request_id: bytes,
        request_digest: bytes,
        protocol: int,
        boot_id: bytes,
        configuration_hash: bytes,
        signing_ca: str,
        serial_number: bytes,
        algorithm: bytes,
        tbs_certificate: bytes,
        now: dt.datetime,
    ) -> Intent:
        """The certificate that will be made once its log is safe."""
        body = entries.Intent(
            protocol=protocol,
            boot_id=boot_id,
            request_id=request_id,
            request_digest=request_digest,
            configuration_hash=configuration_hash,
            profile=request.profile or request.ocsp_target_ca,
            signing_ca=signing_ca,
            serial_number=serial_number,
            algorithm=algorithm,
        )
        salt = os.urandom(entries.SALT_OCTETS)
        part = structure.encode(entries.requested(request, salt=salt, tbs_certificate=tbs_certificate))
        octets = self._append(body, part, now=now)
        log = entries.encode_log(entries.Log(entry=octets, parts=(part,)))
        return Intent(
            position=self._position,
            serial_number=serial_number,
            signing_ca=signing_ca,
            request_id=request_id,
            request_digest=request_digest,
            log=log,
            log_hash=entries.part_hash(log),
            tbs_certificate=tbs_certificate,
            algorithm=algorithm,
            state="intent",
        )

    def record_confirmation(self, intent: Intent, *, log_hash: bytes, now: dt.datetime) -> None:
        """The client has saved the log (version 1: says so, and `log_hash` is empty): the key may be used."""
        self._append(entries.Confirmation(intent=intent.position, log_hash=log_hash), now=now)

    def record_result(self, intent: Intent, *, signature: bytes, now: dt.datetime) -> int:
        """The certificate exists. Returns the index of the entry."""
        self._append(entries.Result(intent=intent.position), signature, now=now)
        return self._position

    def record_abandonment(self, intent: Intent, *, code: str, reason: str, now: dt.datetime) -> int:
        """The intent is over without a certificate: its serial number is burned. Returns the index of the entry."""
        self._append(entries.Abandonment(intent=intent.position, code=code), _reason("", reason), now=now)
        return self._position

    def record_refusal(
        self,
        *,
        request_id: bytes,
        request_digest: bytes,
        code: str,
        field: str,
        message: str,
        exposes: tuple[bytes, ...] = (),
        now: dt.datetime,
    ) -> None:
        body = entries.Refusal(request_id=request_id, request_digest=request_digest, code=code, exposes=exposes)
        self._append(body, _reason(field, message), now=now)

    def record_revocations(
        self,
        signing_ca: str,
        new: Sequence[bytes],
        *,
        request_id: bytes = b"",
        request_digest: bytes = b"",
        proofs: Mapping[bytes, bytes] | None = None,
        now: dt.datetime,
    ) -> None:
        """CRL entries (DER), in the order in which the CRL will list them; none, for a request that changes nothing.

        `proofs` are the signatures of those whose keys have said that they are compromised, by serial number.
        """
        self._append(
            entries.Revocations(
                signing_ca=signing_ca,
                request_id=request_id,
                request_digest=request_digest,
                entries=tuple(new),
                proofs=tuple(
                    entries.CompromiseProof(serial_number=serial_number, signature=signature)
                    for serial_number, signature in (proofs or {}).items()
                ),
            ),
            now=now,
        )

    def record_crl(self, crl: CrlRecord, *, answers: Sequence[bytes] = (), now: dt.datetime) -> None:
        """A CRL was signed, which answers the revocation requests with these ids."""
        self._append(
            entries.SignedCrl(
                signing_ca=crl.signing_ca,
                number=crl.number,
                this_update=crl.this_update,
                next_update=crl.next_update,
                entries=crl.entries,
                tbs_hash=crl.tbs_hash,
                algorithm=crl.algorithm,
                answers=tuple(answers),
            ),
            crl.signature,
            now=now,
        )

    def record_halt(self, code: str, reason: str, *, now: dt.datetime) -> None:
        """The signer issues nothing until `record_resume` with this code."""
        self._append(entries.Halt(code=code), _reason("", reason), now=now)

    def halt_reason(self, position: int) -> str:
        """What the halt at this entry says; empty when that was removed."""
        ((_, _, parts),) = self.entries(position, 1)
        return entries.decode_part(entries.Reason, parts[0]).message if parts[0] else ""

    def record_resume(self, code: str, *, now: dt.datetime) -> None:
        self._append(entries.Resume(code=code), now=now)

    def record_clock(self, *, machine_time: dt.datetime, true_time: dt.datetime) -> None:
        """Operators have said what the time is; it is the time of this entry."""
        self._append(entries.ClockEpoch(machine_time=machine_time, true_time=true_time), now=true_time, may_fall=True)

    def record_order(self, sequence: int, order: bytes, *, now: dt.datetime) -> int:
        """An order was obeyed. Returns the index of the entry."""
        self._append(entries.OrderObeyed(sequence=sequence, order=order), now=now)
        return self._position

    def record_key(self, new: Ed25519PrivateKey, *, now: dt.datetime) -> None:
        """From the next commit on, heads are signed with this key; the one before vouches for it."""
        if self.size:
            self.signed_head()  # of what is on the disk: that is still the old key's to sign
        public_key = ed25519.public_octets(new)
        statement = heads.KEY_TAG + entries.key_statement(
            signer_id=self._signer_id, index=self.next_position, previous_hash=self._head, public_key=public_key
        )
        self._append(entries.Key(public_key=public_key, signature=self._key.sign(statement)), now=now)
        self._key, self._public_key = new, public_key

    def record_epoch(self, *, head: bytes, now: dt.datetime, number: int = 0, public_key: bytes = b"") -> None:
        """The journal was made again from a copy that came with this signed head (empty: none).

        It is the epoch `number`, or the next. `public_key` is another than the journal's own only where another epoch
        follows at once: for heads that were signed with a key that is lost.
        """
        number = number or self._epoch + 1
        body = entries.Epoch(number=number, public_key=public_key or self._public_key, head=head)
        self._append(body, now=now, epoch=number)
        self._epoch = number

    def append_copy(self, octets: bytes, parts: Sequence[bytes]) -> None:
        """Append an entry of a copy, as it is; raises PeerError when it does not follow the entry before it."""
        entry = entries.decode_entry(octets)
        entries.check_parts(entry, tuple(parts))
        if entry.signer_id != self._signer_id:
            raise PeerError(
                f"entry {entry.index} of the copy is one of signer {entry.signer_id}, not {self._signer_id}"
            )
        if (entry.index, entry.previous_hash) != (self.next_position, self._head):
            raise PeerError(f"entry {entry.index} of the copy does not follow entry {self._position}")
        self._write(entry, octets, parts)
        self._epoch = entry.epoch

    def remove_parts(self, *, before: dt.datetime, now: dt.datetime) -> int:
        """Remove what is about persons from entries older than that, some thousands at a time; return how many parts.

        Signatures, CRLs and configurations stay: they name nobody that a CRL or a CA certificate does not name.
        """
        self._removed = max(self._removed, self.index.removed_up_to())
        first = self._removed + 1
        last = min(self._last_before(before), first + _REMOVED_AT_ONCE - 1)
        removed = 0
        if last >= first:
            for position, octets in self._execute(
                "SELECT position, entry FROM entry WHERE position BETWEEN ? AND ?", (first, last)
            ):
                if entries.decode_entry(octets).kind in entries.PERSONAL_KINDS:
                    self._begin_transaction()
                    removed += len(self._execute("DELETE FROM part WHERE position = ? RETURNING 1", (position,)))
                    self.index.forget_account(position)
            self._removed = last
        if removed:
            self._append(entries.Removal(last=last, parts=removed), now=now)
        return removed

    def growth_since(self, moment: dt.datetime) -> int:
        """By how many octets the file has grown since then, about: all that an entry takes is the mean of them all."""
        ((pages,),), ((page_octets,),) = self._execute("PRAGMA page_count"), self._execute("PRAGMA page_size")
        return int(pages * page_octets * (self.size - self._last_before(moment)) // max(1, self.size))

    def _last_before(self, moment: dt.datetime) -> int:
        """Index of the newest entry that is older; times only rise, but for a correction of the clock."""
        low, high = 0, self.size
        while low < high:
            middle = (low + high + 1) // 2
            ((octets,),) = self._execute("SELECT entry FROM entry WHERE position = ?", (middle,))
            if entries.decode_entry(octets).time < moment:
                low = middle
            else:
                high = middle - 1
        return low

    # Opening.

    def _take_stock(self) -> None:
        """Check every hash, and make derived tables anew where they are missing or of another release."""
        ((version,),) = self._execute("PRAGMA user_version")
        stale = version != journal_index.INDEX_VERSION
        self._begin_transaction()
        if stale:
            self.index.make_anew()
        try:
            for entry, leaf, part in self._checked_entries():
                self._add_leaf(entry, leaf)
                if stale:
                    self.index.add(entry, entries.decode_body(entry), part)
            self._check_no_stray_parts()
        except (sqlite3.DatabaseError, PeerError) as error:
            raise journal_file.damaged(self._path, str(error)) from error
        self._execute("COMMIT")
        self._in_transaction = False
        if stale:
            self._execute(f"PRAGMA user_version = {journal_index.INDEX_VERSION}")

    def _checked_entries(self) -> Iterator[tuple[JournalEntry, bytes, bytes]]:
        """Every entry with its hash and its first part, if that is there; a look at the other parts, too.

        Raises PeerError for one that is not what was written.

        Whoever takes an entry appends it before it asks for the next.
        """
        rows = self._database.execute(
            "SELECT entry.position, entry, hash, ordinal, octets FROM entry LEFT JOIN part USING (position)"
            " ORDER BY entry.position, ordinal"
        )
        newest = None
        while chunk := rows.fetchmany(_ROWS_AT_ONCE):
            for position, octets, leaf, ordinal, part in chunk:
                is_next = position != newest
                if is_next:
                    entry, newest = self._checked(position, octets, leaf), position
                    named = dict(enumerate(entry.parts))
                if part is not None and named.get(ordinal) != entries.part_hash(part):
                    raise PeerError(f"a part of entry {position} is not the one that was written")
                if is_next:
                    yield entry, leaf, part if ordinal == 0 else b""

    def _checked(self, position: int, octets: bytes, leaf: bytes) -> JournalEntry:
        try:
            entry = entries.decode_entry(octets)
        except PeerError as error:
            raise PeerError(f"entry {position}: {error}") from error
        follows = (entry.index, entry.previous_hash) == (position, self._head) and position == self._position + 1
        if not follows or merkle.leaf_hash(octets) != leaf:
            raise PeerError(f"entry {position} is not the one that was written")
        if entry.signer_id != self._signer_id:
            raise OperatorError(
                f"{self._path}: this is the journal of signer {entry.signer_id}, not of signer {self._signer_id}: "
                "set [signer] id or state in signer.toml right"
            )
        return entry

    def _check_no_stray_parts(self) -> None:
        if self._execute("SELECT 1 FROM part WHERE position NOT BETWEEN 1 AND ? LIMIT 1", (self._position,)):
            raise PeerError("there are parts of entries that it does not have")

    def _check_key(self) -> None:
        if self._position and self.index.public_keys()[-1:] != [self._public_key]:
            raise OperatorError(
                f"{self._path}: the journal key of signer.toml is not the one that signed this journal last: put the "
                "right key file back, or change keys with `cassiopeia journal rotate-key`"
            )

    # Appending.

    def _append(
        self, body: Any, *parts: bytes, now: dt.datetime, epoch: int | None = None, may_fall: bool = False
    ) -> bytes:
        """Append an entry that says this; return its octets."""
        entry = JournalEntry(
            version=entries.VERSION,
            signer_id=self._signer_id,
            epoch=self._epoch if epoch is None else epoch,
            index=self.next_position,
            previous_hash=self._head,
            time=now if may_fall else max(now, self._last_time),
            kind=entries.KINDS[type(body)],
            body=structure.encode(body),
            parts=tuple(entries.part_hash(each) for each in parts),
        )
        octets = structure.encode(entry)
        self._write(entry, octets, parts, body)
        return octets

    def _write(self, entry: JournalEntry, octets: bytes, parts: Sequence[bytes], body: Any = None) -> None:
        self._begin_transaction()
        leaf = merkle.leaf_hash(octets)
        self._execute("INSERT INTO entry VALUES (?, ?, ?)", (entry.index, octets, leaf))
        for ordinal, part in enumerate(parts):
            if part:
                self._execute("INSERT INTO part VALUES (?, ?, ?)", (entry.index, ordinal, part))
        self._add_leaf(entry, leaf)
        self.index.add(entry, body if body is not None else entries.decode_body(entry), parts[0] if parts else b"")

    def _add_leaf(self, entry: JournalEntry, leaf: bytes) -> None:
        for level, number, root in self._frontier.append(leaf):
            if level >= _KEPT_LEVEL:
                self._execute(
                    "INSERT INTO subtree VALUES (?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET hash = excluded.hash WHERE hash <> excluded.hash",
                    (level, number, root),
                )
        self._position, self._head, self._last_time = entry.index, leaf, entry.time

    def _subtree(self, level: int, number: int) -> bytes:
        if level >= _KEPT_LEVEL:
            ((root,),) = self._execute("SELECT hash FROM subtree WHERE level = ? AND number = ?", (level, number))
            return bytes(root)
        first = (number << level) + 1
        leaves = self._execute(
            "SELECT hash FROM entry WHERE position BETWEEN ? AND ? ORDER BY position", (first, first + (1 << level) - 1)
        )
        return merkle.frontier_of([leaf for (leaf,) in leaves]).root()

    def _describe(self) -> JournalHead:
        return JournalHead(
            signer_id=self._signer_id,
            epoch=self._epoch,
            size=self._position,
            root_hash=self._frontier.root(),
            time=self._last_time,
        )

    def _begin_transaction(self) -> None:
        if not self._in_transaction:
            self._execute("BEGIN IMMEDIATE")
            self._in_transaction = True

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        self._check_state()
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            self._failed = True
            raise StateUnknown(
                f"{self._path}: the journal has failed ({error}): is the disk full (see `df`), or broken? Nothing that "
                "was let out is lost; mend that and start the signer again"
            ) from error

    def _check_state(self) -> None:
        if self._failed:
            raise StateUnknown("the journal has failed before: what is on the disk shows at the next start")


def _reason(field: str, message: str) -> bytes:
    return structure.encode(entries.Reason(salt=os.urandom(entries.SALT_OCTETS), field=field, message=message))
