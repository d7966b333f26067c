"""`kill -9` of the real signer and the real client at every named step of the issuance cycle and of revocation.

The names are those of docs/issuance-cycle.md, found in the code: a step that is added there is killed at here.
"""

from __future__ import annotations

import re

import pytest
from tests.faults.launcher import ROOT, Plan
from tests.faults.rest import ARMED, HEARD, check_at_rest
from tests.faults.system import CLIENT, FaultySystem, replace

# An intent that nobody may confirm in time is abandoned while its session is there to be told.
HASTY = {"cassiopeia.signer.issuance.INTENT_LIFE_S": -1.0, "cassiopeia.signer.service._HOUSEKEEPING_S": 0.001}
_STEP = re.compile(r'\bstep\("([^"]+)"\)')


def steps_of(package: str) -> list[str]:
    """Every step that this side goes through, in the order of their names."""
    files = (ROOT / "src/cassiopeia" / package).rglob("*.py")
    return sorted({name for file in files for name in _STEP.findall(file.read_text(encoding="utf-8"))})


# At what a signer goes through that takes over a configuration, or is given a bundle, it is killed in test_takeover and
# test_bundle_order.
@pytest.mark.parametrize("step", [each for each in steps_of("signer") if not each.startswith(("take over", "install"))])
def test_a_signer_that_is_killed_loses_nothing(system: FaultySystem, step: str) -> None:
    system.run_signer(Plan(kill=step, armed_by=ARMED, constants=HASTY if step.startswith("abandon") else {}))
    ask(system)
    system.arm()
    system.run_client(Plan(heard=HEARD), "--drain")
    system.wait_for_death("signer")
    system.run_signer()
    system.wait_for_end("client")
    system.stop("signer")
    check_at_rest(system)
    system.check_logs()


@pytest.mark.parametrize("step", steps_of("client"))
def test_a_client_that_is_killed_loses_nothing(system: FaultySystem, step: str) -> None:
    replace(system.directory / CLIENT, ("[lint]\nworkers = 0", "[lint]\nworkers = 1"))
    system.run_signer()
    ask(system)
    system.arm()
    system.run_client(Plan(kill=step, armed_by=ARMED, heard=HEARD), "--drain")
    system.wait_for_death("client")
    system.run_client(Plan(heard=HEARD), "--drain")
    system.wait_for_end("client")
    system.stop("signer")
    check_at_rest(system)
    system.check_logs()


def ask(system: FaultySystem) -> None:
    system.request(3)
    system.revoke()


def test_the_steps_are_those_of_the_documentation() -> None:
    text = (ROOT / "docs/issuance-cycle.md").read_text(encoding="utf-8")
    assert not [each for each in steps_of("signer") + steps_of("client") if f"`{each}`" not in text]
