"""A lost journal is made again, from the client's copy of it: `cassiopeia signer rebuild`.

The copy is replayed and verified, taken over entry by entry, and closed by an entry of the kind `epoch`. Behind that
stands what the signer may have done after the copy's end, as far as the client knows it. That may be the work of whole
epochs: the signer was made again before, and lost again before the client had copied that. Their numbers are skipped.

1. A log that the client saved may have been signed. It counts as confirmed, so that a retry gives the same octets; a
   certificate that the client holds is the result. An intent whose log nobody saved was never signed: it is abandoned.
2. A revocation that the client's CRL lists, and the copy does not, stands.
3. CRL numbers go on far above all that may have gone out (`journal.crls.raise_floor`). Serial numbers are random.

The new file is built beside the old one, verified as a stranger would, and put into its place in one step.
"""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from cassiopeia import files
from cassiopeia.config import SignerConfig
from cassiopeia.core import crl, der, ed25519, merkle
from cassiopeia.errors import Inconsistent, OperatorError, PeerError, SignatureInvalid
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.certificates import SERIAL_OCTETS
from cassiopeia.journal.entry import JournalEntry, Log
from cassiopeia.journal.readable import moment, serial_text
from cassiopeia.journal.replay import Replay
from cassiopeia.journal.transcript import End, Item, SavedCrl, SavedLog
from cassiopeia.signer.journal import Journal
from cassiopeia.signer.journal_file import FILE_NAME
from cassiopeia.signer.journal_index import Intent
from cassiopeia.signer.journal_key import load_journal_key
from cassiopeia.signer.journal_reader import read_journal

_ENTRIES_A_COMMIT: Final = 5_000
_CODE: Final = "rebuilt"
_COMPANIONS: Final = ("-wal", "-shm", "-journal")


@dataclass(kw_only=True)
class Rebuilt:
    """What became of it: `copied` entries of the copy, `newest_head` that the signer is known to have had.

    `kept_aside` is the journal that was there before.
    """

    entries: int = 0
    copied: int = 0
    epoch: int = 0
    newest_head: int = 0
    confirmed: int = 0
    abandoned: int = 0
    taken_in: int = 0
    revoked: int = 0
    missing_parts: int = 0
    kept_aside: Path | None = None


def rebuild(
    config: SignerConfig, items: Iterable[Item], *, trusted: Collection[bytes], now: dt.datetime, replace: bool
) -> Rebuilt:
    """Make the journal of this signer from an export; raises OperatorError, and then nothing has changed.

    The export must end with a head signed by the key of signer.toml or by one of `trusted` (DER SubjectPublicKeyInfo).
    """
    path = config.state / FILE_NAME
    replaced = _check_place(path, replace=replace)
    key = load_journal_key(config.journal_key)
    with (
        _state_directory(config.state),
        tempfile.TemporaryDirectory(dir=config.state, prefix=".rebuild.", ignore_cleanup_errors=True) as name,
    ):
        building = Path(name)
        try:
            journal = Journal(building, signer_id=config.signer_id, key=key)
            try:
                run = _Rebuild(journal, own_key=ed25519.public_octets(key), replaced=replaced, now=now)
                done = run.run(items, trusted)
            finally:
                journal.close()
            _verify(building / FILE_NAME)
            done.kept_aside = _install(building / FILE_NAME, path, now=now)
        except PeerError as error:
            raise OperatorError(f"the journal cannot be made from this export: {error}") from error
    return done


