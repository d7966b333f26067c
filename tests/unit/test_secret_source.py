from __future__ import annotations

from pathlib import Path

import pytest

from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.secret_source import SecretSource, wipe

WHAT = "the passphrase of the CA keys"


def secret(path: Path, content: bytes, *, mode: int = 0o600) -> SecretSource:
    path.write_bytes(content)
    path.chmod(mode)
    return SecretSource(what=WHAT, file=path)


def content(source: SecretSource) -> bytes:
    with source.read() as octets:
        return bytes(octets)


@pytest.mark.parametrize("octets", [b"  a pass phrase", b"  a pass phrase\n", b"  a pass phrase\r\n"])
def test_a_file_holds_the_passphrase_and_its_line_end_is_none_of_it(tmp_path: Path, octets: bytes) -> None:
    assert content(secret(tmp_path / "passphrase", octets)) == b"  a pass phrase"


def test_it_is_wiped_after_use(tmp_path: Path) -> None:
    with secret(tmp_path / "passphrase", b"known\n").read() as octets:
        kept = octets
        assert kept == b"known"
    assert kept == bytes(5)


def test_it_is_wiped_after_a_fault_too(tmp_path: Path) -> None:
    kept = bytearray()

    def fail() -> None:
        nonlocal kept
        with secret(tmp_path / "passphrase", b"known\n").read() as octets:
            kept = octets
            raise ValueError

    with pytest.raises(ValueError, match=r"^\Z"):
        fail()
    assert kept == bytes(5)


def test_wiping_happens_in_place() -> None:
    octets = bytearray(b"known")
    same = octets
    wipe(octets)
    assert same == bytes(5)


def test_a_systemd_credential_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    # systemd.exec(5): the files are of the unit's user, and only root can pass them on.
    secret(tmp_path / "ca-keys", b"sealed\n", mode=0o440)
    assert content(SecretSource(what=WHAT, credential="ca-keys")) == b"sealed"


def test_a_credential_that_was_not_passed_on_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(Unavailable, match=f"{tmp_path}/ca-keys: the passphrase of the CA keys is not there"):
        content(SecretSource(what=WHAT, credential="ca-keys"))


def test_without_systemd_the_unit_is_told_what_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(OperatorError, match="LoadCredentialEncrypted=ca-keys"):
        content(SecretSource(what=WHAT, credential="ca-keys"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "passphrase"
    with pytest.raises(OperatorError, match=f"others can read the passphrase of the CA keys; run: chmod 600 {path}"):
        content(secret(path, b"known", mode=mode))


@pytest.mark.parametrize("octets", [b"", b"\n", b"\r\n\r\n"])
def test_an_empty_passphrase_is_refused(tmp_path: Path, octets: bytes) -> None:
    with pytest.raises(OperatorError, match="the passphrase of the CA keys is empty"):
        content(secret(tmp_path / "passphrase", octets))


def test_a_whole_disk_is_no_passphrase(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="longer than 4096 octets"):
        content(secret(tmp_path / "passphrase", bytes(4097)))


def test_a_file_that_is_not_there_may_come(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"{tmp_path}/none: .* plug its medium in"):
        content(SecretSource(what=WHAT, file=tmp_path / "none"))


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(OperatorError, match=f"{tmp_path}: cannot read the passphrase .* Is a directory"):
        content(SecretSource(what=WHAT, file=tmp_path))
