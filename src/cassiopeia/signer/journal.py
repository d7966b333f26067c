"""The signer's one durable store: an append-only record of everything it did, and indices derived from it.

SQLite with WAL and `synchronous=FULL` (PRAGMA synchronous: each commit is on the disk when it returns). Entries are
appended in the order in which things happen and are never changed; each carries SHA-256 over the hash of the entry
before it, its kind and its body. The tables beside `entry` answer questions quickly and can be made again from it.

Several appends share one commit: `record_...` opens a transaction, `commit` waits for the disk. Nothing may leave
the signer before the commit of what it rests on. A commit that fails leaves the state of the disk unknown:
`StateUnknown`, and the process ends (fsync(2): after an error, what was written may be lost, and a second fsync may
lie).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from cassiopeia.errors import OperatorError, StateUnknown

IntentState = Literal["intent", "confirmed", "issued", "abandoned"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    position INTEGER PRIMARY KEY, kind TEXT NOT NULL, at_us INTEGER NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS entry_is_never_changed BEFORE UPDATE ON entry
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS entry_is_never_removed BEFORE DELETE ON entry
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TABLE IF NOT EXISTS certificate (
    serial_number BLOB PRIMARY KEY, signing_ca TEXT NOT NULL, request_id BLOB NOT NULL, request_digest BLOB NOT NULL,
    position INTEGER NOT NULL, log_hash BLOB NOT NULL, algorithm BLOB NOT NULL, state TEXT NOT NULL,
    signature BLOB, result_position INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS certificate_by_request ON certificate (request_id);
CREATE INDEX IF NOT EXISTS certificate_open ON certificate (state) WHERE state = 'intent';
CREATE TABLE IF NOT EXISTS revocation (
    signing_ca TEXT NOT NULL, ordinal INTEGER NOT NULL, serial_number BLOB NOT NULL UNIQUE, entry BLOB NOT NULL,
    PRIMARY KEY (signing_ca, ordinal)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS crl (
    signing_ca TEXT NOT NULL, number INTEGER NOT NULL, this_update INTEGER NOT NULL, next_update INTEGER NOT NULL,
    entries INTEGER NOT NULL, tbs_hash BLOB NOT NULL, algorithm BLOB NOT NULL, signature BLOB NOT NULL,
    PRIMARY KEY (signing_ca, number)
) STRICT, WITHOUT ROWID;
"""

_FIND_REQUEST = """
    SELECT serial_number, signing_ca, request_id, request_digest, body, log_hash, algorithm, state, signature,
        result_position
    FROM certificate JOIN entry USING (position)
    WHERE request_id = ? AND state <> 'abandoned' ORDER BY position DESC LIMIT 1
"""
_FIND_SERIAL = """
    SELECT serial_number, signing_ca, request_id, request_digest, body, log_hash, algorithm, state, signature,
        result_position
    FROM certificate JOIN entry USING (position) WHERE serial_number = ?
"""

_EMPTY_HASH = bytes(32)
_HIGHEST_INTEGER = (1 << 63) - 1  # of SQLite


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """One certificate on its way, or there: `log` is the canonical log entry.

    Once it is issued, `signature` is set, and `result_position` is the index of the entry that says so.
    """

    serial_number: bytes
    signing_ca: str
    request_id: bytes
    request_digest: bytes
    log: bytes
    log_hash: bytes
    algorithm: bytes
    state: IntentState
    signature: bytes = b""
    result_position: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CrlRecord:
    """One signed CRL without its entries, of which it lists the first `entries`; times are whole seconds, UTC."""

    signing_ca: str
    number: int
    this_update: dt.datetime
    next_update: dt.datetime
    entries: int
    tbs_hash: bytes
    algorithm: bytes
    signature: bytes


