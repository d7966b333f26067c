"""Revocation lists: reading gives back what was assembled, patching in any steps gives the same octets."""

from __future__ import annotations

import datetime as dt
import itertools

from cryptography import x509
from cryptography.x509.oid import CRLEntryExtensionOID
from hypothesis import given
from hypothesis import strategies as st
from tests.support.authorities import NOW, default_authority, p256_key, sign

from cassiopeia.core import algorithms, crl
from cassiopeia.core.request import Revocation
from cassiopeia.errors import PeerError

AUTHORITY = default_authority()
ALGORITHM = algorithms.choose_algorithm(AUTHORITY.public_key, "")
MOMENTS = st.datetimes(
    min_value=dt.datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=dt.datetime(2099, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    timezones=st.just(dt.UTC),
)


@st.composite
def revocations(draw: st.DrawFn) -> tuple[Revocation, dt.datetime]:
    date = draw(MOMENTS)
    age = draw(st.none() | st.timedeltas(min_value=dt.timedelta(), max_value=dt.timedelta(days=20_000)))
    revocation = Revocation(
        serial_number=draw(st.integers(1, (1 << 127) - 1)),
        reason=draw(st.none() | st.sampled_from([0, *crl.REASONS])),
        invalidity_date=None if age is None else date - age,
    )
    return revocation, date


def tbs_crl(listed: bytes, number: int, this_update: dt.datetime) -> bytes:
    return crl.assemble_tbs_crl(
        issuer=AUTHORITY.subject,
        algorithm=ALGORITHM,
        this_update=this_update,
        next_update=this_update + dt.timedelta(days=10),
        entries=listed,
        crl_number=number,
        authority_key_identifier=AUTHORITY.key_identifier,
    )


@given(st.lists(revocations(), max_size=6), st.integers(1, 1 << 64), MOMENTS)
def test_reading_gives_back_what_was_assembled(
    revoked: list[tuple[Revocation, dt.datetime]], number: int, this_update: dt.datetime
) -> None:
    listed = b"".join(crl.encode_revocation(each, date) for each, date in revoked)
    tbs = tbs_crl(listed, number, this_update)
    octets = crl.compose_crl(tbs, sign(p256_key(), ALGORITHM, tbs))
    read = crl.check_crl(octets, authority=AUTHORITY)
    assert (read.entries, read.number, read.tbs) == (listed, number, tbs)
    assert read.this_update == this_update.replace(microsecond=0)
    assert read.next_update - read.this_update == dt.timedelta(days=10)
    serials = [each.serial_number for each, _ in revoked]
    assert list(crl.entry_serials(read.entries)) == serials
    library = list(x509.load_der_x509_crl(octets))
    assert [each.serial_number for each in library] == serials
    for (revocation, date), theirs in zip(revoked, library, strict=True):
        assert theirs.revocation_date_utc == date.replace(microsecond=0)
        extensions = {each.oid for each in theirs.extensions}
        assert (CRLEntryExtensionOID.CRL_REASON in extensions) == (revocation.reason not in (None, 0))
        assert (CRLEntryExtensionOID.INVALIDITY_DATE in extensions) == (revocation.invalidity_date is not None)


@given(st.lists(revocations(), min_size=1, max_size=8), st.lists(st.integers(0, 8), max_size=4))
def test_patching_in_any_steps_gives_the_same_octets(
    revoked: list[tuple[Revocation, dt.datetime]], cuts: list[int]
) -> None:
    listed = [crl.encode_revocation(each, date) for each, date in revoked]
    places = [0, *sorted(min(cut, len(listed)) for cut in cuts), len(listed)]
    copy: crl.Crl | None = None
    for number, (begin, end) in enumerate(itertools.pairwise(places), start=1):
        tbs = tbs_crl(b"".join(listed[:end]), number, NOW)
        signature = sign(p256_key(), ALGORITHM, tbs)
        patched = crl.patch(
            copy,
            authority=AUTHORITY,
            algorithm_der=ALGORITHM.der,
            this_update=NOW,
            next_update=NOW + dt.timedelta(days=10),
            crl_number=number,
            new_entries=b"".join(listed[begin:end]),
            signature=signature,
        )
        copy = crl.read_crl(crl.compose_crl(tbs, signature))
        assert patched == copy
    assert copy is not None
    assert copy.entries == b"".join(listed)


GOOD = crl.compose_crl(
    tbs_crl(crl.encode_revocation(Revocation(serial_number=5, reason=1, invalidity_date=NOW), NOW), 7, NOW), b"\x30\x00"
)


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_a_damaged_crl_is_a_value_or_a_peer_error(place: int, inserted: bytes, removed: int) -> None:
    octets = GOOD[:place] + inserted + GOOD[place + removed :]
    try:
        read = crl.read_crl(octets)
        list(crl.entry_serials(read.entries))
    except PeerError:
        return
    assert crl.compose_crl(read.tbs, read.signature) == octets


@given(st.binary(max_size=200))
def test_any_octets_as_entries_are_serial_numbers_or_a_peer_error(octets: bytes) -> None:
    try:
        serials = list(crl.entry_serials(octets))
    except PeerError:
        return
    assert len(serials) <= len(octets)
