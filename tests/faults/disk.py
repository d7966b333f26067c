"""What a disk holds after a crash, worked out from what SQLite asked of it: any moment of a run, several ways to die.

A process that is killed leaves all that it wrote. A machine that loses its power leaves what was synced, and of the
rest anything: nothing, some of it in any order, the last of it in part. Which of the unsynced writes arrived is decided
for each file by itself. Deleting a file counts as done at once, as SQLite syncs the directory behind it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

from tests.faults.sqlite_faults import DO_IT, Operation, Verdict

_SECTOR_OCTETS = 512


class Crash(Enum):
    KILLED = "all that was written is there"
    UNSYNCED_LOST = "nothing is there but what was synced"
    LAST_TORN = "the last write is there in part"
    SOME_LOST = "what was not synced arrived by chance, and in no order"


class Recorder:
    """An observer that notes everything that happens to files of one directory."""

    def __init__(self, directory: Path) -> None:
        self._prefix = f"{directory}/"
        self.operations: list[Operation] = []

    def __call__(self, operation: Operation) -> Verdict:
        if operation.path.startswith(self._prefix):
            self.operations.append(operation)
        return DO_IT


def contents(
    operations: Sequence[Operation], crash: Crash, *, seed: int = 0, before: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """What each file holds, by name, when the crash comes behind the last of these operations.

    `before` is what was there when the first of them was noted.
    """
    chance = random.Random(seed)  # noqa: S311 - a test that can be repeated
    synced = {each.path: number for number, each in enumerate(operations) if each.kind == "sync"}
    files = {name: bytearray(octets) for name, octets in (before or {}).items()}
    for number, operation in enumerate(operations):
        pending = number > synced.get(operation.path, -1)
        if operation.kind == "delete":
            files.pop(Path(operation.path).name, None)
            continue
        if pending and crash is Crash.UNSYNCED_LOST:
            continue
        file = files.setdefault(Path(operation.path).name, bytearray())
        if pending and crash is Crash.SOME_LOST and chance.random() < 0.5:
            continue
        octets = operation.octets
        if crash is Crash.LAST_TORN and number == len(operations) - 1:
            octets = octets[: chance.randrange(len(octets) + 1) // _SECTOR_OCTETS * _SECTOR_OCTETS]
        _apply(file, operation, octets)
    return {name: bytes(file) for name, file in files.items()}


def _apply(file: bytearray, operation: Operation, octets: bytes) -> None:
    if operation.kind == "write":
        file.extend(bytes(max(0, operation.offset - len(file))))
        file[operation.offset : operation.offset + len(octets)] = octets
    elif operation.kind == "truncate":
        del file[operation.offset :]
