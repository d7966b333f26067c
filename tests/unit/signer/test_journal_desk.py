"""The journal over the line: heads that clients show, copies of entries, the signer's word on the time."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.conversations import Pair
from tests.support.issuing import assert_failed, certificate_of, kinds, log_of, wanted
from tests.support.journal_copy import JournalCopy
from tests.support.journal_keys import JOURNAL_PUBLIC_KEY
from tests.support.journal_records import OTHER_KEY, record_all, record_start
from tests.support.signer import (
    BOOT_ID,
    JOURNAL_KEY,
    NOW,
    SIGNING_CA,
    Front,
    meaningless_tbs,
    record_intent,
    record_issued,
)

from cassiopeia.core import ed25519, structure
from cassiopeia.core.request import Revocation, RevocationRequest
from cassiopeia.errors import PeerError
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.entry import LOST_PAST
from cassiopeia.journal.head import JournalHead
from cassiopeia.protocol import payload
from cassiopeia.protocol.events import (
    CertificateIssued,
    EntriesReceived,
    LogReceived,
    TimestampReceived,
)
from cassiopeia.signer import journal_desk

HOUR = dt.timedelta(hours=1)
KIB = 1024


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path)
    yield made
    made.journal.close()


def present(front: Front, head: bytes) -> None:
    front.journal_desk.presented(head, now=front.now)
    front.journal.commit()


def own_head(front: Front, **changes: object) -> bytes:
    """A head that this signer's key has signed, whether its journal is like that or not."""
    described = heads.read_head(front.journal.signed_head())
    return heads.sign_head(dataclasses.replace(described, **changes), JOURNAL_KEY)  # type: ignore[arg-type] # any field


# Heads that clients show.


def test_heads_of_this_journal_change_nothing(front: Front) -> None:
    shown = [front.journal.signed_head()]
    for _ in range(70):
        record_start(front.journal)
        front.journal.commit()
        shown.append(front.journal.signed_head())
    for head in shown:
        present(front, head)
    assert set(kinds(front)) == {"start"}
    front.gate.check_issuing()


@pytest.mark.parametrize("more", [1, 1000, 1 << 100])
def test_one_of_more_entries_halts_the_signer(front: Front, more: int) -> None:
    present(front, own_head(front, size=front.journal.size + more))
    assert kinds(front) == ["halt"]
    assert front.journal.index.halts() == {LOST_PAST: 2}
    ((_, _, (part,)),) = front.journal.entries(2, 1)
    reason = entries.decode_part(entries.Reason, part)
    assert reason.message.startswith(f"a client holds a head of {1 + more} entries (epoch 1)")


def test_and_so_does_one_over_other_entries(front: Front) -> None:
    record_start(front.journal)
    front.journal.commit()
    present(front, own_head(front, size=1))  # under the root of two
    assert kinds(front) == ["start", "halt"]


def test_a_halted_signer_issues_nothing_and_gives_out_no_number_twice(front: Front) -> None:
    (serial,) = record_issued(front.journal, 1)
    present(front, own_head(front, size=front.journal.size + 1))
    before = kinds(front)
    pair = front.connect()
    assert_failed(front.ask(pair, wanted()), LOST_PAST)
    # Its CRL might lack revocations that the lost entries made.
    request = RevocationRequest(signing_ca=SIGNING_CA, revocations=(Revocation(serial_number=serial),))
    pair.client.revoke(request)
    front.settle()
    assert_failed(front.answers(pair)[0], LOST_PAST)
    front.revocation.renew(now=front.now)
    front.settle()
    assert kinds(front) == before
    # It does so after a restart as well.
    front.restart()
    assert_failed(front.ask(front.connect(), wanted()), LOST_PAST)


def test_a_halt_is_journaled_once(front: Front) -> None:
    for size in (7, 8, 9):
        present(front, own_head(front, size=size))
    front.restart()
    present(front, own_head(front, size=10))
    assert kinds(front) == ["halt"]


def test_heads_of_others_are_refused_and_halt_nothing(front: Front) -> None:
    described = heads.read_head(own_head(front, size=100))
    foreign = [
        heads.sign_head(described, OTHER_KEY),
        heads.sign_head(dataclasses.replace(described, signer_id=2), JOURNAL_KEY),
        b"no head",
    ]
    for head in foreign:
        with pytest.raises(PeerError):
            present(front, head)
    assert kinds(front) == []


def test_a_head_by_an_earlier_key_is_one_of_ours(front: Front) -> None:
    before = front.journal.signed_head()
    front.journal.record_key(OTHER_KEY, now=NOW)
    front.journal.commit()
    present(front, before)
    assert kinds(front) == ["key"]
    present(front, heads.sign_head(dataclasses.replace(heads.read_head(before), size=3), JOURNAL_KEY))
    assert kinds(front) == ["key", "halt"]


