"""The signer is made again, and lost again before its client has copied that: the client's store is ahead of its copy.

The store then holds a signed head of an epoch of which it has no entry. The journal is made again from it all the same,
under a number that nobody has seen, and whoever shows that head is served.
"""

from __future__ import annotations

import shutil

from tests.faults.launcher import Plan
from tests.faults.rest import ARMED, STATE, check_at_rest
from tests.faults.system import CLIENT, SIGNER, SIGNER_ID, FaultySystem

from cassiopeia.core import crl
from cassiopeia.journal import head as heads
from cassiopeia.journal.crls import NUMBERS_SKIPPED

UNCOPIED = Plan(kill="copy asked", armed_by=ARMED)


def test_a_disk_that_is_lost_again_before_anything_was_copied(system: FaultySystem) -> None:
    make_again(system)
    lose_before_it_is_copied(system)

    make_again(system)

    go_on(system)
    replay = check_at_rest(system, rebuilt=True)
    assert replay.epoch == 3
    # Each of the two epochs may have had CRLs that went out. Only one sub-CA has had to sign one since.
    assert max(crl_numbers(system)) > 2 * NUMBERS_SKIPPED


def test_a_disk_that_is_lost_a_third_time(system: FaultySystem) -> None:
    for _ in range(2):
        make_again(system)
        lose_before_it_is_copied(system)

    make_again(system)

    go_on(system)
    assert check_at_rest(system, rebuilt=True).epoch == 4


def test_an_old_disk_that_is_put_in_its_place_halts_until_it_is_made_again(system: FaultySystem) -> None:
    shutil.copytree(system.directory / STATE, system.directory / "old")
    make_again(system)
    lose_before_it_is_copied(system)
    shutil.rmtree(system.directory / STATE)
    (system.directory / "old").rename(system.directory / STATE)
    system.run_signer()
    system.run_client()
    system.wait_for_log("signer", "halted: a client holds a head of")
    system.stop("client")
    system.stop("signer")

    make_again(system, "--replace")

    go_on(system)
    assert check_at_rest(system, rebuilt=True).epoch == 3


def make_again(system: FaultySystem, *options: str) -> None:
    """The signer has no disk any more, or with `--replace` an old one."""
    if not options:
        shutil.rmtree(system.directory / STATE)
    system.run("journal", "export", "-c", CLIENT, "--out", "copy.journal")
    system.run("signer", "rebuild", "-c", SIGNER, "--journal", "copy.journal", *options)
    (system.directory / "copy.journal").unlink()


def lose_before_it_is_copied(system: FaultySystem) -> None:
    """A client hears the head of the new epoch, and is killed when it asks for the entries."""
    system.arm()
    system.run_signer()
    system.run_client(UNCOPIED)
    system.wait_for_death("client")
    system.kill("signer")
    state = system.store.journal_copies.state(SIGNER_ID)
    assert state.head is not None
    assert state.proof is not None
    assert heads.read_head(state.head.octets).epoch > state.link.epoch == 1


def go_on(system: FaultySystem) -> None:
    system.request(2)
    system.revoke()
    system.run_signer()
    system.drain()
    system.stop("signer")
    assert {system.find(each).state for each in system.requests} == {"issued"}
    system.run("journal", "verify", "-c", CLIENT)
    system.check_logs()


def crl_numbers(system: FaultySystem) -> list[int]:
    """What is published."""
    public = system.directory / "ca/client/public"
    return [crl.read_crl((public / f"{name}.crl").read_bytes()).number for name in system.authorities]
