"""A signer whose passphrase systemd hands over: what systemd-creds(1) has opened is a file of its own, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.support.acceptance import QuickSystem, check_logs, make_authority, start, wait_for_crls
from tests.support.warm_commands import WarmCommands


@pytest.fixture
def system(commands: WarmCommands) -> Iterator[QuickSystem]:
    with (
        TemporaryDirectory(prefix="ca-") as directory,
        QuickSystem(directory=Path(directory), init_options=("--key-algorithm", "P-256"), commands=commands) as made,
    ):
        make_authority(made)
        yield made


def seal(system: QuickSystem) -> bytes:
    """As docs/hardening.md says; gives the passphrase, which is on the signer's disk no more."""
    signer = system.directory / "ca/signer"
    configuration = signer / "signer.toml"
    text = configuration.read_text(encoding="utf-8")
    changed = text.replace('\npassphrase_file = "passphrase"\n', '\npassphrase_credential = "ca-keys"\n')
    assert changed != text
    configuration.write_text(changed, encoding="utf-8")
    passphrase = (signer / "passphrase").read_bytes()
    (signer / "passphrase").unlink()
    return passphrase


def hand_over(directory: Path, passphrase: bytes) -> None:
    # systemd.exec(5), LoadCredential=: for its user alone, and to be read only.
    path = directory / "ca-keys"
    path.write_bytes(passphrase)
    path.chmod(0o400)


def test_a_signer_starts_with_a_credential_and_has_its_passphrase_in_no_file(
    system: QuickSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passphrase = seal(system)
    hand_over(tmp_path, passphrase)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    start(system)
    wait_for_crls(system)

    files = [path for path in (system.directory / "ca/signer").rglob("*") if path.is_file()]
    assert len(files) > len(list((system.directory / "ca/signer/keys").iterdir())) > 0
    assert [path for path in files if passphrase.strip() in path.read_bytes()] == []
    assert passphrase.strip().decode("ascii") not in system.log("signer")
    for name in ("client", "signer"):
        system.stop(name)
    check_logs(system)


def test_a_signer_waits_for_a_credential_that_is_not_there_yet(
    system: QuickSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passphrase = seal(system)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    system.start_signer("--verbose")
    system.wait_for_log("signer", f"locked: {tmp_path}/ca-keys: the passphrase of the CA keys is not there")
    hand_over(tmp_path, passphrase)
    system.wait_for_log("signer", "running: signer 1 serves")

    system.stop("signer")