class _Rebuild:
    """One run: what was read of the export, and the new journal as far as it is written.

    `replaced` is the epoch of the journal whose place it takes.
    """

    def __init__(self, journal: Journal, *, own_key: bytes, replaced: int, now: dt.datetime) -> None:
        self._journal = journal
        self._own_key = own_key
        self._replaced = replaced
        self._now = now
        self._replay = Replay()
        self._logs: list[SavedLog] = []
        self._crls: list[SavedCrl] = []
        self._end = End(head=b"")
        self._done = Rebuilt()

    def run(self, items: Iterable[Item], trusted: Collection[bytes]) -> Rebuilt:
        # 1. The copy, as it is.
        self._read(items)
        newest, lost_key = self._check_end(trusted)
        if self._replay.last_time is not None and self._now < self._replay.last_time:
            raise OperatorError(
                f"this machine's clock shows {moment(self._now)}, and the journal ends on "
                f"{moment(self._replay.last_time)}: set the clock first"
            )
        self._done.copied = self._replay.size
        # 2. From here on it is a new epoch, and this machine's clock.
        self._open_epoch(newest, lost_key)
        if self._journal.index.clock_offset_s():
            self._journal.record_clock(machine_time=self._now, true_time=self._now)
        # 3. What the copy lacks.
        self._settle_intents()
        for each in self._crls:
            self._restore_revocations(each)
        self._journal.commit()
        self._done.entries = self._journal.size
        self._done.epoch = self._journal.index.epoch()
        self._done.missing_parts = self._replay.missing_parts
        return self._done

    def _read(self, items: Iterable[Item]) -> None:
        for item in items:
            match item:
                case Log():
                    self._replay.append(item)
                    self._journal.append_copy(item.entry, item.parts)
                    if self._replay.size % _ENTRIES_A_COMMIT == 0:
                        self._journal.commit()
                case SavedLog():
                    self._logs.append(item)
                case SavedCrl():
                    self._crls.append(item)
                case End():
                    self._end = item
                case _:
                    pass  # the header says what the entries say
        self._replay.finish()

    def _check_end(self, trusted: Collection[bytes]) -> tuple[bytes, bytes]:
        """Whose journal it is; returns the newest signed head that is known.

        Behind it comes the key that has signed it, if the lost entries introduced that key and it is lost, too.
        """
        if not self._end.head:
            raise OperatorError("the export has no signed head: nothing says that it is this signer's journal")
        try:
            self._replay.check_head(self._end.head, {self._own_key, *trusted})
        except Inconsistent as error:
            raise OperatorError(
                f"the export's signed head is not trusted ({error}): if this signer's journal key was lost with its "
                "disk, name its public half, as the client has it, with --key"
            ) from error
        newest = self._end.newest or self._end.head
        said = heads.read_head(newest)
        signed_by = _signer_of(newest, (self._own_key, self._replay.keys[-1].public_key, *trusted))
        if said.signer_id != self._replay.signer_id or said.epoch < self._replay.epoch:
            raise PeerError("the newest signed head is one of another signer or epoch")
        if said.size <= self._replay.size:
            if said.epoch > self._replay.epoch:
                raise OperatorError(
                    f"the newest signed head of the export is one of epoch {said.epoch} over {said.size} entries, and "
                    f"its copy has {self._replay.size} of epoch {self._replay.epoch}: the signer was made again from "
                    "the copy in another store, which was shorter; export from that store"
                )
            self._replay.check_head(newest)
        self._done.newest_head = said.size
        is_lost = said.size > self._replay.size and signed_by not in {self._own_key, self._replay.keys[-1].public_key}
        return newest, signed_by if is_lost else b""

    def _open_epoch(self, newest: bytes, lost_key: bytes) -> None:
        """Begin an epoch whose number nobody has seen: neither the client, nor who made the journal that was here."""
        number = 1 + max(self._replay.epoch, heads.read_head(newest).epoch, self._replaced)
        self._journal.record_epoch(head=newest, number=number, public_key=lost_key, now=self._now)
        if lost_key:
            # Clients hold heads that it signed, so it has to be known; from here on it signs no more.
            self._journal.record_epoch(head=b"", now=self._now)

    # What the signer may have done behind the copy's end.

    def _settle_intents(self) -> None:
        # An intent that an epoch has written down again has two logs: the newest is that of the newest epoch.
        saved = sorted(map(_Saved.read, self._logs), key=_Saved.rank)
        by_serial = {each.body.serial_number: each for each in saved}
        # 1. Intents of the copy: what was saved may have been signed, the rest never was.
        newer = {each.body.request_id for each in saved if self._find(each.body.serial_number) is None}
        for issuance in self._replay.certificates:
            if issuance.state not in {"open", "confirmed"}:
                continue
            intent = self._journal.index.find_serial(issuance.serial_number)
            assert intent is not None  # noqa: S101 - it was appended from the copy
            found = by_serial.get(issuance.serial_number)
            # Version 1 saves no log that it could show later.
            may_be_signed = found is not None or issuance.protocol == 1
            if issuance.state == "open" and (not may_be_signed or issuance.request_id in newer):
                self._abandon(intent)
                continue
            if issuance.state == "open":
                log_hash = entries.part_hash(found.octets) if found else b""
                if found is not None and found.place != (issuance.epoch, issuance.index):
                    log_hash = intent.log_hash  # what was saved is the log that this was written down again from
                self._journal.record_confirmation(intent, log_hash=log_hash, now=self._now)
                self._done.confirmed += 1
            if found is not None and found.signature:
                self._journal.record_result(intent, signature=found.signature, now=self._now)
        # 2. Intents that came after the copy's end; of several for one request the newest is the one that lived.
        behind = sorted(
            (each for each in by_serial.values() if self._find(each.body.serial_number) is None), key=_Saved.rank
        )
        living = {each.body.request_id: each for each in behind}
        for lives in (False, True):
            for each in behind:
                if (living[each.body.request_id] is each) == lives:
                    self._take_in(each, lives=lives)

    def _take_in(self, saved: _Saved, *, lives: bool) -> None:
        """Write down again an intent whose entry was lost; its octets are the same, its place is another."""
        body, part = saved.body, entries.decode_part(entries.Requested, saved.part)
        intent = self._journal.record_intent(
            entries.as_request(part, request_id=body.request_id),
            request_id=body.request_id,
            request_digest=body.request_digest,
            protocol=body.protocol,
            boot_id=body.boot_id,
            configuration_hash=body.configuration_hash,
            signing_ca=body.signing_ca,
            serial_number=body.serial_number,
            algorithm=body.algorithm,
            tbs_certificate=part.tbs_certificate,
            now=self._now,
        )
        self._done.taken_in += 1
        if not lives:
            self._abandon(intent)
            return
        self._journal.record_confirmation(intent, log_hash=intent.log_hash, now=self._now)
        if saved.signature:
            self._journal.record_result(intent, signature=saved.signature, now=self._now)

    def _abandon(self, intent: Intent) -> None:
        self._journal.record_abandonment(
            intent, code=_CODE, reason="the journal was made again, and nobody has saved this log", now=self._now
        )
        self._done.abandoned += 1

    def _restore_revocations(self, saved: SavedCrl) -> None:
        """Revocations that the client's CRL lists, and the copy does not."""
        authority = self._replay.authorities.get(saved.signing_ca)
        if authority is None:
            raise PeerError(f"the export has a CRL of {saved.signing_ca}, which this signer never had")
        shown = crl.check_crl(saved.crl, authority=authority)
        revocations = self._replay.crls.lists.get(saved.signing_ca)
        known = bytes(revocations.octets) if revocations else b""
        if known.startswith(shown.entries):
            return
        if not shown.entries.startswith(known):
            raise PeerError(f"the client's CRL of {saved.signing_ca} is not one that this journal leads to")
        new = [octets for _, octets in der.elements(shown.entries[len(known) :], at_most=len(shown.entries))]
        for octets in new:
            (number,) = crl.entry_serials(octets)
            serial = number.to_bytes(SERIAL_OCTETS, "big") if number.bit_length() <= 8 * SERIAL_OCTETS else b""
            if self._journal.index.issued_by(serial) != saved.signing_ca:
                raise OperatorError(
                    f"the client's CRL of {saved.signing_ca} revokes {serial_text(number)}, and the export has no such "
                    "certificate: export again from the client's whole store"
                )
        self._journal.record_revocations(saved.signing_ca, new, now=self._now)
        self._done.revoked += len(new)

    def _find(self, serial_number: bytes) -> object | None:
        return self._replay.certificates.find_serial(serial_number)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Saved:
    """A log that the client saved: `octets` are what it confirmed, or would have."""

    octets: bytes
    signature: bytes
    entry: JournalEntry
    body: entries.Intent
    part: bytes

    @property
    def place(self) -> tuple[int, int]:
        return self.entry.epoch, self.entry.index

    def rank(self) -> tuple[bool, int, int]:
        """What has a certificate comes behind what has none, then by the order in which the signer wrote it."""
        return bool(self.signature), *self.place

    @classmethod
    def read(cls, saved: SavedLog) -> _Saved:
        log = entries.decode_log(saved.log)
        entry = entries.decode_entry(log.entry)
        if entry.kind != "intent" or not all(log.parts):
            raise PeerError("a saved log is not the whole log of an intent")
        return cls(
            octets=saved.log,
            signature=saved.signature,
            entry=entry,
            body=entries.decode_body(entry),
            part=log.parts[0],
        )


