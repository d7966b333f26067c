"""A client's CRLs in step with a signer's desk, one call a step."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.authorities import NOW, default_authority, p256_key, sign
from tests.support.client import OWNER
from tests.support.signer import SIGNING_CA, Front

from cassiopeia.client.crl_sync import CrlSync
from cassiopeia.client.publish import Publisher
from cassiopeia.core import algorithms, crl
from cassiopeia.protocol.events import (
    Event,
)
from cassiopeia.store.database import Store
from cassiopeia.store.records import CrlJob, CrlRecord, Outcome, RevokeJob

DAY = dt.timedelta(days=1)


@contextmanager
def front_with_crl(directory: Path, *, now: dt.datetime = NOW) -> Iterator[Front]:
    """The signer's desks, with a CRL, at a moment."""
    made = Front(directory=directory, now=now)
    made.revocation.renew(now=now)
    made.settle()
    yield made
    made.journal.close()


class Syncing:
    """One session's CRLs: leases, sends, hears; each a call."""

    def __init__(self, store: Store, front: Front, directory: Path) -> None:
        self.store = store
        self.front = front
        self.directory = directory
        self.restart()

    def restart(self) -> None:
        self.sync = CrlSync(
            authorities=[self.front.authority],
            store=self.store,
            owner=OWNER,
            publisher=Publisher(self.directory),
            renew_after=DAY,
        )
        self.pair = self.front.connect()

    def lease(self) -> None:
        for job in self.store.queue.lease(OWNER, limit=1000, lease_s=60, now=self.front.now):
            assert isinstance(job, RevokeJob | CrlJob)
            self.sync.take(job, now=self.front.now)

    def send(self, **options: Any) -> int:
        return self.sync.send(self.pair.client, now=self.front.now, **options)

    def hear(self) -> list[Event]:
        self.front.settle()
        return self.front.answers(self.pair)

    def take(self, *events: Event) -> None:
        for event in events:
            assert self.sync.receive(event, now=self.front.now)

    def exchange(self) -> Event:
        """Send what is due and return the answer, not taken yet."""
        assert self.send() == 1
        (event,) = self.hear()
        return event

    def run(self) -> None:
        """Turns until nothing is due."""
        self.lease()
        while self.sync.due(now=self.front.now):
            self.take(self.exchange())
        assert not self.sync.busy

    def published(self) -> crl.Crl:
        """The published CRL, verified."""
        published = (self.directory / f"{SIGNING_CA}.crl").read_bytes()
        stored = self.store.crls.get(SIGNING_CA)
        assert stored is not None
        assert stored.der == published
        return crl.check_crl(published, authority=self.front.authority)

    def listed(self) -> list[int]:
        return list(crl.entry_serials(self.published().entries))

    def revoke(self, *serials: int, **details: Any) -> None:
        for serial in serials:
            self.store.certificates.request_revocation(f"{serial:x}", now=self.front.now, **details)

    def state(self, serial: int) -> str:
        return self.store.certificates.look_up(f"{serial:x}").revocation_state


def make_crl(number: int, *, this_update: dt.datetime = NOW) -> bytes:
    """A CRL of the sub-CA that the signer does not know of."""
    authority = default_authority()
    algorithm = algorithms.choose_algorithm(authority.public_key, "")
    tbs = crl.assemble_tbs_crl(
        issuer=authority.subject,
        algorithm=algorithm,
        this_update=this_update,
        next_update=this_update + 10 * DAY,
        entries=b"",
        crl_number=number,
        authority_key_identifier=authority.key_identifier,
    )
    return crl.compose_crl(tbs, sign(p256_key(), algorithm, tbs))


def put(store: Store, octets: bytes) -> None:
    found = crl.read_crl(octets)
    record = CrlRecord(
        authority=SIGNING_CA,
        number=found.number,
        this_update=found.this_update,
        next_update=found.next_update,
        der=octets,
    )
    assert store.crls.put(record, now=NOW) is Outcome.RECORDED
