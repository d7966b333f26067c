"""Strict DER for the signer's own lint: a reader that takes exactly what it is told to expect, and nothing else.

Owns the encoding rules of X.690 for the types of a TBSCertificate, and nothing of what they mean. It is written anew,
and shares nothing with `der` or with the library that assembles certificates: what is checked here shall not depend on
what made it. Every departure is a finding (`lint_rules`).
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from typing import Final

from cassiopeia.core.lint_rules import find

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OBJECT_IDENTIFIER: Final = 0x06
UTF8_STRING: Final = 0x0C
PRINTABLE_STRING: Final = 0x13
IA5_STRING: Final = 0x16
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31

_SHORT_LENGTHS: Final = 0x80
_LONGEST_LENGTH_OCTETS: Final = 4
_CONTINUES: Final = 0x80
_HIGHEST_BIT: Final = 7
_UTC_TIME: Final = re.compile(rb"[0-9]{12}Z")
_GENERALIZED_TIME: Final = re.compile(rb"[0-9]{14}Z")
_FIRST_UTC_YEAR: Final = 50  # RFC 5280 4.1.2.5.1: of the century before
_PRINTABLE: Final = re.compile(rb"[A-Za-z0-9 '()+,./:=?-]*")  # X.680 41.4


class Reader:
    """The elements of one value, one behind the other. What is wrong raises LintFinding; `what` names it to people."""

    __slots__ = ("_end", "_octets", "_place")

    def __init__(self, octets: bytes, place: int = 0, end: int | None = None) -> None:
        self._octets = octets
        self._place = place
        self._end = len(octets) if end is None else end

    @property
    def more(self) -> bool:
        """Whether an element is left."""
        return self._place < self._end

    @property
    def next_tag(self) -> int:
        """The tag of the element that comes next; -1 at the end."""
        return self._octets[self._place] if self._place < self._end else -1

    def primitive(self, tag: int, what: str) -> bytes:
        """Contents of the next element, which must have this tag."""
        start = self._enter(tag, what)
        return self._octets[start : self._place]

    def constructed(self, tag: int, what: str) -> Reader:
        """The elements in the next one, which must have this tag."""
        start = self._enter(tag, what)
        return Reader(self._octets, start, self._place)

    def whole(self, tag: int, what: str) -> bytes:
        """All octets of the next element, which must have this tag; what is in it is not looked at."""
        start = self._place
        self._enter(tag, what)
        return self._octets[start : self._place]

    def finish(self, what: str) -> None:
        """Nothing may be left."""
        if self._place != self._end:
            find("der-surplus", f"{self._end - self._place} octets are left over in {what}")

    def object_identifier(self, what: str) -> str:
        """The next element, which must be an OBJECT IDENTIFIER, with dots."""
        return object_identifier(self.primitive(OBJECT_IDENTIFIER, what), what)

    def _enter(self, tag: int, what: str) -> int:
        """Where the contents of the next element begin; `_place` is then where they end."""
        octets, place, end = self._octets, self._place, self._end
        if place == end:
            find("der-tag", f"{what} is missing")
        if octets[place] != tag:
            find("der-tag", f"{what} has the tag {octets[place]:02x}, not {tag:02x}")
        start = place + 2
        if start > end:
            find("der-truncated", f"{what} has no length")
        length = octets[place + 1]
        if length >= _SHORT_LENGTHS:
            count = length - _SHORT_LENGTHS
            start += count
            if start > end:
                find("der-truncated", f"the length of {what} is cut short")
            length = int.from_bytes(octets[start - count : start], "big")
            if (
                count > _LONGEST_LENGTH_OCTETS
                or length < _SHORT_LENGTHS  # with no octets at all (the indefinite form), too
                or length.bit_length() <= 8 * (count - 1)
            ):
                find("der-length", f"the length of {what} is written as {octets[place + 1 : start][:8].hex()}")
        self._place = start + length
        if self._place > end:
            find("der-truncated", f"{what} is cut short")
        return start


def boolean(contents: bytes, what: str) -> bool:
    if contents not in (b"\xff", b"\x00"):
        find("der-boolean", f"{what} is {contents[:8].hex()}")
    return contents == b"\xff"


def integer(contents: bytes, what: str) -> int:
    # X.690 8.3.2: the first nine bits are not all alike.
    if not contents or (len(contents) > 1 and contents[0] in (0, 0xFF) and contents[0] >> 7 == contents[1] >> 7):
        find("der-integer", f"{what} is written as {contents[:8].hex()}")
    return int.from_bytes(contents, "big", signed=True)


def whole_octets(contents: bytes, what: str) -> bytes:
    """The octets of a BIT STRING that is no list of bits, but octets."""
    if contents[:1] != b"\0":
        find("der-bit-string", f"{what} is not a whole number of octets")
    return contents[1:]


def named_bits(contents: bytes, what: str) -> tuple[int, ...]:
    """The places of the ones in a list of named bits."""
    if not contents:
        find("der-bit-string", f"{what} has no octets")
    unused, octets = contents[0], contents[1:]
    number = int.from_bytes(octets, "big")
    # X.690 11.2.2: without zeros at the end, the last bit that is used is a one; 11.2.1: those behind it are zeros. So
    # an empty list has no octets.
    ends_at = (number & -number).bit_length() - 1 if number else 0
    if unused != ends_at or unused > _HIGHEST_BIT or bool(number) != bool(octets):
        find("der-bit-string", f"{what} is written as {contents[:8].hex()}")
    width = 8 * len(octets)
    return tuple(place for place in range(width) if number >> (width - 1 - place) & 1)


@functools.lru_cache(maxsize=256)
def object_identifier(contents: bytes, what: str) -> str:
    """With dots."""
    if not contents or contents[-1] & _CONTINUES:
        find("der-object-identifier", f"{what} is cut short: {contents[:16].hex()}")
    numbers: list[int] = []
    number, begun = 0, False
    for octet in contents:
        if not begun and octet == _CONTINUES:
            find("der-object-identifier", f"{what} has an arc with an octet too many: {contents[:16].hex()}")
        number, begun = number << 7 | octet & ~_CONTINUES, bool(octet & _CONTINUES)
        if not begun:
            numbers.append(number)
            number = 0
    # X.690 8.19.4: the first two arcs share a number.
    top = min(numbers[0] // 40, 2)
    return ".".join(map(str, (top, numbers[0] - 40 * top, *numbers[1:])))


def text(tag: int, contents: bytes, what: str) -> str:
    """The characters of a string of this type."""
    try:
        if tag == UTF8_STRING:
            return contents.decode("utf-8")
        if tag == PRINTABLE_STRING and not _PRINTABLE.fullmatch(contents):
            find("der-string", f"{what} has characters that a PrintableString cannot have")
        return contents.decode("ascii")
    except UnicodeDecodeError:
        find("der-string", f"{what} is not encoded as its type says")


def time(tag: int, contents: bytes, what: str) -> dt.datetime:
    """The instant that a UTCTime or GeneralizedTime says."""
    form = _UTC_TIME if tag == UTC_TIME else _GENERALIZED_TIME
    if not form.fullmatch(contents):
        find("der-time", f"{what} is written as {contents[:20]!a}")
    digits = contents[:-1].decode("ascii")
    if tag == UTC_TIME:
        digits = ("19" if int(digits[:2]) >= _FIRST_UTC_YEAR else "20") + digits
    month, day, hour, minute, second = (int(digits[place : place + 2]) for place in range(4, 14, 2))
    try:
        return dt.datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:
        find("der-time", f"{what} is no time that there is: {contents[:20]!a}")
