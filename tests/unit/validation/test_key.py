from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)

from cassiopeia.errors import OperatorError
from cassiopeia.validation.key import load_validator_key, make_validator_key, public_pem


def test_a_key_is_for_its_owner_alone_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "validator.key"

    made = make_validator_key(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert public_pem(load_validator_key(path)) == public_pem(made)
    assert load_pem_public_key(public_pem(made)) == made.public_key()


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "validator.key"
    make_validator_key(path)
    before = path.read_bytes()

    with pytest.raises(FileExistsError):
        make_validator_key(path)

    assert path.read_bytes() == before


def test_no_key(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"cannot read .*No such file.*`cassiopeia validator init` makes one"):
        load_validator_key(tmp_path / "validator.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_can_reach_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "validator.key"
    make_validator_key(path)
    path.chmod(mode)

    with pytest.raises(OperatorError, match="others may read or change this key: chmod 600"):
        load_validator_key(path)


def encoded(encryption: NoEncryption | BestAvailableEncryption, *, other_kind: bool) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1()) if other_kind else Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no key", "is not an unencrypted PKCS#8 key"),
        (encoded(BestAvailableEncryption(b"secret"), other_kind=False), "is not an unencrypted PKCS#8 key"),
        (encoded(NoEncryption(), other_kind=True), "is not an Ed25519 key"),
    ],
    ids=["nothing", "encrypted", "P-256"],
)
def test_what_is_no_key_of_a_validator(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "validator.key"
    path.touch(0o600)
    path.write_bytes(content)

    with pytest.raises(OperatorError, match=words):
        load_validator_key(path)
