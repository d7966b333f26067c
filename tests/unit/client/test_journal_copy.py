"""The client copies the signer's journal: when it asks, what it keeps, whom it believes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.client import Certifying, submit
from tests.support.conversations import TIMESTAMP
from tests.support.copying import PINNED, Copying, begun
from tests.support.journal_maker import JournalMaker, journal_key
from tests.support.signer import PROFILE, Front
from tests.support.store import NOW

from cassiopeia.client import journal_share
from cassiopeia.core import ed25519
from cassiopeia.errors import PeerError
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.entry import Log
from cassiopeia.protocol import payload
from cassiopeia.protocol.events import (
    CertificateIssued,
    EntriesReceived,
    FullCrlReceived,
    LogReceived,
    RequestRefused,
    TimestampReceived,
)
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.session import Role, Session
from cassiopeia.store.database import Store
from cassiopeia.store.models import journal_chunk


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path / "journal")
    yield made
    made.journal.close()


@pytest.fixture
def client(store: Store, front: Front) -> Certifying:
    made = Certifying(store=store, front=front)
    made.copy()
    return made


@pytest.fixture
def copying(store: Store) -> Copying:
    return Copying(store, begun())


def issue(client: Certifying, *numbers: int) -> None:
    for number in numbers:
        submit(client.store, client.front, number)
    client.send()
    client.run()


def asks(client: Certifying) -> bool:
    client.journal.send(client.pair.client)
    return client.pair.client.has_data_to_send


def journal_of(front: Front) -> list[Log]:
    return [Log(entry=octets, parts=parts) for _, octets, parts in front.journal.entries(1, 10**6)]


def rows(store: Store) -> list[bytes]:
    with store.database.read() as connection:
        return [row.entries for row in connection.execute(journal_chunk.select())]


# What is kept.


def test_the_copy_is_the_journal_with_every_part(client: Certifying) -> None:
    issue(client, 1, 2)
    submit(client.store, client.front, 3, profile="none")
    client.send()
    client.run()
    client.copy()
    assert list(client.store.journal_copies.logs(1)) == journal_of(client.front)
    assert not client.journal.alarm
    assert client.journal.settled
    state = client.store.journal_copies.state(1)
    assert state.head is not None
    assert state.head.size == state.link.size == client.front.journal.size
    # Another head over the same entries is as good.
    assert heads.read_head((state.proof or state.head).octets).size == state.link.size


def test_what_other_tables_have_is_not_kept_twice(client: Certifying) -> None:
    issue(client, 1)
    client.copy()
    kept = b"".join(rows(client.store))
    for log in journal_of(client.front):
        kind = entries.decode_entry(log.entry).kind
        assert log.entry in kept
        assert all((octets in kept) is (kind not in {"intent", "result"}) for octets in log.parts), kind


def test_parts_that_nobody_else_has_are_kept(client: Certifying) -> None:
    """A refusal, and an intent whose log was never saved."""
    submit(client.store, client.front, 1, profile="none")
    submit(client.store, client.front, 2)
    client.send()
    events = client.hear()
    client.take(
        *(dataclasses.replace(each, log=b"nonsense") if isinstance(each, LogReceived) else each for each in events)
    )
    client.run()
    client.copy()
    assert list(client.store.journal_copies.logs(1)) == journal_of(client.front)


def test_a_log_that_was_saved_in_another_session_is_not_kept_twice(client: Certifying) -> None:
    issue(client, 1)
    client.front.vanish(client.pair)
    client.reconnect()
    client.copy()
    (intent,) = [log for log in journal_of(client.front) if entries.decode_entry(log.entry).kind == "intent"]
    assert intent.parts[0] not in b"".join(rows(client.store))
    assert list(client.store.journal_copies.logs(1)) == journal_of(client.front)


def test_a_certificate_that_is_not_kept_leaves_its_signature(client: Certifying) -> None:
    submit(client.store, client.front, 1)
    client.send()
    client.take(*client.hear())
    (issued,) = client.hear()
    assert isinstance(issued, CertificateIssued)
    client.issuance.forget()  # as when it is not what was asked for
    client.take(issued)
    client.copy()
    assert issued.signature is not None
    assert issued.signature in b"".join(rows(client.store))
    assert list(client.store.journal_copies.logs(1)) == journal_of(client.front)


def test_signatures_of_crls_are_put_in(copying: Copying) -> None:
    """The client has them from the answers of this session."""
    index = copying.made.crl()
    signature = copying.made.logs[index - 1].parts[0]
    copying.open()
    copying.copy._share.add_crl_signature(b"another")
    copying.copy._share.add_crl_signature(signature)
    asked = copying.ask()
    assert asked is not None
    bare = dataclasses.replace(copying.made.logs[-1], parts=(b"",))
    copying.answer(asked, [*copying.made.logs[:-1], bare])
    assert copying.copied == copying.made.logs


def test_a_crl_that_cannot_be_read_is_the_business_of_others(copying: Copying) -> None:
    copying.open()
    copying.turn(FullCrlReceived(handle=99, der=b"nonsense"))
    assert not copying.copy.alarm


def test_old_signatures_of_crls_are_let_go() -> None:
    share = journal_share.SessionShare()
    for number in range(200):
        share.add_crl_signature(b"%d" % number)
    assert len(share._crl_signatures) == journal_share._CRL_SIGNATURES


def test_the_newest_head_is_kept_with_the_logs_that_it_covers(client: Certifying) -> None:
    submit(client.store, client.front, 1)
    client.send()
    (log,) = client.hear()
    assert client.journal.receive(log) is False
    client.issuance.receive(log)
    client.journal.take_heads()
    client.issuance.write_back(None, signer_id=1, now=NOW)  # and no further: the power fails
    head = client.store.journal_copies.state(1).head
    assert head is not None
    assert head.size == client.front.journal.size


def test_no_more_logs_are_remembered_than_fit(client: Certifying, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out then is fetched whole in the next session."""
    monkeypatch.setattr(journal_share, "_MAXIMUM_SENT", 1)
    issue(client, 1, 2)
    with pytest.raises(PeerError, match="the signer leaves out entry"):
        client.copy()
    client.front.vanish(client.pair)
    client.reconnect()
    client.copy()
    assert list(client.store.journal_copies.logs(1)) == journal_of(client.front)


