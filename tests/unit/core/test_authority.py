"""Sub-CAs: their names, what a certificate must be to become one, and which of them signs."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authorities import NOW, TestCa, default_authority, default_ca, make_ca, p256_key

from cassiopeia.core.authority import (
    HALTED_BY_ORDER,
    Authority,
    Idle,
    choose_authority,
    load_authority,
    parse_authority_name,
)
from cassiopeia.core.rules import Standing
from cassiopeia.errors import OperatorError, Refused, Unavailable

DAY = dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("assured_2026_2", ("assured", 2026, 2)), ("orgaSign_2030_10", ("orgaSign", 2030, 10))],
)
def test_names(name: str, parts: tuple[str, int, int]) -> None:
    assert parse_authority_name(name) == parts


@pytest.mark.parametrize(
    "name",
    ["", "assured", "assured_2026", "assured_26_1", "assured_2026_0", "assured_2026_01", "_2026_1", "a/b_2026_1"],
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(OperatorError, match="assured_2026_2"):
        parse_authority_name(name)


def test_loads_what_the_certificate_says() -> None:
    ca = default_ca()
    authority = load_authority(ca.der, name="unassured_2026_2", signer_id=7, issues_until=NOW, pss=True)
    assert (authority.family, authority.year, authority.number, authority.signer_id) == ("unassured", 2026, 2, 7)
    assert authority.subject == ca.certificate.subject.public_bytes()
    assert authority.public_key == p256_key().public_key()
    assert authority.key_identifier == x509.SubjectKeyIdentifier.from_public_key(p256_key().public_key()).digest
    assert (authority.not_before, authority.not_after) == (
        ca.certificate.not_valid_before_utc,
        ca.certificate.not_valid_after_utc,
    )
    assert (authority.issues_from, authority.issues_until) == (authority.not_before, NOW)
    assert authority.maximum_certificates == 21_300
    assert not authority.retired
    assert authority == load_authority(ca.der, name="unassured_2026_2", signer_id=7, issues_until=NOW, pss=True)
    assert hash(authority)
    assert load_authority(ca.der, name="unassured_2026_2", signer_id=7, retired=True).retired


def without_extension(extension: type[x509.ExtensionType]) -> bytes:
    """The default CA's certificate, without one of its extensions."""
    source = default_ca().certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(source.subject)
        .issuer_name(source.issuer)
        .public_key(source.public_key())
        .serial_number(1)
        .not_valid_before(source.not_valid_before_utc)
        .not_valid_after(source.not_valid_after_utc)
    )
    for each in source.extensions:
        if not isinstance(each.value, extension):
            builder = builder.add_extension(each.value, critical=each.critical)
    return builder.sign(p256_key(), hashes.SHA256()).public_bytes(Encoding.DER)


def without_subject() -> bytes:
    source = default_ca().certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(source.issuer)
        .public_key(source.public_key())
        .serial_number(1)
        .not_valid_before(source.not_valid_before_utc)
        .not_valid_after(source.not_valid_after_utc)
    )
    for each in source.extensions:
        builder = builder.add_extension(each.value, critical=each.critical)
    return builder.sign(p256_key(), hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        pytest.param(b"", "cannot be read", id="empty"),
        pytest.param(b"-----BEGIN CERTIFICATE-----", "cannot be read", id="pem"),
        pytest.param(default_ca().der + b"\0", "cannot be read", id="trailing"),
        pytest.param(without_extension(x509.BasicConstraints), "2.5.29.19", id="no-basic-constraints"),
        pytest.param(without_extension(x509.KeyUsage), "2.5.29.15", id="no-key-usage"),
        pytest.param(without_extension(x509.SubjectKeyIdentifier), "2.5.29.14", id="no-key-identifier"),
        pytest.param(make_ca("leaf", key=p256_key(), is_ca=False).der, "not that of a CA", id="no-ca"),
        pytest.param(make_ca("tls", key=p256_key(), key_cert_sign=False).der, "not that of a CA", id="cannot-sign"),
        pytest.param(without_subject(), "no subject", id="no-subject"),
        pytest.param(make_ca("koblitz", key=ec.generate_private_key(ec.SECP256K1())).der, "cannot be used", id="curve"),
    ],
)
def test_refuses_a_certificate_that_is_not_a_sub_ca(certificate: bytes, reason: str) -> None:
    with pytest.raises(OperatorError, match=reason):
        load_authority(certificate, name="unassured_2026_2", signer_id=1)


