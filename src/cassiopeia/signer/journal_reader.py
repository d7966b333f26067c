"""The journal of a signer that stands still, read and never written: for `cassiopeia journal` and for backups."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cassiopeia.errors import OperatorError, PeerError
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.entry import Log
from cassiopeia.journal.head import JournalHead
from cassiopeia.journal.replay import Replay
from cassiopeia.journal.transcript import End, Header, Item
from cassiopeia.signer.journal_file import FILE_NAME

_ROWS_AT_ONCE: Final = 1_000


@contextmanager
def open_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """The journal's database, which nothing can change through this; raises OperatorError while a signer has it."""
    if not path.is_file():
        raise OperatorError(f"{path}: there is no journal: the signer has not run yet, or [signer] state is wrong")
    # A signer that ended well leaves no write-ahead log; then nothing has to be written beside the file to read it.
    write_ahead_log = path.with_name(f"{path.name}-wal")
    mode = "mode=ro" if write_ahead_log.exists() else "mode=ro&immutable=1"
    try:
        database = sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, isolation_level=None, timeout=0)
        with closing(database):
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            yield database
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise OperatorError(
                f"{path}: the signer is running, and keeps its journal to itself; stop it first, or ask the client's "
                "copy with -c client.toml"
            ) from error
        raise OperatorError(f"{path}: cannot read the journal: {error}") from error


def read_journal(path: Path) -> Iterator[Log]:
    """Every entry in order, with its parts (empty where they were removed); judges none of them."""
    with open_read_only(path) as database:
        parts = _Parts(database)
        rows = database.execute("SELECT position, entry FROM entry ORDER BY position")
        while chunk := rows.fetchmany(_ROWS_AT_ONCE):
            for position, octets in chunk:
                yield Log(entry=octets, parts=parts.take(position, _count(octets)))


def read_header(path: Path) -> Header:
    """Whose journal it is, and every key that signed it, the newest last; raises OperatorError for an empty one."""
    signer_id, keys = 0, []
    for log in read_journal(path):
        entry = entries.decode_entry(log.entry)
        signer_id = entry.signer_id
        if entry.kind in {"key", "epoch"}:
            keys.append(entries.decode_body(entry).public_key)
    if not signer_id:
        raise OperatorError(f"{path}: the journal has no entries yet: the signer has not run")
    return Header(signer_id=signer_id, keys=tuple(keys))


def export(directory: Path, key: Ed25519PrivateKey, replay: Replay) -> Iterator[Item]:
    """The whole journal, each entry after `replay` has taken it, and a head signed by `key`.

    Raises Inconsistent where it contradicts itself. The head is the one that the running signer gives out for these
    entries, octet for octet.
    """
    path = directory / FILE_NAME
    yield read_header(path)
    for log in read_journal(path):
        replay.append(log)
        yield log
    head = JournalHead(
        signer_id=replay.signer_id,
        epoch=replay.epoch,
        size=replay.size,
        root_hash=replay.tree.root_at(replay.size),
        time=entries.decode_entry(log.entry).time,
    )
    yield End(head=heads.sign_head(head, key))


class _Parts:
    """All parts in one pass beside the entries: both lie in the order of positions."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._rows = database.execute("SELECT position, ordinal, octets FROM part ORDER BY position, ordinal")
        self._next = self._rows.fetchone()

    def take(self, position: int, count: int) -> tuple[bytes, ...]:
        found = [b""] * count
        while self._next is not None and self._next[0] <= position:
            _, ordinal, octets = self._next
            if self._next[0] == position and ordinal < count:
                found[ordinal] = octets
            self._next = self._rows.fetchone()
        return tuple(found)


def _count(octets: bytes) -> int:
    try:
        return len(entries.decode_entry(octets).parts)
    except PeerError:
        return 0  # whoever reads on will find that out
