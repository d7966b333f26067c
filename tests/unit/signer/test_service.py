"""The signer's loop where the whole system seldom leads: the front process without its workers."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.conversations import Pair, hello, joined
from tests.support.journal_keys import JOURNAL_KEY, JOURNAL_PUBLIC_KEY
from tests.support.journal_records import record_start
from tests.support.signer import PROFILE, SIGNING_CA, install, record_intent

from cassiopeia.config import load_signer_config
from cassiopeia.errors import OperatorError, PeerError, Unavailable
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.link.line import Line
from cassiopeia.link.stream import Link
from cassiopeia.protocol.events import (
    EntriesReceived,
    HelloReceived,
    RequestAbandoned,
    RequestFailed,
    StatusReceived,
    StatusRequested,
    TimestampReceived,
    TimestampRequested,
)
from cassiopeia.protocol.message import Role
from cassiopeia.protocol.session import Session
from cassiopeia.signer.pool import WorkerPool
from cassiopeia.signer.service import Signer
from cassiopeia.signer.tasks import Mistrusted, Signed


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[Signer]:
    config = load_signer_config(install(tmp_path))
    made = Signer(config, config_path=tmp_path / "signer.toml")
    made._lines.open()
    made._clock.check(None)
    made._journal.begin(now=made._clock.now())
    yield made
    made._stop()


def turn(signer: Signer) -> None:
    for key, mask in signer._selector.select(0.05):
        key.data(mask)
    signer._lines.flush()


def call(tmp_path: Path) -> socket.socket:
    caller = socket.socket(socket.AF_UNIX)
    caller.settimeout(5)
    caller.connect(str(tmp_path / "signer.sock"))
    return caller


def say(signer: Signer, pair: Pair) -> list[object]:
    """Carry what the client said to the signer, and its answer back."""
    for event in pair.to_signer():
        signer._on_event(pair.signer, event)
    signer._journal.commit()
    return list(pair.to_client())


def test_a_signer_without_its_keys_says_that_it_is_locked(signer: Signer) -> None:
    pair = joined()
    pair.client.get_status()
    (event,) = say(signer, pair)
    assert isinstance(event, StatusReceived)
    assert event.report is not None
    assert event.report.state == "locked"
    assert event.report.reason
    (authority,) = event.report.authorities
    assert (authority.name, authority.crl_number, authority.next_update) == (SIGNING_CA, 0, None)


def test_a_hello_is_answered_with_who_the_signer_is(signer: Signer) -> None:
    pair = Pair(client=Session(role=Role.CLIENT, version=2), signer=Session(role=Role.SIGNER, version=2))
    pair.client.hello(hello())
    (event,) = say(signer, pair)
    assert isinstance(event, HelloReceived)
    assert (event.hello.signer_id, event.hello.limits) == (1, signer._config.limits.as_payload())
    assert event.hello.present_head == signer._journal.signed_head()


def greet(signer: Signer, head: bytes | None) -> HelloReceived:
    """Begin a session with the head that the client holds; return the signer's answer."""
    pair = Pair(client=Session(role=Role.CLIENT, version=2), signer=Session(role=Role.SIGNER, version=2))
    pair.client.hello(dataclasses.replace(hello(), present_head=head))
    for event in pair.to_signer():
        signer._on_event(pair.signer, event)
    # What the head brings about is on the disk before a word is said.
    assert pair.to_client() == []
    signer._journal.commit()
    (answer,) = pair.to_client()
    assert isinstance(answer, HelloReceived)
    return answer


def kinds(signer: Signer) -> list[str]:
    return [entries.decode_entry(octets).kind for _, octets, _ in signer._journal.entries(1, 100)]


def test_a_client_shows_the_head_that_it_holds(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerPool, "unlocked", property(lambda _: True))
    head = signer._journal.signed_head()
    assert greet(signer, head).hello.present_head == head
    assert greet(signer, b"").hello.present_head == head
    assert (signer._state(), kinds(signer)) == (("running", ""), ["key"])

    larger = dataclasses.replace(heads.read_head(head), size=2)
    answer = greet(signer, heads.sign_head(larger, JOURNAL_KEY))

    assert kinds(signer) == ["key", "halt"]
    assert heads.read_head(answer.hello.present_head or b"").size == 2
    state, reason = signer._state()
    assert (state, "it has lost part of its past" in reason) == ("halted", True)


