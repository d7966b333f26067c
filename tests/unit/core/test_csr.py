"""Certification requests and SPKACs: the sound ones give their key, each fault its refusal."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from tests.support import hostile_requests as made

from cassiopeia.core.csr import parse_certification_request, parse_spkac, to_der
from cassiopeia.errors import Refused

SENTENCE = re.compile(r"[A-Z].{20,400}[;,].+\.", re.DOTALL)


@pytest.mark.parametrize("name", made.sound_requests())
def test_a_sound_request_gives_its_key(name: str) -> None:
    octets, description = made.sound_requests()[name]
    certified_key = parse_certification_request(octets)
    assert certified_key.algorithm == description
    assert certified_key.subject_public_key_info == certified_key.public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize("name", made.bad_requests())
def test_a_bad_request_is_refused_for_its_fault(name: str) -> None:
    octets, code = made.bad_requests()[name]
    with pytest.raises(Refused) as refusal:
        parse_certification_request(octets)
    assert refusal.value.code == code
    assert refusal.value.field in ("csr", "key")
    assert SENTENCE.fullmatch(refusal.value.message)
    assert refusal.value.message.isascii()


@pytest.mark.parametrize("name", made.bad_spkacs())
def test_a_bad_spkac_is_refused_for_its_fault(name: str) -> None:
    octets, code = made.bad_spkacs()[name]
    with pytest.raises(Refused) as refusal:
        parse_spkac(octets)
    assert refusal.value.code == code
    assert refusal.value.field in ("spkac", "key")
    assert SENTENCE.fullmatch(refusal.value.message)
    assert refusal.value.message.isascii()


@pytest.mark.parametrize("octets", [made.sound_requests()["p-256"][0], made.sound_requests()["rsa-2048"][0]])
def test_the_key_identifier_is_sha_1_of_the_keys_bits(octets: bytes) -> None:
    certified_key = parse_certification_request(octets)
    if certified_key.algorithm == "P-256":
        bits = (
            made.ec_key()
            .public_key()
            .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        )
    else:
        bits = made.rsa_key().public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    assert certified_key.key_identifier == hashlib.sha1(bits, usedforsecurity=False).digest()


def test_the_three_forms_of_a_spkac_are_one() -> None:
    der = made.spkac(challenge=b"said by a web page")
    text = base64.b64encode(der)
    folded = b"\r\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    forms = [der, text, b"SPKAC=" + text + b"\n", b"\nSPKAC=" + folded]
    assert {parse_spkac(form).subject_public_key_info for form in forms} == {made.public_key_info(made.ec_key())}
    assert {to_der(form, "spkac") for form in forms} == {der}


def test_a_spkac_of_each_kind_of_key() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    ed25519_spkac = made.spkac(
        key_info=made.public_key_info(key), signature_algorithm=made.algorithm(made.ED25519), sign=key.sign
    )
    rsa_spkac = made.spkac(
        key_info=made.public_key_info(made.rsa_key()),
        signature_algorithm=made.algorithm(made.SHA256_WITH_RSA, made.NULL),
        sign=made.sign_rsa,
    )
    found = [parse_spkac(octets).algorithm for octets in (ed25519_spkac, rsa_spkac, made.spkac())]
    assert found == ["Ed25519", "RSA-2048", "P-256"]


def test_der_comes_out_of_pem_as_it_went_in() -> None:
    der = made.certification_request()
    assert to_der(made.pem(der), "csr") == der
    assert to_der(der, "csr") == der


def test_der_is_not_judged() -> None:
    assert to_der(b"\x30garbage", "csr") == b"\x30garbage"


def test_a_wrong_label_is_shown_to_the_submitter() -> None:
    with pytest.raises(Refused, match="'CERTIFICATE' and not 'CERTIFICATE REQUEST'"):
        parse_certification_request(made.pem(made.certification_request(), "CERTIFICATE"))


def test_who_sends_a_private_key_is_told_never_to_use_it_again() -> None:
    with pytest.raises(Refused, match="never use this one again"):
        parse_certification_request(made.pem(b"key", "ENCRYPTED PRIVATE KEY"))


def test_a_hostile_size_is_refused_before_the_signature_is_looked_at() -> None:
    huge, _ = made.bad_keys()["key-rsa-16384"]
    request = made.certification_request(
        key_info=huge,
        signature_algorithm=made.algorithm(made.SHA256_WITH_RSA, made.NULL),
        sign=lambda _: b"\x01" * 2048,
    )
    with pytest.raises(Refused, match="16384 bits"):
        parse_certification_request(request)
