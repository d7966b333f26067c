"""The signer's disk is lost in the middle of the work, at any step: its journal is made again from the client's copy.

What the client has kept is in the new journal; whoever had no answer yet gets one, under the same serial number if the
key may have been used for it; revocations stand, and no CRL number comes twice.
"""

from __future__ import annotations

import shutil

import pytest
from tests.faults.launcher import Plan
from tests.faults.rest import ARMED, STATE, check_at_rest
from tests.faults.system import CLIENT, SIGNER, FaultySystem
from tests.faults.test_killed import ask, steps_of

from cassiopeia.core import crl
from cassiopeia.journal.crls import NUMBERS_SKIPPED

SHORT_STEPS = ("sign 10 confirmation durable", "sign 10 released", "revoke 5 released")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    long = metafunc.config.getoption("--faults") == "long"
    steps = [each for each in steps_of("signer") if not each.startswith("abandon")]
    metafunc.parametrize("step", steps if long else SHORT_STEPS)


@pytest.mark.parametrize("dies", [True, False], ids=["the client dies", "the client lives"])
def test_a_disk_that_is_lost(system: FaultySystem, step: str, *, dies: bool) -> None:
    system.run_signer(Plan(kill=step, nth=2 if step.startswith("sign") else 1, armed_by=ARMED))
    system.wait_for_log("signer", "running:")
    ask(system)
    system.arm()
    system.run_client(Plan())
    system.wait_for_death("signer")
    if dies:
        system.kill("client")
    else:
        system.stop("client")
    before = {name: _number(system, name) for name in system.authorities}
    shutil.rmtree(system.directory / STATE)

    system.run("journal", "export", "-c", CLIENT, "--out", "copy.journal")
    system.run("signer", "rebuild", "-c", SIGNER, "--journal", "copy.journal")

    system.run_signer()
    system.revoke()
    system.drain()
    system.stop("signer")
    replay = check_at_rest(system, rebuilt=True)
    assert replay.epoch == 2
    assert {system.find(each).state for each in system.requests} == {"issued"}
    # Numbers that may have gone out and were lost are jumped; a CRL that is still good need not be signed anew.
    risen = {name: _number(system, name) - number for name, number in before.items()}
    assert all(each == 0 or each >= NUMBERS_SKIPPED for each in risen.values())
    assert any(risen.values())
    system.check_logs()


def _number(system: FaultySystem, name: str) -> int:
    return crl.read_crl((system.directory / f"ca/client/public/{name}.crl").read_bytes()).number
