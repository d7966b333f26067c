from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import pytest

from cassiopeia.core import structure
from cassiopeia.errors import InternalError, PeerError

NOW = dt.datetime(2026, 11, 23, 8, 32, 13, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    number: int
    text: str
    octets: bytes
    time: dt.datetime
    several: tuple[Inner, ...]
    maybe: int | None = None
    more: tuple[str, ...] = ()


def outer(**changes: object) -> Outer:
    fields = {"number": 5, "text": "ä", "octets": b"\0", "time": NOW, "several": (Inner(number=1),)}
    return Outer(**(fields | changes))  # type: ignore[arg-type] # some of the changes are wrong on purpose


def relengthed(octets: bytes) -> bytes:
    """The sequence with its length put right after a change inside."""
    return bytes([0x30, len(octets) - 2]) + octets[2:]


def retimed(text: bytes) -> bytes:
    return relengthed(structure.encode(outer()).replace(b"\x0f20261123083213Z", bytes([len(text)]) + text))


def test_fields_in_their_order_are_the_sequence() -> None:
    assert structure.encode(outer(maybe=1, more=("x",))) == bytes.fromhex(
        "302a"
        "020105"  # number
        "0c02c3a4"  # text
        "040100"  # octets
        "180f32303236313132333038333231335a"  # time
        "30053003020101"  # several
        "800101"  # [0] maybe
        "a1030c0178"  # [1] more
    )


@pytest.mark.parametrize("value", [outer(), outer(several=()), outer(maybe=0), outer(more=("", "x"))])
def test_a_value_comes_back(value: Outer) -> None:
    assert structure.decode(Outer, structure.encode(value)) == value


def test_a_time_is_told_in_greenwich_and_whole_seconds() -> None:
    elsewhere = NOW.astimezone(dt.timezone(dt.timedelta(hours=2))).replace(microsecond=999_999)
    assert structure.encode(outer(time=elsewhere)) == structure.encode(outer())


@pytest.mark.parametrize(
    "changes",
    [{"number": -1}, {"number": 1 << 168}, {"text": "\ud800"}, {"time": NOW.replace(tzinfo=None)}],
    ids=["negative", "too large", "half a surrogate pair", "no time zone"],
)
def test_a_value_without_an_encoding_is_our_own_mistake(changes: dict[str, object]) -> None:
    with pytest.raises(InternalError, match="Outer cannot be encoded"):
        structure.encode(outer(**changes))


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        structure.encode(outer())[:-1],
        structure.encode(outer()) + b"\0",
        structure.encode(outer()).replace(b"\x02\x01\x05", b"\x02\x01\xff"),
        structure.encode(outer(number=0x1234)).replace(b"\x02\x02\x12\x34", b"\x02\x02\x00\x34"),
        structure.encode(outer()).replace("ä".encode(), b"\xff\xff"),
        retimed(b"20261123083213.50Z"),
        retimed(b"20261123083213.5Z"),
        retimed(b"202611230832Z"),
        relengthed(structure.encode(outer()) + bytes.fromhex("a100")),
    ],
    ids=[
        "empty",
        "cut",
        "trailing",
        "negative",
        "long integer",
        "UTF-8",
        "fraction 0",
        "fraction",
        "no seconds",
        "empty list",
    ],
)
def test_anything_else_is_a_peer_error(broken: bytes) -> None:
    with pytest.raises(PeerError, match="Outer"):
        structure.decode(Outer, broken)
