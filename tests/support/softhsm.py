"""Tokens of SoftHSM in a directory of the test's own: made by its own tools, used through its real library.

Debian: apt install softhsm2, opensc (pkcs11-tool writes what softhsm2-util does not; pkcs11-spy.so stands between and
writes down every call), p11-kit-modules (a proxy to every library of the machine).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cassiopeia.secret_source import SecretSource
from cassiopeia.signer.keystore.interface import StoreSettings
from cassiopeia.signer.keystore.token_library import stop_libraries

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
_LIBRARIES = f"/usr/lib/{platform.machine()}-linux-gnu"
_SPY = f"{_LIBRARIES}/pkcs11-spy.so"
PROXY = f"{_LIBRARIES}/p11-kit-proxy.so"
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
        """For every process that is to see these tokens."""
        return os.environ | self.variables

    @property
    def variables(self) -> dict[str, str]:
        return {
            "SOFTHSM2_CONF": str(self.configuration),
            "PKCS11SPY": MODULE,
            "PKCS11SPY_OUTPUT": str(self.directory / "calls"),
        }

    @property
    def spy(self) -> str:
        """The library with the spy before it: a copy, for it opens its record once in the life of a process."""
        path = self.directory / "spy.so"
        if not path.exists():
            # Several processes may come for it at once.
            shutil.copy(_SPY, building := path.with_suffix(f".{os.getpid()}"))
            building.rename(path)
        return str(path)

    def calls(self, *names: str) -> list[tuple[str, str]]:
        """What was asked of the library through `spy` by all processes, and what it answered: CKR_OK, as a rule."""
        path = self.directory / "calls"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        found = re.findall(r"^\d+: (C_\w+)$(?:.*?)^Returned: +\d+ (CKR_\w+)$", text, flags=re.MULTILINE | re.DOTALL)
        return [(name, answer) for name, answer in found if name in names]

    @property
    def wrong_pin_given(self) -> bool:
        """Whether the token says so of itself, since the last right one."""
        return "user PIN count low" in self.run("pkcs11-tool", "--module", MODULE, "--list-token-slots")

    def settings(self, *, module: str = MODULE, state: Path | None = None, **changes: Any) -> StoreSettings:
        """For the tokens of this machine, with the PIN that stands in `write_pin`'s file."""
        pin = SecretSource(what="the PIN of the token", file=self.directory / "pin")
        return StoreSettings(passphrase=pin, module=module, pin=pin, state=state, **changes)

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
    """A SoftHSM of its own for this process, until the block ends. Stores that were open go on after it."""
    found = make_softhsm(directory)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.variables.items():
            patch.setenv(name, value)
        # The library reads its configuration when it starts.
        stop_libraries()
        try:
            yield found
        finally:
            stop_libraries()
