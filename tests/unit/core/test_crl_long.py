"""A long CRL costs hashing, copying and one signature: nothing is called, and nothing is made, for each entry."""

from __future__ import annotations

import datetime as dt
import sys
import tracemalloc
from collections.abc import Callable

import pytest
from tests.support.authorities import NOW, default_authority, p256_key, sign

from cassiopeia.core import algorithms, crl
from cassiopeia.core.request import Revocation

AUTHORITY = default_authority()
ALGORITHM = algorithms.choose_algorithm(AUTHORITY.public_key, "")
FULL = 21_300


def entry(number: int) -> bytes:
    return crl.encode_revocation(Revocation(serial_number=(1 << 120) + number, reason=4), NOW)


def listed(count: int) -> bytes:
    """Entries of real sizes, without the time that it takes to encode each."""
    return entry(0) * count


def assemble(entries: bytes, number: int) -> bytes:
    return crl.assemble_tbs_crl(
        issuer=AUTHORITY.subject,
        algorithm=ALGORITHM,
        this_update=NOW,
        next_update=NOW + dt.timedelta(days=10),
        entries=entries,
        crl_number=number,
        authority_key_identifier=AUTHORITY.key_identifier,
    )


def make(count: int) -> Callable[[], object]:
    """What a signer does to list one more."""
    entries = listed(count)
    return lambda: crl.compose_crl(assemble(entries, 2), b"signature")


def read(count: int) -> Callable[[], object]:
    tbs = assemble(listed(count), 2)
    octets = crl.compose_crl(tbs, sign(p256_key(), ALGORITHM, tbs))
    return lambda: crl.check_crl(octets, authority=AUTHORITY)


def patch(count: int) -> Callable[[], object]:
    """What a client does to list one more."""
    entries, new = listed(count), entry(1)
    copy = crl.read_crl(crl.compose_crl(assemble(entries, 1), b"signature"))
    signature = sign(p256_key(), ALGORITHM, assemble(entries + new, 2))
    return lambda: crl.patch(
        copy,
        authority=AUTHORITY,
        algorithm_der=ALGORITHM.der,
        this_update=NOW,
        next_update=NOW + dt.timedelta(days=10),
        crl_number=2,
        new_entries=new,
        signature=signature,
    )


@pytest.mark.parametrize("work", [make, read, patch])
def test_as_many_calls_for_a_long_list_as_for_a_short_one(work: Callable[[int], Callable[[], object]]) -> None:
    assert count_calls(work(FULL)) == count_calls(work(1_400)) > 10


@pytest.mark.parametrize(("work", "copies"), [(make, 4), (read, 9), (patch, 5)])
def test_no_more_memory_than_a_few_copies(work: Callable[[int], Callable[[], object]], copies: int) -> None:
    """21,300 Python objects of any kind would take half a megabyte and more, each time."""
    todo = work(FULL)
    todo()
    tracemalloc.start()
    try:
        todo()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < copies * 49 * FULL


def count_calls(work: Callable[[], object]) -> int:
    calls = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    work()  # whatever is imported or cached the first time
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls
