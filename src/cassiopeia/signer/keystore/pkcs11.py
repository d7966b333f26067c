"""Keys in tokens (HSMs, smart cards, SoftHSM) by PKCS#11, through python-pkcs11.

A token that goes away and comes back is found again: the session is opened anew, and the key has to be the same. What
is in a session ends with it, so that nothing of a token is kept but the key's URI and its public key. A token verifies
nothing here: it would be asked about its own work.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.key_uri import KeyUri, Pkcs11Uri
from cassiopeia.errors import InternalError, OperatorError, Unavailable
from cassiopeia.secret_source import SecretSource
from cassiopeia.signer.keystore import token_key
from cassiopeia.signer.keystore.interface import StoreSettings
from cassiopeia.signer.keystore.token_library import (
    Library,
    OpenSession,
    error_text,
    name_token,
    token_away,
    token_identity,
    token_serial,
    use_library,
)
from cassiopeia.signer.keystore.token_limits import session_limit
from cassiopeia.signer.keystore.token_login import TokenLogin, handed_over
from cassiopeia.signer.keystore.token_places import take_place, token_directory

# Everything below key stores is importable without the extra; `load` is where a missing one shows.
with contextlib.suppress(ImportError):
    import pkcs11

_Answer = TypeVar("_Answer")
_RETRY_AFTER_S: Final = 60


def load() -> Pkcs11:
    importlib.import_module("pkcs11._pkcs11")
    return Pkcs11()


class Pkcs11:
    """Whatever libraries the configuration names."""

    name = "pkcs11"
    version = ""
    signs: Sequence[SignatureAlgorithm] = token_key.SIGNED_WITH
    verifies: Sequence[SignatureAlgorithm] = ()

    def open_store(self, settings: StoreSettings) -> Pkcs11KeyStore:
        return Pkcs11KeyStore(settings)

    def verify(self, public_key_info: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes) -> None:
        del public_key_info, signature, octets
        raise OperatorError(f"a token does not verify {algorithm.name} here: name a library for a second opinion")


class Pkcs11KeyStore:
    """The keys of every token that the settings, or a key's URI, name a library for."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._libraries: dict[str, Library] = {}
        self._identities: dict[Pkcs11Uri, str] = {}

    def list_keys(self) -> Sequence[KeyUri]:
        """Every private key in the tokens of the configured library.

        A PIN is given to a token only when there is no other that it could be meant for. Where there are several, what
        is listed is the public keys, which stand beside private ones and are shown to everybody.
        """
        if not self._settings.module:
            return ()
        library = self._library(self._settings.module)
        with library.lock:
            tokens = library.tokens()
            found: list[KeyUri] = []
            for token in tokens:
                if not token.label and not token_serial(token):
                    continue
                uri = Pkcs11Uri(token=token.label, serial=token_serial(token))
                if token_identity(token) in library.sessions or (len(tokens) == 1 and self._settings.pin is not None):
                    found += self._in_session(uri, functools.partial(_held_keys, uri=uri))
                else:
                    found += _listed(token, uri)
            return found

    def open(self, uri: KeyUri) -> TokenKey:
        wanted = _in_token(uri)
        return self._in_session(wanted, lambda held: self._describe(held, wanted))

    def generate(self, uri: KeyUri, key_algorithm: str) -> TokenKey:
        wanted = _in_token(uri)
        if not wanted.label:
            raise OperatorError(f"{uri}: a key needs a name: write object=NAME")
        self._in_session(wanted, lambda held: token_key.generate(held.session, wanted, key_algorithm), writing=True)
        try:
            return self.open(uri)
        except OperatorError as error:
            raise OperatorError(f"{error}; the key was made, and is in the token") from error
        except Unavailable as error:
            raise Unavailable(
                f"{error.message}; the key was made, and is in the token",
                code=error.code,
                retry_after_s=error.retry_after_s,
            ) from error

    def log_in_once(self, uri: KeyUri) -> None:
        """Try the PIN by a person's will, whatever was refused before; when it is right, the signer goes on.

        Raises as `open` does, also when the token says that one more wrong PIN locks it.
        """
        wanted = _in_token(uri)
        library = self._library_of(wanted)
        with library.lock:
            try:
                library.drop(token_identity(library.find_token(wanted)))
                self._connect(library, wanted, by_person=True)
            except (pkcs11.PKCS11Error, MemoryError) as error:
                raise token_away(f"{name_token(wanted)} does not answer: {error_text(error)}") from error

    def close(self) -> None:
        for library in self._libraries.values():
            with library.lock:
                library.close()
        self._libraries.clear()

    def sign(self, key: TokenKey, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        """For `TokenKey`."""
        return self._in_session(key.uri, lambda held: self._sign(held, key, algorithm, octets))

    def _sign(self, held: OpenSession, key: TokenKey, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        # 1. The key object of this session, which has to be the key that was proved.
        name = str(key.uri)
        object_ = held.keys.get(name)
        if object_ is None:
            object_ = token_key.find_key(held.session, key.uri)
            found = token_key.public_key_info(token_key.read_public_key(held.session, object_, key.uri))
            if found != key.public_key_info:
                raise OperatorError(
                    f"{key.uri}: there is another key in the token now: put in the token with the key of the "
                    "sub-CA's certificate, or name where that is"
                )
            held.keys[name] = object_
        # 2. The signature.
        way = key.ways[algorithm]
        if not key.wants_pin:
            return token_key.sign(object_, algorithm, way, octets, None)
        source = self._pin_source(key.uri)
        if source is None:
            raise OperatorError(f"{key.uri}: this key wants a PIN for each signature: write pin-source=file:PATH")
        login = self._login(held.token, key.uri)
        with _pin(source) as pin, handed_over(pin) as handed:
            return login.attempt(
                pin, lambda: token_key.sign(object_, algorithm, way, octets, handed), lambda: _flags(held.token)
            )

    def _describe(self, held: OpenSession, uri: Pkcs11Uri) -> TokenKey:
        key = token_key.find_key(held.session, uri)
        public_key = token_key.read_public_key(held.session, key, uri)
        held.keys[str(uri)] = key
        return TokenKey(
            store=self,
            uri=uri,
            public_key_info=token_key.public_key_info(public_key),
            ways=token_key.mechanisms(held.token, public_key, uri),
            wants_pin=token_key.wants_pin_each_time(key),
        )

    def _in_session(
        self, uri: Pkcs11Uri, action: Callable[[OpenSession], _Answer], *, writing: bool = False
    ) -> _Answer:
        """Do it in a session with the token; if that does not work, once more in a new one.

        An old session ends with the token, and many libraries see what has changed only when they are started anew.
        """
        library = self._library_of(uri)
        with library.lock:
            library.check_process()
            try:
                return self._try(library, uri, action, writing=writing)
            except (pkcs11.PKCS11Error, MemoryError):
                self._forget(library, uri)
            try:
                return self._try(library, uri, action, writing=writing, last=True)
            except (pkcs11.PKCS11Error, MemoryError) as error:
                self._forget(library, uri)
                raise token_away(f"{name_token(uri)} does not answer: {error_text(error)}") from error

    def _try(
        self,
        library: Library,
        uri: Pkcs11Uri,
        action: Callable[[OpenSession], _Answer],
        *,
        writing: bool,
        last: bool = False,
    ) -> _Answer:
        held = self._session(library, uri, writing=writing)
        try:
            return action(held)
        except pkcs11.NoSuchKey as error:
            if last:
                raise token_key.no_such_key(held.session, uri) from error
            raise
        except (
            pkcs11.MechanismInvalid,
            pkcs11.MechanismParamInvalid,
            pkcs11.KeyTypeInconsistent,
            pkcs11.KeySizeRange,
            pkcs11.DataInvalid,
            pkcs11.DataLenRange,
            pkcs11.AttributeTypeInvalid,
            pkcs11.AttributeValueInvalid,
            pkcs11.DomainParamsInvalid,
            pkcs11.FunctionNotSupported,
            pkcs11.TemplateIncomplete,
            pkcs11.TemplateInconsistent,
            pkcs11.TokenWriteProtected,
        ) as error:
            raise OperatorError(f"{uri}: the token does not do this: {error_text(error)}") from error
        finally:
            if held.one_use or writing:
                library.drop(token_identity(held.token))

    def _forget(self, library: Library, uri: Pkcs11Uri) -> None:
        identity = self._identities.pop(_token_of(uri), None)
        if identity is not None:
            library.drop(identity)
        library.restart(unless_in_use=True)

    def _session(self, library: Library, uri: Pkcs11Uri, *, writing: bool) -> OpenSession:
        identity = self._identities.get(_token_of(uri))
        held = library.sessions.get(identity) if identity is not None else None
        if held is None or (writing and not held.session.rw):
            held = self._connect(library, uri, writing=writing)
        return held

    def _connect(
        self, library: Library, uri: Pkcs11Uri, *, writing: bool = False, by_person: bool = False
    ) -> OpenSession:
        """The session of this process with the token: one that another store has opened, or a new one, logged in."""
        # 1. The token.
        token = library.find_token(uri)
        identity = token_identity(token)
        held = library.sessions.get(identity)
        if held is not None and (held.session.rw or not writing):
            self._identities[_token_of(uri)] = identity
            return held
        library.drop(identity)
        # 2. A place at it, where these are counted.
        state, places = self._settings.state, self._settings.sessions or session_limit(library.path, token)
        place = None
        if state is not None and places:
            place = take_place(token_directory(state), identity, places)
        # 3. The session.
        try:
            session = self._open_session(library, token, uri, writing=writing, by_person=by_person)
        except BaseException:
            if place is not None:
                place.leave()
            raise
        held = OpenSession(
            session=session,
            token=token,
            place=place,
            # A takeover has two generations of workers for a while: where not all have a place, each takes turns.
            one_use=place is not None and places < 2 * self._settings.processes,
        )
        library.sessions[identity] = held
        self._identities[_token_of(uri)] = identity
        return held

    def _open_session(
        self, library: Library, token: pkcs11.Token, uri: Pkcs11Uri, *, writing: bool, by_person: bool
    ) -> pkcs11.Session:
        mapper = pkcs11.attributes.AttributeMapper()
        mapper.register_handler(token_key.PUBLIC_KEY_INFO, bytes, bytes)  # type: ignore[arg-type] # a number is one
        pin_source = self._pin_source(uri)
        try:
            if pin_source is None:
                if token.flags & pkcs11.TokenFlag.LOGIN_REQUIRED:
                    raise OperatorError(
                        f"{name_token(uri)} wants a PIN: write [pkcs11] pin_file = PATH into signer.toml, or "
                        f"?pin-source=file:PATH into the key's URI"
                    )
                return token.open(rw=writing, attribute_mapper=mapper)
            login = self._login(token, uri)
            with _pin(pin_source) as pin, handed_over(pin) as handed:
                return login.attempt(
                    pin,
                    lambda: token.open(rw=writing, user_pin=handed, attribute_mapper=mapper),
                    lambda: _flags(token),
                    by_person=by_person,
                )
        except pkcs11.SessionCount as error:
            raise token_away(
                f"{name_token(uri)} has no free session: other programs use it; end them, or write into signer.toml "
                "how many this signer may have ([pkcs11] sessions)"
            ) from error
        except Unavailable as error:
            # The session that the login was tried in stays open with the library: python-pkcs11 does not close it.
            if error.code == "pin-refused" and isinstance(error.__cause__, pkcs11.PKCS11Error):
                library.restart()
            raise

    def _login(self, token: pkcs11.Token, uri: Pkcs11Uri) -> TokenLogin:
        return TokenLogin(name_token(uri), token_identity(token), self._settings.state)

    def _pin_source(self, uri: Pkcs11Uri) -> SecretSource | None:
        if not uri.pin_source:
            return self._settings.pin
        what = f"the PIN of {name_token(uri)}"
        kind, _, place = uri.pin_source.partition(":")
        if kind == "file":
            return SecretSource(what=what, file=Path(place))
        return SecretSource(what=what, credential=place)

    def _library_of(self, uri: Pkcs11Uri) -> Library:
        path = uri.module_path or self._settings.module
        if not path:
            raise OperatorError(
                f"{uri}: which library reaches this token? Write [pkcs11] module = PATH into signer.toml, or "
                f"?module-path=PATH into the URI"
            )
        return self._library(path)

    def _library(self, path: str) -> Library:
        with self._lock:
            if path not in self._libraries:
                self._libraries[path] = use_library(path)
            return self._libraries[path]


class TokenKey:
    """One key in a token: its URI, what was proved of it, and how it is asked."""

    def __init__(
        self,
        *,
        store: Pkcs11KeyStore,
        uri: Pkcs11Uri,
        public_key_info: bytes,
        ways: Mapping[SignatureAlgorithm, token_key.Mechanism],
        wants_pin: bool,
    ) -> None:
        self._store = store
        self.uri = uri
        self.public_key_info = public_key_info
        self.ways = ways
        self.wants_pin = wants_pin

    @property
    def algorithms(self) -> Sequence[SignatureAlgorithm]:
        return tuple(self.ways)

    def sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        if algorithm not in self.ways:
            raise InternalError(f"this key does not sign with {algorithm.name}")
        return self._store.sign(self, algorithm, octets)


def log_in_once(settings: StoreSettings, uri: KeyUri) -> None:
    """Try a token's PIN by a person's will, as `Pkcs11KeyStore.log_in_once` does."""
    store = Pkcs11KeyStore(settings)
    try:
        store.log_in_once(uri)
    finally:
        store.close()


@contextmanager
def _pin(source: SecretSource) -> Iterator[bytearray]:
    """As `SecretSource.read`, but what it lacks is one token's matter and does not lock the signer."""
    with contextlib.ExitStack() as stack:
        try:
            pin = stack.enter_context(source.read())
        except Unavailable as error:
            raise Unavailable(error.message, code="pin-missing", retry_after_s=_RETRY_AFTER_S) from error
        yield pin


def _held_keys(held: OpenSession, *, uri: Pkcs11Uri) -> list[Pkcs11Uri]:
    return token_key.key_uris(held.session, uri, logged_in=True)


def _listed(token: pkcs11.Token, uri: Pkcs11Uri) -> list[Pkcs11Uri]:
    with contextlib.suppress(pkcs11.PKCS11Error), token.open() as session:
        return token_key.key_uris(session, uri, logged_in=False)
    return []


def _flags(token: pkcs11.Token) -> int:
    return int(token.slot.get_token().flags)


def _in_token(uri: KeyUri) -> Pkcs11Uri:
    if not isinstance(uri, Pkcs11Uri):
        raise OperatorError(f"{uri}: this is a key file, and no key in a token")
    return uri


def _token_of(uri: Pkcs11Uri) -> Pkcs11Uri:
    """The URI of its token alone."""
    return replace(uri, label="", identifier=b"")
