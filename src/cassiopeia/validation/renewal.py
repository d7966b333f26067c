"""Observations that lapse are made anew, by the programs that validator.toml names.

Owns when a program is asked about which fact, how long one that failed is left alone, and the observations that come of
it. The programs themselves are run by `checks`. Nothing is signed that a program has not just seen.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cassiopeia.config import ValidatorConfig
from cassiopeia.core import ed25519
from cassiopeia.core.evidence import Observation, key_id, sign_observation
from cassiopeia.store.database import Store
from cassiopeia.validation.checks import Checks, Fact, Finding
from cassiopeia.validation.choice import Held, shown

_log = logging.getLogger(__name__)

# One that was just seen is not looked at again, whatever the signer makes of it.
_AFTER_SUCCESS_S: Final = 60.0
_AFTER_FAILURE_S: Final = (60.0, 300.0, 900.0, 3600.0)
_WHILE_LOOKING_S: Final = 30.0
_BY_HAND_S: Final = 60.0
_REMEMBERED: Final = 100_000


@dataclass(kw_only=True, slots=True)
class _History:
    """`row` of the observation that is made anew; `due`: when a program may be asked again."""

    row: tuple[str, str]
    begun: dt.datetime
    due: float = 0.0
    failures: int = 0
    reason: str = ""


class Renewal:
    """`clock` counts seconds and never goes back."""

    def __init__(
        self,
        *,
        config: ValidatorConfig,
        store: Store,
        key: Ed25519PrivateKey,
        checks: Checks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._store = store
        self._key = key
        self._checks = checks
        self._clock = clock
        self._histories: dict[Fact, _History] = {}
        self._unsaved: list[bytes] = []
        self._concerned: set[str] = set()

    def look_again(self, held: Held, *, now: dt.datetime) -> tuple[str, float]:
        """Have a fact looked at again; say how that stands (the end of a sentence), and in how many seconds to ask."""
        seen = held.observation
        fact = Fact(kind=seen.kind, value=seen.value, account=seen.account)
        program = self._config.check_for(fact.kind)
        if program is None:
            return "nothing here looks again by itself, so that it has to be stated anew", _BY_HAND_S
        history = self._histories.get(fact)
        if not self._checks.is_under_way(fact) and (history is None or self._clock() >= history.due):
            failures, reason = (history.failures, history.reason) if history else (0, "")
            self._histories.pop(fact, None)
            history = _History(row=(seen.table, seen.primary_key), begun=now, failures=failures, reason=reason)
            self._histories[fact] = history
            if len(self._histories) > _REMEMBERED:
                del self._histories[next(iter(self._histories))]
            self._checks.submit(fact, program)
        if self._checks.is_under_way(fact):
            last = f" (the last time: {history.reason})" if history and history.reason else ""
            return f"it is being looked at again{last}", _WHILE_LOOKING_S
        assert history is not None  # noqa: S101 - what is not under way and not due was looked at
        wait_s = max(1.0, history.due - self._clock())
        if history.reason:
            return f"it could not be seen again: {history.reason}; next look in {wait_s:.0f} seconds", wait_s
        return f"it was seen again just now; next look in {wait_s:.0f} seconds", wait_s

    def pump(self, *, now: dt.datetime, latest: dt.datetime) -> None:
        """Keep what programs have seen, dated `latest` at most; whom it concerns, their requests are looked at again.

        Raises Unavailable, and loses nothing.
        """
        for finding in self._checks.pump():
            self._take(finding, latest)
        if self._unsaved:
            self._store.evidence.put_observations(self._unsaved, now=now)
            self._unsaved.clear()
        if self._concerned:
            self._store.evidence.hurry(self._concerned, now=now)
            self._concerned.clear()

    def _take(self, finding: Finding, latest: dt.datetime) -> None:
        fact = finding.fact
        history = self._histories.get(fact)
        if history is None:
            return
        self._concerned.add(fact.account)
        if finding.method:
            history.failures, history.reason = 0, ""
            history.due = self._clock() + _AFTER_SUCCESS_S
            _log.info(
                "%s %s for %s: seen again, by %s", fact.kind, shown(fact.value), shown(fact.account), finding.method
            )
            self._unsaved.append(self._sign(finding, history, latest))
            return
        delay_s = _AFTER_FAILURE_S[min(history.failures, len(_AFTER_FAILURE_S) - 1)]
        history.failures, history.reason = history.failures + 1, finding.reason
        history.due = self._clock() + delay_s
        _log.warning(
            "%s %s for %s: not seen: %s; next look in %.0f seconds",
            fact.kind,
            shown(fact.value),
            shown(fact.account),
            finding.reason,
            delay_s,
        )

    def _sign(self, finding: Finding, history: _History, latest: dt.datetime) -> bytes:
        fact = finding.fact
        table, primary_key = history.row
        return sign_observation(
            Observation(
                kind=fact.kind,
                value=fact.value,
                account=fact.account,
                method=finding.method,
                observed_at=min(history.begun, latest).replace(microsecond=0),
                table=table,
                primary_key=primary_key,
                validator=key_id(ed25519.public_octets(self._key)),
            ),
            self._key,
        )
