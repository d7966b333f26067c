"""The one exception tree.

Five answers to "what now?": our own bug (`InternalError`), the peer broke the protocol (`PeerError`: close), the policy
says no (`Refused`: final), not available now (`Unavailable`: retry), state unknown (`StateUnknown`: halt). Operators'
mistakes (a wrong configuration, an unusable file) are `OperatorError`: one clear line that says what to do.
"""

from __future__ import annotations


class CassiopeiaError(Exception):
    """Base of every error that this software raises on purpose."""


class InternalError(CassiopeiaError):
    """Our own bug. What a peer or a person sees of it reveals nothing."""


class PeerError(CassiopeiaError):
    """The peer broke the protocol: the session ends, the process goes on."""


class SignatureInvalid(PeerError):
    """A signature does not verify: never a boolean, so that nobody can forget to look."""


class Inconsistent(PeerError):
    """A journal contradicts itself, its signed heads, or the certificates and CRLs that came of it.

    `index` is the entry where that shows (0: no one entry), `reason` a sentence without it.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"entry {index}: {reason}" if index else reason)
        self.index = index
        self.reason = reason


class Refused(CassiopeiaError):
    """The policy says no, and will say no again: final for this request.

    `code` is stable and machine-readable (lower case, dashes), `field` names the offending part of the request (empty
    when it is the whole), and the message is a sentence for the subscriber.
    """

    def __init__(self, message: str, *, code: str, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.field = field

    def __reduce__(self) -> tuple[object, ...]:
        return _refused, (self.message, self.code, self.field)


def _refused(message: str, code: str, field: str) -> Refused:
    return Refused(message, code=code, field=field)


class Unavailable(CassiopeiaError):
    """Not now: the same request may succeed later. Nothing is held against it."""

    def __init__(self, message: str, *, code: str = "busy", retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        return _unavailable, (self.message, self.code, self.retry_after_s)


def _unavailable(message: str, code: str, retry_after_s: int) -> Unavailable:
    return Unavailable(message, code=code, retry_after_s=retry_after_s)


class StateUnknown(CassiopeiaError):
    """We no longer know what is on the disk: stop at once, start again, replay."""


class OperatorError(CassiopeiaError):
    """Something the operator must mend; the message is one line that says what to do."""


class ConfigurationError(OperatorError):
    """A configuration file is wrong; names file, key and reason."""

    def __init__(self, reason: str, *, source: str, key: str = "") -> None:
        super().__init__(f"{source}: {key}: {reason}" if key else f"{source}: {reason}")
        self.source = source
        self.key = key
        self.reason = reason
