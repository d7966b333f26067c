"""Requests with proofs, from the session through a worker to the journal: what is final, and what is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.support.authorities import NOW, alt_names, load_profile
from tests.support.evidence import TestValidator, judging_worker
from tests.support.issuing import assert_failed, certificate_of, intent_in, kinds, log_of, wanted
from tests.support.signer import BOOT_ID, Front

from cassiopeia.core.csr import parse_certification_request
from cassiopeia.core.evidence import read_attestation
from cassiopeia.core.judgement import judge
from cassiopeia.core.request import CertificateRequest
from cassiopeia.core.rules import Rules, Standing
from cassiopeia.errors import Refused
from cassiopeia.journal.entry import as_request
from cassiopeia.journal.order import DisableValidator, EnableValidator
from cassiopeia.protocol.events import RequestRefused

VALIDATOR: Final = TestValidator()
OTHER: Final = TestValidator(b"w", name="other")
STRANGER: Final = TestValidator(b"x")
PROFILE: Final = load_profile("0004-server")


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path, validators=(OTHER.key_id,))
    made.worker = judging_worker(VALIDATOR, OTHER)
    yield made
    made.journal.close()


def server(**changes: object) -> CertificateRequest:
    values = {"profile": PROFILE.name, "attributes": (), "alt_names": alt_names("DNS,www.example.org")} | changes
    return wanted(**values)


def proved(
    front: Front, request: CertificateRequest | None = None, by: TestValidator = VALIDATOR
) -> CertificateRequest:
    return by.prove_all(request or server(), PROFILE, nonce=front.nonces.current)


def test_what_is_proved_is_certified(front: Front) -> None:
    pair = front.connect()
    request = proved(front)
    assert certificate_of(front, pair, request)
    assert kinds(front) == ["intent", "confirmation", "result"]


def test_the_journal_has_all_that_a_stranger_needs_to_judge(front: Front) -> None:
    """The entry gives the time, boot and request, its part the proofs, the attestation its nonce."""
    entry, intent, part = intent_in(log_of(front, front.connect(), proved(front)).log)
    request = as_request(part, request_id=intent.request_id)
    key = parse_certification_request(request.key_proof)
    rules = Rules(signer_id=1, profiles={}, authorities=(), validators={VALIDATOR.key_id: VALIDATOR.pinned})
    nonce = read_attestation(request.proofs[-1]).nonce
    standing = Standing(boot_id=intent.boot_id, nonces=(nonce,))
    found = judge(request, profile=PROFILE, key=key, rules=rules, standing=standing, now=entry.time)
    assert found == (VALIDATOR.key_id,)
    with pytest.raises(Refused):
        judge(
            dataclasses.replace(request, account="bob"),
            profile=PROFILE,
            key=key,
            rules=rules,
            standing=standing,
            now=entry.time,
        )


def test_what_is_not_proved_is_refused_with_the_list(front: Front) -> None:
    pair = front.connect()
    request = VALIDATOR.prove(server(), VALIDATOR.observe("dns-control", "www.example.org"), nonce=front.nonces.current)
    answer = front.ask(pair, request)
    assert isinstance(answer, RequestRefused)
    assert (answer.code, answer.field) == ("evidence-missing", "proofs")
    assert "'alice': caa-permits for www.example.org." in answer.message
    assert kinds(front) == ["refusal"]


def test_a_nonce_that_has_run_out_costs_nothing_but_a_new_attestation(front: Front) -> None:
    pair = front.connect()
    request = proved(front)
    front.clock += 600
    assert_failed(front.ask(pair, request), "reattest")
    assert kinds(front) == []
    assert certificate_of(front, pair, proved(front))


def test_the_nonce_before_the_current_one_still_holds(front: Front) -> None:
    pair = front.connect()
    request = proved(front)
    front.clock += 300
    assert request.proofs != proved(front).proofs
    assert certificate_of(front, pair, request)


def test_an_attestation_ends_with_the_boot_of_the_signer(front: Front) -> None:
    request = proved(front)
    front.restart()
    pair = front.connect()
    assert_failed(front.ask(pair, request), "reattest")
    assert certificate_of(front, pair, proved(front))


def test_a_validator_that_the_signer_does_not_know_is_waited_for(front: Front) -> None:
    pair = front.connect()
    request = proved(front, by=STRANGER)
    answer = assert_failed(front.ask(pair, request), "validator-unknown")
    assert STRANGER.key_id.hex() in answer.message
    # Its key is pinned, and the signer was started again.
    front.worker = judging_worker(VALIDATOR, STRANGER)
    assert certificate_of(front, pair, request)


def test_a_disabled_validator_is_replaced_by_another(front: Front) -> None:
    pair = front.connect()
    front.tell(pair, DisableValidator(validator=OTHER.key_id))
    assert_failed(front.ask(pair, proved(front, by=OTHER)), "reattest")
    assert certificate_of(front, pair, proved(front))


def test_an_observation_that_lapsed_in_the_queue_is_renewed(front: Front) -> None:
    pair = front.connect()
    request = server()
    stale = VALIDATOR.observe_all(request, PROFILE, observed_at=NOW.replace(hour=1))
    assert_failed(front.ask(pair, VALIDATOR.prove(request, *stale, nonce=front.nonces.current)), "reattest")
    assert certificate_of(front, pair, proved(front, request))


def test_the_same_request_gets_the_same_certificate_whatever_proofs_it_comes_with(front: Front) -> None:
    """Its digest leaves them out: they change while it waits."""
    pair = front.connect()
    signature = certificate_of(front, pair, proved(front))
    front.clock += 1000
    assert certificate_of(front, pair, proved(front)) == signature
    assert kinds(front).count("intent") == 1


def test_a_batch_is_judged_one_by_one(front: Front) -> None:
    pair = front.connect()
    requests = [server(request_id=bytes([each]) * 32) for each in range(3)]
    observations = [VALIDATOR.observe_all(each, PROFILE) for each in requests]
    attestations = VALIDATOR.attest(*requests, observations=observations, nonce=front.nonces.current)
    requests[1] = dataclasses.replace(requests[1], account="mallory")
    complete = [
        dataclasses.replace(each, proofs=(*seen, attestation))
        for each, seen, attestation in zip(requests, observations, attestations, strict=True)
    ]
    assert certificate_of(front, pair, complete[0])
    answer = front.ask(pair, complete[1])
    assert isinstance(answer, RequestRefused)
    assert answer.code == "evidence-invalid"
    assert certificate_of(front, pair, complete[2])


def test_the_boot_is_part_of_what_was_signed(front: Front) -> None:
    request = VALIDATOR.prove_all(server(), PROFILE, nonce=front.nonces.current, boot_id=bytes(len(BOOT_ID)))
    answer = front.ask(front.connect(), request)
    assert isinstance(answer, RequestRefused)
    assert answer.code == "evidence-invalid"


def test_a_confirmed_intent_on_the_word_of_a_disabled_validator_is_not_signed(front: Front) -> None:
    """Nothing was signed yet when the power went; who else has proved things is not held up."""
    pair = front.connect()
    request, other = proved(front, by=OTHER), proved(front, server(request_id=b"o" * 32))
    for log in [log_of(front, pair, each) for each in (request, other)]:
        pair.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    front.restart()
    pair = front.connect()
    front.tell(pair, DisableValidator(validator=OTHER.key_id))
    assert_failed(front.confirm(pair, log_of(front, pair, request).handle), "validator-disabled")
    assert front.signing == []
    assert certificate_of(front, pair, other)
    front.tell(pair, EnableValidator(validator=OTHER.key_id))
    assert certificate_of(front, pair, request)
