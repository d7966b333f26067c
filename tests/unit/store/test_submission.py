from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authorities import attributes, certification_request, server_request
from tests.support.store import NOW, lease_sign, request_id

from cassiopeia.core.request import CertificateRequest, SubjectAltName
from cassiopeia.errors import Refused
from cassiopeia.store.database import Store
from cassiopeia.store.records import RequestRecord
from cassiopeia.store.submission import submit

ID = request_id(1)


def pem() -> bytes:
    return x509.load_der_x509_csr(certification_request()).public_bytes(Encoding.PEM)


def alt_names(*names: tuple[str, str]) -> tuple[SubjectAltName, ...]:
    return tuple(SubjectAltName(type=each, value=value) for each, value in names)


def hand_in(store: Store, **changes: Any) -> RequestRecord:
    return submit(store, server_request(**changes), request_id=ID, now=NOW)


def test_what_a_person_types_becomes_what_a_certificate_holds(store: Store) -> None:
    record = hand_in(
        store,
        key_proof=pem(),
        attributes=attributes(CN="Zoë", EMAIL="zoe@Bücher.example"),
        alt_names=alt_names(
            ("DNS", "WWW.Bücher.Example"),
            ("email", "zoe@BÜCHER.example"),
            ("IP", "2001:DB8:0:0::1"),
            ("IP", "192.0.2.1"),
        ),
    )
    assert record.state == "queued"
    assert record.request.key_proof == certification_request()
    assert record.request.request_id == ID
    assert record.request.attributes == attributes(CN="Zoë", EMAIL="zoe@xn--bcher-kva.example")
    assert record.request.alt_names == alt_names(
        ("DNS", "www.xn--bcher-kva.example"),
        ("email", "zoe@xn--bcher-kva.example"),
        ("IP", "2001:db8::1"),
        ("IP", "192.0.2.1"),
    )
    assert [job.request for job in lease_sign(store)] == [record.request]


def test_nothing_is_judged_that_the_signer_judges(store: Store) -> None:
    """An unknown profile, a wish for yesterday, a weak hash: the signer will say so."""
    record = hand_in(store, profile="none", wish_from="1999-01-01", signature_hash="md5")
    assert record.state == "queued"


def test_the_same_again_is_the_same(store: Store) -> None:
    assert hand_in(store) == hand_in(store)
    assert len(lease_sign(store)) == 1


def test_another_under_the_same_id_is_not_kept(store: Store) -> None:
    first = hand_in(store)
    with pytest.raises(Refused) as caught:
        hand_in(store, account="mallory")
    assert caught.value.code == "request-id-taken"
    assert store.requests.find(ID) == first


@pytest.mark.parametrize("identifier", [b"", b"short", b"x" * 33])
def test_an_id_that_is_none_is_not_kept(store: Store, identifier: bytes) -> None:
    with pytest.raises(Refused) as caught:
        submit(store, server_request(), request_id=identifier, now=NOW)
    assert caught.value.code.startswith("request-id")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key_proof": b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"}, "private-key-sent"),
        ({"key_proof": b""}, "request-empty"),
        ({"alt_names": alt_names(("DNS", "b\u0430nk.example"))}, "mixed-scripts"),  # a Cyrillic letter
        ({"alt_names": alt_names(("IP", "192.0.2.256"))}, "ip-invalid"),
        ({"attributes": attributes(EMAIL="nobody")}, "email-invalid"),
        ({"account": "a\0b"}, "text-invalid"),
        ({"account": "a" * 300}, "text-too-long"),
    ],
)
def test_what_cannot_be_written_down_is_kept_as_refused(store: Store, changes: dict[str, Any], code: str) -> None:
    record = hand_in(store, **changes)
    assert record.state == "refused"
    assert record.refusal_code == code
    assert record.refusal_message
    assert store.requests.find(ID) == record
    assert lease_sign(store) == []


def test_a_private_key_that_was_sent_by_mistake_is_not_kept(store: Store) -> None:
    secret = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
    record = hand_in(store, key_proof=secret)
    assert record.request.key_proof == b""
    assert "c2VjcmV0" not in repr(record)


def test_a_refused_id_is_used_up(store: Store) -> None:
    refused = hand_in(store, key_proof=b"no key")
    with pytest.raises(Refused) as caught:
        hand_in(store)
    assert caught.value.code == "request-id-taken"
    assert store.requests.find(ID) == refused


def test_a_spkac_becomes_der(store: Store) -> None:
    spkac = bytes.fromhex("3003020100")
    text = b"SPKAC=MAMCAQA="
    record = hand_in(store, key_kind="spkac", key_proof=text)
    assert (record.state, record.request.key_proof) == ("queued", spkac)
    assert isinstance(record.request, CertificateRequest)
