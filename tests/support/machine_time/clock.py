"""Months that pass in a moment, for every program that is started: see `sitecustomize` beside this."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parent


class SimulatedTime:
    """The time of all machines. It goes on by itself as any other, and never back."""

    def __init__(self, file: Path, *, begins: dt.datetime, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = file
        self._wall_s = self._boot_s = 0.0
        self._wall_s = (begins - self.now).total_seconds()
        self._write()
        monkeypatch.setenv("TEST_MACHINE_TIME", str(file))
        path = [str(_HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))

    @property
    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(time.time() + self._wall_s, dt.UTC)

    def move_to(self, moment: dt.datetime) -> None:
        """The machines are awake, and nothing happens on them until then."""
        passed_s = (moment - self.now).total_seconds()
        assert passed_s > 0, f"it is {self.now} already"
        self._wall_s += passed_s
        self._boot_s += passed_s
        self._write()

    def _write(self) -> None:
        """Another file takes the place of the old one: half of one is never read."""
        following = self._file.with_suffix(".next")
        following.write_text(f"{self._wall_s} {self._boot_s}", encoding="ascii")
        following.replace(self._file)
