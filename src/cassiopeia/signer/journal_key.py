"""The key that signs journal heads: an Ed25519 key in a file of its own (PKCS#8, PEM).

It is no CA key: who has it can vouch for a journal, and issue nothing. It is not encrypted, because the signer needs it
before its CA keys are unlocked; docs/threat-model.md says what a thief of the disk can do with it.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cassiopeia.errors import OperatorError


def load_journal_key(path: Path) -> Ed25519PrivateKey:
    """Read the key; raises OperatorError when it is missing, readable by others, or no Ed25519 key."""
    try:
        if path.stat().st_mode & 0o077:
            raise OperatorError(f"{path}: others can read the journal key; run: chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the journal key: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OperatorError(f"{path}: this is not the journal key: an Ed25519 key in PEM, not encrypted") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise OperatorError(f"{path}: the journal key has to be an Ed25519 key")
    return key
