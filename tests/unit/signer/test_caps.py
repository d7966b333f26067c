"""Caps: what they count, when there is room again, and that they come out of the journal as they were."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.authorities import alt_names, load_profile
from tests.support.evidence import TestValidator
from tests.support.issuing import wanted
from tests.support.signer import JOURNAL_KEY, NOW, PROFILE, meaningless_tbs, open_journal, record_intent

from cassiopeia.core import crl
from cassiopeia.core.request import CertificateRequest, Revocation
from cassiopeia.errors import Refused, Unavailable
from cassiopeia.journal.order import CAPS
from cassiopeia.journal.standing import RaisedCap
from cassiopeia.signer.caps import HOUR_S, STEP_S, Caps, Window
from cassiopeia.signer.journal import Journal

LIMITS = dict.fromkeys(CAPS, 3)
VALIDATOR = TestValidator()
REFUSAL = Refused("This key is weak.", code="key-weak")


class Machine:
    """Caps on a clock in hand, and what operators have raised."""

    def __init__(self, **limits: int) -> None:
        self.seconds = 10_000.0
        self.raised: dict[str, RaisedCap] = {}
        self.caps = Caps(
            limits=LIMITS | {name.replace("_", "-"): limit for name, limit in limits.items()},
            raised=lambda: self.raised,
            clock=lambda: self.seconds,
        )

    def intent(self, **changes: Any) -> Unavailable | None:
        """Count a certificate, or say why it has to wait."""
        values: dict[str, Any] = {"profile": "p", "account": "alice", "validators": ()} | changes
        open_intents = values.pop("open_intents", 0)
        try:
            self.caps.check_intent(**values, open_intents=open_intents)
        except Unavailable as error:
            return error
        self.caps.count_intent(**values)
        return None

    def refusal(self) -> Unavailable | None:
        try:
            self.caps.check_refusal(REFUSAL)
        except Unavailable as error:
            return error
        return None

    def alarms(self) -> list[str]:
        return list(self.caps.alarms())


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = open_journal(tmp_path, now=NOW - dt.timedelta(hours=9))
    yield opened
    opened.close()


# --- counting


def test_a_window_counts_an_hour_and_up_to_a_step_more() -> None:
    window = Window()
    window.add("a", at_s=STEP_S * 10 + 1)
    window.add("b", at_s=STEP_S * 10 + 2)
    window.add("a", at_s=STEP_S * 11, times=2)
    assert [window.count(name, now_s=STEP_S * 11) for name in ("a", "b", "c")] == [3, 1, 0]
    assert window.count("a", now_s=STEP_S * 11 + HOUR_S - 1) == 3
    assert window.count("a", now_s=STEP_S * 11 + HOUR_S) == 2
    assert window.count("b", now_s=STEP_S * 11 + HOUR_S) == 0
    assert window.count("a", now_s=STEP_S * 12 + HOUR_S) == 0


def test_a_window_knows_when_it_falls() -> None:
    window = Window()
    window.add("a", at_s=0)
    window.add("b", at_s=STEP_S)
    window.add("a", at_s=STEP_S * 5, times=2)
    assert window.falls_to("a", 3, now_s=300) == 300
    assert window.falls_to("a", 2, now_s=300) == STEP_S + HOUR_S
    assert window.falls_to("a", 1, now_s=300) == window.falls_to("a", 0, now_s=300) == STEP_S * 6 + HOUR_S


def test_time_before_the_boot_is_counted_too() -> None:
    """A signer that was started a minute after its machine remembers what was before that."""
    window = Window()
    window.add("a", at_s=-3000.5)
    assert window.count("a", now_s=60) == 1
    assert window.count("a", now_s=700) == 0


@pytest.mark.parametrize(
    ("cap", "same", "other"),
    [
        ("profile-certificates", {"profile": "p"}, {"profile": "q"}),
        ("account-certificates", {"account": "alice"}, {"account": "bob"}),
        ("validator-certificates", {"validators": (b"v" * 8,)}, {"validators": (b"w" * 8,)}),
    ],
)
def test_each_name_has_a_cap_of_its_own(cap: str, same: dict[str, Any], other: dict[str, Any]) -> None:
    limits = dict.fromkeys(CAPS, 100) | {cap: 3}
    machine = Machine(**{name.replace("-", "_"): limit for name, limit in limits.items()})
    assert [machine.intent(**same) for _ in range(3)] == [None] * 3
    error = machine.intent(**same)
    assert error is not None
    assert error.code == f"cap-{cap}"
    assert "3 certificates an hour" in error.message
    assert machine.intent(**other) is None


def test_one_validator_of_two_is_enough_to_wait_for() -> None:
    machine = Machine(profile_certificates=9, account_certificates=9)
    for _ in range(3):
        machine.intent(validators=(b"v" * 8,))
    error = machine.intent(validators=(b"w" * 8, b"v" * 8))
    assert error is not None
    assert error.code == "cap-validator-certificates"


def test_what_no_worker_needs_to_see_waits_before_it_is_looked_at(machine: Machine) -> None:
    for _ in range(3):
        machine.intent()
    for changes in ({"profile": "p", "account": "bob"}, {"profile": "q", "account": "alice"}):
        with pytest.raises(Unavailable):
            machine.caps.check_request(**changes, open_intents=0)
    machine.caps.check_request(profile="q", account="bob", open_intents=2)
    with pytest.raises(Unavailable) as error:
        machine.caps.check_request(profile="q", account="bob", open_intents=3)
    assert error.value.code == "cap-open-intents"


def test_after_an_hour_there_is_room_again(machine: Machine) -> None:
    for _ in range(3):
        machine.intent()
    error = machine.intent()
    assert error is not None
    machine.seconds += error.retry_after_s - STEP_S - 1
    assert machine.intent() is not None
    machine.seconds += STEP_S + 1
    assert machine.intent() is None


# --- the line of those that wait


def test_thousands_that_wait_come_one_behind_the_other() -> None:
    machine = Machine(account_certificates=1000, profile_certificates=10_000)
    for _ in range(1000):
        machine.intent()
    told = []
    for _ in range(900):
        error = machine.intent()
        assert error is not None
        told.append(error.retry_after_s)
    assert told == sorted(told)
    assert told[0] >= HOUR_S
    # 1,000 an hour: one every 3.6 seconds, as the cap lets them through.
    assert told[-1] - told[0] == pytest.approx(899 * 3.6, abs=2)
    assert max(told.count(each) for each in told) == 1


def test_nobody_is_told_to_wait_for_longer_than_the_line_can_be(machine: Machine) -> None:
    for _ in range(3):
        machine.intent()
    told = []
    for _ in range(100):
        error = machine.intent()
        assert error is not None
        told.append(error.retry_after_s)
    assert max(told) <= 2 * HOUR_S + STEP_S + HOUR_S / 3
    assert len(set(told)) > 1


def test_open_intents_end_soon(machine: Machine) -> None:
    error = machine.intent(open_intents=3)
    assert error is not None
    assert error.retry_after_s <= 10


# --- raising


def test_a_raised_cap_lets_more_through_and_no_alarm_stays(machine: Machine) -> None:
    for _ in range(3):
        machine.intent()
    assert machine.intent() is not None
    assert len(machine.alarms()) == 1
    machine.raised = {
        "account-certificates": RaisedCap(limit=5, ends=NOW),
        "profile-certificates": RaisedCap(limit=5, ends=NOW),
    }
    assert machine.alarms() == []
    assert [machine.intent() for _ in range(2)] == [None] * 2
    assert machine.intent() is not None
    machine.raised = {}
    assert machine.intent() is not None


def test_a_cap_is_never_lowered_by_an_order(machine: Machine) -> None:
    machine.raised = {"refusals": RaisedCap(limit=1, ends=NOW)}
    assert machine.caps.limit("refusals") == 3


# --- revocations and refusals


def test_revocations_have_room_for_so_many(machine: Machine) -> None:
    assert machine.caps.room_to_revoke() == 3
    machine.caps.count_revocations(0)
    machine.caps.count_revocations(2)
    assert machine.caps.room_to_revoke() == 1
    machine.caps.count_revocations(1)
    assert machine.caps.room_to_revoke() == 0
    error = machine.caps.revocation_waits(taken=1, left=4)
    assert error.code == "cap-revocations"
    assert "3 revocations an hour: 1 of these are revoked, and 4 wait" in error.message
    assert "these wait" in machine.caps.revocation_waits(taken=0, left=4).message
    machine.seconds += HOUR_S + STEP_S
    assert machine.caps.room_to_revoke() == 3


def test_a_flood_of_refusals_is_answered_and_not_written_down(machine: Machine) -> None:
    assert [machine.refusal() for _ in range(3)] == [None] * 3
    error = machine.refusal()
    assert error is not None
    assert error.code == "cap-refusals"
    assert "This key is weak. (the signer's cap is reached, which is 3 refusals an hour" in error.message


# --- alarms


def test_an_alarm_stands_as_long_as_somebody_may_wait(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    assert machine.alarms() == []
    for _ in range(3):
        machine.refusal()
    assert machine.alarms() == []
    machine.refusal()
    machine.refusal()
    assert machine.alarms() == [
        "the cap refusals is reached: 3 refusals an hour; what is more waits, and goes on by itself"
    ]
    assert caplog.text.count("the cap refusals (3) is reached") == 1
    machine.seconds += HOUR_S
    assert len(machine.alarms()) == 1
    machine.seconds += 2 * HOUR_S
    assert machine.alarms() == []


def test_an_alarm_names_whom_it_is_about_and_no_more_than_a_few() -> None:
    machine = Machine(profile_certificates=10_000)
    for number in range(8):
        for _ in range(4):
            machine.intent(account=f"account {number}")
    (alarm,) = machine.alarms()
    assert "for the account 'account 0', 'account 1'" in alarm
    assert "'account 4' and 3 more" in alarm


def test_a_name_that_would_steer_a_terminal_is_shown_as_it_is(machine: Machine) -> None:
    for _ in range(4):
        machine.intent(account="\x1b[2J" + "x" * 500, profile="q")
    assert all("\x1b" not in alarm and len(alarm) < 300 for alarm in machine.alarms())


# --- out of the journal


def seeded(journal: Journal, *, now: dt.datetime = NOW) -> Caps:
    journal.commit()
    caps = Machine(account_certificates=5, profile_certificates=5, validator_certificates=5).caps
    caps.seed(journal, now=now)
    return caps


def room(caps: Caps, **names: Any) -> int:
    """How many more such certificates there is room for."""
    values: dict[str, Any] = {"profile": "other", "account": "other", "validators": ()} | names
    for count in range(100):
        try:
            caps.check_intent(**values, open_intents=0)
        except Unavailable:
            return count
        caps.count_intent(**values)
    raise AssertionError("there is no end to it")


def proved_request() -> CertificateRequest:
    request = wanted(profile="0004-server", attributes=(), alt_names=alt_names("DNS,www.example.org"))
    return VALIDATOR.prove_all(request, load_profile("0004-server"), nonce=b"n" * 16)


def record_proved(journal: Journal, *, protocol: int = 2, request: CertificateRequest | None = None) -> None:
    journal.record_intent(
        request or proved_request(),
        request_id=b"r" * 32,
        request_digest=b"d" * 32,
        protocol=protocol,
        boot_id=b"b",
        configuration_hash=b"c",
        signing_ca="unassured_2026_2",
        serial_number=bytes([1, protocol]) + bytes(14),
        algorithm=b"a",
        tbs_certificate=meaningless_tbs(1),
        now=NOW,
    )


def test_intents_of_the_last_hour_are_counted(journal: Journal) -> None:
    record_intent(journal, 1, now=NOW - dt.timedelta(minutes=70))
    record_intent(journal, 2, now=NOW - dt.timedelta(minutes=59))
    third = record_intent(journal, 3, now=NOW)
    journal.record_abandonment(third, code="vetoed", reason="", now=NOW)
    caps = seeded(journal)
    assert room(caps, profile=PROFILE) == 3
    assert room(caps, account="alice") == 3


def test_who_proved_an_intent_is_read_from_its_proofs(journal: Journal) -> None:
    record_proved(journal)
    caps = seeded(journal)
    assert room(caps, validators=(VALIDATOR.key_id,)) == 4
    assert room(caps, validators=(b"w" * 8,), account="b", profile="b") == 5


def test_version_1_proves_nothing(journal: Journal) -> None:
    record_proved(journal, protocol=1)
    assert room(seeded(journal), validators=(VALIDATOR.key_id,)) == 5


def test_proofs_that_cannot_be_read_keep_no_signer_down(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    record_proved(journal, request=wanted(proofs=(b"no", b"proof")))
    caps = seeded(journal)
    assert room(caps, account="alice") == 4
    assert "an intent whose proofs cannot be read" in caplog.text


def test_what_was_removed_by_its_age_is_not_counted(journal: Journal) -> None:
    record_intent(journal, 1, now=NOW)
    journal.commit()
    journal.remove_parts(before=NOW + dt.timedelta(days=1), now=NOW)
    assert room(seeded(journal), account="alice") == 5


def test_revocations_and_refusals_are_counted(journal: Journal) -> None:
    entry = crl.encode_revocation(Revocation(serial_number=1 << 120), NOW)
    other = crl.encode_revocation(Revocation(serial_number=(1 << 120) + 1), NOW)
    journal.record_revocations("unassured_2026_2", [entry, other], now=NOW)
    journal.record_revocations("unassured_2026_2", [], request_id=b"r" * 32, now=NOW)
    journal.record_refusal(request_id=b"r", request_digest=b"d", code="c", field="", message="", now=NOW)
    caps = seeded(journal)
    assert caps.room_to_revoke() == 1
    for _ in range(2):
        caps.check_refusal(REFUSAL)
    with pytest.raises(Unavailable):
        caps.check_refusal(REFUSAL)


def test_a_journal_that_has_hardly_begun_is_read_whole(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, now=NOW)
    record_intent(journal, 1, now=NOW)
    assert room(seeded(journal), account="alice") == 4
    journal.close()


def test_an_empty_journal_has_counted_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, signer_id=1, key=JOURNAL_KEY)
    Machine().caps.seed(journal, now=NOW)
    journal.close()


def test_a_long_hour_is_read_to_its_beginning(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cassiopeia.signer.caps._READ_AT_ONCE", 3)
    for number in range(1, 5):
        record_intent(journal, number, now=NOW)
    assert room(seeded(journal), account="alice") == 1


@pytest.mark.parametrize("days", [-100, 100])
def test_setting_the_clock_ends_no_hour(journal: Journal, days: int) -> None:
    for number in range(1, 4):
        record_intent(journal, number, now=NOW)
    corrected = NOW + dt.timedelta(days=days)
    journal.record_clock(machine_time=NOW, true_time=corrected)
    assert room(seeded(journal, now=corrected), account="alice") == 2
    journal.record_refusal(
        request_id=b"", request_digest=b"", code="c", field="", message="", now=corrected + dt.timedelta(minutes=61)
    )
    assert room(seeded(journal, now=corrected + dt.timedelta(minutes=61)), account="alice") == 5


def test_a_restart_gives_nobody_anything(journal: Journal) -> None:
    """Counted while it ran, and counted again from the journal: the same, but for the step that it was rounded to."""
    machine = Machine(account_certificates=5)
    for number in (3, 2, 1):
        at = NOW - dt.timedelta(minutes=10 * number)
        machine.seconds = at.timestamp()
        assert machine.intent(account="alice", profile=PROFILE) is None
        record_intent(journal, number, now=at)
    journal.commit()
    again = Machine(account_certificates=5)
    again.seconds = NOW.timestamp()
    again.caps.seed(journal, now=NOW)
    for minutes in range(80):
        now_s = NOW.timestamp() + 60 * minutes
        counted, read = (
            each._windows["account-certificates"].count("alice", now_s=now_s) for each in (machine.caps, again.caps)
        )
        assert counted == read
