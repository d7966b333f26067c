"""The signer's loop where the whole system seldom leads: the front process without its workers."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.conversations import Pair, hello, joined
from tests.support.signer import SIGNING_CA, install

from cassiopeia.config import load_signer_config
from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.link.line import Line
from cassiopeia.link.stream import Link, open_listener
from cassiopeia.protocol.events import (
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
from cassiopeia.signer import service as service_module
from cassiopeia.signer.service import Signer
from cassiopeia.signer.tasks import Signed


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[Signer]:
    config = load_signer_config(install(tmp_path))
    made = Signer(config, config_path=tmp_path / "signer.toml")
    made._listener = open_listener(config.listen)
    made._listen(True)
    yield made
    made._stop()


def turn(signer: Signer) -> None:
    for key, mask in signer._selector.select(0.05):
        key.data(mask)
    for line in list(signer._lines):
        line.flush()
    signer._lines = [line for line in signer._lines if not line.closed]


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


def test_the_time_comes_with_the_journals_durable_head(signer: Signer) -> None:
    pair = joined()
    signer._journal.record_start(now=service_module._now(), boot_id=b"", configuration_hash=b"")
    pair.client.get_timestamp()
    for event in pair.to_signer():
        signer._on_event(pair.signer, event)
    assert pair.to_client() == []
    signer._journal.commit()
    (answer,) = pair.to_client()
    assert isinstance(answer, TimestampReceived)
    assert answer.timestamp is not None
    assert (answer.timestamp.index, answer.timestamp.head) == (1, signer._journal.head)
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
    signer._journal.record_start(now=service_module._now(), boot_id=b"", configuration_hash=b"")
    signer._on_event(pair.signer, request_)
    pair.signer.data_to_send()
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
    assert len(signer._lines) == 2
    assert callers[0].recv(1) == b""  # the oldest went
    assert "others wait" in caplog.text
    for caller in callers:
        caller.close()


def test_nobody_makes_room_who_has_proved_himself(
    signer: Signer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = [call(tmp_path), call(tmp_path)]
    while len(signer._lines) < 2:
        turn(signer)
    session = joined().signer
    monkeypatch.setattr(Line, "session", property(lambda _: session))
    callers.append(call(tmp_path))
    turn(signer)
    assert callers[2].recv(1) == b""
    assert len(signer._lines) == 2
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

    real = signer._listener
    signer._listen(False)
    away = Away(real.fileno())
    signer._listener = away
    signer._listen(True)
    with caplog.at_level(logging.WARNING):
        signer._accept()
    assert "no such device" in caplog.text
    listening = [signer._listening]
    signer._keep_house()
    assert [*listening, signer._listening] == [False, True]
    signer._accept()
    assert (away.answers, signer._lines) == ([], [])
    real.close()


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
