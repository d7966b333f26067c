"""Who holds a lease, and taking back what a client held that has died on this machine.

A lease runs out by itself after minutes, wherever its holder was. On the same machine there is no need to wait: the
kernel knows which processes live. A process id that was given out again delays this until the lease runs out; one that
is taken for dead in error (two containers of one host name) costs work and nothing else, because results are written
once.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import socket

from cassiopeia.store.queue import Queue

_OWNER = re.compile(r"(?P<name>.*)@(?P<host>[^@]*):(?P<process_id>[0-9]+)", re.DOTALL)

_DEATH = "its process had ended without giving it back: it crashed, or was killed"


def lease_owner(name: str) -> str:
    """How this process signs its leases: `name` is the client's, from its configuration."""
    return f"{name}@{socket.gethostname()}:{os.getpid()}"


def take_back(queue: Queue, owner: str, *, now: dt.datetime) -> int:
    """Release what dead clients of this machine hold, and what `owner` held in an earlier life; return how many."""
    dead = [each for each in queue.owners() if each == owner or _has_died(each)]
    return sum(queue.release(each, now=now, death=_DEATH) for each in dead)


def _has_died(owner: str) -> bool:
    parts = _OWNER.fullmatch(owner)
    if parts is None or parts["host"] != socket.gethostname():
        return False
    try:
        os.kill(int(parts["process_id"]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False
