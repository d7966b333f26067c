"""`cassiopeia signer rebuild`: what a person reads of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.journal_maker import JournalMaker, journal_key
from tests.support.journal_sites import client_site, export_file, signer_site, write_public_key

from cassiopeia.cli.main import cassiopeia


@pytest.fixture
def made() -> JournalMaker:
    sound = JournalMaker()
    sound.begin()
    sound.issue()
    sound.crl()
    return sound


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cassiopeia, [str(each) for each in arguments], prog_name="cassiopeia")


def test_the_way_from_the_clients_copy_to_a_new_journal(made: JournalMaker, tmp_path: Path) -> None:
    copied = made.size
    made.issue()
    made.confirmation(made.intent())
    client = client_site(tmp_path / "client", made, copied=copied)
    signer = signer_site(tmp_path / "signer", JournalMaker())
    export = tmp_path / "export"
    assert run("journal", "export", "-c", client, "--out", export).exit_code == 0

    done = run("signer", "rebuild", "-c", signer, "--journal", export)

    assert (done.exit_code, done.stderr) == (0, "")
    assert "The journal of signer 1 is made again: 13 entries, epoch 2." in done.stdout
    assert "entries at its end that are lost: 5; what the client knew of them:" in done.stdout
    assert "intents written down again: 2, revocations restored: 0" in done.stdout
    assert "parts" not in done.stdout
    assert run("journal", "verify", "-c", signer).stdout.endswith("Nothing is wrong.\n")
    again = run("signer", "rebuild", "-c", signer, "--journal", export)
    assert (again.exit_code, "say --replace" in again.stderr) == (1, True)
    done = run("signer", "rebuild", "-c", signer, "--journal", export, "--replace")
    assert "the journal before it is kept as" in done.stdout


def test_a_new_key_needs_somebody_to_vouch_for_the_old_one(made: JournalMaker, tmp_path: Path) -> None:
    made.drop_part(made.size)
    export = export_file(tmp_path / "export", made)
    empty = JournalMaker()
    empty.journal_key = journal_key(2)
    signer = signer_site(tmp_path / "signer", empty)
    old = write_public_key(tmp_path / "old.pem", journal_key(1))

    refused = run("signer", "rebuild", "-c", signer, "--journal", export)
    done = run("signer", "rebuild", "-c", signer, "--journal", export, "--key", old)

    assert "name its public half, as the client has it, with --key" in refused.stderr
    assert (done.exit_code, done.stderr) == (0, "")
    assert "parts that are not in the copy, and stay away: 1" in done.stdout
    assert "are lost" not in done.stdout
