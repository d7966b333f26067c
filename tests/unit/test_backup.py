"""A backup is taken out as it was, whatever is in it; a damaged or forged one leaves nothing behind."""

from __future__ import annotations

import datetime as dt
import io
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from tests.support.bundles import BUNDLE_PASSPHRASE, FIRST, encrypted, make_signer_machine, signed, signer_bundle
from tests.support.journal_maker import JournalMaker, journal_key
from tests.support.journal_sites import signer_site

from cassiopeia.backup import back_up
from cassiopeia.ceremony.hierarchy import load_hierarchy, with_key_algorithm, with_periods
from cassiopeia.ceremony.installation import initialise
from cassiopeia.cli.main import cassiopeia
from cassiopeia.config import load_signer_config
from cassiopeia.errors import OperatorError
from cassiopeia.restore import restore
from cassiopeia.signer.installing import activate, stage
from cassiopeia.signer.journal import Journal
from cassiopeia.signer.journal_file import FILE_NAME
from cassiopeia.signer.worker import make_worker

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole installation; nobody changes it."""
    directory = tmp_path_factory.mktemp("authority") / "ca"
    hierarchy = with_periods(with_key_algorithm(load_hierarchy(), "P-256"), 1, spares=0)
    initialise(directory, hierarchy=hierarchy, now=NOW, demo_profiles=True, version_1=True)
    return directory


@pytest.fixture(scope="module")
def good(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the signer's side."""
    out = tmp_path_factory.mktemp("good") / "good"
    back_up(authority / "signer/signer.toml", out, is_signer=True, without_keys=False, now=NOW)
    return out


@pytest.fixture
def ca(authority: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(authority, tmp_path / "ca"))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cassiopeia, [str(each) for each in arguments], prog_name="cassiopeia")


