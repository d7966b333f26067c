"""What the publisher's own thread takes from the store, and what it does when that fails."""

from __future__ import annotations

import datetime as dt
import logging
import threading

import pytest
from sqlalchemy import update
from tests.support.authorities import NOW, entries, make_ca, p256_key
from tests.support.publishing import LATER, Publishing

from cassiopeia.errors import InternalError, OperatorError, Unavailable
from cassiopeia.store.models import crl as crl_table

DAY = dt.timedelta(days=1)


def serial(publishing: Publishing) -> int:
    return int.from_bytes(publishing.made.serial(next(iter(publishing.made.tbs))), "big")


def said_of_itself(publishing: Publishing) -> tuple[str, ...]:
    """The alarms of its last word in the store."""
    (word,) = publishing.store.publishers.list()
    assert word.name == "publisher"
    return word.alarms


def put_row(publishing: Publishing, der: bytes, *, number: int) -> None:
    """As somebody who writes into the database."""
    with publishing.store.database.write() as connection:
        connection.execute(update(crl_table).values(der=der, number=f"{number:040x}"))


@pytest.mark.parametrize("fault", ["flipped", "other-key", "nonsense"])
def test_a_crl_that_does_not_verify_is_not_taken(
    serving: Publishing, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = serving.watch._known[serving.authority.name].crl
    serving.revoke(serial(serving))
    serving.made.crl()
    good = serving.made.crls[-1]
    if fault == "other-key":
        serving.made.ca = make_ca("unassured_2026_2", key=make_ca("x", key=p256_key()).key)
    bad = {
        "flipped": good[:60] + bytes([good[60] ^ 1]) + good[61:],
        "other-key": good[:-3] + bytes(3),
        "nonsense": b"x",
    }[fault]
    put_row(serving, bad, number=9)
    serving.look()
    serving.look()

    assert caplog.text.count("the one in the store is not taken") == 1
    assert serving.watch._known[serving.authority.name].crl == before
    assert serving.said(serial(serving)) == "GOOD"

    (alarm,) = said_of_itself(serving)
    assert alarm.startswith("CRL of unassured_2026_2: the one in the store is not taken: ")

    put_row(serving, good, number=10)
    serving.look()
    assert serving.said(serial(serving)) == "REVOKED"
    assert said_of_itself(serving) == ()


def test_an_older_crl_is_not_taken(serving: Publishing) -> None:
    old = serving.made.crls[-1]
    serving.revoke(serial(serving))
    serving.sign_crl()
    serving.look()
    put_row(serving, old, number=20)
    serving.look()

    assert serving.said(serial(serving)) == "REVOKED"
    crl = serving.watch._known[serving.authority.name].crl
    assert crl is not None
    assert crl.number == 2

    # Nor is the same one learned twice: answers that are kept stand.
    known, newest = serving.watch._known[serving.authority.name], serving.made.crls[-1]
    before = known.changes
    assert not known.learn_crl(newest, authority=serving.authority)
    assert known.changes == before


def test_a_long_crl_is_read_where_it_has_grown(serving: Publishing) -> None:
    known = serving.watch._known[serving.authority.name]
    serving.made.revoked += [entries(range(each, each + 1)) for each in range(1, 3_000)]
    serving.sign_crl()
    serving.look()
    assert known.revocation(2_999) is not None
    assert known._read_octets == sum(map(len, serving.made.revoked))

    serving.revoke(serial(serving))
    serving.sign_crl()
    serving.look()
    assert serving.said(serial(serving)) == "REVOKED"
    assert len(known._entries) == 3_000

    # Another order of the same entries is read anew, and changes nothing.
    serving.made.revoked.reverse()
    serving.sign_crl()
    serving.look()
    assert len(known._entries) == 3_000
    assert serving.said(serial(serving)) == "REVOKED"


def test_a_new_sub_ca_is_served_without_a_restart(serving: Publishing, caplog: pytest.LogCaptureFixture) -> None:
    path = serving.config.authorities
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("[[authority]]")] + "authority = [", encoding="utf-8")
    with caplog.at_level(logging.INFO):
        serving.look()
        serving.look()
    assert caplog.text.count("the sub-CAs that were known before are served") == 1
    assert serving.said(serial(serving)) == "GOOD"

    ca = make_ca("unassured_2027_1", key=p256_key())
    (path.parent / "next.pem").write_bytes(ca.pem)
    block = text[text.index("[[authority]]") :]
    more = block.replace("unassured_2026_2", "unassured_2027_1").replace("ca.pem", "next.pem")
    path.write_text(f"{text}\n{more}", encoding="utf-8")
    with caplog.at_level(logging.INFO):
        serving.look()
    assert "there are 2 sub-CAs now, and were 1" in caplog.text
    assert {each.authority.name for each in serving.answerer._served.values()} == {
        "unassured_2026_2",
        "unassured_2027_1",
    }


