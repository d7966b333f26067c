"""Objections to CAs that were made elsewhere: a sound one has none, and each fault is named."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificateIssuerPublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cassiopeia.ceremony.hierarchy import Hierarchy
from cassiopeia.ceremony.objections import Severity
from cassiopeia.ceremony.review_adopted import review_adopted, strength

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
NOW = dt.datetime(2026, 11, 23, 12, 34, 56, tzinfo=dt.UTC)
YEAR = dt.timedelta(days=366)
KEY = ec.generate_private_key(ec.SECP384R1())
RSA_1024 = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - too weak on purpose
KOBLITZ = ec.generate_private_key(ec.SECP256K1())
SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
EVERYTHING = x509.ExtendedKeyUsage(
    [
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ]
)


def key_usage(*, crl_sign: bool = True) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def make(
    *,
    key: CertificateIssuerPrivateKeyTypes = KEY,
    subject: str = "Old CA",
    issuer: str = "Old CA",
    is_ca: bool = True,
    path_length: int | None = 2,
    usage: x509.KeyUsage | None = None,
    without_usage: bool = False,
    usages: x509.ExtendedKeyUsage | None = None,
    key_identifier: bool = True,
    begin: dt.datetime = NOW - YEAR,
    end: dt.datetime = NOW + 15 * YEAR,
) -> x509.Certificate:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])

    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(4711)
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length if is_ca else None), critical=True)
    )
    if not without_usage:
        builder = builder.add_extension(usage or key_usage(), critical=True)
    if usages:
        builder = builder.add_extension(usages, critical=False)
    if key_identifier:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(
        key, hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) else None
    )


def with_sha1(certificate: x509.Certificate) -> x509.Certificate:
    """The same octets with ecdsa-with-SHA1 for ecdsa-with-SHA256: no library makes such a signature any more."""
    octets = certificate.public_bytes(Encoding.DER)
    sha256, sha1 = bytes.fromhex("300a06082a8648ce3d040302"), bytes.fromhex("300906072a8648ce3d0401")
    assert octets.count(sha256) == 2
    inner, middle, outer = octets.split(sha256)
    # Both length fields have the long form of two octets; one octet less within, two less in all.
    tbs = bytearray((inner + sha1 + middle)[4:])
    tbs[2:4] = (int.from_bytes(tbs[2:4], "big") - 1).to_bytes(2, "big")
    body = bytes(tbs) + sha1 + outer
    return x509.load_der_x509_certificate(octets[:2] + len(body).to_bytes(2, "big") + body)


def codes(certificate: x509.Certificate, hierarchy: Hierarchy, *, is_root: bool) -> list[tuple[Severity, str]]:
    families = hierarchy.family if is_root else hierarchy.family[:1]
    found = review_adopted(certificate, hierarchy=hierarchy, families=families, is_root=is_root, now=NOW)
    where = "the root" if is_root else "structure CA unassured"
    assert all(each.where == where for each in found)
    return [(each.severity, each.code) for each in found]


def test_a_sound_root_and_a_sound_structure_ca_are_left_alone(hierarchy: Hierarchy) -> None:
    assert codes(make(), hierarchy, is_root=True) == []
    below = make(subject="Old Servers", path_length=1, usages=EVERYTHING, end=NOW + 5 * YEAR)
    assert codes(below, hierarchy, is_root=False) == []


ROOTS: list[tuple[Callable[[], x509.Certificate], list[tuple[Severity, str]]]] = [
    (lambda: make(path_length=None), [(WARNING, "missing-path-length")]),
    (lambda: make(path_length=1), [(ERROR, "path-length-too-short")]),
    (lambda: make(path_length=3), [(NOTE, "path-length-too-long")]),
    (lambda: make(is_ca=False), [(ERROR, "not-a-ca")]),
    (lambda: make(without_usage=True), [(WARNING, "missing-key-usage")]),
    (lambda: make(usage=key_usage(crl_sign=False)), [(ERROR, "key-usage-too-narrow")]),
    (lambda: make(key_identifier=False), [(ERROR, "missing-key-identifier")]),
    (lambda: make(subject=""), [(ERROR, "no-subject")]),
    (lambda: make(end=NOW - dt.timedelta(seconds=1)), [(ERROR, "not-valid-now")]),
    (lambda: make(begin=NOW + dt.timedelta(seconds=1)), [(ERROR, "not-valid-now")]),
    (lambda: make(end=NOW + 9 * YEAR), [(ERROR, "root-outlived")] * 5),
    (lambda: with_sha1(make()), [(NOTE, "broken-hash")]),
    (lambda: make(key=RSA_1024), [(ERROR, "weak-key")]),
    (lambda: make(key=KOBLITZ), [(ERROR, "weak-key")]),
    (
        lambda: make(key=rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        [(WARNING, "weaker-above")] * 5,
    ),
    # A root that limits itself limits all that is below it.
    (lambda: make(usages=EVERYTHING), [(ERROR, "usage-not-above")] * 2),
]
BELOW: list[tuple[Callable[[], x509.Certificate], list[tuple[Severity, str]]]] = [
    (lambda: make(path_length=1), [(WARNING, "missing-extended-key-usage")]),
    (lambda: make(path_length=0, usages=EVERYTHING), [(ERROR, "path-length-too-short")]),
    (lambda: make(path_length=1, usages=SERVERS), [(ERROR, "usage-not-above")]),
    (
        lambda: make(path_length=1, usages=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])),
        [(WARNING, "any-extended-key-usage")],
    ),
    (lambda: make(path_length=1, usages=EVERYTHING, end=NOW + 2 * YEAR), [(ERROR, "structure-ca-outlived")]),
    (
        lambda: with_sha1(make(path_length=1, usages=EVERYTHING, subject="Old Servers")),
        [(ERROR, "broken-hash")],
    ),
]


@pytest.mark.parametrize(("certificate", "expected"), ROOTS)
def test_each_fault_of_a_root_is_named(
    certificate: Callable[[], x509.Certificate], expected: list[tuple[Severity, str]], hierarchy: Hierarchy
) -> None:
    assert codes(certificate(), hierarchy, is_root=True) == expected


@pytest.mark.parametrize(("certificate", "expected"), BELOW)
def test_each_fault_of_a_structure_ca_is_named(
    certificate: Callable[[], x509.Certificate], expected: list[tuple[Severity, str]], hierarchy: Hierarchy
) -> None:
    assert codes(certificate(), hierarchy, is_root=False) == expected


def test_a_certificate_that_cannot_be_read_is_an_error(hierarchy: Hierarchy) -> None:
    octets = make().public_bytes(Encoding.DER)
    pad = bytes.fromhex("0603551d13")  # basicConstraints becomes a second keyUsage
    assert octets.count(pad) == 1
    certificate = x509.load_der_x509_certificate(octets.replace(pad, bytes.fromhex("0603551d0f")))

    assert codes(certificate, hierarchy, is_root=True) == [(ERROR, "certificate-unreadable")]


@pytest.mark.parametrize(
    ("key", "bits"),
    [
        (lambda: rsa.generate_private_key(public_exponent=65537, key_size=3072).public_key(), 128),
        (lambda: rsa.RSAPublicNumbers(65537, (1 << 7679) + 1).public_key(), 192),
        (lambda: ec.generate_private_key(ec.SECP521R1()).public_key(), 256),
        (lambda: ed25519.Ed25519PrivateKey.generate().public_key(), 128),
        (lambda: ed448.Ed448PrivateKey.generate().public_key(), 224),
        (lambda: mldsa.MLDSA65PrivateKey.generate().public_key(), 192),
    ],
    ids=["rsa-3072", "rsa-7680", "p-521", "ed25519", "ed448", "ml-dsa-65"],
)
def test_strengths(key: Callable[[], CertificateIssuerPublicKeyTypes], bits: int) -> None:
    assert strength(key()) == bits
