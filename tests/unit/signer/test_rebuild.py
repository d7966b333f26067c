"""A journal that is made again: what was, what may have been, and what was never; and every export that is refused."""

from __future__ import annotations

import datetime as dt
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.journal_maker import JournalMaker, full_journal, journal_key
from tests.support.journal_sites import signer_site
from tests.support.rebuilding import PUBLIC_KEYS, export, make, opened, replayed, saved

from cassiopeia import files
from cassiopeia.config import SignerConfig, load_signer_config
from cassiopeia.errors import OperatorError
from cassiopeia.journal.crls import NUMBERS_SKIPPED
from cassiopeia.journal.transcript import End, Item, SavedCrl
from cassiopeia.signer import rebuild as rebuilding
from cassiopeia.signer.journal_file import FILE_NAME
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


def test_a_whole_copy_gives_the_same_journal_and_a_new_epoch(made: JournalMaker, config: SignerConfig) -> None:
    issued = made.issue()
    made.crl()

    done = make(config, export(made))

    replay = replayed(config)
    assert (done.entries, done.copied, done.epoch, done.newest_head) == (8, 7, 2, 7)
    assert (done.confirmed, done.abandoned, done.taken_in, done.revoked, done.kept_aside) == (0, 0, 0, 0, None)
    assert replay.check_head(made.signed_head(), [PUBLIC_KEYS[1]]).size == 7
    assert replay.certificates.check_certificate(made.certificates[issued]).index == issued
    assert list(config.state.iterdir()) == [config.state / FILE_NAME]
    journal = opened(config)
    assert journal.index.epoch() == 2
    assert journal.index.crl_floor(NAME) == 1 + NUMBERS_SKIPPED
    assert journal.index.crl_floor("never_2026_1") == NUMBERS_SKIPPED
    journal.close()


def test_a_life_with_epochs_behind_it_goes_on(config: SignerConfig, tmp_path: Path) -> None:
    made = full_journal()
    config = load_signer_config(signer_site(tmp_path / "third", dataclass_with_key(made)))

    done = make(config, export(made, saved(made, made.size)))

    replay = replayed(config)
    assert done.epoch == replay.epoch == 3
    # One was confirmed before, one was saved and not confirmed: both may have been signed.
    assert replay.certificates.count("confirmed") == 2 - (replay.certificates.count("abandoned") - 1)
    # The old machine's clock was off by a day; that is no word on this one's.
    journal = opened(config, 3)
    assert journal.index.clock_offset_s() == 0
    assert journal.index.crl_floor(NAME) == 2 + NUMBERS_SKIPPED + 1 + NUMBERS_SKIPPED
    journal.close()


def dataclass_with_key(made: JournalMaker) -> JournalMaker:
    empty = JournalMaker()
    empty.journal_key = made.journal_key
    return empty


def test_what_was_saved_counts_as_confirmed_and_the_rest_is_abandoned(made: JournalMaker, config: SignerConfig) -> None:
    kept, confirmed, lost, signed = made.intent(), made.intent(), made.intent(), made.intent()
    made.confirmation(confirmed)
    over_version_1 = made.intent(protocol=1)
    copied = made.size
    made.confirmation(signed)
    made.result(signed)

    items = export(made, saved(made, kept), saved(made, confirmed), saved(made, signed, signed=True), copied=copied)
    done = make(config, items)

    replay = replayed(config)
    states = {each.index: each.state for each in replay.certificates}
    assert states == {
        kept: "confirmed",
        confirmed: "confirmed",
        lost: "abandoned",
        signed: "issued",
        over_version_1: "confirmed",
    }
    assert (done.confirmed, done.abandoned, done.newest_head - done.copied) == (3, 1, 2)
    assert replay.certificates.check_certificate(made.certificates[signed]).index == signed
    journal = opened(config)
    found = journal.index.find_request(made.requests[kept].request_id)
    assert found is not None
    assert (found.tbs_certificate, found.state, found.log_hash) == (made.tbs[kept], "confirmed", made.log_hash(kept))
    journal.close()


