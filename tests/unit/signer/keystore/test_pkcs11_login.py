"""A wrong PIN is given to a token once, whoever tries and however often: the library's spy writes down every login."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from tests.support.softhsm import MODULE, PIN, SoftHsm, softhsm_here

from cassiopeia.core.key_uri import parse_key_uri
from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.signer.keystore import pkcs11 as backend
from cassiopeia.signer.keystore.interface import StoreSettings
from cassiopeia.signer.keystore.pkcs11 import log_in_once
from cassiopeia.signer.keystore.token_login import PinBuffer, TokenLogin

_URI = parse_key_uri("pkcs11:token=cas;object=ca")
_WRONG = "141421"
_OK = ("C_Login", "CKR_OK")
_INCORRECT = ("C_Login", "CKR_PIN_INCORRECT")


@pytest.fixture
def softhsm(tmp_path: Path) -> Iterator[SoftHsm]:
    """A token with the key `ca`, and nothing asked of the spy so far."""
    with softhsm_here(tmp_path / "hsm") as found:
        found.make_token("cas")
        found.write_pin()
        found.tool("cas", "--keypairgen", "--key-type", "EC:prime256v1", "--label", "ca", "--id", "01")
        yield found


@pytest.fixture
def settings(softhsm: SoftHsm, tmp_path: Path) -> StoreSettings:
    return softhsm.settings(module=softhsm.spy, state=tmp_path / "state")


def refused(settings: StoreSettings, match: str) -> Unavailable:
    """What a store of its own says, as a worker that starts has."""
    store = backend.load().open_store(settings)
    with pytest.raises(Unavailable, match=match) as caught:
        store.open(_URI)
    store.close()
    assert caught.value.code == "pin-refused"
    return caught.value


def opens(settings: StoreSettings) -> None:
    store = backend.load().open_store(settings)
    key = store.open(_URI)
    assert key.sign(key.algorithms[0], b"")
    store.close()


def log_in_elsewhere(softhsm: SoftHsm) -> None:
    """Somebody's right PIN: the token forgets that a wrong one was given."""
    softhsm.tool("cas", "--list-objects")
    assert not softhsm.wrong_pin_given


def test_a_wrong_pin_is_given_once(softhsm: SoftHsm, settings: StoreSettings) -> None:
    softhsm.write_pin(_WRONG)
    refused(settings, r"the token 'cas' refused the PIN \(PinIncorrect\), and it is not tried again: correct")
    for _ in range(5):
        refused(
            settings,
            r"a wrong PIN was given to it, and so none is tried: .* backend check -c signer\.toml, which",
        )
    assert softhsm.calls("C_Login") == [_INCORRECT]


def test_not_even_when_the_token_has_forgotten_it(softhsm: SoftHsm, settings: StoreSettings) -> None:
    softhsm.write_pin(_WRONG)
    refused(settings, "refused the PIN")
    log_in_elsewhere(softhsm)
    for _ in range(3):
        refused(settings, "the token 'cas' refused this PIN before, and it is not tried again: correct the PIN's file")
    assert softhsm.calls("C_Login") == [_INCORRECT]


def test_a_corrected_pin_is_another_one(softhsm: SoftHsm, settings: StoreSettings) -> None:
    softhsm.write_pin(_WRONG)
    refused(settings, "refused the PIN")
    log_in_elsewhere(softhsm)
    softhsm.write_pin()
    opens(settings)
    # The wrong one stays known.
    softhsm.write_pin(_WRONG)
    refused(settings, "refused this PIN before")
    assert softhsm.calls("C_Login") == [_INCORRECT, _OK]


def test_several_wrong_pins_are_each_given_once(softhsm: SoftHsm, settings: StoreSettings) -> None:
    for pin in ("111111", "222222", "111111", "222222"):
        softhsm.write_pin(pin)
        refused(settings, "refused")
        log_in_elsewhere(softhsm)
    assert softhsm.calls("C_Login") == [_INCORRECT] * 2


