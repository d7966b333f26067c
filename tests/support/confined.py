"""Runs a program under what a unit of systemd forbids it, where no systemd runs.

Arguments: the unit, its drop-ins, `--`, the program and its arguments. Of the unit, that counts which systemd makes a
seccomp filter of (systemd.exec(5)): SystemCallFilter, RestrictAddressFamilies, RestrictNamespaces,
MemoryDenyWriteExecute, RestrictSUIDSGID; and NoNewPrivileges, UMask, LimitCORE. What is forbidden ends the process at
once instead of failing, so that nothing that is refused can go unnoticed. `systemd-analyze` says what the groups of
system calls are (Debian: apt install systemd).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

# The numbers of seccomp_init(3) and seccomp_rule_add(3).
_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_EQUAL, _AT_LEAST, _MASKED_EQUAL = 4, 5, 7
_PR_SET_NO_NEW_PRIVS = 38
_FAMILIES = 64
_SHM_EXEC = 0o100000
_NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)


class _Comparison(ctypes.Structure):
    _fields_ = (("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


Rule = tuple[str, int, int, int, int]
"""A system call, the number of its argument, how it is compared, and with what."""


def read_service(unit: Path, drop_ins: Sequence[Path] = ()) -> dict[str, list[str]]:
    """What each setting of the service is set to, in order; an empty value takes back those before it."""
    settings: dict[str, list[str]] = {}
    for path in (unit, *drop_ins):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, is_setting, value = line.partition("=")
            if not is_setting or line.startswith("#"):
                continue
            if value == "":
                settings[name] = []
            else:
                settings.setdefault(name, []).append(value)
    return settings


def expand(names: Sequence[str]) -> set[str]:
    """The system calls of these names, some of which are groups (`@...`)."""
    calls: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            calls.add(name)
            continue
        command = ["systemd-analyze", "syscall-filter", name]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        calls |= expand([line.strip() for line in printed.splitlines()[1:] if line.strip()[:1] not in {"", "#"}])
    return calls


def allowed_calls(settings: dict[str, list[str]]) -> set[str]:
    """What SystemCallFilter= leaves: the first line says what is allowed, and @default always is."""
    first, *others = settings["SystemCallFilter"]
    assert not first.startswith("~"), "the first line lists what is allowed"
    calls = expand(["@default", *first.split()])
    for each in others:
        calls = calls - expand(each[1:].split()) if each.startswith("~") else calls | expand(each.split())
    return calls


def _forbidden_arguments(settings: dict[str, list[str]]) -> Iterator[Rule]:
    families = {getattr(socket, name) for value in settings["RestrictAddressFamilies"] for name in value.split()}
    for family in set(range(_FAMILIES)) - families:
        yield "socket", 0, _EQUAL, family, 0
    yield "socket", 0, _AT_LEAST, _FAMILIES, 0
    if settings["MemoryDenyWriteExecute"] == ["yes"]:
        both = mmap.PROT_WRITE | mmap.PROT_EXEC
        yield "mmap", 2, _MASKED_EQUAL, both, both
        yield "mprotect", 2, _MASKED_EQUAL, mmap.PROT_EXEC, mmap.PROT_EXEC
        yield "pkey_mprotect", 2, _MASKED_EQUAL, mmap.PROT_EXEC, mmap.PROT_EXEC
        yield "shmat", 2, _MASKED_EQUAL, _SHM_EXEC, _SHM_EXEC
    if settings["RestrictNamespaces"] == ["yes"]:
        for flag in _NAMESPACES:
            yield "clone", 0, _MASKED_EQUAL, flag, flag
            yield "unshare", 0, _MASKED_EQUAL, flag, flag
    if settings["RestrictSUIDSGID"] == ["yes"]:
        for call, argument in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2)):
            for bit in (stat.S_ISUID, stat.S_ISGID):
                yield call, argument, _MASKED_EQUAL, bit, bit


def confine(settings: dict[str, list[str]]) -> None:
    """From now on this process, and whatever it starts, does nothing that the service may not do."""
    assert settings["NoNewPrivileges"] == ["yes"]
    (mask,), (core,) = settings["UMask"], settings["LimitCORE"]
    os.umask(int(mask, 8))
    resource.setrlimit(resource.RLIMIT_CORE, (int(core), int(core)))
    calls = allowed_calls(settings)
    arguments = list(_forbidden_arguments(settings))
    libc, library = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    forbidden = [(call, (_Comparison(*rest),)) for call, *rest in arguments]
    _load(library, forbidden, default=_ALLOW, action=_KILL_PROCESS)
    allowed: list[tuple[str, tuple[_Comparison, ...]]] = [(call, ()) for call in calls]
    if os.geteuid() == 0:
        # No unit runs as root, but tests may: SQLite then gives its files to whom they belong already.
        allowed.append(("fchown", (_Comparison(1, _EQUAL, 0, 0), _Comparison(2, _EQUAL, 0, 0))))
    # Last: it does not allow to make such filters.
    _load(library, allowed, default=_KILL_PROCESS, action=_ALLOW)


def _load(
    library: ctypes.CDLL, rules: Sequence[tuple[str, tuple[_Comparison, ...]]], *, default: int, action: int
) -> None:
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    assert context.value, "seccomp_init"
    for call, comparisons in rules:
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            continue  # of another architecture, or newer than the library
        array = (_Comparison * len(comparisons))(*comparisons)
        failed = library.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(comparisons), array)
        assert failed == 0, (call, failed)
    assert library.seccomp_load(context) == 0, "seccomp_load"
    library.seccomp_release(context)


def command(unit: Path, drop_ins: Sequence[Path], program: Sequence[str]) -> list[str]:
    """What runs the program confined."""
    return [sys.executable, "-P", __file__, str(unit), *map(str, drop_ins), "--", *program]


def main() -> None:
    arguments = sys.argv[1:]
    separator = arguments.index("--")
    unit, *drop_ins = map(Path, arguments[:separator])
    program = arguments[separator + 1 :]
    settings = read_service(unit, drop_ins)
    confine(settings)
    os.execvp(program[0], program)  # noqa: S606 - the very point: no shell, and under the filter


if __name__ == "__main__":
    main()
