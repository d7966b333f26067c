"""A validator's key: Ed25519, in a file for its owner alone (`unattended_key`).

Who has it can state whatever it is pinned for.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia import unattended_key
from cassiopeia.errors import OperatorError


def make_validator_key(path: Path) -> Ed25519PrivateKey:
    """Make a key and write it to a new file; raises FileExistsError or OSError."""
    key = Ed25519PrivateKey.generate()
    unattended_key.write_key(path, key)
    return key


def load_validator_key(path: Path) -> Ed25519PrivateKey:
    """Read a key that nobody else may read; raises OperatorError."""
    key = unattended_key.load_key(path, whose="validator")
    if not isinstance(key, Ed25519PrivateKey):
        raise OperatorError(f"{path}: is not an Ed25519 key; `cassiopeia validator init` makes one")
    return key


def public_pem(key: Ed25519PrivateKey) -> bytes:
    """The public half (SubjectPublicKeyInfo), as signer.toml names it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_public_pem(path: Path) -> bytes:
    """A validator's public key as it stands in a file (PEM); raises OperatorError."""
    key = unattended_key.read_public_key(path, whose="validator")
    if not isinstance(key, Ed25519PublicKey):
        raise OperatorError(f"{path}: is not an Ed25519 key, as validators have them")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
