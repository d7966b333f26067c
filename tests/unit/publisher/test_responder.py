"""How the responder comes by its certificates, and which it takes."""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path

import pytest
from tests.support.authorities import NOW, alt_names, attributes, make_authority, make_ca, p256_key
from tests.support.publishing import LATER, Publishing, responder_certificate
from tests.support.store import issued, lease_sign

from cassiopeia.core.ocsp import RESPONDER_ACCOUNT
from cassiopeia.errors import OperatorError, PeerError
from cassiopeia.publisher.key import make_responder_key, public_info
from cassiopeia.publisher.responder import Responder, read_delegation
from cassiopeia.store.records import Refusal, RequestRecord

DAY = dt.timedelta(days=1)


def requests(publishing: Publishing) -> list[RequestRecord]:
    """The oldest first."""
    return list(reversed(publishing.store.requests.page(account=RESPONDER_ACCOUNT).items))


def renew(publishing: Publishing, now: dt.datetime = LATER) -> None:
    publishing.responder.renew([publishing.authority], now=now)


def refuse(publishing: Publishing, *, at: dt.datetime) -> None:
    [job] = lease_sign(publishing.store, at=at)
    refusal = Refusal(job_id=job.id, code="key-not-pinned", field="key", message="This key is not pinned.")
    publishing.store.results.refuse("client", [refusal], now=at)


def issue(publishing: Publishing, der: bytes, *, at: dt.datetime = LATER) -> None:
    [job] = lease_sign(publishing.store, at=at)
    done = issued(job, certificate=der, authority=publishing.authority.name)
    publishing.store.results.finish_issued([done], now=at)


def test_it_asks_once_by_a_csr_that_names_the_sub_ca(publishing: Publishing) -> None:
    for _ in range(2):
        renew(publishing)
    publishing.start()
    renew(publishing)

    [record] = requests(publishing)
    request = record.request
    assert (request.ocsp_target_ca, request.profile, request.account) == (
        publishing.authority.name,
        "",
        RESPONDER_ACCOUNT,
    )
    assert request.attributes == attributes(CN="OCSP responder")
    assert request.wish_to == ""


def test_it_picks_up_what_was_issued_and_keeps_it(publishing: Publishing) -> None:
    renew(publishing)
    der = responder_certificate(publishing.key)
    issue(publishing, der)
    renew(publishing)
    held = publishing.responder.delegation(publishing.authority)
    assert held is not None
    assert held.certificate == der

    publishing.start()
    assert publishing.responder.delegation(publishing.authority) == held
    assert len(requests(publishing)) == 1


@pytest.mark.parametrize(("days", "asks"), [(19, False), (21, True), (40, True)])
def test_it_is_renewed_when_a_third_is_left(publishing: Publishing, days: int, asks: bool) -> None:  # noqa: FBT001 - the expectation
    publishing.certify()
    renew(publishing, LATER + days * DAY)

    assert len(requests(publishing)) == asks


def test_a_renewed_one_takes_the_place_of_the_old(publishing: Publishing) -> None:
    old = publishing.certify(wish_to="10d")
    renew(publishing, LATER + 8 * DAY)
    new = responder_certificate(publishing.key)
    issue(publishing, new, at=LATER + 8 * DAY)
    renew(publishing, LATER + 8 * DAY)

    publishing.start()
    held = publishing.responder.delegation(publishing.authority)
    assert held is not None
    assert held.certificate == new != old


def test_it_ends_with_its_sub_ca(publishing: Publishing) -> None:
    authority = publishing.authority
    renew(publishing, authority.not_after - 10 * DAY)
    [record] = requests(publishing)
    assert record.request.wish_to == f"{authority.not_after:%Y-%m-%d}"

    publishing.start()
    renew(publishing, authority.not_after - dt.timedelta(hours=1))
    renew(publishing, authority.not_before - dt.timedelta(hours=1))
    assert len(requests(publishing)) == 1


