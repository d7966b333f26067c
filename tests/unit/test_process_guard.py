from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cassiopeia import process_guard
from cassiopeia.errors import OperatorError

NOBODY = 65534
MIB = 1 << 20
# A process without privileges, whoever runs the tests; changing the user has made it one that cannot be looked into.
UNPRIVILEGED = f"""
import ctypes, json, os, resource, subprocess, sys
from pathlib import Path
from cassiopeia import process_guard
libc = ctypes.CDLL(None)
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
    libc.prctl(4, 1, 0, 0, 0)
"""


def child(program: str, **environment: str) -> object:
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED + program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": str(Path(process_guard.__file__).parents[1]), **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_others_of_the_same_user_cannot_look_into_a_guarded_process() -> None:
    seen = child(
        """
def look():
    # A child of the same user, as a worker is to the front.
    reading, writing = os.pipe()
    if not os.fork():
        libc.prctl(4, 1, 0, 0, 0)
        try:
            Path(f"/proc/{os.getppid()}/environ").read_bytes()
            os.write(writing, b"read")
        except PermissionError:
            os.write(writing, b"refused")
        os._exit(0)
    os.wait()
    return os.read(reading, 100).decode()
before = look()
process_guard.guard_process()
print(json.dumps([before, look(), libc.prctl(3, 0, 0, 0, 0)]))
"""
    )

    assert seen == ["read", "refused", 0]


def test_a_guarded_process_leaves_no_core_and_can_allow_none() -> None:
    assert child(
        """
process_guard.guard_process()
print(json.dumps(resource.getrlimit(resource.RLIMIT_CORE)))
"""
    ) == [0, 0]


def test_a_guarded_process_still_sees_its_own_files_and_starts_programs() -> None:
    seen = child(
        """
process_guard.guard_process()
own = len(list(Path("/proc/self/fd").iterdir())) > 2 and Path("/proc/self/statm").read_text() != ""
print(json.dumps([own, subprocess.run(["true"], close_fds=True).returncode]))
"""
    )

    assert seen == [True, 0]


@pytest.mark.parametrize(
    "name", ["SSLKEYLOGFILE", "GNUTLS_DEBUG_LEVEL", "P11_KIT_DEBUG", "PKCS11SPY", "PKCS11SPY_OUTPUT", "OPENSC_DEBUG"]
)
def test_no_library_is_told_to_write_secrets_down(name: str) -> None:
    # As a library asks: not Python's copy.
    program = f"""
libc.getenv.restype = ctypes.c_char_p
before = libc.getenv(b"{name}")
process_guard.guard_process()
print(json.dumps([before.decode(), libc.getenv(b"{name}"), os.environ.get("HOME")]))
"""

    assert child(program, **{name: "/tmp/keys", "HOME": "/nowhere"}) == ["/tmp/keys", None, "/nowhere"]  # noqa: S108


def test_a_system_that_refuses_is_an_error_that_says_what_to_allow() -> None:
    with pytest.raises(OperatorError, match=r"does not let us try this: Invalid argument; allow the system call prctl"):
        process_guard._call("prctl", 99999, purpose="try this")


def test_files_are_for_their_owner_alone_and_a_stricter_mask_stays() -> None:
    assert child(
        """
os.umask(0o022)
process_guard.keep_files_private()
first = os.umask(0o177)
process_guard.keep_files_private()
print(json.dumps([first, os.umask(0)]))
"""
    ) == [0o077, 0o177]


@pytest.mark.parametrize(
    ("limit", "most", "capabilities", "locked"),
    [
        pytest.param(resource.RLIM_INFINITY, resource.RLIM_INFINITY, 0, True, id="no-limit"),
        pytest.param(400 * MIB, 400 * MIB, 0, True, id="as-much-as-there-can-be"),
        pytest.param(400 * MIB - 1, 400 * MIB, 0, False, id="less-than-there-can-be"),
        pytest.param(8 * MIB, resource.RLIM_INFINITY, 0, False, id="a-number-and-no-bound"),
        pytest.param(0, resource.RLIM_INFINITY, 0, False, id="none"),
        pytest.param(0, resource.RLIM_INFINITY, 1 << 14, True, id="the-capability"),
        pytest.param(0, resource.RLIM_INFINITY, 1 << 13 | 1 << 15, False, id="other-capabilities"),
    ],
)
def test_memory_is_locked_only_where_nothing_can_fail_by_it_later(
    monkeypatch: pytest.MonkeyPatch, limit: int, most: int, capabilities: int, *, locked: bool
) -> None:
    limits = {resource.RLIMIT_MEMLOCK: (limit, limit), resource.RLIMIT_AS: (most, most)}
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr(process_guard, "_status", lambda _: f"{capabilities:016x}")
    monkeypatch.setattr(process_guard, "_call", lambda *arguments, purpose: calls.append((*arguments, purpose)))

    process_guard.lock_memory()

    # MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT
    assert calls == ([("mlockall", 7, "lock memory")] if locked else [])


def test_a_process_that_may_not_lock_its_memory_says_so_and_works_on() -> None:
    seen = child(
        f"""
resource.setrlimit(resource.RLIMIT_MEMLOCK, ({MIB}, {MIB}))
process_guard.lock_memory()
print(json.dumps([process_guard._status("VmLck"), process_guard.unlocked_memory(), len(bytearray({64 * MIB}))]))
"""
    )

    warning = (
        "memory is not locked and may reach swap (this process may lock 1024 KiB): say LimitMEMLOCK=infinity in its "
        "unit, or `ulimit -l unlimited` in the shell, or have no swap"
    )
    assert seen == ["0", warning, 64 * MIB]


def test_whether_memory_is_locked_is_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_guard, "_status", {"VmLck": "4096"}.__getitem__)

    assert process_guard.unlocked_memory() == ""
