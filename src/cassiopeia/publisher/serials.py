"""Serial numbers in little memory: 25 octets each, where a dict takes more than a hundred.

A responder knows every certificate that was ever issued: hundreds of thousands, of which it is asked about one at a
time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_SERIAL_OCTETS: Final = 21  # the longest there are: those of the original
_NUMBER_OCTETS: Final = 4
_ROW_OCTETS: Final = _SERIAL_OCTETS + _NUMBER_OCTETS
_FRESH: Final = 1024
_NO_ROWS: Final = b""


class SerialTable:
    """Serial numbers, each with a number below 2^32. It only grows, and what is there stands.

    One thread may add while others look up.
    """

    def __init__(self) -> None:
        self._rows = _NO_ROWS  # in the order of the serial numbers
        self._fresh: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._rows) // _ROW_OCTETS + len(self._fresh)

    def add(self, serial_number: int, number: int) -> None:
        """Keep it, unless it is there already; raises OverflowError for what no serial number is."""
        _key(serial_number)
        if self.find(serial_number) is None:
            self._fresh[serial_number] = number
            if len(self._fresh) >= _FRESH:
                self._merge()

    def find(self, serial_number: int) -> int | None:
        """The number that came with it; None for one that is not there."""
        # What moves from here to the rows is in both for a while: looked for in this order, it is always found.
        number = self._fresh.get(serial_number)
        if number is not None:
            return number
        try:
            key = _key(serial_number)
        except OverflowError:
            return None
        rows = self._rows
        start = _place(rows, key)
        if rows[start : start + _SERIAL_OCTETS] != key:
            return None
        return int.from_bytes(rows[start + _SERIAL_OCTETS : start + _ROW_OCTETS], "big")

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Every serial number with its number, in no order."""
        rows = self._rows
        for start in range(0, len(rows), _ROW_OCTETS):
            end = start + _SERIAL_OCTETS
            yield int.from_bytes(rows[start:end], "big"), int.from_bytes(rows[end : end + _NUMBER_OCTETS], "big")
        yield from self._fresh.items()

    def _merge(self) -> None:
        rows, parts, copied = self._rows, [], 0
        for serial_number, number in sorted(self._fresh.items()):
            key = _key(serial_number)
            start = _place(rows, key)
            parts += [rows[copied:start], key, number.to_bytes(_NUMBER_OCTETS, "big")]
            copied = start
        self._rows = b"".join((*parts, rows[copied:]))
        self._fresh = {}


def _key(serial_number: int) -> bytes:
    return serial_number.to_bytes(_SERIAL_OCTETS, "big")


def _place(rows: bytes, key: bytes) -> int:
    """Where the first row begins that is not before this key."""
    low, high = 0, len(rows) // _ROW_OCTETS
    while low < high:
        middle = (low + high) // 2
        start = middle * _ROW_OCTETS
        if rows[start : start + _SERIAL_OCTETS] < key:
            low = middle + 1
        else:
            high = middle
    return low * _ROW_OCTETS
