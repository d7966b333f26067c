from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from cryptography.hazmat import asn1
from tests.support.conversations import HEAD, ISSUED, NOW, REVOKED_ANSWER, RSA_WITH_SHA256, TIMESTAMP

from cassiopeia.core import structure
from cassiopeia.errors import PeerError
from cassiopeia.protocol import payload

UTC_NOW = bytes.fromhex("170d3236313132333038333231335a")
UTC_NEXT = bytes.fromhex("170d3236313230333038333231335a")
BITS = bytes.fromhex("030200 73")
FIXED = RSA_WITH_SHA256 + BITS + UTC_NOW + UTC_NEXT


class TestPacking:
    """How logs and entries travel: plain, or deflated where the other side can and something is gained."""

    KNOWN = bytes(range(256))

    def test_octets_that_both_sides_have_do_not_travel(self) -> None:
        encoding, octets = payload.pack(self.KNOWN + b"new", self.KNOWN, deflate=True)
        assert encoding == payload.DEFLATED
        assert len(octets) < 30
        assert payload.unpack(encoding, octets, self.KNOWN, limit=1000) == self.KNOWN + b"new"

    @pytest.mark.parametrize(("octets", "deflate"), [(bytes(1000), False), (b"", True), (bytes(range(256)), True)])
    def test_octets_are_plain_where_deflating_is_not_wanted_or_gains_nothing(
        self, octets: bytes, *, deflate: bool
    ) -> None:
        assert payload.pack(octets, b"", deflate=deflate) == (payload.PLAIN, octets)
        assert payload.unpack(payload.PLAIN, octets, b"unused", limit=0) == octets

    @pytest.mark.parametrize("encoding", [2, 255, (1 << 168) - 1])
    def test_an_unknown_encoding_is_a_peer_error(self, encoding: int) -> None:
        with pytest.raises(PeerError, match=f"unknown way {encoding}$"):
            payload.unpack(encoding, b"", b"", limit=1000)

    def test_a_bomb_is_a_peer_error(self) -> None:
        _, octets = payload.pack(bytes(1 << 20), b"", deflate=True)
        assert len(octets) < 2000
        with pytest.raises(PeerError, match="more than 1000"):
            payload.unpack(payload.DEFLATED, octets, b"", limit=1000)


def test_an_unknown_extension_is_carried_along() -> None:
    extended = dataclasses.replace(ISSUED, extensions=(payload.Extension(id=99, value=b"later"),))
    assert structure.decode(payload.Issued, structure.encode(extended)) == extended


@pytest.mark.parametrize("index", [None, 1, (1 << 168) - 1])
@pytest.mark.parametrize("head", [None, b"", HEAD])
def test_an_abandonment_says_where_it_stands_or_that_there_was_no_intent(index: int | None, head: bytes | None) -> None:
    value = payload.Abandoned(index=index, head=head)
    assert structure.decode(payload.Abandoned, structure.encode(value)) == value


def test_a_timestamp_without_its_signature_is_what_is_signed() -> None:
    unsigned = dataclasses.replace(TIMESTAMP, signature=None)
    octets = structure.encode(unsigned)
    assert structure.decode(payload.Timestamp, octets) == unsigned
    assert structure.encode(TIMESTAMP).endswith(octets[2:] + b"\x80\x40" + b"s" * 64)


class TestRevoked:
    def test_version_1_is_date_algorithm_signature_and_two_times(self) -> None:
        answer = payload.RevokedAnswer(
            date=NOW,
            algorithm=RSA_WITH_SHA256,
            signature=b"s",
            this_update=NOW,
            next_update=NOW + dt.timedelta(days=10),
        )
        assert payload.encode_revoked(answer, version=1) == UTC_NOW + FIXED
        assert payload.decode_revoked(UTC_NOW + FIXED, version=1) == answer

    @pytest.mark.parametrize("date", [None, NOW])
    @pytest.mark.parametrize("entries", [b"", REVOKED_ANSWER.entries])
    def test_version_2_adds_number_and_entries(self, date: dt.datetime | None, entries: bytes) -> None:
        answer = dataclasses.replace(REVOKED_ANSWER, date=date, entries=entries)
        octets = payload.encode_revoked(answer, version=2)
        assert octets.endswith(b"\x02\x01\x08" + entries)
        assert payload.decode_revoked(octets, version=2) == answer

    def test_dates_from_2050_on_are_generalized_times(self) -> None:
        answer = dataclasses.replace(REVOKED_ANSWER, next_update=dt.datetime(2050, 1, 1, tzinfo=dt.UTC))
        octets = payload.encode_revoked(answer, version=2)
        assert b"\x18\x0f20500101000000Z" in octets
        assert payload.decode_revoked(octets, version=2) == answer

    @pytest.mark.parametrize(
        "broken",
        [
            b"",
            FIXED[:-1],
            FIXED + b"\x02\x01\x01",
            UTC_NOW + UTC_NOW + FIXED,
            BITS + FIXED,
            RSA_WITH_SHA256 + RSA_WITH_SHA256 + UTC_NOW + UTC_NEXT,
            RSA_WITH_SHA256 + bytes.fromhex("03020174") + UTC_NOW + UTC_NEXT,
            RSA_WITH_SHA256 + bytes.fromhex("0300") + UTC_NOW + UTC_NEXT,
            RSA_WITH_SHA256 + BITS + UTC_NOW + asn1.encode_der(5),
            RSA_WITH_SHA256 + BITS + UTC_NOW + b"\x18\x0f20260101000000Z",
            RSA_WITH_SHA256 + BITS + UTC_NOW,
        ],
    )
    def test_anything_else_in_version_1_is_a_peer_error(self, broken: bytes) -> None:
        with pytest.raises(PeerError):
            payload.decode_revoked(broken, version=1)

    @pytest.mark.parametrize("number", [b"", b"\x02\x00", b"\x02\x01\xff", asn1.encode_der(1 << 168), BITS])
    def test_a_crl_number_that_is_none_is_a_peer_error(self, number: bytes) -> None:
        with pytest.raises(PeerError):
            payload.decode_revoked(FIXED + number, version=2)


class TestPem:
    @pytest.mark.parametrize("length", [0, 1, 47, 48, 49, 1000])
    def test_octets_come_back(self, length: int) -> None:
        octets = bytes(range(256)) * 4
        pem = payload.encode_pem("X509 CRL", octets[:length])
        assert max(map(len, pem.splitlines())) <= 64
        assert payload.decode_pem("X509 CRL", pem) == octets[:length]

    def test_it_may_come_from_another_system(self) -> None:
        pem = b"-----BEGIN X509 CRL-----\r\nQUJD\r\nREVG\r\n-----END X509 CRL-----\r\n"
        assert payload.decode_pem("X509 CRL", pem) == b"ABCDEF"

    @pytest.mark.parametrize(
        "broken",
        [
            b"",
            b"QUJD",
            b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n",
            b"-----BEGIN X509 CRL-----\nQUJD\n-----END CERTIFICATE-----\n",
            b"-----BEGIN X509 CRL-----\nQUJ\n-----END X509 CRL-----\n",
            b"-----BEGIN X509 CRL-----\nQU=D\n-----END X509 CRL-----\n",
            b"-----BEGIN X509 CRL-----\nQ*JD\n-----END X509 CRL-----\n",
            b"before\n" + payload.encode_pem("X509 CRL", b"ABC"),
            payload.encode_pem("X509 CRL", b"ABC") * 2,
        ],
    )
    def test_anything_else_is_a_peer_error(self, broken: bytes) -> None:
        with pytest.raises(PeerError):
            payload.decode_pem("X509 CRL", broken)