def contents(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and directory below: its mode and what is in it, databases by what they say."""
    found = {}
    for path in sorted([directory, *directory.rglob("*")]):
        if path.name.endswith(("-wal", "-shm")):
            continue
        octets = b""
        if path.suffix == ".sqlite":
            database = sqlite3.connect(path)
            octets = "\n".join(database.iterdump()).encode()
            database.close()
        elif path.is_file():
            octets = path.read_bytes()
        found[str(path.relative_to(directory))] = (path.stat().st_mode & 0o777, octets)
    return found


def test_the_signers_side_comes_back_as_it_was(ca: Path, tmp_path: Path) -> None:
    Journal(ca / "signer/state", signer_id=1, key=journal_key()).close()
    out, again = tmp_path / "signer.backup", tmp_path / "again"

    made = run("backup", "-c", ca / "signer/signer.toml", out)
    back = run("restore", out, again)

    assert (made.exit_code, made.stderr, back.exit_code, back.stderr) == (0, "", 0, "")
    assert out.stat().st_mode & 0o777 == 0o600
    assert "it holds the key of unassured_2026_2" in made.stdout
    assert "it holds the passphrase of the CA keys" in made.stdout
    assert "it holds the key of the journal" in made.stdout
    assert "signer rebuild --replace" in back.stdout
    assert contents(again) == contents(ca / "signer")


def test_the_clients_side_comes_back_as_it_was(ca: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "client.backup", tmp_path / "again"
    store = sqlite3.connect(ca / "client/store.sqlite")
    store.execute("BEGIN IMMEDIATE")

    made = run("backup", "-c", ca / "client/client.toml", out)
    store.close()
    back = run("restore", out, again)

    assert (made.exit_code, made.stderr, back.exit_code, back.stderr) == (0, "", 0, "")
    assert "it holds the store, with everything that subscribers sent" in made.stdout
    assert "rebuild" not in back.stdout
    expected = contents(ca / "client")
    # What only the other configuration of this client names.
    others = {"client-v1.toml", "link-v1.key", "link-v1.pem", "peers/signer-v1.pem"}
    assert contents(again) == {name: found for name, found in expected.items() if name not in others}


def test_an_installed_bundle_comes_back_in_force(tmp_path: Path) -> None:
    machine = make_signer_machine(tmp_path / "signer")
    staged = stage(machine.config, signed(signer_bundle(machine.hierarchy)), passphrase=BUNDLE_PASSPHRASE, now=NOW)
    activate(machine.config, staged)
    (machine.directory / "keys/born_2027_1.key").write_bytes(encrypted(machine.hierarchy.root.key))

    made = run("backup", "-c", machine.directory / "signer.toml", tmp_path / "out")
    back = run("restore", tmp_path / "out", tmp_path / "again")

    assert (made.exit_code, back.exit_code) == (0, 0), made.output + back.output
    for name in ("the key of born_2027_1", f"the key of {FIRST}", "the key that bundles are sealed to"):
        assert f"it holds {name}" in made.stdout
    again = load_signer_config(tmp_path / "again/signer.toml")
    assert again.bundles.number == 1
    make_worker(again)
    empty = {"certificates", "state", "validators"}
    expected = contents(machine.directory)
    assert contents(tmp_path / "again") == {name: found for name, found in expected.items() if name not in empty}
    assert (tmp_path / "again/bundles/current").readlink() == Path("0001")


def test_keys_of_an_installed_bundle_may_stay_out(tmp_path: Path) -> None:
    machine = make_signer_machine(tmp_path / "signer")
    staged = stage(machine.config, signed(signer_bundle(machine.hierarchy)), passphrase=BUNDLE_PASSPHRASE, now=NOW)
    activate(machine.config, staged)

    made = run("backup", "-c", machine.directory / "signer.toml", tmp_path / "out", "--without-keys")

    assert f"not in it: the key of {FIRST}: {machine.directory}/bundles/0001/keys/{FIRST}.key" in made.stdout
    assert b"PRIVATE KEY" not in (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("installed", ["../0001", "bundles/0002", "bundles", "bundles/0001/.."])
def test_a_manifest_that_puts_anything_else_in_force_is_refused(tmp_path: Path, installed: str) -> None:
    machine = make_signer_machine(tmp_path / "signer")
    staged = stage(machine.config, signed(signer_bundle(machine.hierarchy)), passphrase=BUNDLE_PASSPHRASE, now=NOW)
    activate(machine.config, staged)
    run("backup", "-c", machine.directory / "signer.toml", tmp_path / "out")
    forge(tmp_path / "out", installed)

    back = run("restore", tmp_path / "out", tmp_path / "again")

    assert "as the installed bundle, which is none" in back.stderr
    assert not (tmp_path / "again").exists()


def forge(path: Path, installed: str) -> None:
    """The same archive, with a manifest that names another directory."""
    with tarfile.open(path) as archive:
        members = [(each, archive.extractfile(each).read()) for each in archive]  # type: ignore[union-attr] # plain files
    with tarfile.open(path, "w") as archive:
        for header, octets in members:
            forged = octets.replace(b'"installed": "bundles/0001"', f'"installed": "{installed}"'.encode())
            header.size = len(forged)
            archive.addfile(header, io.BytesIO(forged))


def test_keys_may_stay_out(ca: Path, tmp_path: Path) -> None:
    made = run("backup", "-c", ca / "signer/signer.toml", tmp_path / "out", "--without-keys")
    back = run("restore", tmp_path / "out", tmp_path / "again")

    assert "it holds" not in made.stdout
    assert f"not in it: the key of unassured_2026_2: {ca}/signer/keys/unassured_2026_2.key" in made.stdout
    assert "was not in the backup: the passphrase of the CA keys" in back.stdout
    assert b"PRIVATE KEY" not in (tmp_path / "out").read_bytes()
    assert not list((tmp_path / "again").rglob("*.key"))
    assert not (tmp_path / "again/passphrase").exists()


def test_what_lies_elsewhere_is_kept_beside(ca: Path, tmp_path: Path) -> None:
    (tmp_path / "operator.pem").write_bytes((ca / "client/peers/journal.pem").read_bytes())
    config = ca / "signer/signer.toml"
    text = config.read_text().replace('passphrase_file = "passphrase"', 'passphrase_credential = "ca-keys"')
    config.write_text(f'{text}\n[orders]\noperators = ["{tmp_path}/operator.pem"]\n')
    keys = ca / "signer/authorities.toml"
    keys.write_text(keys.read_text().replace("file:keys/orga_2026_2.key", "pkcs11:token=ca;object=orga"))

    made = run("backup", "-c", config, tmp_path / "out")
    back = run("restore", tmp_path / "out", tmp_path / "again")

    assert (made.exit_code, back.exit_code) == (0, 0), made.output + back.output
    assert "not in it: the passphrase of the CA keys: credential ca-keys" in made.stdout
    assert "not in it: the key of orga_2026_2: pkcs11:token=ca;object=orga (make a backup of the token" in made.stdout
    kept = tmp_path / "again" / "elsewhere" / str(tmp_path).removeprefix("/") / "operator.pem"
    assert f"move {kept} to {tmp_path}/operator.pem" in back.stdout
    assert kept.read_bytes() == (tmp_path / "operator.pem").read_bytes()


TOKENS = """
[pkcs11]
module = "/usr/lib/softhsm/libsofthsm2.so"
pin_file = "pin"

[authority.orga_2026_2]
key = "pkcs11:token=ca;object=orga"

[authority.unassured_2026_2]
key = "pkcs11:token=other;object=unassured?pin-source=file:other-pin"

[authority.orga_2031_1]
key = "pkcs11:token=third;object=waiting?pin-source=credential:third-pin"

[authority.orga_2031_2]
key = "file:state/waiting.key?backend=gnutls"
"""


def test_keys_in_tokens_stay_there_and_their_pins_are_secrets(ca: Path, tmp_path: Path) -> None:
    config = ca / "signer/signer.toml"
    config.write_text(config.read_text() + TOKENS)
    for name in ("pin", "other-pin", "state/waiting.key"):
        (ca / "signer" / name).write_text(f"what is in {name}")
        (ca / "signer" / name).chmod(0o600)

    made = run("backup", "-c", config, tmp_path / "out")
    bare = run("backup", "-c", config, tmp_path / "bare", "--without-keys")
    back = run("restore", tmp_path / "out", tmp_path / "again")

    assert (made.exit_code, bare.exit_code, back.exit_code) == (0, 0, 0), made.output + bare.output + back.output
    for said in (made.stdout, bare.stdout):
        assert "not in it: the key of orga_2026_2: pkcs11:token=ca;object=orga (make a backup of the token" in said
        assert "not in it: the key of unassured_2026_2: pkcs11:token=other" in said
        assert "not in it: the key of orga_2031_1: pkcs11:token=third" in said
        assert "not in it: the PIN of a token: credential third-pin" in said
    assert "it holds the PIN of a token" in made.stdout
    assert "it holds the key of orga_2031_2" in made.stdout
    assert "it holds the key of orga_2026_2" not in made.stdout
    assert f"not in it: the PIN of a token: {ca}/signer/other-pin" in bare.stdout
    for name in ("pin", "other-pin", "state/waiting.key"):
        assert (tmp_path / "again" / name).read_text() == f"what is in {name}"
        assert (tmp_path / "again" / name).stat().st_mode & 0o777 == 0o600
        assert f"what is in {name}".encode() not in (tmp_path / "bare").read_bytes()


def test_lists_of_weak_keys_are_kept_as_far_as_they_are_there(ca: Path, tmp_path: Path) -> None:
    config = ca / "signer/signer.toml"
    lists = 'weak_keys = ["lists/blocklist.dat", "lists/missing"]'
    config.write_text(config.read_text().replace("[key_checks]\n", f"[key_checks]\n{lists}\n"))
    (ca / "signer/lists").mkdir()
    (ca / "signer/lists/blocklist.dat").write_bytes(bytes(range(16)))
    (ca / "signer/lists/badkeysdata.json").write_bytes(b"{}")

    made = run("backup", "-c", config, tmp_path / "out")
    back = run("restore", tmp_path / "out", tmp_path / "again")

    assert (made.exit_code, back.exit_code) == (0, 0), made.output + back.output
    assert {path.name for path in (tmp_path / "again/lists").iterdir()} == {"blocklist.dat", "badkeysdata.json"}


def test_a_store_in_postgresql_is_for_pg_dump(ca: Path, tmp_path: Path) -> None:
    config = ca / "client/client.toml"
    config.write_text(config.read_text().replace("sqlite:///store.sqlite", "postgresql+psycopg://@/cassiopeia"))
    shutil.rmtree(ca / "client/public")

    made = run("backup", "-c", config, tmp_path / "out")

    assert "make a backup of it with pg_dump at the same time" in made.stdout
    assert restore(tmp_path / "out", tmp_path / "again").side == "client"


def test_a_running_signer_is_stopped_first(tmp_path: Path, ca: Path) -> None:
    made = JournalMaker()
    made.begin()
    signer_site(tmp_path / "other", made)
    shutil.copytree(tmp_path / "other/state", ca / "signer/state", dirs_exist_ok=True)
    journal = Journal(ca / "signer/state", signer_id=1, key=journal_key())
    journal.record_halt("clock-back", "a test", now=NOW)
    journal.commit()
    try:
        result = run("backup", "-c", ca / "signer/signer.toml", tmp_path / "out")
    finally:
        journal.close()
    assert "the signer is running, and keeps its journal to itself" in result.stderr
    assert not (tmp_path / "out").exists()
    (ca / "signer/state" / FILE_NAME).write_bytes(b"no database" * 1000)
    result = run("backup", "-c", ca / "signer/signer.toml", tmp_path / "out")
    assert "cannot read the journal" in result.stderr


def test_a_backup_without_a_file_that_is_named_is_none(ca: Path, tmp_path: Path) -> None:
    (ca / "signer/link.key").unlink()
    result = run("backup", "-c", ca / "signer/signer.toml", tmp_path / "out")
    assert f"{ca}/signer/link.key: the configuration names this file, and it cannot be read" in result.stderr
    (ca / "client/store.sqlite").write_bytes(b"no database" * 1000)
    result = run("backup", "-c", ca / "client/client.toml", tmp_path / "out")
    assert "this database cannot be copied" in result.stderr
    (ca / "client/store.sqlite").unlink()
    result = run("backup", "-c", ca / "client/client.toml", tmp_path / "out")
    assert "the configuration names this database, and it is not there" in result.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["ca"]


def test_nothing_is_overwritten(ca: Path, good: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    result = run("backup", "-c", ca / "signer/signer.toml", tmp_path / "out")
    assert "is there already, and nothing is overwritten" in result.stderr
    result = run("restore", good, ca)
    assert "is there already" in result.stderr


Members = list[tuple[tarfile.TarInfo, bytes]]


def with_manifest(**changes: Any) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        document = msgspec.json.decode(members[0][1]) | changes
        _replace(members, 0, msgspec.json.encode(document))

    return change


def _replace(members: Members, number: int, octets: bytes) -> None:
    header = members[number][0]
    header.size = len(octets)
    members[number] = (header, octets)


def changed_octets(members: Members) -> None:
    header, octets = members[3]
    members[3] = (header, octets[:-1] + b"?")


def longer(members: Members) -> None:
    _replace(members, 3, members[3][1] + b"?")


def one_less(members: Members) -> None:
    del members[3]


def one_more(members: Members) -> None:
    members.append((tarfile.TarInfo("tree/authorized_keys"), b""))


def one_twice(members: Members) -> None:
    members.append(members[3])


def a_link(members: Members) -> None:
    members[3][0].type = tarfile.SYMTYPE
    members[3][0].linkname = "/etc/passwd"
    _replace(members, 3, b"")


def not_first(members: Members) -> None:
    members.append(members.pop(0))


def renamed(name: str) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        document = msgspec.json.decode(members[0][1])
        document["members"][2]["name"] = name
        members[3][0].name = name
        _replace(members, 0, msgspec.json.encode(document))

    return change


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (changed_octets, "is not as it was backed up"),
        (longer, "is not the file that was backed up"),
        (one_less, "is missing"),
        (one_more, "'tree/authorized_keys', which its manifest does not name, or twice"),
        (one_twice, "which its manifest does not name, or twice"),
        (a_link, "is not the file that was backed up"),
        (not_first, "does not begin with a manifest"),
        (lambda members: members.clear(), "does not begin with a manifest"),
        (lambda members: _replace(members, 0, b"{"), "its manifest: "),
        (with_manifest(format="a parcel"), "this is 'a parcel', version 1"),
        (with_manifest(colour="red"), "its manifest cannot be read: colour: this key is not known here"),
        (with_manifest(configuration="../signer.toml"), "names no configuration"),
        (with_manifest(configuration="elsewhere.toml"), "cannot read this file"),
        (renamed("tree/../../evil"), "is not a name that a backup has"),
        (renamed("/etc/cron.d/evil"), "is not a name that a backup has"),
        (renamed("evil"), "is not a name that a backup has"),
        (renamed("trees/evil"), "is not a name that a backup has"),
    ],
)
def test_a_damaged_or_forged_backup_leaves_nothing(
    good: Path, tmp_path: Path, spoil: Callable[[Members], None], complaint: str
) -> None:
    with tarfile.open(good) as archive:
        members = [(each, archive.extractfile(each).read()) for each in archive]  # type: ignore[union-attr] # all files
    spoil(members)
    with tarfile.open(tmp_path / "bad", "w") as archive:
        for header, octets in members:
            archive.addfile(header, io.BytesIO(octets))

    with pytest.raises(OperatorError, match=complaint):
        restore(tmp_path / "bad", tmp_path / "again")

    assert sorted(each.name for each in tmp_path.iterdir()) == ["bad"]


def test_a_file_that_is_no_archive_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"dear diary" * 100)

    assert "this is not a backup, or it is damaged" in run("restore", tmp_path / "file", tmp_path / "again").stderr


def test_an_archive_that_was_cut_short_leaves_nothing(good: Path, tmp_path: Path) -> None:
    octets = good.read_bytes()
    for size in range(512, len(octets) - 10240, 8192 + 512):
        (tmp_path / "cut").write_bytes(octets[:size])
        with pytest.raises(OperatorError):
            restore(tmp_path / "cut", tmp_path / "again")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["cut"]
