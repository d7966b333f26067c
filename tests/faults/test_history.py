"""What time and people do: a clock that is wrong, a disk that was put back, two clients with one job in their hands."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from pathlib import Path

import pytest
from tests.faults.launcher import Plan
from tests.faults.rest import ARMED, HEARD, STATE, check_at_rest
from tests.faults.system import CLIENT, SIGNER_ID, FaultySystem, replace
from tests.faults.test_killed import steps_of
from tests.support.operators import signed

from cassiopeia.client.order_draft import draft_confirm_clock, hear

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S
# How soon a client asks again that was told to come back in five minutes.
EAGER = {"cassiopeia.client.patience._LONGEST_TOLD_S": 0.5, "cassiopeia.client.worker._STATUS_SOON_S": 0.1}
# A client that does not renew its leases, which are over in a moment.
FORGETFUL = {"cassiopeia.client.leases.LEASE_S": 0.1, "cassiopeia.client.worker._ANSWER_TIME_LIMIT_S": 60.0}


def states(system: FaultySystem, identifiers: list[bytes]) -> set[str]:
    return {system.find(each).state for each in identifiers}


def confirm_clock(system: FaultySystem, *, late: dt.timedelta = dt.timedelta(0)) -> None:
    """What operators do: they draft an order from the signer's word, sign it and send it; `late`: how late it is."""
    system.wait_until(lambda: system.store.orders.timestamp(SIGNER_ID) is not None, "the signer has said the time")
    now = dt.datetime.now(dt.UTC) + late
    heard = hear(system.store, journal_keys=system.journal_keys, signer_id=SIGNER_ID)
    draft = draft_confirm_clock(heard, reason="a test", true_time=now, now=now)
    system.store.orders.put(SIGNER_ID, 1, signed(draft.octets, 0), now=now)


@pytest.mark.parametrize(
    ("shift_s", "running", "renews"),
    [
        (YEAR_S, False, False),  # a CRL is signed, and nobody publishes what is dated ahead
        (YEAR_S, True, True),
        (-YEAR_S, False, False),
        (-YEAR_S, True, False),
        (10 * DAY_S, True, True),
        (-DAY_S, False, True),
    ],
    ids=["a year ahead", "leaps a year", "a year behind", "falls a year", "leaps ten days", "a day behind"],
)
def test_a_clock_that_is_wrong_issues_nothing_until_operators_have_spoken(
    system: FaultySystem, shift_s: float, *, running: bool, renews: bool
) -> None:
    if running:
        system.run_signer(Plan(clock_s=shift_s, armed_by=ARMED))
        system.wait_for_log("signer", "running:")
        system.arm()
    else:
        system.run_signer(Plan(clock_s=shift_s))
    asked = system.request(2)
    (revoked,) = system.revoke()
    system.run_client(Plan(heard=HEARD, constants=EAGER), "--drain")
    system.wait_until(
        lambda: all("clock" in system.find(each).last_error for each in asked), "the client hears of the clock"
    )
    assert states(system, asked) == {"queued"}
    if renews:
        system.wait_until(
            lambda: system.store.certificates.look_up(revoked).revocation_state == "revoked", "the revocation is done"
        )
    confirm_clock(system)
    system.wait_for_end("client")
    assert states(system, asked) == {"issued"}
    system.stop("signer")
    check_at_rest(system)


def test_a_signer_with_an_old_copy_of_its_disk_halts(system: FaultySystem) -> None:
    state, old, new = (system.directory / each for each in (STATE, "old", "new"))
    shutil.copytree(state, old)
    # 1. It goes on: certificates and a revocation of which the old copy knows nothing.
    system.request(2)
    system.revoke()
    system.run_signer()
    system.run_client(Plan(heard=HEARD), "--drain")
    system.wait_for_end("client")
    system.stop("signer")
    check_at_rest(system)
    # 2. Somebody puts the old copy back. What the client holds tells it.
    state.rename(new)
    shutil.copytree(old, state)
    (lost,) = system.request()
    system.revoke()
    system.run_signer()
    system.run_client(Plan(heard="forked.jsonl", constants=EAGER))
    system.wait_for_log("client", "is not the one that this client has copied")
    system.wait_for_log("client", "it has lost part of its past")
    assert "halted: a client holds a head of" in system.log("signer")
    system.stop("client")
    # 3. It stays halted when it is started again.
    system.stop("signer")
    system.run_signer()
    told = "it has lost part of its past"
    seen = system.log("client").count(told)
    system.run_client(Plan(heard="forked.jsonl", constants=EAGER))
    system.wait_until(lambda: system.log("client").count(told) > seen, "the client hears of it again")
    system.stop("client")
    system.stop("signer")
    assert system.find(lost).state == "queued"
    # 4. With the right disk everything goes on, and nothing of what the other one did is believed.
    shutil.rmtree(state)
    new.rename(state)
    system.run_signer()
    system.run_client(Plan(heard=HEARD), "--drain")
    system.wait_for_end("client")
    system.stop("signer")
    check_at_rest(system)
    system.check_logs()


@pytest.mark.parametrize("step", [each for each in steps_of("client") if each.startswith("sign")])
def test_two_clients_with_one_job(system: FaultySystem, step: str) -> None:
    """The first one stands still until its lease is over and another has done the work; then it goes on."""
    second = Path(CLIENT).with_name("second.toml")
    shutil.copy(system.directory / CLIENT, system.directory / second)
    replace(system.directory / second, ('name = "client"', 'name = "second"'))
    system.request(2)
    system.revoke()
    system.run_signer()
    system.run_client(Plan(kill=step, pause=True, heard=HEARD, constants=FORGETFUL), "--drain")
    system.wait_for_pause("client")
    time.sleep(0.1)
    system.run_client(Plan(heard=HEARD), "--drain", name="second", config=str(second))
    system.wait_for_end("second")
    system.resume("client")
    system.wait_for_end("client")
    system.stop("signer")
    check_at_rest(system)
    system.check_logs()
