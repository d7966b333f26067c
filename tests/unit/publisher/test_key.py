from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from cassiopeia.cli import publisher as command
from cassiopeia.core import algorithms
from cassiopeia.core.csr import parse_certification_request
from cassiopeia.errors import OperatorError
from cassiopeia.publisher import key as keys


def test_the_command_line_knows_every_kind_of_key() -> None:
    assert command._KEY_ALGORITHMS == keys.KEY_ALGORITHMS


@pytest.mark.parametrize("algorithm", keys.KEY_ALGORITHMS)
def test_every_kind_of_key_is_kept_and_signs(tmp_path: Path, algorithm: str) -> None:
    path = tmp_path / "responder.key"
    made = keys.make_responder_key(path, algorithm=algorithm)
    key = keys.load_responder_key(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.public_info(key) == keys.public_info(made)
    identifier, signature = keys.sign(key, b"what is said")
    algorithms.verify(key.public_key(), algorithms.algorithm_from_der(identifier), signature, b"what is said")
    request = parse_certification_request(keys.certification_request(key))
    assert request.subject_public_key_info == keys.public_info(key)
    (tmp_path / "responder.pem").write_bytes(keys.public_pem(key))
    assert keys.read_public_pem(tmp_path / "responder.pem") == keys.public_pem(key)


def private(key: object, *, passphrase: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    octets: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)  # type: ignore[attr-defined]
    return octets


def test_what_is_no_responders_key_is_said(tmp_path: Path) -> None:
    good = keys.make_responder_key(tmp_path / "good.key")
    faults = {
        "cannot read the publisher's key": None,
        "is not an unencrypted PKCS#8 key": private(good, passphrase=b"secret"),
        "responders have keys of these kinds: P-256": private(mldsa.MLDSA44PrivateKey.generate()),
    }
    for words, octets in faults.items():
        path = tmp_path / "bad.key"
        path.unlink(missing_ok=True)
        if octets is not None:
            path.write_bytes(octets)
            path.chmod(0o600)
        with pytest.raises(OperatorError, match=words):
            keys.load_responder_key(path)
    (tmp_path / "good.key").chmod(0o640)
    with pytest.raises(OperatorError, match="others may read or change this key: chmod 600"):
        keys.load_responder_key(tmp_path / "good.key")


@pytest.mark.parametrize(("content", "words"), [(None, "cannot read"), (b"-----", "is not a public key in PEM")])
def test_what_is_no_public_key_is_said(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "responder.pem").write_bytes(content)
    with pytest.raises(OperatorError, match=words):
        keys.read_public_pem(tmp_path / "responder.pem")


def test_a_private_key_is_no_public_one(tmp_path: Path) -> None:
    key = keys.make_responder_key(tmp_path / "responder.key")
    assert key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) == keys.public_pem(key)
    with pytest.raises(OperatorError, match="is not a public key"):
        keys.read_public_pem(tmp_path / "responder.key")
