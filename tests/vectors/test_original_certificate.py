"""A certificate of the original signer, as `sign.records.txt` of the recorded legacy session carries it.

Origin: recorded on 2026-11-23 from the original C++ signer (2017 sources) answering its own client; test data. It has a
serial number of 21 octets, and its last instant is the end itself instead of the second before.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.authorities import alt_names, attributes, default_authority

from cassiopeia.core.certificate import check_tbs, read_tbs
from cassiopeia.core.request import CertificateRequest
from cassiopeia.errors import PeerError

CERTIFICATE = x509.load_pem_x509_certificate((Path(__file__).parent / "original" / "certificate.pem").read_bytes())
TBS = CERTIFICATE.tbs_certificate_bytes
SPKI = CERTIFICATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
AUTHORITY = dataclasses.replace(default_authority(), subject=CERTIFICATE.issuer.public_bytes())
# What the original client sent for it.
REQUEST = CertificateRequest(
    key_kind="csr",
    key_proof=b"",
    profile="0004-server",
    signature_hash="sha256",
    wish_to="6m",
    attributes=attributes(CN="Test Cert 2", EMAIL="a2@example.org"),
    alt_names=alt_names("DNS,www2.example.org", "email,a2@example.org"),
)


def test_our_client_takes_it() -> None:
    checked = check_tbs(TBS, request=REQUEST, subject_public_key_info=SPKI, authority=AUTHORITY).says
    assert checked.serial_number == 0x0200000004B7146DBE4CC5B938E7073E75A82323AA
    assert checked.algorithm.name == "sha256WithRSAEncryption"
    assert checked.not_before == dt.datetime(2026, 11, 23, 8, 32, 13, tzinfo=dt.UTC)
    assert checked.not_after == dt.datetime(2027, 5, 23, 8, 32, 13, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "changes",
    [
        {"attributes": attributes(CN="Test Cert 2")},
        {"alt_names": alt_names("DNS,www2.example.org")},
        {"wish_to": "5m"},
        {"wish_from": "2026-11-24"},
    ],
)
def test_our_client_sees_what_was_not_asked_for(changes: dict[str, object]) -> None:
    request = dataclasses.replace(REQUEST, **changes)  # type: ignore[arg-type] # a table of changes
    with pytest.raises(PeerError):
        check_tbs(TBS, request=request, subject_public_key_info=SPKI, authority=AUTHORITY)


def test_its_extensions_are_those_we_know() -> None:
    assert len(read_tbs(TBS).extensions) == 8
