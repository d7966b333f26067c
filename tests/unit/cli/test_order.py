from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support.client_store import ask, opened_client_store, run
from tests.support.journal_keys import JOURNAL_KEY
from tests.support.operators import OPERATORS, confirm_clock, public_pem

from cassiopeia.ceremony.operator_key import load_operator_key
from cassiopeia.cli.main import cassiopeia
from cassiopeia.client.order_draft import read_order_file, write_order
from cassiopeia.core import structure
from cassiopeia.core.ed25519 import public_octets
from cassiopeia.errors import OperatorError
from cassiopeia.journal.order import ConfirmClock, key_id, read_order, read_signed, sign_order, verify_order
from cassiopeia.journal.timestamp import statement
from cassiopeia.protocol.payload import Timestamp
from cassiopeia.store.database import Store

WORDS = "correct horse battery staple"
BOOT_ID = b"b" * 16
YEAR = dt.timedelta(days=365)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with opened_client_store(tmp_path, monkeypatch) as opened:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "passphrase").write_text(f"{WORDS}\n")
        yield opened


def hear(store: Store, *, behind: dt.timedelta = dt.timedelta(0), ago: dt.timedelta = dt.timedelta(0)) -> None:
    """What the signer client has heard: the signer's clock is so much behind, and that was so long ago."""
    seen_at = dt.datetime.now(dt.UTC) - ago
    unsigned = Timestamp(
        time=(seen_at - behind).replace(microsecond=0),
        signer_id=1,
        boot_id=BOOT_ID,
        boot_seconds=1000,
        nonce=b"n" * 16,
        head=b"head",
    )
    signed = replace(unsigned, signature=JOURNAL_KEY.sign(statement(unsigned)))
    store.orders.save_timestamp(1, structure.encode(signed), asked_at=seen_at)
    store.signers.save(1, {"state": "halted", "order_sequence": 6}, now=seen_at)


def make(*options: str) -> Result:
    return run("order", "make", "confirm-clock", "--out", "clock.order", *options)


def arguments_of(path: str = "clock.order") -> tuple[Any, ConfirmClock]:
    order, arguments = read_order(read_order_file(Path(path)))
    assert isinstance(arguments, ConfirmClock)
    return order, arguments


# --- keys


def make_key(name: str = "anna.key") -> Result:
    return CliRunner().invoke(cassiopeia, ["order", "key", name, "--passphrase-file", "passphrase"])


def test_a_key_is_made_encrypted_and_its_public_half_is_printed(store: Store, tmp_path: Path) -> None:
    done = make_key()
    key = load_operator_key(tmp_path / "anna.key", bytearray(WORDS.encode()))
    assert done.exit_code == 0
    assert "add it to operators under [orders]" in done.stderr
    assert (tmp_path / "anna.key").stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in (tmp_path / "anna.key").read_bytes()
    (tmp_path / "anna.pem").write_text(done.stdout)
    assert public_octets(key) in _named_by_signer(tmp_path, "anna.pem")


def _named_by_signer(tmp_path: Path, name: str) -> tuple[bytes, ...]:
    from cassiopeia.config import load_signer_config  # noqa: PLC0415 - as the signer reads it

    path = tmp_path / "signer.toml"
    path.write_text(
        "[signer]\nid = 1\n[keys]\npassphrase_file = 'p'\n[link]\nlisten = 'unix:s'\ncertificate = 'c'\nkey = 'k'\n"
        f"peers = ['p']\n[journal]\nkey = 'j'\n[orders]\noperators = ['{name}']\n"
    )
    return load_signer_config(path).operators


def test_the_passphrase_is_asked_for_twice(store: Store, tmp_path: Path) -> None:
    said = f"{WORDS}\n{WORDS}\n"
    done = CliRunner().invoke(cassiopeia, ["order", "key", "anna.key"], input=said)
    assert done.exit_code == 0
    assert WORDS not in done.output
    assert load_operator_key(tmp_path / "anna.key", bytearray(WORDS.encode()))


def test_no_key_is_overwritten(store: Store) -> None:
    make_key()
    assert "no key is ever overwritten" in make_key().stderr


