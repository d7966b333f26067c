"""Key files: PEM with an encrypted PKCS#8 key, which only the signer can read. Each library unlocks them by itself.

Owns what is one, so that a file which one library takes is one for the others too, on the day when it has to be.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from cassiopeia.core.key_uri import FileUri, KeyUri
from cassiopeia.errors import OperatorError

_OTHERS: Final = 0o077
_MAXIMUM_OCTETS: Final = 64 * 1024
_BEGIN: Final = b"-----BEGIN "
# RFC 7468 11; 5.2 lets anything stand around it.
_ENCRYPTED_KEY: Final = re.compile(
    rb"-----BEGIN ENCRYPTED PRIVATE KEY-----\s[A-Za-z0-9+/=\s]+-----END ENCRYPTED PRIVATE KEY-----"
)


def key_path(uri: KeyUri) -> Path:
    """Where the file is; raises OperatorError for a key in a token."""
    if not isinstance(uri, FileUri):
        raise OperatorError(f"{uri}: this is a key in a token, and no key file")
    return Path(uri.path)


def read_key_file(path: Path) -> bytes:
    """The one PEM block in it, still encrypted; raises OperatorError, also when others can read it."""
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & _OTHERS:
                raise OperatorError(f"{path}: others can read this CA key; run: chmod 600 {path}")
            octets = stream.read(_MAXIMUM_OCTETS + 1)
    except OSError as error:
        raise OperatorError(
            f"{path}: cannot read this CA key: {error.strerror}: put it back from the backup, for the signer's user, "
            "or say in signer.toml where it is"
        ) from error
    if len(octets) > _MAXIMUM_OCTETS:
        raise OperatorError(f"{path}: this is no key file: it has more than {_MAXIMUM_OCTETS} octets")
    found = _ENCRYPTED_KEY.search(octets)
    if found is None or octets.count(_BEGIN) != 1:
        raise OperatorError(
            f"{path}: cannot unlock this CA key: not an encrypted PKCS#8 PEM file, or something else is in it too: "
            "put it back from the backup, or write it anew with openssl pkcs8 -topk8"
        )
    return found[0] + b"\n"


def locked(path: Path) -> OperatorError:
    """For a file that a library cannot unlock."""
    return OperatorError(
        f"{path}: cannot unlock this CA key: wrong passphrase, or a damaged file: mend the passphrase, or put the key "
        "back from the backup"
    )
