from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from tests.support.journal_keys import JOURNAL_KEY, JOURNAL_PUBLIC_KEY
from tests.support.operators import PUBLIC_KEYS

from cassiopeia.errors import SignatureInvalid
from cassiopeia.journal.timestamp import statement, verify_timestamp
from cassiopeia.protocol.payload import Timestamp

UNSIGNED = Timestamp(
    time=dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC),
    signer_id=1,
    boot_id=b"b" * 16,
    boot_seconds=1000,
    nonce=b"n" * 16,
    head=b"a signed head",
)
SIGNED = replace(UNSIGNED, signature=JOURNAL_KEY.sign(statement(UNSIGNED)))


def test_a_signed_timestamp_is_believed() -> None:
    verify_timestamp(SIGNED, [JOURNAL_PUBLIC_KEY])
    verify_timestamp(SIGNED, [PUBLIC_KEYS[0], JOURNAL_PUBLIC_KEY])


@pytest.mark.parametrize("keys", [[], [PUBLIC_KEYS[0]]])
def test_nobody_else_may_sign_it(keys: list[bytes]) -> None:
    with pytest.raises(SignatureInvalid, match="no known journal key"):
        verify_timestamp(SIGNED, keys)


@pytest.mark.parametrize(
    "changes",
    [
        {"boot_seconds": 1001},
        {"time": UNSIGNED.time + dt.timedelta(seconds=1)},
        {"boot_id": b"c" * 16},
        {"signer_id": 2},
        {"signature": None},
        {"signature": b""},
    ],
    ids=lambda each: next(iter(each)),
)
def test_nothing_of_it_may_be_changed(changes: dict[str, Any]) -> None:
    with pytest.raises(SignatureInvalid):
        verify_timestamp(replace(SIGNED, **changes), [JOURNAL_PUBLIC_KEY])
