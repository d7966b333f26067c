"""The real signer is killed while it obeys the order for a bundle: in the end it is in force if the journal says so."""

from __future__ import annotations

import datetime as dt

import pytest
from tests.faults.launcher import Plan
from tests.faults.rest import HEARD, check_at_rest
from tests.faults.system import SIGNER, SIGNER_ID, FaultySystem
from tests.support.operators import signed

from cassiopeia.client.order_draft import hear
from cassiopeia.config import load_signer_config
from cassiopeia.core.bundle import bundle_hash
from cassiopeia.journal.order import InstallBundle
from cassiopeia.store.orders import StoredOrder

STEPS = ("install 1 order appended", "install 2 order durable", "install 3 bundle in force")


def hold_ceremony(system: FaultySystem) -> bytes:
    """Spares for the period that runs; return the signer's bundle, sealed to it."""
    offline = system.directory / "ca/offline"
    text = (offline / "hierarchy.toml").read_text()
    (offline / "spares.toml").write_text(text.replace("spares = 0", "spares = 1"))
    period = min(name.removeprefix("unassured_") for name in system.authorities if name.startswith("unassured_"))
    system.run(
        *("ceremony", "extend", "ca/offline/spares.toml", "--offline", "ca/offline/offline.bundle"),
        *("--period", period.replace("_", "-"), "--periods", "1", "--out", "made"),
    )
    return (system.directory / "made/signer-1.bundle").read_bytes()


def send(system: FaultySystem, bundle: bytes) -> StoredOrder:
    """What the operator does, from the signer's newest word."""
    system.wait_until(lambda: system.store.orders.timestamp(SIGNER_ID) is not None, "the signer has said the time")
    system.wait_until(lambda: system.store.signers.report(SIGNER_ID) is not None, "the signer has said how it is")
    heard = hear(system.store, journal_keys=system.journal_keys, signer_id=SIGNER_ID)
    draft = heard.draft(InstallBundle(bundle_hash=bundle_hash(bundle), number=2), reason="a test")
    now = dt.datetime.now(dt.UTC)
    return system.store.orders.put(SIGNER_ID, 1, signed(draft, 0), bundle=bundle, now=now)


@pytest.mark.parametrize("killed_at", STEPS)
def test_a_signer_that_is_killed_finishes_what_it_has_journaled(system: FaultySystem, killed_at: str) -> None:
    bundle = hold_ceremony(system)
    system.run_signer(Plan(kill=killed_at))
    system.run_client(Plan(heard=HEARD))
    system.wait_for_log("signer", "running: signer 1")
    order = send(system, bundle)
    system.request(5)
    system.wait_for_death("signer")
    in_force = load_signer_config(system.directory / SIGNER).bundles.number
    assert in_force == (2 if killed_at == STEPS[2] else 0)
    system.run_signer()
    # The client sends it again: the signer knows it, or it was for the boot before.
    system.wait_until(lambda: system.store.orders.get(order.id).state != "waiting", "the order is answered")
    answered = system.store.orders.get(order.id)
    system.request(5)
    system.stop("client")
    system.drain()
    system.stop("signer")
    replay = check_at_rest(system)
    assert replay.kinds["result"] == len(system.requests)
    assert replay.kinds["order"] == (answered.state == "obeyed")
    if killed_at != STEPS[0]:
        assert answered.state == "obeyed"
    else:
        assert answered.state == "obeyed" or answered.answer.startswith("order-boot: ")
    assert load_signer_config(system.directory / SIGNER).bundles.number == (2 if replay.kinds["order"] else 0)
    assert system.store.orders.bundle(order.id) is None
    system.check_logs()
