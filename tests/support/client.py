"""A client without line and processes: its parts on a real store, against the signer's desks in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.authorities import certification_request, server_request
from tests.support.conversations import Pair
from tests.support.journal_keys import JOURNAL_PUBLIC_KEY
from tests.support.signer import Front
from tests.support.store import issued, lease_sign, request_id

from cassiopeia.client.issuance import Issuance
from cassiopeia.client.journal_copy import JournalCopy
from cassiopeia.client.lint import Lint
from cassiopeia.core.authority import Authority
from cassiopeia.core.request import CertificateRequest
from cassiopeia.protocol.events import Event
from cassiopeia.store.database import Store
from cassiopeia.store.records import IssuedResult, RequestRecord, SignJob

OWNER = "client"


def submit(store: Store, front: Front, number: int = 1, **changes: Any) -> CertificateRequest:
    """Queue a request that the signer takes."""
    values = {"account": "alice", "key_proof": certification_request()} | changes
    store.requests.submit(server_request(**values), request_id=request_id(number), now=front.now)
    return find(store, number).request


def find(store: Store, number: int = 1) -> RequestRecord:
    record = store.requests.find(request_id(number))
    assert record is not None
    return record


def record_certificates(store: Store, front: Front, *numbers: int) -> list[IssuedResult]:
    """Certificates that both sides know; what is certified means nothing."""
    for number in numbers:
        submit(store, front, number)
    jobs = lease_sign(store, OWNER, limit=len(numbers), at=front.now)
    results = [issued(job, authority=front.authority.name) for job in jobs]
    store.results.finish_issued(results, now=front.now)
    for each in results:
        front.record_issued(each.serial_number)
    return results


@dataclass(kw_only=True)
class Certifying:
    """One session's certificates: leases, sends, hears, writes back; each a call."""

    store: Store
    front: Front
    version: int = 2
    lint: Lint | None = None
    others: Sequence[Authority] = ()
    pair: Pair = field(init=False)
    presented: bytes | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        authorities = {each.name: each for each in (self.front.authority, *self.others)}
        self.journal = JournalCopy(store=self.store, pinned=(JOURNAL_PUBLIC_KEY,), clock=lambda: self.front.clock)
        self.issuance = Issuance(
            authorities=authorities,
            store=self.store,
            owner=OWNER,
            version=self.version,
            profiles={},
            lint=self.lint,
            journal=self.journal,
        )
        self.reconnect()

    def reconnect(self, *, head: bytes | None = None) -> None:
        """Open a session; `head` is the signer's, if it does not show its own."""
        self.pair = self.front.connect(self.version)
        if self.version > 1:
            self.journal.line_lost()
            self.presented = self.journal.present_head()
            self.journal.opened(1, head or self.front.journal.signed_head())
            self.journal.take_heads()
            self.journal.write_back(now=self.front.now)

    def send(self) -> list[SignJob]:
        """Lease what there is, and send it."""
        jobs = lease_sign(self.store, OWNER, at=self.front.now)
        self.issuance.send(self.pair.client, jobs)
        return jobs

    def hear(self) -> list[Event]:
        """What the signer has answered to all that was said."""
        self.front.settle()
        return self.front.answers(self.pair)

    def take(self, *events: Event) -> None:
        """Take answers and write them back, as one turn of the loop does."""
        for event in events:
            assert (self.version > 1 and self.journal.receive(event)) or self.issuance.receive(event)
        self.write_back()

    def write_back(self, *, session_ended: bool = False) -> None:
        session = None if session_ended else self.pair.client
        self.journal.take_heads()
        self.issuance.write_back(session, signer_id=1, now=self.front.now)
        self.journal.write_back(now=self.front.now)

    def copy(self) -> None:
        """Turns until the copy of the journal has everything."""
        self.journal.hurry()
        self.journal.send(self.pair.client)
        while events := self.hear():
            self.take(*events)
            self.journal.hurry()
            self.journal.send(self.pair.client)

    def run(self) -> None:
        """Turns until the signer has nothing more to say."""
        while events := self.hear():
            self.take(*events)