def test_a_publisher_without_sub_cas_does_not_start(publishing: Publishing) -> None:
    publishing.config.authorities.unlink()

    with pytest.raises(OperatorError, match="cannot read this file"):
        publishing.start()


class Ended(Exception):
    """Ends a loop that a test drives."""


def drive(publishing: Publishing, monkeypatch: pytest.MonkeyPatch, *, turns: int, seconds: float) -> list[float]:
    """Let the thread's loop go round; return how long it waits each time."""
    waited: list[float] = []

    def wait(timeout: float) -> bool:
        waited.append(timeout)
        publishing.seconds += seconds
        if len(waited) == turns:
            publishing.watch.stop()
        return False

    monkeypatch.setattr(publishing.watch._stopping, "wait", wait)
    publishing.watch.run()
    return waited


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unavailable("the store does not answer", code="store"), "the store does not answer; again in"),
        (OperatorError("the store cannot be read"), "the store cannot be read; again in"),
        (TypeError("no time"), "has somebody written into the database?"),
    ],
    ids=["away", "broken", "senseless"],
)
def test_a_store_that_fails_is_waited_for_ever_longer(
    serving: Publishing,
    error: Exception,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr(serving.store.crls, "headers", fails)
    waited = drive(serving, monkeypatch, turns=8, seconds=1.0)

    assert words in caplog.text
    assert waited[0] <= 0.5
    assert 5 <= waited[-1] <= 10
    assert serving.said(serial(serving)) == "GOOD", "what is known still holds"


def test_whoever_has_not_looked_for_an_hour_calls_nothing_good(
    serving: Publishing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(serving.store.crls, "headers", lambda: (_ for _ in ()).throw(Unavailable("away")))
        drive(serving, patch, turns=8, seconds=600.0)
    assert serving.said(serial(serving)) == "TRY_LATER"
    assert caplog.text.count("the store was not seen for an hour") == 1

    serving.look()
    assert serving.said(serial(serving)) == "GOOD"


def test_it_says_now_and_then_that_it_runs_and_at_once_what_is_wrong(
    serving: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(serving.store.publishers, "save", lambda _name, alarms, **_: said.append(alarms))
    for _ in range(6):
        serving.look()
    assert said == [(), ()], "a minute has passed"

    serving.config.source.write_text("nonsense")
    serving.look()
    assert len(said) == 3
    assert "publisher.toml" in said[-1][0]


def test_a_publisher_that_may_not_speak_answers_all_the_same(
    serving: Publishing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise InternalError("permission denied for table publisher_status")

    monkeypatch.setattr(serving.store.publishers, "save", fails)
    for _ in range(8):
        serving.look()
    assert serving.said(serial(serving)) == "GOOD"
    assert caplog.text.count("cannot say in the store how it fares: permission denied") == 1


def test_a_database_that_never_answers_makes_nothing_good(serving: Publishing) -> None:
    """Whoever looks then waits for it, and can say nothing any more: the answers have to end without that."""
    serving.seconds += 3599
    assert serving.said(serial(serving)) == "GOOD"

    serving.seconds += 10
    assert serving.said(serial(serving)) == "TRY_LATER"


def test_it_looks_several_times_a_second(serving: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = drive(serving, monkeypatch, turns=3, seconds=0.25)

    assert waited == [0.25] * 3


def test_it_can_be_asked_while_it_learns(serving: Publishing) -> None:
    """One thread asks as quickly as it can; another learns of one certificate after the other."""
    expected = serial(serving)
    heard: set[str] = set()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            heard.add(serving.said(expected))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        known = serving.watch._known[serving.authority.name]
        for first in range(1 << 100, (1 << 100) + 30_000, 100):
            known.learn_issued((each, 1) for each in range(first, first + 100))
    finally:
        done.set()
        asking.join()

    assert heard == {"GOOD"}


def test_every_sub_ca_with_certificates_and_the_next_one_is_certified(publishing: Publishing) -> None:
    path = publishing.config.authorities
    text = path.read_text(encoding="utf-8")
    block = text[text.index("[[authority]]") :]
    spare = block.replace("unassured_2026_2", "unassured_2026_3")
    path.write_text(f"{text}\n{spare}", encoding="utf-8")
    publishing.start()

    def needed(now: dt.datetime) -> list[str]:
        return [each.name for each in publishing.watch._needed(now)]

    assert needed(NOW) == ["unassured_2026_2"]
    assert needed(LATER + 300 * DAY) == []
    publishing.watch._known["unassured_2026_3"].learn_issued([(5, 1)])
    assert needed(NOW) == ["unassured_2026_2", "unassured_2026_3"]
    assert needed(LATER + 300 * DAY) == ["unassured_2026_3"]
