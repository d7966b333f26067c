"""Tokens that go away and come back, and how many sessions all processes of a signer have with one."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pkcs11
import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key
from tests.support.softhsm import SoftHsm, softhsm_here

from cassiopeia.core import algorithms
from cassiopeia.core.key_uri import parse_key_uri
from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.signer.keystore import pkcs11 as backend
from cassiopeia.signer.keystore import token_key, token_library, token_login, token_places
from cassiopeia.signer.keystore.interface import CaKey
from cassiopeia.signer.keystore.pkcs11 import Pkcs11KeyStore

_URI = parse_key_uri("pkcs11:token=cas;object=ca")


@pytest.fixture
def softhsm(tmp_path: Path) -> Iterator[SoftHsm]:
    with softhsm_here(tmp_path / "hsm") as found:
        found.make_token("cas")
        found.write_pin()
        found.tool("cas", "--keypairgen", "--key-type", "EC:prime256v1", "--label", "ca", "--id", "01")
        yield found


@pytest.fixture
def open_store(softhsm: SoftHsm, tmp_path: Path) -> Iterator[Callable[..., Pkcs11KeyStore]]:
    stores: list[Pkcs11KeyStore] = []

    def open_one(**changes: Any) -> Pkcs11KeyStore:
        settings = softhsm.settings(module=softhsm.spy, state=tmp_path / "state", **changes)
        stores.append(backend.load().open_store(settings))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., Pkcs11KeyStore]) -> Pkcs11KeyStore:
    return open_store()


def sign(key: CaKey, octets: bytes = b"to be signed") -> None:
    signature = key.sign(key.algorithms[0], octets)
    algorithms.verify(load_der_public_key(key.public_key_info), key.algorithms[0], signature, octets)


def unavailable(key: CaKey, code: str) -> str:
    with pytest.raises(Unavailable) as caught:
        key.sign(key.algorithms[0], b"")
    assert caught.value.code == code
    return caught.value.message


def test_a_token_that_was_removed_signs_again_when_it_is_back(softhsm: SoftHsm, store: Pkcs11KeyStore) -> None:
    key = store.open(_URI)
    sign(key)
    for _ in range(3):
        with softhsm.away():
            for _ in range(2):
                unavailable(key, "token-away")
        sign(key)
    assert ("C_Login", "CKR_PIN_INCORRECT") not in softhsm.calls("C_Login")


def test_a_token_that_was_away_at_the_start_is_opened_later(softhsm: SoftHsm, store: Pkcs11KeyStore) -> None:
    with softhsm.away(), pytest.raises(Unavailable) as caught:
        store.open(_URI)
    assert caught.value.code == "token-away"
    sign(store.open(_URI))


def test_a_token_that_does_not_exist_is_one_that_is_away(store: Pkcs11KeyStore) -> None:
    with pytest.raises(Unavailable, match="the token with serial number '12' is not there: plug it in") as caught:
        store.open(parse_key_uri("pkcs11:serial=12;object=ca"))
    assert caught.value.code == "token-away"


def test_a_token_is_not_back_when_another_one_has_its_name(softhsm: SoftHsm, store: Pkcs11KeyStore) -> None:
    key = store.open(_URI)
    softhsm.unplug()
    softhsm.tokens.mkdir()
    softhsm.make_token("cas")
    with pytest.raises(OperatorError, match="there is no such private key in the token: it has none that"):
        key.sign(key.algorithms[0], b"")
    softhsm.tool("cas", "--keypairgen", "--key-type", "EC:prime256v1", "--label", "ca", "--id", "01")
    with pytest.raises(OperatorError, match="there is another key in the token now: put in the token with the key"):
        key.sign(key.algorithms[0], b"")


def test_a_key_that_was_deleted_is_missed(softhsm: SoftHsm, store: Pkcs11KeyStore) -> None:
    key = store.open(_URI)
    sign(key)
    for kind in ("privkey", "pubkey"):
        softhsm.tool("cas", "--delete-object", "--type", kind, "--label", "ca")
    with pytest.raises(OperatorError, match="there is no such private key"):
        key.sign(key.algorithms[0], b"")


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException, times: int) -> None:
    """The next signatures end so."""
    real = token_key.sign
    left = [error] * times

    def fails(*arguments: Any) -> bytes:
        if left:
            raise left.pop()
        return real(*arguments)

    monkeypatch.setattr(token_key, "sign", fails)


_GONE = (
    pkcs11.DeviceError,
    pkcs11.DeviceMemory,
    pkcs11.DeviceRemoved,
    pkcs11.FunctionFailed,
    pkcs11.GeneralError,
    pkcs11.KeyHandleInvalid,
    pkcs11.ObjectHandleInvalid,
    pkcs11.OperationActive,
    pkcs11.PKCS11Error,
    pkcs11.SessionClosed,
    pkcs11.SessionHandleInvalid,
    pkcs11.TokenNotPresent,
    pkcs11.UserNotLoggedIn,
    MemoryError,
)


@pytest.mark.parametrize("error", _GONE, ids=lambda each: each.__name__)
def test_what_ends_a_session_begins_a_new_one(
    store: Pkcs11KeyStore, softhsm: SoftHsm, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    key = store.open(_URI)
    failing(monkeypatch, error("why"), 1)
    sign(key)
    assert len(softhsm.calls("C_Login")) == 2


@pytest.mark.parametrize("error", _GONE, ids=lambda each: each.__name__)
def test_what_ends_the_new_session_too_is_put_off(
    store: Pkcs11KeyStore, softhsm: SoftHsm, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    key = store.open(_URI)
    failing(monkeypatch, error("why"), 2)
    assert unavailable(key, "token-away") == f"the token 'cas' does not answer: {error.__name__}: why"
    sign(key)


@pytest.mark.parametrize(
    "error",
    [
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
    ],
)
def test_what_the_token_will_never_do_is_for_a_person(
    store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    key = store.open(_URI)
    failing(monkeypatch, error(), 1)
    with pytest.raises(OperatorError, match=f"object=ca: the token does not do this: {error.__name__}"):
        key.sign(key.algorithms[0], b"")
    sign(key)


def test_a_library_that_cannot_list_its_tokens_is_started_anew(
    softhsm: SoftHsm, store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = token_library.Library.tokens
    answers = [Unavailable("stuck", code="token-away")]

    def stuck(self: token_library.Library) -> Any:
        if answers:
            raise answers.pop()
        return real(self)

    monkeypatch.setattr(token_library.Library, "tokens", stuck)
    sign(store.open(_URI))
    assert len(softhsm.calls("C_Initialize")) == 1


def test_a_token_that_is_away_does_not_disturb_another(softhsm: SoftHsm, store: Pkcs11KeyStore) -> None:
    key = store.open(_URI)
    for _ in range(4):
        with pytest.raises(Unavailable, match="the token 'other' is not there"):
            store.open(parse_key_uri("pkcs11:token=other;object=ca"))
        sign(key)
    assert softhsm.calls("C_Login") == [("C_Login", "CKR_OK")]


def test_but_the_library_is_started_anew_now_and_then(
    softhsm: SoftHsm, store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many libraries see a token only so; the session with the other one comes back by itself."""
    monkeypatch.setattr(token_library, "_RESTART_PAUSE_S", 0.0)
    key = store.open(_URI)
    softhsm.make_token("other")
    softhsm.tool("other", "--keypairgen", "--key-type", "EC:prime256v1", "--label", "ca", "--id", "01")
    other = store.open(parse_key_uri("pkcs11:token=other;object=ca"))
    for each in (key, other, key):
        sign(each)
    assert softhsm.calls("C_Login") == [("C_Login", "CKR_OK")] * 3


