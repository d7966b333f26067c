"""The `openssl` program verifies our certificates through whole chains and reads them without complaint.

Needs the program `openssl` (Debian: apt-get install openssl). OpenSSL 3.0 knows no ML-DSA: that chain is verified by
pyca/cryptography.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authorities import (
    NOW,
    PROFILES,
    PrivateKey,
    TestCa,
    alt_names,
    approve,
    attributes,
    certification_request,
    load_profile,
    make_authority,
    make_ca,
    p256_key,
    rsa_key,
    server_request,
    sign,
    subject_public_key_info,
)

from cassiopeia.core import algorithms
from cassiopeia.core.authority import Authority
from cassiopeia.core.certificate import assemble_tbs, check_certificate, compose_certificate
from cassiopeia.core.request import CertificateRequest

AT = str(int(NOW.timestamp()) + 60)


def openssl(*arguments: str | Path, stdin: bytes = b"") -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def issue(request: CertificateRequest, ca: TestCa, authority: Authority) -> bytes:
    profile = dataclasses.replace(load_profile(request.profile), evidence=(), family=authority.family)
    approved = approve(request, profile=profile, authority=authority)
    tbs = assemble_tbs(approved)
    octets = compose_certificate(tbs, sign(ca.key, approved.algorithm, tbs))
    check_certificate(
        octets,
        authority=authority,
        request=request,
        subject_public_key_info=subject_public_key_info(request),
    )
    return octets


def chain(sub_ca_key: object, *, upper_key: object | None = None) -> tuple[TestCa, TestCa, TestCa]:
    """Root, structure CA and time sub-CA."""
    root = make_ca("Test root", key=upper_key or ec.generate_private_key(ec.SECP256R1()))  # type: ignore[arg-type] # any key
    structure = make_ca("unassured", key=upper_key or p256_key(), issuer=root)  # type: ignore[arg-type] # any key
    return root, structure, make_ca("unassured_2026_2", key=sub_ca_key, issuer=structure)  # type: ignore[arg-type] # any key


def verify(directory: Path, octets: bytes, cas: tuple[TestCa, ...], *, purpose: str) -> str:
    root, *intermediates = cas
    (directory / "root.pem").write_bytes(root.pem)
    (directory / "intermediates.pem").write_bytes(b"".join(each.pem for each in intermediates))
    leaf = directory / "leaf.pem"
    leaf.write_bytes(x509.load_der_x509_certificate(octets).public_bytes(Encoding.PEM))
    return openssl(
        *("verify", "-x509_strict", "-attime", AT, "-purpose", purpose, "-CAfile", directory / "root.pem"),
        *("-untrusted", directory / "intermediates.pem", leaf),
    )


REQUESTS = {
    "9004-unproved-server": (server_request(), "sslserver"),
    "9002-unproved-mail": (
        server_request(
            profile="9002-unproved-mail",
            attributes=attributes(CN="Ada Lövelace", EMAIL="ada@example.org"),
            alt_names=alt_names("email,ada@example.org"),
        ),
        "smimesign",
    ),
    "9001-unproved-client": (
        server_request(
            profile="9001-unproved-client",
            attributes=attributes(CN="Ada Lövelace", EMAIL="ada@example.org"),
            alt_names=alt_names("email,ada@example.org"),
        ),
        "sslclient",
    ),
}


@pytest.mark.parametrize("kind", ["RSA", "P-256", "Ed25519"])
@pytest.mark.parametrize("profile", REQUESTS)
def test_verifies_through_root_structure_and_time_sub_ca(tmp_path: Path, profile: str, kind: str) -> None:
    cas = chain(p256_key())
    request, purpose = REQUESTS[profile]
    request = dataclasses.replace(request, key_proof=certification_request(kind))
    octets = issue(request, cas[-1], make_authority(cas[-1]))
    assert verify(tmp_path, octets, cas, purpose=purpose).endswith("leaf.pem: OK\n")


@pytest.mark.parametrize(
    ("kind", "pss", "wish", "name"),
    [
        ("RSA", False, "sha384", "sha384WithRSAEncryption"),
        ("RSA", True, "", "rsassaPss"),
        ("RSA", True, "sha512", "rsassaPss"),
        ("Ed25519", False, "sha256", "ED25519"),
        ("P-384", False, "sha256", "ecdsa-with-SHA384"),
        ("P-521", False, "", "ecdsa-with-SHA512"),
    ],
)
def test_verifies_every_kind_of_sub_ca(tmp_path: Path, kind: str, pss: bool, wish: str, name: str) -> None:  # noqa: FBT001 - a column
    keys: dict[str, Callable[[], PrivateKey]] = {
        "RSA": rsa_key,
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    }
    cas = chain(keys[kind]())
    octets = issue(server_request(signature_hash=wish), cas[-1], make_authority(cas[-1], pss=pss))
    assert verify(tmp_path, octets, cas, purpose="sslserver").endswith("leaf.pem: OK\n")
    assert f"Signature Algorithm: {name}" in openssl("x509", "-inform", "DER", "-noout", "-text", stdin=octets)


def test_verifies_nothing_that_was_changed(tmp_path: Path) -> None:
    cas = chain(p256_key())
    octets = issue(server_request(), cas[-1], make_authority(cas[-1]))
    changed = octets.replace(b"example.org", b"example.net")
    with pytest.raises(AssertionError, match="certificate signature failure"):
        verify(tmp_path, changed, cas, purpose="sslserver")


@pytest.mark.parametrize("key_type", [mldsa.MLDSA44PrivateKey, mldsa.MLDSA65PrivateKey, mldsa.MLDSA87PrivateKey])
def test_verifies_ml_dsa_by_the_library(key_type: type) -> None:
    cas = chain(key_type.generate(), upper_key=key_type.generate())  # type: ignore[attr-defined] # each of the three has it
    request = server_request(key_proof=certification_request("ML-DSA-44"))
    leaf = x509.load_der_x509_certificate(issue(request, cas[-1], make_authority(cas[-1])))
    path = [leaf, *(each.certificate for each in reversed(cas))]
    for below, above in zip(path, path[1:] + path[-1:], strict=True):
        below.verify_directly_issued_by(above)
    assert leaf.signature_algorithm_parameters is None


@pytest.mark.parametrize("profile", sorted(each.stem for each in PROFILES.glob("*.toml")))
def test_reads_every_default_profile_without_complaint(profile: str) -> None:
    loaded = load_profile(profile)
    ca = make_ca("unassured_2026_2", key=p256_key())
    authority = dataclasses.replace(make_authority(ca), family=loaded.family or "unassured")
    wanted = {"C": "DE", "ST": "Hessen", "L": "Köln", "O": "Example", "OU": "One", "CN": "www.example.org"}
    values = {"DNS": "www.example.org", "email": "ada@example.org", "IP": "192.0.2.7", "URI": "https://example.org/"}
    wanted["EMAIL"] = values["email"]
    request = server_request(
        profile=profile if loaded.family else "",
        ocsp_target_ca="" if loaded.family else authority.name,
        attributes=attributes(
            **{each: text for each, text in wanted.items() if loaded.subject_presence(each).value != "forbidden"}
        ),
        alt_names=alt_names(
            *(f"{each},{text}" for each, text in values.items() if loaded.alt_name_presence(each).value != "forbidden")
        ),
    )
    approved = approve(request, profile=dataclasses.replace(loaded, evidence=()), authority=authority)
    tbs = assemble_tbs(approved)
    octets = compose_certificate(tbs, sign(ca.key, approved.algorithm, tbs))
    text = openssl("x509", "-inform", "DER", "-noout", "-text", stdin=octets)
    assert "Version: 3 (0x2)" in text
    assert "CA:FALSE" in text
    assert "<INVALID>" not in text
    assert ("OCSP No Check" in text) == loaded.ocsp_no_check
    parsed = openssl("asn1parse", "-inform", "DER", stdin=octets)
    assert "Error" not in parsed
    assert ":Köln" in parsed or "L" not in {each.type for each in request.attributes}


def test_string_types_and_criticality_as_asn1parse_sees_them() -> None:
    ca = make_ca("unassured_2026_2", key=p256_key())
    request = REQUESTS["9002-unproved-mail"][0]
    parsed = openssl("asn1parse", "-inform", "DER", stdin=issue(request, ca, make_authority(ca)))
    assert re.search(r"OBJECT +:commonName\n.*UTF8STRING +:Ada Lövelace", parsed)
    assert re.search(r"OBJECT +:emailAddress\n.*IA5STRING +:ada@example.org", parsed)
    assert re.findall(r"OBJECT +:(X509v3 [A-Za-z ]+)\n.*BOOLEAN +:255", parsed) == [
        "X509v3 Basic Constraints",
        "X509v3 Key Usage",
    ]
    assert re.findall(r"UTCTIME +:(\d+Z)", parsed)[0] == "261123123015Z"


def test_pss_parameters_are_explicit() -> None:
    ca = make_ca("unassured_2026_2", key=rsa_key())
    text = openssl(
        "x509", "-inform", "DER", "-noout", "-text", stdin=issue(server_request(), ca, make_authority(ca, pss=True))
    )
    for line in ("Hash Algorithm: sha256", "Mask Algorithm: mgf1 with sha256", "Salt Length: 0x20"):
        assert line in text
    assert algorithms.choose_algorithm(rsa_key().public_key(), "", pss=True).is_pss
