"""The fuzzer's functions for signed statements, over their seeds and mutated inputs: the same ones in every run."""

from __future__ import annotations

import random

import pytest
from tests.fuzz.evidence_target import READERS, evidence_seeds, exercise_evidence
from tests.fuzz.mutations import mutated

MUTATIONS_A_SEED = 200


def test_every_seed_is_a_value_and_every_reader_has_one() -> None:
    seeds = list(evidence_seeds())
    assert [exercise_evidence(seed) for seed in seeds] == [1] * len(seeds)
    assert {seed[0] for seed in seeds} == set(range(len(READERS)))


def test_nothing_is_nothing() -> None:
    assert exercise_evidence(b"") == 0


@pytest.mark.parametrize("reader", range(len(READERS)))
def test_mutated_octets_give_a_value_or_a_clean_no(reader: int) -> None:
    choice = random.Random(reader)  # noqa: S311 # the same inputs in every run
    seeds = [seed for seed in evidence_seeds() if seed[0] == reader]
    inputs = [bytes([reader]) + mutated(seed[1:], choice) for seed in seeds for _ in range(MUTATIONS_A_SEED)]
    assert -1 in {exercise_evidence(each) for each in inputs}


def test_what_is_read_as_something_else_gives_a_value_or_a_clean_no() -> None:
    inputs = [bytes([reader]) + seed[1:] for seed in evidence_seeds() for reader in range(len(READERS))]
    assert {exercise_evidence(each) for each in inputs} == {1, -1}
