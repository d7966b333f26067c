"""A batch costs as many statements as two requests do, and what demands no evidence costs none for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from sqlalchemy import event
from tests.support.statements import OBSERVED_AT, signed_observation
from tests.support.store import NONCE, NOW, demand, issued, submit, to_attest

from cassiopeia.store.database import Store
from cassiopeia.store.evidence import EvidenceDelay, Fact, StoredAttestation
from cassiopeia.store.records import Postponement, Refusal, SigningLog, SignJob

T = TypeVar("T")

FREE = {"lease": 5, "save logs": 4, "finish": 6, "refuse": 4, "send back": 2}
ATTESTED = {
    "to attest": 3,
    "postpone": 2,
    "attest": 3,
    "observe": 2,
    "look up": 1,
    # One more each: for the proofs, and to drop them.
    "lease": 6,
    "save logs": 4,
    "finish": 7,
    "refuse": 5,
    "send back": 2,
}


class Counter:
    """Counts what goes to the database, by the name of the work."""

    def __init__(self, store: Store) -> None:
        self._engine = store.database._engine
        self._now = 0
        self.counts: dict[str, int] = {}

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        before = self._now
        event.listen(self._engine, "before_cursor_execute", self._count)
        try:
            return work()
        finally:
            event.remove(self._engine, "before_cursor_execute", self._count)
            self.counts[name] = self._now - before

    def _count(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        # Beginnings of transactions are statements of their own in SQLite alone.
        self._now += not statement.startswith("BEGIN")


def attest(store: Store, count: Counter, size: int) -> None:
    waiting = count("to attest", lambda: to_attest(store, limit=size))
    delays = [EvidenceDelay(number=each.number, reason="r", delay_s=0) for each in waiting]
    count("postpone", lambda: store.evidence.postpone(delays, now=NOW))
    rows = [
        StoredAttestation(number=each.number, signer_id=1, boot_id=b"b", nonce=NONCE, proofs=(b"proof",))
        for each in waiting
    ]
    count("attest", lambda: store.evidence.put_attestations(rows, now=NOW))
    facts = [Fact(account="account-1", kind="dns-control", value=f"{number}.example") for number in range(size)]
    seen = [signed_observation(value=each.value) for each in facts]
    count("observe", lambda: store.evidence.put_observations(seen, now=NOW))
    assert len(count("look up", lambda: store.evidence.observations(facts, since=OBSERVED_AT))) == size


def take_all_the_way(store: Store, count: Counter, size: int) -> None:
    leased = count("lease", lambda: store.queue.lease("c", limit=size, lease_s=9, now=NOW, signer_id=1, nonces=[NONCE]))
    jobs = [job for job in leased if isinstance(job, SignJob)]
    assert len(jobs) == size
    logs = [SigningLog(job_id=each.id, sha256=b"%032d" % each.id, entry=b"log") for each in jobs]
    count("save logs", lambda: store.results.save_logs("c", logs, now=NOW, signer_id=1))
    third = size // 3
    results = [issued(each) for each in jobs[:third]]
    count("finish", lambda: store.results.finish_issued(results, now=NOW))
    refusals = [Refusal(job_id=each.id, code="no", message="no") for each in jobs[third : 2 * third]]
    count("refuse", lambda: store.results.refuse("c", refusals, now=NOW))
    back = [
        Postponement(job_id=each.id, delay_s=0, counts=False, reason="r", reattest=True) for each in jobs[2 * third :]
    ]
    count("send back", lambda: store.queue.retry_later("c", back, now=NOW))


@pytest.mark.parametrize("size", [3, 60])
@pytest.mark.parametrize(("profiles", "expected"), [((), FREE), (("9004-unproved-server",), ATTESTED)])
def test_a_batch_is_no_dearer_than_a_few(
    store: Store, size: int, profiles: tuple[str, ...], expected: dict[str, int]
) -> None:
    demand(store, *profiles or ("0004-server",))
    for number in range(size):
        submit(store, number)
    count = Counter(store)
    if profiles:
        attest(store, count, size)
    take_all_the_way(store, count, size)
    assert count.counts == expected
