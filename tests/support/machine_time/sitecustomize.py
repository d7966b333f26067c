"""Lets a whole program live at another time: Python imports this before anything else of it.

`tests.support.machine_time.clock` puts this directory on PYTHONPATH and names the file that says by how many seconds
the wall clock and CLOCK_BOOTTIME are ahead. Programs that the program starts inherit both. What a program sees changes
when it begins, and behind each wait for its sockets: never between two readings of one turn, which a signer would
rightly take for a clock that has jumped. Time that only passes (`time.monotonic`) is left alone.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import gc
import os
import selectors
import time
from pathlib import Path
from typing import Any

_FILE = Path(os.environ["TEST_MACHINE_TIME"])
_wall, _clock, _wait = time.time, time.clock_gettime, selectors.DefaultSelector.select
_ahead = {"wall": 0.0, "boot": 0.0}


def _look() -> None:
    wall, boot = _FILE.read_text(encoding="ascii").split()
    _ahead.update(wall=float(wall), boot=float(boot))


def _now(tz: dt.tzinfo | None = None) -> dt.datetime:
    return dt.datetime.fromtimestamp(time.time(), tz)


def _select(selector: Any, timeout: float | None = None) -> Any:
    ready = _wait(selector, timeout)
    _look()
    return ready


_look()
os.register_at_fork(after_in_child=_look)
time.time = lambda: _wall() + _ahead["wall"]
time.clock_gettime = lambda number: _clock(number) + (_ahead["boot"] if number == time.CLOCK_BOOTTIME else 0.0)
selectors.DefaultSelector.select = _select  # type: ignore[assignment,method-assign] # that is what this file is for
# `dt.datetime` has to stay the type that libraries written in C know: its method is exchanged, in the type's own table.
gc.get_referents(dt.datetime.__dict__)[0]["now"] = staticmethod(_now)
ctypes.pythonapi.PyType_Modified(ctypes.py_object(dt.datetime))
