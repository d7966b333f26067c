"""Several clients at one store, each in a thread with connections of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import func, select
from tests.support.store import (
    NOW,
    after,
    certificate_request,
    demand,
    issue,
    issued,
    lease_revoke,
    lease_sign,
    lease_suspects,
    request_id,
    submit,
    to_attest,
)

from cassiopeia.errors import Refused
from cassiopeia.store.database import Store, open_store
from cassiopeia.store.evidence import StoredAttestation
from cassiopeia.store.models import account_turn, certificate
from cassiopeia.store.records import CrlRecord, Outcome, Refusal, SignJob

CLIENTS = 4


def at_once(store_url: str, work: Callable[[Store, int], None], *, clients: int = CLIENTS) -> None:
    """Run `work` once for each client, started together, each with a store (and so connections) of its own."""
    start = threading.Barrier(clients)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            with open_store(store_url) as store:
                start.wait(30)
                work(store, number)
        except BaseException as error:  # noqa: BLE001 -- whatever ends a thread fails the test
            failures.append(error)
            start.abort()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_each_job_has_exactly_one_holder(store_url: str, store: Store) -> None:
    for number in range(120):
        submit(store, number, account=f"account {number % 3}")
    held: list[int] = []

    def work(client: Store, number: int) -> None:
        while jobs := lease_sign(client, f"client {number}", limit=7):
            held.extend(job.id for job in jobs)

    at_once(store_url, work)
    assert Counter(held) == Counter(range(1, 121))


def test_threads_may_share_one_store(store: Store) -> None:
    for number in range(60):
        submit(store, number)
    held: list[int] = []

    def work(number: int) -> None:
        while jobs := lease_sign(store, f"client {number}", limit=5):
            held.extend(job.id for job in jobs)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(held) == Counter(range(1, 61))


def test_a_lease_that_ran_out_is_taken_over_by_one_alone(store_url: str, store: Store) -> None:
    for number in range(40):
        submit(store, number)
    lease_sign(store, "dead")
    held: list[int] = []

    def work(client: Store, number: int) -> None:
        if number % 2:
            lease_sign(client, f"client {number}", limit=25, at=after(60))
        held.extend(lease_suspects(client, f"client {number}", at=after(60)))

    at_once(store_url, work)
    # Whoever steps over locked rows may find fewer than there are: nobody waits, and the next lease has them.
    lease_sign(store, "last", at=after(60))
    held.extend(lease_suspects(store, "last", at=after(60)))
    assert Counter(held) == Counter(range(1, 41))


def test_two_clients_that_finish_the_same_jobs_write_them_once(store_url: str, store: Store) -> None:
    for number in range(50):
        submit(store, number)
    results = [issued(job) for job in lease_sign(store)]
    outcomes: list[tuple[Outcome, ...]] = []

    def work(client: Store, number: int) -> None:
        ordered = results if number % 2 else results[::-1]
        found = client.results.finish_issued(ordered, now=NOW)
        outcomes.append(found if number % 2 else found[::-1])

    at_once(store_url, work)
    for each in zip(*outcomes, strict=True):
        assert Counter(each) == {Outcome.RECORDED: 1, Outcome.ALREADY_RECORDED: CLIENTS - 1}
    with store.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(certificate)).scalar_one() == 50


def test_refused_or_issued_but_never_both(store_url: str, store: Store) -> None:
    for number in range(60):
        submit(store, number)
    jobs = lease_sign(store)
    issued_to = [Outcome.UNKNOWN] * 60
    refused_to = [Outcome.UNKNOWN] * 60

    def work(client: Store, number: int) -> None:
        for index in range(0, 60, 6):
            part = jobs[index : index + 6]
            if number % 2:
                issued_to[index : index + 6] = client.results.finish_issued([issued(job) for job in part], now=NOW)
            else:
                refusals = [Refusal(job_id=job.id, code="no", message="no") for job in reversed(part)]
                refused_to[index : index + 6] = reversed(client.results.refuse("client", refusals, now=NOW))

    at_once(store_url, work, clients=2)
    for job, certified, refused in zip(jobs, issued_to, refused_to, strict=True):
        record = store.requests.find(job.request.request_id)
        assert record is not None
        assert (record.state, certified, refused) in {
            ("issued", Outcome.RECORDED, Outcome.NOT_HELD),
            ("refused", Outcome.CONFLICT, Outcome.RECORDED),
        }
        assert bool(record.serial_number) == (record.state == "issued")


def test_the_same_request_from_several_sides_is_one_request(store_url: str, store: Store) -> None:
    refused: list[str] = []

    def work(client: Store, number: int) -> None:
        for index in range(10):
            wanted = certificate_request(profile="other" if number == 0 and index % 2 else "9004-unproved-server")
            try:
                client.requests.submit(wanted, request_id=request_id(index), now=NOW)
            except Refused as error:
                refused.append(error.code)

    at_once(store_url, work)
    assert len(store.requests.page().items) == len(lease_sign(store)) == 10
    assert set(refused) <= {"request-id-taken"}


def test_requests_side_by_side_get_turns_one_behind_the_other(store_url: str, store: Store) -> None:
    def work(client: Store, number: int) -> None:
        for index in range(10):
            submit(client, number * 100 + index, account="parallel")

    at_once(store_url, work)
    with store.database.read() as connection:
        assert connection.execute(select(account_turn.c.turn)).scalar_one() == CLIENTS * 10 - 1


def test_a_revocation_asked_for_from_several_sides_is_one_job(store_url: str, store: Store) -> None:
    results = issue(store, 10)

    def work(client: Store, number: int) -> None:
        for result in results if number % 2 else results[::-1]:
            client.certificates.request_revocation(f"{result.serial_number:x}", now=NOW, reason=1)

    at_once(store_url, work)
    assert sorted(job.revocation.serial_number for job in lease_revoke(store)) == sorted(
        result.serial_number for result in results
    )


def test_a_crl_asked_for_from_several_sides_is_one_job(store_url: str, store: Store) -> None:
    asked: list[bool] = []

    def work(client: Store, _number: int) -> None:
        asked.extend(client.queue.request_crl(f"authority {index}", now=NOW) for index in range(10))

    at_once(store_url, work)
    assert Counter(asked) == {True: 10, False: 10 * (CLIENTS - 1)}
    assert len(store.queue.lease("client", limit=100, lease_s=60, now=NOW)) == 10


def test_two_that_look_before_either_has_asked_for_a_crl(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from cassiopeia.store import queue, turns  # noqa: PLC0415 -- the module whose inner step is delayed

    enqueue = turns.enqueue

    def quicker(connection: object, **values: object) -> None:
        enqueue(connection, **values)  # type: ignore[arg-type] # passed through
        enqueue(connection, **values)  # type: ignore[arg-type] # passed through

    monkeypatch.setattr(queue, "enqueue", quicker)
    assert not store.queue.request_crl("a", now=NOW)
    monkeypatch.undo()
    assert store.queue.request_crl("a", now=NOW)


def test_of_several_crls_the_newest_stays(store_url: str, store: Store) -> None:
    def work(client: Store, number: int) -> None:
        for step in range(10):
            crl_number = step * CLIENTS + number
            record = CrlRecord(
                authority="a", number=crl_number, this_update=NOW, next_update=NOW, der=b"%d" % crl_number
            )
            assert client.crls.put(record, now=NOW) in {Outcome.RECORDED, Outcome.SUPERSEDED}

    at_once(store_url, work)
    kept = store.crls.get("a")
    assert kept is not None
    assert (kept.number, kept.der) == (10 * CLIENTS - 1, b"39")


def test_validators_and_clients_of_two_signers_share_one_queue(store_url: str, store: Store) -> None:
    """Each request is attested for one signer, and leased by that one's client, whoever is quicker."""
    demand(store)
    for number in range(80):
        submit(store, number, account=f"account {number % 3}")
    nonces = {signer_id: bytes([signer_id]) * 16 for signer_id in (1, 2)}
    attested: Counter[tuple[int, bytes]] = Counter()
    leased: dict[int, list[bytes]] = {1: [], 2: []}

    def vouch(validator: Store, signer_id: int) -> None:
        while waiting := to_attest(validator, signer_id=signer_id, nonces=[nonces[signer_id]], limit=7):
            rows = [
                StoredAttestation(
                    number=each.number,
                    signer_id=signer_id,
                    boot_id=b"b",
                    nonce=nonces[signer_id],
                    proofs=(nonces[signer_id],),
                )
                for each in waiting
            ]
            outcomes = validator.evidence.put_attestations(rows, now=NOW)
            for each, outcome in zip(waiting, outcomes, strict=True):
                attested[signer_id, each.request.request_id] += outcome is Outcome.RECORDED

    def sign(client: Store, signer_id: int) -> None:
        # A validator that fails must not leave the clients waiting.
        deadline = time.monotonic() + 60
        while sum(map(len, leased.values())) < 80 and time.monotonic() < deadline:
            jobs = client.queue.lease(
                f"client {signer_id}", limit=5, lease_s=60, now=NOW, signer_id=signer_id, nonces=[nonces[signer_id]]
            )
            for job in jobs:
                assert isinstance(job, SignJob)
                assert job.request.proofs == (nonces[signer_id],)
                leased[signer_id].append(job.request.request_id)

    at_once(store_url, lambda opened, number: (vouch if number < 2 else sign)(opened, number % 2 + 1))
    assert sorted(leased[1] + leased[2]) == sorted(map(request_id, range(80)))
    assert {signer_id: sorted(ids) for signer_id, ids in leased.items()} == {
        signer_id: sorted(name for (whose, name), times in attested.items() if whose == signer_id and times == 1)
        for signer_id in leased
    }