@pytest.mark.parametrize(
    ("issues_from", "issues_until"),
    [
        (NOW, NOW),
        (NOW + DAY, NOW),
        (default_authority().not_before - DAY, NOW),
        (NOW, default_authority().not_after + DAY),
    ],
)
def test_refuses_to_issue_outside_of_the_certificate(issues_from: dt.datetime, issues_until: dt.datetime) -> None:
    with pytest.raises(OperatorError, match="must issue within"):
        load_authority(
            default_ca().der, name="unassured_2026_2", signer_id=1, issues_from=issues_from, issues_until=issues_until
        )


@pytest.mark.parametrize("signer_id", [-1, 0, 128])
def test_refuses_a_signer_id_that_makes_no_serial_number(signer_id: int) -> None:
    with pytest.raises(OperatorError, match="between 1 and 127"):
        load_authority(default_ca().der, name="unassured_2026_2", signer_id=signer_id)


def test_keeps_the_octets_of_the_subject() -> None:
    """A name in a form that the library would not write itself: PrintableString, two attributes in one RDN."""
    name = x509.Name(
        [
            x509.RelativeDistinguishedName(
                [
                    x509.NameAttribute(x509.NameOID.COMMON_NAME, "A", _type=x509.name._ASN1Type.PrintableString),
                    x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "B", _type=x509.name._ASN1Type.PrintableString),
                ]
            )
        ]
    )
    source = default_ca().certificate
    builder = (
        x509.CertificateBuilder(extensions=list(source.extensions))
        .subject_name(name)
        .issuer_name(source.issuer)
        .public_key(source.public_key())
        .serial_number(1)
        .not_valid_before(source.not_valid_before_utc)
        .not_valid_after(source.not_valid_after_utc)
    )
    ca = TestCa(key=p256_key(), certificate=builder.sign(p256_key(), hashes.SHA256()))
    authority = load_authority(ca.der, name="unassured_2026_2", signer_id=1)
    assert authority.subject.hex() == "3016311430080603550403130141" + "3008060355040a130142"
    assert authority.subject in ca.der


def authority_like(name: str, **changes: object) -> Authority:
    family, year, number = parse_authority_name(name)
    values = {"name": name, "family": family, "year": year, "number": number} | changes
    return dataclasses.replace(default_authority(), **values)  # type: ignore[arg-type] # a table of changes


FIRST = authority_like("unassured_2026_1", issues_from=NOW - 300 * DAY, issues_until=NOW + 10 * DAY)
SECOND = authority_like("unassured_2026_2", issues_from=NOW - 100 * DAY, issues_until=NOW + 100 * DAY)
TENTH = authority_like("unassured_2026_10", issues_from=NOW - 100 * DAY, issues_until=NOW + 100 * DAY)
NEXT = authority_like(
    "unassured_2027_1", issues_from=NOW + 5 * DAY, issues_until=NOW + 200 * DAY, not_after=NOW + 3000 * DAY
)
OVER = authority_like("unassured_2025_1", issues_from=NOW - 500 * DAY, issues_until=NOW)
OTHER_FAMILY = authority_like("assured_2026_3", issues_from=NOW - 1 * DAY)
OTHER_SIGNER = authority_like("unassured_2026_4", issues_from=NOW - 1 * DAY, signer_id=2)
EVERY = (TENTH, OVER, FIRST, OTHER_SIGNER, NEXT, SECOND, OTHER_FAMILY)


def choose(
    authorities: tuple[Authority, ...] = EVERY,
    *,
    now: dt.datetime = NOW,
    not_after: dt.datetime = NOW + 90 * DAY,
    issued: dict[str, int] | None = None,
    halted: tuple[Authority, ...] = (),
) -> Authority:
    return choose_authority(
        authorities,
        family="unassured",
        signer_id=1,
        now=now,
        not_after=not_after,
        issued=issued or {},
        idle={each.name: HALTED_BY_ORDER for each in halted},
    )


FULL = 21_300


@pytest.mark.parametrize(
    ("issued", "chosen"),
    [
        pytest.param({}, SECOND, id="newest-period-lowest-number-by-value"),
        pytest.param({SECOND.name: FULL - 1}, SECOND, id="room-for-one"),
        pytest.param({SECOND.name: FULL}, TENTH, id="full-then-its-spare"),
        pytest.param({SECOND.name: FULL + 1, TENTH.name: FULL}, FIRST, id="period-full-then-the-one-before"),
    ],
)
def test_chooses_the_newest_period_and_its_lowest_number_with_room(issued: dict[str, int], chosen: Authority) -> None:
    assert choose(issued=issued) is chosen


