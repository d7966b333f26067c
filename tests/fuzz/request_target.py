"""Fuzz targets for certification requests and SPKACs: any octets give a key or a refusal, and nothing else.

`tests/property/test_hostile_requests.py` runs them over a corpus and its mutations, `fuzz.py` coverage-guided.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.support import hostile_requests

from cassiopeia.core.csr import CertifiedKey, parse_certification_request, parse_spkac
from cassiopeia.errors import Refused

MAXIMUM_SEED_OCTETS = 4096


def fuzz_certification_request(octets: bytes) -> None:
    try:
        certified_key = parse_certification_request(octets)
    except Refused as refusal:
        check_refusal(refusal)
    else:
        check_key(certified_key)


def fuzz_spkac(octets: bytes) -> None:
    try:
        certified_key = parse_spkac(octets)
    except Refused as refusal:
        check_refusal(refusal)
    else:
        check_key(certified_key)


def fuzz_one_input(octets: bytes) -> None:
    """One function for both kinds, as coverage-guided fuzzers want it: the first octet chooses."""
    (fuzz_spkac if octets[:1] == b"S" else fuzz_certification_request)(octets[1:])


def request_seeds() -> Iterator[bytes]:
    """Sound and faulty requests of both kinds; those of megabytes would show nothing new."""
    for made in (hostile_requests.sound_requests(), hostile_requests.bad_requests()):
        yield from (b"C" + octets for octets, _ in made.values() if len(octets) <= MAXIMUM_SEED_OCTETS)
    yield b"S" + hostile_requests.spkac(challenge=b"x")
    spkacs = hostile_requests.bad_spkacs().values()
    yield from (b"S" + octets for octets, _ in spkacs if len(octets) <= MAXIMUM_SEED_OCTETS)


def check_refusal(refusal: Refused) -> None:
    """What the submitter sees is one bounded, printable sentence with a code."""
    message = refusal.message
    if not (refusal.code and message.isascii() and message.isprintable() and len(message) < 500):
        raise AssertionError(f"not fit to be shown: {refusal!r}")


def check_key(certified_key: CertifiedKey) -> None:
    if len(certified_key.key_identifier) != 20 or not certified_key.algorithm:
        raise AssertionError(f"not a whole key: {certified_key!r}")
