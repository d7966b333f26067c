"""The known answers are those of the documents that they are said to be from, and OpenSSL gives them."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from cassiopeia.core.algorithms import ALGORITHMS, verify
from cassiopeia.signer.keystore.known_answers import KnownAnswer, known_answers

VECTORS = Path(cryptography_vectors.__file__).parent / "asymmetric"
ANSWERS = {each.algorithm.name: each for each in known_answers()}


def key_of(answer: KnownAnswer) -> PrivateKeyTypes:
    return load_der_private_key(answer.private_key, None)


def test_there_is_one_for_each_algorithm() -> None:
    assert [each.algorithm for each in known_answers()] == list(ALGORITHMS)
    assert [name for name, each in ANSWERS.items() if not each.signature] == ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_openssl_gives_them(answer: KnownAnswer) -> None:
    public_key = key_of(answer).public_key()
    info = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    assert hashlib.sha256(info).digest() == answer.public_key_digest
    if answer.signature:
        verify(public_key, answer.algorithm, answer.signature, answer.octets)


def test_only_what_has_no_randomness_in_it_must_come_out_the_same() -> None:
    assert [name for name, each in ANSWERS.items() if each.is_only_signature] == [
        "sha256WithRSAEncryption",
        "sha384WithRSAEncryption",
        "sha512WithRSAEncryption",
        "Ed25519",
        "Ed448",
    ]


@pytest.mark.parametrize(("curve", "size"), [("P-256", 256), ("P-384", 384), ("P-521", 512)])
def test_ecdsa_is_that_of_rfc_6979(curve: str, size: int) -> None:
    text = (VECTORS / "ECDSA/RFC6979/evppkey_ecdsa_rfc6979.txt").read_text()
    pem = re.search(rf"PrivateKey={curve}_PRIV\n(-----BEGIN.*?-----END PRIVATE KEY-----\n)", text, re.DOTALL)
    assert pem is not None
    expected = load_pem_private_key(pem[1].encode(), None)
    answer = ANSWERS[f"ecdsa-with-SHA{size}"]
    ours = key_of(answer)
    assert isinstance(expected, ec.EllipticCurvePrivateKey)
    assert isinstance(ours, ec.EllipticCurvePrivateKey)

    assert ours.private_numbers() == expected.private_numbers()
    assert answer.octets == b"sample"
    assert f'Input = "sample"\nOutput = {answer.signature.hex().upper()}\n' in text


def test_ed25519_is_that_of_rfc_8032() -> None:
    answer = ANSWERS["Ed25519"]
    key = key_of(answer)
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    public = key.public_key().public_bytes_raw().hex()
    line = (
        f"{key.private_bytes_raw().hex()}{public}:{public}:{answer.octets.hex()}:"
        f"{answer.signature.hex()}{answer.octets.hex()}:"
    )

    assert line in (VECTORS / "Ed25519/sign.input").read_text().splitlines()


def test_ed448_is_that_of_rfc_8032() -> None:
    answer = ANSWERS["Ed448"]
    key = key_of(answer)
    assert isinstance(key, ed448.Ed448PrivateKey)
    block = (
        f"SECRET = {key.private_bytes_raw().hex()}\nPUBLIC = {key.public_key().public_bytes_raw().hex()}\n"
        f"MESSAGE = {answer.octets.hex()}\nSIGNATURE = {answer.signature.hex()}\n"
    )

    assert block in (VECTORS / "Ed448/rfc8032.txt").read_text()


@pytest.mark.parametrize("size", [44, 65, 87])
def test_mldsa_keys_are_those_of_the_known_answer_tests(size: int) -> None:
    text = (VECTORS / f"MLDSA/kat_MLDSA_{size}_det_pure.rsp").read_text()
    seed, public = re.search("^xi = (.*)$", text, re.MULTILINE), re.search("^pk = (.*)$", text, re.MULTILINE)
    assert seed is not None
    assert public is not None
    key = key_of(ANSWERS[f"ML-DSA-{size}"])
    assert isinstance(key, mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey)

    assert key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()).hex() == seed[1]
    assert key.public_key().public_bytes_raw().hex() == public[1]


def test_the_same_rsa_key_stands_behind_all_rsa_answers() -> None:
    keys = {base64.b64encode(each.private_key) for each in ANSWERS.values() if each.algorithm.key_kind == "RSA"}

    assert len(keys) == 1
