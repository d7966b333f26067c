"""Whether the signer may issue now, and whether it may sign CRLs: one place where all reasons against it meet.

A halt stands in the journal until it is lifted there; one of a sub-CA alone stops nothing else. Obstacles (an
unbelievable clock, a full disk) are asked anew each time, and go away by themselves or by what operators do about them.
Revocations are taken all the same: they are journaled, and the next CRL that may be signed lists them. Only a signer
that has lost part of its past takes none and signs no CRL: it could give a number out twice, and its journal is not the
one that goes on.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cassiopeia.core import certificate
from cassiopeia.core.authority import Authority, Idle
from cassiopeia.core.rules import Standing
from cassiopeia.errors import Refused, Unavailable
from cassiopeia.journal import entry as entries
from cassiopeia.journal.entry import LOST_PAST, SIGNATURE_HALT
from cassiopeia.signer.caps import validators_of
from cassiopeia.signer.clock import CODE_PREFIX
from cassiopeia.signer.journal import Intent, Journal

_RETRY_AFTER_S: Final = 300
_ORDERED_RETRY_S: Final = 600
_REMOVED: Final = "what was wrong has been removed from the journal since"
MISTRUSTED_KEY: Final = Idle(code="authority-halted", why="is halted, because a signature by its key was wrong")

_HALTS: Final = {
    LOST_PAST: "the signer's journal is shorter than one that it signed: it has lost part of its past. Make it again "
    "from the client's copy (`cassiopeia signer rebuild`)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Obstacle:
    """Why nothing is issued now: a stable code and a sentence for the operator. Some stop CRLs and revocations too."""

    code: str
    message: str
    stops_crls: bool = False
    stops_revocations: bool = False


class Gate:
    """Asks the journal's halts, then every obstacle in turn."""

    def __init__(self, journal: Journal, obstacles: Sequence[Callable[[], Obstacle | None]] = ()) -> None:
        self._journal = journal
        self._obstacles = obstacles
        halts = journal.index.halts()
        self._halts = set(halts)
        self._mistrusted = {
            code.removeprefix(SIGNATURE_HALT): journal.halt_reason(position) or _REMOVED
            for code, position in halts.items()
            if code.startswith(SIGNATURE_HALT)
        }

    def reasons(self) -> list[Obstacle]:
        """Everything that stands in the way, the gravest first."""
        # A halt for the clock stands in the journal so that it outlives a restart; the clock itself says the rest.
        halts = [
            Obstacle(
                code=code,
                message=_HALTS.get(code, f"halted by an order of its operators ({code})"),
                stops_crls=code == LOST_PAST,
                stops_revocations=code == LOST_PAST,
            )
            for code in sorted(self._halts)
            if not code.startswith((CODE_PREFIX, SIGNATURE_HALT))
        ]
        return halts + [each for each in (ask() for ask in self._obstacles) if each is not None]

    def check_issuing(self) -> None:
        """Raise Unavailable while nothing may be issued."""
        if reasons := self.reasons():
            raise Unavailable(reasons[0].message, code=reasons[0].code, retry_after_s=_RETRY_AFTER_S)

    def crl_obstacle(self) -> Obstacle | None:
        """What stands in the way of signing CRLs, if anything does."""
        return next((each for each in self.reasons() if each.stops_crls), None)

    def check_revoking(self) -> None:
        """Raise Unavailable while no revocation may be journaled."""
        for each in self.reasons():
            if each.stops_revocations:
                raise Unavailable(each.message, code=each.code, retry_after_s=_RETRY_AFTER_S)

    @property
    def mistrusted(self) -> Mapping[str, str]:
        """The sub-CAs that are halted, each alone, because a signature by its key was wrong; with what was wrong."""
        return self._mistrusted

    def halt(self, code: str, reason: str, *, now: dt.datetime) -> None:
        """Halt for good: only an entry of the journal lifts it."""
        if code not in self._halts:
            self._journal.record_halt(code, reason, now=now)
            self._halts.add(code)
            if code.startswith(SIGNATURE_HALT):
                self._mistrusted[code.removeprefix(SIGNATURE_HALT)] = reason

    def resume(self, code: str, *, now: dt.datetime) -> None:
        if code in self._halts:
            self._journal.record_resume(code, now=now)
            self._halts.discard(code)
            self._mistrusted.pop(code.removeprefix(SIGNATURE_HALT), None)


def check_authority(intent: Intent, authority: Authority | None) -> None:
    """Raise Refused for what was promised, and whose sub-CA signs no such certificates any more.

    One that is only missing may be put back, by whoever left it out: that is Unavailable.
    """
    if authority is None:
        raise Unavailable(
            f"this signer has the sub-CA {intent.signing_ca} no more, by which the certificate was promised: put it "
            "back into authorities.toml",
            code="authority-missing",
            retry_after_s=_ORDERED_RETRY_S,
        )
    if authority.retired and not _is_responder(intent):
        raise Refused(
            f"The sub-CA {intent.signing_ca} was taken out of service after the certificate was promised: it is not "
            "signed; ask for another one.",
            code="authority-retired",
        )


def check_order(intent: Intent, standing: Standing) -> None:
    """Raise Unavailable for what was decided, and must not be signed now: for an order, or an idle sub-CA."""
    check_idle(intent.signing_ca, standing)
    if standing.disabled_validators and not standing.disabled_validators.isdisjoint(_provers(intent)):
        raise Unavailable(
            "the operators have disabled a validator that had proved this request before the certificate was"
            " promised: it is not signed",
            code="validator-disabled",
            retry_after_s=_ORDERED_RETRY_S,
        )
    if standing.blocked_keys:
        key = certificate.read_tbs(intent.tbs_certificate).subject_public_key_info
        if hashlib.sha256(key).digest() in standing.blocked_keys:
            raise Unavailable(
                "the operators have blocked this key after the certificate was promised: it is not signed",
                code="key-blocked",
                retry_after_s=_ORDERED_RETRY_S,
            )


def check_idle(signing_ca: str, standing: Standing) -> None:
    """Raise Unavailable while this sub-CA signs no certificates, whatever the reason."""
    reason = standing.idle.get(signing_ca)
    if reason is not None:
        raise Unavailable(f"the sub-CA {signing_ca} {reason.why}", code=reason.code, retry_after_s=reason.retry_after_s)


def _is_responder(intent: Intent) -> bool:
    """Whether it is for an OCSP responder, who goes on as the CRLs do."""
    part = entries.decode_part(entries.Requested, entries.decode_log(intent.log).parts[0])
    return bool(part.ocsp_target_ca)


def _provers(intent: Intent) -> tuple[bytes, ...]:
    """The key ids of the validators on whose word this was promised; over version 1 nobody's counts."""
    log = entries.decode_log(intent.log)
    body: entries.Intent = entries.decode_body(entries.decode_entry(log.entry))
    if body.protocol == 1:
        return ()
    return validators_of(entries.decode_part(entries.Requested, log.parts[0]).proofs)