def test_intents_behind_the_copys_end_are_written_down_again(made: JournalMaker, config: SignerConfig) -> None:
    open_in_copy = made.intent(request_id=b"a" * 32)
    copied = made.size
    made.abandonment(open_in_copy)
    second = made.intent(request_id=b"a" * 32)
    made.abandonment(second)
    third = made.intent(request_id=b"a" * 32)
    issued, waiting = made.issue(), made.intent()

    items = export(
        made, saved(made, open_in_copy), saved(made, third), saved(made, second), saved(made, issued, signed=True),
        saved(made, waiting), copied=copied,
    )  # fmt: skip
    done = make(config, items)

    replay = replayed(config)
    states = {
        name: replay.certificates.find_serial(made.serial(intent)).state  # type: ignore[union-attr] # all are there
        for name, intent in (
            ("open", open_in_copy), ("second", second), ("third", third), ("issued", issued), ("waiting", waiting)
        )
    }  # fmt: skip
    assert states == {
        "open": "abandoned",
        "second": "abandoned",
        "third": "confirmed",
        "issued": "issued",
        "waiting": "confirmed",
    }
    assert (done.taken_in, done.abandoned) == (4, 2)
    assert replay.certificates.check_certificate(made.certificates[issued]).state == "issued"
    journal = opened(config)
    again = journal.index.find_request(b"a" * 32)
    assert again is not None
    assert again.tbs_certificate == made.tbs[third]
    assert journal.index.used_counts() == {NAME: 3}
    journal.close()


def test_a_halt_of_the_copy_does_not_stop_what_was_done_before_it(made: JournalMaker, config: SignerConfig) -> None:
    made.halt("clock-back")
    copied = made.size
    made.logs[copied:] = []
    other = JournalMaker()
    other.begin()
    log = saved(other, other.intent(configuration_hash=b"another configuration, which was lost".ljust(40)))

    make(config, export(made, log, copied=copied))

    assert replayed(config).halts == {"clock-back": 4}


def test_revocations_that_a_crl_lists_stand(made: JournalMaker, config: SignerConfig) -> None:
    first, second, third = made.issue(), made.issue(), made.issue()
    made.revocation(first)
    made.crl()
    copied = made.size
    made.revocation(second, third)
    made.crl()

    done = make(config, export(made, SavedCrl(signing_ca=NAME, crl=made.crls[-1]), copied=copied))

    replay = replayed(config)
    assert done.revoked == 2
    assert bytes(replay.crls.lists[NAME].octets) == b"".join(made.revoked)
    assert all(replay.crls.revoked_at(made.serial(each)) for each in (first, second, third))


def test_a_crl_that_the_copy_knows_changes_nothing(made: JournalMaker, config: SignerConfig) -> None:
    made.crl()
    made.revocation(made.issue())

    assert make(config, export(made, SavedCrl(signing_ca=NAME, crl=made.crls[0]))).revoked == 0


def test_the_first_crl_may_be_behind_the_copys_end(made: JournalMaker, config: SignerConfig) -> None:
    issued = made.issue()
    copied = made.size
    made.revocation(issued)
    made.crl()

    assert make(config, export(made, SavedCrl(signing_ca=NAME, crl=made.crls[0]), copied=copied)).revoked == 1


def test_parts_that_the_copy_lacks_stay_away(made: JournalMaker, config: SignerConfig) -> None:
    intent = made.issue()
    made.drop_part(intent + 2)

    done = make(config, export(made))

    assert done.missing_parts == 1
    journal = opened(config)
    found = journal.index.find_request(made.requests[intent].request_id)
    assert found is not None
    assert (found.state, found.signature) == ("issued", b"")
    journal.close()


def test_a_new_key_is_taken_where_the_old_one_is_trusted(made: JournalMaker, tmp_path: Path) -> None:
    empty = JournalMaker()
    empty.journal_key = journal_key(2)
    config = load_signer_config(signer_site(tmp_path / "new", empty))
    now = made.now + dt.timedelta(days=1)

    with pytest.raises(
        OperatorError, match=r"is not trusted .* name its public half, as the client has it, with --key"
    ):
        rebuild(config, export(made), trusted=[], now=now, replace=False)
    rebuild(config, export(made), trusted=[PUBLIC_KEYS[1]], now=now, replace=False)

    assert [each.public_key for each in replayed(config).keys] == [PUBLIC_KEYS[1], PUBLIC_KEYS[2]]


