"""A CRL that has to stay under 1 MiB: invalidity dates give way, revocations never."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import NOW, default_authority
from tests.support.signer import open_journal, record_issued

from cassiopeia.core import crl
from cassiopeia.core.authority import Authority
from cassiopeia.core.crl_size import RESPONDERS
from cassiopeia.core.request import Revocation
from cassiopeia.signer.journal import Journal
from cassiopeia.signer.revocation import RevocationList

LIFETIME = dt.timedelta(days=10)
YESTERDAY = NOW - dt.timedelta(days=1)
COUNT = 60


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = open_journal(tmp_path)
    yield opened
    opened.close()


def dated(serials: list[int], *, reason: int | None = 1) -> tuple[Revocation, ...]:
    return tuple(Revocation(serial_number=each, reason=reason, invalidity_date=YESTERDAY) for each in serials)


def revoke_all(authority: Authority, journal: Journal, *, now: dt.datetime = NOW) -> list[Revocation]:
    """Revoke all in three messages; what the entries say then."""
    serials = record_issued(journal, *range(1, COUNT + 1))
    revocations = RevocationList(authority, journal, lifetime=LIFETIME)
    for start in range(0, COUNT, 20):
        assert revocations.revoke(dated(serials[start : start + 20]), now=now).taken == 20
    entries = b"".join(journal.index.revocation_entries(authority.name))
    said = [each for each, _ in crl.read_revocations(entries)]
    assert [each.serial_number for each in said] == serials
    return said


def test_dates_give_way_when_a_full_list_would_have_no_room(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    authority = default_authority()
    said = revoke_all(authority, journal)
    assert {each.reason for each in said} == {1}
    # Every date costs 26 octets of what is not kept for the certificates that may still be revoked.
    kept = (authority.maximum_certificates + RESPONDERS) * 49
    places = (authority.crl_room.octets - kept) // 26
    assert 0 < places < COUNT
    assert [each.invalidity_date is not None for each in said] == [True] * places + [False] * (COUNT - places)
    messages = [each.getMessage() for each in caplog.records if "without the invalidity date" in each.getMessage()]
    assert all(any(f"{each.serial_number:x}" in message for message in messages) for each in said[places:])
    assert not any(f"{each.serial_number:x}" in message for message in messages for each in said[:places])


@pytest.mark.parametrize("how", ["retired", "ended"])
def test_who_issues_no_more_has_room_for_dates(journal: Journal, how: str) -> None:
    authority = default_authority()
    if how == "retired":
        authority = dataclasses.replace(authority, retired=True)
    else:
        authority = dataclasses.replace(authority, issues_until=NOW - dt.timedelta(days=8))
    assert all(each.invalidity_date is not None for each in revoke_all(authority, journal))


def test_a_clock_that_is_set_back_finds_the_room_that_was_kept(journal: Journal) -> None:
    authority = dataclasses.replace(default_authority(), issues_until=NOW - dt.timedelta(days=6))
    assert any(each.invalidity_date is None for each in revoke_all(authority, journal))


def test_what_is_more_than_a_cap_lets_through_takes_no_room(journal: Journal) -> None:
    serials = record_issued(journal, 1, 2)
    revocations = RevocationList(default_authority(), journal, lifetime=LIFETIME)
    assert revocations.revoke(dated(serials, reason=None), at_most=1, now=NOW).left == 1
    (entry,) = journal.index.revocation_entries(default_authority().name)
    assert len(entry) == 63


def test_without_any_date_nothing_is_counted(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificates of the journal are many, and revocations with a date few."""
    (serial,) = record_issued(journal, 1)
    revocations = RevocationList(default_authority(), journal, lifetime=LIFETIME)
    monkeypatch.setattr(type(journal.index), "used_counts", lambda _: pytest.fail("counted"))
    assert revocations.revoke((Revocation(serial_number=serial, reason=1),), now=NOW).taken == 1
