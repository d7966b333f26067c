"""Logging in to a token: a PIN that was refused is not tried a second time, because three tries lock many tokens.

A process that logs in keeps the others out, looks at the token's own flags first, and remembers on the disk what the
token refused: a salted scrypt of the PIN, never the PIN. What was refused is tried again only by a person's will
(`cassiopeia backend check`), or when the PIN is another one, and not even then when two were refused since the last
good one: not every token says that it counts. A person's third try of one PIN is refused as well. A login that
was begun and whose end nobody saw (the process was killed in the middle) may be a refusal too: after two of them in a
row it takes a person as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from cassiopeia.errors import InternalError, OperatorError, Unavailable
from cassiopeia.files import SECRET, replace_files
from cassiopeia.secret_source import wipe
from cassiopeia.signer.keystore.token_places import one_at_a_time, token_directory

with contextlib.suppress(ImportError):
    import pkcs11

_RETRY_AFTER_S: Final = 60
# What may have been wrong PINs; the third locks many tokens.
_MAXIMUM_TRIES: Final = 2
_REMEMBERED: Final = 16
_Answer = TypeVar("_Answer")
_SALT_OCTETS: Final = 16
_CLEARS: Final = "then run: cassiopeia backend check -c signer.toml, which tries once and lets the signer go on"


class _Refused(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`settled`: a good login came after it, and with that the token counts from the beginning."""

    salt: bytes
    digest: bytes
    settled: bool = False


class PinBuffer(bytearray):
    """A PIN as python-pkcs11 takes it, without the copies in strings: it is given to C as it stands."""

    def encode(self, _encoding: str) -> bytearray:
        return self


@contextlib.contextmanager
def handed_over(pin: bytearray) -> Iterator[PinBuffer]:
    """The PIN in a form that python-pkcs11 takes; wiped after that."""
    buffer = PinBuffer(pin)
    try:
        yield buffer
    finally:
        wipe(buffer)


def pin_refused(message: str) -> Unavailable:
    """For a login that was refused, or that would be."""
    return Unavailable(message, code="pin-refused", retry_after_s=_RETRY_AFTER_S)