def test_a_short_passphrase_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("short\n")
    assert "too short: take 15 characters or more" in make_key().stderr
    assert not (tmp_path / "anna.key").exists()


def test_a_key_in_a_place_that_is_not_there_is_one_line(store: Store) -> None:
    assert "cannot write the key: No such file or directory" in make_key("nowhere/anna.key").stderr


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "cannot read the key"), (b"no key", "wrong passphrase, or not")]
)
def test_a_key_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OperatorError, match=f"{path}: {reason}"):
        load_operator_key(path, bytearray(WORDS.encode()))


def test_only_ed25519_keys_sign(tmp_path: Path) -> None:
    from tests.support.authorities import p256_key  # noqa: PLC0415 - for this alone
    from tests.support.signer import write_key  # noqa: PLC0415 - as above

    write_key(tmp_path / "p256.key", p256_key(), passphrase=WORDS.encode())
    with pytest.raises(OperatorError, match="is not an Ed25519 key"):
        load_operator_key(tmp_path / "p256.key", bytearray(WORDS.encode()))


# --- drafts


def test_an_order_says_what_the_time_was_when_the_signer_was_heard(store: Store) -> None:
    hear(store, behind=YEAR, ago=dt.timedelta(seconds=30))
    before = dt.datetime.now(dt.UTC)
    done = make("--reason", "battery")
    order, said = arguments_of()
    assert (order.signer_id, order.sequence, order.boot_id, order.reason) == (1, 7, BOOT_ID, "battery")
    assert said.boot_seconds == 1000
    assert abs(said.true_time - (before - dt.timedelta(seconds=30))) < dt.timedelta(seconds=20)
    assert "the order sets it forward by 365 days" in done.stdout
    assert "cassiopeia order sign clock.order" in done.stdout
    assert "nobody yet" in done.stdout
    assert done.stderr == ""


def test_a_clock_that_is_right_is_confirmed(store: Store) -> None:
    hear(store)
    assert "the order confirms that" in make().stdout


def test_a_time_that_was_said_counts_from_now_on(store: Store) -> None:
    hear(store, ago=dt.timedelta(seconds=100))
    done = make("--time", "2031-05-06T07:08:09+02:00")
    _, said = arguments_of()
    expected = dt.datetime(2031, 5, 6, 5, 8, 9, tzinfo=dt.UTC) - dt.timedelta(seconds=100)
    assert abs(said.true_time - expected) < dt.timedelta(seconds=20)
    assert "WARNING: this machine's clock and --time are" in done.stderr


def test_a_signer_that_was_long_silent_is_warned_of(store: Store) -> None:
    hear(store, ago=dt.timedelta(hours=5))
    assert "WARNING: the signer was last heard 5 hours ago" in make().stderr


@pytest.mark.parametrize(
    ("said", "reason"), [("noon", "is no time"), ("2026-11-23T12:00:00", "does not say of which time zone")]
)
def test_a_time_has_to_be_exact(store: Store, said: str, reason: str) -> None:
    hear(store)
    assert reason in make("--time", said).stderr


def test_a_signer_that_was_never_heard_has_no_orders(store: Store) -> None:
    assert "signer 1 has not been heard here" in make().stderr
    hear(store)
    assert "signer 2 has not been heard here" in make("--signer", "2").stderr


def test_a_word_that_somebody_put_into_the_store_is_not_used(store: Store) -> None:
    hear(store)
    stored = store.orders.timestamp(1)
    assert stored is not None
    forged = replace(structure.decode(Timestamp, stored.octets), boot_seconds=1)
    store.orders.save_timestamp(1, structure.encode(forged), asked_at=dt.datetime.now(dt.UTC))
    assert "is not signed by its journal key" in make().stderr


def test_no_file_is_overwritten(store: Store) -> None:
    hear(store)
    make()
    assert "clock.order: is there already" in make().stderr


# --- files and signatures


def sign(*options: str, answer: str | None = None) -> Result:
    arguments = ["order", "sign", "clock.order", "--key", "anna.key", "--passphrase-file", "passphrase", *options]
    return CliRunner().invoke(cassiopeia, arguments, input=answer)


