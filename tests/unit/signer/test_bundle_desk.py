"""Bundles over the line: kept, unpacked by a real process, put in force when an order says so, or left alone."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.support.bundles import (
    FIRST,
    OTHER_KEY,
    SECOND,
    SignerMachine,
    client_bundle,
    make_hierarchy,
    make_signer_machine,
    signed,
    signer_bundle,
)
from tests.support.conversations import joined
from tests.support.softhsm import MODULE, PIN, make_softhsm

from cassiopeia import files, installations, sealing
from cassiopeia.core.bundle import bundle_hash
from cassiopeia.errors import OperatorError, PeerError, Refused, Unavailable
from cassiopeia.installations import Staged
from cassiopeia.journal.order import InstallBundle
from cassiopeia.protocol.events import BundleHeld, BundleReceived, RequestRefused
from cassiopeia.signer import bundle_desk, staging
from cassiopeia.signer.bundle_desk import BundleDesk, Verdict
from cassiopeia.signer.configuration import own_entries
from cassiopeia.signer.staging import Unfit, Unpacked, read_answer

TIME_LIMIT_S = 30.0


class Loop:
    """The signer's loop, with nothing in it but the desk."""

    def __init__(self, machine: SignerMachine, *, command: Sequence[str] | None = None) -> None:
        self.machine = machine
        self.selector = selectors.DefaultSelector()
        self.installed: list[int] = []
        self.verdicts: list[Verdict] = []
        words = {} if command is None else {"command": command}
        self.desk = BundleDesk(machine.config, selector=self.selector, installed=self.installed.append, **words)

    def bring(self, octets: bytes) -> BundleHeld | RequestRefused:
        """Over the line, and the answer back."""
        pair = joined()
        pair.client.send_bundle(octets)
        (event,) = pair.to_signer()
        assert isinstance(event, BundleReceived)
        self.desk.received(pair.signer, event.handle, event.bundle)
        (answer,) = pair.to_client()
        assert isinstance(answer, BundleHeld | RequestRefused)
        return answer

    def prepare(self, octets: bytes, *, number: int = 1) -> InstallBundle:
        wanted = InstallBundle(bundle_hash=bundle_hash(octets), number=number)
        self.desk.prepare(wanted, self.verdicts.append)
        return wanted

    def run_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + TIME_LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            patience = self.desk.seconds_to_deadline()
            for key, mask in self.selector.select(0.05 if patience is None else min(patience, 0.05)):
                key.data(mask)
            self.desk.check_time()

    def verdict(self) -> Verdict:
        self.run_until(lambda: self.verdicts)
        return self.verdicts.pop(0)

    def unpack(self, octets: bytes, *, number: int = 1) -> Verdict:
        self.bring(octets)
        self.prepare(octets, number=number)
        return self.verdict()

    def close(self) -> None:
        self.desk.stop()
        self.selector.close()


@pytest.fixture
def machine(tmp_path: Path) -> SignerMachine:
    return make_signer_machine(tmp_path / "signer")


@pytest.fixture
def loop(machine: SignerMachine) -> Iterator[Loop]:
    made = Loop(machine)
    yield made
    made.close()


def sealed(machine: SignerMachine, *, number: int = 1, to: bytes | None = None) -> bytes:
    to = (machine.directory / "sealing.pem").read_bytes() if to is None else to
    return signed(signer_bundle(machine.hierarchy, number=number, sealed_to=to, operators=2))


def but_for_the_empty(found: dict[str, bytes]) -> dict[str, bytes]:
    """The directory of bundles may have been made."""
    return {name: octets for name, octets in found.items() if name != "bundles"}


def refusal(verdict: Verdict | BundleHeld | RequestRefused) -> tuple[str, str]:
    assert isinstance(verdict, Refused | RequestRefused)
    return verdict.code, verdict.message


