"""A disk that really runs full: certificates stop, revocations and CRLs go on, and all goes on once there is room.

Needs the right to mount a file system of a few MiB (root, with CAP_SYS_ADMIN).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.system import System
from tests.support.acceptance import (
    SERVER,
    check_nothing_half_written,
    issue,
    make_key,
    make_request,
    serial_of,
    start,
    submit,
    verify,
    wait_for_crls,
)

KIB = 1024
RESERVE_MIB = 4
# As in signer.disk: issuing stops below a quarter of the reserve, which is given up below a sixteenth.
SHORT_OF_SPACE = 512 * KIB
FULL = 128 * KIB


@pytest.fixture
def state(alone: System) -> Iterator[Path]:
    """The signer's state directory on a small disk of its own."""
    configuration = alone.directory / "ca/signer/signer.toml"
    configuration.write_text(f"{configuration.read_text()}\n[disk]\nreserve_mib = {RESERVE_MIB}\n")
    place = alone.directory / "ca/signer/state"
    options = ["-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", str(place)]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode != 0:
        pytest.skip("this needs the right to mount: run as root, outside of a container without CAP_SYS_ADMIN")
    try:
        yield place
    finally:
        for name in list(alone.processes):
            alone.kill(name)
        subprocess.run(["umount", str(place)], check=True)


def free(place: Path) -> int:
    done = subprocess.run(
        ["stat", "--file-system", "--format=%a %S", str(place)], check=True, capture_output=True, text=True
    )
    blocks, size = map(int, done.stdout.split())
    return blocks * size


def fill(place: Path, *, leave: int) -> None:
    """Let other files take all but so many octets."""
    with (place / "filler").open("ab") as file:
        file.write(bytes(max(0, free(place) - leave)))


def said(system: System) -> str:
    [signer] = system.ask("status")["signers"]
    return f"{signer['state']}: {signer['reason']}"


def test_a_full_disk_stops_certificates_alone(alone: System, state: Path) -> None:
    start(alone)
    wait_for_crls(alone)
    request = make_request(alone, make_key(alone, "-algorithm", "ED25519"))
    certificate = issue(alone, "--profile", SERVER, "--dns", "a.example.org", request)

    fill(state, leave=SHORT_OF_SPACE)
    alone.wait_for_log("signer", "nothing is issued until there is more")
    waiting = submit(alone, "--profile", SERVER, "--dns", "b.example.org", request)
    alone.wait_until(lambda: "MiB left: nothing is issued" in said(alone), "the signer says that space runs short")
    assert said(alone).startswith("halted")
    assert (state / "reserve").exists()

    fill(state, leave=FULL)
    alone.wait_for_log("signer", "the reserve is given up")
    assert not (state / "reserve").exists()
    alone.client("certificate", "revoke", options=[serial_of(alone, certificate), "--wait"])
    crl = f"{alone.crl_of(certificate)}.pem"
    assert "certificate revoked" in verify(alone, certificate, "-crl_check", "-CRLfile", crl, status=2)

    (state / "filler").unlink()
    alone.client("request", "wait", options=[waiting])
    alone.wait_until(lambda: said(alone) == "running: ", "the client hears that the signer runs")
    assert (state / "reserve").stat().st_size == RESERVE_MIB * KIB * KIB
    check_nothing_half_written(alone)
    log = alone.log("signer")
    assert log.count("[ERROR]") == log.count("the reserve is given up") == 1
    for name in ("client", "signer"):
        alone.stop(name)
