"""The key that signers in tests sign their journals with, and what clients know it by."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cassiopeia.core import ed25519

JOURNAL_KEY = Ed25519PrivateKey.from_private_bytes(b"j" * 32)
JOURNAL_PUBLIC_KEY = ed25519.public_octets(JOURNAL_KEY)
JOURNAL_PUBLIC_PEM = JOURNAL_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def write_journal_key(path: Path) -> None:
    path.write_bytes(JOURNAL_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)


def write_journal_pem(path: Path) -> None:
    path.write_bytes(JOURNAL_PUBLIC_PEM)
