"""A validator's key: Ed25519, PKCS#8 in a file for its owner alone (PEM, RFC 5958), not encrypted.

It has to sign by itself, at any hour: a passphrase would lie beside it. Who has it can state whatever it is pinned for.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from cassiopeia import files
from cassiopeia.errors import OperatorError

_FOR_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def make_validator_key(path: Path) -> Ed25519PrivateKey:
    """Make a key and write it to a new file; raises FileExistsError or OSError."""
    key = Ed25519PrivateKey.generate()
    files.write_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


def load_validator_key(path: Path) -> Ed25519PrivateKey:
    """Read a key that nobody else may read; raises OperatorError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            octets = file.read()
    except OSError as error:
        raise OperatorError(
            f"{path}: cannot read the validator's key: {error.strerror}; `cassiopeia validator init` makes one"
        ) from error
    if mode & _FOR_OTHERS:
        raise OperatorError(f"{path}: others may read or change this key: chmod 600 {path}")
    try:
        key = load_pem_private_key(octets, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OperatorError(
            f"{path}: is not an unencrypted PKCS#8 key (PEM), as `cassiopeia validator init` makes it"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise OperatorError(f"{path}: is not an Ed25519 key; `cassiopeia validator init` makes one")
    return key


def public_pem(key: Ed25519PrivateKey) -> bytes:
    """The public half (SubjectPublicKeyInfo), as signer.toml names it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_public_pem(path: Path) -> bytes:
    """A validator's public key as it stands in a file (PEM); raises OperatorError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the validator's key: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise OperatorError(f"{path}: is not a public key in PEM, as `cassiopeia validator init` prints it") from error
    if not isinstance(key, Ed25519PublicKey):
        raise OperatorError(f"{path}: is not an Ed25519 key, as validators have them")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
