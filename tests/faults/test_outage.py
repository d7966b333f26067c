"""The outage: thousands of requests wait while the signer is out of reach for weeks, machines are started again in the
middle of it, and then everything drains.

`--faults=long` queues 3,000 requests; otherwise it is a tenth of that.
"""

from __future__ import annotations

import datetime as dt

from tests.faults.launcher import Plan
from tests.faults.rest import ARMED, HEARD, check_at_rest
from tests.faults.system import CLIENT, SIGNER_ID, FaultySystem, replace
from tests.faults.test_history import EAGER, confirm_clock

from cassiopeia.core import crl

LONG_REQUESTS, SHORT_REQUESTS = 3000, 300
ACCOUNTS = 5
WEEKS = dt.timedelta(weeks=3)
WEEKS_S = WEEKS.total_seconds()


def test_a_backlog_of_weeks_drains(system: FaultySystem, *, long: bool) -> None:
    """The line is down, and the signer runs on: it signs its CRLs, and nobody fetches them."""
    count = LONG_REQUESTS if long else SHORT_REQUESTS
    replace(system.directory / CLIENT, ("[lint]\nworkers = 0", "[lint]\nworkers = 1"))
    later = Plan(clock_s=WEEKS_S, boot_s=WEEKS_S)
    # 1. Requests and revocations pile up; the client has nobody to take them to.
    system.run_signer(Plan(clock_s=WEEKS_S, boot_s=WEEKS_S, armed_by=ARMED))
    system.wait_for_log("signer", "running:")
    for account in range(ACCOUNTS):
        system.request(count // ACCOUNTS, account=f"account {account}")
    revoked = system.revoke(2)
    # 2. Three weeks later the line is mended: no clock is wrong, it is only late.
    system.arm()
    asked = dt.datetime.now(dt.UTC)
    system.run_client(Plan(clock_s=WEEKS_S, heard=HEARD))
    system.wait_until(lambda: len(system.certificates) > count // 4, "a quarter is drained")
    # 3. The signer's machine is started again, then the client's.
    system.kill("signer")
    system.run_signer(later)
    system.wait_until(lambda: len(system.certificates) > count // 2, "a half is drained")
    system.kill("client")
    system.run_client(Plan(clock_s=WEEKS_S, heard=HEARD), "--drain")
    system.wait_for_end("client", time_limit_s=600)
    system.stop("signer")
    # 4. Nothing is lost, everybody had his turn, and the CRL that is published is of today.
    replay = check_at_rest(system)
    assert {system.find(each).state for each in system.requests} == {"issued"}
    assert not replay.halts
    for serial in revoked:
        record = system.store.certificates.look_up(serial)
        published = crl.read_crl((system.directory / f"ca/client/public/{record.authority}.crl").read_bytes())
        assert published.this_update >= asked + WEEKS - dt.timedelta(days=1)
    system.check_logs()


def test_a_signer_that_was_off_for_weeks_asks_its_operators_for_the_time(system: FaultySystem) -> None:
    """It cannot tell weeks without power from a clock that leaps; one signed order over the line is enough."""
    asked = system.request(5)
    (revoked,) = system.revoke()
    system.run_signer(Plan(clock_s=WEEKS_S, boot_s=-1000.0))
    system.run_client(Plan(clock_s=WEEKS_S, heard=HEARD, constants=EAGER), "--drain")
    system.wait_until(
        lambda: system.store.certificates.look_up(revoked).revocation_state == "revoked", "the revocation is done"
    )
    assert {system.find(each).state for each in asked} == {"queued"}
    system.wait_until(lambda: system.store.orders.timestamp(SIGNER_ID) is not None, "the signer has said the time")
    confirm_clock(system, late=WEEKS)
    system.wait_for_end("client")
    assert {system.find(each).state for each in asked} == {"issued"}
    system.stop("signer")
    check_at_rest(system)
    system.check_logs()
