"""`cassiopeia order`, for the one that installs a bundle: what people see before they sign, and what is not sent."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.authorities import PROFILES
from tests.support.bundles import (
    FIRST,
    PROFILE,
    SECOND,
    SmallHierarchy,
    bundle_key_pem,
    client_bundle,
    make_hierarchy,
    signed,
    signer_bundle,
)
from tests.support.client_loop import write_authorities
from tests.support.client_store import opened_client_store, run
from tests.support.conversations import STATUS_REPORT
from tests.support.journal_keys import JOURNAL_KEY
from tests.support.operators import OPERATORS, confirm_clock

from cassiopeia.client import bundle_review
from cassiopeia.client.order_draft import read_order_file, write_order
from cassiopeia.client.signer_status import status_document
from cassiopeia.core import structure
from cassiopeia.core.bundle import bundle_hash
from cassiopeia.journal.order import InstallBundle, read_order, sign_order
from cassiopeia.journal.timestamp import statement
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.payload import Timestamp
from cassiopeia.sealing import make_sealing_key
from cassiopeia.store.database import Store

HIERARCHY = make_hierarchy()
_, SEALING = make_sealing_key(b"a passphrase")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A client that has heard its signer, which has the first sub-CA and another profile."""
    with opened_client_store(tmp_path, monkeypatch) as opened:
        write_authorities(tmp_path)
        (tmp_path / "profiles").mkdir()
        shutil.copy(PROFILES / f"{PROFILE}.toml", tmp_path / "profiles")
        (tmp_path / "bundle-key.pem").write_bytes(bundle_key_pem())
        text = (tmp_path / "client.toml").read_text()
        (tmp_path / "client.toml").write_text(
            text.replace('name = "client"\n', 'name = "client"\nbundle_key = "bundle-key.pem"\n')
        )
        now = dt.datetime.now(dt.UTC)
        word = Timestamp(
            time=now.replace(microsecond=0), signer_id=1, boot_id=b"b" * 16, boot_seconds=9, nonce=b"n" * 16, head=b""
        )
        word = replace(word, signature=JOURNAL_KEY.sign(statement(word)))
        opened.orders.save_timestamp(1, structure.encode(word), asked_at=now)
        authorities = tuple(replace(STATUS_REPORT.authorities[0], name=name) for name in (FIRST, "unassured_2020_1"))
        report = replace(STATUS_REPORT, authorities=authorities, profiles=(PROFILE, "8000-house"))
        opened.signers.save(1, status_document(report), now=now)
        yield opened


def bundle(hierarchy: SmallHierarchy = HIERARCHY, **changes: Any) -> bytes:
    values: dict[str, Any] = {"sealed_to": SEALING, "operators": 2}
    octets = signed(signer_bundle(hierarchy, **(values | changes)))
    Path("x.bundle").write_bytes(octets)
    return octets


def draft() -> str:
    done = run("order", "make", "install-bundle", "x.bundle", "--reason", "a drill", "--out", "x.order")
    assert (done.exit_code, done.stderr) == (0, ""), done.stderr
    return str(done.stdout)


def fails(*words: str) -> str:
    done = run(*words)
    assert done.exit_code != 0
    assert done.stderr.count("\n") == 1
    return str(done.stderr)


def test_a_draft_names_the_bundle_and_says_what_changes(store: Store) -> None:
    octets = bundle(names=(FIRST, SECOND), keys=(SECOND,), number=7)
    text = draft()
    _, arguments = read_order(read_order_file(Path("x.order")))
    assert arguments == InstallBundle(bundle_hash=bundle_hash(octets), number=7)
    for sentence in (
        f"sub-CA {SECOND}: new; issues from ",
        "sub-CA unassured_2020_1: goes; it has ended",
        "profile 8000-house: goes",
        "validator web (key ",
        "names 2 operators, 1 of whom must sign what loosens, 1 validators and 0 OCSP responders",
        f"brings keys, sealed to the signer alone: {SECOND}",
        "order sign x.order --key FILE --bundle x.bundle",
    ):
        assert sentence in text
    assert f"sub-CA {FIRST}: new" not in text
    assert f"profile {PROFILE}" not in text


