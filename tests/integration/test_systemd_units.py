"""The units that we give away: what systemd itself says of them, and what a program under theirs can't do.

Needs systemd-analyze (Debian: apt install systemd); systemd need not run.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import confined
from tests.support.softhsm import MODULE, make_softhsm

UNITS = Path(__file__).resolve().parents[2] / "examples" / "systemd"
DROP_INS = UNITS / "drop-ins"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
SIGNER = "cassiopeia-signer.service"
PROGRAM = "/opt/cassiopeia/bin/cassiopeia"

# The exposure that `systemd-analyze security` may find at the most, from 0 to 10. It counts IP sockets as 0.3, and what
# a drop-in opens.
MOST = {
    (SIGNER,): 0.2,
    (SIGNER, "signer-serial.conf"): 0.4,
    (SIGNER, "signer-tcp.conf"): 0.9,
    (SIGNER, "signer-credential.conf"): 0.2,
    (SIGNER, "signer-serial.conf", "signer-credential.conf"): 0.4,
    (SIGNER, "signer-token.conf"): 0.2,
    (SIGNER, "signer-token.conf", "signer-usb-token.conf"): 0.4,
    ("cassiopeia-client.service",): 1.1,
    ("cassiopeia-client.service", "client-serial.conf"): 1.3,
    ("cassiopeia-crl-watch.service",): 1.1,
    ("cassiopeia-publisher.service",): 1.1,
    ("cassiopeia-publisher.service", "publisher-port-80.conf"): 1.4,
    ("cassiopeia-validator.service",): 1.1,
}
# What every process is denied, and what keeps what is in its memory there.
EVERYWHERE = {
    "NoNewPrivileges": ["yes"],
    "AmbientCapabilities": [],
    "CapabilityBoundingSet": [],
    "LimitCORE": ["0"],
    "MemoryDenyWriteExecute": ["yes"],
    "ProtectSystem": ["strict"],
    "RestrictNamespaces": ["yes"],
    "SystemCallArchitectures": ["native"],
}


def installed(directory: Path, service: str, *drop_ins: str) -> Path:
    """As on a machine: the service, and beside it the drop-ins that somebody has chosen for it."""
    text = (UNITS / service).read_text(encoding="utf-8")
    # A program that is there.
    (directory / service).write_text(text.replace(PROGRAM, sys.executable), encoding="utf-8")
    if drop_ins:
        (directory / f"{service}.d").mkdir()
    for name in drop_ins:
        shutil.copy(DROP_INS / name, directory / f"{service}.d")
    return directory / service


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def under(service: str, *program: str, drop_ins: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = confined.command(UNITS / service, [DROP_INS / each for each in drop_ins], program)
    return subprocess.run(
        command, cwd=UNITS.parents[1], capture_output=True, text=True, check=False, timeout=60, env=None
    )


def test_every_unit_and_every_drop_in_is_looked_at() -> None:
    assert {service for service, *_ in MOST} == set(SERVICES)
    assert {name for _, *drop_ins in MOST for name in drop_ins} == {path.name for path in DROP_INS.iterdir()}


@pytest.mark.parametrize("chosen", MOST, ids="+".join)
def test_the_exposure_stays_low(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    unit = installed(tmp_path, *chosen)

    done = analyze("security", "--offline=true", f"--threshold={round(MOST[chosen] * 10)}", unit)

    assert done.returncode == 0, done.stdout + done.stderr


def test_what_a_drop_in_opens_is_seen(tmp_path: Path) -> None:
    done = analyze("security", "--offline=true", "--threshold=2", installed(tmp_path, SIGNER, "signer-tcp.conf"))

    assert done.returncode == 1
    assert re.search(r"✗ RestrictAddressFamilies=~AF_\(INET\|INET6\)", done.stdout)


@pytest.mark.parametrize("chosen", MOST, ids="+".join)
def test_systemd_understands_every_line(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    done = analyze("verify", installed(tmp_path, *chosen))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_understands_the_timer(tmp_path: Path) -> None:
    installed(tmp_path, "cassiopeia-crl-watch.service")
    timer = Path(shutil.copy(UNITS / "cassiopeia-crl-watch.timer", tmp_path))

    done = analyze("verify", timer)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("service", SERVICES)
def test_every_process_is_denied_what_it_does_not_need(service: str) -> None:
    settings = confined.read_service(UNITS / service)

    assert {name: settings.get(name) for name in EVERYWHERE} == EVERYWHERE
    assert settings["User"] != ["root"]
    # Nothing else can be written to (ProtectSystem=strict). `NoExecPaths=/` would leave out what is mounted in there.
    (state,) = settings["StateDirectory"]
    assert settings["NoExecPaths"] == [f"/var/lib/{state} /run /tmp /var/tmp /dev/shm"]


def test_the_signer_has_no_network_and_keeps_its_memory() -> None:
    settings = confined.read_service(UNITS / SIGNER)

    assert settings["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert (settings["PrivateNetwork"], settings["IPAddressDeny"]) == (["yes"], ["any"])
    assert (settings["LimitMEMLOCK"], settings["MemorySwapMax"], settings["UMask"]) == (["infinity"], ["0"], ["0077"])
    assert settings["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_no_system_call_is_left_by_which_a_process_looks_into_another() -> None:
    left = confined.allowed_calls(confined.read_service(UNITS / SIGNER))

    assert left >= {"read", "write", "futex", "mlockall", "prctl", "fsync", "execve"}
    assert not left & {
        *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "bpf", "perf_event_open", "userfaultfd"),
        *("mount", "umount2", "pivot_root", "chroot", "setns", "unshare", "kexec_load", "init_module", "reboot"),
        *(
            "keyctl",
            "add_key",
            "io_uring_setup",
            "memfd_create",
            "swapon",
            "settimeofday",
            "clock_settime",
            "setuid",
            "chown",
        ),
    }


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import socket; socket.socket(socket.AF_INET)", id="an-ip-socket"),
        pytest.param("import socket; socket.socket(socket.AF_NETLINK)", id="a-netlink-socket"),
        pytest.param("import mmap; mmap.mmap(-1, 4096, prot=7)", id="memory-to-write-and-run"),
        pytest.param("import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0)", id="a-debugger"),
        pytest.param("import ctypes; ctypes.CDLL(None).unshare(0x10000000)", id="a-user-namespace"),
        pytest.param("import os; os.chmod('/dev/null', 0o4755)", id="a-file-that-runs-as-its-owner"),
        pytest.param("import os; os.memfd_create('program')", id="a-program-in-memory"),
        pytest.param("import os; os.nice(5)", id="another-priority"),
        pytest.param("import os; os.setuid(0)", id="another-user"),
    ],
)
def test_what_is_forbidden_ends_the_process(program: str) -> None:
    assert under(SIGNER, sys.executable, "-c", program).returncode == -signal.SIGSYS


def test_what_is_needed_is_allowed() -> None:
    program = "import os, socket; socket.socketpair(); print(os.umask(0))"

    done = under(SIGNER, sys.executable, "-c", program)

    assert (done.returncode, done.stdout, done.stderr) == (0, "63\n", "")


def test_tcp_is_allowed_by_its_drop_in() -> None:
    program = "import socket; socket.socket(socket.AF_INET).close(); print('open')"

    assert under(SIGNER, sys.executable, "-c", program, drop_ins=("signer-tcp.conf",)).stdout == "open\n"


def test_every_crypto_library_signs_under_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = make_softhsm(tmp_path / "softhsm")
    tokens.make_token("signer")
    tokens.tool("signer", "--keypairgen", "--key-type", "EC:prime256v1", "--label", "house", "--id", "01")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tokens.configuration))
    uri = f"pkcs11:token=signer;object=house?module-path={MODULE}"

    done = under(
        *(SIGNER, sys.executable, "-m", "cassiopeia", "backend", "check", "--json"),
        *("--pin-file", str(tokens.write_pin()), uri),
    )

    assert done.returncode == 0, (done.stdout, done.stderr)
    checks = json.dumps(json.loads(done.stdout))
    for name in ("openssl", "gnutls", "wolfssl", "pkcs11"):
        assert name in checks
