"""The database's machine loses its power at every write of a story: what the client has said until then is true.

Its word is kept by SQLite: a request that was accepted is there, a log that was confirmed is there, a head that was
presented is there. The story is told once and the store put together anew for every prefix, as for the signer
(`test_crash_prefixes`); then a client goes on from there, with the signer as it is at the end of the story.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select
from tests.faults import disk, sqlite_faults
from tests.faults.customer import configure
from tests.faults.disk import Crash, Recorder
from tests.faults.sqlite_faults import DO_IT, Operation, Verdict
from tests.support.client import OWNER, Certifying, find, submit
from tests.support.signer import Front
from tests.support.store import request_id

from cassiopeia.protocol.events import Event, LogConfirmed
from cassiopeia.protocol.session import Session
from cassiopeia.store.certificates import Certificates
from cassiopeia.store.database import Store, open_store, upgrade
from cassiopeia.store.models import signing_log

NAME = "store.sqlite"
CHECKPOINT_PAGES = 60
GO_ON_EVERY = 25
NUMBERS = range(1, 7)
# In a short run, of the moments at which nothing was said only some are looked at.
LOOK_EVERY = 5


@dataclass(kw_only=True)
class Story:
    """What was said when: each list has the number of operations until then, and what it was."""

    front: Front
    before: dict[str, bytes]
    recorder: Recorder
    accepted: list[tuple[int, int]] = field(default_factory=list)
    confirmed: list[tuple[int, bytes]] = field(default_factory=list)
    presented: list[tuple[int, int]] = field(default_factory=list)
    certificates: dict[int, bytes] = field(default_factory=dict)

    @property
    def operations(self) -> list[Operation]:
        return self.recorder.operations

    @property
    def now(self) -> int:
        return len(self.operations)

    @property
    def moments(self) -> set[int]:
        """When something was said."""
        return {at for at, _ in (*self.accepted, *self.confirmed, *self.presented)}


def opened(path: Path) -> Store:
    store = open_store(f"sqlite:///{path}")

    @event.listens_for(store.database._engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")

    # The connection that is open already came before us.
    store.database._engine.dispose()
    return store


def tell(directory: Path) -> Story:
    path = directory / NAME
    upgrade(f"sqlite:///{path}")
    front = Front(directory=directory / "journal")
    configure(front)
    story = Story(front=front, before={NAME: path.read_bytes()}, recorder=Recorder(directory))
    sqlite_faults.observe(lambda each: story.recorder(each) if Path(each.path).name.startswith(NAME) else DO_IT)
    hear = front.on_event

    def on_event(session: Session, said: Event) -> None:
        if isinstance(said, LogConfirmed):
            story.confirmed.append((story.now, said.log_hash))
        hear(session, said)

    with opened(path) as store, pytest.MonkeyPatch.context() as patched:
        patched.setattr(front, "on_event", on_event)
        client = Certifying(store=store, front=front)
        write_back = client.issuance.write_back

        def write_back_and_say(*arguments: Any, **more: Any) -> None:
            write_back(*arguments, **more)
            # What the client says now is heard before it writes anything else.
            front.carry()

        patched.setattr(client.issuance, "write_back", write_back_and_say)
        for number in NUMBERS:
            submit(store, front, number)
            story.accepted.append((story.now, number))
            if number % 3 == 0:
                # Some are under way when the line is lost.
                client.send()
                client.take(*client.hear())
                client.issuance.line_lost("the line was lost", now=front.now, proven=False)
                client.reconnect()
                story.presented.append((story.now, _size(store)))
            client.send()
            client.run()
            client.copy()
        for number in NUMBERS:
            story.certificates[number] = _certificate(store.certificates, number)
    sqlite_faults.observe(None)
    assert len(story.confirmed) >= len(NUMBERS)
    return story


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    told = tell(tmp_path_factory.mktemp("story"))
    yield told
    told.front.journal.close()
    sqlite_faults.observe(None)


@pytest.mark.parametrize("crash", Crash)
def test_what_the_client_has_said_stays_true(story: Story, crash: Crash, tmp_path: Path, *, long: bool) -> None:
    sqlite_faults.observe(lambda each: Verdict(first=0) if each.kind == "sync" else DO_IT)
    seen: set[tuple[int, int]] = set()
    for count in range(story.now + 1):
        if not long and count % LOOK_EVERY and count not in story.moments:
            continue
        found = disk.contents(story.operations[:count], crash, seed=count, before=story.before)
        facts = sum(at <= count for at, _ in (*story.accepted, *story.confirmed, *story.presented))
        known = (hash(tuple(sorted(found.items()))), facts)
        if known in seen:
            continue
        seen.add(known)
        directory = tmp_path / str(count)
        directory.mkdir()
        for name, octets in found.items():
            (directory / name).write_bytes(octets)
        try:
            with open_store(f"sqlite:///{directory / NAME}") as store:
                _check(store, story, count)
                if count % GO_ON_EVERY == 0:
                    _go_on(store, story)
        except BaseException as error:
            error.add_note(f"after {count} of {story.now} operations: {crash.value}")
            raise
        shutil.rmtree(directory)


def _check(store: Store, story: Story, count: int) -> None:
    with store.database.read() as connection:
        kept = {row[0] for row in connection.execute(select(signing_log.c.sha256))}
    assert {log_hash for at, log_hash in story.confirmed if at <= count} <= kept
    for at, number in story.accepted:
        assert at > count or store.requests.find(request_id(number)) is not None
    assert _size(store) >= max((size for at, size in story.presented if at <= count), default=0)
    copied = list(store.journal_copies.logs(1))
    assert len(copied) == store.journal_copies.state(1).link.size


def _go_on(store: Store, story: Story) -> None:
    """The same certificates come out again, for whoever had none yet."""
    front = story.front
    store.queue.release(OWNER, now=front.now)
    asked = [number for number in NUMBERS if store.requests.find(request_id(number)) is not None]
    client = Certifying(store=store, front=front)
    for _ in NUMBERS:
        client.send()
        client.run()
    client.copy()
    front.vanish(client.pair)
    for number in asked:
        assert find(store, number).state == "issued"
        assert _certificate(store.certificates, number) == story.certificates[number]
    assert _size(store) == front.journal.size


def _certificate(certificates: Certificates, number: int) -> bytes:
    found = certificates.of_request(request_id(number))
    assert found is not None
    return found.der


def _size(store: Store) -> int:
    head = store.journal_copies.state(1).head
    return head.size if head is not None else 0
