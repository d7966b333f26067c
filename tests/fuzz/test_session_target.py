"""The fuzzer's functions over their seeds and a bounded number of mutated inputs: the same ones in every run."""

from __future__ import annotations

import random

import pytest
from tests.fuzz.session_target import SPOKEN, exercise, exercise_payload, payload_seeds, seeds

MUTATIONS_A_SEED = 1000
PAYLOAD_MUTATIONS_A_SEED = 100


def mutated(octets: bytes, choice: random.Random) -> bytes:
    """Octets changed, cut out, doubled, put in: a few times."""
    changed = bytearray(octets)
    for _ in range(choice.randint(1, 4)):
        start = choice.randrange(len(changed) + 1)
        end = min(len(changed), start + choice.choice((1, 1, 2, 8, 64)))
        match choice.randrange(5):
            case 0:
                changed[start:end] = choice.randbytes(end - start)
            case 1:
                del changed[start:end]
            case 2:
                changed[start:start] = changed[start:end]
            case 3:
                changed[start:start] = choice.randbytes(choice.randint(1, 8))
            case _:
                changed[start:end] = bytes([choice.choice((0, 1, 0x7F, 0x80, 0xFF))]) * (end - start)
    return bytes(changed)


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
