"""The whole system, each process under what its unit forbids it: whatever it tried beyond that would end it."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from examples.system import CASSIOPEIA
from tests.support import confined
from tests.support.acceptance import (
    SERVER,
    QuickSystem,
    check_logs,
    issue,
    make_authority,
    make_key,
    make_request,
    serial_of,
    start,
    verify,
    wait_for_crls,
)
from tests.support.warm_commands import WarmCommands

UNITS = Path(__file__).resolve().parents[2] / "examples" / "systemd"
NAMES = ("publisher", "validator", "client", "signer")


class ConfinedSystem(QuickSystem):
    """Each of its four processes runs under its own unit."""

    def _start(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        command = confined.command(UNITS / f"cassiopeia-{name}.service", [], [*CASSIOPEIA, *arguments])
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=self.directory, stdout=log, stderr=log)
        self.processes[name] = process
        return process


@pytest.fixture(scope="module")
def system(commands: WarmCommands) -> Iterator[ConfinedSystem]:
    options = ("--unproved-profiles", "--key-algorithm", "P-256")
    with (
        TemporaryDirectory(prefix="ca-") as directory,
        ConfinedSystem(directory=Path(directory), init_options=options, commands=commands) as confined_system,
    ):
        make_authority(confined_system)
        start(confined_system)
        confined_system.start_validator()
        confined_system.start_publisher()
        wait_for_crls(confined_system)
        yield confined_system
        for name in NAMES:
            confined_system.stop(name)
        check_logs(confined_system)


def status(process_id: int) -> dict[str, str]:
    lines = Path(f"/proc/{process_id}/status").read_text(encoding="utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_certificates_and_revocations_come_out(system: ConfinedSystem) -> None:
    csr = make_request(system, make_key(system, "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"))

    certificate = issue(system, "--profile", SERVER, "--dns", "confined.example.org", csr)
    revoked = system.ask("certificate", "revoke", options=[serial_of(system, certificate), "--wait"])

    assert "OK" in verify(system, certificate)
    assert revoked["state"] == "revoked"


def test_a_changed_configuration_is_taken_over(system: ConfinedSystem) -> None:
    path = system.directory / "ca/signer/signer.toml"
    path.write_text(path.read_text().replace("resign_hours = 24", "resign_hours = 23"))

    subprocess.run(["kill", "-HUP", str(system.processes["signer"].pid)], check=True)

    system.wait_for_log("signer", "the new configuration is in force")


def test_responders_are_certified(system: ConfinedSystem) -> None:
    responder = system.directory / "ca/publisher/responder"

    system.wait_until(lambda: any(responder.glob("*.pem")), "a responder is certified")


def test_every_process_of_the_signer_is_under_it(system: ConfinedSystem) -> None:
    seen = [status(each) for each in system.process_ids("signer")]

    # The front, two or more workers, the examiner. 2: there is a filter (proc_pid_status(5)).
    assert len(seen) >= 3
    assert {(each["NoNewPrivs"], each["Seccomp"], each["Umask"]) for each in seen} == {("1", "2", "0077")}


def test_memory_is_locked_or_the_log_says_why_not(system: ConfinedSystem) -> None:
    seen = {each: status(each) for each in system.process_ids("signer")}
    front = system.processes["signer"].pid
    limits = Path(f"/proc/{front}/limits").read_text(encoding="ascii")

    locked = int(seen[front]["VmLck"].split()[0]) > 0

    unlimited = "unlimited" in next(line for line in limits.splitlines() if line.startswith("Max locked memory"))
    has_capability = int(seen[front]["CapEff"], 16) >> 14 & 1  # CAP_IPC_LOCK
    assert locked == bool(unlimited or has_capability), resource.getrlimit(resource.RLIMIT_MEMLOCK)
    assert ("memory is not locked" in system.log("signer")) == (not locked)
    # The front and its workers, which hold CA keys; not the process that only compares public keys.
    holding = [each for each in seen if "examination" not in Path(f"/proc/{each}/cmdline").read_text()]
    assert len(holding) == len(seen) - 1
    assert {int(seen[each]["VmLck"].split()[0]) > 0 for each in holding} == {locked}


def test_nothing_that_the_signer_wrote_is_for_others(system: ConfinedSystem) -> None:
    state = system.directory / "ca/signer/state"

    modes = {path.name: path.stat().st_mode & 0o077 for path in (state, *state.rglob("*"))}

    assert len(modes) > 1
    assert {name for name, mode in modes.items() if mode} == set()