def test_a_key_that_was_changed_behind_the_copys_end_is_the_signers(made: JournalMaker, tmp_path: Path) -> None:
    copied = made.size
    head = made.signed_head()
    made.key(journal_key(2))
    empty = JournalMaker()
    empty.journal_key = journal_key(2)
    config = load_signer_config(signer_site(tmp_path / "rotated", empty))
    end = End(head=head, newest=made.signed_head())

    done = rebuild(config, export(made, copied=copied, end=end), trusted=[PUBLIC_KEYS[1]], now=made.now, replace=False)

    assert done.newest_head == 4


def test_entries_are_committed_some_thousands_at_a_time(
    made: JournalMaker, config: SignerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "_ENTRIES_A_COMMIT", 2)

    assert make(config, export(made)).entries == 4


def test_a_journal_that_is_there_is_replaced_only_when_that_is_said(made: JournalMaker, tmp_path: Path) -> None:
    config = load_signer_config(signer_site(tmp_path / "signer", made))
    made.issue()
    old = (config.state / FILE_NAME).read_bytes()
    (config.state / f"{FILE_NAME}-wal").write_bytes(b"what a killed signer left")
    now = dt.datetime(2026, 12, 1, 12, 30, tzinfo=dt.UTC)

    with pytest.raises(OperatorError, match="say --replace"):
        rebuild(config, export(made), trusted=[], now=now, replace=False)
    done = rebuild(config, export(made), trusted=[], now=now, replace=True)

    aside = config.state / f"{FILE_NAME}.replaced-20261201T123000Z"
    assert done.kept_aside == aside
    assert aside.read_bytes() == old
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == b"what a killed signer left"
    assert replayed(config).size == made.size + 1


def test_a_damaged_journal_is_replaced(made: JournalMaker, config: SignerConfig) -> None:
    config.state.mkdir()
    (config.state / FILE_NAME).write_bytes(b"a torn disk" * 1000)

    done = rebuild(config, export(made), trusted=[], now=made.now, replace=True)

    assert done.entries == 4
    assert done.kept_aside is not None


def test_a_running_signer_keeps_its_journal(made: JournalMaker, tmp_path: Path) -> None:
    config = load_signer_config(signer_site(tmp_path / "signer", made))
    journal = opened(config)
    try:
        with pytest.raises(OperatorError, match="the signer is running on this journal"):
            rebuild(config, export(made), trusted=[], now=made.now, replace=True)
    finally:
        journal.close()


def foreign_crl(made: JournalMaker) -> Iterator[Item]:
    return export(made, SavedCrl(signing_ca="assured_2026_2", crl=b""))


def unsigned_crl(made: JournalMaker) -> Iterator[Item]:
    made.crl(signature=b"nobody's")
    return export(made, SavedCrl(signing_ca=NAME, crl=made.crls[0]), copied=3)


def crl_of_another_past(made: JournalMaker) -> Iterator[Item]:
    first, second = made.issue(), made.issue()
    made.revocation(first)
    other = JournalMaker()
    other.begin()
    other.revoked = [other.crl_entry(int.from_bytes(made.serial(second), "big"))]
    other.crl()
    return export(made, SavedCrl(signing_ca=NAME, crl=other.crls[0]))


def crl_without_its_certificate(made: JournalMaker) -> Iterator[Item]:
    copied = made.size
    made.revocation(made.issue())
    made.crl()
    return export(made, SavedCrl(signing_ca=NAME, crl=made.crls[0]), copied=copied)


def crl_with_a_long_number(made: JournalMaker) -> Iterator[Item]:
    made.revoked = [made.crl_entry(1 << 150)]
    made.crl()
    return export(made, SavedCrl(signing_ca=NAME, crl=made.crls[0]), copied=3)


def half_a_log(made: JournalMaker) -> Iterator[Item]:
    intent = made.intent()
    made.drop_part(intent)
    return export(made, saved(made, intent), copied=3)


def log_of_a_refusal(made: JournalMaker) -> Iterator[Item]:
    return export(made, saved(made, made.refusal()), copied=3)


