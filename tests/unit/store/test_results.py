from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.store import (
    NOW,
    after,
    certificate_request,
    issue,
    issued,
    lease_revoke,
    lease_sign,
    lease_suspects,
    logs_of,
    request_id,
    submit,
)

from cassiopeia.errors import InternalError
from cassiopeia.store.database import Store
from cassiopeia.store.models import job
from cassiopeia.store.records import IssuedResult, Outcome, Refusal, SigningLog, SignJob


def log(job_id: int, entry: bytes = b"entry") -> SigningLog:
    return SigningLog(job_id=job_id, sha256=hashlib.sha256(entry).digest(), entry=entry)


def refusal(job_id: int, **changes: str) -> Refusal:
    return Refusal(job_id=job_id, **{"code": "name-invalid", "message": "no such name", "field": "DNS", **changes})


def job_states(store: Store) -> list[str]:
    with store.database.read() as connection:
        return list(connection.execute(select(job.c.state).order_by(job.c.id)).scalars())


def state_of(store: Store, number: int) -> tuple[str, str, str]:
    record = store.requests.find(request_id(number))
    assert record is not None
    return record.state, record.serial_number, record.refusal_code


def test_a_certificate_is_written_with_its_request_and_its_job(store: Store) -> None:
    submit(store, 1, account="Zoë")
    [held] = lease_sign(store)
    result = issued(held)
    assert store.results.finish_issued([result], now=after(7)) == (Outcome.RECORDED,)
    record = store.requests.find(request_id(1))
    assert record is not None
    assert (record.state, record.updated_at) == ("issued", after(7))
    certificate = store.certificates.of_request(request_id(1))
    assert certificate is not None
    assert certificate.der == result.certificate
    assert certificate.serial_number == record.serial_number == f"{result.serial_number:032x}"
    assert (certificate.authority, certificate.account, certificate.profile) == (
        "unassured_2026_1",
        "Zoë",
        "9004-unproved-server",
    )
    assert (certificate.subject, certificate.not_before, certificate.not_after, certificate.issued_at) == (
        "CN=Zoë",
        NOW,
        NOW + dt.timedelta(days=90),
        after(7),
    )
    assert certificate.revocation_state == "none"
    assert job_states(store) == ["done"]


def test_the_second_to_finish_changes_nothing_and_is_told(store: Store) -> None:
    submit(store, 1)
    [first] = lease_sign(store, "one")
    assert lease_sign(store, "two", at=after(60)) == []
    second = store.queue.lease_suspect("two", lease_s=60, now=after(60))
    assert isinstance(second, SignJob)
    # The first one lost its lease, but what was signed exists: it is written whoever brings it.
    assert store.results.finish_issued([issued(first)], now=after(61)) == (Outcome.RECORDED,)
    before = store.requests.find(request_id(1))
    assert store.results.finish_issued([issued(second)], now=after(62)) == (Outcome.ALREADY_RECORDED,)
    assert store.requests.find(request_id(1)) == before


def test_another_certificate_for_a_finished_request_is_a_conflict(store: Store) -> None:
    submit(store, 1)
    [held] = lease_sign(store)
    store.results.finish_issued([issued(held)], now=NOW)
    other = issued(held, serial_number=77, certificate=b"another")
    assert store.results.finish_issued([other], now=NOW) == (Outcome.CONFLICT,)
    found = store.certificates.of_request(request_id(1))
    assert found is not None
    assert found.der == issued(held).certificate


def test_a_refusal_is_final(store: Store) -> None:
    submit(store, 1)
    [held] = lease_sign(store)
    assert store.results.refuse("client", [refusal(held.id)], now=after(1)) == (Outcome.RECORDED,)
    record = store.requests.find(request_id(1))
    assert record is not None
    assert (record.state, record.refusal_code, record.refusal_field, record.refusal_message, record.updated_at) == (
        "refused",
        "name-invalid",
        "DNS",
        "no such name",
        after(1),
    )
    assert store.results.finish_issued([issued(held)], now=NOW) == (Outcome.CONFLICT,)
    assert store.results.refuse("client", [refusal(held.id, code="other")], now=NOW) == (Outcome.NOT_HELD,)
    assert store.requests.find(request_id(1)) == record
    assert lease_sign(store, at=after(100_000)) == []


def test_only_the_holder_can_refuse(store: Store) -> None:
    submit(store, 1)
    [held] = lease_sign(store, "one")
    lease_sign(store, "two", at=after(60))
    assert store.results.refuse("one", [refusal(held.id), refusal(404)], now=after(60)) == (
        Outcome.NOT_HELD,
        Outcome.UNKNOWN,
    )
    assert state_of(store, 1)[0] == "queued"


