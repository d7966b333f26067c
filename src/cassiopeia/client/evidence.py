"""What requests need besides themselves: which profiles demand evidence, and the nonces under which it holds.

The signer's signed word on its time, boot and nonce is asked for, verified and kept; orders are made from it, too. So
that validators have the newest nonce within seconds, it is asked for when a session opens, and often while the next one
is due. Whatever becomes of a nonce that was the current one at some moment, it holds for `LIFE_S` from then on (wire
specification, "Proofs"). Nothing is believed that an earlier boot said. Of what the signer misses, this says whether
it was ever there.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cassiopeia.core import structure
from cassiopeia.core.demands import candidates, compare, demands
from cassiopeia.core.evidence import Observation, read_observation
from cassiopeia.core.profile import Profile
from cassiopeia.core.request import CertificateRequest
from cassiopeia.errors import PeerError, Refused, SignatureInvalid
from cassiopeia.journal.timestamp import verify_timestamp
from cassiopeia.protocol import payload
from cassiopeia.protocol.events import Event, RequestFailed, RequestRefused, TimestampReceived
from cassiopeia.protocol.session import Session
from cassiopeia.store.database import Store
from cassiopeia.store.evidence import Fact

_log = logging.getLogger(__name__)

LIFE_S: Final = 300.0
"""For so long a nonce is the current one."""

_ASK_EVERY_S: Final = 30.0
_ASK_SOON_S: Final = 2.0  # while the next nonce is due
# What is leased now has to reach the signer: a slow line and a busy signer take their time.
_TRANSIT_S: Final = 30.0
_EVER: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


@dataclass(kw_only=True, slots=True)
class _Heard:
    """A nonce of this boot, and when it was the current one for all that is known: the first time, and the last."""

    nonce: bytes
    boot_id: bytes
    first: float
    last: float


def say_what_is_demanded(store: Store, profiles: Iterable[Profile], *, now: dt.datetime) -> None:
    """Let the requests of profiles that demand evidence wait for it, and no others."""
    # Requests for OCSP responders name no profile.
    store.evidence.demand({each.name if each.family else "": bool(each.evidence) for each in profiles}, now=now)


def is_never_proved(store: Store, profile: Profile, request: CertificateRequest) -> bool:
    """Whether a name needs something, by this profile, that neither came along nor was ever seen for its account.

    Then no validator could have sent it. Whoever asks has heard from the signer that something is missing.
    """
    try:
        needed = demands(profile, request)
    except Refused:
        return True
    missing, _ = compare(needed, list(_readable(request.proofs)), profile)
    facts = {
        Fact(account=request.account, kind=each.kind, value=value)
        for demand in missing
        for each in (demand, demand.otherwise)
        if each is not None
        for value in candidates(each, profile) or ("",)
    }
    stored = store.evidence.observations(facts, since=_EVER) if facts else {}
    seen = list(_readable(row.octets for rows in stored.values() for row in rows))
    never_seen, _ = compare(missing, [each for each in seen if each.account == request.account], profile)
    return bool(never_seen)


def _readable(proofs: Iterable[bytes]) -> Iterator[Observation]:
    """The observations among these; an attestation is none."""
    for octets in proofs:
        with contextlib.suppress(PeerError):
            yield read_observation(octets)


class NonceKeeper:
    """Asks one signer, session by session; `journal_keys` are those that its word is believed by."""

    def __init__(
        self, *, store: Store, journal_keys: Collection[bytes], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._journal_keys = journal_keys
        self._clock = clock
        # The handle of the question, and when it was asked by both clocks.
        self._asked: tuple[int, dt.datetime, float] | None = None
        self._next_question = 0.0
        # The current nonce and the one before it; whether the signer has spoken in this session, and is believed.
        self._current: _Heard | None = None
        self._previous: _Heard | None = None
        self._has_spoken = False

    @property
    def valid(self) -> tuple[bytes, ...]:
        """Under which a request may be attested that is sent now, the newest first; none before the first word."""
        since = self._clock() - (LIFE_S - _TRANSIT_S)
        known = (self._current, self._previous) if self._has_spoken else ()
        return tuple(each.nonce for each in known if each is not None and each.last >= since)

    def hurry(self) -> None:
        """Ask at once: what the signer said may not hold any more."""
        self._next_question = 0.0

    def send(self, session: Session, *, now: dt.datetime) -> None:
        """Ask when the time has come, as far as the session has room."""
        if self._asked is None and self._clock() >= self._next_question and session.capacity:
            self._next_question = self._clock() + (_ASK_SOON_S if self._is_due else _ASK_EVERY_S)
            self._asked = session.get_timestamp(), now, self._clock()

    def receive(self, event: Event, *, now: dt.datetime) -> bool:
        """Take an event of the session; False when it is not about this."""
        match event:
            case TimestampReceived(timestamp=timestamp):
                asked, self._asked = self._asked, None
                if timestamp is not None and asked is not None:
                    self._take(timestamp, asked_at=asked[1], clock=asked[2], now=now)
                return True
            case RequestRefused() | RequestFailed() if self._asked and event.handle == self._asked[0]:
                self._asked = None
                return True
            case RequestFailed(code="reattest"):
                # Its nonces may be others (this machine may have slept): nothing more is sent under the known ones. But
                # if it has just told them, something else is wrong with the evidence.
                if self._current is not None and self._clock() - self._current.last >= _ASK_SOON_S:
                    self._current = self._previous = None
                    self._next_question = 0.0
                return False
            case _:
                return False

    def forget(self) -> None:
        """The session has ended: nothing holds before the signer has spoken in the next."""
        self._asked = None
        self._has_spoken = False
        self._next_question = 0.0

    @property
    def _is_due(self) -> bool:
        """Whether the next nonce is to come any moment."""
        if self._current is None:
            return False
        age_s = self._clock() - self._current.first
        # It came when it was up to so old; and a signer that keeps it for longer is not asked for ever.
        return LIFE_S - _ASK_EVERY_S <= age_s <= LIFE_S + _ASK_EVERY_S

    def _take(self, timestamp: payload.Timestamp, *, asked_at: dt.datetime, clock: float, now: dt.datetime) -> None:
        link = self._store.journal_copies.state(timestamp.signer_id).link
        try:
            verify_timestamp(timestamp, link.head_keys(self._journal_keys))
        except SignatureInvalid as error:
            _log.error("the signer's word on the time is not believed: %s", error)
            return
        self._store.orders.save_timestamp(timestamp.signer_id, structure.encode(timestamp), asked_at=asked_at)
        self._has_spoken = True
        before = self._current
        if before is not None and (before.nonce, before.boot_id) == (timestamp.nonce, timestamp.boot_id):
            before.last = clock
            return
        self._current = _Heard(nonce=timestamp.nonce, boot_id=timestamp.boot_id, first=clock, last=clock)
        self._previous = before if before is not None and before.boot_id == timestamp.boot_id else None
        if lapsed := self._store.evidence.lapse(timestamp.signer_id, self.valid, now=now):
            _log.info("%d requests that were attested wait for evidence anew: their nonce has run out", lapsed)
