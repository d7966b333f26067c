"""The fuzzer's functions for the journal, over their seeds and mutated inputs: the same ones in every run."""

from __future__ import annotations

import random

from tests.fuzz.journal_target import READERS, exercise_journal, journal_seeds
from tests.fuzz.mutations import mutated

MUTATIONS_A_SEED = 200


def test_every_seed_is_a_value_and_every_reader_has_one() -> None:
    seeds = list(journal_seeds())
    assert [exercise_journal(seed) for seed in seeds] == [1] * len(seeds)
    assert {seed[0] for seed in seeds} == set(range(len(READERS)))


def test_nothing_is_nothing() -> None:
    assert exercise_journal(b"") == 0


def test_mutated_octets_give_a_value_or_a_peer_error() -> None:
    choice = random.Random(3)  # noqa: S311 # the same inputs in every run
    inputs = [mutated(seed, choice) for seed in journal_seeds() for _ in range(MUTATIONS_A_SEED)]
    assert {exercise_journal(each) for each in inputs} >= {1, -1}


def test_what_is_read_as_something_else_gives_a_value_or_a_peer_error() -> None:
    inputs = [bytes([reader]) + seed[1:] for seed in journal_seeds() for reader in range(len(READERS))]
    assert {exercise_journal(each) for each in inputs} == {1, -1}
