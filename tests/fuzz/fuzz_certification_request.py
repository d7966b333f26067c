"""Fuzz targets for certification requests and SPKACs: any octets give a key or a refusal, and nothing else.

Under pytest, `tests/property/test_hostile_requests.py` runs them over a corpus and its mutations. Coverage-guided, with
the `atheris` package installed: `python tests/fuzz/fuzz_certification_request.py [CORPUS_DIRECTORY]`.
"""

from __future__ import annotations

import sys

from cassiopeia.core.csr import CertifiedKey, parse_certification_request, parse_spkac
from cassiopeia.errors import Refused


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


def check_refusal(refusal: Refused) -> None:
    """What the submitter sees is one bounded, printable sentence with a code."""
    message = refusal.message
    if not (refusal.code and message.isascii() and message.isprintable() and len(message) < 500):
        raise AssertionError(f"not fit to be shown: {refusal!r}")


def check_key(certified_key: CertifiedKey) -> None:
    if len(certified_key.key_identifier) != 20 or not certified_key.algorithm:
        raise AssertionError(f"not a whole key: {certified_key!r}")


if __name__ == "__main__":
    import atheris  # type: ignore[import-untyped]  # optional, and not among the pinned packages

    atheris.instrument_all()
    atheris.Setup(sys.argv, fuzz_one_input)
    atheris.Fuzz()
