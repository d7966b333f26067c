"""What the publisher's own thread does all day: reads what is new in the store, and keeps the responder certified.

Looks several times a second, so that a revocation which the client has stored is answered within the second. Only what
verifies is taken. While the store is away, answers go on from what is known, until that is too old.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from cassiopeia.config import load_authorities
from cassiopeia.config.publisher import PublisherConfig, load_publisher_config
from cassiopeia.core.authority import Authority
from cassiopeia.errors import InternalError, OperatorError, PeerError, Unavailable
from cassiopeia.publisher.answering import Answerer, Delegation, Served
from cassiopeia.publisher.journal import SignerJournal
from cassiopeia.publisher.known import KnownCertificates
from cassiopeia.publisher.responder import Responder
from cassiopeia.store.database import Store

_log = logging.getLogger(__name__)

LOOK_S: Final = 0.25
_RENEW_S: Final = 2.0
_AUTHORITIES_S: Final = 5.0
_WORD_EVERY_S: Final = 30.0
_LONGEST_BACK_OFF_S: Final = 10.0
_ONE_DAY: Final = dt.timedelta(days=1)
# What becomes of a value of another type or size than its column is for, as in `validation.service`.
_NO_SENSE: Final = (ArithmeticError, LookupError, TypeError, ValueError)


class Watch:
    """One store, watched for one `answerer`; `clock` counts seconds and never goes back."""

    def __init__(
        self,
        *,
        config: PublisherConfig,
        store: Store,
        responder: Responder,
        answerer: Answerer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._store = store
        self._responder = responder
        self._answerer = answerer
        self._clock = clock
        self._stopping = threading.Event()
        self._authorities: tuple[Authority, ...] = ()
        self._known: dict[str, KnownCertificates] = {}
        self._journals: dict[int, SignerJournal] = {}
        # CRLs as they stood in the store: what did not verify is looked at again when it has changed.
        self._seen: dict[str, tuple[int, dt.datetime]] = {}
        self._not_taken: dict[str, str] = {}
        # What was said last, to be said again now and then.
        self._word: tuple[str, ...] | None = None
        self._word_at = 0.0
        self._word_reason = ""
        self._served: tuple[Served, ...] = ()
        self._was_blind = False
        self._renew_at = self._authorities_at = 0.0
        self._authorities_reason = ""
        self._take_authorities()
        self._serve()

    def run(self) -> None:
        """Watch until `stop`."""
        back_off_s = LOOK_S
        while not self._stopping.is_set():
            wait_s = LOOK_S
            try:
                self.look(dt.datetime.now(dt.UTC))
                back_off_s = LOOK_S
            except (Unavailable, OperatorError, *_NO_SENSE) as error:
                back_off_s = min(2 * back_off_s, _LONGEST_BACK_OFF_S)
                wait_s = back_off_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
                _log.warning("%s; again in %.1f seconds", _explained(error), wait_s)
                self._be_honest()
            self._stopping.wait(wait_s)

    def stop(self) -> None:
        self._stopping.set()

    def look(self, now: dt.datetime) -> None:
        """Take what is new; raises Unavailable and OperatorError, and loses nothing."""
        # 1. Which sub-CAs there are.
        if self._clock() >= self._authorities_at:
            self._authorities_at = self._clock() + _AUTHORITIES_S
            self._take_authorities()
        # 2. What is revoked.
        self._take_crls()
        # 3. What was issued.
        for journal in self._journals.values():
            journal.read_on(self._store.journal_copies, self._known)
        # 4. Who may say so.
        if self._clock() >= self._renew_at:
            self._renew_at = self._clock() + _RENEW_S
            self._responder.renew(self._needed(now), now=now)
        self._was_blind = False
        self._serve()
        self._answerer.looked()
        # 5. How it fares, for `cassiopeia status`.
        self._speak(now)

    def _take_authorities(self) -> None:
        """Read authorities.toml, or that of the bundle which is in force by now; keep the old ones if it is wrong."""
        try:
            config = self._config
            if self._authorities:
                # Also another signer's journal key, which has to be there before its sub-CAs are.
                config = load_publisher_config(config.source)
            entries = load_authorities(config.authorities)
        except OperatorError as error:
            if not self._authorities:
                raise
            if str(error) != self._authorities_reason:
                self._authorities_reason = str(error)
                _log.error("%s; the sub-CAs that were known before are served", error)
            return
        self._authorities_reason = ""
        authorities = tuple(each.authority for each in entries)
        if authorities == self._authorities:
            return
        if self._authorities:
            _log.info("there are %d sub-CAs now, and were %d", len(authorities), len(self._authorities))
        self._authorities = authorities
        for authority in authorities:
            self._known.setdefault(authority.name, KnownCertificates())
            if authority.signer_id not in self._journals:
                self._journals[authority.signer_id] = SignerJournal(
                    authority.signer_id, config.journal_keys, is_stopping=self._stopping.is_set
                )

    def _take_crls(self) -> None:
        headers = {each.authority: (each.number, each.this_update) for each in self._store.crls.headers()}
        for authority in self._authorities:
            header = headers.get(authority.name)
            if header is None or self._seen.get(authority.name) == header:
                continue
            record = self._store.crls.get(authority.name)
            if record is None:
                continue
            try:
                self._not_taken.pop(authority.name, None)
                if self._known[authority.name].learn_crl(record.der, authority=authority):
                    _log.debug("CRL of %s: number %d", authority.name, record.number)
            except PeerError as error:
                reason = f"CRL of {authority.name}: the one in the store is not taken: {error}"
                self._not_taken[authority.name] = reason
                _log.error("%s", reason)
            self._seen[authority.name] = header

    def _speak(self, now: dt.datetime) -> None:
        """Leave a word in the store; whoever cannot goes on answering all the same."""
        found = [each.alarm for each in self._journals.values()]
        found += [self._authorities_reason, *self._not_taken.values(), *self._responder.alarms]
        alarms = tuple(each for each in found if each)
        if alarms == self._word and self._clock() < self._word_at:
            return
        self._word, self._word_at = alarms, self._clock() + _WORD_EVERY_S
        try:
            self._store.publishers.save(self._config.name, alarms, now=now)
            self._word_reason = ""
        except (InternalError, Unavailable) as error:
            if str(error) != self._word_reason:
                self._word_reason = str(error)
                _log.warning("cannot say in the store how it fares: %s", error)

    def _needed(self, now: dt.datetime) -> list[Authority]:
        """The sub-CAs that have certificates, and those whose turn comes next."""
        next_ones = {
            min(group, key=lambda each: each.number).name
            for group in _groups(self._authorities)
            if group[0].issues_from - _ONE_DAY <= now < group[0].issues_until
        }
        return [each for each in self._authorities if self._known[each.name].issued or each.name in next_ones]

    def _serve(self) -> None:
        served = tuple(
            self._served_now(each, delegation=self._responder.delegation(each)) for each in self._authorities
        )
        if served != self._served:
            self._served = served
            self._answerer.serve(served)

    def _served_now(self, authority: Authority, *, delegation: Delegation | None) -> Served:
        return Served(
            authority=authority,
            known=self._known[authority.name],
            delegation=delegation,
            is_whole=self._journals[authority.signer_id].is_whole,
        )

    def _be_honest(self) -> None:
        """Say once that nothing is answered any more."""
        if self._answerer.is_blind and not self._was_blind:
            self._was_blind = True
            _log.error("the store was not seen for an hour: nothing is called good until it is")


def _groups(authorities: Sequence[Authority]) -> list[list[Authority]]:
    """Sub-CAs that issue in the place of each other: one, and its spares."""
    groups: dict[tuple[str, int, dt.datetime], list[Authority]] = {}
    for each in authorities:
        if not each.retired:
            groups.setdefault((each.family, each.signer_id, each.issues_from), []).append(each)
    return list(groups.values())


def _explained(error: Exception) -> str:
    if isinstance(error, Unavailable | OperatorError):
        return str(error)
    return (
        f"looking into the store has failed ({type(error).__name__}: {str(error)[:200]!a}): has somebody written into "
        "the database? Put that right, or report this"
    )