def test_after_two_wrong_pins_not_even_the_right_one_is_given_but_by_a_person(
    softhsm: SoftHsm, settings: StoreSettings
) -> None:
    """Not every token says of itself that wrong PINs were given to it, and three lock many."""
    for pin in ("111111", "222222"):
        softhsm.write_pin(pin)
        refused(settings, "refused the PIN")
        log_in_elsewhere(softhsm)
    softhsm.write_pin()
    refused(settings, "the token 'cas' refused 2 PINs in a row, and one more may lock it: see that the PIN's file is")
    log_in_once(settings, _URI)
    opens(settings)
    assert softhsm.calls("C_Login") == [_INCORRECT, _INCORRECT, _OK, _OK]


def test_a_person_who_corrects_nothing_does_not_lock_the_token(softhsm: SoftHsm, settings: StoreSettings) -> None:
    softhsm.write_pin(_WRONG)
    refused(settings, "refused the PIN")
    for _ in range(3):
        with pytest.raises(Unavailable, match="refused") as caught:
            log_in_once(settings, _URI)
        log_in_elsewhere(softhsm)
    assert softhsm.calls("C_Login") == [_INCORRECT] * 2
    found = re.search(
        "refused this PIN 2 times in a row, and once more may lock it: .* remove (.*) and try again", str(caught.value)
    )
    assert found is not None
    # The token was given this PIN in the meantime.
    Path(found[1]).unlink()
    with pytest.raises(Unavailable, match="refused the PIN"):
        log_in_once(settings, _URI)
    assert softhsm.calls("C_Login") == [_INCORRECT] * 3


def test_a_person_s_will_tries_once_and_lets_the_signer_go_on(softhsm: SoftHsm, settings: StoreSettings) -> None:
    softhsm.write_pin(_WRONG)
    refused(settings, "refused the PIN")
    with pytest.raises(Unavailable, match="refused the PIN"):
        log_in_once(settings, _URI)
    softhsm.write_pin()
    refused(settings, "a wrong PIN was given to it, and so none is tried")
    log_in_once(settings, _URI)
    opens(settings)
    assert softhsm.calls("C_Login") == [_INCORRECT, _INCORRECT, _OK, _OK]
    assert not list((settings.state or Path()).glob("tokens/*.refused"))


@pytest.mark.parametrize(
    ("flag", "match"),
    [
        (pkcs11.TokenFlag.USER_PIN_LOCKED, "says that its PIN is locked: set it anew with the token's own tool"),
        (pkcs11.TokenFlag.USER_PIN_FINAL_TRY, "says that one more wrong PIN locks it, and so it is not tried: log in"),
    ],
    ids=["locked", "final try"],
)
def test_a_token_on_the_brink_is_left_alone_even_by_a_person(
    softhsm: SoftHsm, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch, flag: int, match: str
) -> None:
    monkeypatch.setattr(backend, "_flags", lambda token: int(token.flags) | flag)
    refused(settings, match)
    with pytest.raises(Unavailable, match=match):
        log_in_once(settings, _URI)
    assert softhsm.calls("C_Login") == []


def test_what_was_refused_is_not_written_down(softhsm: SoftHsm, settings: StoreSettings, tmp_path: Path) -> None:
    softhsm.write_pin(_WRONG)
    error: BaseException | None = refused(settings, "refused the PIN")
    while error is not None:
        assert _WRONG not in repr(error)
        error = error.__cause__ or error.__context__
    found = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert {path.suffix for path in found} == {".login", ".refused"}
    for path in found:
        assert path.stat().st_mode & 0o077 == 0
        assert _WRONG.encode() not in path.read_bytes()
        assert _WRONG.encode().hex().encode() not in path.read_bytes()
    assert (tmp_path / "state" / "tokens").stat().st_mode & 0o077 == 0


