"""A signer whose journal is not the one that was copied gets nothing more to sign, and the operators hear of it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.client import OWNER, Certifying, find, submit
from tests.support.conversations import TIMESTAMP
from tests.support.copying import Copying, begun
from tests.support.journal_maker import JournalMaker, journal_key
from tests.support.signer import Front
from tests.support.store import NOW, request_id

from cassiopeia.core import structure
from cassiopeia.errors import PeerError, Refused
from cassiopeia.journal import entry as entries
from cassiopeia.journal.entry import Log
from cassiopeia.protocol.events import CertificateIssued, LogReceived, RequestAbandoned, TimestampReceived
from cassiopeia.store.database import Store


@pytest.fixture
def copying(store: Store) -> Copying:
    """A copy with nine entries, three certificates among them."""
    made = begun()
    made.issue()
    made.issue()
    copying = Copying(store, made)
    copying.open()
    copying.run()
    assert copying.size == 9
    return copying


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


def another(size: int) -> JournalMaker:
    """Another life of the same signer, as long as that."""
    made = begun()
    while made.size < size:
        made.refusal()
    return made


def hear(copying: Copying, head: bytes) -> None:
    copying.turn(TimestampReceived(handle=99, timestamp=dataclasses.replace(TIMESTAMP, head=head)))


def check_alarm(copying: Copying, reason: str, caplog: pytest.LogCaptureFixture, *, kept: int = 9) -> None:
    """Nothing goes on but revocations and CRLs; an ERROR says what to do; what was copied stays."""
    assert reason in copying.copy.alarm
    assert not copying.copy.trusted
    assert not copying.copy.may_issue
    assert copying.copy.settled
    assert copying.ask() is None
    assert reason in copying.copy.summary()["alarm"]
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR and reason in each.message]
    assert "what to do stands in docs/runbook.md" in record.message
    assert copying.size == kept


# At the opening.


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (lambda made: made.signed_head(5), "its journal has 5 entries (epoch 1), and had 9 (epoch 1)"),
        (lambda _: another(9).signed_head(), "its signed head over 9 entries is that of another journal"),
        (lambda made: made.signed_head(signer_id=2), "it is of signer 2"),
        (lambda made: made.signed_head(epoch=2), "its journal has 9 entries, and 9 of them were copied before"),
    ],
)
def test_a_signer_that_has_lost_its_past_gets_no_work(
    copying: Copying, caplog: pytest.LogCaptureFixture, head: Callable[[JournalMaker], bytes], reason: str
) -> None:
    copying.open(head(copying.made))
    check_alarm(copying, reason, caplog)


def test_a_signer_that_has_less_than_it_said_gets_no_work(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    """Its newest head was seen, and what it covers was never copied: only that head can tell."""
    copying.made.issue()
    hear(copying, copying.made.signed_head())
    copying.open(copying.made.signed_head(10))
    check_alarm(copying, "its journal has 10 entries (epoch 1), and had 12 (epoch 1)", caplog)


def test_an_older_signer_of_a_later_epoch_gets_no_work(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    """As when it was made anew from an older copy than this one."""
    del copying.made.logs[6:]
    copying.made.new_epoch()
    copying.open()
    check_alarm(copying, "its journal has 7 entries, and 9 of them were copied before", caplog)


def test_the_next_session_may_be_better(copying: Copying) -> None:
    copying.open(copying.made.signed_head(5))
    alarm = copying.copy.alarm
    copying.open()
    assert alarm
    assert copying.copy.may_issue


def test_a_head_with_an_unknown_key_is_not_believed(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    made = begun()
    made.journal_key = journal_key(2)
    copying = Copying(store, made)
    copying.open()
    assert not copying.copy.trusted
    copying.run()
    check_alarm(copying, "is signed with a journal key that is not known here", caplog, kept=0)
    assert copying.copied == []


def test_a_head_with_an_unknown_key_over_what_was_copied_is_not_believed(
    copying: Copying, caplog: pytest.LogCaptureFixture
) -> None:
    copying.made.journal_key = journal_key(2)
    copying.open()
    check_alarm(copying, "its head over 9 entries is signed with a journal key that is not known", caplog)


def test_a_key_that_another_one_followed_counts_no_more(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    copying.made.key(journal_key(2))
    copying.open()
    copying.run()
    copying.made.journal_key = journal_key(1)
    copying.open()
    check_alarm(copying, "is signed with a journal key that is not known", caplog, kept=10)


# While entries are fetched.


def test_a_longer_journal_that_begins_otherwise_is_not_copied(
    copying: Copying, caplog: pytest.LogCaptureFixture
) -> None:
    """The signer was restored from an old disk, and has worked since."""
    before = copying.copied
    copying.made = another(20)
    copying.open()
    assert copying.copy.trusted
    assert not copying.copy.may_issue
    copying.run()
    check_alarm(copying, "its signed head over 20 entries is that of another journal", caplog)
    assert copying.copied == before


def test_what_was_copied_of_another_journal_is_dropped(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    """It took several answers until there was a head to compare with."""
    before = copying.copied
    copying.made, copying.at_once = another(20), 4
    copying.open()
    copying.run()
    check_alarm(copying, "its signed head over 20 entries is that of another journal", caplog)
    assert copying.asked[-3:] == [10, 14, 18]
    assert copying.copied == before
    assert "8 entries that no signed head has confirmed were dropped from the copy" in caplog.text


def test_the_newest_head_of_another_session_holds_too(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    copying.made.issue()
    hear(copying, copying.made.signed_head())
    del copying.made.logs[9:]
    for _ in range(9):
        copying.made.refusal()
    copying.open()
    copying.run()
    check_alarm(copying, "its signed head over 12 entries is that of another journal", caplog)


def test_another_head_over_as_many_entries_is_another_journals(
    copying: Copying, caplog: pytest.LogCaptureFixture
) -> None:
    copying.made.issue()
    hear(copying, copying.made.signed_head())
    hear(copying, another(12).signed_head())
    check_alarm(copying, "its signed head over 12 entries is that of another journal", caplog)


@pytest.mark.parametrize(
    ("tell", "reason"),
    [
        (lambda each, asked: each.answer(asked, each.made.logs, first=1), "its journal ends before"),
        (lambda each, asked: each.answer(asked, []), "0 entries came up to here, with a head over 12"),
        (
            lambda each, asked: each.answer(asked, each.made.logs[9:], head=each.made.signed_head(11)),
            "entry 12: 3 entries came up to here, with a head over 11",
        ),
        (lambda each, asked: each.answer(asked, each.made.logs[10:]), "entry 10: this entry says that it is entry 11"),
        (
            lambda each, asked: each.answer(
                asked, [dataclasses.replace(each.made.logs[9], parts=(b"x",)), *each.made.logs[10:]]
            ),
            "entry 10: a part of entry 10 is not the one that the entry names",
        ),
    ],
)
def test_entries_that_cannot_be_right_are_not_copied(
    copying: Copying,
    caplog: pytest.LogCaptureFixture,
    tell: Callable[[Copying, object], None],
    reason: str,
) -> None:
    copying.made.issue()
    copying.open()
    tell(copying, copying.ask())
    check_alarm(copying, reason, caplog)


def test_a_signer_that_keeps_its_journal_to_itself_gets_no_work(
    copying: Copying, caplog: pytest.LogCaptureFixture
) -> None:
    copying.made.issue()
    copying.open()
    asked = copying.ask()
    assert asked is not None
    copying.pair.signer.send_refused(asked.handle, Refused("not for you", code="no"))
    copying.turn(*copying.pair.to_client())
    check_alarm(copying, "it does not hand out its journal: not for you", caplog)


def test_a_head_of_another_signer_raises_the_alarm(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    copying.made.issue()
    hear(copying, copying.made.signed_head(signer_id=2))
    check_alarm(copying, "it is of signer 2", caplog)


def test_what_another_client_copied_is_compared_too(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    """The signer tells the two clients of one store different things."""
    other = Copying(copying.store, another(9))
    other.made.logs = [*copying.made.logs]
    other.open()
    for _ in range(3):
        copying.made.refusal()
        other.made.issue()
    del other.made.logs[12:]
    hear(other, other.made.signed_head())
    other.run()
    hear(copying, copying.made.signed_head())
    copying.run()
    check_alarm(copying, "its signed head over 12 entries is that of another journal", caplog, kept=12)
    assert not other.copy.alarm


def test_an_answer_behind_the_alarm_is_not_taken(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    copying.made.issue()
    copying.open()
    asked = copying.ask()
    assert asked is not None
    copying.made.issue()
    hear(copying, copying.made.signed_head())
    hear(copying, another(15).signed_head())
    copying.answer(asked, copying.made.logs[9:])
    check_alarm(copying, "is that of another journal", caplog)


def test_an_entry_that_was_never_sent_may_not_be_left_out(copying: Copying) -> None:
    """That costs the session; the next one shares no past, and gets everything."""
    copying.made.issue()
    copying.open()
    asked = copying.ask()
    assert asked is not None
    with pytest.raises(PeerError, match="leaves out entry 10, which is not known here"):
        copying.answer(asked, [Log(entry=b"", parts=(b"",))])


# Logs.


def intent(made: JournalMaker, **changes: object) -> tuple[entries.JournalEntry, Log]:
    """The next intent of this journal, as `setLog` brings it."""
    index = made.intent()
    log = made.logs[index - 1]
    entry = dataclasses.replace(entries.decode_entry(log.entry), **changes)  # type: ignore[arg-type] # as the test wants
    return entry, dataclasses.replace(log, entry=structure.encode(entry))


def test_logs_go_on_from_what_is_known(copying: Copying) -> None:
    for _ in range(3):
        copying.copy.saw_log(*intent(copying.made))
    # Sent again in the same session, and one that was copied meanwhile.
    entry = entries.decode_entry(copying.made.logs[10].entry)
    copying.copy.saw_log(entry, copying.made.logs[10])
    copied = entries.decode_entry(copying.made.logs[3].entry)
    copying.copy.saw_log(copied, copying.made.logs[3])
    assert not copying.copy.alarm
    copying.run()
    assert copying.copied == copying.made.logs


def test_a_log_of_another_past_raises_the_alarm(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PeerError):
        copying.copy.saw_log(*intent(copying.made, previous_hash=b"p" * 32))
    check_alarm(copying, "entry 10: it does not follow the entry before it", caplog)


def test_a_log_that_does_not_follow_the_one_before_raises_the_alarm(
    copying: Copying, caplog: pytest.LogCaptureFixture
) -> None:
    copying.copy.saw_log(*intent(copying.made))
    with pytest.raises(PeerError):
        copying.copy.saw_log(*intent(copying.made, previous_hash=b"p" * 32))
    check_alarm(copying, "entry 11: it does not follow the entry before it", caplog)


def test_a_log_that_the_next_does_not_follow_raises_the_alarm(
    copying: Copying, caplog: pytest.LogCaptureFixture
) -> None:
    copying.made.refusal()
    entry, log = intent(copying.made)
    copying.copy.saw_log(*intent(copying.made))
    entry = dataclasses.replace(entry, time=NOW)
    with pytest.raises(PeerError):
        copying.copy.saw_log(entry, dataclasses.replace(log, entry=structure.encode(entry)))
    check_alarm(copying, "entry 11: the entry behind it does not follow it", caplog)


def test_a_log_goes_never_back(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PeerError):
        copying.copy.saw_log(*intent(copying.made, index=4))
    check_alarm(copying, "entry 4: another entry of this index was copied before", caplog)


def test_two_logs_of_one_index_raise_the_alarm(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    copying.copy.saw_log(*intent(copying.made))
    with pytest.raises(PeerError):
        copying.copy.saw_log(*intent(copying.made, index=10))
    check_alarm(copying, "entry 10: another entry of this index was sent before", caplog)


def test_a_log_of_another_signer_raises_the_alarm(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PeerError):
        copying.copy.saw_log(*intent(copying.made, signer_id=2))
    check_alarm(copying, "entry 10: it is of signer 2", caplog)


def test_a_log_that_is_journaled_otherwise_raises_the_alarm(copying: Copying, caplog: pytest.LogCaptureFixture) -> None:
    copying.copy.saw_log(*intent(copying.made))
    copying.made.logs.pop()
    copying.made.refusal()
    copying.run()
    check_alarm(copying, "entry 10: it is not the entry that was sent as a log", caplog)


def test_a_log_that_does_not_follow_what_is_copied_then_raises_the_alarm(
    copying: Copying, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it stands nobody can tell before the entries in between are there."""
    copying.made.refusal()
    entry, log = intent(copying.made, previous_hash=b"p" * 32)
    copying.copy.saw_log(entry, log)
    copying.copy.hurry()
    asked = copying.ask()
    assert asked is not None
    copying.made.logs[-1] = log
    copying.answer(asked, [copying.made.logs[9], Log(entry=b"", parts=(b"",))])
    check_alarm(copying, "entry 11: it does not follow the entry before it", caplog)


