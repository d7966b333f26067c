"""Extensions in the signer's own lint: exactly those that belong there, and exactly what they have to say."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.support.authorities import alt_names
from tests.support.der_tree import Node, object_identifier, primitive, sequence
from tests.support.lintable import (
    AUTHORITY_INFORMATION_ACCESS,
    AUTHORITY_KEY_IDENTIFIER,
    BASIC_CONSTRAINTS,
    CERTIFICATE_POLICIES,
    CRL_DISTRIBUTION_POINTS,
    EXTENDED_KEY_USAGE,
    EXTENSIONS,
    KEY_USAGE,
    OCSP_NOCHECK,
    SUBJECT_ALT_NAME,
    SUBJECT_KEY_IDENTIFIER,
    Edit,
    altered,
    approve,
    check,
    edited,
    everything,
    extension,
    good,
    in_extension,
    responder,
    wished,
)

from cassiopeia.core.authority import Authority
from cassiopeia.core.certificate import assemble_tbs
from cassiopeia.core.lint_rules import LintFinding
from cassiopeia.core.policy import ApprovedRequest
from cassiopeia.core.profile import EXTENDED_KEY_USAGES, Presence
from cassiopeia.core.request import SubjectAttribute
from cassiopeia.core.sample import KEY_KINDS, sample_authority

NAME_CONSTRAINTS = sequence(object_identifier("551d1e"), primitive(0x04, b"\x30\0"))
CLIENT_AUTH = object_identifier("2b06010505070302")


def put(*path: int, contents: bytes | str) -> Edit:
    def change(tree: Node) -> None:
        tree.at(*path).contents = contents.encode() if isinstance(contents, str) else contents

    return change


def tag(*path: int, tag: int) -> Edit:
    def change(tree: Node) -> None:
        tree.at(*path).tag = tag

    return change


def add(*path: int, node: Node) -> Edit:
    return lambda tree: tree.at(*path).children.append(node)


def remove(*path: int) -> Edit:
    def change(tree: Node) -> None:
        del tree.at(*path[:-1]).children[path[-1]]

    return change


def swap(*path: int) -> Edit:
    def change(tree: Node) -> None:
        children = tree.at(*path).children
        children[:2] = reversed(children[:2])

    return change


def empty(tree: Node) -> None:
    tree.children.clear()


def without(identifier: str) -> Edit:
    return lambda tree: tree.at(EXTENSIONS, 0).children.remove(extension(tree, identifier))


def flip_critical(identifier: str) -> Edit:
    def change(tree: Node) -> None:
        children = extension(tree, identifier).children
        if len(children) == 2:
            children.insert(1, primitive(0x01, b"\xff"))
        else:
            del children[1]

    return change


MUTATIONS: list[tuple[str, Edit]] = [
    ("extension-repeated", lambda tree: add(EXTENSIONS, 0, node=tree.at(EXTENSIONS, 0, 0))(tree)),
    ("extension-surplus", add(EXTENSIONS, 0, node=NAME_CONSTRAINTS)),
    *(
        ("extension-missing", without(each))
        for each in (
            SUBJECT_KEY_IDENTIFIER,
            KEY_USAGE,
            SUBJECT_ALT_NAME,
            BASIC_CONSTRAINTS,
            CRL_DISTRIBUTION_POINTS,
            CERTIFICATE_POLICIES,
            AUTHORITY_KEY_IDENTIFIER,
            EXTENDED_KEY_USAGE,
            AUTHORITY_INFORMATION_ACCESS,
        )
    ),
    *(
        ("extension-critical", flip_critical(each))
        for each in (
            SUBJECT_KEY_IDENTIFIER,
            KEY_USAGE,
            SUBJECT_ALT_NAME,
            BASIC_CONSTRAINTS,
            CRL_DISTRIBUTION_POINTS,
            CERTIFICATE_POLICIES,
            AUTHORITY_KEY_IDENTIFIER,
            EXTENDED_KEY_USAGE,
            AUTHORITY_INFORMATION_ACCESS,
        )
    ),
    ("subject-key-identifier", in_extension(SUBJECT_KEY_IDENTIFIER, put(contents=bytes(20)))),
    ("subject-key-identifier", in_extension(SUBJECT_KEY_IDENTIFIER, put(contents=b""))),
    ("authority-key-identifier", in_extension(AUTHORITY_KEY_IDENTIFIER, put(0, contents=bytes(20)))),
    ("authority-key-identifier", in_extension(AUTHORITY_KEY_IDENTIFIER, empty)),
    ("authority-key-identifier", in_extension(AUTHORITY_KEY_IDENTIFIER, add(node=primitive(0x82, b"\1")))),
    ("basic-constraints", in_extension(BASIC_CONSTRAINTS, add(node=primitive(0x01, b"\xff")))),
    ("basic-constraints", in_extension(BASIC_CONSTRAINTS, add(node=primitive(0x02, b"\0")))),
    ("key-usage", in_extension(KEY_USAGE, put(contents=bytes.fromhex("0780")))),
    ("key-usage", in_extension(KEY_USAGE, put(contents=bytes.fromhex("03e8")))),
    ("key-usage", in_extension(KEY_USAGE, put(contents=bytes.fromhex("02e4")))),
    ("key-usage", in_extension(KEY_USAGE, put(contents=bytes.fromhex("06e040")))),
    ("key-usage", in_extension(KEY_USAGE, put(contents=bytes.fromhex("00")))),
    ("extended-key-usage", in_extension(EXTENDED_KEY_USAGE, add(node=CLIENT_AUTH))),
    ("extended-key-usage", in_extension(EXTENDED_KEY_USAGE, remove(1))),
    ("extended-key-usage", in_extension(EXTENDED_KEY_USAGE, empty)),
    ("authority-information-access", in_extension(AUTHORITY_INFORMATION_ACCESS, swap())),
    ("authority-information-access", in_extension(AUTHORITY_INFORMATION_ACCESS, remove(1))),
    ("authority-information-access", in_extension(AUTHORITY_INFORMATION_ACCESS, put(0, 1, contents="http://a/"))),
    *(
        ("url-syntax", in_extension(AUTHORITY_INFORMATION_ACCESS, put(0, 1, contents=url)))
        for url in (
            "",
            "ocsp.example.org",
            "http:///",
            "http://a b/",
            "http:ocsp.example.org",
            "HTTP://a/",
            "http://a/\\",
        )
    ),
    ("url-syntax", in_extension(CRL_DISTRIBUTION_POINTS, put(0, 0, 0, 0, contents="/a.crl"))),
    ("url-syntax", in_extension(CERTIFICATE_POLICIES, put(0, 1, 0, 1, contents="cps"))),
    ("der-surplus", in_extension(AUTHORITY_INFORMATION_ACCESS, add(0, node=primitive(0x05, b"")))),
    ("der-tag", in_extension(AUTHORITY_INFORMATION_ACCESS, tag(0, 1, tag=0x82))),
    ("der-string", in_extension(AUTHORITY_INFORMATION_ACCESS, put(0, 1, contents="http://ä/"))),
    ("crl-distribution-points", in_extension(CRL_DISTRIBUTION_POINTS, put(0, 0, 0, 0, contents="http://a/"))),
    ("crl-distribution-points", in_extension(CRL_DISTRIBUTION_POINTS, add(0, node=primitive(0x81, b"\6\x40")))),
    ("crl-distribution-points", in_extension(CRL_DISTRIBUTION_POINTS, add(node=sequence()))),
    ("crl-distribution-points", in_extension(CRL_DISTRIBUTION_POINTS, add(0, 0, node=primitive(0x81, b"")))),
    ("certificate-policies", in_extension(CERTIFICATE_POLICIES, remove(1))),
    ("certificate-policies", in_extension(CERTIFICATE_POLICIES, swap())),
    ("certificate-policies", in_extension(CERTIFICATE_POLICIES, remove(0, 1))),
    ("certificate-policies", in_extension(CERTIFICATE_POLICIES, put(0, 1, 0, 1, contents="http://a/"))),
    (
        "certificate-policies",
        in_extension(CERTIFICATE_POLICIES, put(0, 1, 0, 0, contents=bytes.fromhex("2b06010505070202"))),
    ),
    ("der-surplus", in_extension(CERTIFICATE_POLICIES, add(0, node=sequence()))),
    ("der-surplus", in_extension(CERTIFICATE_POLICIES, add(0, 1, node=sequence()))),
    ("der-surplus", in_extension(CERTIFICATE_POLICIES, add(0, 1, 0, node=sequence()))),
    ("alt-name-type", in_extension(SUBJECT_ALT_NAME, add(node=primitive(0x88, b"\x2a\3")))),
    ("alt-name-type", in_extension(SUBJECT_ALT_NAME, add(node=Node(0xA4, children=[sequence()])))),
    ("alt-name-syntax", in_extension(SUBJECT_ALT_NAME, put(3, contents=b"\xc0\0\2\7\xff\xff\xff\xff"))),
    *(
        ("alt-name-syntax", in_extension(SUBJECT_ALT_NAME, put(0, contents=name)))
        for name in ("", "localhost", "-a.example.org", "a..example.org", "example.org.", "WWW.example.org")
    ),
    *(
        ("alt-name-syntax", in_extension(SUBJECT_ALT_NAME, put(0, contents=name)))
        for name in ("www.*.example.org", "192.0.2.7", "a_b.example.org", ".".join(["a" * 63] * 4), "a" * 64 + ".org")
    ),
    *(
        ("alt-name-syntax", in_extension(SUBJECT_ALT_NAME, put(2, contents=name)))
        for name in ("ada", "ada@", "@example.org", "ada ada@example.org", "a" * 65 + "@example.org", '"a"@example.org')
    ),
    *(
        ("alt-name-syntax", in_extension(SUBJECT_ALT_NAME, put(5, contents=name)))
        for name in ("/a", "https:", "https:///a", "https://a@example.org/", "https://example.org/ a", "HTTPS://a/")
    ),
    ("der-string", in_extension(SUBJECT_ALT_NAME, put(0, contents="bücher.example"))),
    ("alt-names-asked", in_extension(SUBJECT_ALT_NAME, swap())),
    ("alt-names-asked", in_extension(SUBJECT_ALT_NAME, remove(4))),
    ("alt-names-asked", in_extension(SUBJECT_ALT_NAME, put(0, contents="www.example.com"))),
    ("alt-names-asked", in_extension(SUBJECT_ALT_NAME, put(3, contents=b"\xc0\0\2\x08"))),
    ("alt-names-asked", in_extension(SUBJECT_ALT_NAME, lambda tree: tree.children.append(tree.at(0)))),
    (
        "der-surplus",
        lambda tree: put(contents=extension(tree, KEY_USAGE).children[-1].contents + b"\0")(
            extension(tree, KEY_USAGE).children[-1]
        ),
    ),
]

# Rule, and what was approved instead.
WRONGLY_APPROVED: list[tuple[str, dict[str, Any]]] = [
    ("certificate-policies", {"profile": {"policy_identifiers": ("1.2.3", "1.2.3")}}),
    ("alt-names-profile", {"profile": {"maximum_alt_names": 5}}),
    ("alt-names-profile", {"profile": {"allow_wildcard": False}}),
    ("alt-names-profile", {"profile": {"alt_names": (("URI", Presence.FORBIDDEN),)}}),
    (
        "purpose",
        {"profile": {"key_usage": ("keyEncipherment",), "extended_key_usage": (EXTENDED_KEY_USAGES["codeSigning"],)}},
    ),
]
BROKEN = {rule for rule, _ in MUTATIONS} | {rule for rule, _ in WRONGLY_APPROVED} | {"ocsp-nocheck"}


def assert_found(rule: str, octets: bytes, approved: ApprovedRequest) -> None:
    with pytest.raises(LintFinding) as caught:
        check(octets, approved)
    assert caught.value.name == rule


@pytest.mark.parametrize(
    ("rule", "edit"), [pytest.param(*each, id=f"{number}-{each[0]}") for number, each in enumerate(MUTATIONS)]
)
def test_one_change_is_found(rule: str, edit: Edit) -> None:
    approved, octets = good()
    assert_found(rule, edited(octets, edit), approved)


@pytest.mark.parametrize(("rule", "changes"), WRONGLY_APPROVED)
def test_what_was_wrongly_approved_is_found(rule: str, changes: dict[str, Any]) -> None:
    approved = altered(good()[0], **changes)
    if rule == "purpose":
        approved = altered(approved, key_usage=("keyEncipherment",))
    assert_found(rule, assemble_tbs(approved), approved)


def test_a_required_kind_of_alternative_name_is_missed() -> None:
    approved = approve(
        request=wished(alt_names=alt_names("DNS,www.example.org", "email,ada@example.org")),
    )
    check(assemble_tbs(approved), approved)
    approved = altered(approved, profile={"alt_names": (("IP", Presence.REQUIRED),)})
    assert_found("alt-names-profile", assemble_tbs(approved), approved)


def test_the_order_of_extensions_and_purposes_is_free() -> None:
    approved, octets = good()
    for edit in (lambda tree: tree.at(EXTENSIONS, 0).children.reverse(), in_extension(EXTENDED_KEY_USAGE, swap())):
        check(edited(octets, edit), approved)


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_key_usage_follows_from_profile_and_key(kind: str) -> None:
    approved = approve(kind=kind)
    octets = assemble_tbs(approved)
    check(octets, approved)
    for wrong in (*approved.key_usage, "keyEncipherment", "keyAgreement"):
        changed = altered(approved, key_usage=tuple(set(approved.key_usage) ^ {wrong}))
        assert_found("key-usage", assemble_tbs(changed), approved)


def test_a_purpose_that_no_standard_knows_goes_with_every_usage() -> None:
    profile = everything(key_usage=("dataEncipherment",), extended_key_usage=("1.3.6.1.4.1.99999.1",))
    approved = approve(profile=profile)
    check(assemble_tbs(approved), approved)


URLS = ("http://a.example/1", "ldap://[2001:db8::1]/a?b", "ldap:///cn=a%20b?c?base")


@pytest.mark.parametrize("crl_urls", [(), URLS])
@pytest.mark.parametrize("issuer_urls", [(), URLS])
@pytest.mark.parametrize("ocsp_urls", [(), URLS])
def test_urls_are_the_authoritys(
    crl_urls: tuple[str, ...], issuer_urls: tuple[str, ...], ocsp_urls: tuple[str, ...]
) -> None:
    urls: dict[str, Any] = {"crl_urls": crl_urls, "issuer_urls": issuer_urls, "ocsp_urls": ocsp_urls}
    approved = approve(authority=dataclasses.replace(sample_authority("unassured"), **urls))
    octets = assemble_tbs(approved)
    check(octets, approved)
    for kind, given in urls.items():
        changed = altered(approved, authority={kind: given[1:] or URLS})
        with pytest.raises(LintFinding):
            check(octets, changed)


@pytest.mark.parametrize("issuer_urls", [(), URLS])
def test_nobody_is_sent_to_ask_about_a_responder(issuer_urls: tuple[str, ...]) -> None:
    authority = dataclasses.replace(sample_authority(""), issuer_urls=issuer_urls)
    approved = approve_responder(authority)
    octets = assemble_tbs(approved)
    check(octets, approved)
    # Where its CRL is, and whom to ask by OCSP, is not said.
    check(octets, altered(approved, authority={"crl_urls": (), "ocsp_urls": ()}))
    with pytest.raises(LintFinding):
        check(octets, altered(approved, authority={"issuer_urls": issuer_urls[1:] or URLS}))


def approve_responder(authority: Authority | None = None) -> ApprovedRequest:
    profile = responder()
    request = wished(profile, attributes=(SubjectAttribute(type="CN", value="OCSP responder"),), alt_names=())
    return approve(profile=profile, request=request, authority=authority)


def test_nocheck_is_null_and_for_responders_alone() -> None:
    approved = approve_responder()
    octets = assemble_tbs(approved)
    check(octets, approved)
    assert_found("ocsp-nocheck", edited(octets, in_extension(OCSP_NOCHECK, put(contents=b"\0"))), approved)
    assert_found("ocsp-nocheck", edited(octets, in_extension(OCSP_NOCHECK, tag(tag=0x04))), approved)
    assert_found("extension-missing", edited(octets, without(OCSP_NOCHECK)), approved)
    assert_found("extension-critical", edited(octets, flip_critical(OCSP_NOCHECK)), approved)
    approved = altered(approved, profile={"ocsp_no_check": False})
    assert_found("extension-missing", octets, approved)


def test_without_a_subject_the_alternative_names_are_critical() -> None:
    approved = approve(request=wished(attributes=()))
    octets = assemble_tbs(approved)
    check(octets, approved)
    assert_found("extension-critical", edited(octets, flip_critical(SUBJECT_ALT_NAME)), approved)


def test_without_alternative_names_there_is_no_such_extension() -> None:
    profile = everything(extended_key_usage=(EXTENDED_KEY_USAGES["clientAuth"],))
    approved = approve(profile=profile, request=wished(profile, attributes=wished().attributes[:-1], alt_names=()))
    octets = assemble_tbs(approved)
    check(octets, approved)
    surplus = altered(approved, alt_names=alt_names("DNS,www.example.org"))
    assert_found("extension-surplus", assemble_tbs(surplus), approved)


def test_policies_without_a_practice_statement() -> None:
    approved = approve(profile=everything(cps_uri=""))
    check(assemble_tbs(approved), approved)
    approved = approve(profile=everything(policy_identifiers=(), cps_uri=""))
    octets = assemble_tbs(approved)
    check(octets, approved)
    assert_found("extension-missing", octets, altered(approved, profile={"policy_identifiers": ("2.23.140.1.2.1",)}))


def test_a_server_named_by_its_address() -> None:
    attributes = tuple(each for each in wished().attributes if each.type != "CN")
    attributes += (SubjectAttribute(type="CN", value="192.0.2.7"),)
    approved = approve(request=wished(attributes=attributes))
    check(assemble_tbs(approved), approved)
