from __future__ import annotations

import datetime as dt

import pytest

from cassiopeia.journal.order import (
    Arguments,
    BlockKey,
    ConfirmClock,
    DisableValidator,
    EnableValidator,
    HaltAuthority,
    InstallBundle,
    RaiseCap,
    ResumeAuthority,
    UnblockKey,
)
from cassiopeia.journal.standing import InForce, RaisedCap

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
NAME, KEY_ID, KEY_HASH = "assured_2026_1", b"v" * 8, b"k" * 32


def after(*orders: Arguments) -> InForce:
    in_force = InForce()
    for number, each in enumerate(orders):
        in_force = in_force.after(each, at=NOW + number * HOUR)
    return in_force


@pytest.mark.parametrize(
    ("restricts", "loosens", "expected"),
    [
        (
            HaltAuthority(authority=NAME),
            ResumeAuthority(authority=NAME),
            InForce(halted_authorities=frozenset({NAME})),
        ),
        (
            DisableValidator(validator=KEY_ID),
            EnableValidator(validator=KEY_ID),
            InForce(disabled_validators=frozenset({KEY_ID})),
        ),
        (BlockKey(key_hash=KEY_HASH), UnblockKey(key_hash=KEY_HASH), InForce(blocked_keys=frozenset({KEY_HASH}))),
    ],
    ids=["authority", "validator", "key"],
)
def test_a_restriction_stands_until_it_is_lifted(restricts: Arguments, loosens: Arguments, expected: InForce) -> None:
    assert after(restricts) == after(restricts, restricts) == after(loosens, restricts) == expected
    assert after(restricts, loosens) == after(restricts, restricts, loosens) == after(loosens) == InForce()


def test_a_raised_cap_ends_by_itself() -> None:
    in_force = after(RaiseCap(cap="revocations", limit=9, hours=2))
    raised = {"revocations": RaisedCap(limit=9, ends=NOW + 2 * HOUR)}
    assert in_force.raised(now=NOW + 2 * HOUR - dt.timedelta(seconds=1)) == raised
    assert in_force.raised(now=NOW + 2 * HOUR) == {}


def test_the_newest_raise_of_a_cap_counts() -> None:
    in_force = after(
        RaiseCap(cap="revocations", limit=9, hours=20),
        RaiseCap(cap="refusals", limit=3, hours=20),
        RaiseCap(cap="revocations", limit=5, hours=1),
    )
    assert in_force.raised(now=NOW + 2.5 * HOUR) == {
        "revocations": RaisedCap(limit=5, ends=NOW + 3 * HOUR),
        "refusals": RaisedCap(limit=3, ends=NOW + 21 * HOUR),
    }


def test_a_confirmed_clock_ends_what_was_reckoned_by_the_old_one() -> None:
    in_force = after(
        RaiseCap(cap="revocations", limit=9, hours=20),
        BlockKey(key_hash=KEY_HASH),
        ConfirmClock(boot_seconds=1, true_time=NOW),
    )
    assert in_force == InForce(blocked_keys=frozenset({KEY_HASH}))


def test_the_newest_bundle_that_was_to_be_installed_counts() -> None:
    first, second = (InstallBundle(bundle_hash=bytes([number]) * 32, number=number) for number in (1, 2))
    assert after(HaltAuthority(authority=NAME)).bundle is None
    assert after(first, second, ConfirmClock(boot_seconds=1, true_time=NOW)) == InForce(bundle=second)
