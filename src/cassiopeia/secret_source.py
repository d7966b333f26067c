"""Where a passphrase or PIN comes from: a file, or a systemd credential (systemd.exec(5)). It is wiped after use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cassiopeia.errors import OperatorError, Unavailable

_MAXIMUM_OCTETS: Final = 4096
_OTHERS: Final = 0o077


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretSource:
    """Exactly one of both: a file, or the name of a credential. `what` says in messages what is in it."""

    what: str
    file: Path | None = None
    credential: str = ""

    @contextmanager
    def read(self) -> Iterator[bytearray]:
        """The secret without its line end, for as long as the block lasts; then its octets are wiped.

        Raises `OperatorError` when it is empty or others can read it, and `Unavailable` (`locked`) when it is not
        there: the medium that it is on may be plugged in, or mounted, later.
        """
        secret = self._read()
        try:
            yield secret
        finally:
            wipe(secret)

    def _read(self) -> bytearray:
        path = self.file if self.file is not None else self._credential_path()
        buffer = bytearray(_MAXIMUM_OCTETS + 1)
        try:
            # Unbuffered, straight into the one place that is wiped.
            with path.open("rb", buffering=0) as stream:
                if self.file is not None and os.fstat(stream.fileno()).st_mode & _OTHERS:
                    raise OperatorError(f"{path}: others can read {self.what}; run: chmod 600 {path}")
                length = stream.readinto(buffer) or 0
            if length > _MAXIMUM_OCTETS:
                raise OperatorError(f"{path}: {self.what} is longer than {_MAXIMUM_OCTETS} octets")
            end = length
            while end and buffer[end - 1] in b"\r\n":
                end -= 1
            if not end:
                raise OperatorError(f"{path}: {self.what} is empty; write it into this file")
            return buffer[:end]
        except FileNotFoundError:
            raise Unavailable(
                f"{path}: {self.what} is not there; plug its medium in, or write it into this file", code="locked"
            ) from None
        except OSError as error:
            raise OperatorError(f"{path}: cannot read {self.what}: {error.strerror}") from error
        finally:
            wipe(buffer)

    def _credential_path(self) -> Path:
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if directory is None:
            raise OperatorError(
                f"{self.what} is configured as systemd credential {self.credential!r}, but CREDENTIALS_DIRECTORY is "
                f"not set: start the signer from a unit with LoadCredentialEncrypted={self.credential}"
            )
        return Path(directory) / self.credential


def wipe(secret: bytearray) -> None:
    """Overwrite every octet, in place."""
    secret[:] = bytes(len(secret))
