"""Every kind of entry that a signer's journal takes, in the order of a life, and a look into its file."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.signer import BOOT_ID, CONFIGURATION_HASH, NOW, SIGNING_CA, record_intent

from cassiopeia.core import crl
from cassiopeia.core.request import Revocation
from cassiopeia.signer.journal import CrlRecord, Intent, Journal
from cassiopeia.signer.journal_index import TABLES

OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)


def serial(number: int = 1) -> bytes:
    """The serial number of the intent of this number."""
    return bytes([1]) + number.to_bytes(15, "big")


def known(journal: Journal, number: int = 1) -> Intent:
    found = journal.index.find_serial(serial(number))
    assert found is not None
    return found


def revoked(number: int = 1, *, date: dt.datetime = NOW) -> bytes:
    """DER of a CRL entry."""
    return crl.encode_revocation(Revocation(serial_number=int.from_bytes(serial(number), "big")), date)


def crl_record(number: int = 1, *, signing_ca: str = SIGNING_CA, entries: int = 0) -> CrlRecord:
    return CrlRecord(
        signing_ca=signing_ca,
        number=number,
        this_update=NOW + dt.timedelta(days=number),
        next_update=NOW + dt.timedelta(days=number + 10),
        entries=entries,
        tbs_hash=b"t" * 32,
        algorithm=b"a",
        signature=b"s%d" % number,
    )


def record_start(journal: Journal, *, now: dt.datetime = NOW) -> None:
    journal.record_start(
        now=now, boot_id=BOOT_ID, boot_seconds=60, configuration_hash=CONFIGURATION_HASH, software_version="1.0"
    )


def record_revocation(journal: Journal, *numbers: int, signing_ca: str = SIGNING_CA, request_id: bytes = b"") -> None:
    journal.record_revocations(
        signing_ca, [revoked(each) for each in numbers], request_id=request_id, request_digest=b"d" * 32, now=NOW
    )


# Every kind of entry but the first one (its key) and the removal of parts, which takes old ones.
RECORDS: list[tuple[str, Callable[[Journal], object]]] = [
    (
        "configuration",
        lambda journal: journal.record_configuration(CONFIGURATION_HASH, [("authorities.toml", b"#\n")], now=NOW),
    ),
    ("start", record_start),
    ("intent", record_intent),
    (
        "confirmation",
        lambda journal: journal.record_confirmation(known(journal), log_hash=known(journal).log_hash, now=NOW),
    ),
    ("result", lambda journal: journal.record_result(known(journal), signature=b"signature", now=NOW)),
    ("intent", lambda journal: record_intent(journal, 2)),
    (
        "abandonment",
        lambda journal: journal.record_abandonment(known(journal, 2), code="vetoed", reason="veto", now=NOW),
    ),
    (
        "refusal",
        lambda journal: journal.record_refusal(
            request_id=b"r" * 32, request_digest=b"d" * 32, code="name-invalid", field="DNS", message="No.", now=NOW
        ),
    ),
    ("revocation", lambda journal: record_revocation(journal, 1, request_id=b"i" * 32)),
    ("crl", lambda journal: journal.record_crl(crl_record(entries=1), answers=[b"i" * 32], now=NOW)),
    ("halt", lambda journal: journal.record_halt("clock-leap", "a leap", now=NOW)),
    (
        "clock",
        lambda journal: journal.record_clock(machine_time=NOW, true_time=NOW + dt.timedelta(hours=1)),
    ),
    ("resume", lambda journal: journal.record_resume("clock-leap", now=NOW)),
    ("order", lambda journal: journal.record_order(7, b"order", now=NOW)),
    ("halt", lambda journal: journal.record_halt("lost-past", "it is too short", now=NOW)),
    ("epoch", lambda journal: journal.record_epoch(head=b"", now=NOW)),
    ("key", lambda journal: journal.record_key(OTHER_KEY, now=NOW)),
]


def record_all(journal: Journal) -> None:
    """A life; the journal's key is `OTHER_KEY` from then on."""
    for _, record in RECORDS:
        record(journal)
    journal.commit()


@contextlib.contextmanager
def opened_file(directory: Path) -> Iterator[sqlite3.Connection]:
    """The file of a journal that is closed, with nothing to keep it from being changed."""
    database = sqlite3.connect(directory / "journal.sqlite", isolation_level=None)
    try:
        triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            database.execute(f"DROP TRIGGER {name}")
        yield database
    finally:
        database.close()


def derived_rows(journal: Journal) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the tables that are made from the entries, and of the kept hashes."""
    return {
        table: sorted(journal._database.execute(f"SELECT * FROM {table}"), key=repr)  # noqa: S608 - our own names
        for table in (*TABLES, "subtree")
    }
