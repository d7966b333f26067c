"""`cassiopeia journal recover`, and what `journal verify` says before it and after it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.journal_maker import JournalMaker, journal_key
from tests.support.journal_sites import client_site, export_file, signer_site, write_public_key

from cassiopeia.cli.journal_source import read_file
from cassiopeia.cli.main import cassiopeia
from cassiopeia.core.request import CertificateRequest
from cassiopeia.journal.transcript import End, Item, encode_item
from cassiopeia.store.database import open_store

VERIFY, RECOVER = ("journal", "verify"), ("journal", "recover")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cassiopeia, [str(each) for each in arguments], prog_name="cassiopeia")


def done(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def failed(*arguments: str | Path) -> Result:
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("cassiopeia: error: ")
    assert result.stderr.count("\n") == 1
    return result


@pytest.fixture
def made() -> JournalMaker:
    """A journal of three certificates, of which the first is revoked."""
    sound = JournalMaker()
    sound.begin()
    first, _, _ = sound.issue(), sound.issue(), sound.issue()
    sound.revocation(first)
    sound.crl()
    return sound


def site(directory: Path, made: JournalMaker, *, copied: int | None = None) -> Path:
    """A client that knows its sub-CAs by the journal alone."""
    config = client_site(directory / "client", made, copied=copied)
    (config.parent / "authorities.toml").write_text("authority = []\n")
    return config


@pytest.fixture
def config(made: JournalMaker, tmp_path: Path) -> Path:
    """The client's, which has lost nothing yet."""
    path = site(tmp_path, made)
    assert done(*VERIFY, "-c", path).endswith("Nothing is wrong.\n")
    return path


def change(config: Path, *statements: str, of: str = "") -> None:
    """Do this to the store, behind everybody's back; `of` is the value of each parameter."""
    connection = sqlite3.connect(config.parent / "store.sqlite")
    for statement in statements:
        connection.execute(statement, (of,) * statement.count("?"))
    connection.commit()
    connection.close()


def lose(config: Path) -> None:
    """What the client has ever done, but not its copy of the journal."""
    change(config, "DELETE FROM job", "DELETE FROM signing_log", "DELETE FROM certificate", "DELETE FROM request")


def submit(config: Path, request: CertificateRequest, made: JournalMaker) -> None:
    with open_store(f"sqlite:///{config.parent}/store.sqlite") as store:
        store.requests.submit(request, request_id=request.request_id, now=made.now)


def test_verify_says_what_is_lost_and_what_to_do(made: JournalMaker, config: Path) -> None:
    lose(config)

    assert "3 certificates of the journal are not in the store, as after a restore of an older database: run" in (
        failed(*VERIFY, "-c", config).stderr
    )
    shown = done(*RECOVER, "-c", config)
    assert f"journal       of signer 1: {made.size} entries, {made.size} of them signed for\n" in shown
    assert "known         0 of its certificates were in the store\n" in shown
    assert "taken in      3 certificates, 1 of them revoked\n" in shown
    assert shown.endswith("Nothing else is lost.\n")

    assert done(*VERIFY, "-c", config).endswith("Nothing is wrong.\n")
    shown = done(*RECOVER, "-c", config)
    assert "taken in      0 certificates" in shown
    assert shown.endswith("Nothing was lost.\n")


def test_verify_misses_a_revocation(config: Path) -> None:
    change(config, "UPDATE certificate SET revocation_state = 'none', revoked_at = NULL")

    assert "1 certificates were revoked, and the store does not know it: run" in failed(*VERIFY, "-c", config).stderr
    assert "revoked       1 certificates that the store had" in done(*RECOVER, "-c", config)
    done(*VERIFY, "-c", config)


def test_what_comes_by_itself_is_not_wrong(made: JournalMaker, config: Path) -> None:
    lose(config)
    for request in made.requests.values():
        submit(config, request, made)

    assert "not here yet  3 certificates, whose requests wait in the queue\n" in done(*VERIFY, "-c", config)
    shown = done(*RECOVER, "-c", config)
    assert "3 of their requests waited in the queue, and are issued now\n" in shown
    assert "not here yet" not in done(*VERIFY, "-c", config)


