from __future__ import annotations

import datetime as dt
import itertools
import subprocess
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from tests.support.ceremonies import Ceremony, hold_ceremony

from cassiopeia.ceremony.hierarchy import (
    KEY_ALGORITHMS,
    Hierarchy,
    KeyAlgorithm,
    NameConstraints,
    load_hierarchy,
    with_key_algorithm,
    with_periods,
)
from cassiopeia.ceremony.key_ceremony import CertificationAuthority, encrypt_key, make_key, make_serial_number
from cassiopeia.core.authority import load_authority, parse_authority_name

BEGIN = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
SERVER, CLIENT, MAIL = (
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.EMAIL_PROTECTION,
)


def by_name(ceremony: Ceremony, name: str) -> CertificationAuthority:
    return next(each for each in ceremony.authorities if each.name == name)


def one_family(hierarchy: Hierarchy, **changes: object) -> Hierarchy:
    """The same with the first family only: quicker where one chain is enough."""
    return msgspec.structs.replace(hierarchy, family=hierarchy.family[:1], **changes)


def test_the_whole_tree_is_made(ceremony: Ceremony) -> None:
    assert [(each.name, each.issuer) for each in ceremony.authorities] == [
        ("root", "root"),
        ("unassured", "root"),
        ("assured", "root"),
        ("codesign", "root"),
        ("orga", "root"),
        ("orgaSign", "root"),
        ("unassured_2026_2", "unassured"),
        ("assured_2026_2", "assured"),
        ("codesign_2026_2", "codesign"),
        ("orga_2026_2", "orga"),
        ("orgaSign_2026_2", "orgaSign"),
    ]


def test_the_root_limits_nothing_and_names_nothing_above_it(ceremony: Ceremony) -> None:
    certificate = ceremony.root.certificate

    assert extension_names(certificate) == ["basicConstraints", "keyUsage", "subjectKeyIdentifier"]
    assert path_length(certificate) == 2
    assert certificate.issuer == certificate.subject


def test_a_structure_ca_is_limited_to_its_kind(ceremony: Ceremony) -> None:
    certificate = by_name(ceremony, "codesign").certificate

    assert extension_names(certificate) == [
        "basicConstraints",
        "keyUsage",
        "subjectKeyIdentifier",
        "authorityKeyIdentifier",
        "extendedKeyUsage",
        "cRLDistributionPoints",
        "authorityInfoAccess",
    ]
    assert path_length(certificate) == 1
    assert usages(certificate) == [ExtendedKeyUsageOID.CODE_SIGNING]


def test_a_time_sub_ca_signs_no_ca_and_points_to_the_ca_above(ceremony: Ceremony) -> None:
    certificate = by_name(ceremony, "assured_2026_2").certificate
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value

    assert path_length(certificate) == 0
    assert usages(certificate) == [SERVER, CLIENT, MAIL]
    assert [name.value for point in points for name in point.full_name or ()] == ["http://pki.example.org/assured.crl"]
    assert [(each.access_method, each.access_location.value) for each in access] == [
        (AuthorityInformationAccessOID.CA_ISSUERS, "http://pki.example.org/assured.crt")
    ]


def test_every_ca_signs_certificates_and_crls_and_nothing_else(ceremony: Ceremony) -> None:
    expected = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    for authority in ceremony.authorities:
        extension = authority.certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert (extension.critical, extension.value) == (True, expected)
        assert authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints).critical
        assert authority.certificate.public_key() == authority.key.public_key()


def test_subjects_say_who_and_which(ceremony: Ceremony) -> None:
    assert by_name(ceremony, "orga").certificate.subject.rfc4514_string() == "CN=Cassiopeia Organisations,O=Cassiopeia"
    assert by_name(ceremony, "orga_2026_2").certificate.subject.rfc4514_string() == "CN=orga_2026_2,O=Cassiopeia"


def test_a_country_comes_first(hierarchy: Hierarchy, now: dt.datetime) -> None:
    made = hold_ceremony(one_family(hierarchy, country="NL"), now=now)

    for authority in made.authorities:
        assert [each.oid for each in authority.certificate.subject] == [
            NameOID.COUNTRY_NAME,
            NameOID.ORGANIZATION_NAME,
            NameOID.COMMON_NAME,
        ]


