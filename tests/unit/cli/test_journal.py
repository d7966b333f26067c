"""`cassiopeia journal` over the signer's own journal, the client's copy and an exported file."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authorities import default_ca
from tests.support.journal_maker import JournalMaker, full_journal, journal_key
from tests.support.journal_sites import client_site, export_file, signer_site, write_public_key

from cassiopeia.cli.main import cassiopeia
from cassiopeia.journal import entry as entries
from cassiopeia.signer.journal import Journal

SOURCES = ["signer", "client", "file"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cassiopeia, [str(each) for each in arguments], prog_name="cassiopeia")


def done(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def failed(*arguments: str | Path, status: int = 1) -> str:
    result = run(*arguments)
    assert result.exit_code == status, result.output
    assert result.stderr.startswith("cassiopeia: error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def made() -> JournalMaker:
    return full_journal()


@pytest.fixture(scope="module")
def sites(made: JournalMaker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """The options that name each source."""
    directory = tmp_path_factory.mktemp("sites")
    return {
        "signer": ("-c", str(signer_site(directory / "signer", made))),
        "client": ("-c", str(client_site(directory / "client", made, key=3))),
        "file": ("--file", str(export_file(directory / "export", made))),
    }


@pytest.mark.parametrize("source", SOURCES)
def test_entries_are_shown_one_a_line(made: JournalMaker, sites: dict[str, tuple[str, str]], source: str) -> None:
    lines = done("journal", "show", *sites[source]).splitlines()

    assert [int(line.split()[0]) for line in lines] == list(range(1, made.size + 1))


def test_what_is_about_one_certificate_is_found(made: JournalMaker, sites: dict[str, tuple[str, str]]) -> None:
    serial = made.serial(4).hex()
    shown = json.loads(done("journal", "show", *sites["client"], "--serial", f"0x{serial[:30].upper()}", "--json"))

    assert [each["kind"] for each in shown] == ["intent", "confirmation", "result", "revocation"]
    assert shown[0]["serial"] == serial
    request = made.requests[4].request_id.hex()
    shown = json.loads(done("journal", "show", *sites["client"], "--request", request[:16], "--json"))
    assert [each["kind"] for each in shown] == ["intent", "confirmation", "result"]


def test_kinds_and_times_are_chosen(sites: dict[str, tuple[str, str]]) -> None:
    assert done("journal", "show", *sites["file"], "--kind", "crl", "--kind", "halt").count("\n") == 4
    assert done("journal", "show", *sites["file"], "--from", "2026-11-23", "--kind", "key").count("\n") == 1
    assert done("journal", "show", *sites["file"], "--to", "2026-11-23 12:00:00", "--kind", "key").count("\n") == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--kind", "feast"], "there are no entries of the kind 'feast'"),
        (["--serial", "xyz"], "--serial is hexadecimal"),
    ],
)
def test_a_wrong_filter_is_refused(sites: dict[str, tuple[str, str]], options: list[str], complaint: str) -> None:
    assert complaint in failed("journal", "show", *sites["file"], *options, status=2)


@pytest.mark.parametrize("source", SOURCES)
def test_a_sound_journal_is_verified(made: JournalMaker, sites: dict[str, tuple[str, str]], source: str) -> None:
    shown = done("journal", "verify", *sites[source])

    assert shown.endswith("Nothing is wrong.\n")
    assert f"of signer 1: {made.size} entries from 2026-11-23T12:30:15Z to" in shown
    assert "3 issued, 1 confirmed and not signed yet, 1 waiting for the client's word, 1 abandoned" in shown
    assert "unassured_2026_2: number 65539, 2 revoked" in shown
    assert "every hash, every part that is here, every rule, every signature" in shown
    assert f"signed head   of epoch 2, over {made.size} entries" in shown


def test_a_client_compares_all_that_it_has(sites: dict[str, tuple[str, str]]) -> None:
    assert "3 certificates and 2 CRLs" in done("journal", "verify", *sites["client"], "--quick")


def test_what_could_not_be_checked_is_said(tmp_path: Path) -> None:
    made = JournalMaker()
    made.begin()
    intent = made.issue()
    made.drop_part(intent)
    made.halt("clock-back")
    path = export_file(tmp_path / "export", made, newest=made.signed_head())

    shown = done("journal", "verify", "--file", path)

    assert "halted        clock-back, since entry 7" in shown
    assert "not here      1 parts: removed, or never copied" in shown
    assert "not checked   1 signatures, for want of those parts" in shown
    assert "newest head   of epoch 1, over 7 entries" in shown
    assert "entries more than are here" not in shown
    assert "no signatures (--quick)" in done("journal", "verify", "--file", path, "--quick")


def test_one_thing_that_is_wrong_is_said_once(made: JournalMaker, tmp_path: Path) -> None:
    other = JournalMaker()
    other.journal_key = journal_key(2)
    other.begin()
    path = export_file(tmp_path / "export", made, newest=other.signed_head())

    assert failed("journal", "verify", "--file", path) == (
        f"cassiopeia: error: {path}: the newest signed head: no known journal key has signed this head\n"
    )


def test_a_file_says_when_nobody_vouches_for_its_key(sites: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    assert "no key that you trust was named" in done("journal", "verify", *sites["file"])
    key = write_public_key(tmp_path / "journal.pem", journal_key(3))
    assert "by a key that --key vouches for" in done("journal", "verify", *sites["file"], "--key", key)
    other = write_public_key(tmp_path / "other.pem", journal_key(2))
    assert "none of those that are trusted" in failed("journal", "verify", *sites["file"], "--key", other)


def test_certificates_and_crls_are_compared(
    made: JournalMaker, sites: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    kept, crls = tmp_path / "certificates", tmp_path / "crls"
    kept.mkdir()
    crls.mkdir()
    pem = b"".join(
        x509.load_der_x509_certificate(each).public_bytes(Encoding.PEM) for each in made.certificates.values()
    )
    (kept / "all.pem").write_bytes(pem)
    (kept / "ca.crt").write_bytes(default_ca().certificate.issuer.public_bytes() and _root())
    (kept / "notes.txt").write_text("not looked at")
    (crls / "old.crl").write_bytes(made.crls[0])
    (crls / "new.pem").write_bytes(x509.load_der_x509_crl(made.crls[-1]).public_bytes(Encoding.PEM))
    (crls / "key.pem").write_text("-----BEGIN PUBLIC KEY-----\n")

    shown = done("journal", "verify", *sites["file"], "--certificates", kept, "--crl", crls)

    assert "3 certificates and 2 CRLs; 1 more are of other CAs" in shown


def _root() -> bytes:
    """A certificate of another CA."""
    other = JournalMaker()
    other.begin()
    der = other.certificates[other.issue()]
    return der.replace(b"unassured_2026_2", b"unassured_1999_9")


def test_everything_that_is_wrong_is_named(
    made: JournalMaker, sites: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    other = JournalMaker()
    other.begin()
    for _ in range(4):
        other.intent()
    other.issue(request_id=b"o" * 32)
    other.crl()
    (tmp_path / "stranger.crt").write_bytes(other.certificates[8])
    (tmp_path / "burned.crt").write_bytes(other_certificate(made, 10))
    (tmp_path / "stranger.crl").write_bytes(other.crls[0])
    (tmp_path / "broken.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")

    result = run(
        "journal", "verify", *sites["file"], "--certificates", tmp_path / "stranger.crt",
        "--certificates", tmp_path / "burned.crt", "--crl", tmp_path / "stranger.crl",
    )  # fmt: skip

    assert result.exit_code == 1
    assert "WRONG     " in result.stdout
    assert "is not in this journal" in result.stdout
    assert "its intent at entry 10 is abandoned" in result.stdout
    assert "is another one than that of entry" in result.stdout
    assert "3 things are wrong, the first: " in result.stderr
    assert "cannot be read" in failed("journal", "verify", *sites["file"], "--certificates", tmp_path / "broken.pem")


def other_certificate(made: JournalMaker, intent: int) -> bytes:
    from cassiopeia.core import certificate  # noqa: PLC0415 - the only place

    return certificate.compose_certificate(made.tbs[intent], made.sign(made.tbs[intent]))


def test_a_lie_is_named_with_its_entry(tmp_path: Path) -> None:
    made = JournalMaker()
    made.begin()
    made.result(made.intent())
    path = export_file(tmp_path / "export", made)

    result = run("journal", "verify", "--file", path)

    assert result.exit_code == 1
    assert "journal       4 entries were read, and all was well with them" in result.stdout
    assert "entry 5: the intent at entry 4 is open: nothing may be signed for it" in result.stderr


def test_a_file_that_was_cut_short_is_not_verified(sites: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    lines = Path(sites["file"][1]).read_bytes().splitlines(keepends=True)
    (tmp_path / "cut").write_bytes(b"".join(lines[:-1]))
    assert "it was cut short" in failed("journal", "verify", "--file", tmp_path / "cut")
    (tmp_path / "without").write_bytes(b"".join([*lines[:-3], lines[-1]]))
    assert "the rest is missing" in failed("journal", "verify", "--file", tmp_path / "without")


def test_the_signers_own_journal_must_be_complete(tmp_path: Path) -> None:
    made = JournalMaker()
    made.begin()
    made.refusal()
    made.drop_part(made.size)

    assert "no entry says that it was removed" in failed(
        "journal", "verify", "-c", signer_site(tmp_path / "signer", made)
    )


def test_a_copy_that_lags_is_not_wrong(tmp_path: Path) -> None:
    made = JournalMaker()
    made.begin()
    made.issue()
    made.crl()
    copied = made.size
    last = made.issue()
    made.revocation(last)
    made.crl()
    config = client_site(tmp_path / "client", made, copied=copied)

    shown = done("journal", "verify", "-c", config)

    assert "newest head   of epoch 1, over 12 entries" in shown
    assert "5 entries more than are here" in shown
    assert "3 of them are newer than this copy of the journal" in shown


@pytest.mark.parametrize("source", SOURCES)
def test_an_export_is_read_again(
    made: JournalMaker, sites: dict[str, tuple[str, str]], source: str, tmp_path: Path
) -> None:
    out = tmp_path / "export"

    assert done("journal", "export", *sites[source], "--out", out) == f"{out}: written\n"
    assert out.stat().st_mode & 0o777 == 0o600
    assert done("journal", "verify", "--file", out).endswith("Nothing is wrong.\n")
    kept = [json.loads(line)["entry"] for line in out.read_text().splitlines() if '"line":"entry"' in line]
    assert len(kept) == made.size
    assert "is there already" in failed("journal", "export", *sites[source], "--out", out)
    assert done("journal", "export", *sites[source]) == out.read_text()


def test_a_clients_export_has_what_its_copy_may_lack(made: JournalMaker, sites: dict[str, tuple[str, str]]) -> None:
    lines = [json.loads(line) for line in done("journal", "export", *sites["client"]).splitlines()]

    # The confirmed and the open intent have no end yet.
    assert [each["line"] for each in lines[made.size + 1 :]] == ["saved-log", "saved-log", "saved-crl", "head"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("options", [[], ["--without-parts"]])
def test_a_proof_can_be_checked(
    made: JournalMaker, sites: dict[str, tuple[str, str]], source: str, options: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "proof.json"
    key = write_public_key(tmp_path / "journal.pem", journal_key(3))
    done("journal", "prove", made.serial(4).hex()[:31], *sites[source], *options, "--out", out)

    shown = done("journal", "check-proof", out, "--key", key).splitlines()

    assert [line.split()[2] for line in shown[:-1]] == ["intent", "confirmation", "result", "revocation"]
    assert ("www.example.org" in shown[0]) == (not options)
    assert shown[-1].startswith(
        f"Proved: these are entries of the journal of signer 1, signed over {made.size} entries"
    )
    other = write_public_key(tmp_path / "other.pem", journal_key(2))
    assert "no known journal key has signed this head" in failed("journal", "check-proof", out, "--key", other)


@pytest.mark.parametrize(
    ("serial", "complaint"),
    [
        ("01", "more than one serial number begins with 01"),
        ("77", "no certificate has a serial number that begins with 77"),
    ],
)
def test_a_proof_is_about_one_certificate(sites: dict[str, tuple[str, str]], serial: str, complaint: str) -> None:
    assert complaint in failed("journal", "prove", serial, *sites["file"])


def test_a_proof_needs_a_head_that_covers_it(tmp_path: Path) -> None:
    made = JournalMaker()
    made.begin()
    path = export_file(tmp_path / "export", made)
    old_head = path.read_bytes().splitlines(keepends=True)[-1]
    made.issue()
    lines = export_file(tmp_path / "longer", made).read_bytes().splitlines(keepends=True)
    (tmp_path / "behind").write_bytes(b"".join([*lines[:-1], old_head]))
    empty = '{"line":"head","size":0,"head_octets":"","head_signature":"","newest_octets":"","newest_signature":""}\n'
    (tmp_path / "headless").write_bytes(b"".join([*lines[:-1], empty.encode()]))

    serial = made.serial(4).hex()
    assert "covers 3 entries, and what is asked for came later" in failed(
        "journal", "prove", serial, "--file", tmp_path / "behind"
    )
    assert "there is no signed head yet" in failed("journal", "prove", serial, "--file", tmp_path / "headless")
    assert "the last 3 entries came after it" in done("journal", "verify", "--file", tmp_path / "behind")
    assert "there is none over these entries" in done("journal", "verify", "--file", tmp_path / "headless")


def test_the_environment_names_a_configuration(
    sites: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASSIOPEIA_CONFIG", sites["client"][1])
    assert f"[journal] keys of {sites['client'][1]}" in done("journal", "verify")
    assert "no key that you trust was named" in done("journal", "verify", *sites["file"])


def test_one_journal_is_named(sites: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    assert "name one journal" in failed("journal", "show")
    assert "name one journal" in failed("journal", "show", *sites["file"], *sites["client"])
    (tmp_path / "neither.toml").write_text("[colour]\n")
    assert "neither a signer.toml nor a client.toml" in failed("journal", "show", "-c", tmp_path / "neither.toml")
    (tmp_path / "broken.toml").write_text("[\n")
    assert "this is not TOML" in failed("journal", "show", "-c", tmp_path / "broken.toml")
    (tmp_path / "key.pem").write_text("no key\n")
    assert "this is not a journal's public key" in failed(
        "journal", "verify", *sites["file"], "--key", tmp_path / "key.pem"
    )


def test_a_client_may_have_no_copy_or_several(sites: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    config = client_site(tmp_path / "client", JournalMaker())
    assert "has no copy of any signer's journal yet" in failed("journal", "show", "-c", config)
    assert "has no copy of the journal of signer 2 yet" in failed("journal", "show", "-c", config, "--signer", "2")
    made = JournalMaker(signer_id=2)
    made.begin()
    assert made.size
    assert done("journal", "show", *sites["client"], "--signer", "1")


def test_a_journal_that_is_not_there_yet_is_said_to_be_so(tmp_path: Path) -> None:
    config = signer_site(tmp_path / "signer", JournalMaker())
    assert "there is no journal: the signer has not run yet" in failed("journal", "show", "-c", config)
    Journal(tmp_path / "signer" / "state", signer_id=1, key=journal_key()).close()
    assert done("journal", "show", "-c", config) == ""
    assert "the journal has no entries yet" in failed("journal", "verify", "-c", config)


def test_a_running_signer_keeps_its_journal_to_itself(tmp_path: Path) -> None:
    made = JournalMaker()
    made.begin()
    config = signer_site(tmp_path / "signer", made)
    journal = Journal(tmp_path / "signer" / "state", signer_id=1, key=journal_key())
    journal.record_halt("clock-back", "a test", now=made.now + dt.timedelta(days=1))
    journal.commit()
    try:
        assert "the signer is running" in failed("journal", "show", "-c", config)
    finally:
        journal.close()
    (tmp_path / "signer" / "state" / "journal.sqlite").write_bytes(b"no database" * 1000)
    assert "cannot read the journal" in failed("journal", "show", "-c", config)


def test_the_journals_key_is_changed(tmp_path: Path) -> None:
    made = JournalMaker()
    made.begin()
    config = signer_site(tmp_path / "signer", made)
    before = write_public_key(tmp_path / "before.pem", journal_key())

    shown = done("journal", "rotate-key", "-c", config)

    public = shown[shown.index("-----BEGIN") : shown.index("-----END PUBLIC KEY-----\n") + 25]
    (tmp_path / "after.pem").write_text(public)
    assert (config.parent / "journal.key").stat().st_mode & 0o777 == 0o600
    assert not (config.parent / "journal.key.next").exists()
    for key in (before, tmp_path / "after.pem"):
        assert "epoch 1" in done("journal", "verify", "-c", config, "--key", key)
    assert entries.KINDS
    done("journal", "rotate-key", "-c", config)
    assert done("journal", "show", "-c", config, "--kind", "key").count("\n") == 3
