"""What the journal knows of public keys: whose they are, and what stays when parts are removed or tables made anew."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.authorities import server_request
from tests.support.journal_maker import JournalMaker
from tests.support.journal_sites import signer_site
from tests.support.known_keys import certification_request, elliptic_key, public_octets, rsa_key
from tests.support.rebuilding import export, make, opened
from tests.support.signer import JOURNAL_KEY, NOW, meaningless_tbs, open_journal, record_intent

from cassiopeia.config import load_signer_config
from cassiopeia.core.key_identity import identify_certified_key, identify_key
from cassiopeia.core.request import CertificateRequest
from cassiopeia.signer.journal import Intent, Journal
from cassiopeia.signer.journal_file import FILE_NAME
from cassiopeia.signer.journal_index import KeyOwner

YEAR = dt.timedelta(days=365)
RSA = public_octets(rsa_key(0, 1))
EC = public_octets(elliptic_key(1))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = open_journal(tmp_path)
    yield opened
    opened.close()


def intend(
    journal: Journal, number: int, key: bytes, *, account: str = "alice", now: dt.datetime = NOW, protocol: int = 2
) -> Intent:
    """An intent for a certificate of this key."""
    return journal.record_intent(
        CertificateRequest(key_kind="csr", key_proof=b"csr", profile="profile", account=account),
        request_id=number.to_bytes(32, "big"),
        request_digest=b"d" * 32,
        protocol=protocol,
        boot_id=b"b" * 16,
        configuration_hash=b"c" * 32,
        signing_ca="unassured_2026_2",
        serial_number=bytes([1]) + number.to_bytes(15, "big"),
        algorithm=b"a",
        tbs_certificate=meaningless_tbs(number, public_key=key),
        now=now,
    )


def abandon(journal: Journal, intent: Intent) -> None:
    journal.record_abandonment(intent, code="vetoed", reason="veto", now=NOW)


def digest(key: bytes) -> bytes:
    return identify_key(key).digest


def owner(journal: Journal, key: bytes) -> KeyOwner | None:
    return journal.index.key_owner(digest(key))


def keys_in(directory: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(directory / FILE_NAME)) as database:
        return database.execute("SELECT * FROM public_key ORDER BY position").fetchall()


def make_anew(directory: Path) -> Journal:
    with closing(sqlite3.connect(directory / FILE_NAME)) as database:
        database.execute("PRAGMA user_version = 0")
    return Journal(directory, signer_id=1, key=JOURNAL_KEY)


def test_a_key_belongs_to_the_account_that_it_is_certified_for(journal: Journal) -> None:
    assert (owner(journal, EC), journal.index.knows_key(digest(EC))) == (None, False)
    first = intend(journal, 1, EC)
    assert (owner(journal, EC), journal.index.knows_key(digest(EC))) == (KeyOwner(account="alice"), True)
    second = intend(journal, 2, EC)
    assert journal.index.certificates_of_key(digest(EC)) == [first.serial_number, second.serial_number]
    assert owner(journal, RSA) is None


def test_a_key_of_version_1_belongs_to_the_empty_account(journal: Journal) -> None:
    intend(journal, 1, EC, account="", protocol=1)
    assert owner(journal, EC) == KeyOwner(account="")


def test_a_certificate_that_was_given_up_makes_nobody_an_owner(journal: Journal) -> None:
    intent = intend(journal, 1, EC)
    abandon(journal, intent)
    assert (owner(journal, EC), journal.index.knows_key(digest(EC))) == (None, True)
    assert journal.index.certificates_of_key(digest(EC)) == []
    # Another account may have it now.
    intend(journal, 2, EC, account="bob")
    assert owner(journal, EC) == KeyOwner(account="bob")
    # One that is confirmed or issued stays: it may be signed at any time.
    kept = intend(journal, 3, RSA)
    journal.record_confirmation(kept, log_hash=kept.log_hash, now=NOW)
    assert owner(journal, RSA) == KeyOwner(account="alice")


def test_the_account_is_forgotten_with_the_part_and_the_key_is_not(journal: Journal) -> None:
    first = intend(journal, 1, RSA)
    intend(journal, 2, RSA, now=NOW + YEAR)
    journal.commit()
    journal.remove_parts(before=NOW + YEAR / 2, now=NOW + YEAR)
    # A younger certificate still says whose it is.
    assert owner(journal, RSA) == KeyOwner(account="alice")
    journal.remove_parts(before=NOW + 2 * YEAR, now=NOW + 2 * YEAR)
    assert owner(journal, RSA) == KeyOwner(account=None)
    assert journal.index.certificates_of_key(digest(RSA))[0] == first.serial_number
    assert journal.index.moduli(after=0, at_most=10) == [(first.position, identify_key(RSA).modulus)]


def test_no_part_is_read_to_tell_whose_a_key_is(journal: Journal) -> None:
    intend(journal, 1, RSA)
    journal._execute("DELETE FROM part")
    assert owner(journal, RSA) == KeyOwner(account="alice")


def test_keys_of_an_older_release_get_their_accounts_as_far_as_parts_tell(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    intend(journal, 1, RSA)
    intend(journal, 2, EC, now=NOW + YEAR)
    journal.commit()
    journal.remove_parts(before=NOW + YEAR / 2, now=NOW + YEAR)
    journal.commit()
    journal.close()
    grown = keys_in(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute("ALTER TABLE public_key DROP COLUMN account")
    journal = make_anew(tmp_path)
    assert (owner(journal, RSA), owner(journal, EC)) == (KeyOwner(account=None), KeyOwner(account="alice"))
    journal.close()
    assert keys_in(tmp_path) == grown


def test_each_modulus_comes_once_and_in_order(journal: Journal) -> None:
    keys = [public_octets(rsa_key(0, number)) for number in range(1, 5)]
    positions = [intend(journal, number, key).position for number, key in enumerate([*keys, keys[0], EC])]
    everything = journal.index.moduli(after=0, at_most=10)
    assert everything == [(at, identify_key(key).modulus) for at, key in zip(positions, keys, strict=False)]
    assert journal.index.moduli(after=0, at_most=2) == everything[:2]
    assert journal.index.moduli(after=positions[1], at_most=2) == everything[2:]
    assert journal.index.moduli(after=positions[3], at_most=2) == []
    assert journal.index.count_moduli() == len(keys)


def test_an_exponent_makes_no_other_key() -> None:
    other = public_octets(rsa_key(0, 1, exponent=65539))
    assert other != RSA
    assert identify_key(other) == identify_key(RSA)


def test_what_is_known_of_keys_is_the_same_when_tables_are_made_anew(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    intend(journal, 1, RSA)
    abandon(journal, intend(journal, 2, EC))
    intend(journal, 3, RSA)
    record_intent(journal, 4)
    journal.commit()
    journal.close()
    grown = keys_in(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute("DROP TABLE public_key")
    make_anew(tmp_path).close()
    assert keys_in(tmp_path) == grown
    assert [row[2] is not None for row in grown] == [True, False, False, False]


def test_what_no_part_says_any_more_outlives_new_tables(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    intend(journal, 1, RSA)
    abandon(journal, intend(journal, 2, EC))
    journal.commit()
    journal.remove_parts(before=NOW + YEAR, now=NOW + YEAR)
    journal.commit()
    journal.close()
    grown = keys_in(tmp_path)
    journal = make_anew(tmp_path)
    assert keys_in_open(journal) == grown
    assert (owner(journal, RSA), owner(journal, EC)) == (KeyOwner(account=None), None)
    journal.close()


def keys_in_open(journal: Journal) -> list[tuple[object, ...]]:
    return journal._execute("SELECT * FROM public_key ORDER BY position")


def test_a_journal_that_is_made_again_knows_the_keys_of_its_copy(tmp_path: Path) -> None:
    made = JournalMaker()
    made.begin()
    issued = made.issue()
    given_up = made.intent(request=server_request(key_proof=certification_request(elliptic_key(1))))
    config = load_signer_config(signer_site(tmp_path / "signer", JournalMaker()))

    make(config, export(made))

    journal = opened(config)
    rows = keys_in_open(journal)
    assert [row[0] for row in rows] == [issued, given_up]
    key = identify_certified_key(made.tbs[issued])
    assert journal.index.key_owner(key.digest) == KeyOwner(account=made.requests[issued].account)
    assert journal.index.key_owner(identify_certified_key(made.tbs[given_up]).digest) is None
    journal.close()
