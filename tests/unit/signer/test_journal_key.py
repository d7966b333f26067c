from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from tests.support.authorities import p256_key
from tests.support.journal_keys import JOURNAL_KEY, JOURNAL_PUBLIC_KEY, write_journal_key

from cassiopeia.core import ed25519
from cassiopeia.errors import OperatorError
from cassiopeia.signer.journal_key import load_journal_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.key"


def write(path: Path, octets: bytes, *, mode: int = 0o600) -> None:
    path.write_bytes(octets)
    path.chmod(mode)


def test_the_key_is_read(path: Path) -> None:
    write_journal_key(path)
    assert ed25519.public_octets(load_journal_key(path)) == JOURNAL_PUBLIC_KEY


def test_without_a_key_nothing_starts(path: Path) -> None:
    with pytest.raises(OperatorError, match=r"journal\.key: cannot read the journal key: No such file or directory"):
        load_journal_key(path)


def test_a_directory_is_no_key(path: Path) -> None:
    path.mkdir(mode=0o700)
    with pytest.raises(OperatorError, match=r"journal\.key: cannot read the journal key: Is a directory"):
        load_journal_key(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o606, 0o610, 0o601])
def test_a_key_that_others_can_get_at_is_refused(path: Path, mode: int) -> None:
    write_journal_key(path)
    path.chmod(mode)
    with pytest.raises(OperatorError, match=r"others can read the journal key; run: chmod 600 .*journal\.key"):
        load_journal_key(path)


ENCRYPTED = JOURNAL_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
PUBLIC = JOURNAL_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
DER = JOURNAL_KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("octets", [b"", b"no key", ENCRYPTED, PUBLIC, DER])
def test_what_is_no_key_in_pem_is_refused(path: Path, octets: bytes) -> None:
    write(path, octets)
    with pytest.raises(
        OperatorError, match=r"journal\.key: this is not the journal key: an Ed25519 key in PEM, not enc"
    ):
        load_journal_key(path)


def test_a_key_of_another_kind_is_refused(path: Path) -> None:
    write(path, p256_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(OperatorError, match=r"journal\.key: the journal key has to be an Ed25519 key"):
        load_journal_key(path)