def test_no_ca_outlives_the_one_above(ceremony: Ceremony) -> None:
    for authority in ceremony.authorities:
        above = by_name(ceremony, authority.issuer).certificate
        assert authority.certificate.not_valid_before_utc == BEGIN
        assert authority.certificate.not_valid_after_utc <= above.not_valid_after_utc


def test_validities_are_those_of_the_hierarchy_less_one_second(ceremony: Ceremony) -> None:
    ends = {each.name: each.certificate.not_valid_after_utc for each in ceremony.authorities}

    assert ends["root"] == dt.datetime(2046, 11, 23, 11, 59, 59, tzinfo=dt.UTC)
    assert ends["assured"] == dt.datetime(2036, 11, 23, 11, 59, 59, tzinfo=dt.UTC)
    # Two years more than it issues: the half-year ends with 2026.
    assert ends["assured_2026_2"] == dt.datetime(2028, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def test_a_time_sub_ca_issues_from_now_until_its_period_ends(ceremony: Ceremony) -> None:
    for each in ceremony.time:
        assert (each.issues_from, each.issues_until) == (BEGIN, dt.datetime(2027, 1, 1, tzinfo=dt.UTC))


def test_further_periods_join_without_a_gap(hierarchy: Hierarchy, now: dt.datetime) -> None:
    made = hold_ceremony(one_family(with_periods(hierarchy, 3)), now=now)

    assert [each.authority.name for each in made.time] == ["unassured_2026_2", "unassured_2027_1", "unassured_2027_2"]
    for each, following in itertools.pairwise(made.time):
        assert each.issues_until == following.issues_from
    # A dormant sub-CA is a valid one: what loads it must not mind that it does not issue yet.
    for each in made.time:
        load_authority(
            each.authority.certificate.public_bytes(Encoding.DER),
            name=each.authority.name,
            signer_id=1,
            issues_from=each.issues_from,
            issues_until=each.issues_until,
        )
        assert parse_authority_name(each.authority.name)[0] == "unassured"


def test_at_the_last_moment_of_the_shortest_allowed_hierarchy_nothing_outlives_its_issuer(hierarchy: Hierarchy) -> None:
    tight = one_family(
        hierarchy,
        structure=msgspec.structs.replace(hierarchy.structure, years=3),
        root=msgspec.structs.replace(hierarchy.root, years=3),
        time=msgspec.structs.replace(hierarchy.time, periods=2),
    )

    for moment in (dt.datetime(2028, 2, 29, 23, 59, 59, tzinfo=dt.UTC), dt.datetime(2026, 7, 1, tzinfo=dt.UTC)):
        made = hold_ceremony(tight, now=moment)
        ends = [
            each.certificate.not_valid_after_utc for each in (made.time[-1].authority, made.structure[0], made.root)
        ]
        assert ends == sorted(ends)


def test_policies_go_into_the_cas_of_the_family(hierarchy: Hierarchy, now: dt.datetime) -> None:
    family = msgspec.structs.replace(hierarchy.family[0], policy_identifiers=("1.3.6.1.4.1.18506.4.1",))
    made = hold_ceremony(msgspec.structs.replace(hierarchy, family=(family,)), now=now)

    for authority in made.authorities[1:]:
        policies = authority.certificate.extensions.get_extension_for_class(x509.CertificatePolicies).value
        assert [each.policy_identifier.dotted_string for each in policies] == ["1.3.6.1.4.1.18506.4.1"]
    assert "certificatePolicies" not in extension_names(made.root.certificate)


def test_a_policy_says_where_its_statement_is(hierarchy: Hierarchy, now: dt.datetime) -> None:
    family = msgspec.structs.replace(
        hierarchy.family[0], policy_identifiers=("1.2.3", "1.2.4"), cps_url="https://example.org/cps"
    )
    made = hold_ceremony(msgspec.structs.replace(hierarchy, family=(family,)), now=now)

    for authority in made.authorities[1:]:
        extension = authority.certificate.extensions.get_extension_for_class(x509.CertificatePolicies)
        assert not extension.critical
        assert [(each.policy_identifier.dotted_string, each.policy_qualifiers) for each in extension.value] == [
            ("1.2.3", ["https://example.org/cps"]),
            ("1.2.4", ["https://example.org/cps"]),
        ]


def test_names_are_constrained_below_the_root(hierarchy: Hierarchy, now: dt.datetime) -> None:
    constraints = NameConstraints(
        permitted_domains=("example.org",),
        excluded_domains=("secret.example.org",),
        permitted_mail_domains=("example.org",),
        excluded_mail_domains=("secret.example.org",),
    )
    family = msgspec.structs.replace(hierarchy.family[0], name_constraints=constraints)
    made = hold_ceremony(msgspec.structs.replace(hierarchy, family=(family,)), now=now)

    assert "nameConstraints" not in extension_names(made.root.certificate)
    for authority in made.authorities[1:]:
        extension = authority.certificate.extensions.get_extension_for_class(x509.NameConstraints)
        assert extension.critical
        assert [str(each.value) for each in extension.value.permitted_subtrees or ()] == [
            "example.org",
            "example.org",
            ".example.org",
        ]
        assert [str(each.value) for each in extension.value.excluded_subtrees or ()] == [
            "secret.example.org",
            "secret.example.org",
            ".secret.example.org",
            "0.0.0.0/0",
            "::/0",
        ]


def test_what_is_only_excluded_leaves_the_rest_as_it_is(hierarchy: Hierarchy, now: dt.datetime) -> None:
    family = msgspec.structs.replace(
        hierarchy.family[0], name_constraints=NameConstraints(excluded_domains=("example.org",))
    )
    made = hold_ceremony(msgspec.structs.replace(hierarchy, family=(family,)), now=now)

    value = made.structure[0].certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    assert value.permitted_subtrees is None
    assert value.excluded_subtrees == [x509.DNSName("example.org")]


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("DNS:example.org", "OK"),
        ("DNS:www.example.org", "OK"),
        ("DNS:example.com", "permitted subtree violation"),
        ("DNS:www.secret.example.org", "excluded subtree violation"),
        ("IP:192.0.2.1", "excluded subtree violation"),
        ("email:a@example.org", "OK"),
        ("email:a@mail.example.org", "OK"),
        ("email:a@notexample.org", "permitted subtree violation"),
    ],
)
def test_openssl_holds_a_certificate_to_the_constraints(
    constrained: Path, name: str, verdict: str, tmp_path: Path
) -> None:
    made = tmp_path / "leaf.pem"
    arguments = ["-subj", "/O=x", "-addext", f"subjectAltName={name}", "-CA", str(constrained / "sub.pem")]
    arguments += ["-CAkey", str(constrained / "sub.key"), "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", *arguments, "-keyout", str(tmp_path / "leaf.key"), "-out", str(made)],
        check=True,
        capture_output=True,
    )
    chain = ["-CAfile", str(constrained / "root.pem"), "-untrusted", str(constrained / "above.pem")]
    done = subprocess.run(["openssl", "verify", *chain, str(made)], capture_output=True, text=True, check=False)

    assert verdict in done.stdout + done.stderr


