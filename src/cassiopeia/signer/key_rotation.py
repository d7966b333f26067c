"""A new journal key for a signer that stands still: a new file, and an entry by which the old key vouches for the new.

A crash at any place is mended by running it again: the new key lies beside the old one until the journal has it.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cassiopeia import files
from cassiopeia.config import SignerConfig
from cassiopeia.core import ed25519
from cassiopeia.errors import OperatorError
from cassiopeia.signer.journal import Journal
from cassiopeia.signer.journal_file import FILE_NAME
from cassiopeia.signer.journal_key import load_journal_key
from cassiopeia.signer.journal_reader import read_header

_NEXT_SUFFIX: Final = ".next"


def rotate_key(config: SignerConfig, *, now: dt.datetime) -> bytes:
    """Change the journal's key; return the new public key (DER SubjectPublicKeyInfo). Raises OperatorError.

    `now` is what the machine's clock shows.
    """
    path = config.journal_key
    following = path.with_name(path.name + _NEXT_SUFFIX)
    if not (config.state / FILE_NAME).is_file():
        raise OperatorError(
            f"{config.state / FILE_NAME}: there is no journal yet; before the first start just make another key: "
            f"openssl genpkey -algorithm ED25519 -out {path}"
        )
    # 1. The new key, on the disk before anything speaks of it.
    if not following.exists():
        _write_key(following, Ed25519PrivateKey.generate())
    new = load_journal_key(following)
    # 2. The entry, unless a run before this one has got so far.
    if read_header(config.state / FILE_NAME).keys[-1] != ed25519.public_octets(new):
        journal = Journal(config.state, signer_id=config.signer_id, key=load_journal_key(path))
        try:
            # The signer's time, not the machine's: an entry from the future would halt the next start.
            journal.record_key(new, now=now + dt.timedelta(seconds=journal.index.clock_offset_s()))
            journal.commit()
        finally:
            journal.close()
    # 3. From now on it is the key; the old one has nothing left to sign.
    following.replace(path)
    files.sync_directory(path.parent)
    return ed25519.public_octets(new)


def _write_key(path: Path, key: Ed25519PrivateKey) -> None:
    # Complete or not there: a torn key file would be taken for the next key for ever.
    with files.new_file(path) as stream:
        stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