def test_a_bundle_is_kept_unpacked_and_put_in_force(loop: Loop, machine: SignerMachine) -> None:
    octets = sealed(machine)
    before = machine.everything()
    assert isinstance(loop.bring(octets), BundleHeld)
    assert machine.everything() == before
    wanted = loop.prepare(octets)
    staged = loop.verdict()
    assert isinstance(staged, Staged)
    assert (staged.number, staged.is_in_force) == (1, False)
    assert machine.config.bundles.number == 0
    loop.desk.install(wanted)
    installed = machine.config.bundles.installed
    assert installed == staged.directory
    assert loop.installed == [1]
    assert [each.authority.name for each in own_entries(machine.config)] == [FIRST, SECOND]
    assert not list(loop.desk.alarms())
    assert loop.desk.seconds_to_deadline() is None


def test_one_that_is_in_force_already_is_ordered_without_harm(loop: Loop, machine: SignerMachine) -> None:
    octets = sealed(machine)
    loop.unpack(octets)
    loop.desk.install(InstallBundle(bundle_hash=bundle_hash(octets), number=1))
    before = machine.everything()
    staged = loop.unpack(octets)
    assert isinstance(staged, Staged)
    assert staged.is_in_force
    loop.desk.discard(staged)
    loop.desk.install(InstallBundle(bundle_hash=staged.bundle_hash, number=1))
    assert machine.everything() == before
    assert loop.installed == [1]


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda _machine: b"nothing", "bundle-invalid", "DER of a SignedBundle"),
        (
            lambda machine: signed(signer_bundle(machine.hierarchy), OTHER_KEY),
            "bundle-invalid",
            "belongs to another hierarchy",
        ),
        (lambda machine: sealed(machine)[:-1] + b"\0", "bundle-invalid", "was changed after it was signed"),
        (lambda machine: signed(client_bundle(machine.hierarchy)), "bundle-invalid", "for another machine"),
        (
            lambda machine: signed(replace(signer_bundle(machine.hierarchy), signer_id=2)),
            "bundle-signer",
            "for signer 2, and this is signer 1",
        ),
        (lambda machine: signed(signer_bundle(machine.hierarchy)), "bundle-unsealed", "not sealed to this signer"),
    ],
    ids=["octets", "another key", "flipped", "client's", "another signer", "unsealed"],
)
def test_what_is_no_bundle_for_this_signer_is_refused_at_once(
    loop: Loop, machine: SignerMachine, make: Callable[[SignerMachine], bytes], code: str, words: str
) -> None:
    octets, before = make(machine), machine.everything()
    told_code, message = refusal(loop.bring(octets))
    assert told_code == code
    assert words in message
    with pytest.raises(Unavailable) as missing:
        loop.prepare(octets)
    assert missing.value.code == "bundle-missing"
    assert machine.everything() == before


def test_a_signer_without_a_bundle_key_takes_none(machine: SignerMachine) -> None:
    path = machine.directory / "signer.toml"
    path.write_text(path.read_text().replace("bundle_key =", "# bundle_key ="))
    loop = Loop(machine)
    code, message = refusal(loop.bring(sealed(machine)))
    assert code == "bundle-unheard"
    assert "names no bundle_key" in message
    path.write_text(path.read_text().replace("# bundle_key =", "bundle_key ="))
    loop.desk.follow(machine.config)
    assert isinstance(loop.bring(sealed(machine)), BundleHeld)
    loop.close()


def test_an_order_for_another_number_is_refused(loop: Loop, machine: SignerMachine) -> None:
    octets = sealed(machine, number=7)
    loop.bring(octets)
    with pytest.raises(Refused, match="has the number 7, and the order says 8"):
        loop.prepare(octets, number=8)


def test_the_newest_bundle_is_kept(loop: Loop, machine: SignerMachine) -> None:
    first, second = sealed(machine), sealed(machine, number=2)
    loop.bring(first)
    loop.bring(second)
    with pytest.raises(Unavailable):
        loop.prepare(first)
    loop.prepare(second, number=2)
    assert isinstance(loop.verdict(), Staged)