def test_an_old_copy_of_the_disk_is_told_by_the_head_that_the_client_holds(front: Front) -> None:
    """Its chain is whole; nothing in it says that there was more."""
    path = front.directory / "journal.sqlite"
    record_start(front.journal)
    front.journal.commit()
    front.journal.close()
    old = path.read_bytes()
    front.restart()
    certificate_of(front, front.connect())
    head = front.journal.signed_head()
    front.journal.close()
    path.write_bytes(old)
    front.restart()
    assert kinds(front) == ["start"]
    front.gate.check_issuing()

    present(front, head)

    assert kinds(front) == ["start", "halt"]
    assert_failed(front.ask(front.connect(), wanted()), LOST_PAST)


def test_what_an_epoch_is_known_to_have_lost_is_no_news(front: Front) -> None:
    before = heads.read_head(front.journal.signed_head())
    lost = heads.sign_head(dataclasses.replace(before, size=3), JOURNAL_KEY)
    beyond = heads.sign_head(dataclasses.replace(before, size=4), JOURNAL_KEY)
    present(front, lost)
    assert kinds(front) == ["halt"]
    # Made again from a copy of so many entries, which came with that head.
    front.journal.record_epoch(head=lost, now=NOW)
    front.journal.commit()
    front.restart()
    front.gate.check_issuing()
    present(front, lost)
    assert kinds(front) == ["halt", "epoch"]
    present(front, beyond)
    assert kinds(front) == ["halt", "epoch", "halt"]


# Heads that clients are given.


def test_a_session_gets_each_head_once(front: Front) -> None:
    first, second = front.connect().signer, front.connect().signer
    head = front.journal.signed_head()
    assert [front.journal_desk.newest_head(first) for _ in range(3)] == [head, None, None]
    assert front.journal_desk.newest_head(second) == head
    record_start(front.journal)
    assert front.journal_desk.newest_head(first) is None  # not on the disk yet
    front.journal.commit()
    assert front.journal_desk.newest_head(first) == front.journal.signed_head() != head
    front.journal_desk.forget(first)
    assert front.journal_desk.newest_head(first) == front.journal.signed_head()


def test_version_1_knows_no_heads(front: Front) -> None:
    assert front.journal_desk.newest_head(front.connect(1).signer) is None


def test_logs_and_certificates_carry_a_head_that_covers_them(front: Front) -> None:
    pair = front.connect()
    logs = []
    for number in range(3):
        pair.client.submit(wanted(request_id=bytes([number]) * 32))
    front.settle()
    for answer in front.answers(pair):
        assert isinstance(answer, LogReceived)
        logs.append(answer)
    # One commit, one head, with the first of them.
    assert [each.head is None for each in logs] == [False, True, True]
    assert heads.verify_head(logs[0].head or b"", [JOURNAL_PUBLIC_KEY]).size == 4
    issued = front.confirm(pair, logs[0].handle)
    assert isinstance(issued, CertificateIssued)
    assert heads.verify_head(issued.head or b"", [JOURNAL_PUBLIC_KEY]).size == issued.index == 6


# Copies of entries.


def get(front: Front, pair: Pair, first: int, at_most: int) -> EntriesReceived:
    pair.client.get_entries(first, at_most)
    front.settle()
    (answer,) = front.answers(pair)
    assert isinstance(answer, EntriesReceived)
    return answer


def get_all(front: Front, pair: Pair, copy: JournalCopy, at_most: int = 1000) -> JournalHead:
    while True:
        head = copy.take(get(front, pair, len(copy.entries) + 1, at_most))
        if head.size == len(copy.entries):
            return head


