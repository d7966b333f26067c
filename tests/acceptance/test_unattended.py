"""After a power cut nobody is there: the signer comes up locked, says so, unlocks its keys, goes on with the queue."""

from __future__ import annotations

from examples.system import System
from tests.support.acceptance import (
    SERVER,
    certificates,
    check_logs,
    check_nothing_half_written,
    make_key,
    make_request,
    requests,
    start,
    submit,
)

BACKLOG = 6


def submit_some(system: System, count: int) -> set[str]:
    request = make_request(system, make_key(system, "-algorithm", "ED25519"))
    return {submit(system, "--profile", SERVER, "--dns", f"n{n}.example.org", request) for n in range(count)}


def is_issued(system: System, identifiers: set[str]) -> bool:
    return {each["id"] for each in requests(system) if each["state"] == "issued"} >= identifiers


def test_from_a_power_cut_to_certificates_without_a_hand(alone: System) -> None:
    start(alone)
    before = submit_some(alone, BACKLOG)
    alone.wait_until(lambda: bool(certificates(alone)), "the first certificate is there")
    for name in ("signer", "client"):
        alone.kill(name)
    waiting = submit_some(alone, BACKLOG)

    # Both come up by themselves, in whatever order, as their units start them.
    alone.start_client("--verbose")
    alone.start_signer("--verbose")

    alone.wait_until(lambda: is_issued(alone, before | waiting), "everything is issued")
    check_nothing_half_written(alone)
    assert len(certificates(alone)) == 2 * BACKLOG
    log = alone.log("signer")
    assert log.rindex("locked: unlocking") < log.rindex("running: signer 1")
    check_logs(alone)
    for name in ("client", "signer"):
        alone.stop(name)


def test_a_locked_signer_says_what_it_waits_for_and_unlocks_when_that_comes(alone: System) -> None:
    """The passphrase is on a medium that is mounted later than the signer is started."""
    passphrase = alone.directory / "ca/signer/passphrase"
    away = passphrase.rename(alone.directory / "medium")
    alone.start_signer("--verbose")
    alone.start_client("--verbose")
    waiting = submit_some(alone, 1)

    def heard() -> bool:
        signers = alone.ask("status")["signers"]
        return bool(signers) and "plug its medium in" in signers[0]["reason"]

    alone.wait_until(heard, "the client hears what the signer waits for")
    status = alone.client("status").stdout
    assert "signer 1 locked" in status
    assert "the passphrase of the CA keys is not there" in status
    assert certificates(alone) == []

    away.rename(passphrase)
    alone.wait_until(lambda: is_issued(alone, waiting), "the request is issued")
    alone.wait_until(lambda: alone.ask("status")["signers"][0]["state"] == "running", "the client hears that it runs")
    check_logs(alone)
    for name in ("client", "signer"):
        alone.stop(name)
