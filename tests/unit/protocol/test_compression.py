from __future__ import annotations

import os

import pytest

from cassiopeia.errors import PeerError
from cassiopeia.protocol.compression import WINDOW_OCTETS, deflate, dictionary, inflate


@pytest.mark.parametrize("known", [b"", b"something else", b"log entry " * 10])
def test_inflate_turns_back_what_deflate_made(known: bytes) -> None:
    octets = b"log entry " * 20
    assert inflate(deflate(octets, known), known, limit=len(octets)) == octets


def test_what_both_sides_have_need_not_travel() -> None:
    csr = os.urandom(600)
    assert len(deflate(b"head" + csr + b"tail", csr)) < 30


def test_the_dictionary_is_the_newest_of_what_went_before() -> None:
    assert dictionary(b"log", [b"csr", b"names"]) == b"logcsrnames"
    long = dictionary(b"x" * WINDOW_OCTETS, [b"csr", b"names"])
    assert len(long) == WINDOW_OCTETS
    assert long.endswith(b"xcsrnames")


def test_a_bomb_is_not_inflated() -> None:
    with pytest.raises(PeerError, match="more than 1000"):
        inflate(deflate(bytes(10_000_000), b""), b"", limit=1000)


@pytest.mark.parametrize(
    "broken",
    [b"", deflate(b"log", b"")[:-1], deflate(b"log", b"") + b"\0", b"\xff\xff\xff"],
    ids=["empty", "cut short", "something behind it", "no deflate"],
)
def test_anything_else_is_a_peer_error(broken: bytes) -> None:
    with pytest.raises(PeerError):
        inflate(broken, b"", limit=1000)


def test_another_dictionary_is_not_taken_for_the_same_log() -> None:
    csr = os.urandom(600)
    with pytest.raises(PeerError):
        inflate(deflate(csr, csr), b"", limit=1000)
