from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from tests.support.store import NOW, after

from cassiopeia.errors import InternalError
from cassiopeia.store.database import Store
from cassiopeia.store.records import CrlHeader, CrlRecord, Outcome


def crl(number: int, **changes: Any) -> CrlRecord:
    values: dict[str, Any] = {
        "authority": "unassured_2026_1",
        "this_update": NOW,
        "next_update": NOW + dt.timedelta(days=10),
        "der": b"crl %d" % number,
    }
    return CrlRecord(number=number, **{**values, **changes})


def test_a_crl_comes_back_as_it_was_stored(store: Store) -> None:
    assert store.crls.get("unassured_2026_1") is None
    assert store.crls.put(crl(1), now=NOW) is Outcome.RECORDED
    assert store.crls.get("unassured_2026_1") == crl(1)
    assert store.crls.get("assured_2026_1") is None


# RFC 5280 5.2.3: numbers have up to 20 octets. Text would put 9 behind 10; 64 bits would not hold the last one.
@pytest.mark.parametrize(
    ("number", "next_number"), [(0, 1), (9, 10), (0xFF, 0x100), (2**63, 2**63 + 1), (1, 2**160 - 1)]
)
def test_numbers_only_rise(store: Store, number: int, next_number: int) -> None:
    assert store.crls.put(crl(number), now=NOW) is Outcome.RECORDED
    assert store.crls.put(crl(next_number), now=after(1)) is Outcome.RECORDED
    assert store.crls.put(crl(number), now=after(2)) is Outcome.SUPERSEDED
    assert store.crls.put(crl(next_number), now=after(3)) is Outcome.ALREADY_RECORDED
    assert store.crls.put(crl(next_number, der=b"forged"), now=after(4)) is Outcome.CONFLICT
    assert store.crls.get("unassured_2026_1") == crl(next_number)


def test_lists_without_a_number_are_ordered_by_their_dates(store: Store) -> None:
    """The original signer's: v1, number 0."""
    assert store.crls.put(crl(0, der=b"first"), now=NOW) is Outcome.RECORDED
    assert store.crls.put(crl(0, der=b"first"), now=after(1)) is Outcome.ALREADY_RECORDED
    # A revocation within the same second.
    assert store.crls.put(crl(0, der=b"second"), now=after(2)) is Outcome.RECORDED
    third = crl(0, der=b"third", this_update=NOW + dt.timedelta(seconds=1))
    assert store.crls.put(third, now=after(3)) is Outcome.RECORDED
    assert store.crls.put(crl(0, der=b"second"), now=after(4)) is Outcome.SUPERSEDED
    assert store.crls.get("unassured_2026_1") == third


@pytest.mark.parametrize("number", [-1, 2**160])
def test_a_number_that_no_crl_may_have_cannot_be_stored(number: int) -> None:
    with pytest.raises(InternalError, match="20 octets"):
        crl(number)


def test_headers_leave_the_octets_out(store: Store) -> None:
    store.crls.put(crl(7, der=b"\0" * 1_048_576), now=NOW)
    store.crls.put(crl(2, authority="assured_2026_1"), now=NOW)
    assert store.crls.headers() == (
        CrlHeader(
            authority="assured_2026_1",
            number=2,
            this_update=NOW,
            next_update=NOW + dt.timedelta(days=10),
            octets=5,
            saved_at=NOW,
        ),
        CrlHeader(
            authority="unassured_2026_1",
            number=7,
            this_update=NOW,
            next_update=NOW + dt.timedelta(days=10),
            octets=1_048_576,
            saved_at=NOW,
        ),
    )