def _signer_of(head: bytes, keys: Iterable[bytes]) -> bytes:
    """Which of these keys has signed this head; raises PeerError when none has."""
    for key in keys:
        try:
            heads.verify_head(head, [key])
        except SignatureInvalid:
            continue
        return key
    raise PeerError("the newest signed head: no known journal key has signed this head")


def _check_place(path: Path, *, replace: bool) -> int:
    """Whether the journal may be put here: no signer runs, and nothing is lost that was not meant to be replaced.

    Returns the epoch of the journal that is here: its CRLs may have gone out, too. 0 for none that can be read.
    """
    if not path.exists():
        return 0
    if not replace:
        raise OperatorError(
            f"{path}: there is a journal already; if the client's copy is to take its place, say --replace (the old "
            "one is kept aside)"
        )
    try:
        # Read-only: what is kept aside stays as it was found, its write-ahead log too.
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=0)) as database:
            newest = database.execute("SELECT entry, hash FROM entry ORDER BY position DESC LIMIT 1").fetchone()
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise OperatorError(f"{path}: the signer is running on this journal; stop it first") from error
        return 0  # a journal that SQLite cannot read is one of the reasons to be here
    if newest is None or merkle.leaf_hash(newest[0]) != newest[1]:
        return 0
    try:
        return entries.decode_entry(newest[0]).epoch
    except PeerError as error:
        raise OperatorError(f"{path}: {error}: use the release of the software that wrote it") from error


@contextmanager
def _state_directory(directory: Path) -> Iterator[None]:
    """Make this directory, and take it away again after an error, unless it was there."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"{directory}: cannot make this directory: {error.strerror}") from error
    try:
        yield
    except BaseException:
        for each in missing:
            if not any(each.iterdir()):
                each.rmdir()
        raise


def _verify(path: Path) -> None:
    """What was written, read as a stranger would."""
    replay = Replay()
    for log in read_journal(path):
        replay.append(log)
    replay.finish(complete=True)


def _install(built: Path, path: Path, *, now: dt.datetime) -> Path | None:
    """Put the new journal into its place in one step; the one before is kept aside, with all that belongs to it."""
    aside = None
    if path.exists():
        aside = path.with_name(f"{path.name}.replaced-{now:%Y%m%dT%H%M%SZ}")
        # A write-ahead log that stays behind would be taken for that of the new journal: it goes first.
        for suffix in _COMPANIONS:
            companion = path.with_name(path.name + suffix)
            if companion.exists():
                companion.rename(aside.with_name(aside.name + suffix))
        os.link(path, aside)
    built.replace(path)
    files.sync_directory(path.parent)
    return aside
