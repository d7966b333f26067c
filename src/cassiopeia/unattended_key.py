"""Keys of processes that sign by themselves, at any hour: PKCS#8 in a file for its owner alone (PEM, RFC 5958).

They are not encrypted: a passphrase would lie beside them. Owns how such a file is written and read, and the words for
what is wrong with it. Which kinds of key there may be, and what they sign, is their owners' part. CA keys are no such
keys.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from cassiopeia import files
from cassiopeia.errors import OperatorError

_FOR_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def write_key(path: Path, key: PrivateKeyTypes) -> None:
    """Write a key to a new file; raises FileExistsError or OSError."""
    files.write_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def load_key(path: Path, *, whose: str) -> PrivateKeyTypes:
    """Read a key that nobody else may read; raises OperatorError. `whose` makes one with `cassiopeia WHOSE init`."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            octets = file.read()
    except OSError as error:
        raise OperatorError(
            f"{path}: cannot read the {whose}'s key: {error.strerror}; `cassiopeia {whose} init` makes one"
        ) from error
    if mode & _FOR_OTHERS:
        raise OperatorError(f"{path}: others may read or change this key: chmod 600 {path}")
    try:
        return load_pem_private_key(octets, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OperatorError(
            f"{path}: is not an unencrypted PKCS#8 key (PEM), as `cassiopeia {whose} init` makes it"
        ) from error


def read_public_key(path: Path, *, whose: str) -> PublicKeyTypes:
    """A public key as it stands in a file (PEM); raises OperatorError."""
    try:
        return load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the {whose}'s key: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise OperatorError(f"{path}: is not a public key in PEM, as `cassiopeia {whose} init` prints it") from error
