"""A signer's machine loses its power at every write of a story: what it let out until then is in what the disk has.

The story is told once, by a real journal and the signer's desks in memory; then its disk is put together anew for every
prefix of the writes and for every way in which those that were not synced may be lost.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.faults import disk, sqlite_faults
from tests.faults.customer import Customer, configure, turn, watch_key
from tests.faults.disk import Crash, Recorder
from tests.faults.invariants import Heard, check, check_certificates, check_crls
from tests.faults.sqlite_faults import DO_IT, Operation, Verdict
from tests.support.journal_keys import JOURNAL_PUBLIC_KEY
from tests.support.signer import Front

from cassiopeia.core import crl
from cassiopeia.journal.entry import Log

# So few pages between two checkpoints make many of them happen in a short story.
CHECKPOINT_PAGES = 25
# Going on behind each crash takes far longer than looking at what is there.
GO_ON_EVERY = 11


@dataclass(frozen=True, kw_only=True)
class Story:
    operations: list[Operation]
    heard: Heard
    requests: dict[int, bytes]


def tell(directory: Path) -> Story:
    """Certificates together and alone, vetoes, refusals, revocations, two restarts: with every write noted."""
    recorder = Recorder(directory)
    sqlite_faults.observe(recorder)
    front = Front(directory=directory)
    customer = Customer(front=front, now=lambda: len(recorder.operations))
    watch_key(front, customer)

    def turns(count: int = 4) -> None:
        for _ in range(count):
            turn(front, customer)

    def again() -> None:
        front.restart()
        front.journal._database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        customer.connect()

    def issue(*numbers: int) -> None:
        for number in numbers:
            requests[number] = customer.ask(number)
        turns()
        customer.confirm()
        turns()

    requests: dict[int, bytes] = {}
    configure(front)
    again()
    # 1. Three together, the first CRL, one of them revoked; a retry of that gets the same answer.
    issue(1, 2, 3)
    first, second, third = (each.octets for each in customer.heard.of("certificate"))
    front.revocation.renew(now=front.now)
    turns()
    customer.revoke(first, request_id=b"1" * 32)
    turns()
    customer.revoke(first, request_id=b"1" * 32)
    turns()
    # 2. One that is vetoed, and asked for again; one that is refused.
    requests[4] = customer.ask(4)
    turns()
    customer.veto()
    turns()
    issue(4)
    refused = customer.ask(5, name="no_such_name")
    turns()
    assert refused in customer.refused
    # 3. A restart before the confirmation, and one between the confirmation and the signature.
    requests[6] = customer.ask(6)
    turns()
    again()
    issue(6)
    requests[7] = customer.ask(7)
    turns()
    customer.confirm()
    front.carry()
    front.journal.commit()
    assert front.signing
    again()
    issue(7)
    # 4. Two more revocations in one CRL, while certificates are made; then the sum of it again.
    customer.revoke(second, third)
    issue(8, 9, 10)
    issue(1, 7)
    front.journal.close()
    sqlite_faults.observe(None)
    assert len({each.octets for each in customer.heard.of("certificate")}) == len(requests) == 9
    return Story(operations=recorder.operations, heard=customer.heard, requests=requests)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    yield tell(tmp_path_factory.mktemp("story"))
    sqlite_faults.observe(None)


def test_the_story_has_everything_that_can_go_wrong(story: Story) -> None:
    kinds = {(each.kind, each.path.rpartition("/")[2]) for each in story.operations}
    assert {("write", "journal.sqlite"), ("sync", "journal.sqlite"), ("write", "journal.sqlite-wal")} <= kinds
    assert {("sync", "journal.sqlite-wal"), ("delete", "journal.sqlite-wal")} <= kinds
    assert {each.kind for each in story.heard.facts} == {"log", "certificate", "crl", "head", "abandoned", "signed"}


@pytest.mark.parametrize("crash", Crash)
def test_what_was_let_out_is_never_lost(story: Story, crash: Crash, tmp_path: Path) -> None:
    # The disk that we are on need not be waited for.
    sqlite_faults.observe(lambda each: Verdict(first=0) if each.kind == "sync" else DO_IT)
    seen: set[tuple[int, int]] = set()
    for count in range(len(story.operations) + 1):
        found = disk.contents(story.operations[:count], crash, seed=count)
        heard = story.heard.until(count)
        known = (hash(tuple(sorted(found.items()))), len(heard.facts))
        if known in seen:
            continue  # nothing new to look at
        seen.add(known)
        directory = tmp_path / str(count)
        directory.mkdir()
        for name, octets in found.items():
            (directory / name).write_bytes(octets)
        try:
            front = Front(directory=directory)
            try:
                _check(front, heard)
                if count % GO_ON_EVERY == 0:
                    _go_on(front, story, count)
            finally:
                front.journal.close()
        except BaseException as error:
            error.add_note(f"after {count} of {len(story.operations)} operations: {crash.value}")
            raise
        shutil.rmtree(directory)


def _check(front: Front, heard: Heard) -> None:
    logs = [Log(entry=octets, parts=parts) for _, octets, parts in front.journal.entries(1, front.journal.size)]
    check(logs, heard, keys=[JOURNAL_PUBLIC_KEY])


def _go_on(front: Front, story: Story, count: int) -> None:
    """Whoever asks again gets what he had, and the next CRL is a next one."""
    configure(front)
    front.restart()
    customer = Customer(front=front, heard=story.heard.until(count))
    for number in story.requests:
        customer.ask(number)
    for _ in range(4):
        turn(front, customer)
    customer.confirm()
    front.revocation.renew(now=front.now)
    for _ in range(4):
        turn(front, customer)
    customer.ask_full_crl()
    turn(front, customer)
    known = customer.heard.of("certificate")
    assert len({each.octets for each in known}) == len(story.requests)
    check_certificates(known)
    lists = [each.octets for each in customer.heard.of("crl")]
    check_crls(lists)
    numbers = [crl.read_crl(each).number for each in lists]
    assert all(before <= after for before, after in itertools.pairwise(numbers))
    _check(front, customer.heard)
