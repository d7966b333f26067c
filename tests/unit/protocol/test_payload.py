from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib

import pytest
from cryptography.hazmat import asn1
from tests.support.conversations import NOW, REVOKED_ANSWER, RSA_WITH_SHA256, certificate_request

from cassiopeia.core.request import request_digest
from cassiopeia.errors import PeerError
from cassiopeia.protocol import payload, structure

UTC_NOW = bytes.fromhex("170d3236313132333038333231335a")
UTC_NEXT = bytes.fromhex("170d3236313230333038333231335a")
BITS = bytes.fromhex("030200 73")
FIXED = RSA_WITH_SHA256 + BITS + UTC_NOW + UTC_NEXT


def entry() -> bytes:
    request = certificate_request()
    return payload.encode_log_entry(
        request,
        request_id=request.request_id,
        request_digest=request_digest(request),
        signer_id=1,
        boot_id=b"b" * 16,
        index=9,
        previous_hash=b"p" * 32,
        time=NOW,
        configuration_hash=b"c" * 32,
        signing_ca="unassured_2026_2",
        tbs_certificate=b"tbs",
    )


class TestLogEntry:
    def test_it_holds_the_whole_request_and_the_decision(self) -> None:
        request, decoded = certificate_request(), payload.decode_log_entry(entry())
        shared = [each.name for each in dataclasses.fields(request) if each.name in payload.LogEntry.__slots__]
        assert len(shared) == len(dataclasses.fields(request))
        assert {name: getattr(decoded, name) for name in shared} == {name: getattr(request, name) for name in shared}
        assert (decoded.version, decoded.index, decoded.time, decoded.signing_ca, decoded.tbs_certificate) == (
            1,
            9,
            NOW,
            "unassured_2026_2",
            b"tbs",
        )

    def test_its_octets_never_change(self) -> None:
        # logSaved carries this hash, and the journal keeps it: an entry of version 1 is encoded so for ever.
        expected = "0c06da47475afd9e92975487472c1b8a7eff228cc0b5db8bf5af1a6e760f875c"
        assert hashlib.sha256(entry()).hexdigest() == expected

    def test_another_version_is_a_peer_error(self) -> None:
        other = structure.encode(dataclasses.replace(payload.decode_log_entry(entry()), version=2))
        with pytest.raises(PeerError, match="version 2"):
            payload.decode_log_entry(other)

    def test_an_unknown_extension_is_carried_along(self) -> None:
        extended = dataclasses.replace(
            payload.decode_log_entry(entry()), extensions=(payload.Extension(id=99, value=b"later"),)
        )
        assert payload.decode_log_entry(structure.encode(extended)) == extended


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
