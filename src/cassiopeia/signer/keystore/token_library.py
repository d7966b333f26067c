"""PKCS#11 libraries in this process (OASIS PKCS#11 2.40), through python-pkcs11, and the tokens that they reach.

A library is loaded once for each path, and everything that is done with it is done under its lock: python-pkcs11 calls
C_Initialize without CKF_OS_LOCKING_OK, so a library may expect one thread at a time (section 5.4; SoftHSM crashes
without). Whoever wants signatures in parallel has several processes. One session for each token is shared by all stores
of the process, because a login is one of the process and not of the session (section 5.6).

Nothing of this survives a fork: the process that signs is the one that loads the library.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cassiopeia.core.key_uri import Pkcs11Uri
from cassiopeia.errors import InternalError, OperatorError, Unavailable
from cassiopeia.signer.keystore.token_places import Place

# Everything below key stores is importable without the extra; `pkcs11.load` is where a missing one shows.
with contextlib.suppress(ImportError):
    import pkcs11

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib

_RETRY_AFTER_S: Final = 5
_MISSING_RETRY_AFTER_S: Final = 300
# Starting a library anew ends its sessions with every other token too: those log in again.
_RESTART_PAUSE_S: Final = 20.0
_LOOK_AGAIN_S: Final = (0.0, 0.02, 0.1, 0.2)


def token_away(message: str) -> Unavailable:
    """For a token that cannot be reached: it may be plugged in again."""
    return Unavailable(message, code="token-away", retry_after_s=_RETRY_AFTER_S)


def error_text(error: Exception) -> str:
    """What a PKCS#11 error says: often it has a name only."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@dataclass(kw_only=True, slots=True)
class OpenSession:
    """The session of this process with one token, and what was looked up in it; `one_use` ends it after that."""

    session: pkcs11.Session
    token: pkcs11.Token
    place: Place | None
    one_use: bool = False
    keys: dict[str, pkcs11.PrivateKey] = field(default_factory=dict)


class Library:
    """One PKCS#11 library. Every method but `lock` needs the lock to be held; what it raises is for callers to read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.sessions: dict[str, OpenSession] = {}
        self.users = 0
        self._process = os.getpid()
        self._library: lib | None = None
        self._started_at = 0.0

    def tokens(self) -> list[pkcs11.Token]:
        """Every token that is there and was ever set up; raises `Unavailable`."""
        library = self._started()
        found = []
        try:
            slots = library.get_slots(token_present=True)
        except (pkcs11.PKCS11Error, MemoryError) as error:
            raise token_away(f"{self.path}: cannot list its tokens: {error_text(error)}") from error
        for slot in slots:
            # A reader without a card, or with one of another kind, is nothing to the others.
            with contextlib.suppress(pkcs11.PKCS11Error):
                token = slot.get_token()
                if token.flags & pkcs11.TokenFlag.TOKEN_INITIALIZED:
                    found.append(token)
        return found

    def find_token(self, uri: Pkcs11Uri) -> pkcs11.Token:
        """The one token that the URI names; looks again with the library started anew when it is not there.

        Raises `Unavailable` when it is away, `OperatorError` when several match.
        """
        away = token_away(f"{name_token(uri)} is not there: plug it in, or start what it needs")
        found = []
        try:
            found = [token for token in self.tokens() if matches(token, uri)]
        except Unavailable as error:
            away = error
        for pause in _LOOK_AGAIN_S:
            # Many libraries see only what was there when they started; and SoftHSM does not see a token into which
            # another process logs in at that moment, for it writes down that it did.
            if found:
                break
            time.sleep(pause)
            if not self.restart(unless_in_use=True):
                break
            found = [token for token in self.tokens() if matches(token, uri)]
        if not found:
            raise away
        if len(found) > 1:
            raise OperatorError(
                f"{name_token(uri)}: {len(found)} tokens match: name it more closely, with serial= "
                f"({', '.join(sorted(token_serial(token) for token in found))})"
            )
        return found[0]

    def restart(self, *, unless_in_use: bool = False) -> bool:
        """Start the library anew, which ends every session; says whether it was done."""
        in_use = unless_in_use and bool(self.sessions)
        if in_use and time.monotonic() < self._started_at + _RESTART_PAUSE_S:
            return False
        self.stop()
        self._started()
        return True

    def drop(self, identity: str) -> None:
        """End the session with one token, if there is one; logs out."""
        held = self.sessions.pop(identity, None)
        if held is None:
            return
        try:
            # A token that has gone closed it by itself.
            with contextlib.suppress(pkcs11.PKCS11Error):
                held.session.close()
        finally:
            if held.place is not None:
                held.place.leave()

    def close(self) -> None:
        """One user less; after the last one the library is finalized."""
        self.users -= 1
        if not self.users:
            self.stop()

    def stop(self) -> None:
        """End every session and finalize the library; whoever needs it next starts it again."""
        for identity in list(self.sessions):
            self.drop(identity)
        if self._library is None:
            return
        try:
            self._library.finalize()
        except pkcs11.PKCS11Error:
            # It will not be ended: load it anew, next time.
            pkcs11.unload(self.path)
        self._library = None

    def check_process(self) -> None:
        if os.getpid() != self._process:
            raise InternalError("a PKCS#11 library does not survive a fork: load it in the process that signs")

    def _started(self) -> lib:
        self.check_process()
        if self._library is None:
            if not os.path.exists(self.path):  # noqa: PTH110 - a string for the dynamic loader
                raise Unavailable(
                    f"{self.path}: there is no such PKCS#11 library: install the token's software, or mend [pkcs11] "
                    "module in signer.toml (or module-path= of the key's URI)",
                    code="backend-missing",
                    retry_after_s=_MISSING_RETRY_AFTER_S,
                )
            try:
                self._library = pkcs11.lib(self.path)
            except (pkcs11.PKCS11Error, OSError) as error:
                raise token_away(
                    f"{self.path}: this PKCS#11 library does not start: is its token there, and what the token needs? "
                    f"({error_text(error)})"
                ) from error
            self._started_at = time.monotonic()
        return self._library


_libraries: Final[dict[str, Library]] = {}
_libraries_lock: Final = threading.Lock()


def use_library(path: str) -> Library:
    """The library of this path, with one user more; whoever asks calls `close` once, under its lock."""
    # Two names of one file are one library, which is started once.
    file = os.path.realpath(path)
    with _libraries_lock:
        library = _libraries.setdefault(file, Library(path))
    with library.lock:
        library.users += 1
    return library


def stop_libraries() -> None:
    """As `Library.stop`, for every library of this process."""
    with _libraries_lock:
        for library in _libraries.values():
            with library.lock:
                library.stop()


def matches(token: pkcs11.Token, uri: Pkcs11Uri) -> bool:
    """RFC 7512 2.3: what the URI leaves out matches anything."""
    return all(
        not wanted or wanted == found
        for wanted, found in (
            (uri.token, token.label),
            (uri.serial, token_serial(token)),
            (uri.manufacturer, token.manufacturer_id),
            (uri.model, token.model),
        )
    )


def name_token(uri: Pkcs11Uri) -> str:
    return f"the token {uri.token!r}" if uri.token else f"the token with serial number {uri.serial!r}"


def token_serial(token: pkcs11.Token) -> str:
    return token.serial.decode("utf-8", errors="replace").rstrip("\0 ")


def token_identity(token: pkcs11.Token) -> str:
    """A name for this very token that is good for files.

    Serial number and label: some cards show two tokens with one serial number and a PIN each.
    """
    parts = (token.manufacturer_id, token.model, token_serial(token), token.label)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
