"""A new bundle over the line, by an order of two of three operators: used at once, and nothing is started again."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.system import System
from tests.acceptance.conftest import QUICK_KEYS
from tests.support.acceptance import (
    SERVER,
    QuickSystem,
    check_logs,
    check_nothing_half_written,
    fails,
    issue,
    make_authority,
    make_key,
    make_request,
    start,
    submit,
    verify,
    wait_for_crls,
)
from tests.support.warm_commands import WarmCommands

OPERATORS = ("anna", "ben", "carla")


@pytest.fixture
def system(short_path: Path, commands: WarmCommands) -> Iterator[System]:
    """Three operators, two of whom must sign what loosens; one sub-CA for each family, and no spare."""
    keys = [word for name in OPERATORS for word in ("--operator-key", f"{name}.pem")]
    options = (*QUICK_KEYS, "--periods", "1", *keys, "--quorum", "2")
    with QuickSystem(directory=short_path, init_options=options, commands=commands) as made:
        (short_path / "passphrase").write_text("correct horse battery staple\n")
        for name in OPERATORS:
            done = made.run("order", "key", f"{name}.key", "--passphrase-file", "passphrase")
            (short_path / f"{name}.pem").write_text(done.stdout)
        make_authority(made)
        yield made
        for name in list(made.processes):
            made.stop(name)


def hold_ceremony(system: System) -> str:
    """A spare for the first family, of the period that runs; return the name of that sub-CA."""
    offline = system.directory / "ca/offline"
    text = (offline / "hierarchy.toml").read_text()
    (offline / "spares.toml").write_text(text.replace("spares = 0", "spares = 1"))
    before = {path.stem for path in (system.directory / "ca/signer/certificates").glob("*.pem")}
    (first,) = (name for name in before if name.startswith("unassured_"))
    period = "-".join(first.split("_")[1:])
    system.run(
        *("ceremony", "extend", "ca/offline/spares.toml", "--offline", "ca/offline/offline.bundle"),
        *("--period", period, "--periods", "1", "--out", "made"),
    )
    made = {path.stem for path in (system.directory / "made/public").glob("unassured_*.crt")} - before
    (name,) = made
    return name


def sign(system: System, file: str, *operators: str) -> None:
    for name in operators:
        system.run("order", "sign", file, "--key", f"{name}.key", "--passphrase-file", "passphrase", "--yes")


def started(system: System) -> dict[str, int]:
    return {name: process.pid for name, process in system.processes.items()}


def test_a_bundle_comes_over_the_line_and_its_sub_ca_issues(system: System) -> None:
    start(system)
    wait_for_crls(system)
    running = started(system)
    csr = make_request(system, make_key(system, "-algorithm", "ED25519"))
    first = issue(system, "--profile", SERVER, "--dns", "a.example.org", csr)
    old = system.authority_of(first)

    # 1. The only sub-CA of the family is halted: there is nobody to issue.
    system.client("order", "make", "halt-authority", old, options=["--reason", "a drill", "--out", "halt.order"])
    sign(system, "halt.order", "anna")
    system.client("order", "send", options=["halt.order", "--wait"])
    waiting = submit(system, "--profile", SERVER, "--dns", "b.example.org", csr)

    # 2. A ceremony makes a spare, and its keys are sealed to the signer.
    spare = hold_ceremony(system)
    bundle = "made/signer-1.bundle"
    digest = hashlib.sha256((system.directory / bundle).read_bytes()).hexdigest()
    options = ["--reason", "the first is halted", "--out", "bundle.order"]
    draft = system.client("order", "make", "install-bundle", bundle, options=options).stdout
    assert f"sub-CA {spare}: new; issues from " in draft
    assert f"sub-CA {old}" not in draft
    assert f"with the SHA-256 {digest}" in draft
    shown = system.run(
        "order", "show", "bundle.order", "--bundle", bundle, "--bundle-key", "made/bundle-key.pem"
    ).stdout
    assert "It holds:" in shown
    assert "brings keys, sealed to the signer alone: " in shown

    # 3. One operator is not enough; nothing changes.
    sign(system, "bundle.order", "carla")
    sent = ["bundle.order", "--bundle", bundle, "--wait"]
    assert "and 2 must" in fails(system, "order", "send", options=sent)
    assert not list((system.directory / "ca/signer/bundles").glob("*"))
    assert "has to go along: --bundle" in fails(system, "order", "send", options=["bundle.order"])

    # 4. The client gets its own bundle while it runs; then two of the three are enough for the signer's.
    system.client("client", "install", options=["made/client.bundle"])
    system.wait_for_log("client", "works by bundle 2 now")
    sign(system, "bundle.order", "anna")
    system.client("order", "send", options=sent)
    system.wait_for_log("signer", "the new configuration is in force: sub-CA new: ")

    # 5. What waited is issued by the new sub-CA, and what comes is as well.
    certificate = system.directory / "late.pem"
    system.client("request", "wait", options=[waiting, "--out", certificate.name])
    assert system.authority_of(certificate) == spare
    assert verify(system, certificate).endswith("OK\n")
    another = issue(system, "--profile", SERVER, "--dns", "c.example.org", csr)
    assert system.authority_of(another) == spare
    system.wait_until((system.directory / f"ca/client/public/{spare}.crl").exists, "its CRL is published")

    # 6. Nothing was started again, nothing is left over, and the journal tells all of it.
    assert started(system) == running
    check_nothing_half_written(system)
    with contextlib.closing(sqlite3.connect(system.directory / "ca/client/store.sqlite")) as store:
        assert store.execute("SELECT COUNT(*) FROM order_bundle").fetchall() == [(0,)]
    listed = system.ask("order", "list")["orders"]
    assert [(each["order"], each["state"]) for each in listed] == [
        ("installBundle", "obeyed"),
        ("installBundle", "refused"),
        ("haltAuthority", "obeyed"),
    ]
    system.stop("client")
    system.stop("signer")
    verified = system.run("journal", "verify", "-c", "ca/signer/signer.toml").stdout
    assert "Nothing is wrong." in verified
    check_logs(system)


def test_a_bundle_that_cannot_be_installed_changes_nothing(system: System) -> None:
    start(system)
    wait_for_crls(system)
    hold_ceremony(system)
    octets = bytearray((system.directory / "made/signer-1.bundle").read_bytes())
    octets[len(octets) // 2] ^= 1
    (system.directory / "flipped.bundle").write_bytes(octets)
    options = ["--reason", "a drill", "--out", "x.order"]
    told = fails(system, "order", "make", "install-bundle", "flipped.bundle", options=options)
    assert "was changed after it was signed" in told
    told = fails(system, "order", "make", "install-bundle", "made/client.bundle", options=options)
    assert "of the kind client" in told
    # The signer has lost what opens it: it says so, and goes on as it was.
    key = system.directory / "ca/signer/sealing.key"
    key.rename(key.with_suffix(".away"))
    system.client("order", "make", "install-bundle", "made/signer-1.bundle", options=options)
    sign(system, "x.order", "anna", "ben")
    told = fails(system, "order", "send", options=["x.order", "--bundle", "made/signer-1.bundle", "--wait"])
    assert "cannot read the key to which its passphrase is sealed" in told
    assert not list((system.directory / "ca/signer/bundles").glob("*"))
    csr = make_request(system, make_key(system, "-algorithm", "ED25519"))
    issue(system, "--profile", SERVER, "--dns", "a.example.org", csr)
    check_logs(system)
