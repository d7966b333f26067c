"""A key that is compromised says so itself: its revocation waits for no cap, and it gets no certificate any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from examples.system import System
from tests.acceptance.conftest import QUICK_KEYS
from tests.support.acceptance import (
    SERVER,
    QuickSystem,
    check_logs,
    fails,
    issue,
    make_authority,
    make_key,
    make_request,
    serial_of,
    start,
    wait_for_crls,
)
from tests.support.warm_commands import WarmCommands

KINDS = {
    "rsa": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "p-384": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "ed25519": ("-algorithm", "ED25519"),
}


@pytest.fixture
def system(short_path: Path, commands: WarmCommands) -> Iterator[System]:
    with QuickSystem(directory=short_path, init_options=QUICK_KEYS, commands=commands) as made:
        make_authority(made)
        with (short_path / "ca/signer/signer.toml").open("a") as file:
            file.write("\n[caps]\nrevocations = 1\n")
        start(made)
        wait_for_crls(made)
        yield made
        for name in list(made.processes):
            made.stop(name)
        check_logs(made)


def state(system: System, serial: str) -> str:
    return str(system.ask("certificate", "show", options=[serial])["state"])


def test_its_word_passes_the_cap_and_blocks_it(system: System) -> None:
    keys = {kind: make_key(system, *options) for kind, options in KINDS.items()}
    requests = {kind: make_request(system, key) for kind, key in keys.items()}
    certificates = {
        kind: issue(system, "--profile", SERVER, "--dns", f"{kind}.example.org", request)
        for kind, request in requests.items()
    }
    serials = {kind: serial_of(system, certificate) for kind, certificate in certificates.items()}
    spent = make_request(system, make_key(system, "-algorithm", "ED25519"))
    filler = serial_of(system, issue(system, "--profile", SERVER, "--dns", "filler.example.org", spent))

    # The cap is reached, and another waits for most of an hour.
    system.client("certificate", "revoke", options=[filler, "--wait"])
    assert "still waits" in fails(system, "certificate", "revoke", options=[serials["rsa"], "--wait", "--timeout", "2"])
    system.wait_until(lambda: "the cap revocations is reached" in system.client("status").stdout, "the cap is an alarm")

    # A wrong key is said to be one; the right one passes, also for what waits already.
    line = fails(system, "certificate", "revoke", options=[serials["rsa"], "--key", keys["p-384"]])
    assert "is not the key of the certificate" in line
    for kind, serial in serials.items():
        answer = system.ask("certificate", "revoke", options=[serial, "--key", keys[kind], "--wait"])
        assert (answer["state"], answer["reason"]) == ("revoked", "keyCompromise")

    # From then on nobody gets a certificate for it, also behind a restart.
    system.stop("signer")
    system.start_signer("--verbose")
    for kind, request in requests.items():
        refused = fails(
            system,
            "request",
            "submit",
            options=["--wait", "--profile", SERVER, "--dns", f"again.{kind}.example.org", request],
        )
        assert "This key is compromised" in refused
    # The keys themselves went nowhere.
    key = load_pem_private_key((system.directory / keys["ed25519"]).read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    for path in (system.directory / "ca").rglob("*"):
        assert not path.is_file() or key.private_bytes_raw() not in path.read_bytes(), path