class Journal:
    """The open journal. One process writes it; a second one is refused."""

    def __init__(self, directory: Path) -> None:
        path = directory / "journal.sqlite"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Nobody to wait for: whoever has the journal keeps it as long as he lives.
            self._database = sqlite3.connect(path, isolation_level=None, timeout=0)
            path.chmod(0o600)
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_SCHEMA)
            row = self._database.execute("SELECT position, hash FROM entry ORDER BY position DESC LIMIT 1").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise OperatorError(
                    f"{path}: another signer is running on this journal, or a program has it open to read; "
                    f"stop it first (`fuser {path}` names it)"
                ) from error
            raise OperatorError(f"{path}: cannot open the journal: {error}") from error
        except (sqlite3.DatabaseError, OSError) as error:
            raise OperatorError(f"{path}: cannot open the journal: {error}") from error
        self._path = path
        self._in_transaction = False
        self._failed = False
        self._waiting: list[Callable[[], None]] = []
        self._position: int = row[0] if row else 0
        self._head: bytes = row[1] if row else _EMPTY_HASH
        self.commits = 0

    @property
    def next_position(self) -> int:
        """Index of the entry that will be appended next, counted from 1."""
        return self._position + 1

    @property
    def head(self) -> bytes:
        """SHA-256 of the newest entry and, through it, of all before."""
        return self._head

    @property
    def dirty(self) -> bool:
        """Whether something was appended, or waits for, a commit."""
        return self._in_transaction or bool(self._waiting)

    def close(self) -> None:
        self._database.close()

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
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()

    def record_start(self, *, now: dt.datetime, boot_id: bytes, configuration_hash: bytes) -> None:
        self._append(
            "start", now, msgspec.json.encode({"boot_id": boot_id.hex(), "configuration": configuration_hash.hex()})
        )

    def record_intent(self, intent: Intent, *, now: dt.datetime) -> None:
        """The certificate that will be made once its log is safe; the entry's body is the log entry itself."""
        position = self.next_position
        self._append("intent", now, intent.log)
        self._execute(
            "INSERT INTO certificate VALUES (?, ?, ?, ?, ?, ?, ?, 'intent', NULL, NULL)",
            (
                intent.serial_number,
                intent.signing_ca,
                intent.request_id,
                intent.request_digest,
                position,
                intent.log_hash,
                intent.algorithm,
            ),
        )

    def record_confirmation(self, serial_number: bytes, *, log_hash: bytes, now: dt.datetime) -> None:
        """The client has saved the log: the key may be used."""
        body = {"serial_number": serial_number.hex(), "log_hash": log_hash.hex()}
        self._append("confirmation", now, msgspec.json.encode(body))
        self._execute("UPDATE certificate SET state = 'confirmed' WHERE serial_number = ?", (serial_number,))

    def record_result(self, serial_number: bytes, *, signature: bytes, now: dt.datetime) -> None:
        """The certificate exists."""
        position = self.next_position
        body = {"serial_number": serial_number.hex(), "signature": signature.hex()}
        self._append("result", now, msgspec.json.encode(body))
        self._execute(
            "UPDATE certificate SET state = 'issued', signature = ?, result_position = ? WHERE serial_number = ?",
            (signature, position, serial_number),
        )

    def record_abandonment(self, serial_number: bytes, *, reason: str, now: dt.datetime) -> None:
        """The intent is over without a certificate: its serial number is burned."""
        body = {"serial_number": serial_number.hex(), "reason": reason}
        self._append("abandonment", now, msgspec.json.encode(body))
        self._execute("UPDATE certificate SET state = 'abandoned' WHERE serial_number = ?", (serial_number,))

    def record_refusal(
        self, *, request_id: bytes, request_digest: bytes, code: str, field: str, message: str, now: dt.datetime
    ) -> None:
        body = {
            "request_id": request_id.hex(),
            "request_digest": request_digest.hex(),
            "code": code,
            "field": field,
            "message": message,
        }
        self._append("refusal", now, msgspec.json.encode(body))

    def record_revocations(self, signing_ca: str, entries: list[tuple[bytes, bytes]], *, now: dt.datetime) -> None:
        """Serial numbers with their CRL entries (DER), in the order in which the CRL will list them."""
        ((ordinal,),) = self._execute(
            "SELECT COALESCE(MAX(ordinal), 0) FROM revocation WHERE signing_ca = ?", (signing_ca,)
        )
        body = {"signing_ca": signing_ca, "entries": [entry.hex() for _, entry in entries]}
        self._append("revocation", now, msgspec.json.encode(body))
        for offset, (serial_number, entry) in enumerate(entries, start=1):
            self._execute(
                "INSERT INTO revocation VALUES (?, ?, ?, ?)", (signing_ca, ordinal + offset, serial_number, entry)
            )

    def record_crl(self, crl: CrlRecord, *, now: dt.datetime) -> None:
        body = {
            "signing_ca": crl.signing_ca,
            "number": crl.number,
            "this_update": crl.this_update.isoformat(),
            "next_update": crl.next_update.isoformat(),
            "entries": crl.entries,
            "tbs_hash": crl.tbs_hash.hex(),
            "signature": crl.signature.hex(),
        }
        self._append("crl", now, msgspec.json.encode(body))
        self._execute(
            "INSERT INTO crl VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                crl.signing_ca,
                crl.number,
                int(crl.this_update.timestamp()),
                int(crl.next_update.timestamp()),
                crl.entries,
                crl.tbs_hash,
                crl.algorithm,
                crl.signature,
            ),
        )

    def find_request(self, request_id: bytes) -> Intent | None:
        """The newest intent under this request id that was not abandoned."""
        return self._find(_FIND_REQUEST, request_id)

    def find_serial(self, serial_number: bytes) -> Intent | None:
        return self._find(_FIND_SERIAL, serial_number)

    def open_intents(self) -> list[bytes]:
        """Serial numbers that wait for a confirmation."""
        return [row[0] for row in self._execute("SELECT serial_number FROM certificate WHERE state = 'intent'")]

    def used_counts(self) -> dict[str, int]:
        """How many serial numbers each sub-CA has used, abandoned ones left out: what its CRL may have to hold."""
        return dict(
            self._execute("SELECT signing_ca, COUNT(*) FROM certificate WHERE state <> 'abandoned' GROUP BY signing_ca")
        )

    def is_revoked(self, serial_number: bytes) -> bool:
        return bool(self._execute("SELECT 1 FROM revocation WHERE serial_number = ?", (serial_number,)))

    def revocation_entries(self, signing_ca: str) -> list[bytes]:
        """DER of every CRL entry of this sub-CA, in order."""
        rows = self._execute("SELECT entry FROM revocation WHERE signing_ca = ? ORDER BY ordinal", (signing_ca,))
        return [row[0] for row in rows]

    def crl(self, signing_ca: str, number: int | None = None) -> CrlRecord | None:
        """The CRL of this number (any that a client may name), or the newest."""
        if number is not None and number > _HIGHEST_INTEGER:
            return None
        rows = self._execute(
            "SELECT number, this_update, next_update, entries, tbs_hash, algorithm, signature FROM crl"
            " WHERE signing_ca = ?1 AND (?2 IS NULL OR number = ?2) ORDER BY number DESC LIMIT 1",
            (signing_ca, number),
        )
        if not rows:
            return None
        (row,) = rows
        return CrlRecord(
            signing_ca=signing_ca,
            number=row[0],
            this_update=dt.datetime.fromtimestamp(row[1], dt.UTC),
            next_update=dt.datetime.fromtimestamp(row[2], dt.UTC),
            entries=row[3],
            tbs_hash=row[4],
            algorithm=row[5],
            signature=row[6],
        )

    def _find(self, query: str, value: bytes) -> Intent | None:
        rows = self._execute(query, (value,))
        if not rows:
            return None
        (row,) = rows
        return Intent(
            serial_number=row[0],
            signing_ca=row[1],
            request_id=row[2],
            request_digest=row[3],
            log=row[4],
            log_hash=row[5],
            algorithm=row[6],
            state=row[7],
            signature=row[8] or b"",
            result_position=row[9] or 0,
        )

    def _append(self, kind: str, now: dt.datetime, body: bytes) -> None:
        if not self._in_transaction:
            self._execute("BEGIN IMMEDIATE")
            self._in_transaction = True
        position = self.next_position
        head = hashlib.sha256(self.head + kind.encode() + b"\0" + body).digest()
        self._execute(
            "INSERT INTO entry VALUES (?, ?, ?, ?, ?)", (position, kind, int(now.timestamp() * 1_000_000), body, head)
        )
        self._position, self._head = position, head

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