def test_a_library_that_does_not_end_is_loaded_anew(
    softhsm: SoftHsm, store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stubborn:
        """Answers as the library does, but for its end."""

        def __init__(self, real: Any) -> None:
            self.real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def finalize(self) -> None:
            raise pkcs11.GeneralError

    key = store.open(_URI)
    library = token_library._libraries[softhsm.spy]
    stubborn = library._library = cast("Any", Stubborn(library._library))
    failing(monkeypatch, pkcs11.DeviceRemoved(), 1)
    sign(key)
    assert library._library is not stubborn


def test_slots_that_cannot_be_listed_are_a_token_that_is_away(
    store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf:
        def get_slots(self, *, token_present: bool) -> None:
            assert token_present
            raise pkcs11.DeviceError("deaf")

        def finalize(self) -> None:
            """Nothing has begun."""

    with monkeypatch.context() as patch:
        patch.setattr(token_library.Library, "_started", lambda _self: Deaf())
        with pytest.raises(Unavailable, match="cannot list its tokens: DeviceError: deaf") as caught:
            store.open(_URI)
        assert caught.value.code == "token-away"
    sign(store.open(_URI))


class TestSessions:
    """`[pkcs11] sessions`."""

    def test_a_session_stays_open_where_nothing_bounds_them(self, softhsm: SoftHsm, store: Pkcs11KeyStore) -> None:
        key = store.open(_URI)
        for _ in range(5):
            sign(key)
        assert len(softhsm.calls("C_OpenSession")) == 1

    def test_and_where_there_are_enough_for_a_takeover(
        self, softhsm: SoftHsm, open_store: Callable[..., Pkcs11KeyStore]
    ) -> None:
        key = open_store(sessions=4, processes=2).open(_URI)
        for _ in range(5):
            sign(key)
        assert len(softhsm.calls("C_OpenSession")) == 1

    @pytest.mark.parametrize("stated", [False, True], ids=["configured", "stated by the token"])
    def test_where_there_are_fewer_each_signature_has_its_own(
        self,
        softhsm: SoftHsm,
        open_store: Callable[..., Pkcs11KeyStore],
        monkeypatch: pytest.MonkeyPatch,
        stated: bool,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        monkeypatch.setattr(backend, "session_limit", lambda _library, _token: 3 if stated else 0)
        key = open_store(sessions=0 if stated else 3, processes=2).open(_URI)
        for _ in range(3):
            sign(key)
        opened, closed = softhsm.calls("C_OpenSession"), softhsm.calls("C_CloseSession")
        assert (len(opened), len(closed)) == (4, 4)

    def test_several_processes_take_turns(self, softhsm: SoftHsm, tmp_path: Path) -> None:
        children = []
        for number in range(3):
            environment = os.environ | {"PKCS11SPY_OUTPUT": str(tmp_path / f"calls-{number}")}
            command = [sys.executable, "-c", _SIGNS, str(softhsm.directory), str(tmp_path / "state"), "25"]
            children.append(subprocess.Popen(command, env=environment, stdout=-1, text=True))
        assert [child.communicate(timeout=120)[0] for child in children] == ["25\n"] * 3
        held = []
        for number in range(3):
            text = (tmp_path / f"calls-{number}").read_text(encoding="utf-8", errors="replace")
            opened, closed = (re.findall(rf"C_{each}\n(\S+ \S+)\n", text) for each in ("OpenSession", "CloseSession"))
            assert len(opened) == len(closed) == 26
            held += list(zip(opened, closed, strict=True))
        held.sort()
        for (_, end), (begin, _) in itertools.pairwise(held):
            assert end <= begin

    def test_who_gets_no_place_is_put_off(
        self,
        open_store: Callable[..., Pkcs11KeyStore],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        monkeypatch.setattr(token_places, "_PATIENCE_S", 0.05)
        key = open_store(sessions=1).open(_URI)
        identity = next((tmp_path / "state" / "tokens").glob("*.session-0")).name.removesuffix(".session-0")
        place = token_places.take_place(tmp_path / "state" / "tokens", identity, 1)
        assert "all 1 sessions that this signer may have with the token are in use" in unavailable(key, "token-busy")
        place.leave()
        sign(key)

    def test_who_has_left_a_place_does_not_get_it_before_those_who_wait(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(token_places, "_PATIENCE_S", 60.0)
        turns: list[int] = []
        begun = threading.Barrier(2)

        def take_turns(number: int) -> None:
            begun.wait(timeout=30)
            for _ in range(30):
                place = token_places.take_place(tmp_path, "token", 1)
                turns.append(number)
                time.sleep(0.01)
                place.leave()

        threads = [threading.Thread(target=take_turns, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(len(list(run)) for _, run in itertools.groupby(turns[:30])) < 10

    def test_a_process_that_is_killed_gives_its_place_back(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", _HOLDS, str(tmp_path)]
        child = subprocess.Popen(command, stdout=-1, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=30)
        token_places.take_place(tmp_path, "token", 1).leave()

    def test_a_token_whose_sessions_others_have_is_waited_for(
        self, store: Pkcs11KeyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise pkcs11.SessionCount

        with monkeypatch.context() as patch:
            patch.setattr(token_login.TokenLogin, "attempt", full)
            with pytest.raises(
                Unavailable, match="the token 'cas' has no free session: other programs use it; end"
            ) as caught:
                store.open(_URI)
        # Unlike a place of our own, it may never be free: that is worth an alarm.
        assert caught.value.code == "token-away"
        sign(store.open(_URI))

    def test_a_refused_login_leaves_its_place(
        self, softhsm: SoftHsm, open_store: Callable[..., Pkcs11KeyStore]
    ) -> None:
        softhsm.write_pin("000000")
        with pytest.raises(Unavailable, match="refused the PIN"):
            open_store(sessions=1).open(_URI)
        softhsm.write_pin()
        store = open_store(sessions=1)
        store.log_in_once(_URI)
        sign(store.open(_URI))


_SIGNS = """
import sys
from pathlib import Path
from cassiopeia.core.key_uri import parse_key_uri
from cassiopeia.signer.keystore import pkcs11
from tests.support.softhsm import SoftHsm

softhsm = SoftHsm(directory=Path(sys.argv[1]))
store = pkcs11.load().open_store(softhsm.settings(module=softhsm.spy, state=Path(sys.argv[2]), sessions=1))
key = store.open(parse_key_uri("pkcs11:token=cas;object=ca"))
print(sum(bool(key.sign(key.algorithms[0], b"")) for _ in range(int(sys.argv[3]))))
store.close()
"""

_HOLDS = """
import signal, sys
from pathlib import Path
from cassiopeia.signer.keystore.token_places import take_place

place = take_place(Path(sys.argv[1]), "token", 1)
print("held", flush=True)
signal.pause()
"""
