"""The validator as a process: attests requests as they come to the head of the queue, and renews what lapses.

One loop: what check programs have found is kept, then the next requests are attested for each signer that lives. A
database that is away is waited for, and so is one into which somebody has written what makes no sense. Two validators
may work on one store: who is quicker attests, and the other finds nothing left to do.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import selectors
import time
from collections.abc import Mapping
from typing import Final

from cassiopeia.config import ValidatorConfig
from cassiopeia.errors import Unavailable
from cassiopeia.store.database import Store
from cassiopeia.termination import Termination
from cassiopeia.validation.attesting import AT_ONCE, Attester
from cassiopeia.validation.checks import Checks
from cassiopeia.validation.choice import Held
from cassiopeia.validation.key import load_validator_key
from cassiopeia.validation.renewal import Renewal

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.3
_BACK_OFF_FIRST_S: Final = 0.2
_BACK_OFF_LAST_S: Final = 30.0
_WORD_EVERY_S: Final = 30.0
# What becomes of a value of another type or size than its column is for. Nobody's certificates hang on this process
# alone: it had better go on when the row has been put right, than be started again and again.
_NO_SENSE: Final = (ArithmeticError, LookupError, TypeError, ValueError)


class ValidatorService:
    """One validator and its store."""

    def __init__(self, config: ValidatorConfig, store: Store) -> None:
        self._config = config
        self._store = store
        self._selector = selectors.DefaultSelector()
        self._checks = Checks(at_once=config.checks_at_once, selector=self._selector)
        self._attester = Attester.of(config, store)
        self._renewal = Renewal(config=config, store=store, key=load_validator_key(config.key), checks=self._checks)
        self._go_on_at = 0.0
        self._back_off_s = _BACK_OFF_FIRST_S
        self._next_word = 0.0
        self._has_more = False
        self._signers: Mapping[int, str] | None = None

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; raises OperatorError."""
        termination = Termination(self._selector)
        _log.info("validator %s attests requests of %s", self._config.name, self._config.profiles)
        try:
            while not termination.requested:
                self.step(0.0 if self._has_more else _POLL_S)
            _log.info("stopping")
        finally:
            self.close()
            termination.close()

    def step(self, patience_s: float) -> None:
        """Wait for what programs say, and do one turn; a store that fails is tried again later."""
        for key, mask in self._selector.select(patience_s):
            key.data(mask)
        if time.monotonic() < self._go_on_at:
            return
        try:
            self._turn(dt.datetime.now(dt.UTC))
        except Unavailable as error:
            self._back_off(error.message)
        except _NO_SENSE as error:
            self._back_off(
                f"this turn has failed ({type(error).__name__}: {str(error)[:200]!a}): has somebody written into the "
                "database? Put that right, or report this"
            )
        else:
            self._back_off_s = _BACK_OFF_FIRST_S

    def _back_off(self, reason: str) -> None:
        self._has_more = False
        delay_s = self._back_off_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
        _log.warning("%s; again in %.1f seconds", reason, delay_s)
        self._go_on_at = time.monotonic() + delay_s
        self._back_off_s = min(2 * self._back_off_s, _BACK_OFF_LAST_S)

    def close(self) -> None:
        """End every program."""
        self._checks.stop()
        self._attester.close()
        self._selector.close()

    def _turn(self, now: dt.datetime) -> None:
        words = self._attester.live(now)
        self._note({each.signer_id: self._attester.doubt(each) for each in words})
        # An observation is dated by the clock that is behind: to the other one it is only older.
        latest = min([now, *(now + each.ahead for each in words)])
        self._renewal.pump(now=now, latest=latest)

        def look_again(held: Held) -> tuple[str, float]:
            return self._renewal.look_again(held, now=now)

        # In no fixed order: what one signer cannot issue (its sub-CA is full, say) gets to another that can.
        looked_at = [
            self._attester.turn(each, now=now, look_again=look_again) for each in random.sample(words, len(words))
        ]
        self._has_more = any(each >= AT_ONCE for each in looked_at)
        if time.monotonic() >= self._next_word:
            self._next_word = time.monotonic() + _WORD_EVERY_S
            report = {"attested": self._attester.attested, "signers": sorted(each.signer_id for each in words)}
            self._store.evidence.save_word(self._config.name, report, now=now)

    def _note(self, signers: Mapping[int, str]) -> None:
        """Say which signers come and go, and which of them do not take this validator's word."""
        before, self._signers = self._signers, signers
        if before == signers:
            return
        for each, doubt in signers.items():
            if doubt and (before or {}).get(each) != doubt:
                _log.error("nothing is attested for signer %d: whatever this validator says %s", each, doubt)
            elif not doubt and (before is None or before.get(each) != ""):
                _log.info("signer %d is heard: its requests are attested", each)
        for each in (before or {}).keys() - signers.keys():
            _log.warning("signer %d is not heard: its requests wait until it is", each)
        if not signers and not before:
            _log.warning("no signer is heard: requests wait; is `cassiopeia client run` running?")