def test_a_bad_member_takes_nobody_with_it(store: Store) -> None:
    for number in range(6):
        submit(store, number)
    jobs = lease_sign(store)
    taken = issued(jobs[0])
    store.results.finish_issued([taken], now=NOW)
    store.results.refuse("client", [refusal(jobs[1].id)], now=NOW)
    store.queue.request_crl("unassured_2026_1", now=NOW)
    [crl_job] = store.queue.lease("client", limit=1, lease_s=60, now=NOW)
    results = [
        issued(jobs[2]),
        issued(jobs[0]),
        issued(jobs[1]),
        issued(jobs[3], serial_number=taken.serial_number),
        issued(jobs[4], job_id=404),
        issued(jobs[4], job_id=crl_job.id),
        issued(jobs[5], subject="nul \0 and surrogate \ud800"),
        issued(jobs[4]),
        issued(jobs[4]),
        issued(jobs[2], certificate=b"another"),
    ]
    assert store.results.finish_issued(results, now=NOW) == (
        Outcome.RECORDED,
        Outcome.ALREADY_RECORDED,
        Outcome.CONFLICT,
        Outcome.CONFLICT,
        Outcome.UNKNOWN,
        Outcome.UNKNOWN,
        Outcome.RECORDED,
        Outcome.RECORDED,
        Outcome.ALREADY_RECORDED,
        Outcome.CONFLICT,
    )
    assert [state_of(store, number)[0] for number in range(6)] == [
        "issued",
        "refused",
        "issued",
        "queued",
        "issued",
        "issued",
    ]
    found = store.certificates.of_request(request_id(5))
    assert found is not None
    assert found.subject == "nul \\x00 and surrogate \\ud800"


def test_two_jobs_of_one_batch_cannot_have_one_serial_number(store: Store) -> None:
    submit(store, 1)
    submit(store, 2)
    results = [issued(each, serial_number=5) for each in lease_sign(store)]
    assert sorted(store.results.finish_issued(results, now=NOW), key=str) == [Outcome.CONFLICT, Outcome.RECORDED]
    assert sorted([state_of(store, 1)[0], state_of(store, 2)[0]]) == ["issued", "queued"]


def test_an_empty_batch_is_fine(store: Store) -> None:
    assert store.results.finish_issued([], now=NOW) == ()
    assert store.results.save_logs("client", [], now=NOW) == ()
    assert store.results.refuse("client", [], now=NOW) == ()
    assert store.results.finish_revoked([], revoked_at=NOW, now=NOW) == ()
    assert store.queue.retry_later("client", [], now=NOW) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"serial_number": 0},
        {"serial_number": 1 << 168},
        {"authority": "a\0b"},
        {"authority": "a" * 256},
        {"not_before": NOW.replace(tzinfo=None)},
    ],
)
def test_a_result_that_no_database_could_hold_cannot_be_made(changes: dict[str, Any]) -> None:
    values: dict[str, Any] = {
        "job_id": 1,
        "authority": "a",
        "serial_number": 1,
        "certificate": b"",
        "subject": "",
        "not_before": NOW,
        "not_after": NOW,
    }
    IssuedResult(**values)
    with pytest.raises(InternalError):
        IssuedResult(**{**values, **changes})


def test_a_large_batch_is_one_transaction(store: Store) -> None:
    results = issue(store, 1_010)
    assert len(store.certificates.page(limit=2_000).items) == len(results) == 1_010
    assert store.queue.statistics(now=NOW).leased["sign"] == 0


def test_logs_are_kept_once_and_in_order(store: Store) -> None:
    submit(store, 1)
    [held] = lease_sign(store)
    first, second = log(held.id, b"first"), log(held.id, b"second")
    assert store.results.save_logs("client", [first, second], now=NOW) == (Outcome.RECORDED, Outcome.RECORDED)
    assert store.results.save_logs("client", [first], now=after(1)) == (Outcome.RECORDED,)
    assert logs_of(store, 1) == [(each.sha256, each.entry) for each in (first, second)]
    assert logs_of(store, 2) == []


def test_a_log_is_kept_even_when_the_lease_is_lost_but_must_not_be_confirmed(store: Store) -> None:
    submit(store, 1)
    [held] = lease_sign(store, "one")
    assert lease_sign(store, "two", at=after(60)) == []
    assert lease_suspects(store, "two", at=after(60)) == [held.id]
    outcomes = store.results.save_logs("one", [log(held.id), log(404)], now=after(60), signer_id=3)
    assert outcomes == (Outcome.NOT_HELD, Outcome.UNKNOWN)
    assert [entry for _, entry in logs_of(store, 1)] == [b"entry"]
    store.queue.release("two", now=after(60))
    again = store.queue.lease_suspect("three", lease_s=60, now=after(60))
    assert again is not None
    assert again.signer_id is None


