"""Tokens of SoftHSM in a directory of the test's own: made by its own tools, used through its real library.

Debian: apt install softhsm2 opensc (pkcs11-tool writes what softhsm2-util does not).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "271828"
_SO_PIN = "31415926"


@dataclass(frozen=True, kw_only=True)
class SoftHsm:
    """A machine's tokens. Whoever loads the library while `environment` is set sees these and no others."""

    directory: Path

    @property
    def configuration(self) -> Path:
        return self.directory / "softhsm2.conf"

    @property
    def tokens(self) -> Path:
        return self.directory / "tokens"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"SOFTHSM2_CONF": str(self.configuration)}

    def make_token(self, label: str, *, pin: str = PIN) -> None:
        self.run("softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", _SO_PIN, "--pin", pin)

    def write_pin(self, pin: str = PIN) -> Path:
        """A file that only we can read; its name stays the same, so that a PIN can be corrected."""
        path = self.directory / "pin"
        path.write_text(pin + "\n", encoding="ascii")
        path.chmod(0o600)
        return path

    def run(self, *command: str | Path) -> str:
        finished = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def import_key(
        self, label: str, name: str, path: Path, *, identifier: str, passphrase: str, pin: str = PIN
    ) -> None:
        """Bring an encrypted PKCS#8 file into the token, as private and public key; `identifier` is hex."""
        self.run(
            *("softhsm2-util", "--import", path, "--file-pin", passphrase, "--token", label, "--pin", pin),
            *("--label", name, "--id", identifier),
        )  # fmt: skip

    def tool(self, label: str, *arguments: str | Path, pin: str = PIN) -> str:
        return self.run("pkcs11-tool", "--module", MODULE, "--token-label", label, "--login", "--pin", pin, *arguments)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Every token is unplugged for the block."""
        self.unplug()
        try:
            yield
        finally:
            self.plug()

    def unplug(self) -> None:
        self.tokens.rename(self.directory / "away")

    def plug(self) -> None:
        (self.directory / "away").rename(self.tokens)


def make_softhsm(directory: Path) -> SoftHsm:
    directory.mkdir()
    found = SoftHsm(directory=directory)
    found.tokens.mkdir()
    found.configuration.write_text(
        f"directories.tokendir = {found.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n", encoding="utf-8"
    )
    return found


@contextmanager
def softhsm_here(directory: Path) -> Iterator[SoftHsm]:
    """A SoftHSM of its own for this process, until the block ends."""
    found = make_softhsm(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(found.configuration))
        yield found
