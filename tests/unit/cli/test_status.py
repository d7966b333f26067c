"""`cassiopeia status`: short when all is well; what needs a person stands at the end, and alone with --check."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.client_store import CLIENT, ask, opened_client_store, run
from tests.support.store import lease_sign, request_id, submit

from cassiopeia.store.database import Store
from cassiopeia.store.records import CrlRecord, Postponement

CA = "unassured_2026_1"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with opened_client_store(tmp_path, monkeypatch) as opened:
        yield opened


@pytest.fixture
def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def hear(store: Store, now: dt.datetime, **changes: Any) -> None:
    report = {
        "state": "running",
        "reason": "",
        "time": now.isoformat(),
        "boot_seconds": 600,
        "free_octets": 3 << 30,
        "octets_a_day": 1 << 20,
        "clock_warning": "",
        "authorities": [
            {
                "name": CA,
                "issued": 12,
                "revoked": 1,
                "not_after": (now + dt.timedelta(days=700)).isoformat(),
            }
        ],
    }
    store.signers.save(1, report | changes, now=now)


def publish(store: Store, now: dt.datetime, *, days_left: float = 9.5, der: bytes = b"crl") -> None:
    """Store a CRL of ten days, and put it where the client publishes."""
    next_update = now + dt.timedelta(days=days_left)
    record = CrlRecord(
        authority=CA, number=7, this_update=next_update - dt.timedelta(days=10), next_update=next_update, der=der
    )
    store.crls.put(record, now=now - dt.timedelta(minutes=5))
    Path("public").mkdir(exist_ok=True)
    Path(f"public/{CA}.crl").write_bytes(b"crl")


def test_what_stands_by_order_is_shown(store: Store, now: dt.datetime) -> None:
    hear(
        store,
        now,
        orders={
            "halted_authorities": [CA],
            "disabled_validators": ["76" * 8, "77" * 8],
            "blocked_keys": 2,
            "validators": [{"name": "front", "key_id": "76" * 8, "kinds": ["attestation"]}],
            "caps": [
                {"name": "refusals", "limit": 5000, "ends": None},
                {"name": "revocations", "limit": 9000, "ends": "2026-11-24T10:11:12Z"},
            ],
        },
        alarms=["the cap refusals is reached: 5000 refusals an hour"],
    )
    publish(store, now)
    text = run("status").stdout
    assert (
        f"         by order: {CA} halted, validator front disabled, validator {'77' * 8} disabled, 2 keys blocked, "
        "cap revocations raised to 9000 until 2026-11-24T10:11\n"
    ) in text
    assert "TO DO    signer 1: the cap refusals is reached" in text
    hear(store, now, orders={"blocked_keys": 1})
    assert "by order: 1 key blocked\n" in run("status").stdout
    hear(store, now, orders={"blocked_keys": 0})
    assert "by order" not in run("status").stdout


def test_all_is_well(store: Store, now: dt.datetime) -> None:
    hear(store, now)
    publish(store, now)

    result = run("status")

    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "queue    0 waiting, 0 with a client, 0 set aside for a person to look at"
    assert lines[1] == "         0 issued in the last hour"
    assert lines[2].startswith("signer 1 running, heard ")
    assert lines[3] == "         disk: 3 GiB free, full in 3,072 days"
    assert lines[4] == "         clock: that of this machine"
    assert lines[5].split() == ["SUB-CA", "ISSUED", "REVOKED", "VALID", "UNTIL"]
    assert lines[6].split()[:3] == [CA, "12", "1"]
    assert lines[7].split() == ["CALENDAR", "SIGNER", "ISSUES", "NOW", "COVERED", "UNTIL"]
    last_day = now + dt.timedelta(days=365) - dt.timedelta(seconds=1)
    assert lines[8].split() == ["unassured", "1", CA, f"{last_day:%F}"]
    assert lines[9].startswith(f"CRL      {CA}: number 7, 3 octets, signed ")
    assert lines[9].endswith(", 228 hours left")
    assert lines[10:] == ["well     nothing needs a person"]


@pytest.mark.parametrize(
    ("a_day", "told"),
    [
        (900_000, "full in 3,579 days"),
        (850_000, "enough for more than ten years"),
        (1, "enough for more than ten years"),
    ],
)
def test_a_disk_that_lasts_for_years_is_not_counted_in_days(
    store: Store, now: dt.datetime, a_day: int, told: str
) -> None:
    hear(store, now, octets_a_day=a_day)
    assert f"         disk: 3 GiB free, {told}" in run("status").stdout.splitlines()


def test_a_check_is_silent_while_all_is_well(store: Store, now: dt.datetime) -> None:
    hear(store, now)
    publish(store, now)
    result = run("status", "--check")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert ask("status", "--check") == {"concerns": []}


def test_what_needs_a_person_stands_at_the_end_with_what_to_do(store: Store, now: dt.datetime) -> None:
    hear(store, now, state="halted", reason="two\nlines \x1b[31m")
    publish(store, now, days_left=1)

    lines = run("status").stdout.splitlines()

    first = lines.index("TO DO    signer 1 issues nothing: two\\nlines \\x1b[31m")
    assert lines[first + 1].startswith("         -> see docs/runbook.md")
    assert lines[first + 2] == f"TO DO    the CRL of {CA} runs out in 24 hours, and was not signed anew"
    assert len(lines) == first + 4


def test_a_check_says_only_that_and_exits_with_1(store: Store, now: dt.datetime) -> None:
    hear(store, now, time=(now - dt.timedelta(minutes=5)).isoformat())
    publish(store, now)

    result = run("status", "--check")

    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.splitlines() == [
        "TO DO    the clock of signer 1 is 5 minutes behind this machine's",
        "         -> find out which of them is wrong and set that one right, before it matters",
    ]
    answer = run("status", "--check", "--json")
    assert answer.exit_code == 1
    [concern] = ask("status", "--check")["concerns"]
    assert concern["code"] == "clock-offset"
    assert ask("status")["concerns"] == [concern]


def test_a_check_shows_what_was_set_aside_and_how_to_put_it_back(store: Store, now: dt.datetime) -> None:
    hear(store, now)
    publish(store, now)
    submit(store, 1, at=now)
    for number in range(3):
        owner = f"client@host:{number}"
        if number:
            store.queue.lease_suspect(owner, lease_s=60, now=now)
        else:
            lease_sign(store, owner, at=now)
        store.queue.release(owner, now=now, death="it was killed")

    result = run("status", "--check")

    assert result.exit_code == 1
    assert "TO DO    1 job is set aside" in result.stdout
    assert f"cassiopeia request retry {request_id(1).hex()[:12]}" in result.stdout
    assert "3 clients died with it in hand" in result.stdout
    [job] = ask("status")["queue"]["set_aside_jobs"]
    assert [line.split(",")[0] for line in job["dead_holders"]] == [f"client@host:{number}" for number in range(3)]
    shown = run("request", "show", request_id(1).hex()).stdout
    assert shown.count("client@host:") == 4  # the last one stands in the reason, too
    assert len(ask("request", "show", request_id(1).hex())["dead_holders"]) == 3


def test_the_queue_by_kind_and_what_waits_in_it(store: Store, now: dt.datetime) -> None:
    hear(store, now)
    publish(store, now)
    for number in range(3):
        submit(store, number, at=now - dt.timedelta(minutes=5))
    store.queue.request_crl(CA, now=now)
    [crl, first, *_] = store.queue.lease("client@host:1", limit=2, lease_s=60, now=now)
    store.queue.blame("client@host:1", [first.id], "it was killed", now=now)
    store.queue.retry_later(
        "client@host:1", [Postponement(job_id=crl.id, delay_s=60, counts=False, reason="not now")], now=now
    )

    lines = run("status").stdout.splitlines()

    assert lines[:6] == [
        "queue    4 waiting, 0 with a client, 0 set aside for a person to look at",
        "         certificates 3, revocations 0, CRLs 1",
        "         the oldest has waited 5 minutes",
        "         put off by the signer, and asked for again by themselves: 1",
        "         tried alone, because a client died with them in hand: 1",
        "         0 issued in the last hour",
    ]
    document = ask("status")["queue"]
    assert (document["suspected"], document["postponed"]) == (1, {"revoke": 0, "crl": 1, "sign": 0})
    assert document["oldest_difficulty"].startswith("it is tried alone after death 1 of 3")


@pytest.mark.parametrize("fault", ["missing", "older", "unreadable"])
def test_a_crl_that_is_not_published_is_told(store: Store, now: dt.datetime, fault: str) -> None:
    hear(store, now)
    publish(store, now)
    path = Path(f"public/{CA}.crl")
    if fault == "older":
        path.write_bytes(b"an older one")
    else:
        path.unlink()
        if fault == "unreadable":
            path.mkdir()

    result = run("status", "--check")

    assert result.exit_code == 1
    assert f"TO DO    the CRL of {CA}, number 7, is not published" in result.stdout
    assert ask("status")["crls"][0]["published"] is False


def test_a_crl_that_was_stored_a_moment_ago_may_be_on_its_way(store: Store, now: dt.datetime) -> None:
    hear(store, now)
    record = CrlRecord(
        authority=CA, number=1, this_update=now, next_update=now + dt.timedelta(days=10), der=b"on its way"
    )
    store.crls.put(record, now=now)
    assert run("status", "--check").exit_code == 0


def test_a_signer_of_an_older_release_is_shown_as_far_as_it_said(store: Store, now: dt.datetime) -> None:
    store.signers.save(1, {"state": "running", "reason": ""}, now=now)
    result = run("status")
    assert result.exit_code == 0
    assert "signer 1 running, heard " in result.stdout
    assert "disk:" not in result.stdout
    assert "clock:" not in result.stdout
    [signer] = ask("status")["signers"]
    assert (signer["clock_offset_s"], signer["disk_days"]) == (None, None)


def test_the_copy_of_the_journal(store: Store, now: dt.datetime) -> None:
    hear(store, now, journal={"entries": 40, "copied": 38, "alarm": ""}, octets_a_day=0, free_octets=1 << 30)
    text = run("status").stdout
    assert "         journal: 38 of 40 entries copied\n" in text
    assert "         disk: 1024 MiB free\n" in text


def test_nobody_was_ever_heard(store: Store) -> None:
    result = run("status")
    assert result.exit_code == 0
    assert "signer   never heard: is `cassiopeia client run` running, and the signer?" in result.stdout
    assert "TO DO    no signer was ever heard" in result.stdout
    assert run("status", "--check").exit_code == 1


def test_over_version_1_nobody_is_ever_heard(store: Store) -> None:
    Path("client.toml").write_text(CLIENT.replace('connect = "', 'version = 1\nconnect = "'), encoding="utf-8")
    assert run("status", "--check").exit_code == 0
    assert "over version 1 of the protocol a signer does not say how it is" in run("status").stdout
