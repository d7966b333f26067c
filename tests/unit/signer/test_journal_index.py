"""Questions to the journal: what its derived tables answer, and that they come out the same when they are made anew."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.journal_keys import JOURNAL_PUBLIC_KEY
from tests.support.journal_records import (
    OTHER_KEY,
    crl_record,
    derived_rows,
    known,
    opened_file,
    record_all,
    record_revocation,
    record_start,
    revoked,
    serial,
)
from tests.support.signer import (
    JOURNAL_KEY,
    NOW,
    SIGNING_CA,
    meaningless_tbs,
    open_journal,
    record_intent,
    record_issued,
)

from cassiopeia.core import ed25519
from cassiopeia.errors import StateUnknown
from cassiopeia.journal.crls import NUMBERS_SKIPPED
from cassiopeia.journal.entry import LOST_PAST
from cassiopeia.signer import journal_index
from cassiopeia.signer.journal import Journal
from cassiopeia.signer.journal_index import RevocationAnswer

ANOTHER_CA = "assured_2026_2"
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = open_journal(tmp_path)
    yield opened
    opened.close()


# Certificates.


def test_an_intent_goes_from_state_to_state(journal: Journal) -> None:
    index = journal.index
    assert index.find_request((1).to_bytes(32, "big")) is None
    assert (index.find_serial(serial()), index.state(serial())) == (None, None)

    wanted = record_intent(journal)
    assert index.find_request(wanted.request_id) == index.find_serial(wanted.serial_number) == wanted
    assert (wanted.state, wanted.position, wanted.result_position) == ("intent", 2, 0)
    assert (index.open_intents(), index.state(serial())) == ([wanted], "intent")

    journal.record_confirmation(wanted, log_hash=wanted.log_hash, now=NOW)
    confirmed = known(journal)
    assert (confirmed.state, confirmed.signature, index.open_intents()) == ("confirmed", b"", [])
    assert (confirmed.log, confirmed.tbs_certificate) == (wanted.log, meaningless_tbs(1))

    assert journal.record_result(wanted, signature=b"signature", now=NOW) == 4
    issued = index.find_request(wanted.request_id)
    assert issued is not None
    assert (issued.result_position, issued.state, issued.signature) == (4, "issued", b"signature")
    assert (index.state(serial()), index.abandoned_at(serial())) == ("issued", None)


def test_an_abandoned_intent_answers_no_request_and_its_serial_stays_known(journal: Journal) -> None:
    wanted = record_intent(journal)
    assert journal.record_abandonment(wanted, code="vetoed", reason="veto", now=NOW) == 3
    assert journal.index.find_request(wanted.request_id) is None
    burned = known(journal)
    # What explains it is no signature.
    assert (burned.state, burned.signature, journal.index.abandoned_at(serial())) == ("abandoned", b"", 3)
    # The same request has another try.
    second = record_intent(journal, 2, request_id=wanted.request_id)
    assert journal.index.find_request(wanted.request_id) == second


def test_open_intents_come_in_order(journal: Journal) -> None:
    first, second, third = (record_intent(journal, number) for number in (9, 1, 5))
    journal.record_confirmation(second, log_hash=second.log_hash, now=NOW)
    assert journal.index.open_intents() == [first, third]


def test_the_newest_result_counts(journal: Journal) -> None:
    """A signature that was lost is made again, behind the next epoch."""
    record_issued(journal, 1)
    journal.record_result(known(journal), signature=b"again", now=NOW)
    assert (known(journal).signature, known(journal).result_position) == (b"again", 5)


def test_a_serial_number_is_used_once(journal: Journal) -> None:
    record_intent(journal)
    with pytest.raises(StateUnknown, match="UNIQUE"):
        record_intent(journal, request_id=b"another")


def test_used_serials_are_counted_by_sub_ca_without_abandoned_ones(journal: Journal) -> None:
    record_issued(journal, 1, 2)
    record_intent(journal, 3)
    record_intent(journal, 4, signing_ca=ANOTHER_CA)
    journal.record_abandonment(record_intent(journal, 5), code="expired", reason="", now=NOW)
    assert journal.index.used_counts() == {SIGNING_CA: 3, ANOTHER_CA: 1}


def test_who_issued_a_certificate_is_known_once_it_is_there(journal: Journal) -> None:
    wanted = record_intent(journal, signing_ca=ANOTHER_CA)
    assert journal.index.issued_by(serial()) == ""
    journal.record_confirmation(wanted, log_hash=wanted.log_hash, now=NOW)
    assert journal.index.issued_by(serial()) == ""
    journal.record_result(wanted, signature=b"s", now=NOW)
    assert journal.index.issued_by(serial()) == ANOTHER_CA
    assert journal.index.issued_by(serial(2)) == ""


# Version 1, which names no request.


def test_version_1_finds_its_newest_by_digest(journal: Journal) -> None:
    first = record_intent(journal, 1, protocol=1, request_digest=b"x" * 32)
    second = record_intent(journal, 2, protocol=1, request_digest=b"x" * 32)
    record_intent(journal, 3, protocol=1, request_digest=b"y" * 32)
    record_intent(journal, 4, protocol=2, request_digest=b"x" * 32)
    assert journal.index.find_version_1(b"x" * 32, since=NOW) == second
    journal.record_abandonment(second, code="expired", reason="", now=NOW)
    assert journal.index.find_version_1(b"x" * 32, since=NOW) == first
    assert journal.index.find_version_1(b"z" * 32, since=NOW) is None


def test_version_1_counts_from_the_result(journal: Journal) -> None:
    intent = record_intent(journal, protocol=1)
    assert journal.index.find_version_1(b"d" * 32, since=NOW) == intent
    assert journal.index.find_version_1(b"d" * 32, since=NOW + HOUR) is None
    journal.record_confirmation(intent, log_hash=b"", now=NOW)
    journal.record_result(intent, signature=b"s", now=NOW + HOUR)
    found = journal.index.find_version_1(b"d" * 32, since=NOW + HOUR)
    assert found is not None
    assert (found.state, found.serial_number) == ("issued", serial())
    assert journal.index.find_version_1(b"d" * 32, since=NOW + HOUR + dt.timedelta(seconds=1)) is None


# Revocations and CRLs.


def test_revocations_keep_the_order_of_each_sub_ca(journal: Journal) -> None:
    record_revocation(journal, 9, 1)
    record_revocation(journal, 7, signing_ca=ANOTHER_CA)
    record_revocation(journal, 5)
    assert journal.index.revocation_entries(SIGNING_CA) == [revoked(9), revoked(1), revoked(5)]
    assert journal.index.revocation_entries(ANOTHER_CA) == [revoked(7)]
    assert [journal.index.is_revoked(serial(each)) for each in (9, 7, 8)] == [True, True, False]
    with pytest.raises(StateUnknown, match="UNIQUE"):
        record_revocation(journal, 9)


def test_a_revocation_request_waits_for_the_crl_that_answers_it(journal: Journal) -> None:
    index = journal.index
    assert index.find_revocation(b"i" * 32) is None
    record_revocation(journal, 1, request_id=b"i" * 32)
    record_revocation(journal, request_id=b"j" * 32)  # nothing new, and an answer all the same
    record_revocation(journal, 2, request_id=b"k" * 32, signing_ca=ANOTHER_CA)
    record_revocation(journal, 3)  # nobody named it
    waiting = RevocationAnswer(signing_ca=SIGNING_CA, request_digest=b"d" * 32, revoked=True, crl_number=0)
    assert index.find_revocation(b"i" * 32) == index.find_revocation(b"j" * 32) == waiting
    assert sorted(index.unanswered_revocations(SIGNING_CA)) == [b"i" * 32, b"j" * 32]
    assert index.unanswered_revocations(ANOTHER_CA) == [b"k" * 32]

    journal.record_crl(crl_record(1, entries=2), answers=[b"i" * 32], now=NOW)
    journal.record_crl(crl_record(2, entries=2), answers=[b"i" * 32, b"j" * 32], now=NOW)
    # The first answer stands.
    answers = [index.find_revocation(each * 32) for each in (b"i", b"j")]
    assert [each and each.crl_number for each in answers] == [1, 2]
    assert index.unanswered_revocations(SIGNING_CA) == []


def test_crls_are_found_by_number_and_the_newest_without(journal: Journal) -> None:
    index = journal.index
    assert index.crl(SIGNING_CA) is None
    for record in (crl_record(1), crl_record(2, entries=3), crl_record(9, signing_ca=ANOTHER_CA)):
        journal.record_crl(record, now=NOW)
    assert index.crl(SIGNING_CA) == crl_record(2, entries=3)
    assert index.crl(SIGNING_CA, 1) == crl_record(1)
    assert index.crl(SIGNING_CA, 3) is None
    assert index.crl(SIGNING_CA, 0) is None
    with pytest.raises(StateUnknown, match="UNIQUE"):
        journal.record_crl(crl_record(2), now=NOW)


@pytest.mark.parametrize("number", [1 << 63, (1 << 168) - 1])
def test_a_crl_number_that_no_crl_has_is_not_found(journal: Journal, number: int) -> None:
    """A client may name any number that the wire can hold."""
    assert journal.index.crl(SIGNING_CA, number) is None


def test_each_epoch_skips_numbers_of_every_sub_ca(journal: Journal) -> None:
    """CRLs may have gone out that the copy does not know of: their numbers are never used again."""
    floor = journal.index.crl_floor
    journal.record_crl(crl_record(5), now=NOW)
    assert (floor(SIGNING_CA), floor(ANOTHER_CA)) == (0, 0)
    journal.record_epoch(head=b"", now=NOW)
    assert (floor(SIGNING_CA), floor(ANOTHER_CA)) == (5 + NUMBERS_SKIPPED, NUMBERS_SKIPPED)
    journal.record_crl(crl_record(5 + NUMBERS_SKIPPED + 3), now=NOW)
    assert floor(SIGNING_CA) == 5 + NUMBERS_SKIPPED
    journal.record_epoch(head=b"", now=NOW)
    assert (floor(SIGNING_CA), floor(ANOTHER_CA)) == (8 + 2 * NUMBERS_SKIPPED, 2 * NUMBERS_SKIPPED)


# Halts, epochs, keys, configurations, the clock, orders.


def test_a_halt_stands_until_it_is_ended(journal: Journal) -> None:
    index = journal.index
    assert index.halts() == {}
    journal.record_halt("clock-leap", "a leap", now=NOW)
    journal.record_halt("order", "an order", now=NOW)
    journal.record_halt("clock-leap", "again", now=NOW)
    assert index.halts() == {"order": 3, "clock-leap": 4}
    journal.record_resume("clock-leap", now=NOW)
    assert index.halts() == {"order": 3}


def test_an_epoch_ends_the_halt_for_a_lost_past_and_no_other(journal: Journal) -> None:
    journal.record_halt(LOST_PAST, "too short", now=NOW)
    journal.record_halt("order", "an order", now=NOW)
    journal.record_epoch(head=b"", now=NOW)
    assert journal.index.halts() == {"order": 3}


def test_epochs_count_from_one(journal: Journal) -> None:
    index = journal.index
    assert (index.epoch(), index.epoch_end(1), index.epoch_end(2)) == (1, None, None)
    for _ in range(2):
        journal.record_epoch(head=b"", now=NOW)
    assert (index.epoch(), index.epoch_end(1), index.epoch_end(2), index.epoch_end(3)) == (3, 2, 3, None)
    assert index.public_keys() == [JOURNAL_PUBLIC_KEY] * 3


def test_an_epoch_that_is_skipped_is_over_and_has_used_numbers(journal: Journal) -> None:
    index = journal.index
    journal.record_crl(crl_record(5), now=NOW)
    journal.record_epoch(head=b"", number=4, now=NOW)
    assert [index.epoch(), *map(index.epoch_end, (1, 2, 3, 4))] == [4, 3, 3, 3, None]
    assert index.crl_floor(SIGNING_CA) == 5 + 3 * NUMBERS_SKIPPED
    assert index.crl_floor(ANOTHER_CA) == 3 * NUMBERS_SKIPPED
    journal.record_epoch(head=b"", now=NOW)
    assert (index.epoch(), index.crl_floor(ANOTHER_CA)) == (5, 4 * NUMBERS_SKIPPED)


def test_keys_come_in_order(journal: Journal) -> None:
    journal.record_key(OTHER_KEY, now=NOW)
    journal.record_epoch(head=b"", now=NOW)
    other = ed25519.public_octets(OTHER_KEY)
    assert journal.index.public_keys() == [JOURNAL_PUBLIC_KEY, other, other]


def test_the_newest_configuration_counts(journal: Journal) -> None:
    assert journal.index.configuration_hash() == b""
    for each in (b"1", b"2"):
        journal.record_configuration(each * 32, [], now=NOW)
    assert journal.index.configuration_hash() == b"2" * 32


@pytest.mark.parametrize("correction", [HOUR, -HOUR, dt.timedelta(0)])
def test_the_newest_word_on_the_clock_counts(journal: Journal, correction: dt.timedelta) -> None:
    assert journal.index.clock_offset_s() == 0
    journal.record_clock(machine_time=NOW, true_time=NOW + 5 * HOUR)
    journal.record_clock(machine_time=NOW, true_time=NOW + correction)
    assert journal.index.clock_offset_s() == correction.total_seconds()


def test_the_highest_order_counts(journal: Journal) -> None:
    assert journal.index.order_sequence() == 0
    assert journal.record_order(3, b"order", now=NOW) == 2
    assert journal.record_order(7, b"order", now=NOW) == 3
    assert journal.index.order_sequence() == 7


def test_an_order_that_was_obeyed_is_found_by_its_octets(journal: Journal) -> None:
    find = journal.index.find_order
    assert find(b"one") is None
    journal.record_order(3, b"one", now=NOW)
    journal.record_order(4, b"two", now=NOW)
    assert (find(b"one"), find(b"two"), find(b"three")) == (2, 3, None)


# Made anew.


def fill(journal: Journal) -> None:
    record_issued(journal, *range(10, 60), signing_ca=ANOTHER_CA)
    record_intent(journal, 60, protocol=1)
    record_revocation(journal, 11, 10, signing_ca=ANOTHER_CA, request_id=b"1" * 32)
    record_revocation(journal, 12, signing_ca=ANOTHER_CA, request_id=b"2" * 32)
    journal.record_crl(crl_record(3, signing_ca=ANOTHER_CA, entries=2), answers=[b"1" * 32], now=NOW)
    journal.record_halt("order", "by order of its operators", now=NOW)
    record_all(journal)


@pytest.mark.parametrize("version", [0, journal_index.INDEX_VERSION + 1])
def test_tables_made_anew_are_those_that_grew_with_the_journal(tmp_path: Path, version: int) -> None:
    journal = open_journal(tmp_path)
    fill(journal)
    grown = derived_rows(journal)
    journal.close()
    assert all(grown.values()), "every table has rows"

    with opened_file(tmp_path) as database:
        for table in (*journal_index.TABLES, "subtree"):
            database.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
        database.execute(f"PRAGMA user_version = {version}")

    journal = open_journal(tmp_path, key=OTHER_KEY)
    assert derived_rows(journal) == grown
    record_start(journal)
    journal.commit()
    journal.close()
    with opened_file(tmp_path) as database:
        assert database.execute("PRAGMA user_version").fetchall() == [(journal_index.INDEX_VERSION,)]


def test_tables_of_another_release_give_way(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    fill(journal)
    grown = derived_rows(journal)
    journal.close()

    with opened_file(tmp_path) as database:
        database.execute("DROP TABLE certificate")
        database.execute("CREATE TABLE certificate (what TEXT, it BLOB, was INTEGER)")
        database.execute("INSERT INTO certificate VALUES ('then', x'', 0)")
        database.execute("DROP TABLE milestone")
        database.execute("PRAGMA user_version = 99")

    journal = open_journal(tmp_path, key=OTHER_KEY)
    assert derived_rows(journal) == grown
    journal.close()


def test_tables_of_this_release_are_taken_as_they_are(tmp_path: Path) -> None:
    """They are not made anew at every start: that takes its time in a large journal."""
    journal = open_journal(tmp_path)
    record_intent(journal)
    journal.commit()
    journal.close()
    with opened_file(tmp_path) as database:
        database.execute("UPDATE certificate SET request_digest = x'00'")
    journal = Journal(tmp_path, signer_id=1, key=JOURNAL_KEY)
    assert known(journal).request_digest == b"\0"
    journal.close()