def test_processes_that_start_together_try_once(softhsm: SoftHsm, settings: StoreSettings) -> None:
    softhsm.write_pin(_WRONG)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.support.softhsm import SoftHsm\n"
        "from cassiopeia.core.key_uri import parse_key_uri\n"
        "from cassiopeia.errors import Unavailable\n"
        "from cassiopeia.signer.keystore import pkcs11\n"
        "hsm = SoftHsm(directory=Path(sys.argv[1]))\n"
        "store = pkcs11.load().open_store(hsm.settings(module=hsm.spy, state=Path(sys.argv[2])))\n"
        "sys.stdin.read()\n"
        "try:\n"
        "    store.open(parse_key_uri('pkcs11:token=cas;object=ca'))\n"
        "except Unavailable as error:\n"
        "    print(error.code)\n"
    )
    command = [sys.executable, "-c", program, str(softhsm.directory), str(settings.state)]
    children = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(4)]
    answers = []
    for child in children:
        assert child.stdin is not None
        child.stdin.close()
        child.stdin = None
    for child in children:
        out, _ = child.communicate(timeout=60)
        answers.append(out.strip())
    assert answers == ["pin-refused"] * 4
    assert softhsm.calls("C_Login") == [_INCORRECT]


def test_without_a_pin_it_is_said_where_to_write_one(softhsm: SoftHsm) -> None:
    settings = StoreSettings(passphrase=softhsm.settings().passphrase, module=MODULE)
    store = backend.load().open_store(settings)
    with pytest.raises(OperatorError, match=r"the token 'cas' wants a PIN: write \[pkcs11\] pin_file = PATH"):
        store.open(_URI)
    store.close()


def test_a_pin_that_is_not_there_yet_is_waited_for(softhsm: SoftHsm, settings: StoreSettings) -> None:
    store = backend.load().open_store(settings)
    (softhsm.directory / "pin").unlink()
    with pytest.raises(Unavailable, match="the PIN of the token is not there") as caught:
        store.open(_URI)
    # Not `locked`: that is for key files, and stops the whole signer.
    assert caught.value.code == "pin-missing"
    softhsm.write_pin()
    assert store.open(_URI)
    store.close()


def test_a_pin_that_others_can_read_is_a_mistake(softhsm: SoftHsm, settings: StoreSettings) -> None:
    softhsm.write_pin().chmod(0o644)
    store = backend.load().open_store(settings)
    with pytest.raises(OperatorError, match="others can read the PIN of the token; run: chmod 600"):
        store.open(_URI)
    store.close()
    assert softhsm.calls("C_Login") == []


def test_a_key_that_wants_its_pin_for_each_signature_gets_it(softhsm: SoftHsm, settings: StoreSettings) -> None:
    softhsm.tool("cas", *("--keypairgen", "--key-type", "RSA:2048", "--label", "each", "--always-auth"))
    store = backend.load().open_store(settings)
    key = store.open(parse_key_uri("pkcs11:token=cas;object=each"))
    for _ in range(2):
        assert key.sign(key.algorithms[0], b"")
    assert softhsm.calls("C_Login") == [_OK] * 3
    # The PIN's file goes wrong under way: one try.
    softhsm.write_pin(_WRONG)
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"wrong PIN|refused"):
            key.sign(key.algorithms[0], b"")
    assert softhsm.calls("C_Login") == [*[_OK] * 3, _INCORRECT]
    store.close()


