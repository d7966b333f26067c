"""Everything that can happen to a signer, in any order: hypothesis looks for one that breaks a promise.

Two customers ask, ask again, confirm, veto and revoke, over lines that are lost with or without the last answers; the
signer is started again, killed, and loses its power with some of its unsynced writes; time passes; it may not issue
for a while. At the end whoever waits gets what he asked for.
"""

from __future__ import annotations

import datetime as dt
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from tests.faults import disk, sqlite_faults
from tests.faults.customer import Customer, configure, turn, watch_key
from tests.faults.disk import Crash, Recorder
from tests.faults.invariants import Fact, Heard, check, check_certificates
from tests.faults.sqlite_faults import DO_IT, Operation, Verdict
from tests.support.authorities import alt_names, certification_request, server_request
from tests.support.journal_keys import JOURNAL_PUBLIC_KEY
from tests.support.signer import Front

from cassiopeia.journal.entry import Log
from cassiopeia.journal.head import read_head
from cassiopeia.protocol.events import CertificateIssued, LogReceived
from cassiopeia.signer.gate import Obstacle

NUMBERS = st.integers(min_value=1, max_value=3)
WHO = st.integers(min_value=0, max_value=1)
OBSTACLE = Obstacle(code="disk-full", message="no room")


class AnyOrder(RuleBasedStateMachine):
    """One signer through all its lives, and its two customers."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory(prefix="any-order-")
        self.lives = itertools.count(1)
        self.asked: set[int] = set()
        self.bought: dict[tuple[int, dt.datetime], bytes] = {}
        self.directory = Path(self.temporary.name) / "0"
        self.before: dict[str, bytes] = {}
        self.record()
        self.front = Front(directory=self.directory)
        configure(self.front)
        self.backups = [disk.contents(self.recorder.operations, Crash.KILLED)]
        self.customers = [Customer(front=self.front), Customer(front=self.front)]
        watch_key(self.front, self.customers[0])
        # What has left the signer is heard at once, whether it was to leave or not.
        self.steps = itertools.cycle(
            each
            for step in (self.front.carry, self.front.work, self.commit, self.confirm_all)
            for each in (step, self.listen)
        )

    def record(self) -> None:
        """Note every write from here on; the disk that the tests run on need not sync any of them."""
        self.recorder = recorder = Recorder(self.directory)

        def note(operation: Operation) -> Verdict:
            recorder(operation)
            return Verdict(first=0) if operation.kind == "sync" else DO_IT

        sqlite_faults.observe(note)

    def commit(self) -> None:
        self.front.journal.commit()
        for pair in self.front.pairs:
            for event in pair.signer.take_events():
                self.front.on_event(pair.signer, event)

    def listen(self) -> None:
        for each in self.customers:
            each.listen()

    def confirm_all(self) -> None:
        for each in self.customers:
            each.confirm()

    @rule(number=NUMBERS, who=WHO)
    def ask(self, number: int, who: int) -> None:
        self.asked.add(number)
        self.customers[who].ask(number)

    @rule(who=WHO)
    def veto(self, who: int) -> None:
        self.customers[who].veto()

    @rule(who=WHO, number=st.integers(min_value=0, max_value=5), named=st.booleans())
    def revoke(self, who: int, number: int, *, named: bool) -> None:
        """One of the certificates, or nothing; a request with a name is asked again as it was."""
        facts = self.customers[who].heard.of("certificate")
        ders = [facts[number % len(facts)].octets] if facts and number else []
        self.customers[who].revoke(*ders, request_id=bytes([number, len(facts)]) * 16 if named and ders else b"")

    @rule(who=WHO)
    def ask_full_crl(self, who: int) -> None:
        self.customers[who].ask_full_crl()

    @rule(count=st.integers(min_value=1, max_value=16))
    def go_on(self, count: int) -> None:
        """So many small steps, from where the last ones ended: behind any of them the signer may die."""
        for _ in range(count):
            next(self.steps)()

    @rule(number=NUMBERS, turns=st.integers(min_value=0, max_value=6))
    def ask_by_version_1(self, number: int, turns: int) -> None:
        """Somebody who names no request asks, and perhaps is gone before he hears anything."""
        pair = self.front.connect(1)
        names = alt_names(f"DNS,old{number}.example.org")
        # Nobody's account is another account: it has a key of its own.
        key_proof = certification_request("Ed25519")
        request = server_request(request_id=b"", account="", key_proof=key_proof, attributes=(), alt_names=names)
        pair.client.submit(request)
        for _ in range(turns):
            turn(self.front, *self.customers)
            for event in self.front.answers(pair):
                if isinstance(event, LogReceived):
                    pair.client.confirm_log(event.handle)
                if isinstance(event, CertificateIssued) and event.certificate is not None:
                    # An identical request gets the same certificate again, for a day.
                    assert self.bought.setdefault((number, self.front.now), event.certificate) == event.certificate
        if pair in self.front.pairs:
            self.front.vanish(pair)

    @rule()
    def back_up(self) -> None:
        self.backups.append(disk.contents(self.recorder.operations, Crash.KILLED, before=self.before))

    @rule(number=NUMBERS, which=st.integers(min_value=0, max_value=9))
    def put_back_an_old_disk(self, number: int, which: int) -> None:
        """For a while, until somebody finds the right one: whoever holds a newer head keeps it from issuing."""
        right = disk.contents(self.recorder.operations, Crash.KILLED, before=self.before)
        self.move_to(self.backups[which % len(self.backups)])
        head = max(
            (fact.octets for each in self.customers for fact in each.heard.of("head")),
            key=lambda octets: read_head(octets).size,
            default=b"",
        )
        if head and read_head(head).size > self.front.journal.size:
            self.front.journal_desk.presented(head, now=self.front.now)
            stranger = Customer(front=self.front)
            stranger.ask(number + 100)
            for _ in range(3):
                turn(self.front, stranger)
                stranger.confirm()
            assert not stranger.heard.of("log")
            assert not stranger.heard.of("certificate")
        self.move_to(right)
        self.look()

    @rule(who=WHO, heard=st.booleans())
    def lose_line(self, who: int, *, heard: bool) -> None:
        customer = self.customers[who]
        if heard:
            customer.listen()
        self.front.vanish(customer.pair)
        customer.connect()

    @rule(hours=st.sampled_from([0.1, 1.0, 25.0, 24.0 * 40]))
    def pass_time(self, hours: float) -> None:
        self.front.now += dt.timedelta(hours=hours)
        self.front.clock += hours * 3600
        self.front.issuance.expire(now=self.front.now)
        self.front.revocation.renew(now=self.front.now)

    @rule()
    def stop_issuing(self) -> None:
        self.front.obstacle = OBSTACLE

    @rule()
    @precondition(lambda self: self.front.obstacle is not None)
    def go_on_issuing(self) -> None:
        self.front.obstacle = None

    @rule()
    def restart(self) -> None:
        self.front.restart()
        self.reconnect()

    @rule(crash=st.sampled_from(Crash), seed=st.integers(min_value=0, max_value=99))
    def die(self, crash: Crash, seed: int) -> None:
        self.move_to(disk.contents(self.recorder.operations, crash, seed=seed, before=self.before))
        self.look()

    def move_to(self, found: dict[str, bytes]) -> None:
        """Start the signer again, on a disk that holds this."""
        self.front.journal._database.close()
        self.directory = self.directory.with_name(str(next(self.lives)))
        self.directory.mkdir()
        for name, octets in found.items():
            (self.directory / name).write_bytes(octets)
        self.before = found
        self.record()
        self.front.directory = self.directory
        self.front.restart()
        configure(self.front)
        self.reconnect()

    def reconnect(self) -> None:
        for each in self.customers:
            each.connect()

    def look(self) -> None:
        """The journal is sound, and has all that either of them heard."""
        journal = self.front.journal
        logs = [Log(entry=octets, parts=parts) for _, octets, parts in journal.entries(1, journal.size)]
        for each in self.customers:
            check(logs, each.heard, keys=[JOURNAL_PUBLIC_KEY])
        bought = [Fact(kind="bought", octets=each) for each in self.bought.values()]
        check(logs, Heard(facts=bought), keys=[JOURNAL_PUBLIC_KEY])
        both = Heard(facts=[fact for each in self.customers for fact in each.heard.facts])
        check_certificates(both.of("certificate"))

    def teardown(self) -> None:
        """Everybody gets what he asked for, and the journal is sound."""
        try:
            self.front.obstacle = None
            self.front.restart()
            self.reconnect()
            first = self.customers[0]
            for number in sorted(self.asked):
                first.ask(number)
            for _ in range(8):
                turn(self.front, *self.customers)
                first.confirm()
            first.ask_full_crl()
            turn(self.front, *self.customers)
            assert {each.name for each in first.heard.of("certificate")} >= {each.hex() for each in first.requests}
            self.look()
        finally:
            self.front.journal.close()
            sqlite_faults.observe(None)
            self.temporary.cleanup()


def test_no_order_of_events_breaks_a_promise(*, long: bool) -> None:
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=3000 if long else 80,
            stateful_step_count=60 if long else 40,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.fixture(autouse=True)
def _nobody_looks_afterwards() -> object:
    yield
    sqlite_faults.observe(None)
