"""Name constraints of a sub-CA: what they permit and exclude, as verifiers will (RFC 5280 4.2.1.10)."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authorities import default_authority, default_ca, p256_key

from cassiopeia.core.authority import load_authority
from cassiopeia.core.constraints import UNCONSTRAINED, NameConstraints, check_constraints
from cassiopeia.core.request import SubjectAltName, SubjectAttribute
from cassiopeia.errors import Refused

CONSTRAINTS = NameConstraints(
    permitted_domains=("Example.org", ".below.example.net"),
    excluded_domains=("secret.example.org",),
    permitted_mail=("example.org", ".example.org", "Anna@example.net"),
    excluded_mail=(".secret.example.org",),
    permitted_addresses=(ipaddress.ip_network("192.0.2.0/24"),),
    excluded_addresses=(ipaddress.ip_network("192.0.2.128/25"), ipaddress.ip_network("::/0")),
)


def check(constraints: NameConstraints, *names: tuple[str, str], email: str = "") -> None:
    check_constraints(
        constraints,
        authority="assured_2026_2",
        attributes=(
            SubjectAttribute(type="CN", value="anything.example.com"),
            *([SubjectAttribute(type="EMAIL", value=email)] if email else []),
        ),
        alt_names=[SubjectAltName(type=name_type, value=value) for name_type, value in names],
    )


@pytest.mark.parametrize(
    ("name_type", "value"),
    [
        ("DNS", "example.org"),
        ("DNS", "www.example.org"),
        ("DNS", "*.example.org.below.example.net"),
        ("DNS", "*.www.example.org"),
        ("DNS", "notsecret.example.org"),
        ("email", "a@example.org"),
        ("email", "a@EXAMPLE.org"),
        ("email", "a@mail.example.org"),
        ("email", "Anna@example.net"),
        ("email", "a@secret.example.org"),
        ("IP", "192.0.2.1"),
        ("URI", "urn:example:a"),
    ],
)
def test_what_is_permitted(name_type: str, value: str) -> None:
    check(CONSTRAINTS, (name_type, value))


@pytest.mark.parametrize(
    ("name_type", "value"),
    [
        ("DNS", "example.com"),
        ("DNS", "notexample.org"),
        ("DNS", "below.example.net"),
        ("DNS", "secret.example.org"),
        ("DNS", "www.secret.example.org"),
        ("DNS", "*.secret.example.org"),
        # It stands for secret.example.org, too.
        ("DNS", "*.example.org"),
        ("email", "a@example.com"),
        ("email", "anna@example.net"),
        ("email", "a@notexample.org"),
        ("email", "a@mail.secret.example.org"),
        ("IP", "192.0.3.1"),
        ("IP", "192.0.2.200"),
        ("IP", "2001:db8::1"),
    ],
)
def test_what_is_not(name_type: str, value: str) -> None:
    with pytest.raises(Refused) as refusal:
        check(CONSTRAINTS, ("DNS", "example.org"), (name_type, value))
    assert (refusal.value.code, refusal.value.field) == ("name-not-permitted", name_type)
    assert value in refusal.value.message
    assert "assured_2026_2" in refusal.value.message


def test_mail_in_the_subject_counts_as_well() -> None:
    check(CONSTRAINTS, email="a@example.org")
    with pytest.raises(Refused) as refusal:
        check(CONSTRAINTS, email="a@example.com")
    assert refusal.value.field == "email"


def test_a_type_that_nothing_is_said_of_is_free() -> None:
    check(UNCONSTRAINED, ("DNS", "a.org"), ("email", "a@a.org"), ("IP", "::1"), email="b@b.org")
    check(NameConstraints(permitted_domains=("a.org",)), ("email", "b@b.org"))
    with pytest.raises(Refused):
        check(NameConstraints(excluded_domains=("",)), ("DNS", "a.org"))


def constrained(*, permitted: list[x509.GeneralName] | None, excluded: list[x509.GeneralName] | None) -> bytes:
    """The default CA's certificate with name constraints."""
    source = default_ca().certificate
    builder = (
        x509.CertificateBuilder(extensions=list(source.extensions))
        .subject_name(source.subject)
        .issuer_name(source.issuer)
        .public_key(source.public_key())
        .serial_number(1)
        .not_valid_before(source.not_valid_before_utc)
        .not_valid_after(source.not_valid_after_utc)
        .add_extension(x509.NameConstraints(permitted, excluded), critical=True)
    )
    return builder.sign(p256_key(), hashes.SHA256()).public_bytes(Encoding.DER)


def test_they_are_read_from_the_certificate() -> None:
    network = ipaddress.ip_network("0.0.0.0/0")
    octets = constrained(
        permitted=[
            x509.DNSName("example.org"),
            x509.RFC822Name(".example.org"),
            x509.DirectoryName(x509.Name([])),
        ],
        excluded=[x509.IPAddress(network), x509.RFC822Name("a@example.org"), x509.DNSName("b.example.org")],
    )

    assert load_authority(octets, name="unassured_2026_2", signer_id=1).constraints == NameConstraints(
        permitted_domains=("example.org",),
        excluded_domains=("b.example.org",),
        permitted_mail=(".example.org",),
        excluded_mail=("a@example.org",),
        excluded_addresses=(network,),
    )


def test_most_have_none() -> None:
    assert default_authority().constraints is UNCONSTRAINED
    only = load_authority(
        constrained(permitted=None, excluded=[x509.DNSName("a.org")]), name="unassured_2026_2", signer_id=1
    )
    assert only.constraints == NameConstraints(excluded_domains=("a.org",))
