"""A signer whose machine's clock is wrong issues nothing, says so, and goes on when its operators have said the time.

The machine is played by `tests.faults.launcher`, which starts the real program with another wall clock.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.system import System
from tests.acceptance.conftest import QUICK_KEYS
from tests.faults.launcher import Launch, Launcher, Plan
from tests.support.acceptance import (
    SERVER,
    check_nothing_half_written,
    fails,
    issue,
    make_key,
    make_request,
    start,
    submit,
    validity,
    verify,
    wait_for_crls,
)
from tests.support.ordering import order, ordered_system
from tests.support.warm_commands import WarmCommands

DAY = dt.timedelta(days=1)


@pytest.fixture
def system(short_path: Path, commands: WarmCommands) -> Iterator[System]:
    """An authority with two operators who both must sign; it has run, and its signer has been stopped."""
    with ordered_system(short_path, commands, *QUICK_KEYS) as made:
        start(made)
        wait_for_crls(made)
        made.stop("signer")
        yield made


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    with Launcher() as made:
        yield made


def start_signer(system: System, launcher: Launcher, *, wrong_by: dt.timedelta) -> None:
    """Start the signer on a machine whose clock is wrong."""
    seen = len(system.log("signer"))
    launch = Launch(
        directory=str(system.directory),
        arguments=["signer", "run", "-c", "ca/signer/signer.toml", "--verbose"],
        plan=Plan(clock_s=wrong_by.total_seconds()),
    )
    started = launcher.start(launch, log=system.directory / "signer.log")
    system.processes["signer"] = started  # type: ignore[assignment] # it does what is asked of the other
    system.wait_until(lambda: "running: signer 1" in system.log("signer")[seen:], "the signer runs")


def state(system: System) -> str:
    """The signer's state and reason, as the client heard it last."""
    [signer] = system.ask("status")["signers"]
    return f"{signer['state']}: {signer['reason']}"


def request_one(system: System) -> str:
    key = make_key(system, "-algorithm", "ED25519")
    return submit(system, "--profile", SERVER, "--dns", "a.example.org", make_request(system, key))


def why_it_waits(system: System, request: str) -> str:
    return fails(system, "request", "wait", options=[request, "--timeout", "0"])


def crl_numbers(system: System) -> dict[str, int]:
    return {each["authority"]: each["number"] for each in system.ask("status")["crls"]}


def order_time(system: System) -> str:
    """Draft an order, let both operators sign it, and send it; return what the draft said."""
    draft, answer = order(system, "confirm-clock")
    assert "signer 1 has obeyed order 1: entry " in answer
    return draft


def test_a_clock_that_stands_a_year_back_is_put_right_over_the_line(system: System, launcher: Launcher) -> None:
    start_signer(system, launcher, wrong_by=-365 * DAY)
    waiting = request_one(system)
    numbers = crl_numbers(system)
    system.wait_until(lambda: state(system).startswith("halted"), "the client hears that the signer has halted")

    assert "nothing is issued, no CRL is signed" in state(system)
    assert "cassiopeia order make confirm-clock" in system.client("status").stdout
    system.wait_until(lambda: "the clock shows" in why_it_waits(system, waiting), "the request says what it waits for")
    assert crl_numbers(system) == numbers

    order_time(system)
    certificate = system.directory / "issued.pem"
    system.client("request", "wait", options=[waiting, "--out", certificate.name])

    not_before, _ = validity(system, certificate)
    assert abs(not_before - dt.datetime.now(dt.UTC)) < DAY
    assert verify(system, certificate).endswith("OK\n")
    check_nothing_half_written(system)
    [sent] = system.ask("order", "list")["orders"]
    assert (sent["state"], sent["reason"]) == ("obeyed", "a drill")

    # The machine's clock is as wrong as before: what was ordered holds without another order.
    system.stop("signer")
    start_signer(system, launcher, wrong_by=-365 * DAY)
    assert verify(system, issue(system, "--profile", SERVER, "--dns", "b.example.org", _csr(system))).endswith("OK\n")
    log = system.log("signer")
    assert log.count("[ERROR]") == log.count("halted (clock-implausible)") == 1
    assert "Traceback" not in log + system.log("client")


def test_a_clock_that_leapt_stops_issuing_alone(system: System, launcher: Launcher) -> None:
    """CRLs are signed on; those of a time that has not come are not published."""
    numbers = crl_numbers(system)
    start_signer(system, launcher, wrong_by=20 * DAY)
    waiting = request_one(system)
    system.wait_until(lambda: state(system).startswith("halted"), "the client hears that the signer has halted")
    assert "20 days ahead of the newest journal entry" in state(system)
    assert "CRLs are signed on" in state(system)

    def signed_on() -> bool:
        [signer] = system.ask("status")["signers"]
        return all(each["crl_number"] > numbers[each["name"]] for each in signer["authorities"])

    system.wait_until(signed_on, "the signer signs CRLs by its own clock")
    assert crl_numbers(system) == numbers

    assert "sets it back by 20 days" in order_time(system)
    system.client("request", "wait", options=[waiting])
    system.wait_until(lambda: state(system) == "running: ", "the client hears that the signer runs")
    system.stop("signer")
    assert "Nothing is wrong." in system.run("journal", "verify", "-c", "ca/signer/signer.toml").stdout


def _csr(system: System) -> str:
    return make_request(system, make_key(system, "-algorithm", "ED25519"))
