"""How the signer says no, and not now.

Version 1 of the protocol has no words for either: the session ends, and the reason stays here, in the signer's log (a
refusal stands in the journal as well).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cassiopeia.errors import Refused, Unavailable
from cassiopeia.protocol.session import Session

_log = logging.getLogger(__name__)


def give(session: Session, answer: Callable[[], None]) -> None:
    """Send an answer that waited for the disk, if anybody is still there to hear it."""
    if not session.closed:
        answer()


def refuse(session: Session, handle: int, refusal: Refused) -> None:
    """Say that this is final."""
    _explain_here(session, "refused", refusal.message)
    session.send_refused(handle, refusal)


def fail(session: Session, handle: int, error: Unavailable) -> None:
    """Say that it may be asked again."""
    _explain_here(session, "not now", error.message)
    session.send_failed(handle, error)


def _explain_here(session: Session, verdict: str, message: str) -> None:
    if session.version == 1:
        _log.warning("%s, and closed without a word, as version 1 has none: %s", verdict, message)