def test_a_head_of_another_signer_is_reported_and_halts_nothing(
    signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = dataclasses.replace(heads.read_head(signer._journal.signed_head()), signer_id=2, size=9)
    answer = greet(signer, heads.sign_head(foreign, JOURNAL_KEY))
    assert answer.hello.present_head == signer._journal.signed_head()
    assert kinds(signer) == ["key"]
    assert "a journal head of signer 2: is this the journal that its copy is of" in caplog.text


def test_entries_are_copied(signer: Signer) -> None:
    pair = joined()
    pair.client.get_entries(1, 10)
    (answer,) = say(signer, pair)
    assert isinstance(answer, EntriesReceived)
    assert (answer.first, len(answer.logs), answer.head) == (1, 1, signer._journal.signed_head())


def test_a_start_is_journaled_with_what_is_judged_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerPool, "start", lambda _: None)
    path = install(tmp_path)

    def start() -> Signer:
        config = load_signer_config(path)
        started = Signer(config, config_path=path)
        started._lines.open()
        started._start()
        return started

    signer = start()
    assert kinds(signer) == ["key", "configuration", "start"]
    ((_, octets, _),) = signer._journal.entries(3, 1)
    body = entries.decode_body(entries.decode_entry(octets))
    assert (body.boot_id, body.configuration_hash) == (signer._boot_id, signer._loaded.digest)
    record_intent(signer._journal)
    signer._journal.commit()
    signer._stop()

    # The same configuration is not written down again; what nobody confirmed is over.
    signer = start()
    assert kinds(signer)[3:] == ["intent", "start", "abandonment"]
    signer._stop()

    (tmp_path / "profiles" / "9005-other.toml").write_bytes((tmp_path / "profiles" / f"{PROFILE}.toml").read_bytes())
    signer = start()
    assert kinds(signer)[6:] == ["configuration", "start"]
    signer._stop()


def test_the_time_comes_with_the_journals_durable_head(signer: Signer) -> None:
    pair = joined()
    record_start(signer._journal, now=signer._clock.now())
    pair.client.get_timestamp()
    for event in pair.to_signer():
        signer._on_event(pair.signer, event)
    assert pair.to_client() == []
    signer._journal.commit()
    (answer,) = pair.to_client()
    assert isinstance(answer, TimestampReceived)
    assert answer.timestamp is not None
    assert answer.timestamp.head == signer._journal.signed_head()
    assert heads.verify_head(answer.timestamp.head, [JOURNAL_PUBLIC_KEY]).size == 2
    assert answer.timestamp.boot_id == signer._boot_id
    assert not answer.timestamp.time.microsecond


def test_a_session_that_has_ended_is_not_answered(signer: Signer) -> None:
    pair = joined()
    pair.client.get_status()
    events = pair.to_signer()
    pair.signer.finish()
    for event in events:
        signer._on_event(pair.signer, event)
    assert pair.signer.data_to_send() == b""


@pytest.mark.parametrize("request_", [StatusRequested(handle=1), TimestampRequested(handle=1)])
def test_a_session_that_ends_before_the_disk_is_done_hears_nothing(
    signer: Signer, request_: StatusRequested | TimestampRequested
) -> None:
    pair = joined()
    if isinstance(request_, StatusRequested):
        pair.client.get_status()
    else:
        pair.client.get_timestamp()
    pair.to_signer()
    record_start(signer._journal, now=signer._clock.now())
    signer._on_event(pair.signer, request_)
    assert pair.signer.data_to_send() == b""
    pair.signer.finish()
    signer._journal.commit()
    assert pair.signer.data_to_send() == b""


def test_what_no_signer_gets_is_logged(signer: Signer, caplog: pytest.LogCaptureFixture) -> None:
    signer._on_event(joined().signer, RequestAbandoned(handle=1))
    assert "an event that a signer never gets: RequestAbandoned" in caplog.text
    signer._delivered(Signed(task=99, signature=b""))
    assert "nobody waits for" in caplog.text


