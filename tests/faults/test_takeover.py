"""The real signer takes its configuration over under load, is killed in the midst of it, and loses nothing."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from tests.faults.launcher import Plan
from tests.faults.rest import ARMED, HEARD, check_at_rest
from tests.faults.system import ISSUED_BEFORE, PROFILE, SIGNER, FaultySystem, replace

IN_FORCE = "the new configuration is in force"
STEP = "take over 1 configuration appended"


def change(system: FaultySystem, number: int) -> None:
    """One more profile, and so other rules."""
    profiles = system.directory / "ca/signer/profiles"
    shutil.copy(profiles / f"{PROFILE}.toml", profiles / f"{8000 + number}-house.toml")


def reload(system: FaultySystem) -> None:
    system.processes["signer"].send_signal(signal.SIGHUP)


def wait_for_more(system: FaultySystem, words: str, before: int) -> None:
    """Wait until the signer has said this once more than before."""
    system.wait_until(lambda: system.log("signer").count(words) > before, f"the signer says {words!r}")


def left_behind(system: FaultySystem) -> list[str]:
    """Processes of this system's signer that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "cassiopeia.signer" in words and str(system.directory) in words:
            found.append(words)
    return found


def test_under_load_nothing_is_lost_and_nothing_comes_twice(system: FaultySystem) -> None:
    system.run_signer()
    system.run_client(Plan(heard=HEARD))
    system.wait_for_log("signer", "running: signer 1")
    for number in range(4):
        system.request(15)
        if number < ISSUED_BEFORE:
            system.revoke()
        change(system, number)
        reload(system)
        system.request(5)
        wait_for_more(system, IN_FORCE, number)
    system.stop("client")
    system.drain()
    system.stop("signer")
    replay = check_at_rest(system)
    assert replay.kinds["configuration"] == 5
    assert replay.kinds["result"] == len(system.requests)
    system.check_logs()


@pytest.mark.parametrize("nth", [1, 2])
def test_a_signer_that_is_killed_in_the_midst_starts_with_what_is_there(system: FaultySystem, nth: int) -> None:
    system.run_signer(Plan(kill=STEP, nth=nth, armed_by=ARMED))
    system.arm()
    system.run_client(Plan(heard=HEARD))
    system.wait_for_log("signer", "running: signer 1")
    for number in range(nth):
        system.request(10)
        change(system, number)
        reload(system)
        if number + 1 < nth:
            wait_for_more(system, IN_FORCE, number)
    system.wait_for_death("signer")
    system.run_signer()
    system.stop("client")
    system.drain()
    system.stop("signer")
    replay = check_at_rest(system)
    # What was written and not waited for may be there or not: it is written once in the end.
    assert replay.kinds["configuration"] == 1 + nth
    system.wait_until(lambda: not left_behind(system), "no worker is left")
    system.check_logs()


def test_a_signer_that_is_killed_while_new_workers_start_goes_on(system: FaultySystem) -> None:
    system.run_client(Plan(heard=HEARD))
    for number in range(3):
        system.run_signer()
        wait_for_more(system, "running: signer 1", number)
        system.request(5)
        change(system, number)
        reload(system)
        wait_for_more(system, "takes over its configuration", number)
        system.kill("signer")
    system.run_signer()
    system.stop("client")
    system.drain()
    system.stop("signer")
    check_at_rest(system)
    system.wait_until(lambda: not left_behind(system), "no worker is left")
    system.check_logs()


def test_a_broken_configuration_is_told_and_the_old_one_goes_on(system: FaultySystem) -> None:
    system.run_signer()
    system.run_client(Plan(heard=HEARD))
    system.wait_for_log("signer", "running: signer 1")
    replace(system.directory / SIGNER, ("[signer]\n", "[signer]\ncolour = 1\n"))
    reload(system)
    system.wait_for_log("signer", "the new configuration is not in force, the signer goes on with the old one")
    system.request(3)
    system.wait_until(
        lambda: "colour: this key is not known here" in system.run("status", "-c", "ca/client/client.toml").stdout,
        "operators are told",
    )
    replace(system.directory / SIGNER, ("colour = 1\n", ""))
    reload(system)
    system.wait_for_log("signer", IN_FORCE)
    system.stop("client")
    system.drain()
    system.stop("signer")
    check_at_rest(system)