def test_one_bundle_is_unpacked_at_a_time(loop: Loop, machine: SignerMachine) -> None:
    first, second = sealed(machine), sealed(machine, number=2)
    loop.bring(first)
    loop.prepare(first)
    loop.bring(second)
    with pytest.raises(Unavailable, match="Another bundle is being unpacked") as busy:
        loop.prepare(second, number=2)
    assert busy.value.code == "busy"
    # The same order over a second session is told the same.
    loop.prepare(first)
    verdicts = [loop.verdict(), loop.verdict()]
    assert verdicts[0] == verdicts[1]
    loop.prepare(second, number=2)
    assert isinstance(loop.verdict(), Staged)


def test_an_order_for_another_number_joins_no_other(loop: Loop, machine: SignerMachine) -> None:
    octets = sealed(machine)
    loop.bring(octets)
    loop.prepare(octets)
    with pytest.raises(Refused, match="has the number 1, and the order says 2"):
        loop.prepare(octets, number=2)
    assert isinstance(loop.verdict(), Staged)
    assert loop.verdicts == []


def test_few_wait_for_one_bundle(loop: Loop, machine: SignerMachine) -> None:
    """An order that is sent again and again, over one line after the other, fills no memory."""
    octets = sealed(machine)
    loop.bring(octets)
    for _ in range(bundle_desk._MOST_WAITING):
        loop.prepare(octets)
    with pytest.raises(Unavailable, match="is being unpacked") as busy:
        loop.prepare(octets)
    assert busy.value.code == "busy"
    loop.run_until(lambda: loop.verdicts)
    assert len(loop.verdicts) == bundle_desk._MOST_WAITING


def test_what_cannot_be_installed_leaves_nothing(loop: Loop, machine: SignerMachine) -> None:
    _, other = sealing.make_sealing_key(b"another machine")
    before = machine.everything()
    code, message = refusal(loop.unpack(sealed(machine, to=other)))
    assert code == "order-bundle"
    assert "was sealed to another key than the sealing key of this machine" in message
    assert but_for_the_empty(before) == but_for_the_empty(machine.everything())


def test_an_older_bundle_is_refused(loop: Loop, machine: SignerMachine) -> None:
    loop.unpack(octets := sealed(machine, number=5), number=5)
    loop.desk.install(InstallBundle(bundle_hash=bundle_hash(octets), number=5))
    before = machine.everything()
    code, message = refusal(loop.unpack(sealed(machine, number=4), number=4))
    assert (code, "older than the installed one" in message) == ("order-bundle", True)
    assert machine.everything() == before


def test_what_was_unpacked_in_vain_is_discarded(loop: Loop, machine: SignerMachine) -> None:
    before = machine.everything()
    staged = loop.unpack(sealed(machine))
    assert isinstance(staged, Staged)
    loop.desk.discard(staged)
    assert but_for_the_empty(before) == but_for_the_empty(machine.everything())


