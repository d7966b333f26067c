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

from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm, algorithms_for, verify
from cassiopeia.errors import InternalError, OperatorError, SignatureInvalid
from cassiopeia.signer.keystore.openssl import OpenSslKeyStore

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


def store(directory: Path, *, passphrase: bytes = PASSPHRASE) -> OpenSslKeyStore:
    return OpenSslKeyStore(passphrase=passphrase, directory=directory)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda each: each.name)
def test_every_algorithm_signs_and_its_signature_verifies(tmp_path: Path, algorithm: SignatureAlgorithm) -> None:
    key = key_for(algorithm)
    assert algorithm in algorithms_for(key.public_key())
    keys = store(tmp_path)
    keys.add("ca", write_key(tmp_path / "ca.key", key))

    signature = keys.sign("ca", algorithm, b"to be signed")

    verify(key.public_key(), algorithm, signature, b"to be signed")
    with pytest.raises(SignatureInvalid):
        verify(key.public_key(), algorithm, signature, b"to be signeD")
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert keys.subject_public_key_info("ca") == public


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    write_key(tmp_path / "ca.key", p256_key())
    keys = store(tmp_path / "elsewhere")
    keys.add("ca", f"file:{tmp_path}/ca.key")
    assert keys.sign("ca", algorithms_for(p256_key().public_key())[0], b"")


def test_keys_are_known_by_their_names(tmp_path: Path) -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    keys = store(tmp_path)
    keys.add("first", write_key(tmp_path / "first.key", p256_key()))
    keys.add("second", write_key(tmp_path / "second.key", other))
    (ecdsa,), (eddsa,) = algorithms_for(p256_key().public_key()), algorithms_for(other.public_key())
    verify(p256_key().public_key(), ecdsa, keys.sign("first", ecdsa, b"x"), b"x")
    verify(other.public_key(), eddsa, keys.sign("second", eddsa, b"x"), b"x")


def test_a_wrong_passphrase_unlocks_nothing(tmp_path: Path) -> None:
    uri = write_key(tmp_path / "ca.key", p256_key())
    with pytest.raises(OperatorError, match=r"ca\.key: cannot unlock the key of the_ca: wrong passphrase"):
        store(tmp_path, passphrase=b"wrong").add("the_ca", uri)


def test_a_key_in_clear_is_refused(tmp_path: Path) -> None:
    """Whoever wrote it believed that the passphrase protects it."""
    uri = write_key(tmp_path / "ca.key", p256_key(), passphrase=None)
    with pytest.raises(OperatorError, match="not an encrypted PKCS#8 PEM file"):
        store(tmp_path).add("ca", uri)


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
    with pytest.raises(OperatorError, match="cannot unlock the key of ca"):
        store(tmp_path).add("ca", "file:ca.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    uri = write_key(tmp_path / "ca.key", p256_key(), mode=mode)
    with pytest.raises(OperatorError, match=f"others can read this CA key; run: chmod 600 {tmp_path}/ca.key"):
        store(tmp_path).add("ca", uri)


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=f"{tmp_path}/ca.key: cannot read the key of the_ca: No such file"):
        store(tmp_path).add("the_ca", "file:ca.key")


@pytest.mark.parametrize("uri", ["pkcs11:token=ca", "ca.key", "", "FILE:ca.key"])
def test_a_uri_of_another_kind_says_what_to_write(tmp_path: Path, uri: str) -> None:
    with pytest.raises(OperatorError, match="knows key files only; write file:PATH"):
        store(tmp_path).add("ca", uri)


def test_a_key_that_cannot_sign_is_our_own_mistake(tmp_path: Path) -> None:
    path = tmp_path / "ca.key"
    encryption = BestAvailableEncryption(PASSPHRASE)
    path.write_bytes(x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    path.chmod(0o600)
    keys = store(tmp_path)
    keys.add("ca", "file:ca.key")
    with pytest.raises(InternalError, match=r"no way to sign with a .*X25519"):
        keys.sign("ca", ALGORITHMS[0], b"")
