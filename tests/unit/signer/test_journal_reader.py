"""The journal of a signer that stands still is read as it is, and its key is changed whatever crashed in between."""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path

import pytest
from tests.support.journal_maker import JournalMaker, full_journal, journal_key
from tests.support.journal_sites import NOW, signer_site, write_key

from cassiopeia.config import SignerConfig, load_signer_config
from cassiopeia.core import ed25519
from cassiopeia.errors import Inconsistent, OperatorError
from cassiopeia.journal.replay import Replay
from cassiopeia.journal.transcript import End, Header
from cassiopeia.signer.journal import Journal
from cassiopeia.signer.journal_file import FILE_NAME
from cassiopeia.signer.journal_key import load_journal_key
from cassiopeia.signer.journal_reader import export, read_header, read_journal
from cassiopeia.signer.key_rotation import rotate_key


@pytest.fixture
def made() -> JournalMaker:
    sound = JournalMaker()
    sound.begin()
    sound.refusal()
    return sound


@pytest.fixture
def config(tmp_path: Path, made: JournalMaker) -> SignerConfig:
    return load_signer_config(signer_site(tmp_path / "signer", made))


def test_entries_and_parts_are_read_in_order(tmp_path: Path) -> None:
    made = full_journal()
    made.drop_part(2)
    config = load_signer_config(signer_site(tmp_path / "signer", made))

    assert list(read_journal(config.state / FILE_NAME)) == made.logs
    assert [each.name for each in config.state.iterdir()] == [FILE_NAME]


def test_parts_that_belong_to_nothing_are_left_out(config: SignerConfig, made: JournalMaker) -> None:
    database = sqlite3.connect(config.state / FILE_NAME)
    database.executemany("INSERT INTO part VALUES (?, ?, ?)", [(0, 0, b"x"), (1, 5, b"x"), (99, 0, b"x")])
    database.commit()
    database.close()

    assert list(read_journal(config.state / FILE_NAME)) == made.logs


def test_an_entry_that_is_none_is_shown_and_judged_by_others(config: SignerConfig, made: JournalMaker) -> None:
    database = sqlite3.connect(config.state / FILE_NAME)
    database.execute("INSERT INTO entry VALUES (5, x'00', x'00')")
    database.commit()
    database.close()

    assert [log.entry for log in read_journal(config.state / FILE_NAME)] == [*(log.entry for log in made.logs), b"\0"]
    with pytest.raises(Inconsistent, match="entry 5: this is not the DER of a JournalEntry"):
        list(map(Replay().append, read_journal(config.state / FILE_NAME)))


def test_what_a_killed_signer_left_is_read_too(config: SignerConfig, made: JournalMaker, tmp_path: Path) -> None:
    journal = Journal(config.state, signer_id=1, key=journal_key())
    journal.record_resume("clock-back", now=NOW)
    journal.commit()
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in config.state.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    journal.close()

    assert len(list(read_journal(copy / FILE_NAME))) == made.size + 1


def test_an_export_ends_with_the_head_that_the_running_signer_gives(config: SignerConfig, made: JournalMaker) -> None:
    replay = Replay()
    header, *_, end = export(config.state, journal_key(), replay)
    journal = Journal(config.state, signer_id=1, key=journal_key())

    assert header == Header(signer_id=1, keys=(ed25519.public_octets(journal_key()),))
    assert end == End(head=journal.signed_head())
    assert replay.size == made.size
    journal.close()


def test_a_key_is_changed(config: SignerConfig) -> None:
    before = read_header(config.state / FILE_NAME).keys

    after = rotate_key(config, now=NOW)

    assert read_header(config.state / FILE_NAME).keys == (*before, after)
    assert sorted(each.name for each in config.source.parent.iterdir()) == ["journal.key", "signer.toml", "state"]


def test_a_key_is_changed_by_the_clock_that_operators_have_set_right(config: SignerConfig) -> None:
    """A machine whose clock is a day ahead: an entry of tomorrow would halt the next start."""
    journal = Journal(config.state, signer_id=1, key=journal_key(1))
    journal.record_clock(machine_time=NOW + dt.timedelta(days=1), true_time=NOW)
    journal.commit()
    journal.close()

    after = rotate_key(config, now=NOW + dt.timedelta(days=1))

    journal = Journal(config.state, signer_id=1, key=load_journal_key(config.journal_key))
    assert journal.index.public_keys()[-1] == after
    assert journal.last_time == NOW
    journal.close()


def test_a_change_that_was_cut_off_before_the_entry_goes_on(config: SignerConfig) -> None:
    write_key(config.journal_key.with_name("journal.key.next"), journal_key(2))

    assert rotate_key(config, now=NOW) == ed25519.public_octets(journal_key(2))


def test_a_change_that_was_cut_off_behind_the_entry_goes_on(config: SignerConfig) -> None:
    write_key(config.journal_key.with_name("journal.key.next"), journal_key(2))
    journal = Journal(config.state, signer_id=1, key=journal_key(1))
    journal.record_key(journal_key(2), now=NOW)
    journal.commit()
    journal.close()

    assert rotate_key(config, now=NOW + dt.timedelta(days=1)) == ed25519.public_octets(journal_key(2))
    assert len(read_header(config.state / FILE_NAME).keys) == 2
    Journal(config.state, signer_id=1, key=journal_key(2)).close()


def test_before_the_first_start_there_is_nothing_to_change(tmp_path: Path) -> None:
    config = load_signer_config(signer_site(tmp_path / "new", JournalMaker()))

    with pytest.raises(OperatorError, match="before the first start just make another key"):
        rotate_key(config, now=NOW)
