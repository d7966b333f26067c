"""Room on the signer's disk: a reserve that is given up when it is full, and how fast the journal fills it.

The reserve is a file of allocated blocks beside the journal. While it is there and enough is free besides, certificates
may be issued. When space runs short, issuing stops first; when even what a revocation writes might not fit, the reserve
is given up for it, and made again once there is room. What runs on is revocation, CRLs, and the halt itself. (File
systems that copy on write do not keep such a promise of blocks: docs/operating.md.)
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from cassiopeia.errors import OperatorError, Unavailable

FILE_NAME: Final = "reserve"
CODE: Final = "disk-full"
GROWTH_WINDOW: Final = dt.timedelta(days=7)

_log = logging.getLogger(__name__)

# Parts of the reserve: issuing stops below the first, the reserve is given up below the second.
_MARGIN_PART: Final = 4
_LAST_PART: Final = 16
_CHECK_EVERY_S: Final = 1.0
_RETRY_AFTER_S: Final = 300
_MIB: Final = 1024 * 1024
_ONE_DAY: Final = dt.timedelta(days=1)


class Space(Protocol):
    """What is used of the answer of statvfs(3)."""

    @property
    def f_frsize(self) -> int: ...
    @property
    def f_bavail(self) -> int: ...


class DiskReserve:
    """The reserve in `directory`, made or found at once; `check` keeps it as it should be.

    Belongs behind the opening of the journal, whose lock says to whom the reserve belongs, and before anything is
    written: a disk that was found full then has room for it.
    """

    def __init__(
        self,
        directory: Path,
        reserve_octets: int,
        *,
        space: Callable[[Path], Space] = os.statvfs,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._path = directory / FILE_NAME
        self._reserve_octets = reserve_octets
        self._margin_octets = reserve_octets // _MARGIN_PART
        self._last_octets = reserve_octets // _LAST_PART
        self._space = space
        self._clock = clock
        self._next_check = 0.0
        self._whole = False
        self._failure = ""
        self._is_short = False
        self.free_octets = 0
        """Free for the signer, without the reserve, as of the last check."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._look(first=True)
        except OSError as error:
            raise OperatorError(f"{directory}: cannot keep the signer's state here: {error.strerror}") from error

    @property
    def whole(self) -> bool:
        """Whether the reserve is there to be given up."""
        return self._whole

    def resize(self, reserve_octets: int) -> None:
        """Keep so much back from now on."""
        if reserve_octets == self._reserve_octets:
            return
        self._reserve_octets = reserve_octets
        self._margin_octets = reserve_octets // _MARGIN_PART
        self._last_octets = reserve_octets // _LAST_PART
        self._look(first=True)

    def check(self) -> Unavailable | None:
        """Why nothing may be issued now, for want of room; None when there is enough. Looks once a second at most."""
        if self._clock() >= self._next_check:
            self._look(first=False)
            self._tell()
        return self._shortage()

    def _shortage(self) -> Unavailable | None:
        if self._whole and self.free_octets >= self._margin_octets:
            return None
        kept = "" if self._whole else f"; the reserve of {_mib(self._reserve_octets)} is used up or cannot be made"
        failure = f" ({self._failure})" if self._failure else ""
        return Unavailable(
            f"the disk of {self._directory} has {_mib(self.free_octets)} left{kept}{failure}: nothing is issued until "
            "there is more, revocations and CRLs go on; make room there, or give it a larger disk",
            code=CODE,
            retry_after_s=_RETRY_AFTER_S,
        )

    def _tell(self) -> None:
        """Log when space begins to be short, and when there is enough again."""
        shortage = self._shortage()
        if self._is_short == (shortage is not None):
            return
        self._is_short = shortage is not None
        if shortage is None:
            _log.info("the disk of %s has room again: %s left", self._directory, _mib(self.free_octets))
        else:
            _log.warning("%s", shortage.message)

    def _look(self, *, first: bool) -> None:
        self._next_check = self._clock() + _CHECK_EVERY_S
        self._measure()
        there = self._is_there()
        # What is there at the start may be the copy of a file that was allocated: that is made good at once.
        self._whole = there and not first
        if there and self.free_octets < self._last_octets:
            self._give_up()
        elif not self._whole and (there or self._has_room()):
            self._make()

    def _measure(self) -> None:
        space = self._space(self._directory)
        self.free_octets = space.f_bavail * space.f_frsize

    def _is_there(self) -> bool:
        try:
            return self._path.stat().st_size >= self._reserve_octets
        except FileNotFoundError:
            return False

    def _has_room(self) -> bool:
        """Whether the reserve fits with room to spare: it shall not be made and given up in turns."""
        return self.free_octets >= self._reserve_octets + 2 * self._margin_octets

    def _make(self) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.fchmod(descriptor, 0o600)  # whatever the umask
                os.posix_fallocate(descriptor, 0, self._reserve_octets)
                os.ftruncate(descriptor, self._reserve_octets)  # it may have been larger
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            # Full after all, a quota, a file system that is read-only now: the next look tries again.
            self._remove()
            self._failure = error.strerror or str(error)
            return
        self._whole, self._failure = True, ""
        self._measure()
        _log.info("%s kept back on the disk of %s", _mib(self._reserve_octets), self._directory)

    def _give_up(self) -> None:
        _log.error(
            "the disk of %s is full (%s left): the reserve is given up for revocations and CRLs; make room there",
            self._directory,
            _mib(self.free_octets),
        )
        self._remove()

    def _remove(self) -> None:
        self._whole = False
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self._failure = error.strerror or str(error)
        self._measure()


def octets_a_day(octets: int, *, beginning: dt.datetime, now: dt.datetime) -> int:
    """How fast a journal that was begun then grows, given what it grew by in the last week (`GROWTH_WINDOW`).

    Less than a day counts as one: the first hour of an authority says nothing about its next.
    """
    since = max(beginning, now - GROWTH_WINDOW)
    return round(octets * (_ONE_DAY / max(now - since, _ONE_DAY)))


def _mib(octets: int) -> str:
    return f"{octets / _MIB:.1f} MiB"
