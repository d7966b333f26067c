from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)
from tests.support.authorities import PrivateKey, p256_key, rsa_key
from tests.support.signer import PASSPHRASE, write_key

from cassiopeia.config.keys import resolve_key_uri
from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm, algorithms_for, verify
from cassiopeia.core.key_uri import parse_key_uri
from cassiopeia.errors import InternalError, OperatorError, SignatureInvalid
from cassiopeia.secret_source import SecretSource
from cassiopeia.signer.keystore.interface import CaKey, StoreSettings
from cassiopeia.signer.keystore.openssl import load

_MAKE: dict[str, Callable[[], PrivateKey]] = {
    "RSA": rsa_key,
    "EC-sha256": p256_key,
    "EC-sha384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EC-sha512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
    "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate,
    "ML-DSA-87": mldsa.MLDSA87PrivateKey.generate,
}


@functools.cache
def key_for(algorithm: SignatureAlgorithm) -> PrivateKey:
    kind = f"EC-{algorithm.hash_name}" if algorithm.key_kind == "EC" else algorithm.key_kind
    return _MAKE[kind]()


def open_key(directory: Path, uri: str = "file:ca.key", *, passphrase: bytes = PASSPHRASE) -> CaKey:
    """The key at this URI, relative to the directory in which the passphrase is too."""
    file = directory / "passphrase"
    file.write_bytes(passphrase)
    file.chmod(0o600)
    store = load().open_store(StoreSettings(passphrase=SecretSource(what="the passphrase", file=file)))
    return store.open(resolve_key_uri(parse_key_uri(uri), directory))


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda each: each.name)
def test_every_algorithm_signs_and_its_signature_verifies(tmp_path: Path, algorithm: SignatureAlgorithm) -> None:
    private = key_for(algorithm)
    assert algorithm in algorithms_for(private.public_key())
    key = open_key(tmp_path, write_key(tmp_path / "ca.key", private))

    signature = key.sign(algorithm, b"to be signed")

    verify(private.public_key(), algorithm, signature, b"to be signed")
    with pytest.raises(SignatureInvalid):
        verify(private.public_key(), algorithm, signature, b"to be signeD")
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert key.public_key_info == public
    assert algorithm in key.algorithms


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    write_key(tmp_path / "ca.key", p256_key())
    (tmp_path / "elsewhere").mkdir()
    key = open_key(tmp_path / "elsewhere", f"file:{tmp_path}/ca.key")
    assert key.sign(algorithms_for(p256_key().public_key())[0], b"")


def test_a_wrong_passphrase_unlocks_nothing(tmp_path: Path) -> None:
    write_key(tmp_path / "ca.key", p256_key())
    with pytest.raises(OperatorError, match=r"ca\.key: cannot unlock this CA key: wrong passphrase"):
        open_key(tmp_path, passphrase=b"wrong")


def test_a_key_in_clear_is_refused(tmp_path: Path) -> None:
    """Whoever wrote it believed that the passphrase protects it."""
    write_key(tmp_path / "ca.key", p256_key(), passphrase=None)
    with pytest.raises(OperatorError, match="not an encrypted PKCS#8 PEM file"):
        open_key(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca.key").write_bytes(content)
    (tmp_path / "ca.key").chmod(0o600)
    with pytest.raises(OperatorError, match="cannot unlock this CA key"):
        open_key(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    write_key(tmp_path / "ca.key", p256_key(), mode=mode)
    with pytest.raises(OperatorError, match=f"others can read this CA key; run: chmod 600 {tmp_path}/ca.key"):
        open_key(tmp_path)


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=f"{tmp_path}/ca.key: cannot read this CA key: No such file"):
        open_key(tmp_path)


def test_a_key_in_a_token_is_not_for_this_store(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="a key in a token, and no key file"):
        open_key(tmp_path, "pkcs11:token=ca;object=x")


def test_a_key_that_cannot_sign_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ca.key"
    encryption = BestAvailableEncryption(PASSPHRASE)
    path.write_bytes(x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    path.chmod(0o600)
    with pytest.raises(OperatorError, match="This CA key cannot be used"):
        open_key(tmp_path)


def test_another_key_s_algorithm_is_our_own_mistake(tmp_path: Path) -> None:
    key = open_key(tmp_path, write_key(tmp_path / "ca.key", p256_key()))
    with pytest.raises(InternalError, match="does not sign with sha256WithRSAEncryption"):
        key.sign(ALGORITHMS[0], b"")
