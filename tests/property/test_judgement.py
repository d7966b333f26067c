"""Laws of the judgement: all that is demanded and nothing else suffices, and no change of a proof is overlooked."""

from __future__ import annotations

import dataclasses
import random
from typing import Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.support.authorities import NOW, alt_names, default_ca, load_profile, make_authority, server_request
from tests.support.evidence import REQUEST_ID, STANDING, TestValidator

from cassiopeia.core.demands import candidates, compare, covers, demands
from cassiopeia.core.evidence import OBSERVATION_KINDS
from cassiopeia.core.policy import ApprovedRequest, decide
from cassiopeia.core.request import CertificateRequest
from cassiopeia.core.rules import Rules
from cassiopeia.errors import Refused, Unavailable

FRONT: Final = TestValidator()
PROFILES: Final = {each: load_profile(each) for each in ("0004-server", "0008-server-a")}
RULES: Final = Rules(
    signer_id=1,
    profiles=PROFILES,
    authorities=tuple(make_authority(default_ca(), name=f"{each}_2026_2") for each in ("unassured", "assured")),
    validators={FRONT.key_id: FRONT.pinned},
)

domains = st.lists(st.sampled_from("ab"), min_size=0, max_size=3).map(lambda labels: ".".join([*labels, "example.org"]))
names = st.lists(domains, min_size=1, max_size=6, unique=True)
profiles = st.sampled_from(sorted(PROFILES))
methods = st.sampled_from(["dns", "http", "mail-to-domain"])


def wish(names: list[str], profile: str) -> CertificateRequest:
    return server_request(
        profile=profile,
        account="alice",
        request_id=REQUEST_ID,
        attributes=(),
        alt_names=alt_names(*(f"DNS,{each}" for each in names)),
    )


def approved(request: CertificateRequest) -> ApprovedRequest:
    return decide(request, rules=RULES, standing=STANDING, now=NOW, serial_entropy=bytes(15), issued={}, version=2)


@given(names=names, profile=profiles, seed=st.integers())
def test_all_that_is_demanded_suffices_in_any_order(names: list[str], profile: str, seed: int) -> None:
    request = wish(names, profile)
    observations = list(FRONT.observe_all(request, PROFILES[profile], method="http"))
    random.Random(seed).shuffle(observations)  # noqa: S311 - an order of tests
    approved(FRONT.prove(request, *observations))


@given(names=names, profile=profiles, data=st.data())
def test_nothing_can_be_spared(names: list[str], profile: str, data: st.DataObject) -> None:
    request = wish(names, profile)
    observations = FRONT.observe_all(request, PROFILES[profile], method="http")
    spared = data.draw(st.integers(0, len(observations) - 1))
    with pytest.raises(Refused) as caught:
        approved(FRONT.prove(request, *observations[:spared], *observations[spared + 1 :]))
    demand = demands(PROFILES[profile], request)[spared]
    assert caught.value.code == "evidence-missing"
    assert f"{demand.kind} for {demand.name}. " in caught.value.message


@given(names=names, profile=profiles, data=st.data())
def test_no_change_of_a_proof_is_overlooked(names: list[str], profile: str, data: st.DataObject) -> None:
    request = FRONT.prove_all(wish(names, profile), PROFILES[profile])
    place = data.draw(st.integers(0, len(request.proofs) - 1))
    octets = bytearray(request.proofs[place])
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    changed = (*request.proofs[:place], bytes(octets), *request.proofs[place + 1 :])
    with pytest.raises((Refused, Unavailable)):
        approved(dataclasses.replace(request, proofs=changed))


@given(names=names, others=names, profile=profiles)
def test_the_proofs_of_one_request_are_for_no_other(names: list[str], others: list[str], profile: str) -> None:
    assume(names != others)
    proofs = FRONT.prove_all(wish(names, profile), PROFILES[profile]).proofs
    with pytest.raises(Refused):
        approved(dataclasses.replace(wish(others, profile), proofs=proofs))


wild = st.booleans().flatmap(lambda star: domains.map(lambda domain: f"*.{domain}" if star else domain))
sightings = st.lists(st.tuples(st.sampled_from(OBSERVATION_KINDS), wild, methods), max_size=8)


@given(names=st.lists(wild, max_size=6), seen=sightings, profile=profiles)
def test_hundreds_are_compared_as_one_by_one(names: list[str], seen: list[tuple[str, str, str]], profile: str) -> None:
    known = PROFILES[profile]
    needed = demands(known, wish(names, profile))
    observations = [FRONT.observation(kind, value, method=method) for kind, value, method in seen]
    missing, surplus = compare(needed, observations, known)
    assert missing == [each for each in needed if not any(covers(each, one, known) for one in observations)]
    assert surplus == [each for each in observations if not any(covers(one, each, known) for one in needed)]


@given(name=wild, value=wild, method=methods, profile=profiles)
def test_whatever_covers_a_demand_is_found_under_its_candidates(
    name: str, value: str, method: str, profile: str
) -> None:
    known = PROFILES[profile]
    for demand in demands(known, wish([name], profile)):
        if covers(demand, FRONT.observation(demand.kind, value, method=method), known):
            assert value in candidates(demand, known)
