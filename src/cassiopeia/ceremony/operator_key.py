"""Operators' keys: Ed25519, in encrypted PKCS#8 files (PEM, RFC 5958) that stay with the person.

Owns making and reading them; what is signed with them is in `journal.order`. The public half goes into the signer's
configuration, where it says whose orders are obeyed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from cassiopeia import files
from cassiopeia.ceremony.key_ceremony import encrypt_key
from cassiopeia.errors import OperatorError

# PKCS#8 as the library writes it derives its key by 2,048 rounds of PBKDF2: the passphrase has to be good by itself.
SHORTEST_PASSPHRASE: Final = 15
# What is counted are characters: in UTF-8 every further octet of one is 10xxxxxx (RFC 3629 3).
_LEADING_BITS: Final = 0b1100_0000
_FURTHER_OCTET: Final = 0b1000_0000


def make_operator_key(path: Path, passphrase: bytearray) -> Ed25519PrivateKey:
    """Make a key and write it to a new file; raises OperatorError."""
    if sum(octet & _LEADING_BITS != _FURTHER_OCTET for octet in passphrase) < SHORTEST_PASSPHRASE:
        raise OperatorError(
            f"this passphrase is too short: take {SHORTEST_PASSPHRASE} characters or more, as four or five random words"
        )
    key = Ed25519PrivateKey.generate()
    try:
        files.write_file(path, encrypt_key(key, bytes(passphrase)))  # the library takes no other
    except FileExistsError:
        raise OperatorError(f"{path}: is there already, and no key is ever overwritten: choose another name") from None
    except OSError as error:
        raise OperatorError(f"{path}: cannot write the key: {error.strerror}") from error
    return key


def load_operator_key(path: Path, passphrase: bytearray) -> Ed25519PrivateKey:
    """Unlock a key; raises OperatorError."""
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase)  # type: ignore[arg-type] # it takes any buffer
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the key: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OperatorError(f"{path}: wrong passphrase, or not an encrypted PKCS#8 key (PEM)") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise OperatorError(
            f"{path}: is not an Ed25519 key: operators sign with those that `cassiopeia order key` makes"
        )
    return key


def read_public_pem(path: Path) -> bytes:
    """An operator's public key as it stands in a file (PEM); raises OperatorError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the operator's key: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise OperatorError(f"{path}: is not a public key in PEM, as `cassiopeia order key` prints it") from error
    if not isinstance(key, Ed25519PublicKey):
        raise OperatorError(
            f"{path}: is not an Ed25519 key: operators sign with those that `cassiopeia order key` makes"
        )
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_pem(key: Ed25519PrivateKey) -> bytes:
    """The public half (SubjectPublicKeyInfo), as signer.toml names it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
