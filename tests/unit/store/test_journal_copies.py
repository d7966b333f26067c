"""Copies of journals: how far they go, who may append, what is joined back in from other tables."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support.journal_maker import JournalMaker
from tests.support.store import NOW, after, issued, lease_sign

from cassiopeia.core import structure
from cassiopeia.errors import InternalError, OperatorError
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.chain import Chain, Link, no_entries
from cassiopeia.journal.entry import JournalEntry, Log
from cassiopeia.store import journal_copies
from cassiopeia.store.database import Store
from cassiopeia.store.journal_copies import CopyState, SeenHead
from cassiopeia.store.models import journal_chunk
from cassiopeia.store.records import CrlRecord, SigningLog


@pytest.fixture
def made() -> JournalMaker:
    journal = JournalMaker()
    journal.begin()
    return journal


def grown(link: Link, logs: Sequence[Log]) -> Link:
    """Where a copy stands behind these entries."""
    chain = Chain(link, ())
    for log in logs:
        chain.append(structure.decode(JournalEntry, log.entry), log)
    return chain.link()


def seen(made: JournalMaker, size: int | None = None, **changes: Any) -> SeenHead:
    octets = made.signed_head(size)
    head = heads.read_head(octets)
    values: dict[str, Any] = {"signer_id": head.signer_id, "epoch": head.epoch, "size": head.size, "octets": octets}
    return SeenHead(**(values | changes))


def copy(store: Store, made: JournalMaker, *, proven: bool = True, bare: bool = False) -> Link:
    """Append what the copy lacks; `bare`: without any part."""
    before = store.journal_copies.state(made.signer_id).link
    new = made.logs[before.size :]
    link = grown(before, new)
    kept = [dataclasses.replace(log, parts=(b"",) * len(log.parts)) for log in new] if bare else new
    proof = seen(made) if proven else None
    assert store.journal_copies.append(before, link, kept, head=proof, proof=proof, now=NOW)
    return link


def test_a_copy_begins_with_nothing(store: Store) -> None:
    assert store.journal_copies.state(1) == CopyState(link=no_entries(1), head=None, proof=None)
    assert store.journal_copies.states() == ()
    assert list(store.journal_copies.logs(1)) == []
    assert store.journal_copies.entry(1, 1) is None
    assert store.journal_copies.cut_back(1, now=NOW) == 0


def test_entries_come_back_in_order_whatever_the_rows_hold(
    store: Store, made: JournalMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_copies, "MAXIMUM_CHUNK", 4)
    copy(store, made)
    for _ in range(3):
        made.issue()
        copy(store, made)
    made.abandonment(made.intent())
    made.refusal()
    link = copy(store, made)
    assert list(store.journal_copies.logs(1)) == made.logs
    state = store.journal_copies.state(1)
    assert (state.link, state.head, state.proof) == (link, seen(made), seen(made))
    assert store.journal_copies.states() == (state,)
    for index, log in enumerate(made.logs, 1):
        assert store.journal_copies.entry(1, index) == log.entry
    assert store.journal_copies.entry(1, len(made.logs) + 1) is None


def test_signers_have_a_copy_each(store: Store, made: JournalMaker) -> None:
    other = JournalMaker(signer_id=2)
    other.begin()
    copy(store, made)
    copy(store, other)
    assert [each.link.signer_id for each in store.journal_copies.states()] == [1, 2]
    assert list(store.journal_copies.logs(2)) == other.logs
    assert list(store.journal_copies.logs(1)) == made.logs


def test_of_two_clients_the_slower_writes_nothing(store: Store, made: JournalMaker) -> None:
    before = copy(store, made)
    made.issue()
    first, second = grown(before, made.logs[before.size :]), grown(before, made.logs[before.size : -1])
    new = made.logs[before.size :]
    assert store.journal_copies.append(before, first, new, head=None, proof=None, now=NOW)
    assert not store.journal_copies.append(before, second, new[:-1], head=None, proof=None, now=NOW)
    assert store.journal_copies.state(1).link == first
    assert list(store.journal_copies.logs(1)) == made.logs


def test_of_many_clients_at_once_one_writes(store: Store, made: JournalMaker) -> None:
    before = copy(store, made)
    made.issue()
    new = made.logs[before.size :]
    links = [grown(before, new[:count]) for count in (1, 2, 3)] * 2

    def append(link: Link) -> bool:
        entries_of_link = new[: link.size - before.size]
        return store.journal_copies.append(before, link, entries_of_link, head=seen(made), proof=None, now=NOW)

    with ThreadPoolExecutor(len(links)) as clients:
        written = list(clients.map(append, links))
    assert sum(written) == 1
    winner = links[written.index(True)]
    assert store.journal_copies.state(1).link == winner
    assert list(store.journal_copies.logs(1)) == made.logs[: winner.size]


def test_places_and_entries_must_agree(store: Store, made: JournalMaker) -> None:
    link = grown(no_entries(1), made.logs)
    with pytest.raises(InternalError, match="do not agree"):
        store.journal_copies.append(no_entries(1), link, made.logs[1:], head=None, proof=None, now=NOW)


def test_only_a_newer_head_replaces_the_one_that_is_kept(store: Store, made: JournalMaker) -> None:
    copies = store.journal_copies
    copies.save_head(seen(made, 2), now=NOW)
    assert copies.state(1) == CopyState(link=no_entries(1), head=seen(made, 2), proof=None)
    copies.save_head(seen(made, 1), now=NOW)
    assert copies.state(1).head == seen(made, 2)
    copies.save_head(seen(made, 3), now=NOW)
    assert copies.state(1).head == seen(made, 3)
    newer = seen(made, 1, epoch=2)
    copies.save_head(newer, now=NOW)
    assert copies.state(1).head == newer
    # An older head that comes with entries does not replace it either.
    copy(store, made)
    assert copies.state(1).head == newer


def test_what_no_head_has_confirmed_can_be_dropped(store: Store, made: JournalMaker) -> None:
    proven = copy(store, made)
    proof = seen(made)
    for _ in range(3):
        made.issue()
        copy(store, made, proven=False)
    assert store.journal_copies.cut_back(1, now=NOW) == 9
    state = store.journal_copies.state(1)
    assert (state.link, state.proof) == (proven, proof)
    assert list(store.journal_copies.logs(1)) == made.logs[: proven.size]
    assert store.journal_copies.cut_back(1, now=NOW) == 0


def test_lost_rows_are_the_operators_to_mend(store: Store, made: JournalMaker) -> None:
    for _ in range(3):
        copy(store, made)
        made.issue()
    with store.database.write() as connection:
        connection.execute(journal_chunk.delete().where(journal_chunk.c.first == 4))
    found = store.journal_copies.logs(1)
    with pytest.raises(OperatorError, match=r"has lost entries .* signer 1, from entry 4 on: restore"):
        list(found)


def test_parts_that_other_tables_have_are_put_back(store: Store, made: JournalMaker) -> None:
    intent = made.intent()
    store.requests.submit(made.requests[intent], request_id=made.requests[intent].request_id, now=NOW)
    (job,) = lease_sign(store)
    octets = entries.encode_log(made.logs[intent - 1])
    log = SigningLog(job_id=job.id, sha256=hashlib.sha256(octets).digest(), entry=octets)
    store.results.save_logs("client", [log], now=NOW)
    copy(store, made, bare=True)
    made.confirmation(intent)
    result = made.result(intent)
    serial = int.from_bytes(made.serial(intent), "big")
    store.results.finish_issued([issued(job, certificate=made.certificates[intent], serial_number=serial)], now=NOW)
    crl = made.crl()
    record = CrlRecord(authority=made.authority.name, number=1, this_update=NOW, next_update=after(1), der=made.crls[0])
    store.crls.put(record, now=NOW)
    copy(store, made, bare=True)

    found = list(store.journal_copies.logs(1))

    for index in (intent, result, crl):
        assert found[index - 1] == made.logs[index - 1]
    # The configuration stands nowhere else.
    assert found[1].parts == (b"",)
    assert store.journal_copies.saved_logs([log.sha256, b"x" * 32]) == {log.sha256}
    assert store.journal_copies.saved_logs([]) == frozenset()


def test_what_is_not_the_part_that_the_entry_names_is_not_put_back(store: Store, made: JournalMaker) -> None:
    intent = made.intent()
    store.requests.submit(made.requests[intent], request_id=made.requests[intent].request_id, now=NOW)
    (job,) = lease_sign(store)
    store.results.save_logs("client", [SigningLog(job_id=job.id, sha256=b"1" * 32, entry=b"a text")], now=NOW)
    made.confirmation(intent)
    made.result(intent)
    serial = int.from_bytes(made.serial(intent), "big")
    store.results.finish_issued([issued(job, certificate=b"no certificate", serial_number=serial)], now=NOW)
    made.crl()
    other = JournalMaker()
    other.begin()
    other.revocation(other.issue())
    other.crl()
    record = CrlRecord(
        authority=made.authority.name, number=9, this_update=NOW, next_update=after(1), der=other.crls[0]
    )
    store.crls.put(record, now=NOW)
    copy(store, made, bare=True)

    assert not any(any(log.parts) for log in store.journal_copies.logs(1))


def test_a_result_without_its_intent_is_left_as_it_is(store: Store, made: JournalMaker) -> None:
    """No such journal is copied; but a damaged table must not end an export."""
    made.add(entries.Result(intent=99), b"signature")
    copy(store, made, bare=True)
    assert list(store.journal_copies.logs(1))[-1].parts == (b"",)


def test_kinds_of_later_releases_come_back_as_they_are(store: Store, made: JournalMaker) -> None:
    made.add(entries.Halt(code="x"), b"reason", kind="something new")
    copy(store, made)
    assert list(store.journal_copies.logs(1)) == made.logs
