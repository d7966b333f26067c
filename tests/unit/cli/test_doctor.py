"""`cassiopeia doctor`: a line for everything, what to do by when, and a status that monitors understand."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.client_store import opened_client_store, run, write_authorities
from tests.unit.cli.test_status import CA, hear, publish

from cassiopeia.checkup import CODES_OF
from cassiopeia.client import machine_check
from cassiopeia.link.credentials import make_link_key
from cassiopeia.store.database import Store


@pytest.fixture
def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: dt.datetime) -> Iterator[Store]:
    """All is well."""
    with opened_client_store(tmp_path, monkeypatch) as opened:
        Path("profiles").mkdir()
        Path("peers").mkdir()
        make_link_key(certificate=Path("link.pem"), key=Path("link.key"), common_name="client")
        make_link_key(certificate=Path("peers/signer.pem"), key=Path("peers/signer.key"), common_name="signer")
        hear(opened, now)
        publish(opened, now)
        yield opened


def lines(text: str) -> dict[str, str]:
    """What is said of each thing, by its name."""
    return {line[10:25].strip(): line for line in text.splitlines() if line[:8].strip() and line[8:10] == "  "}


@pytest.mark.usefixtures("store")
def test_all_is_well() -> None:
    result = run("doctor")

    assert (result.exit_code, result.stderr) == (0, "")
    said = lines(result.stdout)
    assert list(said) == list(CODES_OF)
    assert all(each.startswith("OK        ") for each in said.values())
    assert "1 sub-CAs, 0 profiles" in said["configuration"]
    assert "signer 1 running, heard" in said["signers"]
    assert "1 stored and published" in said["CRLs"]
    assert "let `cassiopeia crl watch` run" in said["CRLs served"]


def test_what_is_to_do_has_its_day(store: Store, now: dt.datetime) -> None:
    hear(
        store,
        now,
        authorities=[{"name": "unassured_2027_1", "issued": 0, "revoked": 0, "not_after": "2099-01-01T00:00:00Z"}],
    )

    result = run("doctor")

    assert result.exit_code == 1
    said = result.stdout.splitlines()
    [first] = [number for number, line in enumerate(said) if f"signer 1 does not have {CA}" in line]
    assert said[first].startswith("CRITICAL  bundle         signer 1 does not have")
    assert said[first + 1].lstrip().startswith("-> install the signer's bundle")


def test_a_day_that_comes(store: Store, now: dt.datetime) -> None:
    text = Path("authorities.toml").read_text(encoding="utf-8")
    soon = (now + dt.timedelta(days=30)).replace(microsecond=0)
    kept = "\n".join(
        f"issues_until = {soon.isoformat()}" if line.startswith("issues_until") else line for line in text.splitlines()
    )
    Path("authorities.toml").write_text(kept, encoding="utf-8")

    result = run("doctor", "--nagios")

    assert store.signers.list()
    assert result.exit_code == 1
    assert result.stdout.startswith(
        "CASSIOPEIA WARNING - 1 to do: the last sub-CA of the family unassured of signer 1 "
    )
    assert f"-> by {soon:%F}: hold a ceremony before that" in result.stdout
    assert f"-> by {soon:%F}: hold a ceremony before that" in run("status").stdout


@pytest.mark.usefixtures("store")
def test_nagios_hears_one_line_first() -> None:
    result = run("doctor", "--nagios")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "CASSIOPEIA OK - nothing needs a person | to_do=0 urgent=0"
    assert len(result.stdout.splitlines()) == 1 + len(CODES_OF)


def test_what_is_urgent_is_critical_for_nagios(store: Store, now: dt.datetime) -> None:
    hear(store, now, state="halted", reason="one | two\nthree")

    result = run("doctor", "--nagios")

    assert result.exit_code == 2
    assert result.stdout.splitlines()[0].startswith("CASSIOPEIA CRITICAL - 1 to do: signer 1 issues nothing: one / two")
    assert run("doctor").exit_code == 1


def test_for_scripts(store: Store, now: dt.datetime) -> None:
    hear(store, now, state="halted", reason="x")

    result = run("doctor", "--json")
    document = json.loads(result.stdout)

    assert result.exit_code == 1
    assert document["state"] == "critical"
    checks = {each["name"]: each for each in document["checks"]}
    assert list(checks) == list(CODES_OF)
    [concern] = checks["signers"]["concerns"]
    assert (concern["code"], concern["urgent"], concern["due"]) == ("signer-halted", True, None)
    assert checks["calendar"]["state"] == "ok"


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda: Path("client.toml").write_text("x = 1\n", encoding="utf-8"), "client.toml: "),
        (lambda: Path("authorities.toml").unlink(), "authorities.toml: "),
        (lambda: Path("link.key").chmod(0o644), "chmod 600"),
        (lambda: Path("peers/signer.pem").unlink(), "signer.pem"),
        (lambda: Path("profiles/a.toml").write_text("family = 3\n", encoding="utf-8"), "a.toml"),
    ],
)
def test_a_configuration_that_nothing_can_start_with(harm: object, words: str) -> None:
    assert callable(harm)
    harm()

    result = run("doctor", "--nagios")

    assert result.exit_code == 2
    said = lines(result.stdout)
    assert said["configuration"].startswith("CRITICAL")
    assert words in said["configuration"]
    assert said["calendar"] == "UNKNOWN   calendar       not looked at: the configuration has to be mended first"


@pytest.mark.usefixtures("store")
def test_a_store_that_is_away() -> None:
    Path("store.sqlite").unlink()

    said = lines(run("doctor").stdout)

    assert said["store"].startswith("CRITICAL  store          the store cannot be read: there is no database")
    assert said["configuration"].startswith("OK")
    assert said["signers"].startswith("UNKNOWN")


@pytest.mark.usefixtures("store")
def test_it_is_one_or_the_other() -> None:
    result = run("doctor", "--nagios", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Give either --json or --nagios." in result.stderr


@pytest.mark.usefixtures("store")
def test_a_bundle_that_is_unpacked_and_not_in_force() -> None:
    Path("bundles/0007").mkdir(parents=True)
    Path("bundles/.0008.x").mkdir()

    result = run("doctor")

    assert result.exit_code == 1
    assert "WARNING   bundle         bundle 7 lies unpacked in " in result.stdout


@pytest.mark.usefixtures("store")
def test_the_bundle_that_is_in_force() -> None:
    installed = Path("bundles/0007")
    (installed / "profiles").mkdir(parents=True)
    for name in ("authorities.toml", f"{CA}.pem"):
        (installed / name).write_bytes(Path(name).read_bytes())
    Path("bundles/current").symlink_to("0007")
    Path("bundles/0006").mkdir()

    assert lines(run("doctor").stdout)["bundle"] == "OK        bundle         number 7 is in force"


@pytest.mark.parametrize(
    ("free", "code", "word"), [(300 << 20, 0, "OK"), (255 << 20, 1, "WARNING"), (31 << 20, 2, "CRITICAL")]
)
@pytest.mark.usefixtures("store")
def test_a_disk_that_fills(free: int, code: int, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_check, "_free_octets", lambda _directory: free)
    result = run("doctor", "--nagios")
    assert result.exit_code == code
    assert lines(result.stdout)["disk"].startswith(word)


@pytest.mark.usefixtures("store")
def test_a_public_directory_that_is_not_there_yet_is_no_trouble() -> None:
    Path(f"public/{CA}.crl").unlink()
    Path("public").rmdir()
    said = lines(run("doctor").stdout)
    assert said["configuration"].startswith("OK")
    assert said["disk"].startswith("OK")
    assert said["CRLs"].startswith("CRITICAL")


@pytest.mark.usefixtures("store")
def test_one_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever runs the tests may be root, for whom every directory can be written.
    granted = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path)[-6:] != "public" and granted(path, mode))
    said = lines(run("doctor").stdout)
    assert "cannot be written by this user" in said["configuration"]
    assert said["calendar"].startswith("OK")


def test_the_status_shows_a_family_that_nobody_issues_for(store: Store, now: dt.datetime) -> None:
    assert store.signers.list()
    write_authorities(Path(), CA, "assured_2026_1")
    text = Path("authorities.toml").read_text(encoding="utf-8")
    begin = (now + dt.timedelta(days=40)).replace(microsecond=0)
    head, separator, tail = text.partition('name = "assured_2026_1"')
    changed = "\n".join(
        f"issues_from = {begin.isoformat()}" if line.startswith("issues_from") else line for line in tail.splitlines()
    )
    Path("authorities.toml").write_text(head + separator + changed, encoding="utf-8")

    result = run("status")

    [line] = [each for each in result.stdout.splitlines() if each.split()[:2] == ["assured", "1"]]
    assert line.split() == ["assured", "1", "nobody", "again", "from", f"{begin:%F}"]
    assert "TO DO    no sub-CA of the family assured of signer 1 issues, the next one begins" in result.stdout