def test_what_a_peer_says_in_a_refusal_can_be_kept(store: Store) -> None:
    submit(store, 1)
    submit(store, 2)
    first, second = lease_sign(store)
    hostile = refusal(first.id, code="c\0", message="m" * 10_000 + "\udcff", field="\udcff")
    assert store.results.refuse("client", [hostile, refusal(second.id)], now=NOW) == (Outcome.RECORDED,) * 2
    record = store.requests.find(request_id(1))
    assert record is not None
    assert (record.refusal_code, record.refusal_field, len(record.refusal_message)) == ("c\\x00", "\\udcff", 2_000)


def test_one_job_refused_twice_in_a_batch_keeps_the_first_reason(store: Store) -> None:
    submit(store, 1)
    [held] = lease_sign(store)
    outcomes = store.results.refuse(
        "client", [refusal(held.id, code="first"), refusal(held.id, code="second")], now=NOW
    )
    assert outcomes == (Outcome.RECORDED, Outcome.NOT_HELD)
    assert state_of(store, 1)[2] == "first"


def test_a_refused_revocation_is_not_forgotten(store: Store) -> None:
    [result] = issue(store, 1)
    store.certificates.request_revocation(f"{result.serial_number:x}", now=NOW)
    [held] = lease_revoke(store)
    assert store.results.refuse("client", [refusal(held.id)], now=NOW) == (Outcome.RECORDED,)
    assert store.queue.statistics(now=NOW).set_aside["revoke"] == 1
    assert store.certificates.look_up(f"{result.serial_number:x}").revocation_state == "requested"
    assert store.certificates.retry_revocation(store.certificates.look_up(f"{result.serial_number:x}"), now=NOW)
    assert [each.id for each in lease_revoke(store)] == [held.id]


def test_revocations_end(store: Store) -> None:
    results = issue(store, 3)
    for result in results[:2]:
        store.certificates.request_revocation(
            f"{result.serial_number:x}", now=NOW, reason=1, invalidity_date=after(-86_400)
        )
    jobs = lease_revoke(store)
    assert {(each.revocation.reason, each.revocation.invalidity_date) for each in jobs} == {(1, after(-86_400))}
    ids = [each.id for each in jobs]
    assert store.results.finish_revoked([*ids, 404], revoked_at=after(5), now=after(6)) == (
        Outcome.RECORDED,
        Outcome.RECORDED,
        Outcome.UNKNOWN,
    )
    states = [store.certificates.look_up(f"{each.serial_number:x}") for each in results]
    assert [(each.revocation_state, each.revoked_at) for each in states] == [
        ("revoked", after(5)),
        ("revoked", after(5)),
        ("none", None),
    ]
    # Once more, as after a crash between the commit and what follows it.
    assert store.results.finish_revoked(ids, revoked_at=after(9), now=after(9)) == (Outcome.ALREADY_RECORDED,) * 2
    assert store.certificates.look_up(f"{results[0].serial_number:x}").revoked_at == after(5)


def test_a_sign_job_is_not_ended_as_a_revocation(store: Store) -> None:
    submit(store, 1)
    [held] = lease_sign(store)
    assert store.results.finish_revoked([held.id], revoked_at=NOW, now=NOW) == (Outcome.UNKNOWN,)
    assert state_of(store, 1)[0] == "queued"


def test_nothing_is_half_written_when_the_database_fails_in_between(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(store, 1)
    [held] = lease_sign(store)

    def fail(*_arguments: object, **_keywords: object) -> None:
        raise RuntimeError("the power is gone")

    with monkeypatch.context() as patched:
        patched.setattr("cassiopeia.store.results._finish_jobs", fail)
        with pytest.raises(RuntimeError):
            store.results.finish_issued([issued(held)], now=NOW)
        with pytest.raises(RuntimeError):
            store.results.refuse("client", [refusal(held.id)], now=NOW)
    assert state_of(store, 1) == ("queued", "", "")
    assert store.certificates.of_request(request_id(1)) is None
    assert job_states(store) == ["leased"]
    assert store.results.finish_issued([issued(held)], now=NOW) == (Outcome.RECORDED,)


def test_a_request_is_not_queued_without_its_job(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_keywords: object) -> None:
        raise RuntimeError("the power is gone")

    with monkeypatch.context() as patched:
        patched.setattr("cassiopeia.store.requests.enqueue", fail)
        with pytest.raises(RuntimeError):
            store.requests.submit(certificate_request(), request_id=request_id(1), now=NOW)
    assert store.requests.find(request_id(1)) is None
