"""`cassiopeia order make`: every order but that for the clock, from names and files that people have at hand."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.authorities import certification_request, default_ca, p256_key
from tests.support.client_store import opened_client_store, run
from tests.support.conversations import STATUS_REPORT
from tests.support.journal_keys import JOURNAL_KEY

from cassiopeia.client.order_draft import read_order_file
from cassiopeia.client.signer_status import status_document
from cassiopeia.core import structure
from cassiopeia.core.csr import parse_certification_request
from cassiopeia.journal.order import (
    Arguments,
    BlockKey,
    DisableValidator,
    EnableValidator,
    HaltAuthority,
    Order,
    RaiseCap,
    ResumeAuthority,
    UnblockKey,
    read_order,
)
from cassiopeia.journal.timestamp import statement
from cassiopeia.protocol.payload import Timestamp
from cassiopeia.store.database import Store

CA = "unassured_2026_2"
KEY_ID = b"v" * 8


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with opened_client_store(tmp_path, monkeypatch) as opened:
        monkeypatch.chdir(tmp_path)
        hear(opened)
        yield opened


def hear(store: Store, *, ago: dt.timedelta = dt.timedelta(0), **changes: Any) -> None:
    """What the signer client has heard, so long ago."""
    seen_at = dt.datetime.now(dt.UTC) - ago
    unsigned = Timestamp(
        time=seen_at.replace(microsecond=0),
        signer_id=1,
        boot_id=b"b" * 16,
        boot_seconds=1000,
        nonce=b"n" * 16,
        head=b"head",
    )
    signed = replace(unsigned, signature=JOURNAL_KEY.sign(statement(unsigned)))
    store.orders.save_timestamp(1, structure.encode(signed), asked_at=seen_at)
    store.signers.save(1, status_document(replace(STATUS_REPORT, state="running")) | changes, now=seen_at)


def make(*words: str) -> str:
    """Draft an order, which must work; return what it said."""
    done = run("order", "make", *words, "--reason", "a drill", "--out", "x.order")
    assert (done.exit_code, done.stderr) == (0, ""), done.stderr
    return str(done.stdout)


def fails(*words: str) -> str:
    done = run("order", "make", *words, "--reason", "a drill", "--out", "x.order")
    assert done.exit_code != 0
    assert done.stderr.count("\n") == 1
    assert not Path("x.order").exists()
    return str(done.stderr)


def drafted() -> tuple[Order, Arguments]:
    return read_order(read_order_file(Path("x.order")))


@pytest.mark.parametrize(
    ("words", "arguments", "says"),
    [
        (("halt-authority", CA), HaltAuthority(authority=CA), f"the sub-CA {CA} signs no certificate"),
        (("resume-authority", CA), ResumeAuthority(authority=CA), f"the sub-CA {CA} signs certificates again"),
        (("disable-validator", "front"), DisableValidator(validator=KEY_ID), "is not believed until it is enabled"),
        (("disable-validator", KEY_ID.hex()), DisableValidator(validator=KEY_ID), "is not believed"),
        (("enable-validator", "front"), EnableValidator(validator=KEY_ID), "is believed again"),
        (("block-key", "ab" * 32), BlockKey(key_hash=b"\xab" * 32), "the hash that was given"),
        (("unblock-key", "AB" * 32), UnblockKey(key_hash=b"\xab" * 32), "may be certified again"),
        (
            ("raise-cap", "revocations", "5000", "--hours", "48"),
            RaiseCap(cap="revocations", limit=5000, hours=48),
            "The cap revocations of signer 1 is 9 now.",
        ),
        (("raise-cap", "refusals", "99"), RaiseCap(cap="refusals", limit=99, hours=24), "is 10 now"),
    ],
)
def test_an_order_is_drafted_and_explained(
    store: Store, words: tuple[str, ...], arguments: Arguments, says: str
) -> None:
    text = make(*words)
    order, said = drafted()
    assert (order.signer_id, order.sequence, order.boot_id, order.reason) == (1, 4, b"b" * 16, "a drill")
    assert said == arguments
    assert says in text
    assert ("restricts" in text) is isinstance(arguments, HaltAuthority | DisableValidator | BlockKey)
    assert "cassiopeia order sign x.order --key FILE" in text
    shown = run("order", "show", "x.order").stdout
    assert shown in text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("halt-authority", "nowhere_2026_1"), f"has no sub-CA named nowhere_2026_1; it has {CA}"),
        (("resume-authority", ""), "has no sub-CA named"),
        (
            ("disable-validator", "nobody"),
            f"no validator with the name or key id nobody; it has front ({KEY_ID.hex()})",
        ),
        (("raise-cap", "everything", "5"), "there is no cap 'everything': they are open-intents, "),
        (("raise-cap", "revocations", "100001"), "can be raised to 100000 at most"),
        (("raise-cap", "revocations", "0"), "0 is not in the range"),
        (("raise-cap", "revocations", "5", "--hours", "721"), "for 1 to 720 hours"),
        (("block-key", "missing.pem"), "neither the SHA-256 of a public key (64 hexadecimal digits) nor a file"),
        (("block-key", "ab" * 31), "neither the SHA-256 of a public key"),
    ],
)
def test_what_this_signer_could_not_obey_is_not_drafted(store: Store, words: tuple[str, ...], reason: str) -> None:
    assert reason in fails(*words)


def test_a_reason_is_asked_for_and_not_too_long(store: Store) -> None:
    assert "Missing option '--reason'" in run("order", "make", "halt-authority", CA, "--out", "x.order").stderr
    done = run("order", "make", "halt-authority", CA, "--out", "x.order", "--reason", "x" * 501)
    assert "the reason of an order has at most 500 characters" in done.stderr


def test_a_report_of_an_older_signer_lacks_what_can_be_named(store: Store) -> None:
    store.signers.save(1, {"state": "running"}, now=dt.datetime.now(dt.UTC))
    assert "it has none" in fails("halt-authority", CA)
    assert "it has none" in fails("disable-validator", "front")
    assert "now" not in make("raise-cap", "refusals", "9").splitlines()[-2]


def test_a_signer_that_was_long_silent_is_warned_of(store: Store) -> None:
    hear(store, ago=dt.timedelta(hours=5))
    done = run("order", "make", "halt-authority", CA, "--out", "x.order", "--reason", "a drill")
    assert "WARNING: the signer was last heard 5 hours ago" in done.stderr


def spki(key: Any) -> bytes:
    octets: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return octets


def as_pem(label: str, octets: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(octets).decode()}-----END {label}-----\n".encode()


CSR = certification_request()


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    ("label", "octets", "key", "says"),
    [
        ("CERTIFICATE", default_ca().der, spki(default_ca().certificate.public_key()), "that of the certificate "),
        (
            "CERTIFICATE REQUEST",
            CSR,
            parse_certification_request(CSR).subject_public_key_info,
            "that of a certification request (without a subject)",
        ),
        ("PUBLIC KEY", spki(p256_key().public_key()), spki(p256_key().public_key()), "that of a public key"),
    ],
    ids=["certificate", "csr", "key"],
)
def test_a_key_is_found_in_any_file_that_has_one(
    store: Store, label: str, octets: bytes, key: bytes, says: str, *, as_text: bool
) -> None:
    Path("some.file").write_bytes(as_pem(label, octets) if as_text else octets)
    assert f"The key is {says}" in make("block-key", "some.file")
    assert drafted()[1] == BlockKey(key_hash=hashlib.sha256(key).digest())


@pytest.mark.parametrize("octets", [b"", b"nonsense", as_pem("CERTIFICATE", b"nonsense")])
def test_a_file_without_a_key_is_named(store: Store, octets: bytes) -> None:
    Path("some.file").write_bytes(octets)
    assert "some.file: this holds no certificate, CSR or public key" in fails("block-key", "some.file")
