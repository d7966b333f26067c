"""DER by hand agrees with the library's, and refuses what only BER allows."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography.hazmat import asn1

from cassiopeia.core import der
from cassiopeia.errors import InternalError, PeerError


@pytest.mark.parametrize("length", [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000])
def test_encodes_octet_strings_as_the_library_does(length: int) -> None:
    octets = bytes(length)
    assert der.encode(der.OCTET_STRING, octets) == asn1.encode_der(octets)
    assert der.content(asn1.encode_der(octets), der.OCTET_STRING) == octets


def test_joins_parts() -> None:
    assert der.encode(der.SEQUENCE, b"\x05\x00", b"", b"\x02\x01\x07") == bytes.fromhex("30050500020107")


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param("", id="empty"),
        pytest.param("30", id="no-length"),
        pytest.param("3001", id="content-cut-short"),
        pytest.param("3082", id="length-cut-away"),
        pytest.param("308201", id="length-cut-short"),
        pytest.param("3080020101" + "0000", id="indefinite-length"),
        pytest.param("308100", id="long-form-of-a-short-length"),
        pytest.param("3082007f" + "00" * 0x7F, id="length-with-a-leading-zero"),
        pytest.param("30850000000001", id="length-in-five-octets"),
        pytest.param("308501000000", id="length-in-five-octets-cut-short"),
        pytest.param("1f0100", id="tag-in-two-octets"),
    ],
)
def test_refuses_what_is_not_der(octets: str) -> None:
    with pytest.raises(PeerError):
        der.read(bytes.fromhex(octets))


def test_content_refuses_another_tag_and_trailing_octets() -> None:
    with pytest.raises(PeerError, match="tag 31"):
        der.content(bytes.fromhex("3100"), der.SEQUENCE)
    with pytest.raises(PeerError):
        der.content(bytes.fromhex("300000"), der.SEQUENCE)


def test_elements_are_bounded() -> None:
    octets = bytes.fromhex("0500020101")
    assert der.elements(octets, at_most=2) == [(5, b"\x05\x00"), (2, b"\x02\x01\x01")]
    with pytest.raises(PeerError, match="more than 1"):
        der.elements(octets, at_most=1)


def test_a_signed_thing_is_split_into_what_it_was_made_of() -> None:
    tbs, algorithm = bytes.fromhex("3003020101"), bytes.fromhex("300506032b6570")
    assert der.split_signed(der.encode_signed(tbs, algorithm, b"signature")) == (tbs, algorithm, b"signature")


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param("300a3003020101300003020001", id="trailing"),
        pytest.param("300430003000", id="no-signature"),
        pytest.param("30083000300003020180", id="half-octet"),
        pytest.param("3006300030000300", id="empty-bit-string"),
        pytest.param("30073000300004010000", id="octet-string-for-bit-string"),
    ],
)
def test_refuses_to_split_what_is_not_signed(octets: str) -> None:
    with pytest.raises(PeerError):
        der.split_signed(bytes.fromhex(octets))


@pytest.mark.parametrize(
    ("moment", "octets"),
    [
        ("2049-12-31T23:59:59+00:00", "170d3439313233313233353935395a"),
        ("2050-01-01T00:00:00+00:00", "180f32303530303130313030303030305a"),
        ("1950-01-01T00:00:00+00:00", "170d3530303130313030303030305a"),
        ("1949-12-31T23:59:59+00:00", "180f31393439313233313233353935395a"),
        ("2026-01-01T00:30:00.999999+01:00", "170d3235313233313233333030305a"),
    ],
)
def test_times_are_utc_time_through_2049(moment: str, octets: str) -> None:
    moment_ = dt.datetime.fromisoformat(moment)
    time = der.time(moment_)
    assert asn1.encode_der(time).hex() == octets
    assert der.moment(time) == moment_.replace(microsecond=0)


def test_generalized_time_has_no_fractions() -> None:
    moment = dt.datetime(2026, 5, 4, 3, 2, 1, 500000, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert der.generalized_time(moment) == b"\x18\x0f20260504010201Z"


@pytest.mark.parametrize(
    "time",
    [
        asn1.GeneralizedTime(dt.datetime(2049, 12, 31, tzinfo=dt.UTC)),
        asn1.GeneralizedTime(dt.datetime(2050, 1, 1, 0, 0, 0, 500000, tzinfo=dt.UTC)),
    ],
    ids=["generalized-too-early", "fractions"],
)
def test_refuses_a_time_in_another_form(time: asn1.GeneralizedTime) -> None:
    with pytest.raises(PeerError, match="RFC 5280"):
        der.moment(time)


@pytest.mark.parametrize("encode", [der.time, der.generalized_time])
def test_a_time_without_a_zone_is_our_own_bug(encode: object) -> None:
    with pytest.raises(InternalError):
        encode(dt.datetime(2026, 1, 1))  # type: ignore[operator] # noqa: DTZ001 - the fault