@pytest.mark.parametrize("at_most", [1, 2, 7, 1000])
def test_a_client_makes_every_entry_again_and_reaches_the_signed_root(front: Front, at_most: int) -> None:
    for number in range(10, 20):
        record_intent(front.journal, number)
    record_issued(front.journal, 30)
    copy = JournalCopy()
    head = get_all(front, front.connect(), copy, at_most)
    assert head.root_hash == copy.root()
    assert [(octets, parts) for _, octets, parts in front.journal.entries(1, 100)] == list(
        zip(copy.entries, copy.parts, strict=True)
    )
    assert len(copy.sizes) == -(-len(copy.entries) // at_most)


def test_every_kind_of_entry_is_copied(front: Front) -> None:
    record_all(front.journal)
    pair, copy = front.connect(), JournalCopy()
    answer = get(front, pair, 1, 100)
    head = heads.verify_head(answer.head, [ed25519.public_octets(OTHER_KEY)])
    copy.take(dataclasses.replace(answer, head=heads.sign_head(head, JOURNAL_KEY)))
    assert (head.size, head.root_hash) == (len(copy.entries), copy.root())


@pytest.mark.parametrize(
    ("first", "at_most", "expected"),
    [
        (1, 3, (1, 3)),
        (0, 3, (1, 3)),
        (4, 3, (4, 3)),
        (10, 1000, (10, 1)),
        (11, 1000, (11, 0)),
        (12, 1000, (11, 0)),
        ((1 << 168) - 1, 5, (11, 0)),
        (1, 0, (1, 0)),
        (4, 0, (4, 0)),
        (1, (1 << 168) - 1, (1, 10)),
        (9, (1 << 168) - 1, (9, 2)),
        ((1 << 168) - 1, (1 << 168) - 1, (11, 0)),
    ],
)
def test_a_client_may_wish_for_anything(front: Front, first: int, at_most: int, expected: tuple[int, int]) -> None:
    for _ in range(9):
        record_start(front.journal)
    front.journal.commit()
    answer = get(front, front.connect(), first, at_most)
    assert (answer.first, len(answer.logs)) == expected
    assert heads.verify_head(answer.head, [JOURNAL_PUBLIC_KEY]).size == 10


def test_no_message_holds_more_entries_than_it_may(front: Front) -> None:
    for _ in range(payload.MAXIMUM_ENTRIES + 500):
        record_start(front.journal)
    front.journal.commit()
    pair, copy = front.connect(), JournalCopy()
    copy.take(get(front, pair, 1, payload.MAXIMUM_ENTRIES + 200))
    assert (len(copy.entries), copy.sizes[0] < 128 * KIB) == (payload.MAXIMUM_ENTRIES, True)
    assert get_all(front, pair, copy, payload.MAXIMUM_ENTRIES + 200).root_hash == copy.root()


def test_a_message_is_bounded_in_octets_but_for_one_large_entry(front: Front) -> None:
    for number, size in enumerate([30, 60, 200, 30, 127, 2, 40, 40, 40, 40]):
        record_intent(front.journal, number, tbs_certificate=meaningless_tbs(number, size=size * KIB))
    front.journal.commit()
    pair, copy = front.connect(), JournalCopy()
    assert get_all(front, pair, copy).root_hash == copy.root()
    assert [size // KIB for size in copy.sizes] == [90, 200, 30, 127, 123, 40]


def test_what_waits_for_the_disk_is_not_copied(front: Front) -> None:
    record_start(front.journal)
    front.journal.commit()
    record_start(front.journal)
    pair, copy = front.connect(), JournalCopy()
    pair.client.get_entries(1, 100)
    front.carry()
    head = copy.take(front.answers(pair)[0])
    assert (len(copy.entries), head.size) == (2, 2)


def test_parts_that_were_removed_stay_out(front: Front) -> None:
    record_issued(front.journal, 1)
    front.journal.remove_parts(before=NOW + HOUR, now=NOW + HOUR)
    front.journal.commit()
    copy = JournalCopy()
    head = get_all(front, front.connect(), copy)
    assert head.root_hash == copy.root()
    assert copy.parts[1:4] == [(b"",), (), (b"s",)]


# What the client has already.


def test_what_went_over_the_line_in_this_session_is_left_out(front: Front) -> None:
    pair, copy = front.connect(), JournalCopy()
    log = copy.note(log_of(front, pair))
    issued = front.confirm(pair, log.handle)
    assert isinstance(issued, CertificateIssued)
    not_confirmed = log_of(front, pair, wanted(request_id=b"n" * 32))

    head = get_all(front, pair, copy)

    assert head.root_hash == copy.root()
    assert copy.withheld == [2]
    kept = [bool(parts[0]) if parts else None for parts in copy.parts]
    # key, intent (known), confirmation, result (its signature is known), intent that nobody has confirmed
    assert kept == [None, False, None, False, True]
    assert entries.decode_log(not_confirmed.log).parts == copy.parts[4]


def test_it_is_forgotten_once_it_was_left_out(front: Front) -> None:
    """Whoever asks again has lost it."""
    pair, copy = front.connect(), JournalCopy()
    log = copy.note(log_of(front, pair))
    front.confirm(pair, log.handle)
    get_all(front, pair, copy)
    again = JournalCopy()
    assert get_all(front, pair, again).root_hash == again.root()
    assert (again.withheld, [parts for parts in again.parts if b"" in parts]) == ([], [])


def test_another_session_gets_all_of_it(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    front.confirm(pair, log.handle)
    copy = JournalCopy()
    get_all(front, front.connect(), copy)
    assert (copy.withheld, [parts for parts in copy.parts if b"" in parts]) == ([], [])


def test_what_comes_with_a_later_message_is_still_left_out(front: Front) -> None:
    pair, copy = front.connect(), JournalCopy()
    for number in range(3):
        log = copy.note(log_of(front, pair, wanted(request_id=bytes([number]) * 32)))
        front.confirm(pair, log.handle)
    # Entries 2, 5 and 8 are intents; each message takes what it can.
    for at_most in (2, 1, 3):
        copy.take(get(front, pair, len(copy.entries) + 1, at_most))
    assert copy.withheld == [2, 5]
    get_all(front, pair, copy)
    assert copy.withheld == [2, 5, 8]
    assert [parts for parts in copy.parts if parts] == [(b"",)] * 6


def test_what_did_not_fit_is_still_left_out(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_desk, "_COPIED_OCTETS", 150)
    pair, copy = front.connect(), JournalCopy()
    for number in range(3):
        log = copy.note(log_of(front, pair, wanted(request_id=bytes([number]) * 32)))
        front.confirm(pair, log.handle)
    assert get_all(front, pair, copy).root_hash == copy.root()
    assert len(copy.sizes) > 3
    assert copy.withheld == [2, 5, 8]


def test_what_a_client_passes_over_is_forgotten(front: Front) -> None:
    pair, copy = front.connect(), JournalCopy()
    log = copy.note(log_of(front, pair))
    front.confirm(pair, log.handle)
    get(front, pair, 1 << 40, 10)
    get_all(front, pair, copy)
    assert copy.withheld == []


def test_a_client_that_never_asks_is_not_remembered_for_ever(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_desk, "_REMEMBERED", 2)
    pair, copy = front.connect(), JournalCopy()
    for number in range(3):
        log = copy.note(log_of(front, pair, wanted(request_id=bytes([number]) * 32)))
        front.confirm(pair, log.handle)
    assert get_all(front, pair, copy).root_hash == copy.root()
    assert copy.withheld == [8]


def test_version_1_is_not_remembered_at_all(front: Front) -> None:
    pair = front.connect(1)
    log = log_of(front, pair, wanted(request_id=b""))
    assert isinstance(front.confirm(pair, log.handle), CertificateIssued)
    assert front.journal_desk._sessions == {}


def test_a_session_that_has_ended_is_forgotten(front: Front) -> None:
    pair = front.connect()
    certificate_of(front, pair)
    assert len(front.journal_desk._sessions) == 1
    front.vanish(pair)
    front.journal_desk.forget(pair.signer)
    assert front.journal_desk._sessions == {}


# The signer's word on the time.


def test_the_time_is_signed_with_the_journals_key(front: Front) -> None:
    front.clock = 61.9
    pair = front.connect()
    record_start(front.journal)
    pair.client.get_timestamp()
    front.carry()
    assert front.answers(pair) == []
    front.journal.commit()
    (answer,) = front.answers(pair)
    assert isinstance(answer, TimestampReceived)
    word = answer.timestamp
    assert word is not None
    assert (word.time, word.signer_id, word.boot_id, word.boot_seconds) == (NOW, 1, BOOT_ID, 61)
    assert word.head == front.journal.signed_head()
    unsigned = structure.encode(dataclasses.replace(word, signature=None))
    ed25519.verify(JOURNAL_PUBLIC_KEY, word.signature or b"", heads.TIMESTAMP_TAG + unsigned)


def test_a_nonce_holds_for_five_minutes_and_once_more(front: Front) -> None:
    pair = front.connect()
    words = []
    for seconds in (0, 299, 300, 600, 1300):
        front.clock = seconds
        pair.client.get_timestamp()
        front.settle()
        (answer,) = front.answers(pair)
        assert isinstance(answer, TimestampReceived)
        assert answer.timestamp is not None
        assert len(answer.timestamp.nonce) == 16
        words.append(answer.timestamp.nonce)
        assert front.nonces.valid[0] == words[-1]
        # The one before still holds, unless it ran out while nobody asked.
        assert front.nonces.valid[1:] == ((words[-2],) if seconds in (300, 600) and words[-2] != words[-1] else ())
    assert len(set(words)) == 4
    assert words[0] == words[1]


def test_version_1_is_told_the_time_in_words(front: Front) -> None:
    pair = front.connect(1)
    pair.client.get_timestamp()
    front.settle()
    (answer,) = front.answers(pair)
    assert isinstance(answer, TimestampReceived)
    assert (answer.text, answer.timestamp) == (f"{NOW:%Y-%m-%dT%H:%M:%SZ}", None)


def test_whoever_has_gone_is_not_told(front: Front) -> None:
    pair = front.connect()
    pair.client.get_timestamp()
    front.carry()
    front.vanish(pair)
    front.journal.commit()
    assert pair.signer.data_to_send() == b""
