"""Where the passphrase of the CA keys comes from: a file, or a systemd credential (systemd.exec(5))."""

from __future__ import annotations

import os
from pathlib import Path

from cassiopeia.errors import OperatorError, Unavailable


def read_passphrase(*, file: Path | None, credential: str) -> bytes:
    """The passphrase without its line end; raises `OperatorError` when it is empty or readable by others.

    Raises `Unavailable` when it is not there: the medium that it is on may be plugged in, or mounted, later.
    """
    path = file if file is not None else _credential_path(credential)
    try:
        if file is not None and path.stat().st_mode & 0o077:
            raise OperatorError(f"{path}: others can read this passphrase; run: chmod 600 {path}")
        passphrase = path.read_bytes().rstrip(b"\r\n")
    except FileNotFoundError:
        raise Unavailable(
            f"{path}: the passphrase of the CA keys is not there; plug its medium in, or write it into this file",
            code="locked",
        ) from None
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the passphrase of the CA keys: {error.strerror}") from error
    if not passphrase:
        raise OperatorError(f"{path}: the passphrase is empty; write it into this file")
    return passphrase


def _credential_path(name: str) -> Path:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory is None:
        raise OperatorError(
            f"the passphrase is configured as systemd credential {name!r}, but CREDENTIALS_DIRECTORY is not set: "
            f"start the signer from a unit with LoadCredentialEncrypted={name}"
        )
    return Path(directory) / name
