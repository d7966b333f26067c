from __future__ import annotations

from pathlib import Path

import pytest

from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.signer.keystore.passphrase import read_passphrase


def secret(path: Path, content: bytes, *, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("content", [b"  a pass phrase", b"  a pass phrase\n", b"  a pass phrase\r\n"])
def test_a_file_holds_the_passphrase_and_its_line_end_is_none_of_it(tmp_path: Path, content: bytes) -> None:
    path = secret(tmp_path / "passphrase", content)
    assert read_passphrase(file=path, credential="") == b"  a pass phrase"


def test_a_systemd_credential_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    # systemd.exec(5): the files are of the unit's user, and only root can pass them on.
    secret(tmp_path / "ca-keys", b"sealed\n", mode=0o440)
    assert read_passphrase(file=None, credential="ca-keys") == b"sealed"


def test_a_credential_that_was_not_passed_on_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(Unavailable, match=f"{tmp_path}/ca-keys: the passphrase of the CA keys is not there"):
        read_passphrase(file=None, credential="ca-keys")


def test_without_systemd_the_unit_is_told_what_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(OperatorError, match="LoadCredentialEncrypted=ca-keys"):
        read_passphrase(file=None, credential="ca-keys")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = secret(tmp_path / "passphrase", b"known", mode=mode)
    with pytest.raises(OperatorError, match=f"others can read this passphrase; run: chmod 600 {path}"):
        read_passphrase(file=path, credential="")


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n"])
def test_an_empty_passphrase_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(OperatorError, match="the passphrase is empty"):
        read_passphrase(file=secret(tmp_path / "passphrase", content), credential="")


def test_a_file_that_is_not_there_may_come(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"{tmp_path}/none: .* plug its medium in"):
        read_passphrase(file=tmp_path / "none", credential="")


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(OperatorError, match=f"{tmp_path}: cannot read the passphrase .* Is a directory"):
        read_passphrase(file=tmp_path, credential="")
