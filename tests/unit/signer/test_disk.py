from __future__ import annotations

import datetime as dt
import logging
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.signer.disk import DiskReserve, Space, octets_a_day

MIB = 1024 * 1024
RESERVE = 16 * MIB
MARGIN = RESERVE // 4
LAST = RESERVE // 16
NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@dataclass
class FreeSpace:
    f_bavail: int
    f_frsize: int = 1


class Disk:
    """A disk whose free space is told, less what the reserve holds of it."""

    def __init__(self, directory: Path, free: int) -> None:
        self.directory, self.free, self.looks, self.seconds = directory, free, 0, 0.0

    def space(self, directory: Path) -> Space:
        assert directory == self.directory
        self.looks += 1
        return FreeSpace(f_bavail=max(0, self.free - self.held))

    @property
    def path(self) -> Path:
        return self.directory / "reserve"

    @property
    def held(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def reserve(self) -> DiskReserve:
        return DiskReserve(self.directory, RESERVE, space=self.space, clock=lambda: self.seconds)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path, free=100 * MIB)


def checked(disk: Disk, reserve: DiskReserve) -> Unavailable | None:
    disk.seconds += 1
    return reserve.check()


def test_the_reserve_is_made_of_blocks_that_are_there(disk: Disk) -> None:
    reserve = disk.reserve()
    status = disk.path.stat()
    assert (status.st_size, status.st_mode & 0o777) == (RESERVE, 0o600)
    assert status.st_blocks * 512 >= RESERVE
    assert checked(disk, reserve) is None
    assert (reserve.whole, reserve.free_octets) == (True, 84 * MIB)


