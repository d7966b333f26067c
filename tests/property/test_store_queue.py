"""The queue against a model of it, in any order of events: no job lost, none held twice, refusals final.

And of suspects: handed out by themselves, first come, first served, and set aside at the third death.

SQLite only: a state machine runs a few thousand small transactions. The unit tests run on both databases.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from tests.support.store import NOW, certificate_request, issued, request_id

from cassiopeia.errors import Refused
from cassiopeia.store.database import open_store, upgrade
from cassiopeia.store.records import Job, Outcome, Postponement, Refusal, RevokeJob, SignJob
from cassiopeia.store.suspects import MAXIMUM_DEATHS

LEASE_S = 60
OWNERS = ["one", "two", "three"]
ACCOUNTS = ["alice", "bob", "carol"]


@dataclass
class Expected:
    """What the model knows of one request and of its job."""

    account: str
    state: str = "queued"
    ready_at: dt.datetime = NOW
    holder: str | None = None
    deaths: int = 0
    tries: int = 0
    aside: bool = False
    job: SignJob | None = field(default=None, repr=False)


class QueueMachine(RuleBasedStateMachine):
    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="cassiopeia-store-")
        url = f"sqlite:///{Path(self.directory.name) / 'store.db'}"
        upgrade(url)
        self.store = open_store(url)
        self.now = NOW
        self.expected: dict[int, Expected] = {}
        self.revoking: dict[int, str | None] = {}
        self.revoked: set[int] = set()

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()

    @initialize(target=requests)
    def the_first_request(self) -> int:
        return self._submit("alice")

    @rule(target=requests, account=st.sampled_from(ACCOUNTS))
    def submit(self, account: str) -> int:
        return self._submit(account)

    @rule(number=requests)
    def submit_the_same_again(self, number: int) -> None:
        expected = self.expected[number]
        wanted = certificate_request(account=expected.account)
        record = self.store.requests.submit(wanted, request_id=request_id(number), now=self.now)
        assert record.state == expected.state

    @rule(owner=st.sampled_from(OWNERS), limit=st.integers(1, 4))
    def lease(self, owner: str, limit: int) -> None:
        ready = {number for number in self._ready() if not self.expected[number].deaths}
        jobs = self.store.queue.lease(owner, limit=limit, lease_s=LEASE_S, now=self.now)
        assert len(jobs) <= limit
        found_dead = self._learn_who_died()
        assert found_dead <= ready
        ready -= found_dead
        revocations = [job for job in jobs if isinstance(job, RevokeJob)]
        signing = [job for job in jobs if isinstance(job, SignJob)]
        assert [*revocations, *signing] == list(jobs)
        for revocation in revocations:
            self.revoking[revocation.revocation.serial_number] = owner
        for job in signing:
            number = self._number(job)
            assert number in ready
            ready.remove(number)
            assert self.expected[number].holder is None
            self._hold(number, owner, job)
        # Whoever asks for more than there is gets everything that is ready.
        if len(jobs) < limit:
            assert not ready

    @rule(owner=st.sampled_from(OWNERS))
    def lease_suspect(self, owner: str) -> None:
        suspects = [number for number in self._ready() if self.expected[number].deaths]
        waits = self.store.queue.suspect_waits(now=self.now)
        job = self.store.queue.lease_suspect(owner, lease_s=LEASE_S, now=self.now)
        assert waits or job is None
        assert self._learn_who_died() <= set(suspects)
        if isinstance(job, RevokeJob):
            self.revoking[job.revocation.serial_number] = owner
            return
        suspects = [number for number in suspects if not self.expected[number].aside]
        if job is None:
            assert suspects == []
            return
        assert isinstance(job, SignJob)
        # First come, first served.
        assert self._number(job) == min(suspects, key=lambda number: (self.expected[number].ready_at, number))
        self._hold(self._number(job), owner, job)

    @rule(seconds=st.sampled_from([1, 30, 59, 60, 600]))
    def wait(self, seconds: int) -> None:
        self.now += dt.timedelta(seconds=seconds)

    @rule(number=requests)
    def finish(self, number: int) -> None:
        expected = self.expected[number]
        if expected.job is None:
            return
        outcome = self.store.results.finish_issued([issued(expected.job)], now=self.now)
        wanted = {"queued": Outcome.RECORDED, "issued": Outcome.ALREADY_RECORDED, "refused": Outcome.CONFLICT}
        assert outcome == (wanted[expected.state],)
        if expected.state == "queued":
            expected.state, expected.holder, expected.aside = "issued", None, False

    @rule(number=requests, owner=st.sampled_from(OWNERS))
    def refuse(self, number: int, owner: str) -> None:
        expected = self.expected[number]
        if expected.job is None:
            return
        refusal = Refusal(job_id=expected.job.id, code="no", message="no")
        held = expected.holder == owner
        outcome = self.store.results.refuse(owner, [refusal], now=self.now)
        assert outcome == (Outcome.RECORDED if held else Outcome.NOT_HELD,)
        if held:
            expected.state, expected.holder = "refused", None

    @rule(number=requests, owner=st.sampled_from(OWNERS), delay_s=st.sampled_from([0, 45]), counts=st.booleans())
    def retry_later(self, number: int, owner: str, delay_s: int, counts: bool) -> None:  # noqa: FBT001 -- hypothesis passes it by name
        expected = self.expected[number]
        if expected.job is None:
            return
        postponement = Postponement(job_id=expected.job.id, delay_s=delay_s, counts=counts, reason="later")
        held = expected.holder == owner
        outcome = self.store.queue.retry_later(owner, [postponement], now=self.now)
        assert outcome == (Outcome.RECORDED if held else Outcome.NOT_HELD,)
        if held:
            expected.holder, expected.ready_at = None, self.now + dt.timedelta(seconds=delay_s)
            expected.tries += counts

    @rule(number=requests)
    def set_aside(self, number: int) -> None:
        expected = self.expected[number]
        if expected.job is None or expected.holder is None:
            return
        outcome = self.store.queue.set_aside(expected.holder, [(expected.job.id, "odd")], now=self.now)
        assert outcome == (Outcome.RECORDED,)
        expected.holder, expected.aside = None, True

    @rule(number=requests)
    def put_back(self, number: int) -> None:
        expected = self.expected[number]
        if expected.job is None:
            return
        try:
            self.store.requests.retry(request_id(number).hex(), now=self.now)
        except Refused as refused:
            assert refused.code == "not-set-aside"  # noqa: PT017 -- whether it is raised depends on the model
            assert not expected.aside
        else:
            assert expected.aside
            expected.aside, expected.ready_at, expected.tries, expected.deaths = False, self.now, 0, 0

    @rule(owner=st.sampled_from(OWNERS), died=st.booleans())
    def release(self, owner: str, died: bool) -> None:  # noqa: FBT001 -- hypothesis passes it by name
        held = [number for number, each in self.expected.items() if each.holder == owner]
        revoking = [serial for serial, holder in self.revoking.items() if holder == owner]
        released = self.store.queue.release(owner, now=self.now, death="it was killed" if died else "")
        assert released == len(held) + len(revoking)
        if died:
            self._note_the_dead(held)
        for number in held:
            self.expected[number].holder, self.expected[number].ready_at = None, self.now
        for serial in revoking:
            self.revoking[serial] = None

    @rule(number=requests)
    def revoke(self, number: int) -> None:
        expected = self.expected[number]
        if expected.state != "issued" or expected.job is None:
            return
        serial = issued(expected.job).serial_number
        try:
            self.store.certificates.request_revocation(f"{serial:x}", now=self.now)
        except Refused as refused:
            assert refused.code == "already-revoked"  # noqa: PT017 -- whether it is raised depends on the model
            assert serial in self.revoked
        else:
            assert serial not in self.revoked
            self.revoking.setdefault(serial, None)

    @rule()
    def revoke_all_that_is_asked_for(self) -> None:
        self.now += dt.timedelta(seconds=LEASE_S)  # nobody else's lease stands in the way
        for serial in self.revoking:
            self.store.certificates.retry_revocation(self.store.certificates.look_up(f"{serial:x}"), now=self.now)
        taken: list[Job] = []
        for _ in range(3):  # what was set aside while it was looked for is put back once more
            while jobs := self.store.queue.lease("revoker", limit=9, lease_s=LEASE_S, now=self.now):
                taken += jobs
            while job := self.store.queue.lease_suspect("revoker", lease_s=LEASE_S, now=self.now):
                taken.append(job)
            for serial in self.revoking:
                self.store.certificates.retry_revocation(self.store.certificates.look_up(f"{serial:x}"), now=self.now)
        revocations = [job for job in taken if isinstance(job, RevokeJob)]
        assert {job.revocation.serial_number for job in revocations} == set(self.revoking)
        self.store.results.finish_revoked([job.id for job in revocations], revoked_at=self.now, now=self.now)
        self.revoked |= set(self.revoking)
        self.revoking.clear()
        self._learn_who_died()
        for job in taken:
            if isinstance(job, SignJob):
                self._hold(self._number(job), "revoker", job)
        self.release("revoker", died=False)

    @invariant()
    def every_request_is_where_it_should_be(self) -> None:
        for number, expected in self.expected.items():
            record = self.store.requests.find(request_id(number))
            assert record is not None
            assert (record.state, record.set_aside) == (expected.state, expected.aside)
            assert bool(record.serial_number) == (expected.state == "issued")

    @invariant()
    def the_queue_counts_what_the_model_counts(self) -> None:
        statistics = self.store.queue.statistics(now=self.now)
        queued = [each for each in self.expected.values() if each.state == "queued"]
        waiting = [each for each in queued if each.holder is None and not each.aside]
        assert statistics.leased["sign"] == sum(each.holder is not None for each in queued)
        assert statistics.waiting["sign"] == len(waiting)
        assert statistics.postponed["sign"] == sum(each.ready_at > self.now for each in waiting)
        assert statistics.set_aside["sign"] == sum(each.aside for each in queued)
        assert statistics.suspected >= sum(each.deaths > 0 and not each.aside for each in queued)
        revoking = sum(each["revoke"] for each in (statistics.waiting, statistics.leased, statistics.set_aside))
        assert revoking == len(self.revoking)

    def _submit(self, account: str) -> int:
        number = len(self.expected)
        wanted = certificate_request(account=account)
        self.store.requests.submit(wanted, request_id=request_id(number), now=self.now)
        self.expected[number] = Expected(account=account, ready_at=self.now)
        return number

    def _hold(self, number: int, owner: str, job: SignJob) -> None:
        expected = self.expected[number]
        expected.holder, expected.ready_at, expected.job = owner, self.now + dt.timedelta(seconds=LEASE_S), job
        assert (job.deaths, job.tries) == (expected.deaths, expected.tries)

    def _note_the_dead(self, numbers: list[int]) -> None:
        for number in numbers:
            expected = self.expected[number]
            expected.deaths += 1
            expected.holder, expected.ready_at, expected.aside = None, self.now, expected.deaths >= MAXIMUM_DEATHS

    def _learn_who_died(self) -> set[int]:
        """Holders whose leases have run out are found dead when somebody comes by; return whose jobs those were."""
        found = set()
        for number, expected in self.expected.items():
            record = self.store.requests.find(request_id(number))
            assert record is not None
            if expected.state == "queued" and len(record.dead_holders) > expected.deaths:
                assert expected.holder is not None
                assert expected.ready_at <= self.now
                found.add(number)
        self._note_the_dead(sorted(found))
        return found

    def _ready(self) -> list[int]:
        return [number for number, each in self.expected.items() if self._is_ready(each)]

    def _is_ready(self, expected: Expected) -> bool:
        return expected.state == "queued" and not expected.aside and expected.ready_at <= self.now

    def _number(self, job: SignJob) -> int:
        return next(number for number in self.expected if request_id(number) == job.request.request_id)


QueueMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestQueue = QueueMachine.TestCase
