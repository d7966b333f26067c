"""What needs a person, and what does not."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
from tests.support.authorities import default_authority
from tests.support.store import NOW, after

from cassiopeia import ops
from cassiopeia.duties import Calendar
from cassiopeia.store.evidence import ValidatorStatus
from cassiopeia.store.lint_streaks import LintStreak
from cassiopeia.store.publishers import PublisherStatus
from cassiopeia.store.records import CrlHeader, JobKind, QueueStatistics, SignerStatus

NOTHING: dict[JobKind, int] = {"revoke": 0, "crl": 0, "sign": 0}
DAY = 86_400
CRL = CrlHeader(
    authority="unassured_2026_1",
    number=7,
    this_update=NOW,
    next_update=after(10 * DAY),
    octets=700,
    saved_at=NOW,
)
QUEUE = QueueStatistics(
    waiting=NOTHING,
    leased=NOTHING,
    postponed=NOTHING,
    set_aside=NOTHING,
    suspected=0,
    unattested=0,
    unattested_s=0.0,
    oldest_age_s=0,
    oldest_difficulty="",
    issued_last_hour=0,
)


def depth(*, sign: int = 0, revoke: int = 0) -> dict[JobKind, int]:
    return {"revoke": revoke, "crl": 0, "sign": sign}


def signer(*, signer_id: int = 1, seen_at: dt.datetime = NOW, **changes: Any) -> SignerStatus:
    report = {
        "state": "running",
        "reason": "",
        "time": seen_at.isoformat(),
        "boot_seconds": 9_999,
        "free_octets": 1 << 34,
        "octets_a_day": 1 << 20,
        "clock_warning": "",
        "authorities": [
            {"name": CRL.authority, "issued": 5, "revoked": 1, "not_after": after(400 * DAY).isoformat()},
        ],
    }
    return SignerStatus(signer_id=signer_id, report=report | changes, seen_at=seen_at)


def situation(**changes: Any) -> ops.Situation:
    well = ops.Situation(
        now=NOW, queue=QUEUE, signers=(signer(),), crls=(CRL,), held=(), unpublished=(), hears_signers=True
    )
    return dataclasses.replace(well, **changes)


def only(**changes: Any) -> ops.Concern:
    [concern] = ops.concerns(situation(**changes))
    assert concern.remedy
    return concern


def test_nothing_is_wrong() -> None:
    assert ops.concerns(situation()) == ()


def test_a_report_of_an_older_release_is_judged_by_what_it_says() -> None:
    older = SignerStatus(signer_id=1, report={}, seen_at=NOW)
    assert ops.concerns(situation(signers=(older,))) == ()
    assert (ops.clock_offset_s(older), ops.disk_days(older)) == (None, None)
    odd = signer(time="yesterday", free_octets="much", boot_seconds=None, reason=7, journal=[], state=None)
    assert ops.concerns(situation(signers=(odd,))) == ()
    assert ops.clock_offset_s(signer(time="2026-11-23T12:00:00")) is None


# Validators.


def test_requests_that_could_be_attested_and_nobody_does_it() -> None:
    waiting = dataclasses.replace(QUEUE, waiting=depth(sign=7), unattested=7, unattested_s=301)
    concern = only(queue=waiting)
    assert concern.code == "validator-silent"
    assert concern.what == (
        "7 requests wait for evidence, the first of them for 5 minutes, and no validator was ever heard"
    )
    assert "`cassiopeia validator run`" in concern.remedy
    gone = ValidatorStatus(name="v", report={}, seen_at=after(-7_200))
    alone = dataclasses.replace(waiting, unattested=1)
    assert only(queue=alone, validators=(gone,)).what.startswith("1 request waits for evidence")
    assert only(queue=alone, validators=(gone,)).what.endswith("no validator was heard for 2 hours")


def test_requests_that_a_validator_is_at_work_on_need_nobody() -> None:
    waiting = dataclasses.replace(QUEUE, waiting=depth(sign=7), unattested=7, unattested_s=301)
    at_work = ValidatorStatus(name="v", report={}, seen_at=after(-119))
    gone = ValidatorStatus(name="w", report={}, seen_at=after(-7_200))
    assert ops.concerns(situation(queue=waiting, validators=(gone, at_work))) == ()
    soon = dataclasses.replace(waiting, unattested_s=300)
    assert ops.concerns(situation(queue=soon)) == ()


def test_a_publisher_says_what_keeps_it_from_answering() -> None:
    word = PublisherStatus(name="web", alarms=("the copy cannot be believed",), seen_at=after(-119))
    concern = only(publishers=(word,))
    assert (concern.code, concern.what) == ("publisher-alarm", "publisher web: the copy cannot be believed")
    assert ops.concerns(situation(publishers=(dataclasses.replace(word, alarms=()),))) == ()


def test_a_publisher_that_has_fallen_silent() -> None:
    gone = PublisherStatus(name="web", alarms=("old",), seen_at=after(-7_200))
    concern = only(publishers=(gone,))
    assert (concern.code, concern.what) == ("publisher-silent", "publisher web was last heard 2 hours ago")
    taken_away = dataclasses.replace(gone, seen_at=after(-31 * DAY))
    assert ops.concerns(situation(publishers=(taken_away,))) == ()


def test_a_signer_that_does_not_know_a_validator() -> None:
    concern = only(signers=(signer(evidence_alarm="no validator has the key 0011"),))
    assert concern.code == "validator-unknown"
    assert concern.what == "signer 1 does not take a validator's word: no validator has the key 0011"


def test_a_client_that_cannot_use_its_bundle() -> None:
    concern = only(signers=(signer(bundle_alarm="another bundle is in force"),))
    assert concern.code == "client-bundle"
    assert concern.what == "the client of signer 1 does not work by its newest bundle: another bundle is in force"


# Signers.


def test_a_signer_that_was_never_heard() -> None:
    assert only(signers=()).code == "signer-never-heard"
    assert ops.concerns(situation(signers=(), hears_signers=False)) == ()


@pytest.mark.parametrize(("silent_s", "codes"), [(119, []), (121, ["signer-silent"])])
def test_a_signer_that_is_silent(silent_s: float, codes: list[str]) -> None:
    found = ops.concerns(situation(signers=(signer(seen_at=after(-silent_s)),)))
    assert [each.code for each in found] == codes


def test_a_silent_signer_is_not_judged_by_its_last_word() -> None:
    concern = only(signers=(signer(seen_at=after(-7_200), state="halted", reason="its clock is wrong"),))
    assert concern.code == "signer-silent"
    assert concern.what == "signer 1 was last heard 2 hours ago"


def test_a_signer_that_was_taken_out_of_service_is_forgotten_when_there_is_another() -> None:
    old = signer(signer_id=2, seen_at=after(-31 * DAY))
    assert ops.concerns(situation(signers=(signer(), old))) == ()
    assert only(signers=(old,)).code == "signer-silent"


def test_a_signer_that_is_halted_says_why() -> None:
    concern = only(signers=(signer(state="halted", reason="the disk is full"),))
    assert (concern.code, concern.what) == ("signer-halted", "signer 1 issues nothing: the disk is full")
    assert only(signers=(signer(state="halted"),)).what.endswith("it does not say why")


def test_a_wrong_signature_and_a_key_that_is_away_are_told_by_their_sub_ca() -> None:
    sound, wrong, away = {"name": "a_2026_1"}, {"name": "a_2026_2"}, {"name": "a_2026_3"}
    wrong["mistrusted"] = "gnutls finds a signature wrong that openssl made"
    away["key_fault"] = "the token is away"
    found = ops.concerns(situation(signers=(signer(authorities=[sound, away, wrong]),)))
    assert [(each.code, each.is_urgent) for each in found] == [("signature-mistrusted", True), ("key-away", False)]
    assert found[0].what == (
        "signer 1 has halted a_2026_2, because a signature by its key was wrong: gnutls finds a signature wrong that "
        "openssl made"
    )
    assert found[1].what == "signer 1 cannot use the key of a_2026_3: the token is away"


@pytest.mark.parametrize(("boot_seconds", "codes"), [(30, []), (601, ["signer-locked"])])
def test_a_signer_may_be_locked_for_a_while(boot_seconds: int, codes: list[str]) -> None:
    found = ops.concerns(situation(signers=(signer(state="locked", boot_seconds=boot_seconds),)))
    assert [each.code for each in found] == codes


@pytest.mark.parametrize(
    ("offset_s", "what"),
    [
        (30, ""),
        (-30, ""),
        (31, "the clock of signer 1 is 31 seconds behind this machine's"),
        (-3_600, "the clock of signer 1 is 60 minutes ahead of this machine's"),
    ],
)
def test_a_clock_that_is_off_is_told_early(offset_s: float, what: str) -> None:
    found = ops.concerns(situation(signers=(signer(time=after(-offset_s).isoformat()),)))
    assert [(each.code, each.what) for each in found] == ([("clock-offset", what)] if what else [])


def test_the_signers_own_doubts_about_its_clock() -> None:
    concern = only(signers=(signer(clock_warning="it went back by 3 hours"),))
    assert concern.code == "clock-distrusted"
    assert "it went back by 3 hours" in concern.what


@pytest.mark.parametrize(
    ("free", "a_day", "what"),
    [
        (30 << 20, 1 << 20, ""),
        (29 << 20, 1 << 20, "the disk of signer 1 is full in 29 days"),
        (1 << 20, 0, "the disk of signer 1 has 1024 KiB left"),
        (1 << 30, 0, ""),
    ],
)
def test_a_disk_that_fills(free: int, a_day: int, what: str) -> None:
    found = ops.concerns(situation(signers=(signer(free_octets=free, octets_a_day=a_day),)))
    assert [(each.code, each.what) for each in found] == ([("disk-filling", what)] if what else [])


def test_a_disk_is_watched_while_its_signer_is_silent() -> None:
    found = ops.concerns(situation(signers=(signer(seen_at=after(-300), free_octets=1 << 20),)))
    assert [each.code for each in found] == ["signer-silent", "disk-filling"]


def test_a_journal_that_is_not_the_one_that_was_copied() -> None:
    assert ops.concerns(situation(signers=(signer(journal={"alarm": ""}),))) == ()
    concern = only(signers=(signer(journal={"alarm": "its head is older"}),))
    assert concern.code == "journal-differs"
    assert "its head is older" in concern.what


# CRLs.


@pytest.mark.parametrize(
    ("days", "codes"),
    [(4.9, []), (5.1, ["crl-late"]), (9.9, ["crl-late"]), (10, ["crl-expired"]), (99, ["crl-expired"])],
)
def test_a_crl_is_late_at_half_its_life(days: float, codes: list[str]) -> None:
    now = after(days * DAY)
    found = ops.concerns(situation(now=now, signers=(signer(seen_at=now),)))
    assert [each.code for each in found] == codes


def test_the_crl_of_a_sub_ca_that_has_run_out_is_not_missed() -> None:
    now = after(401 * DAY)
    assert ops.concerns(situation(now=now, signers=(signer(seen_at=now),))) == ()
    assert ops.concerns(situation(now=now, crls=(), signers=(signer(seen_at=now),))) == ()


def test_the_crl_of_a_sub_ca_that_nobody_has_any_more_is_not_missed() -> None:
    """A bundle drops sub-CAs that have ended; what was stored of them stays."""
    now = after(20 * DAY)
    without = {"now": now, "signers": (signer(seen_at=now, authorities=[]),)}
    known = dataclasses.replace(default_authority(), name=CRL.authority, not_after=now)
    calendar = Calendar(
        now=now, authorities=(known,), issuers={}, offline=(), issued={}, recently={}, on_signers={1: frozenset()}
    )

    assert [each.code for each in ops.concerns(situation(**without))] == ["crl-expired"]
    assert [each.code for each in ops.concerns(situation(**without, calendar=calendar))] == ["crl-expired"]
    gone = dataclasses.replace(calendar, authorities=())
    assert ops.concerns(situation(**without, calendar=gone)) == ()
    ended = dataclasses.replace(known, not_after=after(19 * DAY))
    assert ops.concerns(situation(**without, calendar=dataclasses.replace(calendar, authorities=(ended,)))) == ()
    on_signer = situation(now=now, signers=(signer(seen_at=now),), calendar=gone)
    assert [each.code for each in ops.concerns(on_signer)] == ["crl-expired"]


def test_a_crl_that_is_not_published() -> None:
    concern = only(unpublished={CRL.authority})
    assert concern.code == "crl-unpublished"
    assert "number 7, is not published" in concern.what


def test_a_crl_that_is_not_there() -> None:
    assert only(crls=()).code == "crl-missing"
    fresh = signer(authorities=[{"name": "new_2027_1", "issued": 0}])
    assert ops.concerns(situation(signers=(fresh,))) == ()


# The queue.


@pytest.mark.parametrize(("count", "what"), [(1, "1 job is set aside"), (2, "2 jobs are set aside")])
def test_what_was_set_aside(count: int, what: str) -> None:
    queue = dataclasses.replace(QUEUE, set_aside=depth(revoke=count))
    assert only(queue=queue).what == what


@pytest.mark.parametrize("held_at", [None, NOW])
def test_a_profile_that_is_held(held_at: dt.datetime | None) -> None:
    streak = LintStreak(profile="", finding="pkix.x", length=5, message="x", held_at=held_at)
    codes = [(each.code, each.remedy) for each in ops.concerns(situation(held=(streak,)))]
    remedy = "see `cassiopeia status`; then `cassiopeia profile release ocsp`"
    assert codes == ([] if held_at is None else [("profile-held", remedy)])


@pytest.mark.parametrize(("age_s", "waits"), [(3_600, False), (7_200, True)])
def test_the_oldest_job(age_s: float, *, waits: bool) -> None:
    queue = dataclasses.replace(
        QUEUE, waiting=depth(sign=3), oldest_age_s=age_s, oldest_difficulty="the sub-CA is full"
    )
    what = "the oldest job has waited 2 hours; what kept it last: the sub-CA is full"
    assert [each.what for each in ops.concerns(situation(queue=queue))] == ([what] if waits else [])


def test_the_most_pressing_comes_first() -> None:
    queue = dataclasses.replace(QUEUE, set_aside=depth(sign=1))
    now = after(11 * DAY)
    found = ops.concerns(situation(now=now, queue=queue))
    assert [each.code for each in found] == ["crl-expired", "signer-silent", "set-aside"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7_200, "2 hours"), (3 * DAY, "3 days")],
)
def test_spans_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert ops.span(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(500, "0 KiB"), (2 << 20, "2 MiB"), (3 << 30, "3 GiB"), (5 << 40, "5 TiB"), (1 << 30, "1024 MiB")],
)
def test_sizes_are_said_in_the_largest_unit_that_fits_twice(octets: int, text: str) -> None:
    assert ops.show_octets(octets) == text
