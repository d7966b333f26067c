"""A bad line between the real programs: whatever it does to the octets, everything is issued once and nothing is lost.

Each seed is another line; `--faults=long` tries many.
"""

from __future__ import annotations

import pytest
from tests.faults.launcher import Plan
from tests.faults.noisy_line import Kind, Noise, Noises, NoisyLine, NoisyModem
from tests.faults.rest import HEARD, check_at_rest
from tests.faults.system import CLIENT, SIGNER, FaultySystem, replace

SHORT_SEEDS, LONG_SEEDS = 2, 60
SOCKET = "ca/run/noisy.sock"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        long = metafunc.config.getoption("--faults") == "long"
        metafunc.parametrize("seed", range(LONG_SEEDS if long else SHORT_SEEDS))


def run(system: FaultySystem) -> None:
    system.run_signer()
    system.wait_for_log("signer", "running:")
    system.request(3)
    system.revoke()
    system.run_client(Plan(heard=HEARD), "--drain")
    system.wait_for_end("client")
    system.stop("signer")
    check_at_rest(system)
    system.check_logs()


def through(system: FaultySystem, noises: Noises) -> NoisyLine:
    """The line that this system's client takes from now on."""
    replace(system.directory / CLIENT, ("signer.sock", "noisy.sock"))
    (system.directory / "ca/run").mkdir(exist_ok=True)
    return NoisyLine(system.directory / SOCKET, system.directory / "ca/run/signer.sock", noises)


def test_a_noisy_socket(system: FaultySystem, seed: int) -> None:
    noises = Noises(seed=seed, faults=4, gap_octets=1500)
    with through(system, noises):
        run(system)
    assert noises.happened


def test_a_noisy_serial_line(system: FaultySystem, seed: int) -> None:
    noises = Noises(seed=seed, faults=4, gap_octets=1500)
    with NoisyModem(noises) as modem:
        for path, device in zip((SIGNER, CLIENT), modem.devices, strict=True):
            replace(system.directory / path, ("unix:../run/signer.sock", f"serial:{device}"))
        run(system)
    assert noises.happened


@pytest.mark.parametrize("kind", ["insert", "drop"])
def test_a_serial_line_with_one_fault_only(system: FaultySystem, kind: Kind) -> None:
    """Stray `C0`, bad escapes, lost octets: each ends the session, and nothing but the session."""
    noises = Noises(seed=7, kinds=(kind,), faults=3, gap_octets=3000)
    with NoisyModem(noises) as modem:
        for path, device in zip((SIGNER, CLIENT), modem.devices, strict=True):
            replace(system.directory / path, ("unix:../run/signer.sock", f"serial:{device}"))
        run(system)
    assert noises.happened


@pytest.mark.parametrize("silent", ["to_signer", "to_client"])
def test_a_line_that_is_half_open(system: FaultySystem, silent: str) -> None:
    """One direction falls silent and nobody hangs up: the client gives the line up, the signer takes the next one."""
    noises = Noises(seed=1, kinds=("swallow",), faults=2, gap_octets=4000)
    other = "to_client" if silent == "to_signer" else "to_signer"
    noises.by_direction[other] = Noise("quiet", kinds=("delay",), faults=0, gap_octets=1)  # type: ignore[index] # the other one of two
    with through(system, noises):
        run(system)
    assert {each.kind for each in noises.happened} == {"swallow"}
    assert "the signer keeps silent" in system.log("client")


def test_the_same_seed_gives_the_same_faults() -> None:
    octets = bytes(range(256)) * 400
    made = [list(Noise("x", kinds=("drop", "flip", "insert"), faults=5, gap_octets=500).pieces(octets)) for _ in "12"]
    assert made[0] == made[1]
    assert b"".join(each.octets for each in made[0]) != octets


def test_a_line_without_faults_changes_nothing() -> None:
    octets = bytes(range(256)) * 400
    noise = Noise("x", kinds=("drop",), faults=0, gap_octets=1)
    assert b"".join(each.octets for each in noise.pieces(octets)) == octets