def test_certificates_of_version_1_may_be_elsewhere(tmp_path: Path) -> None:
    made = JournalMaker()
    made.begin()
    made.issue(protocol=1)
    made.issue()
    config = site(tmp_path, made)
    lose(config)

    shown = failed(*VERIFY, "-c", config)
    assert "not here      1 certificates of clients of version 1, which keep their own\n" in shown.stdout
    assert "1 certificates of the journal are not in the store" in shown.stderr
    assert "taken in      2 certificates" in done(*RECOVER, "-c", config)


def test_what_the_journal_has_no_longer_is_said(tmp_path: Path) -> None:
    made = JournalMaker()
    made.begin()
    intent = made.issue()
    whole = export_file(tmp_path / "whole.journal", made)
    made.drop_part(intent)
    config = site(tmp_path, made)
    lose(config)

    assert "not here      1 certificates, and the journal has their octets no longer\n" in done(*VERIFY, "-c", config)
    shown = done(*RECOVER, "-c", config)
    assert f"not here      {made.serial(intent).hex()}: the journal that was read has its octets no longer" in shown

    assert "taken in      1 certificates" in done(*RECOVER, "-c", config, "--file", whole)
    assert "not here" not in done(*RECOVER, "-c", config)


def test_a_journal_may_come_from_a_file(
    made: JournalMaker, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(config)
    change(config, "DELETE FROM journal_chunk", "DELETE FROM journal_copy")
    until = made.size
    head = made.signed_head()
    file = export_file(tmp_path / "export", made)
    made.issue()
    monkeypatch.setenv("CASSIOPEIA_CONFIG", str(config))

    assert "no copy of any signer's journal yet" in failed(*RECOVER).stderr
    stranger = write_public_key(tmp_path / "stranger.pem", journal_key(2))
    assert "none of those that are trusted" in failed(*RECOVER, "--file", file, "--key", stranger).stderr
    assert f"{until} entries, {until} of them signed for" in done(*RECOVER, "--file", file)

    # The newest entries are left alone while nobody has signed for them.
    early = tmp_path / "early"
    items: list[Item] = [*list(read_file(file))[:-1], *made.logs[until:], End(head=head)]
    early.write_bytes(b"".join(map(encode_item, items)))
    assert "left alone    the last 3 entries: nothing signed covers them yet\n" in done(*RECOVER, "--file", early)


def test_entries_that_are_still_to_be_copied_are_announced(made: JournalMaker, tmp_path: Path) -> None:
    config = site(tmp_path, made, copied=made.size - 2)

    shown = done(*RECOVER, "-c", config)

    assert "not here      2 entries more that the signer has: let the client run, then do this again\n" in shown


def test_what_contradicts_the_journal_is_told_and_stays(made: JournalMaker, config: Path) -> None:
    first, second, third = made.certificates
    serials = [made.serial(each).hex() for each in (first, second, third)]
    change(config, "UPDATE certificate SET der = (SELECT der FROM certificate WHERE id = 1) WHERE id = 2")
    change(config, "DELETE FROM certificate WHERE serial_number = ?", of=serials[2])
    refuse = "UPDATE request SET state = 'refused', refusal_code = 'no' WHERE request_id = ?"
    change(config, refuse, of=made.requests[third].request_id.hex())

    shown = failed(*RECOVER, "-c", config)

    assert f"              {serials[2]} has no request here: another one has its id, or was refused\n" in shown.stdout
    assert f"PROBLEM       {serials[1]}: the store has another certificate under this number\n" in shown.stdout
    assert "1 things were left as they are, the first: " in shown.stderr


def test_a_signer_has_no_store(made: JournalMaker, tmp_path: Path, config: Path) -> None:
    signer = signer_site(tmp_path / "signer", made)
    assert "this is a signer's; name the client.toml whose store it is" in failed(*RECOVER, "-c", signer).stderr

    text = config.read_text().replace('keys = ["journal.pem"]', "").replace("[journal]", "")
    config.write_text(text.replace('peers = ["peers/signer.pem"]', 'peers = ["peers/signer.pem"]\nversion = 1'))
    assert "it names no [journal] keys" in failed(*RECOVER, "-c", config).stderr
