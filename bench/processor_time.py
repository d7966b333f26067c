"""CPU time of the running processes, by what they do: steadier on a shared machine than the time on the clock."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from examples.system import System

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# proc_pid_stat(5): fields 14 and 15, user mode and the kernel for it; the first two end with the name in parentheses.
_TIMES = slice(11, 13)
# A child's module, as its command line names it, and what the children of one process are called.
_CHILDREN = {
    "cassiopeia.signer.worker": "signer: workers",
    "cassiopeia.signer.examination": "signer: keys compared with all others",
    "cassiopeia.validation.look_worker": "validator: requests parsed",
}
_PARENTS = {"signer": "signer: front", "validator": "validator"}


def processor_times(system: System) -> dict[str, float]:
    """Seconds so far, of everything that runs."""
    seconds: dict[str, float] = {}
    for name in system.processes:
        for process_id in system.process_ids(name):
            what = _what(name, process_id, system.processes[name].pid)
            seconds[what] = seconds.get(what, 0.0) + _seconds(process_id)
    return seconds


def processor_time_of_ended() -> float:
    """Seconds of all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _what(name: str, process_id: int, parent_id: int) -> str:
    if process_id == parent_id:
        return _PARENTS[name]
    words = Path(f"/proc/{process_id}/cmdline").read_bytes().decode().split("\0")
    return next((_CHILDREN[word] for word in words if word in _CHILDREN), f"{name}: other processes")


def _seconds(process_id: int) -> float:
    stat = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii")
    fields = stat[stat.rindex(")") + 2 :].split()
    return sum(map(int, fields[_TIMES])) / _TICKS_A_SECOND