def test_a_known_validator_is_no_news(store: Store) -> None:
    bundle()
    (validator,) = read_validators()
    document = status_document(STATUS_REPORT)
    document["orders"]["validators"] = [
        {"name": "web", "key_id": validator.key_id.hex(), "kinds": ["attestation", "dns-control"]}
    ]
    store.signers.save(1, document, now=dt.datetime.now(dt.UTC))
    text = draft()
    assert "validator web: may state attestation" in text
    assert "validator web (key" not in text


def read_validators() -> Any:
    from cassiopeia import installations  # noqa: PLC0415 - for this one look
    from cassiopeia.changes import read_contents  # noqa: PLC0415 - as above

    with installations.unpacked(signer_bundle(HIERARCHY, operators=2)) as directory:
        return read_contents(directory).pins.validators


def test_who_signs_sees_it_with_and_without_a_client(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle(keys=())
    draft()
    assert "give it with --bundle" in run("order", "show", "x.order").stdout
    shown = run("order", "show", "x.order", "--bundle", "x.bundle").stdout
    assert "It changes, beside what the signer has said that it has:" in shown
    assert "brings no key: those that it needs are in the signer already" in shown
    monkeypatch.delenv("CASSIOPEIA_CONFIG")
    shown = run("order", "show", "x.order", "--bundle", "x.bundle", "--bundle-key", "bundle-key.pem").stdout
    assert "It holds:" in shown
    assert f"sub-CA {FIRST}: new; issues from " in shown
    assert "give --bundle-key, or -c" in fails("order", "show", "x.order", "--bundle", "x.bundle")


def test_it_is_sent_with_its_bundle_only(store: Store) -> None:
    octets = bundle()
    draft()
    write_order(Path("x.order"), sign_order(read_order_file(Path("x.order")), OPERATORS[0]), replace=True)
    assert "has to go along: --bundle FILE" in fails("order", "send", "x.order")
    bundle(number=2)
    assert "find the right file" in fails("order", "send", "x.order", "--bundle", "x.bundle")
    Path("x.bundle").write_bytes(octets)
    assert "waits for signer 1" in run("order", "send", "x.order", "--bundle", "x.bundle").stdout
    (order,) = store.orders.waiting(1)
    assert store.orders.bundle(order.id) == octets
    write_order(Path("clock.order"), sign_order(confirm_clock(), OPERATORS[0]))
    assert "about no bundle: leave out" in fails("order", "send", "clock.order", "--bundle", "x.bundle")


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (signed(signer_bundle(HIERARCHY)), "not sealed to its signer: carry it there"),
        (signed(client_bundle(HIERARCHY)), "of the kind client"),
        (signed(replace(signer_bundle(HIERARCHY, sealed_to=SEALING), signer_id=2)), "is for signer 2"),
        (b"nothing", "this is not the DER of a SignedBundle"),
    ],
    ids=["unsealed", "client's", "another signer's", "none"],
)
def test_what_cannot_go_over_the_line_is_not_drafted(store: Store, octets: bytes, words: str) -> None:
    Path("x.bundle").write_bytes(octets)
    command = ("order", "make", "install-bundle", "x.bundle", "--reason", "a drill", "--out", "x.order")
    assert words in fails(*command)
    assert not Path("x.order").exists()


def test_a_bundle_that_is_too_large_for_the_line_is_carried(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    octets = bundle()
    monkeypatch.setattr(bundle_review, "Limits", lambda: Limits(bundle_octets=len(octets) - 1))
    command = ("order", "make", "install-bundle", "x.bundle", "--reason", "a drill", "--out", "x.order")
    assert f"has {len(octets)} octets, and {len(octets) - 1} are the most" in fails(*command)
