"""The client's copy of the signer's journal: what the signer cannot take back, kept where the signer cannot reach.

Signed heads come with many answers; each session's heads are compared with those of all sessions before, and the
entries behind them are fetched in batches and chained to those that the copy has. A signer whose journal is not the one
that was copied (an old disk, a lost write, another signer) raises the alarm: it gets no new certificates to sign and no
log confirmed; revocations are still offered to it. Owns what it takes to tell; `store.journal_copies` keeps the
entries, `journal.chain` judges them, `journal_share` knows what need not travel twice.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from cassiopeia.client import patience
from cassiopeia.client.journal_share import SessionShare
from cassiopeia.core import der
from cassiopeia.errors import Inconsistent, InternalError, PeerError, SignatureInvalid
from cassiopeia.journal import head as heads
from cassiopeia.journal.chain import Chain, Link, no_entries
from cassiopeia.journal.entry import JournalEntry, Log
from cassiopeia.journal.head import JournalHead
from cassiopeia.protocol import payload
from cassiopeia.protocol.events import (
    CertificateIssued,
    EntriesReceived,
    Event,
    FullCrlReceived,
    LogReceived,
    RequestAbandoned,
    RequestFailed,
    RequestRefused,
    RevocationAnswered,
    TimestampReceived,
)
from cassiopeia.protocol.session import Session
from cassiopeia.steps import step
from cassiopeia.store.database import Store
from cassiopeia.store.journal_copies import CopyState, SeenHead

_log = logging.getLogger(__name__)

_BATCH_ENTRIES = 64
_IDLE_S = 1.0
_EXPECTED_HEADS = 64
_OTHER_JOURNAL = "its signed head over {} entries is that of another journal"
_UNKNOWN_KEY = "its head over {} entries is signed with a journal key that is not known here"


class JournalCopy:
    """The copy of one signer's journal, in one session after the other; `pinned` are the keys of client.toml."""

    def __init__(self, *, store: Store, pinned: Collection[bytes], clock: Callable[[], float] = time.monotonic) -> None:
        self._copies = store.journal_copies
        self._pinned = pinned
        self._clock = clock
        self._before: dict[int, CopyState] = {}
        self.line_lost()

    def line_lost(self) -> None:
        """Forget the session."""
        self.alarm = self._reason = ""
        self._signer_id = 0
        self._link: Link = no_entries(0)
        self._seen: SeenHead | None = None
        self._head_unsaved = False
        # Heads of this session: the newest that nobody has looked at, that has a key unknown so far, that verified.
        self._heard: tuple[JournalHead, bytes] | None = None
        self._unbelieved: tuple[JournalHead, bytes] | None = None
        self._verified: JournalHead | None = None
        # Roots of heads that are ahead of the copy, by size.
        self._expected: dict[int, tuple[SeenHead, bytes]] = {}
        # A head that is exactly where the copy is, while the store does not know that.
        self._agreed: SeenHead | None = None
        self._proven = 0
        self._goal = 0
        self._known = 0
        self._stirred = False
        self._hurried = False
        self._handle: int | None = None
        self._asked = 0
        self._received: EntriesReceived | None = None
        self._not_before = 0.0
        self._last_news = self._clock()
        self._share = SessionShare()

    # What the others ask.

    @property
    def trusted(self) -> bool:
        """Whether a head of this session verified and nothing speaks against it: else no log is confirmed."""
        return self._verified is not None and not self.alarm

    @property
    def may_issue(self) -> bool:
        """Whether the signer may be given new certificates to sign.

        What the opening's head is ahead of the copy is fetched first, if one message holds it: then nobody works with a
        signer that has lost its past. A copy that is far behind must not stop the authority for hours.
        """
        return self.trusted and self._link.size >= self._goal

    @property
    def settled(self) -> bool:
        """Whether there is nothing to fetch that is known of."""
        return bool(self.alarm) or (self._handle is None and not self._waiting and not self._stirred)

    @property
    def unsaved_head(self) -> SeenHead | None:
        """The newest verified head, while the store does not have it: a transaction that is due anyway may take it."""
        return self._seen if self._head_unsaved else None

    def head_saved(self) -> None:
        self._head_unsaved = False

    def summary(self) -> dict[str, Any]:
        """How the copy fares, for `cassiopeia status`."""
        return {"entries": max(self._known, self._link.size), "copied": self._link.size, "alarm": self._reason}

    # The opening.

    def present_head(self) -> bytes | None:
        """The newest head that is known of this client's signer, for the hello."""
        states = self._copies.states()
        self._before = {each.link.signer_id: each for each in states}
        for state in states:
            if state.head is None:
                continue
            try:
                heads.verify_head(state.head.octets, state.link.head_keys(self._pinned))
            except SignatureInvalid:
                continue  # that of another signer
            return state.head.octets
        return None

    def opened(self, signer_id: int, octets: bytes | None) -> None:
        """Take the signer's hello. Its head came after ours had been sent: what is known since then does not count."""
        state = self._before.get(signer_id) or CopyState(link=no_entries(signer_id), head=None, proof=None)
        self.alarm = self._reason = ""
        self._signer_id, self._link, self._seen = signer_id, state.link, state.head
        self._known = state.link.size
        self._proven = state.proof.size if state.proof is not None else 0
        if octets is None:
            return
        head = heads.read_head(octets)
        seen = state.head
        if seen is not None and (head.epoch, head.size) < (seen.epoch, seen.size):
            self._raise_alarm(
                f"its journal has {head.size} entries (epoch {head.epoch}), and had {seen.size} (epoch {seen.epoch})"
            )
        elif head.size < state.link.size or (head.epoch > state.link.epoch and head.size == state.link.size):
            self._raise_alarm(f"its journal has {head.size} entries, and {state.link.size} of them were copied before")
        elif seen is not None and (head.epoch, head.size) == (seen.epoch, seen.size):
            self._check_root(head.root_hash, heads.read_head(seen.octets).root_hash, head.size)
        if seen is not None and seen.size > state.link.size:
            self._expect(seen, heads.read_head(seen.octets).root_hash)
        if head.size - state.link.size <= payload.MAXIMUM_ENTRIES:
            self._goal = head.size
        self._hear(octets)

    # Events.

    def receive(self, event: Event) -> bool:
        """Take an event of the session; False when others want it too."""
        if self._handle is not None and getattr(event, "handle", None) == self._handle:
            self._handle = None
            self._answered(event)
            return True
        match event:
            case LogReceived(head=octets):
                self._news(octets)
            case CertificateIssued(index=index, signature=signature, head=octets):
                self._news(octets, index)
                if index is not None and signature is not None and index > self._link.size:
                    self._share.add_signature(index, signature)
            case RequestAbandoned(index=index, head=octets):
                self._news(octets, index)
            case RevocationAnswered(answer=answer):
                self._note_crl_signature(answer.signature)
            case FullCrlReceived(der=octets):
                self._note_crl(octets)
            case TimestampReceived(timestamp=timestamp) if timestamp is not None:
                # What the signer writes by itself nobody hears of otherwise.
                self._hear(timestamp.head)
            case RequestRefused():
                self._stirred = True
                self._news()
        return False

    def _answered(self, event: Event) -> None:
        match event:
            case EntriesReceived():
                self._received = event
                self._hear(event.head)
            case RequestFailed(retry_after_s=retry_after_s, message=message):
                _log.debug("journal: not now: %s", message)
                self._not_before = self._clock() + patience.as_told(retry_after_s)
            case RequestRefused(message=message):
                self._raise_alarm(f"it does not hand out its journal: {message}")
            case _:
                raise PeerError(f"{type(event).__name__} is no answer to a wish for entries")

    def _news(self, octets: bytes | None = None, index: int | None = None) -> None:
        """Something was journaled: there is more to copy, but not before a while is quiet."""
        self._last_news = self._clock()
        self._hurried = False
        self._known = max(self._known, index or 0)
        if octets is not None:
            self._hear(octets)

    def _hear(self, octets: bytes) -> None:
        """Note a head; the newest of a turn is looked at in `take_heads`."""
        head = heads.read_head(octets)
        self._known = max(self._known, head.size)
        if self._heard is None or _place(head) > _place(self._heard[0]):
            self._heard = (head, octets)

    def _note_crl(self, octets: bytes) -> None:
        try:
            _, _, signature = der.split_signed(octets)
        except PeerError:
            return  # whose CRL this would be judges it
        self._note_crl_signature(signature)

    def _note_crl_signature(self, signature: bytes) -> None:
        self._stirred = True
        self._news()
        self._share.add_crl_signature(signature)

    def saw_log(self, entry: JournalEntry, log: Log) -> None:
        """Take an intent that the signer wants confirmed; raises PeerError where it contradicts what is known."""
        try:
            self._check_signer(entry.signer_id, entry.index)
            if entry.index > self._link.size:
                self._share.add_log(entry, log, self._link)
            else:
                self._check_copied(entry.index, log)
        except Inconsistent as error:
            self._raise_alarm(str(error))
            raise
        self._known = max(self._known, entry.index)

    def _check_copied(self, index: int, log: Log) -> None:
        if self._copies.entry(self._signer_id, index) != log.entry:
            raise Inconsistent(index, "another entry of this index was copied before")

    def log_saved(self, index: int) -> None:
        """`signing_log` has the log of this intent."""
        self._share.log_saved(index)

    def certificate_kept(self, index: int) -> None:
        """The store has the certificate of this result."""
        self._share.certificate_kept(index)

    def vouches(self, index: int | None, octets: bytes | None) -> bool:
        """Whether a signed head covers the entry at `index`; `octets` is the head that came with it."""
        if index is None:
            return False
        if octets is not None and (self._verified is None or self._verified.size < index):
            self._hear(octets)
            self.take_heads()
        return self.trusted and self._verified is not None and self._verified.size >= index

    # Heads.

    def take_heads(self) -> None:
        """Look at the newest head that has come, once a turn: a signature costs a tenth of a millisecond."""
        heard, self._heard = self._heard, None
        if heard is None or self.alarm:
            return
        head, octets = heard
        if self._verified is not None and _place(head) <= _place(self._verified):
            if _place(head) == _place(self._verified):
                self._check_root(head.root_hash, self._verified.root_hash, head.size)
            return
        try:
            if self._believe(head, octets, self._link.head_keys(self._pinned)):
                self._unbelieved = None
            elif head.size > self._link.size:
                # Entries that are still to be copied may introduce the key.
                self._unbelieved = heard
            else:
                self._raise_alarm(_UNKNOWN_KEY.format(head.size))
        except Inconsistent as error:
            self._raise_alarm(str(error))

    def _believe(self, head: JournalHead, octets: bytes, keys: Collection[bytes]) -> bool:
        """Take a head that one of these keys has signed; False for one that none of them has."""
        self._check_signer(head.signer_id, 0)
        try:
            heads.verify_head(octets, keys)
        except SignatureInvalid:
            return False
        link = self._link
        self._verified = head
        seen = SeenHead(signer_id=head.signer_id, epoch=head.epoch, size=head.size, octets=octets)
        if self._seen is None or _place(head) > (self._seen.epoch, self._seen.size):
            self._seen, self._head_unsaved = seen, True
        if head.size == link.size:
            self._check_root(head.root_hash, link.root(), head.size)
            self._agreed = seen
        elif head.size > link.size:
            self._expect(seen, head.root_hash)
        return True

    def _expect(self, head: SeenHead, root_hash: bytes) -> None:
        """The copy must come to this root; of many heads the newest is exchanged for the next."""
        while len(self._expected) >= _EXPECTED_HEADS:
            self._expected.popitem()
        self._expected[head.size] = (head, root_hash)

    def _check_signer(self, signer_id: int, index: int) -> None:
        if signer_id != self._signer_id:
            raise Inconsistent(index, f"it is of signer {signer_id}")

    def _check_root(self, said: bytes, known: bytes, size: int) -> None:
        if said != known:
            self._raise_alarm(_OTHER_JOURNAL.format(size))

    # Entries.

    def send(self, session: Session) -> None:
        """Ask for entries when enough have gathered, or nothing else goes on."""
        if self._handle is not None or self.alarm or not self._signer_id or not session.capacity:
            return
        now = self._clock()
        if now < self._not_before or not self._is_due(now):
            return
        self._adopt()
        if self._is_due(now):
            self._asked = self._link.size + 1
            self._stirred = False
            self._handle = session.get_entries(self._asked, payload.MAXIMUM_ENTRIES)
            step("copy asked")

    def hurry(self) -> None:
        """Fetch what there is without waiting for more."""
        self._hurried = True

    @property
    def _waiting(self) -> int:
        return max(self._known - self._link.size, 0)

    def _is_due(self, now: float) -> bool:
        if self._verified is None or self._link.size < self._goal or self._waiting >= _BATCH_ENTRIES:
            return True
        if not self._waiting and not self._stirred:
            return False
        return self._hurried or now - self._last_news >= _IDLE_S

    def _adopt(self) -> None:
        """Go on where another client of this store has come to."""
        state = self._copies.state(self._signer_id)
        if state.link == self._link:
            return
        self._link, self._proven = state.link, state.proof.size if state.proof is not None else 0
        self._let_go()
        expected = self._expected.pop(self._link.size, None)
        if expected is not None and expected[0].epoch >= self._link.epoch:
            self._check_root(expected[1], self._link.root(), self._link.size)

    def _let_go(self) -> None:
        """What was copied need not be remembered."""
        self._share.let_go(self._link.size)
        self._expected = {size: each for size, each in self._expected.items() if size >= self._link.size}

    def write_back(self, *, now: dt.datetime) -> None:
        """Write what has come. Comes behind the write-back of certificates: what they keep is not kept here again."""
        received, self._received = self._received, None
        if received is not None and not self.alarm:
            try:
                self._take_entries(received, now=now)
            except Inconsistent as error:
                self._raise_alarm(str(error))
                self._cut_back(now=now)
        agreed, self._agreed = self._agreed, None
        if agreed is not None and not self.alarm and self._proven < agreed.size == self._link.size:
            self._append(self._link, [], proof=agreed, now=now)
        if self._head_unsaved and self._seen is not None:
            self._copies.save_head(self._seen, now=now)
            self._head_unsaved = False

    def _take_entries(self, received: EntriesReceived, *, now: dt.datetime) -> None:
        """Chain the entries to the copy, compare with every head that they lead to, and keep them."""
        before = self._link
        self._check_extent(received, before)
        # 1. Each follows the one before. Where a head is known, note what has come of them so far.
        chain = Chain(before, self._pinned)
        unbelieved, self._unbelieved = self._unbelieved, None
        places = {*self._expected, unbelieved[0].size if unbelieved else 0}
        logs: list[tuple[JournalEntry, Log]] = []
        links: dict[int, Link] = {}
        for octets in received.logs:
            logs.append(self._share.take(chain, octets))
            if chain.size in places:
                links[chain.size] = chain.link()
        after = chain.link()
        # 2. A key that they introduce may be the one that signs heads now.
        if unbelieved is not None:
            head, octets = unbelieved
            if not self._believe(head, octets, links.get(head.size, after).head_keys(self._pinned)):
                if head.size <= after.size:
                    raise Inconsistent(0, _UNKNOWN_KEY.format(head.size))
                self._unbelieved = unbelieved
        # 3. Every head that they lead to is that of these very entries.
        proven, proof = before, None
        for size, link in sorted(links.items()):
            if size in self._expected:
                head_seen, root_hash = self._expected[size]
                # A head of an epoch that is over says what was lost when the next one began.
                if head_seen.epoch >= link.epoch:
                    if link.root() != root_hash:
                        raise Inconsistent(0, _OTHER_JOURNAL.format(size))
                    proven, proof = link, head_seen
        step("copy checked")
        # 4. Up to that head they are beyond doubt; what is behind it waits for the next.
        kept = self._share.without_kept(logs, self._copies)
        count = proven.size - before.size
        if (proof is None or self._append(proven, kept[:count], proof=proof, now=now)) and after != proven:
            self._append(after, kept[count:], proof=None, now=now)

    def _check_extent(self, received: EntriesReceived, link: Link) -> None:
        """Whether these are the entries that were asked for, as many as the head that came along allows."""
        if received.first != self._asked:
            raise Inconsistent(self._asked, "it was asked for entries from here on, and its journal ends before")
        size = heads.read_head(received.head).size
        last = link.size + len(received.logs)
        if last > size or (not received.logs and size > last):
            raise Inconsistent(last, f"{len(received.logs)} entries came up to here, with a head over {size}")

    def _append(self, after: Link, logs: Sequence[Log], *, proof: SeenHead | None, now: dt.datetime) -> bool:
        before = self._link
        if not self._copies.append(before, after, logs, head=self.unsaved_head, proof=proof, now=now):
            _log.debug("journal: another client of this store was quicker")
            self._adopt()
            return False
        step("copy stored")
        self._head_unsaved = False
        self._link = after
        self._proven = after.size if proof is not None else self._proven
        self._expected.pop(after.size, None)
        self._let_go()
        if after.epoch > before.epoch:
            _log.warning("journal: the signer was made anew, epoch %d has begun", after.epoch)
        _log.debug("journal: copied up to entry %d", after.size)
        return True

    def _cut_back(self, *, now: dt.datetime) -> None:
        dropped = self._copies.cut_back(self._signer_id, now=now)
        if dropped:
            _log.error("journal: %d entries that no signed head has confirmed were dropped from the copy", dropped)
        self._link = self._copies.state(self._signer_id).link

    def _raise_alarm(self, reason: str) -> None:
        if self.alarm:
            return
        if not self._signer_id:
            raise InternalError("an alarm without a signer")
        self._reason = reason
        self.alarm = f"the journal of signer {self._signer_id} is not the one that this client has copied: {reason}"
        _log.error(
            "%s. It gets no new certificates to sign; revocations are still offered to it. Are [journal] keys of "
            "client.toml right? If they are, what to do stands in docs/runbook.md",
            self.alarm,
        )


def _place(head: JournalHead) -> tuple[int, int]:
    return head.epoch, head.size
