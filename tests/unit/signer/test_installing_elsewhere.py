"""Bundles on a machine that has a sub-CA's key where its own signer.toml says: it is proved, and no file is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.support.bundles import (
    BUNDLE_PASSPHRASE,
    FIRST,
    NOW,
    SECOND,
    SignerMachine,
    encrypted,
    make_signer_machine,
    signed,
    signer_bundle,
)

from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.signer import installing
from cassiopeia.signer.configuration import key_uses
from cassiopeia.signer.installing import activate, stage
from cassiopeia.signer.keystore import handover
from cassiopeia.signer.keystore.ring import KeyRing
from cassiopeia.signer.worker import make_worker


@pytest.fixture
def machine(tmp_path: Path) -> SignerMachine:
    """The key of the first sub-CA is in a place of its own."""
    made = make_signer_machine(tmp_path / "signer")
    put(made, encrypted(made.hierarchy.time[FIRST].key, made.passphrase))
    write(made, f'[authority.{FIRST}]\nkey = "file:own/first.key"')
    return made


def put(machine: SignerMachine, octets: bytes) -> None:
    path = machine.directory / "own/first.key"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(octets)
    path.chmod(0o600)


def write(machine: SignerMachine, text: str) -> None:
    path = machine.directory / "signer.toml"
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{text}\n", encoding="utf-8")


def install(machine: SignerMachine, octets: bytes) -> Path:
    staged = stage(machine.config, octets, passphrase=BUNDLE_PASSPHRASE, now=NOW)
    activate(machine.config, staged)
    return staged.directory


def refused(machine: SignerMachine, octets: bytes) -> str:
    before = machine.everything()
    with pytest.raises(OperatorError) as caught:
        stage(machine.config, octets, passphrase=BUNDLE_PASSPHRASE, now=NOW)
    assert machine.everything() == before
    assert "nothing was changed" in str(caught.value)
    return str(caught.value)


def test_no_file_is_written_for_it(machine: SignerMachine) -> None:
    directory = install(machine, signed(signer_bundle(machine.hierarchy, keys=[SECOND])))

    assert [each.name for each in (directory / "keys").iterdir()] == [f"{SECOND}.key"]
    assert str(key_uses(machine.config)[FIRST].uri) == f"file:{machine.directory}/own/first.key?backend=openssl"
    make_worker(machine.config)
    # It goes on so: neither does the next bundle bring a key, nor does anybody look for one.
    directory = install(machine, signed(signer_bundle(machine.hierarchy, number=2, keys=[])))
    assert [each.name for each in (directory / "keys").iterdir()] == [f"{SECOND}.key"]
    make_worker(machine.config)


def test_a_key_file_of_before_is_left_behind_when_the_key_has_moved(tmp_path: Path) -> None:
    machine = make_signer_machine(tmp_path / "signer")
    first = install(machine, signed(signer_bundle(machine.hierarchy)))
    put(machine, (first / "keys" / f"{FIRST}.key").read_bytes())
    write(machine, f'[authority.{FIRST}]\nkey = "file:own/first.key"')

    second = install(machine, signed(signer_bundle(machine.hierarchy, number=2, keys=[])))

    assert [each.name for each in (second / "keys").iterdir()] == [f"{SECOND}.key"]
    # And comes back with the line gone, for as long as the file is in force somewhere.
    shutil.copy(machine.directory / "own/first.key", machine.directory / "keys" / f"{FIRST}.key")
    path = machine.directory / "signer.toml"
    path.write_text(path.read_text(encoding="utf-8").partition("\n[authority.")[0], encoding="utf-8")
    third = install(machine, signed(signer_bundle(machine.hierarchy, number=3, keys=[])))
    assert sorted(each.stem for each in (third / "keys").iterdir()) == [FIRST, SECOND]
    make_worker(machine.config)


def test_a_bundle_that_brings_the_key_is_refused(machine: SignerMachine) -> None:
    said = refused(machine, signed(signer_bundle(machine.hierarchy)))

    assert f"it brings the key of {FIRST} as a file, and {machine.directory}/signer.toml says" in said
    assert f"take `key` out of [authority.{FIRST}]" in said


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda machine: encrypted(machine.hierarchy.time[SECOND].key, machine.passphrase), "does not belong to this"),
        (lambda machine: encrypted(machine.hierarchy.time[FIRST].key, b"another"), "cannot unlock this CA key"),
        (lambda _: b"", "cannot unlock this CA key"),
    ],
    ids=["another-key", "another-passphrase", "nothing"],
)
def test_a_wrong_key_there_changes_nothing(machine: SignerMachine, spoil: object, reason: str) -> None:
    put(machine, spoil(machine))  # type: ignore[operator] # one of those above

    assert reason in refused(machine, signed(signer_bundle(machine.hierarchy, keys=[SECOND])))


def test_a_key_that_is_nowhere_is_asked_for(machine: SignerMachine) -> None:
    (machine.directory / "own/first.key").unlink()

    said = refused(machine, signed(signer_bundle(machine.hierarchy, keys=[SECOND])))

    assert "own/first.key: cannot read this CA key: No such file" in said


def test_a_library_that_is_missing_may_come(machine: SignerMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(KeyRing):
        def add(self, *_: object) -> None:
            raise Unavailable("the crypto backend x is not installed", code="backend-missing", retry_after_s=300)

    octets = signed(signer_bundle(machine.hierarchy, keys=[SECOND]))
    monkeypatch.setattr(installing, "KeyRing", Missing)
    before = machine.everything()

    with pytest.raises(
        Unavailable, match=r"cannot be installed now: .*x is not installed; nothing was changed"
    ) as caught:
        stage(machine.config, octets, passphrase=BUNDLE_PASSPHRASE, now=NOW)

    assert (caught.value.code, caught.value.retry_after_s) == ("backend-missing", 300)
    assert machine.everything() == before


def test_what_authorities_toml_says_of_a_token_has_to_move_to_signer_toml(tmp_path: Path) -> None:
    machine = make_signer_machine(tmp_path / "signer")
    bundle = signer_bundle(machine.hierarchy)
    for each in bundle.files:
        if each.name.startswith("certificates/") or each.name == "authorities.toml":
            (machine.directory / each.name).write_bytes(each.octets)
    path = machine.directory / "authorities.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace(f'name = "{FIRST}"', f'name = "{FIRST}"\nkey = "pkcs11:token=ca;object=first"'), encoding="utf-8"
    )

    said = refused(machine, signed(signer_bundle(machine.hierarchy, keys=[SECOND])))

    assert f"write it into signer.toml, as [authority.{FIRST}] key = " in said
    assert "pkcs11:token=ca;object=first" in said


def test_an_old_key_file_of_the_same_name_is_passed_by(tmp_path: Path) -> None:
    machine = make_signer_machine(tmp_path / "signer")
    install(machine, signed(signer_bundle(machine.hierarchy)))
    waiting = machine.directory / "keys" / f"{SECOND}.key"
    waiting.write_bytes(encrypted(machine.hierarchy.time[FIRST].key, machine.passphrase))
    (machine.directory / "bundles/0001/keys" / f"{SECOND}.key").unlink()

    said = refused(machine, signed(signer_bundle(machine.hierarchy, number=2, keys=[])))

    assert f"the key of {SECOND} is not in it, and not on this machine" in said
    assert f"[authority.{SECOND}] key" in said
    waiting.unlink()
    waiting.mkdir()
    said = refused(machine, signed(signer_bundle(machine.hierarchy, number=2, keys=[])))
    assert f"{waiting}: cannot read the key of {SECOND}: Is a directory" in said


def test_what_opened_the_bundle_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = make_signer_machine(tmp_path / "signer")
    seen: list[bytes | bytearray] = []
    relock = handover.relock

    def watched(octets: bytes, passphrase: bytearray, own: bytearray, *, public_key_info: bytes) -> bytes:
        assert (bytes(passphrase), bytes(own)) == (BUNDLE_PASSPHRASE, machine.passphrase)
        seen.extend([passphrase, own])
        return relock(octets, passphrase, own, public_key_info=public_key_info)

    monkeypatch.setattr(handover, "relock", watched)

    install(machine, signed(signer_bundle(machine.hierarchy)))

    assert len(seen) == 4
    assert all(isinstance(each, bytearray) and set(each) == {0} for each in seen)