def head_of_an_epoch_before(made: JournalMaker) -> Iterator[Item]:
    made.new_epoch()
    return export(made, end=End(head=made.signed_head(), newest=made.signed_head(epoch=1)))


def head_of_another_signer(made: JournalMaker) -> Iterator[Item]:
    return export(made, end=End(head=made.signed_head(), newest=made.signed_head(signer_id=2)))


def head_of_a_shorter_copy(made: JournalMaker) -> Iterator[Item]:
    return export(made, end=End(head=made.signed_head(), newest=made.signed_head(epoch=2)))


def newest_of_another_journal(made: JournalMaker) -> Iterator[Item]:
    return export(made, end=End(head=made.signed_head(), newest=made.signed_head(root_hash=b"r" * 32)))


def newest_of_nobody(made: JournalMaker) -> Iterator[Item]:
    head = made.signed_head()
    made.journal_key = journal_key(3)
    return export(made, end=End(head=head, newest=made.signed_head()))


def entry_of_another(made: JournalMaker) -> Iterator[Item]:
    made.signer_id = 2
    made.logs.clear()
    made.key()
    return export(made)


def two_at_once(made: JournalMaker) -> Iterator[Item]:
    confirmed = made.intent(request_id=b"i" * 32)
    made.confirmation(confirmed)
    copied = made.size
    made.abandonment(confirmed)
    return export(made, saved(made, made.intent(request_id=b"i" * 32)), copied=copied)


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        (lambda made: export(made, end=End(head=b"")), "has no signed head"),
        (lambda made: export(made, end=End(head=made.signed_head(signer_id=2))), "is that of signer 2, not 1"),
        (lambda made: iter([*list(export(made))[:2], made.logs[2]]), "entry 2: this entry says that it is entry 3"),
        (foreign_crl, "a CRL of assured_2026_2, which this signer never had"),
        (unsigned_crl, "signature does not verify"),
        (crl_of_another_past, "is not one that this journal leads to"),
        (crl_without_its_certificate, "and the export has no such certificate"),
        (crl_with_a_long_number, "and the export has no such certificate"),
        (half_a_log, "is not the whole log of an intent"),
        (log_of_a_refusal, "is not the whole log of an intent"),
        (head_of_an_epoch_before, "one of another signer or epoch"),
        (head_of_another_signer, "one of another signer or epoch"),
        (head_of_a_shorter_copy, "made again from the copy in another store, which was shorter; export from that"),
        (newest_of_another_journal, "is that of another journal"),
        (newest_of_nobody, "the newest signed head: no known journal key has signed this head"),
        (entry_of_another, "is one of signer 2, not 1"),
        (two_at_once, "has a certificate, or one on its way"),
    ],
)
def test_an_export_that_cannot_be_right_leaves_nothing(
    made: JournalMaker, config: SignerConfig, items: object, complaint: str
) -> None:
    with pytest.raises(OperatorError, match=complaint):
        make(config, items(made))  # type: ignore[operator] # one of the functions above

    assert not config.state.exists()


def test_a_directory_that_was_there_stays(made: JournalMaker, config: SignerConfig) -> None:
    config.state.mkdir()

    with pytest.raises(OperatorError, match="has no signed head"):
        make(config, export(made, end=End(head=b"")))

    assert list(config.state.iterdir()) == []


def test_a_journal_that_was_put_in_its_place_stays(
    made: JournalMaker, config: SignerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_directory: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "sync_directory", fail)

    with pytest.raises(OSError, match="Input/output error"):
        make(config, export(made))

    assert replayed(config).size == made.size + 1


def test_a_clock_that_is_behind_is_set_first(made: JournalMaker, config: SignerConfig) -> None:
    with pytest.raises(OperatorError, match="set the clock first"):
        make(config, export(made), later=dt.timedelta(0))


def test_a_state_that_cannot_be_made_is_said(made: JournalMaker, config: SignerConfig) -> None:
    config.state.write_bytes(b"a file")

    with pytest.raises(OperatorError, match="cannot make this directory"):
        make(config, export(made))


def test_the_file_is_a_sound_database(made: JournalMaker, config: SignerConfig) -> None:
    make(config, export(made))

    database = sqlite3.connect(config.state / FILE_NAME)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