# Certificates.


def test_without_a_verified_head_nothing_is_confirmed(client: Certifying) -> None:
    submit(client.store, client.front)
    client.send()
    (log,) = client.hear()
    assert isinstance(log, LogReceived)
    client.journal._verified = None
    client.take(dataclasses.replace(log, head=None))
    assert find(client.store).state == "queued"
    assert not client.pair.client.has_data_to_send


def test_the_alarm_takes_back_what_is_not_confirmed(client: Certifying) -> None:
    for number in (1, 2, 3):
        submit(client.store, client.front, number)
        client.send()
    first, second, third = client.hear()
    client.take(first)
    client.journal._raise_alarm("a test")
    # The second is in hand, the third still on its way.
    client.take(second)
    assert client.issuance.under_way == 3
    answers = client.hear()
    assert [type(each) for each in answers] == [RequestAbandoned, RequestAbandoned, CertificateIssued]
    client.take(third, *answers)
    assert client.issuance.under_way == 0
    # What was confirmed before exists, and is written back.
    assert [find(client.store, number).state for number in (1, 2, 3)] == ["issued", "queued", "queued"]
    for number in (2, 3):
        record = find(client.store, number)
        assert record.tries == 0
        assert "the journal of signer 1 is not the one that this client has copied: a test" in record.last_error
    assert client.store.queue.lease(OWNER, limit=9, lease_s=9, now=NOW) == ()


def test_a_log_that_contradicts_the_copy_costs_nobody_his_request(client: Certifying) -> None:
    submit(client.store, client.front)
    client.send()
    (log,) = client.hear()
    assert isinstance(log, LogReceived)
    decoded = entries.decode_log(log.log)
    entry = dataclasses.replace(entries.decode_entry(decoded.entry), previous_hash=b"p" * 32)
    forged = entries.encode_log(dataclasses.replace(decoded, entry=structure.encode(entry)))
    client.take(dataclasses.replace(log, log=forged))
    record = find(client.store)
    assert (record.state, record.tries) == ("queued", 0)
    assert "it does not follow the entry before it" in record.last_error
    assert client.journal.alarm
    (answer,) = client.hear()
    assert isinstance(answer, RequestAbandoned)
    client.take(answer)
    assert client.issuance.under_way == 0
    assert client.front.journal.index.find_request(request_id(1)) is None
