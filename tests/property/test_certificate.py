"""Certificates: whatever is asked for and approved passes the client's check; whatever is damaged does not crash it."""

from __future__ import annotations

import contextlib
import dataclasses

from hypothesis import given
from hypothesis import strategies as st
from tests.support.authorities import (
    approve,
    attributes,
    default_authority,
    load_profile,
    p256_key,
    server_request,
    sign,
    subject_public_key_info,
)

from cassiopeia.core.certificate import assemble_tbs, check_certificate, check_tbs, compose_certificate, read_tbs
from cassiopeia.core.profile import ALT_NAME_TYPES, SUBJECT_TYPES, Presence
from cassiopeia.core.request import SubjectAltName
from cassiopeia.errors import PeerError

ANYTHING = dataclasses.replace(
    load_profile("9001-unproved-client"),
    subject=tuple((each, Presence.OPTIONAL) for each in SUBJECT_TYPES),
    alt_names=tuple((each, Presence.OPTIONAL) for each in ALT_NAME_TYPES),
    extended_key_usage=("1.3.6.1.5.5.7.3.2",),
    allow_wildcard=True,
    maximum_alt_names=20,
)
LABELS = st.from_regex(r"[a-z]([a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
DOMAINS = st.lists(LABELS, min_size=2, max_size=4).map(".".join)
ALT_NAMES = st.one_of(
    st.builds(SubjectAltName, type=st.just("DNS"), value=DOMAINS),
    st.builds(SubjectAltName, type=st.just("DNS"), value=DOMAINS.map("*.{}".format)),
    st.builds(SubjectAltName, type=st.just("email"), value=DOMAINS.map("ada@{}".format)),
    st.builds(SubjectAltName, type=st.just("URI"), value=DOMAINS.map("https://{}/a".format)),
    st.builds(SubjectAltName, type=st.just("IP"), value=st.integers(1, 254).map("192.0.2.{}".format)),
)
TEXTS = st.text(alphabet="abcäöüßéñ ЖЗ東京-.'", min_size=1, max_size=20).map(str.strip).filter(bool)


@given(
    st.dictionaries(st.sampled_from(("O", "L", "ST", "CN", "OU")), TEXTS),
    st.lists(ALT_NAMES, unique=True, min_size=1, max_size=8),
)
def test_what_was_approved_passes_the_check(subject: dict[str, str], alt_names: list[SubjectAltName]) -> None:
    request = server_request(profile=ANYTHING.name, attributes=attributes(**subject), alt_names=tuple(alt_names))
    approved = approve(request, profile=ANYTHING)
    tbs = assemble_tbs(approved)
    octets = compose_certificate(tbs, sign(p256_key(), approved.algorithm, tbs))
    checked = check_certificate(
        octets,
        authority=default_authority(),
        request=request,
        subject_public_key_info=subject_public_key_info(request),
    )
    assert checked.serial_number == approved.serial_number


REQUEST = server_request()
KEY = subject_public_key_info(REQUEST)
GOOD = assemble_tbs(approve(REQUEST))


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_a_damaged_certificate_is_a_value_or_a_peer_error(place: int, inserted: bytes, removed: int) -> None:
    octets = GOOD[:place] + inserted + GOOD[place + removed :]
    with contextlib.suppress(PeerError):
        check_tbs(octets, request=REQUEST, subject_public_key_info=KEY, authority=default_authority())
    with contextlib.suppress(PeerError):
        read_tbs(octets)


@given(st.binary(max_size=300))
def test_any_octets_are_a_value_or_a_peer_error(octets: bytes) -> None:
    for read in (read_tbs, lambda octets: compose_certificate(octets, b"")):
        with contextlib.suppress(PeerError):
            read(octets)
    with contextlib.suppress(PeerError):
        check_certificate(octets, authority=default_authority(), request=REQUEST, subject_public_key_info=KEY)
