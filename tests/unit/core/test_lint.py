"""The signer's own lint: every rule has octets that break it, made by one change to good ones."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.authorities import NOW, alt_names, default_ca, make_authority, make_ca, rsa_key
from tests.support.der_tree import Node, object_identifier, primitive, sequence
from tests.support.lintable import (
    ALGORITHM,
    BASIC_CONSTRAINTS,
    EXTENDED_KEY_USAGE,
    EXTENSIONS,
    ISSUER,
    KEY,
    KEY_USAGE,
    SERIAL,
    SUBJECT,
    VALIDITY,
    VERSION,
    Edit,
    altered,
    approve,
    check,
    edited,
    everything,
    extension,
    good,
    in_extension,
    in_key,
    wished,
)

from cassiopeia.core import lint_der
from cassiopeia.core.certificate import assemble_tbs
from cassiopeia.core.lint import LintedTbs
from cassiopeia.core.lint_rules import RULES, LintFinding
from cassiopeia.core.policy import ApprovedRequest
from cassiopeia.core.profile import Presence
from cassiopeia.core.request import SubjectAttribute
from cassiopeia.core.sample import sample_authority, sample_key
from cassiopeia.errors import InternalError

ROOT = Path(__file__).resolve().parents[3]
DAY = dt.timedelta(days=1)


def put(*path: int, contents: bytes | str) -> Edit:
    """Other contents at this place."""

    def change(tree: Node) -> None:
        tree.at(*path).contents = contents.encode() if isinstance(contents, str) else contents

    return change


def tag(*path: int, tag: int) -> Edit:
    def change(tree: Node) -> None:
        tree.at(*path).tag = tag

    return change


def length(*path: int, octets: str) -> Edit:
    def change(tree: Node) -> None:
        tree.at(*path).length = bytes.fromhex(octets)

    return change


def add(*path: int, node: Node) -> Edit:
    """One element more, behind those at this place."""
    return lambda tree: tree.at(*path).children.append(node)


def insert(place: int, node: Node) -> Edit:
    return lambda tree: tree.children.insert(place, node)


def remove(*path: int) -> Edit:
    def change(tree: Node) -> None:
        del tree.at(*path[:-1]).children[path[-1]]

    return change


def swap(*path: int) -> Edit:
    """The first two elements at this place, the other way round."""

    def change(tree: Node) -> None:
        children = tree.at(*path).children
        children[:2] = reversed(children[:2])

    return change


def serial(hexadecimal: str) -> Edit:
    return put(SERIAL, contents=bytes.fromhex(hexadecimal))


def critical(identifier: str, contents: str) -> Edit:
    """The octets of `critical`, where it is there already."""

    def change(tree: Node) -> None:
        extension(tree, identifier).children[1].contents = bytes.fromhex(contents)

    return change


def say_not_critical(tree: Node) -> None:
    extension(tree, EXTENDED_KEY_USAGE).children.insert(1, primitive(0x01, b"\0"))


def share_a_relative_name(*, ascending: bool) -> Edit:
    def change(tree: Node) -> None:
        names = tree.at(SUBJECT).children
        first = names.pop(4).children[0]
        names[4].children.append(first)
        names[4].children.sort(key=Node.encode, reverse=not ascending)

    return change


ATTRIBUTE = sequence(object_identifier("550429"), primitive(0x0C, "Ada"))  # 2.5.4.41, name
SHA1_WITH_RSA = [object_identifier("2a864886f70d010105"), primitive(0x05, b"")]
POINT_ALGORITHM = "2a8648ce3d0201"

# Rule, and a change to good octets that breaks it. Paths are places in the tree of the TBSCertificate.
MUTATIONS: list[tuple[str, Edit]] = [
    ("der-truncated", length(VERSION, 0, octets="7f")),
    ("der-truncated", length(EXTENSIONS, octets="82ffff")),
    ("der-truncated", lambda tree: setattr(tree, "children", [Node(0xA0, children=[Node(0x02, length=b"")])])),
    ("der-truncated", lambda tree: setattr(tree, "children", [Node(0xA0, children=[Node(0x02, length=b"\x82\1")])])),
    ("der-surplus", add(VERSION, node=primitive(0x02, b"\2"))),
    ("der-surplus", add(VALIDITY, node=primitive(0x17, "270101000000Z"))),
    ("der-surplus", add(SUBJECT, 0, 0, node=primitive(0x05, b""))),
    ("der-surplus", add(KEY, node=primitive(0x05, b""))),
    ("der-surplus", add(EXTENSIONS, node=sequence())),
    ("der-surplus", add(EXTENSIONS, 0, 0, node=primitive(0x05, b""))),
    ("der-surplus", lambda tree: tree.children.append(primitive(0x05, b""))),
    ("der-surplus", in_key(add(node=primitive(0x02, b"\3")))),
    ("der-tag", remove(VERSION)),
    ("der-tag", tag(SERIAL, tag=0x0A)),
    ("der-tag", tag(SUBJECT, 0, tag=0x30)),
    ("der-tag", remove(VALIDITY, 1)),
    ("der-tag", tag(VALIDITY, 0, tag=0x16)),
    ("der-tag", remove(EXTENSIONS)),
    ("der-tag", in_key(remove(1))),
    ("der-length", length(SERIAL, octets="8110")),
    ("der-length", length(SERIAL, octets="80")),
    ("der-length", length(EXTENSIONS, octets="83000380")),
    ("der-length", length(SERIAL, octets="850000000010")),
    ("der-boolean", critical(KEY_USAGE, "01")),
    ("der-boolean", critical(KEY_USAGE, "ffff")),
    ("der-default", say_not_critical),
    ("der-default", in_extension(BASIC_CONSTRAINTS, add(node=primitive(0x01, b"\0")))),
    ("der-integer", serial("00015d9e1f0c7a42b86e93d1480af72c65")),
    ("der-integer", serial("ffffff9e1f0c7a42b86e93d1480af72c")),
    ("der-integer", serial("")),
    ("der-integer", put(VERSION, 0, contents=b"")),
    ("der-integer", put(VERSION, 0, contents=b"\0\2")),
    ("der-bit-string", in_extension(KEY_USAGE, put(contents=bytes.fromhex("00e0")))),
    ("der-bit-string", in_extension(KEY_USAGE, put(contents=bytes.fromhex("06e0")))),
    ("der-bit-string", in_extension(KEY_USAGE, put(contents=bytes.fromhex("0de000")))),
    ("der-bit-string", in_extension(KEY_USAGE, put(contents=bytes.fromhex("0000")))),
    ("der-bit-string", in_extension(KEY_USAGE, put(contents=b""))),
    ("der-bit-string", lambda tree: put(KEY, 1, contents=b"\4" + tree.at(KEY, 1).contents[1:])(tree)),
    ("der-object-identifier", in_extension(EXTENDED_KEY_USAGE, put(0, contents=bytes.fromhex("2b8006010505070301")))),
    ("der-object-identifier", in_extension(EXTENDED_KEY_USAGE, put(0, contents=bytes.fromhex("2b0601050507038e")))),
    ("der-object-identifier", in_extension(EXTENDED_KEY_USAGE, put(0, contents=b""))),
    ("der-set-order", share_a_relative_name(ascending=False)),
    ("der-string", put(SUBJECT, 0, 0, 1, contents="N*")),
    ("der-string", put(SUBJECT, 7, 0, 1, contents="ada@exämple.org")),
    ("der-string", put(SUBJECT, 6, 0, 1, contents=b"www.ex\xe4mple.org")),
    ("der-time", put(VALIDITY, 0, contents="2611231230Z")),
    ("der-time", put(VALIDITY, 0, contents="261123123015+0000")),
    ("der-time", put(VALIDITY, 0, contents="261323123015Z")),
    ("der-time", put(VALIDITY, 0, contents="261123123060Z")),
    ("der-time", lambda tree: setattr(tree.at(VALIDITY), "children", [primitive(0x18, "20261123123015.5Z")])),
    ("version", put(VERSION, 0, contents=b"\1")),
    ("serial-length", serial("015d9e1f0c7a42b86e93d1480af72c")),
    ("serial-length", serial("015d9e1f0c7a42b86e93d1480af72c6511")),
    ("serial-length", serial("f15d9e1f0c7a42b86e93d1480af72c65")),
    ("serial-signer", serial("025d9e1f0c7a42b86e93d1480af72c65")),
    ("serial-random", serial("01000102030405060708090a0b0c0d0e")),
    ("serial-random", serial("01" + "5d9e1f0c7a42" + "5d9e1f0c7a42" + "5d9e1f")),
    ("serial-random", serial("015d9e1f0c7a000000000000f72c6511")),
    ("serial-random", serial("01010204081020408003050600112030")),
    ("serial-random", serial("01fefdfbf7efdfbf7ffcfaf9ffeedfcf")),
    ("serial-approved", serial("015d9e1f0c7a42b86e93d1480af72c66")),
    ("signature-algorithm", lambda tree: setattr(tree.at(ALGORITHM), "children", SHA1_WITH_RSA)),
    ("signature-algorithm", add(ALGORITHM, node=primitive(0x05, b""))),
    ("signature-algorithm", put(ALGORITHM, 0, contents=bytes.fromhex("2a8648ce3d040302"))),
    ("issuer", put(ISSUER, 0, 0, 1, contents="unassured_2026_3")),
    ("time-type", lambda tree: tree.at(VALIDITY).children.__setitem__(0, primitive(0x18, "20261123123015Z"))),
    ("validity-order", swap(VALIDITY)),
    ("validity-order", put(VALIDITY, 1, contents="261123123014Z")),
    ("validity-begin", put(VALIDITY, 0, contents="261123123014Z")),
    ("validity-begin", put(VALIDITY, 0, contents="261123123016Z")),
    ("validity-order", put(VALIDITY, 1, contents="501123123015Z")),
    ("validity-profile", put(VALIDITY, 1, contents="270302123015Z")),
    ("validity-end", put(VALIDITY, 1, contents="270302123013Z")),
    ("subject-relative-name", share_a_relative_name(ascending=True)),
    ("subject-attribute", add(SUBJECT, node=Node(0x31, children=[ATTRIBUTE]))),
    ("subject-attribute", lambda tree: tree.at(SUBJECT).children.insert(2, tree.at(SUBJECT, 2))),
    ("subject-order", swap(SUBJECT)),
    ("subject-string-type", tag(SUBJECT, 6, 0, 1, tag=0x13)),
    ("subject-string-type", tag(SUBJECT, 0, 0, 1, tag=0x0C)),
    ("subject-bound", put(SUBJECT, 3, 0, 1, contents="")),
    ("subject-bound", put(SUBJECT, 3, 0, 1, contents="é" * 65)),
    ("subject-bound", put(SUBJECT, 0, 0, 1, contents="nl")),
    ("subject-asked", put(SUBJECT, 3, 0, 1, contents="Example B.V")),
    ("subject-asked", remove(SUBJECT, 1)),
    ("key-encoding", remove(KEY, 0, 1)),
    ("key-encoding", put(KEY, 0, 1, contents=b"\0")),
    ("key-encoding", add(KEY, 0, node=primitive(0x05, b""))),
    ("key-encoding", put(KEY, 0, 0, contents=bytes.fromhex("2a864886f70d01010a"))),
    ("key-encoding", in_key(put(1, contents=b"\xff"))),
    ("key-asked", in_key(put(1, contents=b"\3"))),
    ("unique-identifier", insert(EXTENSIONS, primitive(0x81, b"\0\1"))),
    ("unique-identifier", insert(EXTENSIONS, Node(0xA2, children=[primitive(0x03, b"\0\1")]))),
]


def named(mutations: list[tuple[str, Edit]]) -> list[object]:
    return [pytest.param(rule, edit, id=f"{number}-{rule}") for number, (rule, edit) in enumerate(mutations)]


def assert_found(rule: str, octets: bytes, approved: ApprovedRequest, **circumstances: object) -> None:
    with pytest.raises(LintFinding) as caught:
        check(octets, approved, **circumstances)  # type: ignore[arg-type] # as they are given
    assert caught.value.name == rule
    assert rule in caught.value.message
    assert caught.value.code == "lint-finding"


def test_what_is_right_is_linted() -> None:
    approved, octets = good()
    assert check(octets, approved).octets == octets


def test_nobody_else_says_that_something_is_linted() -> None:
    with pytest.raises(InternalError, match="only lint"):
        LintedTbs(linted=object(), octets=b"")


@pytest.mark.parametrize(("rule", "edit"), named(MUTATIONS))
def test_one_change_is_found(rule: str, edit: Edit) -> None:
    approved, octets = good()
    assert_found(rule, edited(octets, edit), approved)


@pytest.mark.parametrize(
    ("rule", "octets"),
    [
        ("der-truncated", good()[1][:-1]),
        ("der-surplus", good()[1] + b"\0"),
        ("der-tag", b""),
        ("der-tag", b"\x31" + good()[1][1:]),
    ],
)
def test_octets_around_it_are_found(rule: str, octets: bytes) -> None:
    assert_found(rule, octets, good()[0])


@pytest.mark.parametrize(
    ("rule", "kind", "edit"),
    [
        ("key-encoding", "P-256", lambda tree: put(KEY, 1, contents=b"\0\2" + tree.at(KEY, 1).contents[2:])(tree)),
        ("key-encoding", "P-256", lambda tree: put(KEY, 1, contents=tree.at(KEY, 1).contents[:34])(tree)),
        ("key-encoding", "P-384", put(KEY, 0, 1, contents=bytes.fromhex("2a8648ce3d030107"))),
        ("key-encoding", "P-521", put(KEY, 0, 1, contents=bytes.fromhex("2b8104000a"))),
        ("key-encoding", "Ed25519", add(KEY, 0, node=primitive(0x05, b""))),
        ("key-encoding", "Ed25519", lambda tree: put(KEY, 1, contents=tree.at(KEY, 1).contents[:-1])(tree)),
        ("key-encoding", "ML-DSA-44", put(KEY, 0, 0, contents=bytes.fromhex("608648016503040312"))),
        ("key-asked", "ML-DSA-87", put(KEY, 1, contents=bytes(2593))),
        ("key-asked", "P-256", put(KEY, 1, contents=b"\0\4" + bytes(64))),
    ],
)
def test_keys_of_other_kinds_are_read_as_strictly(rule: str, kind: str, edit: Edit) -> None:
    approved = approve(kind=kind)
    octets = assemble_tbs(approved)
    check(octets, approved)
    assert_found(rule, edited(octets, edit), approved)


def attributes_without(*types: str) -> tuple[SubjectAttribute, ...]:
    return tuple(each for each in wished().attributes if each.type not in types)


# Rule, and what was approved instead: what is assembled from it breaks the rule.
WRONGLY_APPROVED: list[tuple[str, Callable[[ApprovedRequest], ApprovedRequest]]] = [
    ("issuer-choice", lambda approved: altered(approved, profile={"family": "assured"})),
    ("issuer-choice", lambda approved: altered(approved, profile={"family": ""})),
    ("issuer-choice", lambda approved: altered(approved, request={"ocsp_target_ca": "unassured_2026_1"})),
    ("issuer-choice", lambda approved: altered(approved, authority={"signer_id": 2})),
    ("validity-authority", lambda approved: altered(approved, authority={"not_after": approved.validity.not_before})),
    ("validity-authority", lambda approved: altered(approved, authority={"not_before": NOW + DAY})),
    ("validity-wish", lambda approved: altered(approved, request={"wish_to": "30d"})),
    ("validity-wish", lambda approved: altered(approved, request={"wish_to": "3m"})),
    ("validity-wish", lambda approved: altered(approved, request={"wish_to": "2027-03-02"})),
    ("validity-begin", lambda approved: altered(approved, request={"wish_from": "2026-11-24"})),
    ("subject-profile", lambda approved: altered(approved, profile={"subject": (("L", Presence.FORBIDDEN),)})),
    (
        "subject-profile",
        lambda _: altered(
            approve(request=wished(attributes=attributes_without("L"))),
            profile={"subject": (("L", Presence.REQUIRED),)},
        ),
    ),
    (
        "subject-email",
        lambda approved: altered(
            approved,
            request={"alt_names": alt_names("DNS,www.example.org")},
            alt_names=alt_names("DNS,www.example.org"),
        ),
    ),
    (
        "subject-server",
        lambda approved: altered(
            approved,
            request={"alt_names": alt_names("email,ada@example.org", "IP,192.0.2.8")},
            alt_names=alt_names("email,ada@example.org", "IP,192.0.2.8"),
        ),
    ),
    (
        "nobody",
        lambda approved: altered(
            approved, request={"alt_names": (), "attributes": ()}, alt_names=(), subject=b"\x30\0"
        ),
    ),
]


@pytest.mark.parametrize(("rule", "change"), WRONGLY_APPROVED)
def test_what_was_wrongly_approved_is_found(rule: str, change: Callable[[ApprovedRequest], ApprovedRequest]) -> None:
    approved = change(good()[0])
    assert_found(rule, assemble_tbs(approved), approved)


def test_a_beginning_further_ahead_than_the_profile_allows_is_found() -> None:
    approved = approve(request=wished(wish_from="2026-12-03"))
    check(assemble_tbs(approved), approved)
    approved = altered(approved, profile={"not_before_ahead_days": 9})
    assert_found("validity-ahead", assemble_tbs(approved), approved)


@pytest.mark.parametrize(
    ("wishes", "begins", "ends"),
    [
        ({}, NOW, NOW + 99 * DAY),
        ({"wish_from": "now", "wish_to": "90d"}, NOW, NOW + 90 * DAY),
        ({"wish_from": "2026-11-23", "wish_to": "2026-12-24"}, NOW, dt.datetime(2026, 12, 24, tzinfo=dt.UTC)),
        ({"wish_from": "2026-11-30", "wish_to": "3m"}, dt.datetime(2026, 11, 30, tzinfo=dt.UTC), None),
        ({"wish_to": "2m"}, NOW, dt.datetime(2027, 1, 23, 12, 30, 15, tzinfo=dt.UTC)),
    ],
)
def test_wishes_are_counted_as_the_policy_does(
    wishes: dict[str, Any], begins: dt.datetime, ends: dt.datetime | None
) -> None:
    approved = approve(request=wished(**wishes))
    check(assemble_tbs(approved), approved)
    assert approved.validity.not_before == begins
    if ends is not None:
        assert approved.validity.not_after == ends - dt.timedelta(seconds=1)


@pytest.mark.parametrize(
    ("begin", "wish", "end"),
    [
        ("2027-01-31", "1m", "2027-02-28"),
        ("2028-02-29", "1y", "2029-02-28"),
        ("2028-01-31", "1m", "2028-02-29"),
        ("2026-12-15", "12m", "2027-12-15"),
        ("2026-12-15", "1m", "2027-01-15"),
        ("2027-01-31", "9999y", None),
        ("2027-01-31", "9999999d", None),
        ("2027-01-31", "2027-02-30", None),
    ],
)
def test_the_calendar_is_the_policys(begin: str, wish: str, end: str | None) -> None:
    profile = everything(maximum_validity_days=1825)
    now = dt.datetime.fromisoformat(f"{begin}T00:00:00+00:00")
    authority = sample_authority(profile.family)
    approved = approve(profile=profile, authority=authority, now=now, request=wished(profile, wish_to="1825d"))
    if end is not None:
        approved = approve(profile=profile, authority=authority, now=now, request=wished(profile, wish_to=wish))
        assert approved.validity.not_after == dt.datetime.fromisoformat(f"{end}T00:00:00+00:00") - dt.timedelta(
            seconds=1
        )
    # Over version 1 what says nothing is the maximum.
    approved = altered(approved, request={"wish_to": wish})
    check(assemble_tbs(approved), approved, now=now)


def test_a_certificate_of_the_last_second_before_its_end_is_sound() -> None:
    now = dt.datetime(2026, 11, 23, 23, 59, 59, tzinfo=dt.UTC)
    approved = approve(request=wished(wish_to="2026-11-24"), now=now)
    assert approved.validity.not_after == approved.validity.not_before
    check(assemble_tbs(approved), approved, now=now)


def test_the_longest_wildcard_that_the_policy_takes_is_sound() -> None:
    name = "*." + ".".join(["x" * 49] * 5) + ".e"  # 253 octets; with one more it is refused (test_names)
    approved = approve(request=wished(attributes=(), alt_names=alt_names(f"DNS,{name}")))
    check(assemble_tbs(approved), approved)


def test_from_2050_on_times_are_generalized() -> None:
    now = dt.datetime(2049, 12, 1, tzinfo=dt.UTC)
    authority = dataclasses.replace(
        sample_authority("unassured"), not_after=now + 1000 * DAY, issues_until=now + 1000 * DAY
    )
    approved = approve(authority=authority, now=now)
    octets = assemble_tbs(approved)
    check(octets, approved, now=now)
    assert b"20500309235959Z" in octets
    assert_found("validity-order", edited(octets, swap(VALIDITY)), approved, now=now)


def test_the_year_before_2050_is_of_this_century_and_1950_of_the_last() -> None:
    assert lint_der.time(0x17, b"491231235959Z", "a time").year == 2049
    assert lint_der.time(0x17, b"500101000000Z", "a time").year == 1950


def test_an_object_identifier_of_each_arc() -> None:
    for contents, dotted in (("2a03", "1.2.3"), ("0901", "0.9.1"), ("883703", "2.999.3"), ("5504", "2.5.4")):
        assert lint_der.object_identifier(bytes.fromhex(contents), "it") == dotted


@pytest.mark.parametrize(
    ("wish", "algorithm"), [("", "sha256"), ("sha256", "sha256"), ("sha384", "sha384"), ("sha512", "sha512")]
)
@pytest.mark.parametrize("pss", [False, True])
def test_an_rsa_authority_follows_the_wish(wish: str, algorithm: str, *, pss: bool) -> None:
    authority = make_authority(make_ca("unassured_2026_2", key=rsa_key()), pss=pss)
    approved = approve(authority=authority, request=wished(signature_hash=wish))
    assert approved.algorithm.hash_name == algorithm
    check(assemble_tbs(approved), approved)
    for changed in (
        altered(approved, request={"signature_hash": "sha512" if algorithm != "sha512" else "sha384"}),
        altered(approved, authority={"pss": not pss}),
    ):
        assert_found("signature-wish", assemble_tbs(changed), changed)


def test_an_authority_signs_with_its_own_kind_of_algorithm() -> None:
    approved = approve(authority=make_authority(default_ca()))
    check(assemble_tbs(approved), approved)
    other = dataclasses.replace(make_authority(default_ca()), public_key=sample_key("Ed25519").public_key)
    changed = altered(approved, authority=other)
    assert_found("signature-algorithm", assemble_tbs(changed), changed)


def test_every_rule_is_broken_by_some_test() -> None:
    from tests.unit.core.test_lint_extensions import BROKEN  # noqa: PLC0415 - the other half of the table

    broken = {rule for rule, _ in MUTATIONS} | {rule for rule, _ in WRONGLY_APPROVED} | BROKEN
    assert broken | {"validity-ahead", "signature-wish"} == set(RULES)


def test_the_documentation_has_every_rule_with_its_source() -> None:
    text = (ROOT / "docs" / "certificates.md").read_text(encoding="utf-8")
    section = text.partition("## What the signer lints")[2].partition("## What the client lints")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}` | {demands} | {source} |" for name, (source, demands) in RULES.items()]