def test_whoever_has_not_proved_himself_makes_room_for_the_next(
    signer: Signer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callers = []
    for _ in range(3):
        callers.append(call(tmp_path))
        turn(signer)
    assert len(signer._lines.open_ones) == 2
    assert callers[0].recv(1) == b""  # the oldest went
    assert "others wait" in caplog.text
    for caller in callers:
        caller.close()


def test_nobody_makes_room_who_has_proved_himself(
    signer: Signer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = [call(tmp_path), call(tmp_path)]
    while len(signer._lines.open_ones) < 2:
        turn(signer)
    session = joined().signer
    monkeypatch.setattr(Line, "session", property(lambda _: session))
    callers.append(call(tmp_path))
    turn(signer)
    assert callers[2].recv(1) == b""
    assert len(signer._lines.open_ones) == 2
    assert "refused a connection: 2 sessions are open already" in caplog.text
    for caller in callers:
        caller.close()


def test_a_device_that_went_away_is_looked_for_again(signer: Signer, caplog: pytest.LogCaptureFixture) -> None:
    class Away:
        def __init__(self, descriptor: int) -> None:
            self.answers: list[Link | Unavailable | None] = [Unavailable("serial:/dev/none: no such device"), None]
            self._descriptor = descriptor

        def fileno(self) -> int:
            return self._descriptor

        def accept(self) -> Link | None:
            answer = self.answers.pop(0)
            if isinstance(answer, Unavailable):
                raise answer
            return answer

        def close(self) -> None:
            pass

    real = signer._lines._listener
    assert real is not None
    signer._lines.listen(wanted=False)
    away = Away(real.fileno())
    signer._lines._listener = away
    signer._lines.listen(wanted=True)
    with caplog.at_level(logging.WARNING):
        signer._lines.accept()
    assert "no such device" in caplog.text
    listening = [signer._lines.listening]
    signer._keep_house()
    assert [*listening, signer._lines.listening] == [False, True]
    signer._lines.accept()
    assert (away.answers, signer._lines.open_ones) == ([], [])
    real.close()


def test_what_is_about_persons_goes_by_whole_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_signer_config(install(tmp_path, more="retention_days = 900\n"))
    signer = Signer(config, config_path=tmp_path / "signer.toml")
    signer._lines.open()
    signer._clock.check(None)
    now = signer._clock.now().replace(hour=9, minute=30)
    monkeypatch.setattr(signer._clock, "now", lambda: now)
    midnight = now.replace(hour=0, minute=0, second=0) - dt.timedelta(days=900)
    signer._journal.begin(now=midnight - dt.timedelta(seconds=1))
    record_intent(signer._journal, 1, now=midnight - dt.timedelta(seconds=1))
    record_intent(signer._journal, 2, now=midnight)
    signer._journal.commit()
    for _ in range(2):
        signer._keep_house()
        signer._journal.commit()
    assert kinds(signer) == ["key", "intent", "intent", "removal"]
    assert [bool(parts[0]) for _, _, parts in signer._journal.entries(2, 2)] == [False, True]
    now += dt.timedelta(days=1)
    signer._keep_house()
    signer._journal.commit()
    assert kinds(signer)[3:] == ["removal", "removal"]
    signer._stop()


def test_a_full_crl_before_the_first_one_is_not_now(signer: Signer) -> None:
    pair = joined()
    pair.client.get_full_crl(SIGNING_CA)
    (event,) = say(signer, pair)
    assert isinstance(event, RequestFailed)


def test_a_signer_whose_workers_cannot_start_ends_with_their_reason(tmp_path: Path) -> None:
    """The whole of `run`, with real workers."""
    config = load_signer_config(install(tmp_path))
    (tmp_path / "passphrase").write_bytes(b"wrong")
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(OperatorError, match="wrong passphrase"):
            Signer(config, config_path=tmp_path / "signer.toml").run()
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert not (tmp_path / "signer.sock").exists()


def test_a_worker_that_says_its_signature_is_wrong_is_replaced_only_while_another_can_start(
    signer: Signer, tmp_path: Path
) -> None:
    wrong = Mistrusted(task=1, signing_ca=SIGNING_CA, signing="openssl", verifying="gnutls", message="wrong")
    with pytest.raises(PeerError, match=f"its key of {SIGNING_CA} gave a wrong signature"):
        signer._delivered(wrong)
    (tmp_path / "signer.toml").write_text("colour = 1\n")
    signer.take_over("a test")
    assert signer._takeover.failure
    signer._delivered(wrong)
