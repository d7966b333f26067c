"""The calendar as the client reads it: reports are doubted, and an offline CA's CRL has to be its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authorities import TestCa, make_ca, p256_key
from tests.support.client_store import CLIENT, opened_client_store
from tests.support.store import issue

from cassiopeia.client.calendar import read_calendar
from cassiopeia.config import load_client_config
from cassiopeia.duties import Calendar
from cassiopeia.errors import OperatorError
from cassiopeia.store.database import Store
from cassiopeia.store.records import ServedCrl, ServedState

CA = "unassured_2026_1"
DAY = dt.timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with opened_client_store(tmp_path, monkeypatch) as opened:
        yield opened


@pytest.fixture
def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


@pytest.fixture
def root(now: dt.datetime) -> TestCa:
    """A root that the client knows, with a public directory for its CRL."""
    ca = make_ca("root", key=p256_key(), not_before=now - DAY, not_after=now + 4000 * DAY)
    Path("root.pem").write_bytes(ca.pem)
    with Path("authorities.toml").open("a", encoding="utf-8") as file:
        file.write('\n[[ca]]\nname = "root"\ncertificate = "root.pem"\nissuer = "root"\n')
    Path("public").mkdir()
    return ca


def crl_of(ca: TestCa, end: dt.datetime) -> bytes:
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.certificate.subject)
    builder = builder.last_update(end - 300 * DAY).next_update(end).add_extension(x509.CRLNumber(1), critical=False)
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.DER)


def read(store: Store, now: dt.datetime) -> Calendar:
    return read_calendar(load_client_config(Path("client.toml")), store, now=now)


def hear(store: Store, now: dt.datetime, *authorities: Any, signer_id: int = 1, **report: Any) -> None:
    store.signers.save(signer_id, {"authorities": list(authorities)} | report, now=now)


def test_what_signers_told(store: Store, now: dt.datetime) -> None:
    hear(store, now, {"name": CA, "issued": 12, "not_after": (now + DAY).isoformat()})
    hear(store, now - 11 * dt.timedelta(minutes=1), {"name": "assured_2026_1", "issued": 3}, signer_id=2)

    calendar = read(store, now)

    assert [each.name for each in calendar.authorities] == [CA]
    assert calendar.issuers == {CA: "unassured"}
    assert calendar.issued == {CA: 12, "assured_2026_1": 3}
    assert calendar.on_signers == {1: frozenset({CA}), 2: None}


def test_a_sub_ca_that_has_ended_is_missed_by_nobody(store: Store, now: dt.datetime) -> None:
    hear(store, now, {"name": "unassured_2020_1", "issued": 9, "not_after": (now - DAY).isoformat()})
    assert read(store, now).on_signers == {1: frozenset()}


def test_what_the_operators_have_halted(store: Store, now: dt.datetime) -> None:
    hear(store, now, orders={"halted_authorities": [CA, 7]})
    assert read(store, now).halted == {CA}


def test_what_a_wrong_signature_has_halted(store: Store, now: dt.datetime) -> None:
    hear(store, now, {"name": CA, "mistrusted": "it was wrong"}, {"name": "b_2026_1", "key_fault": "it is away"})
    assert read(store, now).halted == {CA}


@pytest.mark.parametrize(
    "report",
    [
        {"authorities": "none"},
        {"authorities": [7, {"name": 8}, {}]},
        {"authorities": [], "orders": []},
        {"authorities": [], "orders": {"halted_authorities": "x"}},
    ],
)
def test_a_report_that_is_none_says_nothing(store: Store, now: dt.datetime, report: dict[str, Any]) -> None:
    store.signers.save(1, report, now=now)

    calendar = read(store, now)

    assert (calendar.issued, calendar.halted, calendar.on_signers) == ({}, frozenset(), {1: frozenset()})


def test_a_date_or_a_number_that_is_none_is_passed_over(store: Store, now: dt.datetime) -> None:
    hear(store, now, {"name": CA, "issued": "many", "not_after": "soon"})
    calendar = read(store, now)
    assert (calendar.issued, calendar.on_signers) == ({}, {1: frozenset({CA})})


def test_a_report_of_an_older_release_is_not_compared(store: Store, now: dt.datetime) -> None:
    store.signers.save(1, {}, now=now)
    assert read(store, now).on_signers == {1: None}


def test_over_version_1_the_store_counts(store: Store, now: dt.datetime) -> None:
    issue(store, 3)
    Path("client.toml").write_text(CLIENT.replace("[link]", "[link]\nversion = 1"), encoding="utf-8")

    calendar = read(store, now)

    assert (calendar.issued, calendar.on_signers) == ({CA: 3}, None)


def test_a_machine_that_waits_for_its_first_bundle_says_so(store: Store, now: dt.datetime) -> None:
    Path("authorities.toml").unlink()
    Path("client.toml").write_text(
        CLIENT.replace('name = "client"', 'name = "client"\nbundle_key = "k.pem"'), encoding="utf-8"
    )
    with pytest.raises(OperatorError, match="no bundle is installed yet: cassiopeia client install BUNDLE"):
        read(store, now)


def test_the_crl_of_an_offline_ca(store: Store, now: dt.datetime, root: TestCa) -> None:
    Path("public/root.crl").write_bytes(crl_of(root, now + 100 * DAY))
    [offline] = read(store, now).offline
    assert (offline.name, offline.issuer, offline.crl_ends) == ("root", "root", now + 100 * DAY)
    assert offline.not_after == now + 4000 * DAY


def test_one_that_is_not_its_own_counts_as_none(store: Store, now: dt.datetime, root: TestCa) -> None:
    other = make_ca("other", key=p256_key())
    for octets in (b"junk", crl_of(other, now + 100 * DAY), crl_of(root, now + 100 * DAY)[:-1] + b"\0"):
        Path("public/root.crl").write_bytes(octets)
        assert read(store, now).offline[0].crl_ends is None


@pytest.mark.parametrize(("state", "days"), [("served", 50), ("stale", -2), ("wrong", None), ("unreachable", None)])
def test_that_of_a_root_which_others_run_is_the_one_that_the_world_gets(
    store: Store, now: dt.datetime, root: TestCa, state: ServedState, days: int | None
) -> None:
    assert root.der
    end = now + (days or 50) * DAY if state != "unreachable" else None
    store.served_crls.record([
        ServedCrl(
            authority="root", url="http://a.example.org/r.crl", state=state, what="", number=None, this_update=None,
            next_update=end, seen_at=now,
        )
    ])  # fmt: skip
    assert read(store, now).offline[0].crl_ends == (None if days is None else now + days * DAY)