# When.


def test_entries_are_fetched_in_batches(client: Certifying) -> None:
    issue(client, *range(20))
    assert not asks(client)
    issue(client, 20, 21)
    assert asks(client)
    assert not client.journal.settled
    client.take(*client.hear())
    assert len(journal_of(client.front)) == client.front.journal.size
    assert client.journal.summary() == {
        "entries": client.front.journal.size,
        "copied": client.front.journal.size,
        "alarm": "",
    }


def test_few_entries_are_fetched_when_nothing_else_goes_on(client: Certifying) -> None:
    issue(client, 1)
    client.front.clock += 0.9
    assert not asks(client)
    client.front.clock += 0.2
    assert asks(client)


def test_the_end_of_the_work_waits_for_nothing(client: Certifying) -> None:
    issue(client, 1)
    assert not client.journal.settled
    client.journal.hurry()
    client.journal.send(client.pair.client)
    client.take(*client.hear())
    assert client.journal.settled


def test_a_copy_that_has_everything_asks_for_nothing(client: Certifying) -> None:
    client.front.clock += 3600
    assert not asks(client)


def test_one_certificate_costs_few_octets_on_the_line(client: Certifying) -> None:
    """Three entries; the signer leaves out what the session has carried already."""
    issue(client, *range(64))
    client.journal.send(client.pair.client)
    question = client.pair.client.data_to_send()
    client.front.on_event(client.pair.signer, *client.pair.signer.receive(question))
    answer = client.pair.signer.data_to_send()
    client.take(*client.pair.client.receive(answer))
    assert client.journal.settled
    assert (len(question) + len(answer)) / 64 < 150


def test_what_the_signer_writes_by_itself_shows_in_its_timestamps(copying: Copying) -> None:
    copying.open()
    copying.run()
    copying.made.halt()
    stamp = dataclasses.replace(TIMESTAMP, head=copying.made.signed_head())
    copying.turn(TimestampReceived(handle=99, timestamp=stamp))
    copying.clock += 2
    copying.run()
    assert copying.copied == copying.made.logs


def test_a_refusal_is_journaled_and_copied_without_a_head(copying: Copying) -> None:
    copying.open()
    copying.run()
    copying.made.refusal()
    copying.turn(RequestRefused(handle=99, code="no", field="", message="no"))
    copying.run()
    assert copying.copied == copying.made.logs


