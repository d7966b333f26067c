"""`cassiopeia ceremony show`: what the safe remembers, without anything that opens it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from tests.support.operators import public_pem
from tests.support.safes import LONG_AGO, make_safe, put_away, put_away_split

from cassiopeia.ceremony.bundling import client_bundle
from cassiopeia.ceremony.conducting import renew_crls
from cassiopeia.ceremony.record import AwaitedCertificate
from cassiopeia.ceremony.safe import PASSPHRASE_NAME, Safe
from cassiopeia.cli.main import cassiopeia


@pytest.fixture(scope="module")
def safe() -> Safe:
    return make_safe()


def show(*arguments: str | Path) -> Result:
    return CliRunner().invoke(
        cassiopeia, ["ceremony", "show", "--offline", *map(str, arguments)], prog_name="cassiopeia"
    )


def rows(said: str) -> dict[str, list[str]]:
    return {words[0]: words[1:] for words in map(str.split, said.splitlines()) if words}


def test_every_ca_is_shown_and_nothing_is_opened(safe: Safe, tmp_path: Path) -> None:
    offline = put_away(safe, tmp_path)
    (tmp_path / PASSPHRASE_NAME).unlink()
    key = tmp_path / "bundle-key.pem"
    key.write_bytes(safe.bundle_public_pem)

    said = show(offline, "--bundle-key", key).stdout

    assert said.startswith(f"Ceremony 1, of 2026-01-23 12:30 UTC\nRoot key (SHA-256): {safe.record.root_key}\n")
    assert "Opens with: its passphrase, in one piece" in said
    assert rows(said)["root"] == ["root", "-", "1", "-", "-", "2046-01-23", "1"]
    shown = rows(said)
    for each in safe.record.time:
        state = ["spare", str(each.spare)] if each.spare else []
        assert shown[each.name][0:3] == [each.issuer, "1", "1"]
        assert shown[each.name][3:] == ["2026-01-23", "2026-07-01", "2028-06-30", "-", *state]
    assert "Whether it is the right bundle" not in said


def test_what_was_revoked_and_what_is_awaited_is_said(safe: Safe, tmp_path: Path) -> None:
    family = safe.record.names("structure")[0]
    revoked = renew_crls(safe, now=LONG_AGO, revoke=[family], reason="keyCompromise").safe
    awaited = (AwaitedCertificate(name="assured", family="assured"),)
    record = msgspec.structs.replace(revoked.record, awaited=awaited)
    offline, _ = put_away_split(dataclasses.replace(revoked, record=record), tmp_path)

    said = show(offline).stdout

    assert rows(said)[family][-3:] == ["revoked", "2026-01-23,", "keyCompromise"]
    assert rows(said)[safe.record.time[0].name][-1] == "retired"
    assert "Its certificate is awaited: assured\n" in said
    assert "Opens with: 2 of the 3 shares of the set " in said
    assert said.endswith("see --bundle-key.\n")


def test_another_hierarchys_bundle_is_not_shown(safe: Safe, tmp_path: Path) -> None:
    offline = put_away(safe, tmp_path)
    key = tmp_path / "bundle-key.pem"
    key.write_bytes(public_pem(0))

    done = show(offline, "--bundle-key", key)

    assert (done.exit_code, done.stdout) == (1, "")
    assert "is signed by another bundle key" in done.stderr


def test_a_bundle_for_a_machine_is_called_what_it_is(safe: Safe, tmp_path: Path) -> None:
    other = tmp_path / "client.bundle"
    other.write_bytes(client_bundle(safe, now=LONG_AGO))

    done = show(other)

    assert done.exit_code == 1
    assert "client.bundle: is a client bundle; the safe's is called offline.bundle" in done.stderr
