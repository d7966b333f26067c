from __future__ import annotations

import datetime as dt
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tests.support.authorities import NOW, default_authority, make_authority, make_ca, p256_key, rsa_key, sign
from tests.support.signer import open_journal, record_intent, record_issued

from cassiopeia.core import crl
from cassiopeia.core.request import Revocation
from cassiopeia.errors import Refused
from cassiopeia.signer.journal import CrlRecord, Journal
from cassiopeia.signer.revocation import RevocationList

LIFETIME = dt.timedelta(days=10)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = open_journal(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def revocations(journal: Journal) -> RevocationList:
    return RevocationList(default_authority(), journal, lifetime=LIFETIME)


def revoke(revocations: RevocationList, *serials: int, now: dt.datetime = NOW) -> int:
    return revocations.revoke(tuple(Revocation(serial_number=each) for each in serials), now=now).taken


def sign_crl(revocations: RevocationList, *, now: dt.datetime = NOW) -> CrlRecord:
    draft = revocations.draft(now=now)
    return revocations.complete(draft, sign(p256_key(), draft.algorithm, draft.tbs), now=now)


def full(revocations: RevocationList) -> crl.Crl:
    """The current CRL, verified."""
    der = revocations.full()
    assert der is not None
    return crl.check_crl(der, authority=revocations.authority)


def test_before_the_first_there_is_no_crl(revocations: RevocationList) -> None:
    assert (revocations.current, revocations.full(), revocations.revoked) == (None, None, 0)


def test_the_first_crl_is_number_one_and_may_be_empty(revocations: RevocationList) -> None:
    record = sign_crl(revocations)
    found = full(revocations)
    assert (found.number, found.entries) == (record.number, b"") == (1, b"")
    assert (found.this_update, found.next_update) == (NOW, NOW + LIFETIME)
    assert record.tbs_hash == hashlib.sha256(found.tbs).digest()
    assert revocations.current == record


def test_entries_stand_in_the_order_of_the_journal_with_their_own_dates(
    journal: Journal, revocations: RevocationList
) -> None:
    nine, two, five = record_issued(journal, 9, 2, 5)
    later = NOW + dt.timedelta(hours=1)
    assert revoke(revocations, nine, two) == 2
    assert revoke(revocations, five, now=later) == 1
    sign_crl(revocations, now=later)
    found = x509.load_der_x509_crl(revocations.full() or b"")
    assert [(each.serial_number, each.revocation_date_utc) for each in found] == [
        (nine, NOW),
        (two, NOW),
        (five, later),
    ]


def test_numbers_only_rise_also_over_a_restart(journal: Journal, revocations: RevocationList) -> None:
    (serial,) = record_issued(journal, 1)
    sign_crl(revocations)
    revoke(revocations, serial)
    second = sign_crl(revocations, now=NOW + dt.timedelta(days=1))
    journal.commit()
    again = RevocationList(default_authority(), journal, lifetime=LIFETIME)
    assert (again.current, again.revoked, again.full()) == (second, 1, revocations.full())
    assert sign_crl(again).number == 3


def test_what_is_revoked_stays_as_it_was_first(journal: Journal, revocations: RevocationList) -> None:
    (serial,) = record_issued(journal, 1)
    first = (Revocation(serial_number=serial, reason=1),)
    assert revocations.revoke(first, now=NOW).taken == 1
    again = (Revocation(serial_number=serial, reason=4),)
    assert revocations.revoke(again, now=NOW + dt.timedelta(days=1)).taken == 0
    sign_crl(revocations)
    (entry,) = x509.load_der_x509_crl(revocations.full() or b"")
    assert entry.revocation_date_utc == NOW
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.key_compromise


def test_twice_in_one_message_is_once(journal: Journal, revocations: RevocationList) -> None:
    (serial,) = record_issued(journal, 1)
    assert revoke(revocations, serial, serial) == 1
    assert revocations.revoked == 1


@pytest.mark.parametrize("number", [0, -1, 5, 1 << 128, 1 << 200])
def test_a_serial_that_was_never_issued_is_named(journal: Journal, revocations: RevocationList, number: int) -> None:
    (serial,) = record_issued(journal, 1)
    wanted = (Revocation(serial_number=serial), Revocation(serial_number=number))
    with pytest.raises(Refused) as caught:
        revocations.revoke(wanted, now=NOW)
    assert (caught.value.code, caught.value.field) == ("unknown-serial", f"{number:x}")
    assert f"serial number {number:x}" in caught.value.message
    # All or nothing.
    assert revocations.revoked == 0


@pytest.mark.parametrize("state", ["intent", "confirmed", "abandoned"])
def test_a_serial_without_a_certificate_is_not_revoked(
    journal: Journal, revocations: RevocationList, state: str
) -> None:
    wanted = record_intent(journal)
    if state == "confirmed":
        journal.record_confirmation(wanted, log_hash=wanted.log_hash, now=NOW)
    if state == "abandoned":
        journal.record_abandonment(wanted, code="vetoed", reason="", now=NOW)
    with pytest.raises(Refused, match="never issued"):
        revoke(revocations, int.from_bytes(wanted.serial_number, "big"))


def test_a_certificate_of_another_sub_ca_is_not_revoked(journal: Journal) -> None:
    other = make_authority(make_ca("assured", key=p256_key()), name="assured_2026_2")
    (serial,) = record_issued(journal, 1)
    with pytest.raises(Refused, match="assured_2026_2 never issued"):
        revoke(RevocationList(other, journal, lifetime=LIFETIME), serial)


@pytest.mark.parametrize(
    ("details", "code"),
    [
        ({"reason": 6}, "reason-invalid"),
        ({"reason": 8}, "reason-invalid"),
        ({"reason": 1 << 160}, "reason-invalid"),
        ({"invalidity_date": NOW + dt.timedelta(seconds=1)}, "date-invalid"),
    ],
)
def test_what_no_crl_can_say_is_refused_by_its_serial(
    journal: Journal, revocations: RevocationList, details: dict[str, object], code: str
) -> None:
    """The client learns which one of its hundred it was."""
    good, bad = record_issued(journal, 1, 2)
    wanted = (Revocation(serial_number=good), Revocation(serial_number=bad, **details))  # type: ignore[arg-type] # any
    with pytest.raises(Refused) as caught:
        revocations.revoke(wanted, now=NOW)
    assert (caught.value.code, caught.value.field) == (code, f"{bad:x}")
    assert revocations.revoked == 0
    assert not journal.dirty


def test_a_client_gets_the_entries_that_it_lacks(journal: Journal, revocations: RevocationList) -> None:
    serials = record_issued(journal, *range(1, 6))
    first = sign_crl(revocations)
    revoke(revocations, *serials[:2])
    second = sign_crl(revocations)
    revoke(revocations, *serials[2:])
    third = sign_crl(revocations)

    def lacks(number: int, tbs_hash: bytes) -> list[int]:
        return list(crl.entry_serials(revocations.entries_since(number, tbs_hash, third)))

    assert lacks(first.number, first.tbs_hash) == serials
    assert lacks(second.number, second.tbs_hash) == serials[2:]
    assert lacks(third.number, third.tbs_hash) == []
    # One without a CRL has nothing to add to.
    assert lacks(0, b"") == serials


@pytest.mark.parametrize("number", [2, 1 << 40, 1 << 64, (1 << 168) - 1])
def test_one_that_has_an_unknown_crl_gets_nothing(journal: Journal, revocations: RevocationList, number: int) -> None:
    """What it patches will not verify, and then it asks for the full one."""
    (serial,) = record_issued(journal, 1)
    revoke(revocations, serial)
    record = sign_crl(revocations)
    assert revocations.entries_since(number, b"?" * 32, record) == b""
    assert revocations.entries_since(1, b"?" * 32, record) == b""


def test_entries_revoked_after_the_draft_belong_to_the_next(journal: Journal, revocations: RevocationList) -> None:
    early, late = record_issued(journal, 1, 2)
    revoke(revocations, early)
    draft = revocations.draft(now=NOW)
    revoke(revocations, late)
    record = revocations.complete(draft, sign(p256_key(), draft.algorithm, draft.tbs), now=NOW)
    assert list(crl.entry_serials(full(revocations).entries)) == [early]
    assert list(crl.entry_serials(revocations.entries_since(0, b"", record))) == [early]
    sign_crl(revocations)
    assert list(crl.entry_serials(full(revocations).entries)) == [early, late]


def test_a_pss_sub_ca_signs_its_crl_with_pss(journal: Journal) -> None:
    authority = make_authority(make_ca("rsa", key=rsa_key()), pss=True)
    revocations = RevocationList(authority, journal, lifetime=LIFETIME)
    draft = revocations.draft(now=NOW)
    assert draft.algorithm.is_pss
    revocations.complete(draft, sign(rsa_key(), draft.algorithm, draft.tbs), now=NOW)
    assert full(revocations).algorithm == draft.algorithm


def test_a_revocation_costs_the_same_behind_a_long_list(tmp_path: Path) -> None:
    """Nothing is called for each entry that was there before."""

    def calls_behind(count: int) -> int:
        (tmp_path / f"{count}").mkdir()
        journal = open_journal(tmp_path / f"{count}")
        serials = record_issued(journal, *range(1, count + 1))
        revocations = RevocationList(default_authority(), journal, lifetime=LIFETIME)
        revoke(revocations, *serials[:-2])
        before = sign_crl(revocations)
        calls = 0

        def note(_frame: object, event: str, _argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        def work(serial: int) -> None:
            revoke(revocations, serial)
            draft = revocations.draft(now=NOW)
            record = revocations.complete(draft, b"s" * 70, now=NOW)
            assert len(revocations.entries_since(before.number, before.tbs_hash, record)) in (35, 70)

        work(serials[-2])
        profile = sys.getprofile()
        sys.setprofile(note)
        try:
            work(serials[-1])
        finally:
            sys.setprofile(profile)
        journal.close()
        return calls

    # Some lengths take another octet; one call for each of 54 more entries would show.
    assert 10 < calls_behind(60) < calls_behind(6) + 20
