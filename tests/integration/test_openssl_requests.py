"""Requests that the `openssl` program makes (Debian: apt install openssl), as subscribers send them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from cassiopeia.core.csr import CertifiedKey, parse_certification_request, parse_spkac, to_der
from cassiopeia.errors import Refused

RSA = ["-algorithm", "RSA", "-pkeyopt"]
EC = ["-algorithm", "EC", "-pkeyopt"]
KEYS = {
    "RSA-2048": [*RSA, "rsa_keygen_bits:2048"],
    "RSA-4096": [*RSA, "rsa_keygen_bits:4096"],
    "P-256": [*EC, "ec_paramgen_curve:P-256"],
    "P-384": [*EC, "ec_paramgen_curve:P-384"],
    "P-521": [*EC, "ec_paramgen_curve:P-521"],
    "Ed25519": ["-algorithm", "ED25519"],
    "RSA-1024": [*RSA, "rsa_keygen_bits:1024"],
    "RSA-2048 with exponent 3": [*RSA, "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"],
    "RSA-PSS": ["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"],
    "secp256k1": [*EC, "ec_paramgen_curve:secp256k1"],
    "brainpool": [*EC, "ec_paramgen_curve:brainpoolP256r1"],
    "explicit": [*EC, "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"],
    "Ed448": ["-algorithm", "ED448"],
}
GOOD = ["RSA-2048", "RSA-4096", "P-256", "P-384", "P-521", "Ed25519"]


def openssl(*arguments: str | Path) -> bytes:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60).stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    directory = tmp_path_factory.mktemp("keys")
    files = {name: directory / f"{name}.pem" for name in KEYS}
    for name, arguments in KEYS.items():
        openssl("genpkey", *arguments, "-out", files[name])
    return files


def make_request(key: Path, *more: str) -> bytes:
    return openssl("req", "-new", "-key", key, "-subj", "/CN=ignored", *more)


def public_key(key: Path) -> bytes:
    return openssl("pkey", "-in", key, "-pubout", "-outform", "DER")


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_a_request(keys: Mapping[str, Path], name: str, form: str) -> None:
    certified_key = parse_certification_request(make_request(keys[name], "-outform", form))
    assert certified_key.algorithm == name
    assert certified_key.subject_public_key_info == public_key(keys[name])


@pytest.mark.parametrize(
    "more",
    [
        ["-text"],
        ["-newhdr"],
        ["-sha512"],
        ["-addext", "subjectAltName=DNS:evil.example.org", "-addext", "basicConstraints=critical,CA:TRUE"],
        ["-sigopt", "rsa_padding_mode:pss"],
        ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest", "-sha384"],
        ["-utf8", "-multivalue-rdn"],
    ],
)
def test_the_ways_to_make_a_request(keys: Mapping[str, Path], more: list[str]) -> None:
    certified_key = parse_certification_request(make_request(keys["RSA-2048"], *more))
    assert certified_key.subject_public_key_info == public_key(keys["RSA-2048"])


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("RSA-1024", "key-weak"),
        ("RSA-2048 with exponent 3", "key-weak"),
        ("RSA-PSS", "key-encoding"),
        ("secp256k1", "key-unsupported"),
        ("brainpool", "key-unsupported"),
        ("Ed448", "key-unsupported"),
    ],
)
def test_a_request_for_a_key_that_is_not_certified(keys: Mapping[str, Path], name: str, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse_certification_request(make_request(keys[name]))
    assert (refusal.value.code, refusal.value.field) == (code, "key")


def test_a_request_with_explicit_curve_parameters(keys: Mapping[str, Path]) -> None:
    with pytest.raises(Refused) as refusal:
        parse_certification_request(make_request(keys["explicit"]))
    assert refusal.value.field == "key"


@pytest.mark.parametrize("digest", ["-sha1", "-md5"])
def test_a_request_signed_with_a_broken_hash(keys: Mapping[str, Path], digest: str) -> None:
    with pytest.raises(Refused, match="which is broken; make it anew") as refusal:
        parse_certification_request(make_request(keys["RSA-2048"], digest))
    assert refusal.value.code == "signature-algorithm"


@pytest.mark.parametrize("name", ["RSA-2048", "RSA-4096", "P-256", "P-384"])
def test_a_spkac(keys: Mapping[str, Path], name: str) -> None:
    text = openssl("spkac", "-key", keys[name], "-digest", "sha256", "-challenge", "said by a web page")
    assert text.startswith(b"SPKAC=")
    for octets in (text, text.removeprefix(b"SPKAC="), to_der(text, "spkac")):
        certified_key: CertifiedKey = parse_spkac(octets)
        assert certified_key.algorithm == name
        assert certified_key.subject_public_key_info == public_key(keys[name])


def test_a_spkac_with_the_programs_default_is_told_what_to_do(keys: Mapping[str, Path]) -> None:
    text = openssl("spkac", "-key", keys["RSA-2048"])  # MD5
    with pytest.raises(Refused, match=r"signed with MD5, which is broken; .* openssl spkac -digest sha256") as refusal:
        parse_spkac(text)
    assert refusal.value.code == "signature-algorithm"


def test_the_program_agrees_on_the_key_identifier(keys: Mapping[str, Path], tmp_path: Path) -> None:
    certificate = tmp_path / "self-signed.pem"
    openssl(
        "req",
        "-x509",
        "-key",
        keys["P-256"],
        "-subj",
        "/CN=x",
        "-addext",
        "subjectKeyIdentifier=hash",
        "-out",
        certificate,
    )
    text = openssl("x509", "-in", certificate, "-noout", "-ext", "subjectKeyIdentifier").decode()
    shown = text.splitlines()[1].strip().replace(":", "").lower()
    assert parse_certification_request(make_request(keys["P-256"])).key_identifier.hex() == shown
