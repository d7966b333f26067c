"""Everything at once, at random: both programs are killed at any step, disks fail under them, the line is bad.

A seed is a story of some rounds; what it leaves behind must be whole in the end. `--faults=long` tells many stories.
"""

from __future__ import annotations

import datetime as dt
import random
import time

import pytest
from tests.faults.launcher import DiskFault, Plan
from tests.faults.noisy_line import Noises
from tests.faults.rest import HEARD, check_at_rest
from tests.faults.system import SIGNER_ID, FaultySystem
from tests.faults.test_killed import steps_of
from tests.faults.test_noisy_line import through

from cassiopeia.store.suspects import MAXIMUM_DEATHS

SHORT_SEEDS, LONG_SEEDS = 2, 60
ROUNDS = 5
REQUESTS_A_ROUND = 4
LONGEST_ROUND_S = 2.0
STEPS = {side: steps_of(side) for side in ("signer", "client")}
LOGS = {"signer": "journal.sqlite-wal", "client": "store.sqlite-wal"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    long = metafunc.config.getoption("--faults") == "long"
    metafunc.parametrize("seed", range(LONG_SEEDS if long else SHORT_SEEDS))


def misfortune(chance: random.Random, side: str) -> Plan:
    """Mostly a death at some step, now and then a disk that fails, at times nothing."""
    heard = HEARD if side == "client" else ""
    fate = chance.random()
    if fate < 0.55:
        return Plan(kill=chance.choice(STEPS[side]), nth=chance.choice([1, 1, 2, 5]), heard=heard)
    if fate < 0.85:
        kind, do = chance.choice(
            [
                ("sync", "io-error"),
                ("write", "full"),
                ("write", "torn"),
                ("sync", "kill-before"),
                ("sync", "kill-after"),
            ]
        )
        fault = DiskFault(kind=kind, do=do, file=LOGS[side], nth=chance.randrange(1, 30))  # type: ignore[arg-type] # pairs of literals
        return Plan(disk=(fault,), heard=heard)
    return Plan(heard=heard)


def play_round(system: FaultySystem, chance: random.Random) -> None:
    """Whoever is gone is started again, with a plan of its own; it lasts until somebody dies, or not much longer."""
    starters = {"signer": system.run_signer, "client": system.run_client}
    for side, start in starters.items():
        if side not in system.processes:
            start(misfortune(chance, side))
    deadline = time.monotonic() + chance.uniform(0.2, LONGEST_ROUND_S)
    while time.monotonic() < deadline:
        ended = [side for side, process in system.processes.items() if process.poll() is not None]
        for side in ended:
            del system.processes[side]
        if ended:
            return
        time.sleep(0.02)
    victim = chance.choice(["signer", "client", ""])
    if victim:
        system.kill(victim)


def test_any_misfortune_leaves_everything_whole(system: FaultySystem, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test that can be repeated
    noises = Noises(seed=seed, faults=6, gap_octets=6000)
    with through(system, noises):
        for _ in range(ROUNDS):
            system.request(REQUESTS_A_ROUND, account=f"account {chance.randrange(3)}")
            if chance.random() < 0.5 and system.store.certificates.page(revocation_state="none", limit=1).items:
                system.revoke()
            play_round(system, chance)
        for name in list(system.processes):
            system.kill(name)
        finish(system)


def finish(system: FaultySystem) -> None:
    """No more deaths, and the line gets better. Whoever was in too many dying hands is put back by an operator."""
    system.run_signer()
    for _ in range(MAXIMUM_DEATHS):
        put_back(system)
        system.run_client(Plan(heard=HEARD), "--drain")
        system.wait_for_end("client")
        if not system.store.queue.set_aside_jobs(limit=1):
            break
    system.stop("signer")
    check_at_rest(system)
    assert {system.find(each).state for each in system.requests} == {"issued"}


def put_back(system: FaultySystem) -> None:
    now = dt.datetime.now(dt.UTC)
    for each in system.store.queue.set_aside_jobs(limit=1000):
        if each.request_id:
            system.store.requests.retry(each.request_id, now=now)
        else:
            record = system.store.certificates.look_up(each.serial_number)
            system.store.certificates.retry_revocation(record, now=now)
    # What was put off again and again would be asked for in minutes.
    system.store.queue.hurry(SIGNER_ID, now=now)
