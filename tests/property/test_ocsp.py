"""Whatever octets come, they are a request or none; whatever is answered, the library reads the same of it."""

from __future__ import annotations

import contextlib
import datetime as dt

from cryptography.x509 import ocsp as library
from hypothesis import given
from hypothesis import strategies as st
from tests.support.authorities import NOW
from tests.support.ocsp_requests import HASHES, asked

from cassiopeia.core import crl, ocsp
from cassiopeia.core.ocsp import SingleResponse
from cassiopeia.errors import PeerError

serials = st.integers(0, (1 << 159) - 1)
seconds = st.integers(0, 3_000_000_000).map(lambda each: dt.datetime.fromtimestamp(each, dt.UTC))
statuses = st.one_of(
    st.just((ocsp.GOOD, "GOOD", None)),
    st.just((ocsp.UNKNOWN, "UNKNOWN", None)),
    st.tuples(seconds, st.sampled_from([None, *crl.REASONS])).map(
        lambda each: (ocsp.revoked(*each), "REVOKED", each[0])
    ),
)


@given(st.binary(max_size=300))
def test_any_octets_are_a_request_or_none(octets: bytes) -> None:
    with contextlib.suppress(PeerError):
        assert ocsp.read_request(octets).cert_ids


@given(serials, st.sampled_from(sorted(HASHES)), st.binary(max_size=40), st.data())
def test_a_changed_request_is_a_request_or_none(serial: int, name: str, nonce: bytes, data: st.DataObject) -> None:
    octets = bytearray(asked(serial, name=name, nonce=nonce))
    place = data.draw(st.integers(0, len(octets) - 1))
    octets[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PeerError):
        assert ocsp.read_request(bytes(octets)).cert_ids


@given(serials, st.sampled_from(sorted(HASHES)), st.binary(max_size=32))
def test_what_was_asked_is_understood(serial: int, name: str, nonce: bytes) -> None:
    read = ocsp.read_request(asked(serial, name=name, nonce=nonce))

    assert [each.serial_number for each in read.cert_ids] == [serial]
    assert (read.cert_ids[0].hash_name, read.nonce) == (name, nonce)


@given(st.lists(st.tuples(serials, statuses), min_size=1, max_size=5), seconds, st.binary(max_size=32))
def test_what_is_answered_is_read_so_by_the_library(
    answers: list[tuple[int, tuple[bytes, str, dt.datetime | None]]], this_update: dt.datetime, nonce: bytes
) -> None:
    tbs = ocsp.assemble_tbs_response(
        responder=b"r" * 20,
        produced_at=NOW,
        responses=[
            SingleResponse(
                cert_id=ocsp.read_request(asked(serial)).cert_ids[0],
                status=status,
                this_update=this_update,
                next_update=this_update + dt.timedelta(hours=1),
            )
            for serial, (status, _, _) in answers
        ],
        nonce=nonce,
    )
    read = library.load_der_ocsp_response(
        ocsp.compose_response(tbs, algorithm=bytes.fromhex("300506032b6570"), signature=b"s" * 64, certificates=[])
    )

    said = [(each.serial_number, each.certificate_status.name, each.revocation_time_utc) for each in read.responses]
    assert said == [(serial, name, date) for serial, (_, name, date) in answers]
    assert {each.this_update_utc for each in read.responses} == {this_update}
    assert bool(list(read.extensions)) == bool(nonce)
