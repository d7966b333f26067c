"""The fuzzer's functions over their seeds and a bounded number of mutated inputs: the same ones in every run."""

from __future__ import annotations

import random

import pytest
from tests.fuzz.mutations import mutated
from tests.fuzz.session_target import SPOKEN, exercise, exercise_payload, payload_seeds, seeds

MUTATIONS_A_SEED = 1000
PAYLOAD_MUTATIONS_A_SEED = 100


@pytest.mark.parametrize("seed", list(seeds()), ids=lambda seed: f"flags-{seed[0]}-{seed[-2:].hex()}")
def test_a_seed_goes_all_the_way(seed: bytes) -> None:
    assert exercise(seed) >= 1


def test_every_payload_seed_is_a_value() -> None:
    assert [exercise_payload(seed) for seed in payload_seeds()] == [1] * len(SPOKEN)


def test_next_to_nothing_is_nothing() -> None:
    assert exercise(b"") == exercise(b"\0") == exercise_payload(b"") == 0


@pytest.mark.parametrize("number", range(len(list(seeds()))))
def test_mutated_conversations_give_events_or_a_peer_error(number: int) -> None:
    seed, choice = list(seeds())[number], random.Random(number)  # noqa: S311 # the same inputs in every run
    outcomes = {exercise(mutated(seed, choice)) for _ in range(MUTATIONS_A_SEED)}
    assert -1 in outcomes
    assert outcomes - {-1}


def test_mutated_payloads_give_a_value_or_a_peer_error() -> None:
    choice = random.Random(2)  # noqa: S311 # the same inputs in every run
    inputs = [mutated(seed, choice) for seed in payload_seeds() for _ in range(PAYLOAD_MUTATIONS_A_SEED)]
    assert {exercise_payload(each) for each in inputs} >= {1, -1}