class TokenLogin:
    """Logins to one token. `name` is what messages call it; without a `state` nothing is remembered."""

    def __init__(self, name: str, identity: str, state: Path | None) -> None:
        self._name = name
        self._directory = None if state is None else token_directory(state)
        self._identity = identity

    def attempt(
        self, pin: bytearray, log_in: Callable[[], _Answer], flags: Callable[[], int], *, by_person: bool = False
    ) -> _Answer:
        """What `log_in` gives, if it may be tried at all; `flags` are the token's own, asked before that.

        Raises `Unavailable`: `pin-refused`, and then it was not tried, or it will not be tried again.
        """
        if self._directory is None:
            self._check_flags(flags(), by_person=by_person)
            return self._log_in(log_in)
        with one_at_a_time(self._directory, self._identity):
            # 1. What the token says, and what is remembered of it.
            self._check_flags(flags(), by_person=by_person)
            refused = self._read_refused(by_person=by_person)
            begun = self._read_begun()
            if by_person:
                self._check_patience(pin, refused)
            else:
                self._check_memory(pin, refused, begun)
            # 2. That it is tried stands on the disk before it is.
            self._write_begun(1)
            # 3. The one try.
            try:
                answer = self._log_in(log_in)
            except Unavailable:
                self._remember(pin, refused)
                raise
            except (
                pkcs11.DeviceError,
                pkcs11.DeviceMemory,
                pkcs11.DeviceRemoved,
                pkcs11.KeyHandleInvalid,
                pkcs11.KeySizeRange,
                pkcs11.KeyTypeInconsistent,
                pkcs11.MechanismInvalid,
                pkcs11.MechanismParamInvalid,
                pkcs11.ObjectHandleInvalid,
                pkcs11.SessionClosed,
                pkcs11.SessionCount,
                pkcs11.SessionHandleInvalid,
                pkcs11.SlotIDInvalid,
                pkcs11.TokenNotPresent,
                pkcs11.TokenNotRecognised,
                pkcs11.UserAlreadyLoggedIn,
                pkcs11.UserNotLoggedIn,
                MemoryError,
            ):
                # No PIN was looked at. Any other error may be a clumsy way to say that it is wrong.
                self._forget_begun()
                raise
            # 4. It is the right one: whatever was refused is no danger any more, for a person has seen to it.
            if by_person:
                self._remove("refused")
            elif not all(each.settled for each in refused):
                # Where it cannot be written, a person has to come earlier.
                with contextlib.suppress(OperatorError):
                    self._write_refused([replace(each, settled=True) for each in refused])
            self._forget_begun()
            return answer

    def _remember(self, pin: bytearray, refused: list[_Refused]) -> None:
        salt = os.urandom(_SALT_OCTETS)
        found = [*refused, _Refused(salt=salt, digest=_digest(pin, salt))]
        try:
            self._write_refused(found)
        except OperatorError:
            # A full disk. That something was refused has room where one octet was.
            self._write_begun(_MAXIMUM_TRIES - 1)
            raise
        self._forget_begun()

    def _write_refused(self, refused: list[_Refused]) -> None:
        replace_files({self._file("refused"): msgspec.json.encode(refused[-_REMEMBERED:])}, mode=SECRET)

    def _log_in(self, log_in: Callable[[], _Answer]) -> _Answer:
        try:
            return log_in()
        except (
            pkcs11.PinIncorrect,
            pkcs11.PinInvalid,
            pkcs11.PinLenRange,
            pkcs11.PinExpired,
            pkcs11.PinLocked,
            pkcs11.UserPinNotInitialized,
        ) as error:
            raise pin_refused(
                f"{self._name} refused the PIN ({type(error).__name__}), and it is not tried again: correct the PIN's "
                f"file, {_CLEARS}"
            ) from error

    def _check_flags(self, flags: int, *, by_person: bool) -> None:
        known = pkcs11.TokenFlag
        if flags & known.USER_PIN_LOCKED:
            raise pin_refused(f"{self._name} says that its PIN is locked: set it anew with the token's own tool")
        if flags & known.USER_PIN_FINAL_TRY:
            raise pin_refused(
                f"{self._name} says that one more wrong PIN locks it, and so it is not tried: log in once with the "
                f"token's own tool"
            )
        if flags & known.USER_PIN_COUNT_LOW and not by_person:
            raise pin_refused(
                f"{self._name} says that a wrong PIN was given to it, and so none is tried: see that the PIN's file is "
                f"right, {_CLEARS}"
            )

    def _check_memory(self, pin: bytearray, refused: list[_Refused], begun: int) -> None:
        if any(_is_of(each, pin) for each in refused):
            raise pin_refused(
                f"{self._name} refused this PIN before, and it is not tried again: correct the PIN's file, {_CLEARS}"
            )
        unsettled = sum(not each.settled for each in refused)
        if unsettled >= _MAXIMUM_TRIES:
            raise pin_refused(
                f"{self._name} refused {unsettled} PINs in a row, and one more may lock it: see that the PIN's file is "
                f"right, {_CLEARS}"
            )
        if unsettled + begun >= _MAXIMUM_TRIES:
            raise pin_refused(
                f"{self._name}: {begun} of the last logins were broken off, so that nobody knows whether the PIN was "
                f"refused, and one more may lock it: see that the PIN's file is right, {_CLEARS}"
            )

    def _check_patience(self, pin: bytearray, refused: list[_Refused]) -> None:
        if sum(not each.settled and _is_of(each, pin) for each in refused) >= _MAXIMUM_TRIES:
            raise pin_refused(
                f"{self._name} refused this PIN {_MAXIMUM_TRIES} times in a row, and once more may lock it: correct "
                f"the PIN's file; if it is right by now, remove {self._file('refused')} and try again"
            )

    def _file(self, kind: str) -> Path:
        if self._directory is None:
            raise InternalError("there is nothing to remember in")
        return self._directory / f"{self._identity}.{kind}"

    def _read_refused(self, *, by_person: bool) -> list[_Refused]:
        path = self._file("refused")
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[_Refused])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            if by_person:
                return []
            raise pin_refused(
                f"{path}: cannot be read ({error}), and so it is not known which PIN the token refused: "
                f"see that the PIN's file is right, {_CLEARS}"
            ) from error

    def _read_begun(self) -> int:
        path = self._file("begun")
        try:
            return len(path.read_bytes())
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise OperatorError(f"{path}: cannot be read: {error.strerror}: no login without it") from error

    def _write_begun(self, more: int) -> None:
        # Not waited for: what a killed process wrote is there, and a machine that loses its power does so once. What
        # stands there stays: there is no moment at which less is written down.
        path = self._file("begun")
        try:
            with path.open("ab", buffering=0) as stream:
                stream.write(b"." * more)
        except OSError as error:
            raise OperatorError(f"{path}: cannot write: {error.strerror}: no login without it") from error

    def _forget_begun(self) -> None:
        self._remove("begun")

    def _remove(self, kind: str) -> None:
        path = self._file(kind)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OperatorError(
                f"{path}: cannot be removed: {error.strerror}: remove it by hand, for what it says of the token is over"
            ) from error


def _is_of(refused: _Refused, pin: bytearray) -> bool:
    return hmac.compare_digest(_digest(pin, refused.salt), refused.digest)


def _digest(pin: bytearray, salt: bytes) -> bytes:
    return hashlib.scrypt(pin, salt=salt, n=1 << 14, r=8, p=1, dklen=32)
