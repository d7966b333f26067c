from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import replace

import pytest
from tests.support.authorities import default_authority, load_profile
from tests.support.operators import PUBLIC_KEYS

from cassiopeia.changes import Contents, changes
from cassiopeia.config import Pins
from cassiopeia.core.authority import Authority
from cassiopeia.core.evidence import key_id
from cassiopeia.core.rules import Validator

AUTHORITY = default_authority()
NAME = AUTHORITY.name
PROFILE = load_profile("0004-server")
VALIDATOR = Validator(name="web", public_key=PUBLIC_KEYS[0], kinds=frozenset({"attestation"}))
KEY = key_id(PUBLIC_KEYS[0]).hex()


def with_authority(authority: Authority) -> Contents:
    return Contents(authorities={NAME: authority})


def short(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:16]


def test_what_stays_as_it_is_is_no_change() -> None:
    everything = Contents(
        authorities={NAME: AUTHORITY},
        profiles={"0004-server": PROFILE},
        pins=Pins(operators=PUBLIC_KEYS[:2], validators=(VALIDATOR,), responders=frozenset({bytes(32)})),
    )

    assert changes(everything, everything) == []
    assert changes(Contents(), Contents()) == []


def test_sub_cas_that_come_and_go() -> None:
    come = changes(Contents(), with_authority(AUTHORITY))
    retired = changes(Contents(), with_authority(replace(AUTHORITY, retired=True)))

    assert come[0].startswith(f"sub-CA {NAME}: new; issues from 2026-10-24 until 2030-11-22, at most ")
    assert retired == [f"{come[0]}; retired: it issues nothing, and signs its CRLs"]
    assert changes(with_authority(AUTHORITY), Contents()) == [f"sub-CA {NAME}: goes; it has ended"]


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        (replace(AUTHORITY, retired=True), "retired: it issues no more"),
        (replace(AUTHORITY, certificate=b"other"), "another certificate, until 2030-11-22"),
        (
            replace(AUTHORITY, issues_until=dt.datetime(2027, 1, 1, tzinfo=dt.UTC)),
            "issues from 2026-10-24 until 2027-01-01",
        ),
        (
            replace(AUTHORITY, maximum_certificates=5),
            f"at most 5 certificates, not {AUTHORITY.maximum_certificates}",
        ),
        (replace(AUTHORITY, ocsp_urls=()), "other URLs or another form of signature in what it signs"),
    ],
    ids=["retired", "certificate", "dates", "maximum", "URLs"],
)
def test_sub_cas_that_change(after: Authority, sentence: str) -> None:
    assert changes(with_authority(AUTHORITY), with_authority(after)) == [f"sub-CA {NAME}: {sentence}"]


def test_a_sub_ca_that_issues_again_is_named() -> None:
    before = with_authority(replace(AUTHORITY, retired=True))

    assert changes(before, with_authority(AUTHORITY)) == [f"sub-CA {NAME}: no longer retired"]


def test_profiles_that_come_change_and_go() -> None:
    other = replace(PROFILE, maximum_validity_days=1)
    before = Contents(profiles={"0004-server": PROFILE, "0001-client": PROFILE})
    after = Contents(profiles={"0004-server": other, "0002-mail": PROFILE})

    assert changes(before, after) == [
        "profile 0004-server: changed",
        "profile 0002-mail: new",
        "profile 0001-client: goes; requests for it will be refused",
    ]


def test_validators_that_come_change_and_go() -> None:
    other = replace(VALIDATOR, kinds=frozenset({"dns-control", "attestation"}))
    moved = replace(VALIDATOR, public_key=PUBLIC_KEYS[1])

    def pinned(*validators: Validator) -> Contents:
        return Contents(pins=Pins(validators=validators))

    assert changes(pinned(), pinned(VALIDATOR)) == [f"validator web (key {KEY}): new; may state attestation"]
    assert changes(pinned(VALIDATOR), pinned(other)) == ["validator web: may state attestation, dns-control"]
    assert changes(pinned(VALIDATOR), pinned(moved)) == [
        f"validator web (key {key_id(PUBLIC_KEYS[1]).hex()}): new; may state attestation",
        f"validator web (key {KEY}): goes; it is believed no more",
    ]


def test_keys_of_operators_and_responders_that_come_and_go() -> None:
    before = Contents(pins=Pins(operators=PUBLIC_KEYS[:2], quorum=1, responders=frozenset({bytes(32)})))
    after = Contents(pins=Pins(operators=PUBLIC_KEYS[1:3], quorum=2, responders=frozenset({b"r" * 32})))

    assert changes(before, after) == [
        f"operator (key {short(PUBLIC_KEYS[2])}): new",
        f"operator (key {short(PUBLIC_KEYS[0])}): goes",
        "operators who must sign what loosens: 2, not 1",
        f"OCSP responder (key {(b'r' * 8).hex()}): new",
        f"OCSP responder (key {bytes(8).hex()}): goes",
    ]