@pytest.fixture(scope="module")
def constrained(hierarchy: Hierarchy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hierarchy of one family with name constraints, made now, on a disk."""
    directory = tmp_path_factory.mktemp("constrained")
    constraints = NameConstraints(
        permitted_domains=("example.org",),
        excluded_domains=("secret.example.org",),
        permitted_mail_domains=("example.org",),
    )
    family = msgspec.structs.replace(hierarchy.family[0], name_constraints=constraints)
    made = hold_ceremony(msgspec.structs.replace(hierarchy, family=(family,)), now=dt.datetime.now(dt.UTC))
    root, structure, time = (each.certificate.public_bytes(Encoding.PEM) for each in made.authorities)
    (directory / "root.pem").write_bytes(root)
    (directory / "sub.pem").write_bytes(time)
    (directory / "above.pem").write_bytes(structure + time)
    key = made.time[0].authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "sub.key").write_bytes(key)
    return directory


def test_serial_numbers_are_sixteen_octets_that_no_signer_makes(ceremony: Ceremony) -> None:
    serials = [each.certificate.serial_number for each in ceremony.authorities]

    assert all(serial.to_bytes(16, "big")[0] == 0x7F for serial in serials)
    assert len(set(serials)) == len(serials)
    assert make_serial_number(lambda count: bytes(range(count))) == int("7f" + bytes(range(15)).hex(), 16)


def test_first_crls_are_version_2_and_verify(ceremony: Ceremony) -> None:
    assert list(ceremony.crls) == ["root", "unassured", "assured", "codesign", "orga", "orgaSign"]
    for name, crl in ceremony.crls.items():
        authority = by_name(ceremony, name)
        issuer = authority.certificate
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        assert crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type] # a CA key can always verify
        assert crl.issuer == issuer.subject
        assert [type(each.value) for each in crl.extensions] == [x509.AuthorityKeyIdentifier, x509.CRLNumber]
        assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 1
        named = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        assert named.key_identifier == identifier.digest
        assert (crl.last_update_utc, crl.next_update_utc) == (
            BEGIN,
            dt.datetime(2027, 11, 23, 11, 59, 59, tzinfo=dt.UTC),
        )
        assert list(crl) == []


@pytest.mark.parametrize("algorithm", [each for each in KEY_ALGORITHMS if each != "RSA-4096"])
def test_every_key_algorithm_makes_a_chain_that_verifies(algorithm: KeyAlgorithm, now: dt.datetime) -> None:
    made = hold_ceremony(
        one_family(with_periods(with_key_algorithm(load_hierarchy(), algorithm), 1, spares=0)), now=now
    )

    for authority in made.authorities:
        authority.certificate.verify_directly_issued_by(by_name(made, authority.issuer).certificate)
    for authority in made.offline:
        assert made.crls[authority.name].is_signature_valid(authority.certificate.public_key())  # type: ignore[arg-type] # as above


def test_mixed_chains_verify(hierarchy: Hierarchy, now: dt.datetime) -> None:
    mixed = one_family(
        hierarchy,
        root=msgspec.structs.replace(hierarchy.root, key_algorithm="ML-DSA-65"),
        structure=msgspec.structs.replace(hierarchy.structure, key_algorithm="P-384"),
        time=msgspec.structs.replace(hierarchy.time, key_algorithm="Ed25519"),
    )
    root, structure, time = hold_ceremony(mixed, now=now).authorities

    structure.certificate.verify_directly_issued_by(root.certificate)
    time.certificate.verify_directly_issued_by(structure.certificate)
    assert isinstance(time.certificate.signature_hash_algorithm, hashes.SHA384)
    assert structure.certificate.signature_hash_algorithm is None


def test_the_default_root_key_has_4096_bits() -> None:
    assert make_key(load_hierarchy().root.key_algorithm).public_key().key_size == 4096  # type: ignore[union-attr] # it is RSA


def test_openssl_verifies_the_whole_chain_strictly_with_crls(ceremony: Ceremony, tmp_path: Path) -> None:
    for authority in ceremony.authorities:
        (tmp_path / f"{authority.name}.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "crls.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in ceremony.crls.values()))
    for each in ceremony.time:
        command = ["openssl", "verify", "-x509_strict", "-crl_check_all", "-CRLfile", "crls.pem", "-CAfile", "root.pem"]
        command += ["-attime", str(int(BEGIN.timestamp())), "-untrusted", f"{each.authority.issuer}.pem"]
        # A CRL of the sub-CA itself is not asked for: the certificate under test is the last one.
        done = subprocess.run(
            [*command, f"{each.authority.name}.pem"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.stdout == f"{each.authority.name}.pem: OK\n", done.stderr


def test_keys_are_encrypted_with_the_passphrase() -> None:
    key = make_key("P-256")
    pem = encrypt_key(key, b"correct horse")

    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    again = load_pem_private_key(pem, b"correct horse")
    assert isinstance(again, ec.EllipticCurvePrivateKey)
    assert again.public_key() == key.public_key()
    with pytest.raises(ValueError, match="password"):
        load_pem_private_key(pem, b"wrong horse")


def test_a_private_key_is_not_printed(ceremony: Ceremony) -> None:
    assert "key=" not in repr(ceremony.root)


def extension_names(certificate: x509.Certificate) -> list[str]:
    return [each.oid._name for each in certificate.extensions]


def path_length(certificate: x509.Certificate) -> int | None:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length


def usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