def test_a_session_without_room_is_not_asked(copying: Copying) -> None:
    copying.open()
    copying.pair.client.limits = Limits(open_requests=0)
    assert copying.ask() is None


def test_nothing_is_asked_before_the_opening(copying: Copying) -> None:
    session = Session(role=Role.CLIENT, version=2)
    copying.copy.send(session)
    assert not session.has_data_to_send
    assert copying.copy.settled


def test_a_signer_that_cannot_answer_now_is_asked_again(copying: Copying) -> None:
    copying.open()
    asked = copying.ask()
    assert asked is not None
    copying.say_not_now(asked)
    copying.clock += 8
    assert copying.ask() is None
    copying.clock += 2
    copying.run()
    assert copying.copied == copying.made.logs


def test_a_long_journal_is_fetched_in_several_answers(copying: Copying) -> None:
    for _ in range(5):
        copying.made.issue()
    copying.at_once = 4
    copying.open()
    copying.run()
    assert copying.asked == [1, 5, 9, 13, 17]
    assert copying.copied == copying.made.logs
    # The next session has nothing to do.
    copying.open()
    copying.run()
    assert copying.asked == [1, 5, 9, 13, 17]


def test_what_was_left_open_is_proven_later(copying: Copying) -> None:
    """The line was lost in the middle of the journal: those entries agree with no head yet."""
    for _ in range(5):
        copying.made.issue()
    copying.open()
    asked = copying.ask()
    assert asked is not None
    copying.answer(asked, copying.made.logs[:7])
    assert copying.store.journal_copies.state(1).proof is None
    copying.open()
    copying.run()
    proof = copying.store.journal_copies.state(1).proof
    assert proof is not None
    assert proof.size == copying.made.size


def test_a_head_that_the_copy_has_come_to_proves_it(copying: Copying) -> None:
    copying.made.issue()
    copying.open(copying.made.signed_head())
    asked = copying.ask()
    assert asked is not None
    copying.made.issue()
    copying.answer(asked, copying.made.logs[:6])
    state = copying.store.journal_copies.state(1)
    assert state.proof is not None
    assert (state.proof.size, state.link.size) == (6, 6)


def test_a_copy_without_its_proof_gets_it_from_the_next_head(copying: Copying, store: Store) -> None:
    copying.open()
    copying.run()
    before = store.journal_copies.state(1)
    copying.made.issue()
    other = Copying(store, copying.made)
    other.open()
    asked = other.ask()
    assert asked is not None
    # Every entry, and a head that goes further: this client never hears of one that ends here.
    other.made.issue()
    other.answer(asked, other.made.logs[3:6])
    del other.made.logs[6:]
    other.copy._expected.clear()
    state = store.journal_copies.state(1)
    assert before.proof is not None
    assert state.proof is not None
    copying.open(other.made.signed_head())
    proof = store.journal_copies.state(1).proof
    assert proof is not None
    assert proof.size == 6


def test_of_many_heads_some_are_compared(copying: Copying) -> None:
    """A copy that is far behind hears of more heads than it need remember."""
    copying.open()
    for _ in range(100):
        copying.made.refusal()
        stamp = dataclasses.replace(TIMESTAMP, head=copying.made.signed_head())
        copying.turn(TimestampReceived(handle=99, timestamp=stamp))
    assert len(copying.copy._expected) == 64
    copying.run()
    assert copying.copied == copying.made.logs
    assert copying.copy._expected == {}


# Two clients of one store.


def test_of_two_clients_the_slower_goes_on_where_the_other_is(copying: Copying, store: Store) -> None:
    other = Copying(store, copying.made)
    copying.open()
    other.open()
    asked, also = copying.ask(), other.ask()
    assert asked is not None
    assert also is not None
    copying.answer(asked, copying.made.logs)
    other.answer(also, copying.made.logs)
    assert other.copied == copying.made.logs
    copying.made.issue()
    for each in (copying, other):
        each.turn(
            TimestampReceived(handle=99, timestamp=dataclasses.replace(TIMESTAMP, head=copying.made.signed_head()))
        )
    copying.run()
    other.run()
    # The second found in the store what it was about to ask for.
    assert (copying.asked, other.asked) == ([4], [])
    assert not copying.copy.alarm
    assert not other.copy.alarm


# Whom it believes.