def test_chooses_as_soon_as_it_issues_and_no_longer() -> None:
    assert choose(now=NEXT.issues_from - dt.timedelta(seconds=1)) is SECOND
    assert choose(now=NEXT.issues_from) is NEXT
    assert choose((NEXT,), now=NEXT.issues_until - dt.timedelta(seconds=1)) is NEXT
    with pytest.raises(Unavailable):
        choose((NEXT,), now=NEXT.issues_until)


def test_never_outlives() -> None:
    assert choose(not_after=SECOND.not_after) is SECOND
    with pytest.raises(Unavailable) as later:  # NEXT lives long enough, and issues in five days
        choose(not_after=SECOND.not_after + dt.timedelta(seconds=1))
    assert later.value.code == "no-authority"
    assert f"{NEXT.issues_from:%Y-%m-%d}" in later.value.message
    with pytest.raises(Refused) as refusal:
        choose(not_after=NEXT.not_after + dt.timedelta(seconds=1))
    assert (refusal.value.code, refusal.value.field) == ("validity-beyond-authority", "wish_to")
    assert f"{NEXT.not_after:%Y-%m-%d}" in refusal.value.message


def test_says_what_is_missing_when_none_is_there() -> None:
    with pytest.raises(Unavailable) as none:
        choose((OVER, OTHER_FAMILY, OTHER_SIGNER))
    assert none.value.code == "no-authority"
    with pytest.raises(Unavailable) as full:
        choose(issued={each.name: FULL for each in EVERY})
    assert full.value.code == "authority-full"


def test_another_takes_the_place_of_one_that_is_halted() -> None:
    assert choose(halted=(SECOND,)) is TENTH
    assert choose(halted=(SECOND, TENTH)) is FIRST
    assert choose(halted=(OTHER_FAMILY,)) is SECOND


def test_one_that_is_retired_is_left_out_as_if_it_were_not_there() -> None:
    retired = dataclasses.replace(SECOND, retired=True)
    assert choose((retired, TENTH, FIRST)) is TENTH
    with pytest.raises(Unavailable) as none:
        choose((retired,))
    assert none.value.code == "no-authority"
    # Nor does it wait for an order: it would not issue if it were resumed.
    with pytest.raises(Unavailable) as halted:
        choose((retired,), halted=(SECOND,))
    assert halted.value.code == "no-authority"


SHORT = dataclasses.replace(FIRST, not_after=NOW + 50 * DAY)


@pytest.mark.parametrize(
    "changes",
    [
        {"halted": (SECOND, TENTH, FIRST)},
        {"halted": EVERY},
        # The other one would not outlive the certificate: no reason to refuse it.
        {"authorities": (SHORT, SECOND), "not_after": SECOND.not_after, "halted": (SECOND,)},
        {"issued": {TENTH.name: FULL, FIRST.name: FULL}, "halted": (SECOND,)},
    ],
)
def test_what_only_a_halted_one_can_do_waits(changes: dict[str, Any]) -> None:
    with pytest.raises(Unavailable, match=f"{SECOND.name} is halted by an order") as halted:
        choose(**changes)
    assert halted.value.code == "authority-halted"


def test_each_idle_sub_ca_has_its_own_reason() -> None:
    away = Idle(code="key-away", why="cannot use its key now", retry_after_s=15)
    with pytest.raises(Unavailable, match=f"^the sub-CA {SECOND.name} cannot use its key now, and no other") as waits:
        choose_authority(
            [SECOND, FIRST],
            family="unassured",
            signer_id=1,
            now=NOW,
            not_after=NOW + 90 * DAY,
            issued={},
            idle={SECOND.name: away, FIRST.name: HALTED_BY_ORDER},
        )
    assert (waits.value.code, waits.value.retry_after_s) == ("key-away", 15)


def test_an_order_is_named_before_whatever_else_keeps_a_sub_ca() -> None:
    away = Idle(code="key-away", why="cannot use its key now")
    standing = Standing(halted_authorities=frozenset({"a"}), idle_authorities={"a": away, "b": away})
    assert standing.idle == {"a": HALTED_BY_ORDER, "b": away}


def test_what_not_even_a_halted_one_can_do_is_told_as_before() -> None:
    with pytest.raises(Refused) as refusal:
        choose(not_after=NEXT.not_after + dt.timedelta(seconds=1), halted=(NEXT,))
    assert refusal.value.code == "validity-beyond-authority"
