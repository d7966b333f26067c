"""Operators and caps, driven from outside: what is halted, blocked or capped waits, and goes on by an order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.system import System
from tests.acceptance.conftest import QUICK_KEYS
from tests.support.acceptance import (
    HOUSE,
    SERVER,
    check_logs,
    check_nothing_half_written,
    fails,
    issue,
    make_key,
    make_request,
    serial_of,
    start,
    submit,
    verify,
    wait_for_crls,
)
from tests.support.ordering import order, ordered_system
from tests.support.warm_commands import WarmCommands

CAPS = "\n[caps]\naccount_certificates = 2\nrevocations = 1\n"


@pytest.fixture
def system(short_path: Path, commands: WarmCommands) -> Iterator[System]:
    with ordered_system(short_path, commands, *QUICK_KEYS) as made:
        yield made


def run(system: System, *, more: str = "") -> None:
    with (system.directory / "ca/signer/signer.toml").open("a") as file:
        file.write(more)
    start(system)
    wait_for_crls(system)


def csr(system: System) -> str:
    return make_request(system, make_key(system, "-algorithm", "ED25519"))


def why_it_waits(system: System, request: str) -> str:
    return fails(system, "request", "wait", options=[request, "--timeout", "0"])


def waits_because(system: System, request: str, words: str) -> None:
    system.wait_until(lambda: words in why_it_waits(system, request), f"the request says that {words}")


def test_a_sub_ca_is_halted_by_one_operator_and_resumed_by_both(system: System) -> None:
    run(system)
    first = issue(system, "--profile", SERVER, "--dns", "a.example.org", csr(system))
    name = system.authority_of(first)
    draft, answer = order(system, "halt-authority", name, by=("anna",))
    assert "restricts what the signer does" in draft
    assert "signer 1 has obeyed order 1" in answer

    waiting = submit(system, "--profile", SERVER, "--dns", "b.example.org", csr(system))
    waits_because(system, waiting, "is halted by an order")
    # Its CRL goes on, and so do other sub-CAs.
    system.client("certificate", "revoke", options=[serial_of(system, first), "--wait"])
    assert verify(system, issue(system, "--profile", HOUSE, "--cn", "Ann", csr(system))).endswith("OK\n")
    assert f"by order: {name} halted" in system.client("status").stdout

    system.stop("signer")
    system.start_signer("--verbose")
    system.wait_until(lambda: system.ask("status")["signers"][0]["state"] == "running", "the signer runs again")
    waits_because(system, waiting, "is halted by an order")
    assert (
        "1 of the 2 operators that this signer knows have signed this order, and 2 must"
        in (order(system, "resume-authority", name, by=("ben",), status=1)[1])
    )
    order(system, "resume-authority", name)
    certificate = system.directory / "resumed.pem"
    system.client("request", "wait", options=[waiting, "--out", certificate.name])
    assert verify(system, certificate).endswith("OK\n")
    check_nothing_half_written(system)
    system.stop("signer")
    assert "Nothing is wrong." in system.run("journal", "verify", "-c", "ca/signer/signer.toml").stdout
    check_logs(system)


def test_a_blocked_key_is_certified_again_when_it_is_unblocked(system: System) -> None:
    run(system)
    blocked = csr(system)
    assert "a certification request" in order(system, "block-key", blocked, by=("ben",))[0]
    options = ["--profile", SERVER, "--dns", "a.example.org", blocked]
    assert "have blocked this key" in fails(system, "request", "submit", options=["--wait", *options])
    order(system, "unblock-key", blocked)
    assert verify(system, issue(system, *options)).endswith("OK\n")
    check_logs(system)


def test_what_is_over_a_cap_waits_until_operators_raise_it(system: System) -> None:
    run(system, more=CAPS)
    options = ["--profile", SERVER, "--account", "alice", "--dns"]
    issued = [issue(system, *options, f"{number}.example.org", csr(system)) for number in range(2)]
    waiting = submit(system, *options, "c.example.org", csr(system))
    waits_because(system, waiting, "the signer's cap is reached, which is 2 certificates an hour for the account")
    assert verify(
        system, issue(system, "--profile", SERVER, "--account", "bob", "--dns", "d.example.org", csr(system))
    ).endswith("OK\n")

    def alarms() -> str:
        return " ".join(system.ask("status")["signers"][0]["alarms"])

    system.wait_until(lambda: "the cap account-certificates is reached" in alarms(), "the alarm", time_limit_s=60)
    assert "TO DO    signer 1: the cap account-certificates is reached" in system.client("status").stdout

    # It holds after a restart: it is computed from the journal.
    system.stop("signer")
    system.start_signer("--verbose")
    system.wait_until(lambda: system.ask("status")["signers"][0]["state"] == "running", "the signer runs again")
    waits_because(system, waiting, "the signer's cap is reached")
    order(system, "raise-cap", "account-certificates", "3", by=("anna",), status=1)
    order(system, "raise-cap", "account-certificates", "3")
    certificate = system.directory / "late.pem"
    system.client("request", "wait", options=[waiting, "--out", certificate.name])
    assert verify(system, certificate).endswith("OK\n")

    # Revocations wait in the same way, and none is lost.
    first, second = (serial_of(system, each) for each in issued)
    system.client("certificate", "revoke", options=[first, "--wait"])
    system.client("certificate", "revoke", options=[second])
    system.wait_until(lambda: sum(system.ask("status")["queue"]["postponed"].values()) == 1, "it is put off")
    order(system, "raise-cap", "revocations", "2", "--hours", "1")
    system.wait_until(
        lambda: system.ask("certificate", "show", options=[second])["revoked"] is not None, "it is revoked"
    )
    assert "cap revocations raised to 2 until" in system.client("status").stdout
    check_nothing_half_written(system)