def test_a_refusal_is_said_and_asked_again_later_and_later(
    publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    renew(publishing)
    refuse(publishing, at=LATER)
    asked = []
    for minutes in range(240):
        now = LATER + dt.timedelta(minutes=minutes)
        before = len(requests(publishing))
        renew(publishing, now)
        if len(requests(publishing)) > before:
            asked.append(minutes)
            refuse(publishing, at=now)
    assert asked == [10, 30, 70, 150]
    assert caplog.text.count("OCSP for unassured_2026_2: no certificate: This key is not pinned.") == 1
    assert publishing.responder.alarms == ("OCSP for unassured_2026_2: no certificate: This key is not pinned.",)

    publishing.start()
    renew(publishing, LATER + dt.timedelta(minutes=241))
    assert len(requests(publishing)) == 6


def test_what_the_store_has_instead_of_it_is_not_shown_to_anybody(
    publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    renew(publishing)
    issue(publishing, responder_certificate(publishing.key, profile="9001-unproved-client", alt_names=MAIL))
    renew(publishing)

    assert publishing.responder.delegation(publishing.authority) is None
    assert "the store has something else than its certificate: it is not that of a responder" in caplog.text


MAIL = alt_names("email,momo@example.org")


@pytest.mark.parametrize("fault", ["other-ca", "other-key", "profile", "signature", "no-certificate"])
def test_only_a_responders_certificate_for_this_key_by_this_sub_ca_will_do(publishing: Publishing, fault: str) -> None:
    other_key = make_responder_key(publishing.directory / "other.key")
    other_ca = make_ca("unassured_2027_1", key=p256_key())
    other_authority = make_authority(other_ca, name="unassured_2027_1")
    good = responder_certificate(publishing.key)
    made = {
        "other-ca": responder_certificate(publishing.key, ca=other_ca, authority=other_authority),
        "other-key": responder_certificate(other_key),
        "profile": responder_certificate(publishing.key, profile="9001-unproved-client", alt_names=MAIL),
        "signature": good[:-2] + bytes([good[-2] ^ 1, good[-1]]),
        "no-certificate": b"\x30\x00",
    }[fault]

    assert read_delegation(good, authority=publishing.authority, public_key=public_info(publishing.key))
    with pytest.raises(PeerError):
        read_delegation(made, authority=publishing.authority, public_key=public_info(publishing.key))


@pytest.mark.parametrize("content", [b"", b"-----BEGIN", b"\xff" * 40])
def test_a_broken_file_is_left_out_and_asked_for_again(
    publishing: Publishing, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    publishing.certify()
    path = publishing.config.certificates / f"{publishing.authority.name}.pem"
    path.write_bytes(content)
    publishing.start()
    renew(publishing)

    assert "is left out" in caplog.text
    assert len(requests(publishing)) == 1


def test_a_full_disk_keeps_nobody_from_the_new_certificate(
    publishing: Publishing, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    renew(publishing)
    der = responder_certificate(publishing.key)
    issue(publishing, der)
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setattr("os.fsync", full)
        publishing.responder.renew([publishing.authority], now=LATER)
    held = publishing.responder.delegation(publishing.authority)
    assert held is not None
    assert held.certificate == der
    assert "No space left on device; it is used all the same" in caplog.text
    assert list(publishing.config.certificates.iterdir()) == []

    # A restart finds it in the store.
    publishing.start()
    renew(publishing)
    assert publishing.responder.delegation(publishing.authority) == held
    assert len(requests(publishing)) == 1


def test_a_directory_that_cannot_be_made_is_said(publishing: Publishing, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot keep the responder's certificates here"):
        Responder(publishing.key, directory=tmp_path / "no" / "where", store=publishing.store)


def test_nobody_needs_one_before_it_is_time(publishing: Publishing) -> None:
    publishing.look(NOW - dt.timedelta(days=3))
    assert requests(publishing) == []
    publishing.look(NOW)
    assert len(requests(publishing)) == 1