def test_what_cannot_be_discarded_is_told(
    loop: Loop, machine: SignerMachine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    staged = loop.unpack(sealed(machine))
    assert isinstance(staged, Staged)

    def fail(*_: object) -> None:
        raise OperatorError("the disk is broken")

    monkeypatch.setattr(installations, "discard", fail)
    loop.desk.discard(staged)
    assert "what was unpacked of bundle 1 is left: the disk is broken" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_a_process_that_goes_ends_the_order_and_nothing_else(
    loop: Loop, machine: SignerMachine, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_desk, "_TIME_LIMIT_S", 1.0)
    octets = sealed(machine)
    loop.bring(octets)
    loop.prepare(octets)
    process = loop.desk._process
    assert process is not None
    os.kill(process.pid, number)
    code, message = refusal(loop.verdict())
    assert code == "order-bundle"
    assert ("died" if number is signal.SIGKILL else "not unpacked within 1 seconds") in message
    assert process.process.returncode is not None
    assert machine.config.bundles.installed is None
    monkeypatch.undo()
    # It was let go: it has to come again.
    with pytest.raises(Unavailable):
        loop.prepare(octets)
    assert isinstance(loop.unpack(octets), Staged)


@pytest.mark.parametrize(
    "program",
    [
        "import socket, sys; s = socket.socket(fileno=int(sys.argv[2])); s.recv(1); s.sendall(bytes(8))",
        "import socket, sys; s = socket.socket(fileno=int(sys.argv[2])); s.recv(1); s.sendall(b'\\xff' * 8)",
    ],
    ids=["an empty frame", "a frame over the limit"],
)
def test_a_process_that_breaks_the_rules_is_ended(machine: SignerMachine, program: str) -> None:
    loop = Loop(machine, command=[sys.executable, "-c", program])
    code, message = refusal(loop.unpack(sealed(machine)))
    assert (code, "broke the rules between us" in message) == ("order-bundle", True)
    assert loop.desk._process is None
    loop.close()


def test_an_answer_that_nobody_waits_for_breaks_the_rules(loop: Loop) -> None:
    with pytest.raises(PeerError, match="not asked"):
        loop.desk._hear(msgspec.msgpack.encode([Unfit(reason="no")]))


def test_where_no_process_starts_the_order_waits(machine: SignerMachine) -> None:
    loop = Loop(machine, command=["/nonexistent/program"])
    octets = sealed(machine)
    loop.bring(octets)
    with pytest.raises(Unavailable, match="No process can be started"):
        loop.prepare(octets)
    loop.close()


def test_stopping_leaves_no_process(machine: SignerMachine) -> None:
    loop = Loop(machine)
    octets = sealed(machine)
    loop.bring(octets)
    loop.prepare(octets)
    process = loop.desk._process
    assert process is not None
    loop.close()
    assert process.process.returncode is not None


def test_what_cannot_be_put_in_force_now_is_tried_again(
    loop: Loop, machine: SignerMachine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bundle_desk, "_RETRY_S", 0.01)
    octets = sealed(machine)
    loop.unpack(octets)
    full = True

    def sync(path: Path) -> None:
        if full:
            raise OSError(28, "No space left on device")
        sync_directory(path)

    sync_directory = files.sync_directory
    monkeypatch.setattr(files, "sync_directory", sync)
    # Before the rename: nothing of it is in force.
    monkeypatch.setattr(Path, "replace", lambda *_: sync(machine.directory))
    loop.desk.install(InstallBundle(bundle_hash=bundle_hash(octets), number=1))
    (alarm,) = loop.desk.alarms()
    assert "bundle 1 was ordered, and cannot be put in force" in alarm
    assert "No space left" in alarm
    assert machine.config.bundles.installed is None
    time.sleep(0.02)
    loop.desk.check_time()
    assert caplog.text.count("cannot be put in force") == 1
    monkeypatch.undo()
    full = False
    time.sleep(0.02)
    loop.run_until(lambda: loop.installed == [1])
    assert not list(loop.desk.alarms())


def test_what_a_crash_left_undone_is_done_at_the_next_start(loop: Loop, machine: SignerMachine) -> None:
    octets = sealed(machine)
    loop.unpack(octets)
    ordered = InstallBundle(bundle_hash=bundle_hash(octets), number=1)
    again = Loop(machine)
    again.desk.resume(ordered, fresh=True)
    assert again.installed == [1]
    assert machine.config.bundles.number == 1
    again.desk.resume(ordered, fresh=True)
    assert again.installed == [1]
    again.close()


def test_what_people_have_put_back_stays_so(
    loop: Loop, machine: SignerMachine, caplog: pytest.LogCaptureFixture
) -> None:
    octets = sealed(machine)
    loop.unpack(octets)
    with caplog.at_level(logging.WARNING):
        loop.desk.resume(InstallBundle(bundle_hash=bundle_hash(octets), number=1), fresh=False)
    assert machine.config.bundles.installed is None
    (alarm,) = loop.desk.alarms()
    assert "bundle 1 was ordered, and is not in force" in alarm
    assert alarm in caplog.text
    # Files that were taken over for another reason do not end it; an installation by hand does.
    loop.desk.follow(machine.config)
    assert list(loop.desk.alarms()) == [alarm]
    staged = loop.unpack(sealed(machine, number=2), number=2)
    assert isinstance(staged, Staged)
    installations.activate(machine.config.bundles, staged)
    loop.desk.follow(machine.config)
    assert not list(loop.desk.alarms())


def test_a_bundle_that_is_not_there_any_more_is_an_alarm(loop: Loop, machine: SignerMachine) -> None:
    """The disk was lost with it, or the journal was made again on another machine."""
    loop.desk.resume(InstallBundle(bundle_hash=bytes(32), number=3), fresh=True)
    (alarm,) = loop.desk.alarms()
    assert "install it with `cassiopeia signer install`" in alarm
    assert machine.config.bundles.installed is None
    assert loop.installed == []


def test_an_installation_by_hand_settles_what_was_ordered(loop: Loop, machine: SignerMachine) -> None:
    loop.desk.resume(InstallBundle(bundle_hash=bytes(32), number=1), fresh=True)
    octets = sealed(machine, number=2)
    staged = loop.unpack(octets, number=2)
    assert isinstance(staged, Staged)
    installations.activate(machine.config.bundles, staged)
    loop.desk._retry_at = 0.0
    loop.desk.settle()
    assert not list(loop.desk.alarms())
    # The signer finds it by itself (`takeover`).
    assert loop.installed == []


@pytest.mark.parametrize("body", [b"", b"\x90", b"\x91\x01", b"\xc0"], ids=["nothing", "none", "a number", "nil"])
def test_an_answer_is_an_answer(body: bytes) -> None:
    with pytest.raises(PeerError, match="sent an answer that is none"):
        read_answer(body)


def test_the_process_says_what_it_did(machine: SignerMachine) -> None:
    answer = staging.unpack(machine.directory / "signer.toml", sealed(machine))
    assert answer == Unpacked(directory=str(machine.directory / "bundles/0001"), is_in_force=False)
    again = staging.unpack(machine.directory / "signer.toml", signed(signer_bundle(make_hierarchy()), OTHER_KEY))
    assert isinstance(again, Unfit)
    assert "belongs to another hierarchy" in again.reason


def test_what_may_come_is_no_refusal_and_the_bundle_is_kept(loop: Loop, machine: SignerMachine) -> None:
    octets = sealed(machine)
    passphrase = machine.directory / "passphrase"
    passphrase.rename(machine.directory / "away")
    before = machine.everything()

    verdict = loop.unpack(octets)

    assert isinstance(verdict, Unavailable)
    assert verdict.code == "locked"
    assert "this bundle cannot be installed now" in verdict.message
    assert "nothing was changed" in verdict.message
    assert but_for_the_empty(machine.everything()) == before
    (machine.directory / "away").rename(passphrase)
    loop.prepare(octets)
    assert isinstance(loop.verdict(), Staged)


def test_a_key_in_a_token_is_proved_where_it_is(
    loop: Loop, machine: SignerMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hsm = make_softhsm(tmp_path / "hsm")
    hsm.make_token("ca")
    monkeypatch.setenv("SOFTHSM2_CONF", str(hsm.configuration))
    pem = machine.hierarchy.time[FIRST].key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "pem").write_bytes(pem)
    hsm.run(
        "softhsm2-util", "--import", tmp_path / "pem", "--token", "ca", "--label", "first", "--id", "01", "--pin", PIN
    )
    config = machine.directory / "signer.toml"
    config.write_text(
        config.read_text(encoding="utf-8")
        + f'[pkcs11]\nmodule = "{MODULE}"\npin_file = "{hsm.write_pin()}"\n'
        + f'[authority.{FIRST}]\nkey = "pkcs11:token=ca;object=first"\n',
        encoding="utf-8",
    )
    public = (machine.directory / "sealing.pem").read_bytes()
    octets = signed(signer_bundle(machine.hierarchy, keys=[SECOND], sealed_to=public))

    with hsm.away():
        away = loop.unpack(octets)
    loop.prepare(octets)
    there = loop.verdict()

    assert isinstance(away, Unavailable)
    assert away.code == "token-away"
    assert isinstance(there, Staged)
    assert [each.name for each in (there.directory / "keys").iterdir()] == [f"{SECOND}.key"]
