"""The file that holds a signer's journal: one SQLite database, opened for this process alone.

Owns the tables of entries and parts, which are never changed, and SQLite's own check of the file. What entries say is
none of its business (`journal`), nor are the derived tables (`journal_index`).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from cassiopeia.errors import OperatorError

FILE_NAME: Final = "journal.sqlite"

# "CASJ": tells our file from any other SQLite database (PRAGMA application_id).
_APPLICATION_ID: Final = 0x4341534A
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entry (position INTEGER PRIMARY KEY, entry BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS entry_is_never_changed BEFORE UPDATE ON entry
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS entry_is_never_removed BEFORE DELETE ON entry
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TABLE IF NOT EXISTS part (
    position INTEGER NOT NULL, ordinal INTEGER NOT NULL, octets BLOB NOT NULL, PRIMARY KEY (position, ordinal)
) STRICT;
CREATE TRIGGER IF NOT EXISTS part_is_never_changed BEFORE UPDATE ON part
    BEGIN SELECT RAISE(ABORT, 'parts of the journal are removed or stay as they are'); END;
CREATE TABLE IF NOT EXISTS subtree (
    level INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, number)
) STRICT, WITHOUT ROWID;
"""


_REMEDY: Final = (
    "is the disk full (see `df`), broken or not mounted, or the directory somebody else's? Mend that and start again"
)


def open_database(path: Path) -> sqlite3.Connection:
    """Open or make the file for this process alone, and let SQLite check it; raises OperatorError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Nobody to wait for: whoever has the journal keeps it as long as he lives.
        database = sqlite3.connect(path, isolation_level=None, timeout=0)
        try:
            _prepare(database, path)
        except BaseException:
            database.close()
            raise
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise OperatorError(
                f"{path}: another signer is running on this journal, or a program has it open to read; "
                f"stop it first (`fuser {path}` names it)"
            ) from error
        raise OperatorError(f"{path}: cannot open the journal: {error}; {_REMEDY}") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        # SQLite names what is wrong in the octets that it found, which need not be text any more.
        raise damaged(path, str(error)) from error
    except OSError as error:
        raise OperatorError(f"{path}: cannot open the journal: {error}; {_REMEDY}") from error
    return database


def damaged(path: Path, reason: str) -> OperatorError:
    """What to say, and to do, about a journal that is not as it was written."""
    return OperatorError(
        f"{path}: the journal is damaged ({' '.join(reason.split())}); keep this file, and make the signer's journal "
        "again from the client's copy: `cassiopeia signer rebuild --help`"
    )


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    # Nothing of a file that is not ours is changed.
    ((tables,),) = database.execute("SELECT count(*) FROM sqlite_master")
    ((application,),) = database.execute("PRAGMA application_id")
    if tables and application != _APPLICATION_ID:
        raise OperatorError(
            f"{path}: this file is no journal of this release; move it away, or set [signer] state right"
        )
    path.chmod(0o600)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    # Parts that are removed are about persons: their octets shall not stay in free pages.
    database.execute("PRAGMA secure_delete = ON")
    ((verdict,), *_) = database.execute("PRAGMA quick_check(1)")
    if verdict != "ok":
        raise damaged(path, verdict)
    if not tables:
        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    database.executescript(_SCHEMA)
