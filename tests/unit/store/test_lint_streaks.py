"""Vetoes in a row hold a profile, and let go of it again; all of it on both databases."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
from tests.support.store import NOW, after, certificate_request, lease_sign, lease_suspects, request_id, submit

from cassiopeia.store.database import Store, open_store
from cassiopeia.store.lint_streaks import HOLD_AFTER, PROBE_EVERY, LintStreak, LintVerdict, Standing
from cassiopeia.store.records import Postponement

SERVER = "9004-unproved-server"
FREE, BEGINS, HELD, ENDS = Standing.FREE, Standing.HOLD_BEGINS, Standing.HELD, Standing.HOLD_ENDS
PROBE_S = PROBE_EVERY.total_seconds()


def veto(*findings: str, profile: str = SERVER) -> LintVerdict:
    return LintVerdict(profile=profile, findings=findings or ("pkix.x",), message=f"{findings or 'pkix.x'} at subject")


def good(profile: str = SERVER) -> LintVerdict:
    return LintVerdict(profile=profile)


def record(store: Store, *verdicts: LintVerdict, at: dt.datetime = NOW) -> list[Standing]:
    return list(store.lint_streaks.record(verdicts, now=at))


def hold(store: Store, profile: str = SERVER, *, at: dt.datetime = NOW) -> None:
    assert record(store, *[veto(profile=profile)] * HOLD_AFTER, at=at)[-1] is BEGINS


def submit_for(store: Store, number: int, profile: str) -> None:
    target = "" if profile else "unassured_2026_2"
    store.requests.submit(
        certificate_request(profile=profile, ocsp_target_ca=target), request_id=request_id(number), now=NOW
    )


def profiles_leased(store: Store, *, at: dt.datetime = NOW, owner: str = "client") -> list[str]:
    return [job.request.profile for job in lease_sign(store, owner, at=at)]


# --- counting


def test_the_fifth_veto_in_a_row_holds_and_so_does_every_one_after_it(store: Store) -> None:
    assert record(store, *[veto()] * 7) == [FREE, FREE, FREE, FREE, BEGINS, HELD, HELD]
    assert store.lint_streaks.suspicious() == (
        LintStreak(profile=SERVER, finding="pkix.x", length=7, message="pkix.x at subject", held_at=NOW),
    )


def test_a_streak_may_come_in_pieces_and_outlives_the_client(store_url: str) -> None:
    standings = []
    for second in range(HOLD_AFTER):
        with open_store(store_url) as store:
            standings += record(store, veto(), at=after(second))
    assert standings == [FREE] * 4 + [BEGINS]


def test_a_good_certificate_breaks_the_row(store: Store) -> None:
    assert record(store, *[veto()] * 4, good(), *[veto()] * 4) == [FREE] * 9
    assert store.lint_streaks.suspicious() == ()


def test_another_finding_begins_another_row_unless_the_first_comes_along(store: Store) -> None:
    assert record(store, *[veto("pkix.x")] * 4, veto("pkix.y"), *[veto("pkix.x")] * 4) == [FREE] * 9
    assert record(store, veto("pkix.y", "pkix.x")) == [BEGINS]


def test_profiles_are_counted_each_by_itself(store: Store) -> None:
    others = [veto(profile=""), good("other")]
    assert record(store, *[veto(), *others] * 4) == [FREE] * 12
    assert record(store, *others, veto()) == [BEGINS, FREE, BEGINS]
    assert [each.profile for each in store.lint_streaks.suspicious()] == ["", SERVER]


def test_another_fault_does_not_end_a_hold(store: Store) -> None:
    hold(store)
    assert record(store, veto("pkix.y"), veto("pkix.x")) == [FREE, HELD]
    store.lint_streaks.release(SERVER, now=NOW)
    assert record(store, veto("pkix.y"), veto("pkix.x")) == [FREE, BEGINS]


def test_a_good_certificate_ends_a_hold(store: Store) -> None:
    hold(store)
    assert record(store, good(), veto()) == [ENDS, FREE]
    assert store.lint_streaks.suspicious() == ()


def test_after_a_release_the_next_lint_decides(store: Store) -> None:
    hold(store)
    assert store.lint_streaks.release(SERVER, now=after(9))
    assert not store.lint_streaks.release(SERVER, now=after(9))
    [streak] = store.lint_streaks.suspicious()
    assert streak.held_at is None
    assert record(store, veto(), at=after(10)) == [BEGINS]
    store.lint_streaks.release(SERVER, now=after(11))
    assert record(store, good(), veto()) == [ENDS, FREE]


def test_a_profile_that_was_never_held_is_not_released(store: Store) -> None:
    assert not store.lint_streaks.release(SERVER, now=NOW)
    record(store, veto())
    assert not store.lint_streaks.release(SERVER, now=NOW)


def test_good_certificates_write_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record(store, veto(profile="other"))
    monkeypatch.setattr(store.database, "write", None)
    assert record(store, good(), good()) == [FREE, FREE]


def test_a_finding_of_any_length_is_counted(store: Store) -> None:
    assert record(store, *[veto("pkix." + "x" * 999)] * 5)[-1] is BEGINS


def test_two_clients_count_the_same_row(store_url: str) -> None:
    standings: list[Standing] = []
    with open_store(store_url) as one, open_store(store_url) as two:
        threads = [
            threading.Thread(target=lambda store=store: standings.extend(record(store, veto()) + record(store, veto())))
            for store in (one, two, one, two)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert standings.count(FREE) == 4
    assert standings.count(BEGINS) == 1
    assert standings.count(HELD) == 3


# --- the queue


def test_jobs_of_a_held_profile_stay(store: Store) -> None:
    submit_for(store, 1, SERVER)
    submit_for(store, 2, "9001-unproved-client")
    submit_for(store, 3, "")
    hold(store)
    assert profiles_leased(store) == ["9001-unproved-client", ""]
    hold(store, "")
    assert lease_sign(store, "another", at=after(60)) == []
    store.lint_streaks.release(SERVER, now=after(61))
    assert profiles_leased(store, at=after(61)) == [SERVER]


def test_a_suspect_of_a_held_profile_stays_and_keeps_nobody_waiting(store: Store) -> None:
    submit(store, 1)
    lease_sign(store)
    store.queue.release("client", now=NOW, death="killed")
    hold(store)
    assert not store.queue.suspect_waits(now=NOW)
    assert lease_suspects(store) == []
    record(store, good())
    assert store.queue.suspect_waits(now=NOW)
    assert len(lease_suspects(store)) == 1


def test_once_in_a_while_one_job_is_let_out_as_a_probe(store: Store) -> None:
    for number in range(3):
        submit(store, number)
    hold(store)
    assert profiles_leased(store, at=after(PROBE_S - 1)) == []
    assert profiles_leased(store, at=after(PROBE_S)) == [SERVER]
    assert profiles_leased(store, at=after(PROBE_S), owner="another") == []
    assert record(store, veto(), at=after(PROBE_S + 1)) == [HELD]
    assert profiles_leased(store, at=after(2 * PROBE_S)) == []
    assert profiles_leased(store, at=after(2 * PROBE_S + 1)) == [SERVER]
    assert record(store, good(), at=after(2 * PROBE_S + 2)) == [ENDS]
    assert profiles_leased(store, at=after(2 * PROBE_S + 2)) == [SERVER]


def test_a_probe_waits_for_a_job(store: Store) -> None:
    hold(store)
    assert profiles_leased(store, at=after(PROBE_S)) == []
    submit(store, 1)
    assert profiles_leased(store, at=after(PROBE_S + 1)) == [SERVER]


def test_a_probe_counts_against_the_limit(store: Store) -> None:
    submit(store, 1)
    submit_for(store, 2, "9001-unproved-client")
    hold(store)
    leased = store.queue.lease("client", limit=1, lease_s=60, now=after(PROBE_S))
    assert len(leased) == 1


def test_a_release_lets_out_at_once_what_was_put_back(store: Store) -> None:
    submit(store, 1)
    [job] = lease_sign(store)
    postponement = Postponement(job_id=job.id, delay_s=1_200, counts=False, reason="held")
    store.queue.retry_later("client", [postponement], now=NOW)
    hold(store)
    store.lint_streaks.release(SERVER, now=after(1))
    assert profiles_leased(store, at=after(1)) == [SERVER]


def test_only_one_client_probes(store_url: str) -> None:
    with open_store(store_url) as store:
        for number in range(8):
            submit(store, number)
        hold(store)
        leased: list[list[str]] = []
        threads = [
            threading.Thread(
                target=lambda name=str(number): leased.append(profiles_leased(store, at=after(PROBE_S), owner=name))
            )
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(leased) == [[], [], [], [SERVER]]


# --- samples


def hold_for_sample(store: Store, finding: str = "pkix.x", *, at: dt.datetime = NOW) -> bool:
    return store.lint_streaks.hold_for_sample(SERVER, finding=finding, message=f"{finding} at subject", now=at)


def test_a_finding_in_the_sample_holds_at_once_and_once(store: Store) -> None:
    submit(store, 1)
    assert hold_for_sample(store)
    assert not hold_for_sample(store, at=after(60))
    [streak] = store.lint_streaks.suspicious()
    assert (streak.finding, streak.held_at, streak.is_of_a_sample) == ("pkix.x", NOW, True)
    assert streak.message == "its sample certificate: pkix.x at subject"
    assert streak.why == "its sample certificate has the finding pkix.x"
    assert profiles_leased(store) == []
    # Another finding, or another client after a release: anew.
    assert hold_for_sample(store, "pkix.y" * 100)
    assert not hold_for_sample(store, "pkix.y" * 100)
    store.lint_streaks.release(SERVER, now=NOW)
    assert hold_for_sample(store, "pkix.y" * 100)


def test_a_sample_that_passes_releases_what_a_sample_held_and_nothing_else(store: Store) -> None:
    assert not store.lint_streaks.release_sample(SERVER, now=NOW)
    hold_for_sample(store)
    assert not store.lint_streaks.release_sample("another", now=NOW)
    assert store.lint_streaks.release_sample(SERVER, now=NOW)
    submit(store, 1)
    assert profiles_leased(store) == [SERVER]
    assert record(store, good()) == [ENDS]
    hold(store)
    assert not store.lint_streaks.release_sample(SERVER, now=NOW)
    [streak] = store.lint_streaks.suspicious()
    assert streak.why == "5 certificates in a row were vetoed for pkix.x"


def test_a_hold_for_a_sample_has_probes_and_ends_as_any_other(store: Store) -> None:
    submit(store, 1)
    hold_for_sample(store)
    assert profiles_leased(store, at=after(PROBE_S)) == [SERVER]
    assert record(store, veto(), at=after(PROBE_S)) == [HELD]
    assert record(store, good(), at=after(PROBE_S)) == [ENDS]