def test_as_space_runs_out_issuing_stops_first_and_then_the_reserve_is_given_up(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    reserve = disk.reserve()
    disk.free = RESERVE + MARGIN
    assert checked(disk, reserve) is None
    disk.free = RESERVE + MARGIN - 1
    refused = checked(disk, reserve)
    assert refused is not None
    assert (refused.code, disk.held) == ("disk-full", RESERVE)
    assert "4.0 MiB left: nothing is issued" in refused.message
    assert "make room there" in refused.message
    assert caplog.text.count(refused.message) == 1
    disk.free = RESERVE + LAST
    assert checked(disk, reserve)
    assert disk.held == RESERVE
    disk.free = RESERVE + LAST - 1
    refused = checked(disk, reserve)
    assert refused is not None
    assert "is used up" in refused.message
    assert (disk.held, reserve.whole, reserve.free_octets) == (0, False, RESERVE + LAST - 1)
    assert "the reserve is given up" in caplog.text


def test_the_reserve_is_made_again_once_there_is_room_to_spare(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    disk.free = LAST
    reserve = disk.reserve()
    assert not reserve.whole
    disk.free = RESERVE + 2 * MARGIN - 1
    assert checked(disk, reserve)
    disk.free = RESERVE + 2 * MARGIN
    assert checked(disk, reserve) is None
    assert (reserve.whole, disk.held) == (True, RESERVE)
    assert caplog.text.count("has room again") == 1


def test_it_looks_once_a_second(disk: Disk) -> None:
    reserve = disk.reserve()
    looks = disk.looks
    disk.free = 0
    for _ in range(10):
        assert reserve.check() is None
    assert disk.looks == looks
    assert checked(disk, reserve)


def test_a_full_disk_is_met_at_the_start_already(disk: Disk) -> None:
    """The signer ended because a write failed; the next one has room for what its journal writes at opening."""
    disk.reserve()
    disk.free = RESERVE
    reserve = disk.reserve()
    assert (disk.held, reserve.free_octets) == (0, RESERVE)
    assert reserve.check()


def test_a_reserve_from_before_is_kept_also_with_little_to_spare(disk: Disk) -> None:
    disk.reserve()
    disk.free = RESERVE + MARGIN
    assert disk.reserve().check() is None


def test_a_hollow_or_larger_file_becomes_the_reserve(disk: Disk) -> None:
    with disk.path.open("wb") as file:
        file.truncate(2 * RESERVE)
    disk.free = 200 * MIB
    disk.reserve()
    assert disk.path.stat().st_size == RESERVE
    assert disk.path.stat().st_blocks * 512 >= RESERVE


@pytest.mark.parametrize("octets", [4 * MIB, 32 * MIB])
def test_the_reserve_can_have_another_size(disk: Disk, octets: int) -> None:
    reserve = disk.reserve()
    looks = disk.looks
    reserve.resize(RESERVE)
    assert disk.looks == looks  # it has that size
    reserve.resize(octets)
    assert (disk.held, reserve.free_octets) == (octets, 100 * MIB - octets)
    assert checked(disk, reserve) is None
    disk.free = octets + octets // 4 - 1
    assert checked(disk, reserve) is not None


def test_whoever_removes_the_reserve_gets_it_back(disk: Disk) -> None:
    reserve = disk.reserve()
    disk.path.unlink()
    assert checked(disk, reserve) is None
    assert disk.held == RESERVE


def test_a_reserve_that_cannot_be_made_stops_issuing_and_says_why(disk: Disk) -> None:
    disk.path.mkdir()
    reserve = disk.reserve()
    refused = reserve.check()
    assert refused is not None
    assert "cannot be made (Is a directory)" in refused.message


def test_a_state_directory_is_made_and_a_place_that_is_none_is_named(tmp_path: Path) -> None:
    DiskReserve(tmp_path / "a" / "state", MIB)
    assert (tmp_path / "a" / "state").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match="cannot keep the signer's state here"):
        DiskReserve(tmp_path / "file", MIB)


# --- a disk that is really full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB. Only root may mount one; who may not sees the limit of a file's size instead (below)."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    mounted = subprocess.run(["mount", *options], check=False, capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("this needs the right to mount: run as root, outside of a container without CAP_SYS_ADMIN")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_on_a_full_disk_the_reserve_makes_room(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    seconds = iter(range(100))
    reserve = DiskReserve(small_disk, MIB, clock=lambda: float(next(seconds)))
    assert reserve.check() is None
    assert reserve.free_octets == 3 * MIB

    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        fill(filler)
    assert reserve.check()
    assert (reserve.whole, reserve.free_octets) == (False, MIB)
    (small_disk / "revocation").write_bytes(bytes(MIB // 2))

    filler.unlink()
    assert reserve.check() is None
    assert (small_disk / "reserve").stat().st_size == MIB
    assert caplog.text.count("kept back") == 2


def test_a_reserve_larger_than_the_disk_stops_issuing(small_disk: Path) -> None:
    reserve = DiskReserve(small_disk, 5 * MIB)
    assert not (small_disk / "reserve").exists()
    refused = reserve.check()
    assert refused is not None
    assert "4.0 MiB left; the reserve of 5.0 MiB is used up or cannot be made" in refused.message


LIMITED = """
import resource, sys
from pathlib import Path
from cassiopeia.signer.disk import DiskReserve

resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
reserve = DiskReserve(Path(sys.argv[1]), 2 << 20)
print(reserve.check().message)
print(sorted(each.name for each in Path(sys.argv[1]).iterdir()))
"""


def test_a_write_that_fails_leaves_half_a_reserve_nowhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    message, left = done.stdout.splitlines()
    assert "cannot be made (File too large)" in message
    assert left == "[]"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1 << 20  # of this process


# --- how fast the journal grows


@pytest.mark.parametrize(
    ("octets", "age_days", "expected"),
    [(0, 100, 0), (700, 100, 100), (700, 7, 100), (600, 2, 300), (300, 0.01, 300), (300, 0, 300), (300, -1, 300)],
)
def test_growth_is_that_of_the_last_week(octets: int, age_days: float, expected: int) -> None:
    assert octets_a_day(octets, beginning=NOW - age_days * DAY, now=NOW) == expected
