"""What somebody who writes into the database can make the publisher believe: nothing."""

from __future__ import annotations

import dataclasses
import logging

import pytest
from sqlalchemy import delete, select, update
from tests.support.copying import Copying, begun
from tests.support.journal_maker import JournalMaker, full_journal, journal_key
from tests.support.publishing import Publishing

from cassiopeia.core import der, ed25519, structure
from cassiopeia.errors import OperatorError
from cassiopeia.journal import entry as entries
from cassiopeia.journal.entry import Log
from cassiopeia.publisher.journal import SignerJournal
from cassiopeia.publisher.known import KnownCertificates
from cassiopeia.store.models import journal_chunk, journal_copy


def number(made: JournalMaker, intent: int) -> int:
    return int.from_bytes(made.serial(intent), "big")


def change_entries(publishing: Publishing, at: int, octets: bytes) -> None:
    """Put another entry in the place of one, in the row that holds it."""
    with publishing.store.database.write() as connection:
        for row in connection.execute(select(journal_chunk)).all():
            logs = [structure.decode(Log, each) for _, each in der.elements(row.entries, at_most=1_000)]
            if row.first <= at <= row.last:
                logs[at - row.first] = dataclasses.replace(logs[at - row.first], entry=octets)
                connection.execute(
                    update(journal_chunk)
                    .where(journal_chunk.c.first == row.first)
                    .values(entries=b"".join(map(entries.encode_log, logs)))
                )


def test_a_whole_life_is_understood(publishing: Publishing) -> None:
    made = full_journal()
    publishing.copying = copying = Copying(
        publishing.store, made, pinned=[ed25519.public_octets(each) for each in (journal_key(1), journal_key(3))]
    )
    copying.at_once = 5
    copying.open()
    copying.run()
    journal = SignerJournal(1, [ed25519.public_octets(journal_key(1)), ed25519.public_octets(journal_key(3))])
    known: dict[str, KnownCertificates] = {}

    journal.read_on(publishing.store.journal_copies, known)

    assert (journal.size, journal.alarm, journal.is_whole) == (made.size, "", True)
    [certificates] = known.values()
    issued = [each for each in made.tbs if each in made.certificates]
    assert certificates.issued == len(issued)
    for intent in made.tbs:
        assert certificates.was_issued(number(made, intent)) == (intent in made.certificates)
    revoked = [each for each in made.tbs if certificates.revocation(number(made, each))]
    assert len(revoked) == 2


def test_it_is_read_on_from_where_it_stopped(serving: Publishing) -> None:
    serials = [serving.issue() for _ in range(3)]
    serving.copy()
    with serving.store.database.write() as connection:
        # What was read is not read again.
        first = connection.execute(select(journal_chunk.c.first).order_by(journal_chunk.c.first)).scalars().first()
        connection.execute(delete(journal_chunk).where(journal_chunk.c.first == first))
    serving.look()

    assert {serving.said(each) for each in serials} == {"GOOD"}


def test_nothing_counts_before_a_signed_head_covers_it(serving: Publishing) -> None:
    covered = serving.made.signed_head()
    serial = serving.issue()
    serving.copying.open(covered)
    asked = serving.copying.ask()
    if asked is None:
        serving.copying.copy.hurry()
        asked = serving.copying.ask()
    serving.look()
    assert serving.said(serial) in {"UNKNOWN", "TRY_LATER"}


@pytest.mark.parametrize("what", ["body", "order", "signer"])
def test_an_entry_that_was_changed_is_not_believed(
    serving: Publishing, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, victim = serving.issue(), serving.made.intent()
    serving.made.confirmation(victim)
    at = serving.made.result(victim)
    serving.copy()
    entry = entries.decode_entry(serving.made.logs[at - 1].entry)
    forged = {
        "body": dataclasses.replace(entry, body=structure.encode(entries.Result(intent=1))),
        "order": dataclasses.replace(entry, index=entry.index + 1),
        "signer": dataclasses.replace(entry, signer_id=2),
    }[what]
    change_entries(serving, at, structure.encode(forged))
    with caplog.at_level(logging.INFO):
        serving.look()
        serving.look()

    assert caplog.text.count("the copy of the journal of signer 1 cannot be believed") == 1
    assert serving.said(number(serving.made, victim)) == "TRY_LATER"
    assert serving.said(before) == "TRY_LATER"
    known = number(serving.made, next(iter(serving.made.tbs)))
    assert serving.said(known) == "GOOD", "what was read before stands"

    change_entries(serving, at, serving.made.logs[at - 1].entry)
    with caplog.at_level(logging.INFO):
        serving.look()
    assert "can be read on" in caplog.text
    assert serving.said(before) == "GOOD"


def test_a_journal_that_somebody_else_has_signed_is_not_believed(
    publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = begun()
    stranger.logs.clear()
    stranger.journal_key = journal_key(9)
    stranger.begin()
    intent = stranger.issue()
    copying = Copying(publishing.store, stranger, pinned=[ed25519.public_octets(journal_key(9))])
    copying.open()
    copying.run()
    assert copying.size == stranger.size
    publishing.sign_crl()
    publishing.certify()

    publishing.look()

    assert "no known journal key has signed this head" in caplog.text
    assert publishing.said(number(stranger, intent)) == "TRY_LATER"


def test_a_head_over_other_entries_proves_nothing(publishing: Publishing, caplog: pytest.LogCaptureFixture) -> None:
    serial = publishing.issue()
    publishing.sign_crl()
    publishing.copy()
    publishing.certify()
    other = begun()
    while other.size < publishing.made.size:
        other.refusal()
    with publishing.store.database.write() as connection:
        connection.execute(update(journal_copy).values(proof=other.signed_head()))

    publishing.look()

    assert "is that of another journal" in caplog.text
    assert publishing.said(serial) == "TRY_LATER"


def test_whoever_stops_does_not_read_to_the_end(publishing: Publishing) -> None:
    publishing.issue()
    publishing.copy()
    journal = SignerJournal(1, [ed25519.public_octets(journal_key())], is_stopping=lambda: True)
    known: dict[str, KnownCertificates] = {}

    journal.read_on(publishing.store.journal_copies, known)

    assert (journal.size, journal.is_whole, journal.alarm, known) == (0, False, "", {})


def test_missing_rows_are_said(publishing: Publishing) -> None:
    publishing.issue()
    publishing.copy()
    with publishing.store.database.write() as connection:
        connection.execute(delete(journal_chunk))

    with pytest.raises(OperatorError, match="the store has lost entries"):
        publishing.look()


def test_a_copy_that_ends_too_early_is_not_believed(publishing: Publishing, caplog: pytest.LogCaptureFixture) -> None:
    serial = publishing.issue()
    publishing.sign_crl()
    publishing.copy()
    publishing.certify()
    with publishing.store.database.write() as connection:
        connection.execute(delete(journal_chunk))
        connection.execute(update(journal_copy).values(size=0))

    publishing.look()

    assert "it ends before the head that it was proved with" in caplog.text
    assert publishing.said(serial) == "TRY_LATER"


def test_a_store_that_was_set_back_takes_nothing_back(serving: Publishing) -> None:
    serial = number(serving.made, next(iter(serving.made.tbs)))
    old = serving.made.crls[-1]
    serving.revoke(serial)
    serving.sign_crl()
    serving.copy()
    serving.look()
    assert serving.said(serial) == "REVOKED"

    with serving.store.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM crl")
        connection.exec_driver_sql("DELETE FROM journal_copy")
        connection.exec_driver_sql("DELETE FROM journal_chunk")
    serving.put_crl(old)
    serving.look()

    assert serving.said(serial) == "REVOKED"
