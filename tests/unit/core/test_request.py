from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from typing import Any

import pytest
from tests.support.conversations import NOW, REVOCATION_REQUEST, certificate_request

from cassiopeia.core import der
from cassiopeia.core.request import (
    Revocation,
    SubjectAltName,
    SubjectAttribute,
    request_digest,
    revocation_digest,
)

FIRST, SECOND = REVOCATION_REQUEST.revocations


def text(value: str) -> bytes:
    """DER of a UTF8String."""
    return der.encode(0x0C, value.encode())


class TestRequestDigest:
    def test_it_is_that_of_the_der_in_the_wire_specification(self) -> None:
        common_name = der.encode(der.SEQUENCE, text("CN"), text("a, b"))
        organisation = der.encode(der.SEQUENCE, text("O"), text("Übung"))
        host = der.encode(der.SEQUENCE, text("DNS"), text("www.example.org"))
        octets = der.encode(
            der.SEQUENCE,
            text("csr"),
            der.encode(der.OCTET_STRING, bytes.fromhex("3003020100")),
            text("9004-unproved-server"),
            text(""),
            text("account-1"),
            text("sha256"),
            text("2026-11-24"),
            text("6m"),
            der.encode(der.SEQUENCE, common_name, organisation),
            der.encode(der.SEQUENCE, host),
        )
        assert request_digest(certificate_request()) == hashlib.sha256(octets).digest()

    @pytest.mark.parametrize("changes", [{"request_id": b"o" * 32}, {"proofs": ()}])
    def test_neither_id_nor_proofs_count(self, changes: dict[str, Any]) -> None:
        assert request_digest(certificate_request(**changes)) == request_digest(certificate_request())

    @pytest.mark.parametrize(
        "changes",
        [
            {"key_kind": "spkac"},
            {"key_proof": b"another key"},
            {"profile": "9003-unproved-client"},
            {"account": ""},
            {"signature_hash": "sha384"},
            {"wish_from": ""},
            {"wish_to": "1y"},
            {"attributes": ()},
            {"attributes": (SubjectAttribute(type="O", value="Übung"), SubjectAttribute(type="CN", value="a, b"))},
            {"alt_names": (SubjectAltName(type="email", value="www.example.org"),)},
            {"ocsp_target_ca": "unassured_2026_2"},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_everything_else_does(self, changes: dict[str, Any]) -> None:
        assert request_digest(certificate_request(**changes)) != request_digest(certificate_request())


class TestRevocationDigest:
    def test_it_is_that_of_the_der_in_the_wire_specification(self) -> None:
        first = der.encode(der.SEQUENCE, b"\x02\x01\x20", b"\x02\x01\x00", text(""))
        second = der.encode(der.SEQUENCE, b"\x02\x01\x21", b"\x02\x01\x01", text("2026-11-23T08:32:13+00:00"))
        octets = der.encode(der.SEQUENCE, text("unassured_2026_2"), der.encode(der.SEQUENCE, first, second))
        assert revocation_digest(REVOCATION_REQUEST) == hashlib.sha256(octets).digest()

    @pytest.mark.parametrize(
        "changes",
        [
            {"request_id": b""},
            {"crl_number": 8},
            {"tbs_hash": b""},
            {"revocations": (dataclasses.replace(FIRST, reason=0), SECOND)},
        ],
        ids=["id", "number of the client's CRL", "its hash", "no reason is unspecified"],
    )
    def test_what_does_not_count(self, changes: dict[str, Any]) -> None:
        assert revocation_digest(dataclasses.replace(REVOCATION_REQUEST, **changes)) == revocation_digest(
            REVOCATION_REQUEST
        )

    @pytest.mark.parametrize(
        "changes",
        [
            {"signing_ca": "unassured_2026_1"},
            {"revocations": ()},
            {"revocations": (FIRST,)},
            {"revocations": (SECOND, FIRST)},
            {"revocations": (FIRST, Revocation(serial_number=0x22, reason=1, invalidity_date=NOW))},
            {"revocations": (FIRST, dataclasses.replace(SECOND, reason=4))},
            {"revocations": (FIRST, dataclasses.replace(SECOND, invalidity_date=None))},
            {"revocations": (FIRST, dataclasses.replace(SECOND, invalidity_date=NOW + dt.timedelta(seconds=1)))},
        ],
        ids=["sub-CA", "none", "one", "order", "serial", "reason", "no date", "date"],
    )
    def test_what_counts(self, changes: dict[str, Any]) -> None:
        other = dataclasses.replace(REVOCATION_REQUEST, **changes)
        assert revocation_digest(other) != revocation_digest(REVOCATION_REQUEST)