def test_a_signature_is_added_after_the_order_was_shown(store: Store, tmp_path: Path) -> None:
    make_key()
    anna = public_octets(load_operator_key(tmp_path / "anna.key", bytearray(WORDS.encode())))
    write_order(tmp_path / "clock.order", sign_order(confirm_clock(), OPERATORS[1]))
    done = sign(answer="y\n")
    assert done.exit_code == 0
    assert "it was 2026-11-23 12:00:00Z when the signer's machine had run 1000 seconds" in done.stdout
    signed = read_order_file(tmp_path / "clock.order")
    operators = [anna, public_octets(OPERATORS[1])]
    assert verify_order(signed, operators=operators, quorum=2, signer_id=1, boot_id=BOOT_ID, last_sequence=0)
    shown = run("order", "show", "clock.order").stdout
    assert all(key_id(each).hex()[:16] in shown for each in operators)


def test_whoever_says_no_signs_nothing(store: Store, tmp_path: Path) -> None:
    make_key()
    write_order(tmp_path / "clock.order", confirm_clock())
    assert sign(answer="n\n").exit_code == 1
    assert read_signed(read_order_file(tmp_path / "clock.order")).signatures == ()
    assert sign("--yes").exit_code == 0
    assert len(read_signed(read_order_file(tmp_path / "clock.order")).signatures) == 1


@pytest.mark.parametrize("content", [None, b"", public_pem(), b"-----BEGIN CASSIOPEIA ORDER-----\nAAAA\n-----END"])
def test_a_file_that_is_no_order_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "clock.order"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OperatorError, match=str(path)):
        read_order_file(path)


@pytest.mark.parametrize("changes", [{"signer_id": 127}, {"signer_id": 0}, {"sequence": 1 << 63}])
def test_an_order_that_no_signer_can_get_is_none(tmp_path: Path, changes: dict[str, int]) -> None:
    write_order(tmp_path / "clock.order", confirm_clock(**changes))
    with pytest.raises(OperatorError, match="no signer has such a number"):
        read_order_file(tmp_path / "clock.order")


def test_an_order_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot write the order"):
        write_order(tmp_path / "nowhere" / "clock.order", confirm_clock())


# --- sending


def test_an_order_that_nobody_signed_is_not_sent(store: Store, tmp_path: Path) -> None:
    write_order(tmp_path / "clock.order", confirm_clock())
    assert "nobody has signed this order yet" in run("order", "send", "clock.order").stderr
    assert store.orders.waiting(1) == ()


def test_a_signed_order_waits_for_the_client(store: Store, tmp_path: Path) -> None:
    write_order(tmp_path / "clock.order", sign_order(confirm_clock(), OPERATORS[0]))
    for _ in range(2):
        assert run("order", "send", "clock.order").stdout.startswith("order 1 waits for signer 1")
    (waiting,) = store.orders.waiting(1)
    assert waiting.octets == read_order_file(tmp_path / "clock.order")
    store.orders.postponed(waiting.id, "busy: later", now=dt.datetime.now(dt.UTC))
    late = run("order", "send", "clock.order", "--wait", "--timeout", "0").stderr
    assert "order 1 still waits after 0 seconds (the signer says: busy: later)" in late


def test_what_the_signer_answered_is_listed(store: Store, tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    obeyed = store.orders.put(1, 1, confirm_clock(), now=now)
    store.orders.obeyed(obeyed.id, journal_index=42, now=now)
    refused = store.orders.put(1, 2, confirm_clock(sequence=2), now=now)
    store.orders.refused(refused.id, "order-quorum: too few", now=now)
    text = run("order", "list").stdout
    assert "confirmClock  obeyed   entry 42 of its journal" in text
    assert "confirmClock  refused  order-quorum: too few" in text
    second, first = ask("order", "list")["orders"]
    assert (first["state"], first["journal_index"], first["reason"]) == ("obeyed", 42, "the battery was empty")
    assert (second["number"], second["state"], second["answer"]) == (2, "refused", "order-quorum: too few")
