"""Any octets give a key or a refusal: a corpus of sound and faulty requests, and what becomes of them when changed."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.request_target import fuzz_certification_request, fuzz_one_input, fuzz_spkac
from tests.support import hostile_requests as made

from cassiopeia.core.csr import parse_certification_request
from cassiopeia.errors import Refused

SMALL = 4096  # the corpus also has requests of megabytes, whose mutations would show nothing new
MUTATIONS = 40

REQUESTS = {name: octets for name, (octets, _) in (made.sound_requests() | made.bad_requests()).items()}
SPKACS = {"sound": made.spkac(challenge=b"x")} | {name: octets for name, (octets, _) in made.bad_spkacs().items()}


@given(st.binary(max_size=600))
def test_octets_without_sense(octets: bytes) -> None:
    fuzz_one_input(octets)


@given(st.text(max_size=200))
def test_text_around_a_label(text: str) -> None:
    octets = text.encode("utf-8", "surrogatepass")
    fuzz_certification_request(b"-----BEGIN CERTIFICATE REQUEST-----" + octets)
    fuzz_certification_request(b"-----BEGIN " + octets + b"-----\n" + octets)
    fuzz_spkac(b"SPKAC=" + octets)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_changed_request(name: str) -> None:
    octets = REQUESTS[name]
    fuzz_certification_request(octets)
    fuzz_spkac(octets)
    for changed in mutations(octets[:SMALL], seed=name):
        fuzz_certification_request(changed)


@pytest.mark.parametrize("name", SPKACS)
def test_a_changed_spkac(name: str) -> None:
    octets = SPKACS[name]
    fuzz_spkac(octets)
    fuzz_certification_request(octets)
    for changed in mutations(octets[:SMALL], seed=name):
        fuzz_spkac(changed)


def test_a_request_cut_off_anywhere() -> None:
    octets = made.certification_request()
    for length in range(len(octets)):
        fuzz_certification_request(octets[:length])
        fuzz_spkac(base64.b64encode(octets[:length]))


def test_a_request_with_any_one_octet_changed_is_refused() -> None:
    octets = made.certification_request()
    for place in range(len(octets)):
        changed = octets[:place] + bytes((octets[place] ^ 0x55,)) + octets[place + 1 :]
        with pytest.raises(Refused):
            parse_certification_request(changed)


def mutations(octets: bytes, *, seed: str) -> list[bytes]:
    """A bounded number of small changes, the same ones in each run."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    changed = []
    for _ in range(MUTATIONS):
        draft = bytearray(octets)
        for _ in range(chance.randint(1, 4)):
            place = chance.randint(0, len(draft))
            match chance.randint(0, 3):
                case 0:
                    draft[place : place + 1] = bytes((chance.randint(0, 255),))
                case 1:
                    del draft[place : place + chance.randint(1, 16)]
                case 2:
                    draft[place:place] = bytes(chance.choices((0x00, 0x30, 0x80, 0xFF), k=chance.randint(1, 8)))
                case _:
                    start = chance.randint(0, len(draft))
                    draft[place:place] = draft[start : start + 32]
        changed.append(bytes(draft))
    return changed
