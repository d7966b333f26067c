"""What was set aside is seen in `status`, and put back by `request retry` and `certificate revoke`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.client_store import ask, opened_client_store, run
from tests.support.store import NOW, issue, lease_revoke, lease_sign, request_id, submit

from cassiopeia.store.database import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with opened_client_store(tmp_path, monkeypatch) as opened:
        yield opened


def set_requests_aside(store: Store, count: int, *, reason: str = "it kills workers") -> None:
    for number in range(count):
        submit(store, number)
    store.queue.set_aside("client", [(job.id, reason) for job in lease_sign(store)], now=NOW)


def set_a_revocation_aside(store: Store) -> str:
    [result] = issue(store, 1, first=90)
    record = store.certificates.request_revocation(f"{result.serial_number:x}", now=NOW, reason=1)
    [job] = lease_revoke(store)
    store.queue.set_aside("client", [(job.id, "the signer does not know it")], now=NOW)
    return record.serial_number


def test_a_request_is_tried_again(store: Store) -> None:
    set_requests_aside(store, 2)

    result = run("request", "retry", request_id(0).hex()[:10])

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{request_id(0).hex()}  queued again\n"
    assert ask("request", "retry", request_id(1).hex())["set_aside"] is False
    assert sum(store.queue.statistics(now=NOW).set_aside.values()) == 0


def test_a_request_that_was_not_set_aside_is_one_line(store: Store) -> None:
    submit(store, 1)

    result = run("request", "retry", request_id(1).hex())

    expected = f"cassiopeia: error: request {request_id(1).hex()} is not set aside: it is queued\n"
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", expected)


def test_revoking_again_puts_the_revocation_back(store: Store) -> None:
    serial = set_a_revocation_aside(store)

    again = run("certificate", "revoke", serial, "--reason", "superseded")
    third = run("certificate", "revoke", serial)

    assert again.stdout == (f"{serial}: the revocation was set aside, and is queued again as it was first asked for\n")
    assert third.stdout == f"{serial}: the revocation is queued\n"
    assert store.certificates.look_up(serial).revocation_reason == 1
    assert store.queue.statistics(now=NOW).waiting["revoke"] == 1


def test_scripts_are_told_too(store: Store) -> None:
    serial = set_a_revocation_aside(store)

    assert ask("certificate", "revoke", serial)["queued_again"] is True
    assert ask("certificate", "revoke", serial)["queued_again"] is False


def test_status_lists_each_with_its_reason_and_remedy(store: Store) -> None:
    serial = set_a_revocation_aside(store)
    set_requests_aside(store, 1, reason="two\nlines \x1b[31m")
    store.queue.request_crl("unassured_2026_1", now=NOW)
    [job] = store.queue.lease("client", limit=1, lease_s=60, now=NOW)
    store.queue.set_aside("client", [(job.id, "no such authority")], now=NOW)

    text = run("status").stdout

    assert "3 set aside for a person to look at" in text
    for remedy, reason in (
        ("nobody: the client asks for the next CRL of unassured_2026_1 by itself", "no such authority"),
        (f"cassiopeia request retry {request_id(0).hex()[:12]}", "two\\nlines \\x1b[31m"),
        (f"cassiopeia certificate revoke {serial}", "the signer does not know it"),
    ):
        [line] = [each for each in text.splitlines() if remedy in each]
        assert line.startswith("         2026-11-23 12:00:00Z  ")
        assert line.endswith(f"  {reason}")
    jobs = ask("status")["queue"]["set_aside_jobs"]
    assert [(each["kind"], each["request"], each["serial_number"], each["authority"]) for each in jobs] == [
        ("crl", "", "", "unassured_2026_1"),
        ("sign", request_id(0).hex(), "", ""),
        ("revoke", "", serial, "unassured_2026_1"),
    ]
    assert jobs[1]["reason"] == "two\nlines \x1b[31m"
    assert jobs[1]["set_aside_at"] == NOW.isoformat()


@pytest.mark.parametrize(
    ("count", "more"), [(0, ""), (20, ""), (21, "         and 1 more"), (23, "         and 3 more")]
)
def test_status_shows_twenty_and_counts_the_rest(store: Store, count: int, more: str) -> None:
    set_requests_aside(store, count)

    lines = run("status").stdout.splitlines()

    assert sum("request retry" in line for line in lines) == min(count, 20)
    assert [line for line in lines if line.startswith("         and ")] == ([more] if more else [])
    assert ("REASON" in "".join(lines)) == (count > 0)
    document = ask("status")["queue"]
    assert (len(document["set_aside_jobs"]), document["set_aside"]["sign"]) == (min(count, 20), count)
