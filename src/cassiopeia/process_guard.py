"""What a program does at its start so that secrets in its memory stay there: for whoever runs it, on Linux.

No core dump, no debugger of the same user, no page in swap where the system permits that, no variable by which a
library would write keys or PINs down. A program does it for itself: exec(2) takes all of it back but the limit of core
dumps and the environment, so each worker does it again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from pathlib import Path
from typing import Final

from cassiopeia.errors import OperatorError

# The numbers of prctl(2), mlockall(2) and capabilities(7).
_PR_SET_DUMPABLE: Final = 4
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4
_CAP_IPC_LOCK: Final = 14

_PRIVATE: Final = 0o077
# TLS secrets (OpenSSL, GnuTLS); what GnuTLS, p11-kit, OpenSC and its pkcs11-spy do, with keys and PINs in it.
_TELLING: Final = (
    "SSLKEYLOGFILE",
    "GNUTLS_DEBUG_LEVEL",
    "P11_KIT_DEBUG",
    "PKCS11SPY",
    "PKCS11SPY_OUTPUT",
    "OPENSC_DEBUG",
)


def guard_process() -> None:
    """Nobody without privileges sees this process's memory from now on, alive or dead; raises OperatorError."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # ptrace(2) and /proc/PID/mem are refused to processes of the same user from now on: to a worker of ours, too, in
    # which a hostile request has found a fault.
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0, purpose="forbid debuggers to look into this process")
    for name in _TELLING:
        os.environ.pop(name, None)


def keep_files_private() -> None:
    """What this process and its workers write is for their user alone, unless they say otherwise for a file."""
    os.umask(os.umask(_PRIVATE) | _PRIVATE)


def lock_memory() -> None:
    """Keep this process out of swap, now and whatever it allocates later, where that is permitted.

    Pages are locked when they are first used. It is done only where nothing can fail by it later: with a limit of
    locked memory below what the process may have, some allocation would find no room one day. `unlocked_memory` says
    whether it was done.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    suffices = limit == resource.RLIM_INFINITY or (most != resource.RLIM_INFINITY and limit >= most)
    # With CAP_IPC_LOCK, limits are nothing to it.
    if suffices or int(_status("CapEff"), 16) >> _CAP_IPC_LOCK & 1:
        with contextlib.suppress(OperatorError):
            _call("mlockall", _MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT, purpose="lock memory")


def unlocked_memory() -> str:
    """Why this process is not kept out of swap, and what to do; empty where it is."""
    if int(_status("VmLck")):
        return ""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    allowed = "all" if limit == resource.RLIM_INFINITY else f"{limit // 1024} KiB"
    return (
        f"memory is not locked and may reach swap (this process may lock {allowed}): say LimitMEMLOCK=infinity in its "
        "unit, or `ulimit -l unlimited` in the shell, or have no swap"
    )


def _status(name: str) -> str:
    """The first word of a line of proc_pid_status(5)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def _call(function: str, *arguments: int, purpose: str) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, function)(*(ctypes.c_ulong(each) for each in arguments)) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise OperatorError(f"the system does not let us {purpose}: {reason}; allow the system call {function}")
