"""A whole system under load whose operators switch the crypto library: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import datetime as dt
import signal

import pytest
from tests.faults.launcher import Plan
from tests.faults.rest import HEARD, check_at_rest
from tests.faults.system import CLIENT, SIGNER, SIGNER_ID, FaultySystem
from tests.support.faulty_worker import FAULTY, environment, set_fault
from tests.support.operators import signed

from cassiopeia.client.order_draft import hear
from cassiopeia.journal.entry import SIGNATURE_HALT
from cassiopeia.journal.order import ResumeAuthority

IN_FORCE = "the new configuration is in force"


def switch(system: FaultySystem, *, backend: str, verify_with: str = "none") -> None:
    """Write this into signer.toml, reload the signer, and wait until it is in force."""
    path = system.directory / SIGNER
    before = system.log("signer").count(IN_FORCE)
    text, _, _ = path.read_text().partition("\n# The library.\n")
    tables = [
        f'[authority.{name}]\nbackend = "{backend}"\nverify_with = "{verify_with}"\n' for name in system.authorities
    ]
    path.write_text(f"{text}\n# The library.\n{''.join(tables)}")
    system.processes["signer"].send_signal(signal.SIGHUP)
    system.wait_until(lambda: system.log("signer").count(IN_FORCE) > before, "the signer has taken it over")


def resume(system: FaultySystem, name: str) -> None:
    """By an order, which the client carries."""
    heard = hear(system.store, journal_keys=system.journal_keys, signer_id=SIGNER_ID)
    draft = heard.draft(ResumeAuthority(authority=name), reason="another library signs now")
    order = system.store.orders.put(SIGNER_ID, 1, signed(draft, 0), now=dt.datetime.now(dt.UTC))
    system.wait_until(lambda: system.store.orders.get(order.id).state == "obeyed", "the order is obeyed")


@pytest.mark.parametrize("other", ["gnutls", "wolfssl"])
def test_it_is_switched_back_and_forth(system: FaultySystem, other: str) -> None:
    system.run_signer()
    system.run_client(Plan(heard=HEARD))
    system.wait_for_log("signer", "running: signer 1")
    for backend, verify_with in ((other, "none"), ("openssl", other), ("openssl", "none")):
        system.request(15)
        system.revoke()
        switch(system, backend=backend, verify_with=verify_with)
        system.request(5)
    system.stop("client")
    system.drain()
    system.stop("signer")
    replay = check_at_rest(system)
    # Each switch was journaled, the last one as the rules that there were at first.
    assert replay.kinds["configuration"] == 4
    assert replay.kinds["result"] == len(system.requests)
    said = system.log("signer")
    assert f"openssl -> {other};" in said or f"openssl -> {other}," in said
    assert f"{other} -> openssl, verified by {other} too" in said
    system.check_logs()


@pytest.mark.parametrize("fault", ["flip", "says-wrong"])
def test_no_wrong_signature_leaves_the_signer_and_all_come_in_the_end(system: FaultySystem, fault: str) -> None:
    directory = (system.directory / SIGNER).parent
    system.run_signer(Plan(environment=environment(system.directory / "faulty")))
    system.run_client(Plan(heard=HEARD))
    system.wait_for_log("signer", "running: signer 1")
    sound, verifier = ("openssl", FAULTY) if fault == "says-wrong" else (FAULTY, "none")
    switch(system, backend=sound, verify_with=verifier)
    system.request(5)
    system.wait_until(lambda: len(system.certificates) == len(system.requests), "what is asked for is issued")
    # 1. The library breaks, and whatever it signs stays inside.
    set_fault(directory, fault)
    issued = len(system.certificates)
    system.request(10)
    system.wait_for_log("signer", "ALARM: a sub-CA is halted: ")
    name = system.log("signer").partition("ALARM: a sub-CA is halted: ")[2].partition(":")[0]
    system.wait_until(
        lambda: f"has halted {name}, because a signature by its key was wrong" in _status(system), "people are told"
    )
    assert len(system.certificates) == issued
    # 2. Another one signs; a quorum says that it may.
    switch(system, backend="gnutls", verify_with="none")
    resume(system, name)
    system.stop("client")
    system.drain()
    system.stop("signer")
    replay = check_at_rest(system)
    assert replay.kinds["result"] == len(system.requests)
    assert replay.kinds["halt"] == replay.kinds["resume"] == 1
    assert SIGNATURE_HALT + name not in replay.halts
    system.check_logs()


def _status(system: FaultySystem) -> str:
    return system.run("status", "-c", CLIENT).stdout
