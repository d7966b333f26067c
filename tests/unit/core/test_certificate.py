"""Certificates: what is assembled, as the library reads it; and what the client does not let pass."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID
from tests.support.authorities import (
    NOW,
    PROFILES,
    alt_names,
    approve,
    attributes,
    certification_request,
    default_authority,
    default_ca,
    load_profile,
    make_authority,
    make_ca,
    p256_key,
    server_request,
    sign,
    subject_public_key_info,
)

from cassiopeia.core import certificate, der
from cassiopeia.core.certificate import (
    assemble_tbs,
    check_certificate,
    check_existing,
    check_tbs,
    complete_certificate,
    compose_certificate,
    read_tbs,
    split_certificate,
)
from cassiopeia.core.policy import ApprovedRequest
from cassiopeia.core.request import CertificateRequest, SubjectAttribute
from cassiopeia.errors import PeerError, SignatureInvalid


def issue(approved: ApprovedRequest) -> bytes:
    tbs = assemble_tbs(approved)
    return compose_certificate(tbs, sign(p256_key(), approved.algorithm, tbs))


def issued(approved: ApprovedRequest) -> x509.Certificate:
    read = x509.load_der_x509_certificate(issue(approved))
    read.verify_directly_issued_by(default_ca().certificate)
    return read


def request_for(profile_name: str) -> CertificateRequest:
    """Every name that the profile takes or needs."""
    profile = load_profile(profile_name)
    wanted = {"C": "DE", "ST": "Hessen", "L": "Köln", "O": "Example e.V.", "OU": "Operations", "CN": "Ada Lövelace"}
    wanted |= {"EMAIL": "ada@example.org"}
    addresses = {
        "DNS": "www.example.org",
        "email": "ada@example.org",
        "IP": "2001:db8::1",
        "URI": "https://example.org/a",
    }
    if "serverAuth" in (PROFILES / f"{profile_name}.toml").read_text(encoding="utf-8"):
        wanted["CN"] = "www.example.org"
    return server_request(
        profile=profile_name if profile.family else "",
        ocsp_target_ca="" if profile.family else "unassured_2026_2",
        attributes=attributes(
            **{each: value for each, value in wanted.items() if profile.subject_presence(each).value != "forbidden"}
        ),
        alt_names=alt_names(
            *(
                f"{each},{value}"
                for each, value in addresses.items()
                if profile.alt_name_presence(each).value != "forbidden"
            )
        ),
    )


@pytest.mark.parametrize("kind", ["RSA", "P-256", "Ed25519"])
@pytest.mark.parametrize("profile_name", sorted(each.stem for each in PROFILES.glob("*.toml")))
def test_every_default_profile_gives_exactly_what_it_says(profile_name: str, kind: str) -> None:
    profile = dataclasses.replace(load_profile(profile_name), evidence=())
    family = profile.family or "unassured"
    authority = dataclasses.replace(default_authority(), family=family)
    request = dataclasses.replace(request_for(profile_name), key_proof=certification_request(kind))
    approved = approve(request, profile=profile, authority=authority)
    read = issued(approved)
    assert read.version is x509.Version.v3
    assert read.serial_number == 0x01000102030405060708090A0B0C0D0E
    assert read.issuer == default_ca().certificate.subject
    assert read.not_valid_before_utc == NOW
    lifetime = dt.timedelta(days=profile.maximum_validity_days, seconds=-1)
    assert read.not_valid_after_utc == NOW + lifetime
    assert {each.value for each in read.subject} == {each.value for each in request.attributes}
    extensions = {each.oid: each for each in read.extensions}
    expected = {
        x509.OID_SUBJECT_KEY_IDENTIFIER: x509.SubjectKeyIdentifier.from_public_key(approved.key.public_key),  # type: ignore[arg-type] # wide
        x509.OID_BASIC_CONSTRAINTS: x509.BasicConstraints(ca=False, path_length=None),
        x509.OID_AUTHORITY_KEY_IDENTIFIER: x509.AuthorityKeyIdentifier(authority.key_identifier, None, None),
        x509.OID_EXTENDED_KEY_USAGE: x509.ExtendedKeyUsage(map(x509.ObjectIdentifier, profile.extended_key_usage)),
    }
    for oid, value in expected.items():
        assert extensions[oid].value == value
    usage = extensions[x509.OID_KEY_USAGE].value
    assert isinstance(usage, x509.KeyUsage)
    names = {
        "digitalSignature": usage.digital_signature,
        "nonRepudiation": usage.content_commitment,
        "keyEncipherment": usage.key_encipherment,
        "dataEncipherment": usage.data_encipherment,
        "keyAgreement": usage.key_agreement,
    }
    assert {name for name, is_set in names.items() if is_set} == set(approved.key_usage)
    assert not usage.key_cert_sign
    assert not usage.crl_sign
    assert {oid for oid, each in extensions.items() if each.critical} == {
        x509.OID_BASIC_CONSTRAINTS,
        x509.OID_KEY_USAGE,
    }
    present = set(expected) | {x509.OID_KEY_USAGE, x509.OID_AUTHORITY_INFORMATION_ACCESS}
    present |= {x509.OID_OCSP_NO_CHECK} if profile.ocsp_no_check else {x509.OID_CRL_DISTRIBUTION_POINTS}
    present |= {x509.OID_SUBJECT_ALTERNATIVE_NAME} if request.alt_names else set()
    present |= {x509.OID_CERTIFICATE_POLICIES} if profile.policy_identifiers else set()
    assert set(extensions) == present
    checked = check_certificate(
        issue(approved),
        authority=authority,
        request=request,
        subject_public_key_info=subject_public_key_info(request),
    )
    assert (checked.serial_number, checked.not_before, checked.not_after) == (
        read.serial_number,
        read.not_valid_before_utc,
        read.not_valid_after_utc,
    )
    assert checked.tbs_certificate == read.tbs_certificate_bytes


def test_says_where_to_ask() -> None:
    read = issued(approve(server_request()))
    access = read.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [(each.access_method, each.access_location.value) for each in access] == [
        (AuthorityInformationAccessOID.OCSP, "http://ocsp.example.org"),
        (AuthorityInformationAccessOID.CA_ISSUERS, "http://crt.example.org/unassured_2026_2.crt"),
    ]
    (point,) = read.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert [each.value for each in point.full_name or ()] == ["http://crl.example.org/unassured_2026_2.crl"]


def test_without_urls_the_extensions_are_absent() -> None:
    authority = make_authority(default_ca(), urls=False)
    oids = {each.oid for each in issued(approve(server_request(), authority=authority)).extensions}
    assert oids.isdisjoint({x509.OID_AUTHORITY_INFORMATION_ACCESS, x509.OID_CRL_DISTRIBUTION_POINTS})


@pytest.mark.parametrize(
    ("cps_uri", "qualifiers"), [("", None), ("https://example.org/cps", ["https://example.org/cps"])]
)
def test_policies(cps_uri: str, qualifiers: list[str] | None) -> None:
    identifiers = ("2.23.140.1.2.1", "1.3.6.1.4.1.18506.4.4")
    profile = dataclasses.replace(load_profile("9004-unproved-server"), policy_identifiers=identifiers, cps_uri=cps_uri)
    read = issued(approve(server_request(), profile=profile))
    policies = read.extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert [each.policy_identifier.dotted_string for each in policies] == list(identifiers)
    assert [each.policy_qualifiers for each in policies] == [qualifiers, qualifiers]


def test_alternative_names_of_every_type_in_the_order_asked_for() -> None:
    names = ("DNS,www.example.org", "IP,192.0.2.7", "IP,2001:db8::1", "URI,https://example.org/a", "DNS,a.example.org")
    read = issued(approve(server_request(alt_names=alt_names(*names))))
    san = read.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert not san.critical
    assert [str(each.value) for each in san.value] == [name.partition(",")[2] for name in names]


def test_alternative_names_are_critical_when_the_subject_is_empty() -> None:
    read = issued(approve(server_request(attributes=())))
    assert read.subject == x509.Name([])
    assert read.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_without_alternative_names_the_extension_is_absent() -> None:
    profile = dataclasses.replace(
        load_profile("9004-unproved-server"), extended_key_usage=("1.3.6.1.5.5.7.3.2",), name="client"
    )
    request = server_request(alt_names=())
    read = issued(approve(request, profile=profile))
    with pytest.raises(x509.ExtensionNotFound):
        read.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    check_tbs(
        read.tbs_certificate_bytes,
        request=request,
        subject_public_key_info=subject_public_key_info(request),
        authority=default_authority(),
    )


def test_dates_after_2049_are_generalized_time() -> None:
    ca = make_ca("unassured_2026_2", key=p256_key(), not_after=dt.datetime(2060, 1, 1, tzinfo=dt.UTC))
    approved = approve(server_request(), authority=make_authority(ca))
    end = dt.datetime(2049, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    for not_after, tag in ((end, b"\x17\x0d"), (end + dt.timedelta(seconds=1), b"\x18\x0f")):
        object.__setattr__(approved, "validity", dataclasses.replace(approved.validity, not_after=not_after))
        tbs = assemble_tbs(approved)
        assert tag + f"{not_after:%Y%m%d%H%M%SZ}".encode()[2 if tag == b"\x17\x0d" else 0 :] in tbs
        assert read_tbs(tbs).not_after == not_after


def test_reads_what_was_assembled() -> None:
    approved = approve(server_request())
    read = read_tbs(assemble_tbs(approved))
    assert (read.serial_number, read.algorithm, read.issuer, read.subject) == (
        approved.serial_number,
        approved.algorithm,
        default_authority().subject,
        approved.subject,
    )
    assert (read.not_before, read.not_after) == (approved.validity.not_before, approved.validity.not_after)
    assert read.subject_public_key_info == approved.key.subject_public_key_info
    assert (x509.OID_BASIC_CONSTRAINTS, True, b"\x30\x00") in read.extensions


def test_splits_what_it_composed() -> None:
    tbs = assemble_tbs(approve(server_request()))
    assert split_certificate(compose_certificate(tbs, b"signature")) == (
        tbs,
        bytes.fromhex("300a06082a8648ce3d040302"),
        b"signature",
    )


@pytest.mark.parametrize("tbs", [b"", b"\x30\x00", bytes.fromhex("3005020101020101"), b"\x31\x00"])
def test_refuses_to_compose_what_is_no_certificate(tbs: bytes) -> None:
    with pytest.raises(PeerError):
        compose_certificate(tbs, b"signature")


# What the client does not let pass. Each fault is one change of a certificate that is right.

Parts = list[bytes]


def faulty(change: Callable[[Parts], None]) -> bytes:
    parts = [octets for _, octets in der.elements(der.content(right_tbs(), der.SEQUENCE), at_most=8)]
    change(parts)
    return der.encode(der.SEQUENCE, *parts)


def right_tbs() -> bytes:
    return assemble_tbs(approve(server_request()))


def put(place: int, octets: bytes) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts[place] = octets

    return change


def add_extension(octets: str) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        listed = der.content(der.content(parts[7], 0xA3), der.SEQUENCE)
        parts[7] = der.encode(0xA3, der.encode(der.SEQUENCE, listed, bytes.fromhex(octets)))

    return change


def swap_extension(old: str, new: str) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        listed = der.content(der.content(parts[7], 0xA3), der.SEQUENCE)
        assert bytes.fromhex(old) in listed
        listed = listed.replace(bytes.fromhex(old), bytes.fromhex(new))
        parts[7] = der.encode(0xA3, der.encode(der.SEQUENCE, listed))

    return change


def subject_of(*values: SubjectAttribute) -> bytes:
    return approve(
        server_request(attributes=values),
        profile=dataclasses.replace(
            load_profile("9004-unproved-server"),
            subject=tuple((each, load_profile("9004-unproved-server").subject_presence("CN")) for each in ("O", "CN")),
        ),
    ).subject


def validity(not_before: str, not_after: str) -> bytes:
    return der.encode(der.SEQUENCE, b"\x17\x0d" + not_before.encode(), b"\x17\x0d" + not_after.encode())


NOT_A_CA = "300c0603551d130101ff04023000"


def san_extension(*names: str) -> str:
    value = x509.SubjectAlternativeName([x509.DNSName(each) for each in names]).public_bytes()
    return der.encode(der.SEQUENCE, bytes.fromhex("0603551d11"), der.encode(der.OCTET_STRING, value)).hex()


RIGHT_SAN = san_extension("www.example.org", "example.org")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda parts: parts.pop(0), "not a TBSCertificate", id="version-1"),
        pytest.param(put(0, bytes.fromhex("a003020101")), "version 2", id="version-2"),
        pytest.param(put(1, bytes.fromhex("020100")), "serial", id="serial-zero"),
        pytest.param(put(1, bytes.fromhex("0201ff")), "serial", id="serial-negative"),
        pytest.param(put(1, b"\x02\x16" + b"\x01" * 22), "serial", id="serial-too-long"),
        pytest.param(put(2, bytes.fromhex("300d06092a864886f70d0101050500")), "not one", id="sha1"),
        pytest.param(put(3, b"\x30\x00"), "issuer", id="other-issuer"),
        pytest.param(put(4, validity("261123123015Z", "261123123015Z")), "before it begins", id="instant"),
        pytest.param(put(4, validity("270101000000Z", "261123123015Z")), "before it begins", id="backwards"),
        pytest.param(put(4, b"\x30\x00"), "not a TBSCertificate", id="no-dates"),
        pytest.param(put(5, b"\x30\x00"), "subject", id="subject-empty"),
        pytest.param(put(5, subject_of(*attributes(CN="www.example.org", O="Ours"))), "subject", id="subject-more"),
        pytest.param(put(5, bytes.fromhex("3003020101")), "name cannot be read", id="subject-none"),
        pytest.param(
            put(6, subject_public_key_info(server_request(key_proof=certification_request("RSA")))),
            "key",
            id="other-key",
        ),
        pytest.param(put(7, b""), "not a TBSCertificate", id="no-extensions"),
        pytest.param(add_extension(RIGHT_SAN), "twice", id="extension-twice"),
        pytest.param(add_extension("300c0603551d1e040530030101ff"), "2.5.29.30", id="extension-nobody-asked-for"),
        pytest.param(swap_extension(NOT_A_CA, "300f0603551d130101ff040530030101ff"), "that of a CA", id="ca"),
        pytest.param(swap_extension(RIGHT_SAN, ""), "alternative", id="alt-names-missing"),
        pytest.param(swap_extension(RIGHT_SAN, san_extension("www.example.org")), "alternative", id="one-name-less"),
        pytest.param(
            swap_extension(RIGHT_SAN, san_extension("www.example.org", "example.org", "example.com")),
            "alternative",
            id="one-name-more",
        ),
        pytest.param(
            swap_extension(RIGHT_SAN, san_extension("www.example.org", "example.com")), "alternative", id="other-name"
        ),
        pytest.param(lambda parts: parts.append(b"\x05\x00"), "not a TBSCertificate", id="trailing"),
    ],
)
def test_the_client_refuses(change: Callable[[Parts], None], reason: str) -> None:
    request = server_request()
    tbs = faulty(change)
    arguments = {"request": request, "subject_public_key_info": subject_public_key_info(request)}
    with pytest.raises(PeerError, match=reason):
        check_tbs(tbs, authority=default_authority(), **arguments)  # type: ignore[arg-type] # a bag of arguments
    signed = der.encode_signed(tbs, default_algorithm(), sign(p256_key(), approve(request).algorithm, tbs))
    with pytest.raises(PeerError, match=reason):
        check_certificate(signed, authority=default_authority(), **arguments)  # type: ignore[arg-type] # a bag of arguments


def default_algorithm() -> bytes:
    return approve(server_request()).algorithm.der


def check(request: CertificateRequest, tbs: bytes) -> None:
    check_tbs(
        tbs,
        request=request,
        subject_public_key_info=subject_public_key_info(request),
        authority=default_authority(),
    )


@pytest.mark.parametrize(
    ("wishes", "dates", "right"),
    [
        pytest.param({}, ("261123123015Z", "490101000000Z"), True, id="no-wish"),
        pytest.param({"wish_to": "90d"}, ("261123123015Z", "270221123014Z"), True, id="exactly"),
        pytest.param({"wish_to": "90d"}, ("261123123015Z", "270221123015Z"), True, id="as-the-original-counts"),
        pytest.param({"wish_to": "90d"}, ("261123123015Z", "270221123016Z"), False, id="a-second-too-long"),
        pytest.param({"wish_to": "2y"}, ("261123123015Z", "270221123016Z"), True, id="shorter"),
        pytest.param({"wish_to": "2027-01-01"}, ("261123123015Z", "261231235959Z"), True, id="until-a-day"),
        pytest.param({"wish_to": "2027-01-01"}, ("261123123015Z", "270101000001Z"), False, id="beyond-a-day"),
        pytest.param({"wish_from": "2026-12-01"}, ("261201000000Z", "270101000000Z"), True, id="from-a-day"),
        pytest.param({"wish_from": "2026-12-01"}, ("261130235959Z", "270101000000Z"), False, id="before-a-day"),
        pytest.param({"wish_to": "anything"}, ("261123123015Z", "490101000000Z"), True, id="not-understood"),
    ],
)
def test_dates_within_the_wish(wishes: dict[str, str], dates: tuple[str, str], right: bool) -> None:  # noqa: FBT001 - a column
    tbs = faulty(put(4, validity(*dates)))
    if right:
        check(server_request(**wishes), tbs)
    else:
        with pytest.raises(PeerError, match="beyond those"):
            check(server_request(**wishes), tbs)


def test_names_in_another_order_and_type_are_the_same_names() -> None:
    """As the original writes them: its own order, PrintableString or UTF8String."""
    utf_8, printable = b"\x0c", b"\x13"
    cn = bytes.fromhex("0603550403")
    name = b"www.example.org"
    for string_type in (utf_8, printable):
        attribute = der.encode(der.SEQUENCE, cn, string_type + bytes((len(name),)) + name)
        subject = der.encode(der.SEQUENCE, der.encode(0x31, attribute))
        check(server_request(), faulty(put(5, subject)))
    check(server_request(), faulty(swap_extension(RIGHT_SAN, san_extension("example.org", "www.example.org"))))


def test_a_name_that_nobody_asked_for_is_seen_when_none_were() -> None:
    with pytest.raises(PeerError, match="alternative"):
        check(server_request(alt_names=()), right_tbs())


def test_empty_values_of_version_1_are_not_expected() -> None:
    check(server_request(attributes=attributes(CN="www.example.org", O="")), right_tbs())


def test_a_request_that_no_certificate_can_carry_is_a_fault_of_the_answer() -> None:
    with pytest.raises(PeerError, match="no certificate carries"):
        check(server_request(attributes=attributes(CN="a\0b")), right_tbs())


def test_an_ocsp_responder_comes_from_the_sub_ca_that_was_named() -> None:
    check(server_request(ocsp_target_ca="unassured_2026_2", profile=""), right_tbs())
    with pytest.raises(PeerError, match="asked of unassured_2026_3"):
        check(server_request(ocsp_target_ca="unassured_2026_3", profile=""), right_tbs())


def test_the_signature_is_that_of_the_sub_ca() -> None:
    request = server_request()
    approved = approve(request)
    octets = issue(approved)
    tbs, _, signature = split_certificate(octets)
    arguments = {
        "authority": default_authority(),
        "request": request,
        "subject_public_key_info": subject_public_key_info(request),
    }
    with pytest.raises(SignatureInvalid):
        check_certificate(compose_certificate(tbs, signature[:-1] + bytes((signature[-1] ^ 1,))), **arguments)  # type: ignore[arg-type] # a bag of arguments
    with pytest.raises(PeerError, match="two signature algorithms"):
        check_certificate(der.encode_signed(tbs, bytes.fromhex("300506032b6570"), signature), **arguments)  # type: ignore[arg-type] # a bag of arguments


def test_a_certificate_that_exists_is_known_by_its_signature_alone() -> None:
    approved = approve(server_request())
    der_octets = issue(approved)
    checked = check_existing(der_octets, authority=default_authority())
    assert (checked.serial_number, checked.subject) == (approved.serial_number, "CN=www.example.org")
    other = dataclasses.replace(default_authority(), name="orga_2026_1", subject=b"\x30\x00")
    with pytest.raises(PeerError, match="issuer is not orga_2026_1"):
        check_existing(der_octets, authority=other)
    with pytest.raises(SignatureInvalid):
        check_existing(der_octets[:-1] + bytes((der_octets[-1] ^ 1,)), authority=default_authority())


def test_what_was_compared_is_completed_by_the_signature_alone() -> None:
    request = server_request()
    octets = issue(approve(request))
    tbs, _, signature = split_certificate(octets)
    arguments = {"request": request, "subject_public_key_info": subject_public_key_info(request)}
    compared = check_tbs(tbs, authority=default_authority(), **arguments)  # type: ignore[arg-type] # a bag of arguments
    assert compared.octets == tbs
    completed = complete_certificate(compared, signature)
    assert completed.der == octets
    assert completed == check_certificate(octets, authority=default_authority(), **arguments)  # type: ignore[arg-type] # a bag of arguments
    with pytest.raises(SignatureInvalid):
        complete_certificate(compared, signature[:-1] + bytes((signature[-1] ^ 1,)))
    with pytest.raises(SignatureInvalid):
        complete_certificate(dataclasses.replace(compared, octets=tbs[:-1] + bytes((tbs[-1] ^ 1,))), signature)


def test_the_subject_is_told_in_words() -> None:
    profile = dataclasses.replace(load_profile("0011-mail-orga"), evidence=())
    request = dataclasses.replace(request_for("0011-mail-orga"), profile=profile.name)
    authority = dataclasses.replace(default_authority(), family=profile.family)
    checked = check_certificate(
        issue(approve(request, profile=profile, authority=authority)),
        authority=authority,
        request=request,
        subject_public_key_info=subject_public_key_info(request),
    )
    assert "EMAIL=ada@example.org" in checked.subject
    assert "O=Example e.V." in checked.subject


def test_what_is_the_same_is_encoded_once() -> None:
    certificate._fixed_extensions.cache_clear()
    first = assemble_tbs(approve(server_request()))
    for _ in range(3):
        assert assemble_tbs(approve(server_request())) == first
    assert certificate._fixed_extensions.cache_info().misses == 1


def test_a_certificate_in_pem_is_not_der() -> None:
    with pytest.raises(PeerError):
        split_certificate(default_ca().certificate.public_bytes(Encoding.PEM))
