"""The disk fails under the real programs: fsync says EIO, the disk is full, a write is torn and the process is gone.

The signer ends at once when its journal fails (a second fsync may lie), and is started again as systemd would. The
client tries again by itself, for as long as it takes.
"""

from __future__ import annotations

import sqlite3
from typing import Literal

import pytest
from tests.faults.launcher import DiskFault, Plan
from tests.faults.rest import ARMED, HEARD, check_at_rest
from tests.faults.system import FaultySystem

JOURNAL_LOG = "journal.sqlite-wal"
STORE_LOG = "store.sqlite-wal"


def ask(system: FaultySystem) -> None:
    system.request(3)
    system.revoke()


def finish(system: FaultySystem) -> None:
    """Let everything come to its end, and look at it."""
    system.wait_for_end("client")
    system.stop("signer")
    check_at_rest(system)
    system.check_logs()


@pytest.mark.parametrize(
    "fault",
    [
        DiskFault(kind="sync", do="io-error", file=JOURNAL_LOG, nth=1),
        DiskFault(kind="sync", do="io-error", file=JOURNAL_LOG, nth=2),
        DiskFault(kind="sync", do="io-error", file=JOURNAL_LOG, nth=4),
        DiskFault(kind="write", do="full", file=JOURNAL_LOG, nth=1, on=True),
        DiskFault(kind="write", do="full", file=JOURNAL_LOG, nth=12, on=True),
        DiskFault(kind="write", do="io-error", file=JOURNAL_LOG, nth=7),
    ],
    ids=lambda fault: f"{fault.do}-{fault.kind}-{fault.nth}",
)
def test_a_journal_that_fails_ends_the_signer(system: FaultySystem, fault: DiskFault) -> None:
    system.run_signer(Plan(disk=(fault,), armed_by=ARMED))
    system.wait_for_log("signer", "running:")
    ask(system)
    system.arm()
    system.run_client(Plan(heard=HEARD), "--drain")
    assert system.wait_for_failure("signer") == 1
    assert "the journal has failed" in system.log("signer").splitlines()[-1]
    system.run_signer()
    finish(system)


@pytest.mark.parametrize("do", ["torn", "kill-before", "kill-after"])
@pytest.mark.parametrize("nth", [1, 9])
def test_a_signer_that_dies_in_the_middle_of_a_write(
    system: FaultySystem, do: Literal["torn", "kill-before", "kill-after"], nth: int
) -> None:
    system.run_signer(Plan(disk=(DiskFault(kind="write", do=do, file=JOURNAL_LOG, nth=nth),), armed_by=ARMED))
    system.wait_for_log("signer", "running:")
    ask(system)
    system.arm()
    system.run_client(Plan(heard=HEARD), "--drain")
    system.wait_for_death("signer")
    system.run_signer()
    finish(system)


@pytest.mark.parametrize(
    "fault",
    [
        DiskFault(kind="sync", do="io-error", file=STORE_LOG, nth=2),
        DiskFault(kind="write", do="full", file=STORE_LOG, nth=3),
        DiskFault(kind="write", do="io-error", file=STORE_LOG, nth=15),
    ],
    ids=lambda fault: f"{fault.do}-{fault.kind}-{fault.nth}",
)
def test_a_client_bears_a_store_that_fails_once(system: FaultySystem, fault: DiskFault) -> None:
    ask(system)
    system.arm()
    system.run_client(Plan(disk=(fault,), armed_by=ARMED, heard=HEARD), "--drain")
    system.run_signer()
    finish(system)
    assert "does not answer" in system.log("client")


def test_a_client_waits_until_its_disk_has_room_again(system: FaultySystem) -> None:
    """The same client, with what it has in hand: nobody starts it again."""
    full = DiskFault(kind="write", do="full", file=STORE_LOG, on=True, until="room")
    system.run_signer()
    ask(system)
    system.arm()
    system.run_client(Plan(disk=(full,), armed_by=ARMED, heard=HEARD), "--drain")
    system.wait_until(lambda: system.log("client").count("disk is full") > 2, "the client has tried three times")
    assert {system.find(each).state for each in system.requests[-3:]} == {"queued"}
    (system.directory / "room").touch()
    finish(system)


@pytest.mark.parametrize("nth", [2, 11])
def test_a_client_that_dies_in_the_middle_of_a_write(system: FaultySystem, nth: int) -> None:
    torn = DiskFault(kind="write", do="torn", file=STORE_LOG, nth=nth)
    system.run_signer()
    ask(system)
    system.arm()
    system.run_client(Plan(disk=(torn,), armed_by=ARMED, heard=HEARD), "--drain")
    system.wait_for_death("client")
    system.run_client(Plan(heard=HEARD), "--drain")
    finish(system)


def test_a_client_waits_while_somebody_else_keeps_the_database(system: FaultySystem) -> None:
    """Whoever copies the file with a lock on it, or has forgotten a transaction in another window."""
    system.run_signer()
    ask(system)
    system.run_client(Plan(heard=HEARD, constants={"cassiopeia.store.connection.BUSY_TIMEOUT_S": 0.2}), "--drain")
    holder = sqlite3.connect(system.directory / "ca/client/store.sqlite", isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        system.wait_until(lambda: "database is locked" in system.log("client"), "the client has met the lock")
    finally:
        holder.close()
    finish(system)


def test_a_directory_that_cannot_be_published_to_holds_up_nothing_else(system: FaultySystem) -> None:
    """Certificates are issued all the same; a revocation counts as done when its CRL is where everybody sees it."""
    public, away = (system.directory / f"ca/client/{each}" for each in ("public", "away"))
    retries = {
        "cassiopeia.client.crl_sync._UNPUBLISHED_RETRY_S": 0.5,
        "cassiopeia.client.publish._LONGEST_DELAY_S": 0.3,
    }
    system.run_signer()
    system.run_client(Plan(heard=HEARD, constants=retries))
    system.wait_for_log("client", "session open")
    public.rename(away)
    asked = system.request(3)
    (revoked,) = system.revoke()
    system.wait_until(lambda: {system.find(each).state for each in asked} == {"issued"}, "certificates are issued")
    system.wait_for_log("client", "no revocation counts as done before")
    assert system.store.certificates.look_up(revoked).revocation_state == "requested"
    away.rename(public)
    system.wait_until(
        lambda: system.store.certificates.look_up(revoked).revocation_state == "revoked", "the revocation is done"
    )
    system.stop("client")
    system.stop("signer")
    check_at_rest(system)
    system.check_logs()
