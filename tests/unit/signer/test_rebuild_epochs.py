"""A journal that is made again and again: epochs that nobody copied are skipped, and what they did is not undone."""

from __future__ import annotations

import dataclasses
import datetime as dt
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.journal_maker import JournalMaker, journal_key
from tests.support.journal_sites import signer_site
from tests.support.rebuilding import PUBLIC_KEYS, export, make, opened, replayed, saved

from cassiopeia.config import SignerConfig, load_signer_config
from cassiopeia.core import merkle
from cassiopeia.errors import OperatorError
from cassiopeia.journal import entry as entries
from cassiopeia.journal.crls import NUMBERS_SKIPPED
from cassiopeia.journal.transcript import End, SavedLog
from cassiopeia.signer.journal_file import FILE_NAME
from cassiopeia.signer.journal_reader import read_journal
from cassiopeia.signer.rebuild import rebuild

NAME = "unassured_2026_2"


@pytest.fixture
def made() -> JournalMaker:
    sound = JournalMaker()
    sound.begin()
    return sound


@pytest.fixture
def config(tmp_path: Path) -> SignerConfig:
    return load_signer_config(signer_site(tmp_path / "signer", JournalMaker()))


def test_a_signer_that_is_lost_again_before_anybody_has_copied_that(made: JournalMaker, tmp_path: Path) -> None:
    issued = made.issue()
    made.crl()
    copied, before = made.size, made.signed_head()
    made.new_epoch()
    made.crl()
    lost = made.signed_head()
    config = load_signer_config(signer_site(tmp_path / "again", JournalMaker()))

    done = make(config, export(made, copied=copied, end=End(head=before, newest=lost)))

    replay = replayed(config)
    assert (done.epoch, replay.epoch, done.copied, done.newest_head) == (3, 3, copied, copied + 2)
    assert replay.check_head(before, [PUBLIC_KEYS[1]]).epoch == 1
    assert replay.certificates.check_certificate(made.certificates[issued]).index == issued
    journal = opened(config)
    # No number of the lost epoch is used again, and what a client holds of it is no news.
    assert journal.index.crl_floor(NAME) == 1 + 2 * NUMBERS_SKIPPED > made.number
    assert journal.outlived(journal.own_head(lost))
    # What is more than anybody knew of is.
    made.refusal()
    assert not journal.outlived(journal.own_head(made.signed_head()))
    journal.close()


@pytest.mark.parametrize("both_logs_kept", [True, False])
def test_what_was_written_down_again_and_lost_again_has_two_logs(
    made: JournalMaker, config: SignerConfig, *, both_logs_kept: bool
) -> None:
    """Its request is sent again in the new epoch, so the client saves the log of that epoch, too."""
    size = made.size
    first = made.intent()
    logs = [saved(made, first)]
    again = config_beside(config)
    make(again, export(made, *logs, copied=size))
    journal = opened(again)
    taken_in = journal.index.find_serial(made.serial(first))
    assert taken_in is not None
    lost = journal.signed_head()
    journal.close()
    if both_logs_kept:
        logs.insert(0, SavedLog(log=taken_in.log, signature=b""))
    del made.logs[size:]

    done = make(config, export(made, *logs, end=End(head=made.signed_head(), newest=lost)))

    assert (done.taken_in, done.abandoned, done.epoch) == (1, 0, 3)
    assert [each.state for each in replayed(config).certificates] == ["confirmed"]


def test_a_copy_may_end_behind_what_was_written_down_again(made: JournalMaker, config: SignerConfig) -> None:
    """Then the log that the client has saved is another than that of the copy."""
    size = made.size
    first = made.intent()
    log = saved(made, first)
    again = config_beside(config)
    make(again, export(made, log, copied=size))
    copy = list(read_journal(again.state / FILE_NAME))[: size + 2]
    assert [entries.decode_entry(each.entry).kind for each in copy[size:]] == ["epoch", "intent"]
    del made.logs[:]
    made.logs += copy
    made.epoch = 2

    done = make(config, export(made, log))

    assert (done.confirmed, done.taken_in, done.epoch) == (1, 0, 3)
    (issuance,) = replayed(config).certificates
    assert (issuance.state, issuance.log_hash) == ("confirmed", entries.part_hash(entries.encode_log(copy[-1])))


def config_beside(config: SignerConfig) -> SignerConfig:
    """Another machine of the same signer, which will be lost."""
    return dataclasses.replace(config, state=config.state.with_name("lost"))


def test_a_key_that_came_and_was_lost_with_such_an_epoch_is_remembered(made: JournalMaker, tmp_path: Path) -> None:
    copied, before = made.size, made.signed_head()
    made.new_epoch(journal_key(2))
    lost = made.signed_head()
    empty = JournalMaker()
    empty.journal_key = journal_key(3)
    config = load_signer_config(signer_site(tmp_path / "third", empty))
    items = export(made, copied=copied, end=End(head=before, newest=lost))

    done = rebuild(config, items, trusted=PUBLIC_KEYS[1:3], now=made.now, replace=False)

    assert done.epoch == 4
    assert [each.public_key for each in replayed(config).keys] == PUBLIC_KEYS[1:]
    journal = opened(config, 3)
    assert journal.outlived(journal.own_head(lost))
    journal.close()


def test_a_key_that_was_changed_within_the_copy_signs_no_more(made: JournalMaker, tmp_path: Path) -> None:
    before = made.signed_head()
    made.key(journal_key(2))
    empty = JournalMaker()
    empty.journal_key = journal_key(2)
    config = load_signer_config(signer_site(tmp_path / "second", empty))

    done = rebuild(config, export(made, end=End(head=before)), trusted=PUBLIC_KEYS[1:2], now=made.now, replace=False)

    assert done.epoch == 2
    assert [each.public_key for each in replayed(config).keys] == [*PUBLIC_KEYS[1:3], PUBLIC_KEYS[2]]


def test_the_epoch_of_the_journal_that_is_replaced_is_over(made: JournalMaker, config: SignerConfig) -> None:
    """It may have signed CRLs of which this client has never heard, for a client with another store."""
    make(config, export(made))
    now = made.now + dt.timedelta(days=40)

    done = rebuild(config, export(made), trusted=[], now=now, replace=True)

    assert done.epoch == 3
    journal = opened(config)
    assert journal.index.crl_floor(NAME) == 2 * NUMBERS_SKIPPED
    journal.close()


@pytest.mark.parametrize(
    "statements",
    [
        "DROP TABLE entry",
        "DROP TABLE entry; CREATE TABLE entry (position, entry, hash)",
        "INSERT INTO entry VALUES (99, x'3000', x'00')",
    ],
)
def test_a_journal_that_says_nothing_is_replaced_all_the_same(
    made: JournalMaker, config: SignerConfig, statements: str
) -> None:
    make(config, export(made))
    with closing(sqlite3.connect(config.state / FILE_NAME)) as database, database:
        database.executescript(statements)

    now = made.now + dt.timedelta(days=40)
    assert rebuild(config, export(made), trusted=[], now=now, replace=True).epoch == 2


def test_a_journal_of_a_later_release_is_left_alone(made: JournalMaker, tmp_path: Path) -> None:
    config = load_signer_config(signer_site(tmp_path / "signer", made))
    path = config.state / FILE_NAME
    made.add(entries.Resume(code="x"), version=2)
    later = made.logs.pop().entry
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO entry VALUES (99, ?, ?)", (later, merkle.leaf_hash(later)))

    with pytest.raises(OperatorError, match="version 2 are not known here: use the release of the software that wrote"):
        rebuild(config, export(made), trusted=[], now=made.now, replace=True)