def test_the_newest_head_is_presented(copying: Copying) -> None:
    copying.open()
    assert copying.presented is None
    copying.run()
    copying.open()
    assert copying.presented == copying.made.signed_head()


def test_the_head_of_another_signer_is_not_presented(copying: Copying, store: Store) -> None:
    other = JournalMaker(signer_id=2)
    other.journal_key = journal_key(2)
    other.begin()
    stranger = Copying(store, other, pinned=[ed25519.public_octets(journal_key(2))])
    stranger.open()
    stranger.run()
    copying.open()
    assert copying.presented is None
    copying.run()
    copying.open()
    assert copying.presented == copying.made.signed_head()


def test_new_certificates_wait_until_the_copy_is_there(copying: Copying) -> None:
    seen = [(copying.copy.trusted, copying.copy.may_issue)]
    for step in (copying.open, copying.run):
        step()
        seen.append((copying.copy.trusted, copying.copy.may_issue))
    assert seen == [(False, False), (True, False), (True, True)]


def test_a_copy_that_is_far_behind_stops_nobody(copying: Copying, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MAXIMUM_ENTRIES", 2)
    copying.open()
    assert copying.copy.may_issue
    copying.run()
    assert copying.copied == copying.made.logs


def test_a_signer_that_shows_no_head_is_asked_for_one(copying: Copying) -> None:
    """It replays its journal, and has none to give."""
    copying.open(shows=False)
    assert not copying.copy.trusted
    asked = copying.ask()
    assert asked is not None
    copying.say_not_now(asked)
    waiting = copying.copy.may_issue
    copying.clock += 10
    copying.run()
    assert (waiting, copying.copy.may_issue) == (False, True)
    assert copying.copied == copying.made.logs


@pytest.mark.parametrize("at_once", [1, 1000])
def test_a_new_key_is_believed_when_the_old_one_vouches_for_it(copying: Copying, at_once: int) -> None:
    copying.open()
    copying.run()
    copying.made.issue()
    copying.made.key(journal_key(2))
    copying.made.issue()
    copying.at_once = at_once
    copying.open()
    assert not copying.copy.trusted
    copying.run()
    assert copying.copy.may_issue
    assert copying.copied == copying.made.logs
    # In mid-session, too; and the head that brings it may come before the entries do.
    copying.made.key(journal_key(3))
    copying.made.issue()
    stamp = dataclasses.replace(TIMESTAMP, head=copying.made.signed_head())
    copying.turn(TimestampReceived(handle=99, timestamp=stamp))
    copying.run()
    assert copying.copied == copying.made.logs
    assert not copying.copy.alarm
    copying.open()
    assert copying.presented == copying.made.signed_head()


def test_a_rebuilt_signer_is_believed_when_its_key_is_pinned(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """It was made from this copy, and what had not been copied is lost."""
    made = begun()
    copying = Copying(store, made)
    copying.open()
    copying.run()
    made.issue()
    ahead = dataclasses.replace(TIMESTAMP, head=made.signed_head())
    copying.turn(TimestampReceived(handle=99, timestamp=ahead))
    del made.logs[3:]
    made.new_epoch(journal_key(4), head=made.signed_head())
    for pinned in (PINNED,), (PINNED, ed25519.public_octets(journal_key(4))):
        copying = Copying(store, made, pinned=pinned)
        copying.open()
        copying.run()
        assert bool(copying.copy.alarm) is (len(pinned) == 1)
    assert copying.copied == made.logs
    assert "the signer was made anew, epoch 2 has begun" in caplog.text
    made.issue()
    made.issue()
    copying.open()
    copying.run()
    assert copying.copied == made.logs


def test_events_of_others_are_left_to_them(copying: Copying) -> None:
    copying.open()
    assert copying.ask() is not None
    assert not copying.copy.receive(RequestRefused(handle=99, code="no", field="", message="no"))
    assert not copying.copy.receive(EntriesReceived(handle=99, first=1, logs=(), head=copying.made.signed_head()))


def test_an_answer_of_another_kind_breaks_the_protocol(copying: Copying) -> None:
    copying.open()
    asked = copying.ask()
    assert asked is not None
    with pytest.raises(PeerError, match="CertificateIssued is no answer to a wish for entries"):
        copying.copy.receive(CertificateIssued(handle=asked.handle, signing_ca=PROFILE))