def test_a_pin_can_be_a_credential_of_systemd(
    softhsm: SoftHsm, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token-pin").write_text(PIN)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    softhsm.write_pin(_WRONG)
    store = backend.load().open_store(settings)
    assert store.open(parse_key_uri("pkcs11:token=cas;object=ca?pin-source=credential:token-pin"))
    store.close()


def test_without_a_directory_nothing_is_remembered_but_the_token_is_asked(softhsm: SoftHsm) -> None:
    softhsm.write_pin(_WRONG)
    settings = softhsm.settings(module=softhsm.spy)
    refused(settings, "refused the PIN")
    refused(settings, "a wrong PIN was given to it, and so none is tried")
    assert softhsm.calls("C_Login") == [_INCORRECT]


def test_a_token_that_is_away_is_not_logged_into_by_a_person(softhsm: SoftHsm, settings: StoreSettings) -> None:
    with softhsm.away(), pytest.raises(Unavailable) as caught:
        log_in_once(settings, _URI)
    assert caught.value.code == "token-away"
    log_in_once(settings, _URI)


class TestMemory:
    """What is remembered of logins, with a token made of a function."""

    def attempt(self, tmp_path: Path, answer: Any, *, pin: str = PIN, by_person: bool = False) -> list[str]:
        """Try, and say what was given to the token."""
        given: list[str] = []

        def log_in() -> None:
            given.append(pin)
            if answer is not None:
                raise answer

        login = TokenLogin("the token", "identity", tmp_path)
        with contextlib.suppress(Unavailable):
            login.attempt(bytearray(pin.encode()), log_in, lambda: 0, by_person=by_person)
        return given

    @pytest.mark.parametrize(
        "answer",
        [
            pkcs11.PinIncorrect(),
            pkcs11.PinInvalid(),
            pkcs11.PinLenRange(),
            pkcs11.PinExpired(),
            pkcs11.PinLocked(),
            pkcs11.UserPinNotInitialized(),
        ],
        ids=lambda each: type(each).__name__,
    )
    def test_every_kind_of_refusal_counts(self, tmp_path: Path, answer: Exception) -> None:
        assert self.attempt(tmp_path, answer) == [PIN]
        assert self.attempt(tmp_path, None) == []
        assert self.attempt(tmp_path, None, pin="other") == ["other"]

    def test_a_token_that_was_pulled_out_has_refused_nothing(self, tmp_path: Path) -> None:
        for _ in range(5):
            with pytest.raises(pkcs11.DeviceRemoved):
                self.attempt(tmp_path, pkcs11.DeviceRemoved())
        assert self.attempt(tmp_path, None) == [PIN]

    def test_an_error_that_says_nothing_may_be_a_refusal(self, tmp_path: Path) -> None:
        for _ in range(2):
            with pytest.raises(pkcs11.GeneralError):
                self.attempt(tmp_path, pkcs11.GeneralError())
        assert self.attempt(tmp_path, None) == []
        assert self.attempt(tmp_path, None, by_person=True) == [PIN]
        assert self.attempt(tmp_path, None) == [PIN]

    def test_a_process_that_was_killed_while_it_logged_in_may_have_been_refused(self, tmp_path: Path) -> None:
        """The first time it is tried again, for that happens with the right PIN too; then a person has to look."""
        for _ in range(2):
            with pytest.raises(SystemExit):
                self.attempt(tmp_path, SystemExit())
        assert self.attempt(tmp_path, None) == []
        assert self.attempt(tmp_path, None, pin="other") == []
        assert self.attempt(tmp_path, None, by_person=True) == [PIN]
        assert self.attempt(tmp_path, None) == [PIN]

    def test_a_good_login_in_between_starts_the_count_anew(self, tmp_path: Path) -> None:
        for _ in range(3):
            with pytest.raises(SystemExit):
                self.attempt(tmp_path, SystemExit())
            assert self.attempt(tmp_path, None) == [PIN]

    def test_a_full_disk_does_not_lead_to_a_second_try(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OperatorError("no space left")

        with monkeypatch.context() as patch:
            patch.setattr("cassiopeia.signer.keystore.token_login.replace_files", full)
            with pytest.raises(OperatorError, match="no space left"):
                self.attempt(tmp_path, pkcs11.PinIncorrect())
            assert self.attempt(tmp_path, None) == []
        assert self.attempt(tmp_path, None) == []

    def test_a_refusal_and_a_login_that_was_broken_off_are_two(self, tmp_path: Path) -> None:
        assert self.attempt(tmp_path, pkcs11.PinIncorrect(), pin="wrong") == ["wrong"]
        with pytest.raises(SystemExit):
            self.attempt(tmp_path, SystemExit())
        assert self.attempt(tmp_path, None) == []
        assert self.attempt(tmp_path, None, by_person=True) == [PIN]

    def test_good_logins_in_between_start_the_count_of_refusals_anew(self, tmp_path: Path) -> None:
        for number in range(4):
            wrong = f"wrong {number}"
            assert self.attempt(tmp_path, pkcs11.PinIncorrect(), pin=wrong) == [wrong]
            assert self.attempt(tmp_path, None) == [PIN]
        for number in range(4):
            assert self.attempt(tmp_path, None, pin=f"wrong {number}") == []

    def test_a_full_disk_does_not_make_it_forget_that_logins_were_broken_off(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is written once stays, whatever becomes of the next octet."""
        for _ in range(2):
            with pytest.raises(SystemExit):
                self.attempt(tmp_path, SystemExit())
        real = Path.open

        def full(path: Path, *arguments: Any, **options: Any) -> Any:
            stream = real(path, *arguments, **options)
            if path.suffix == ".begun" and arguments[:1] != ("rb",):
                stream.close()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return stream

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", full)
            with pytest.raises(OperatorError, match="No space left"):
                self.attempt(tmp_path, AssertionError("tried"), by_person=True)
        assert self.attempt(tmp_path, None) == []

    def test_root_leaves_nothing_that_the_signer_could_not_open(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if os.geteuid() == 0:
            os.chown(tmp_path, 65534, 65534)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(OperatorError, match=r"who has to run this, and root must not: sudo -u '.*'"):
            self.attempt(tmp_path, AssertionError("tried"))
        assert list(tmp_path.iterdir()) == []

    def test_no_part_of_the_state_is_for_others(self, tmp_path: Path) -> None:
        assert self.attempt(tmp_path / "state", None) == [PIN]
        for path in (tmp_path / "state", tmp_path / "state" / "tokens"):
            assert path.stat().st_mode & 0o077 == 0

    def test_where_nothing_can_be_written_nothing_is_tried(self, tmp_path: Path) -> None:
        (tmp_path / "tokens").mkdir()
        (tmp_path / "tokens" / "identity.begun").mkdir()
        with pytest.raises(OperatorError, match=r"identity\.begun: cannot"):
            self.attempt(tmp_path, AssertionError("tried"))

    @pytest.mark.parametrize("content", [b"", b"[", b'[{"salt":1}]'], ids=["empty", "broken", "other"])
    def test_a_damaged_memory_refuses_until_a_person_comes(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "tokens").mkdir()
        (tmp_path / "tokens" / "identity.refused").write_bytes(content)
        assert self.attempt(tmp_path, None) == []
        assert self.attempt(tmp_path, None, by_person=True) == [PIN]
        assert self.attempt(tmp_path, None) == [PIN]

    def test_what_cannot_be_forgotten_is_for_a_person_to_remove(self, tmp_path: Path) -> None:
        (tmp_path / "tokens" / "identity.refused").mkdir(parents=True)
        assert self.attempt(tmp_path, None) == []
        with pytest.raises(OperatorError, match=r"identity\.refused: cannot be removed: .*: remove it by hand"):
            self.attempt(tmp_path, None, by_person=True)

    def test_a_place_that_cannot_be_made_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "state").write_bytes(b"")
        with pytest.raises(OperatorError, match=r"tokens: cannot make this directory: .*: the signer's user has to be"):
            self.attempt(tmp_path / "state", AssertionError("tried"))

    def test_nobody_logs_in_beside_another(self, tmp_path: Path) -> None:
        inside: list[int] = []
        most: list[int] = []

        def log_in() -> None:
            inside.append(1)
            # Others have their turn now, if nothing keeps them out.
            time.sleep(0.002)
            most.append(len(inside))
            inside.pop()

        def run() -> None:
            for _ in range(10):
                TokenLogin("the token", "identity", tmp_path).attempt(bytearray(b"1"), log_in, lambda: 0)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1] * 40


def test_the_pin_is_handed_over_without_a_copy_and_wiped(
    softhsm: SoftHsm, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    real = TokenLogin._log_in

    def log_in(self: TokenLogin, action: Any) -> Any:
        (buffer,) = [each.cell_contents for each in action.__closure__ if isinstance(each.cell_contents, PinBuffer)]
        assert bytes(buffer) == PIN.encode()
        assert buffer.encode("utf-8") is buffer
        given.append(buffer)
        return real(self, action)

    monkeypatch.setattr(TokenLogin, "_log_in", log_in)
    opens(settings)
    assert given == [bytes(len(PIN))]
