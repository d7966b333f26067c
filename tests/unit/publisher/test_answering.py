"""When a certificate is called good, and when nothing is said."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from tests.support.authorities import NOW, make_ca, p256_key
from tests.support.ocsp_requests import HASHES, asked
from tests.support.publishing import LATER, Publishing

from cassiopeia.core import der
from cassiopeia.core.ocsp import read_request

DAY = dt.timedelta(days=1)


def test_what_was_issued_is_good_until_it_is_revoked(publishing: Publishing) -> None:
    serial, other = publishing.issue(), publishing.issue()
    publishing.sign_crl()
    publishing.copy()
    publishing.certify()
    publishing.look()
    assert (publishing.said(serial), publishing.said(other)) == ("GOOD", "GOOD")

    publishing.revoke(serial)
    publishing.sign_crl()
    publishing.look()  # the journal was not copied since: the CRL is enough

    answer = publishing.ask(serial)
    assert answer.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert answer.revocation_reason is x509.ReasonFlags.key_compromise
    assert answer.revocation_time_utc is not None
    assert answer.revocation_time_utc <= answer.this_update_utc <= LATER
    assert publishing.said(other) == "GOOD"


def test_what_the_journal_says_is_revoked_is_revoked_before_any_crl_says_so(publishing: Publishing) -> None:
    serial = publishing.issue()
    publishing.sign_crl()
    publishing.revoke(serial)
    publishing.copy()
    publishing.certify()
    publishing.look()

    assert publishing.said(serial) == "REVOKED"


def test_what_was_never_issued_is_unknown(serving: Publishing) -> None:
    assert serving.said(0x7F << 120) == "UNKNOWN"
    answer = serving.ask(5)
    assert answer.next_update_utc is not None
    assert answer.next_update_utc <= LATER + dt.timedelta(minutes=1)


@pytest.mark.parametrize("ending", ["intent", "confirmation", "abandonment"])
def test_what_was_not_signed_is_unknown(serving: Publishing, ending: str) -> None:
    intent = serving.made.intent()
    if ending == "confirmation":
        serving.made.confirmation(intent)
    if ending == "abandonment":
        serving.made.abandonment(intent)
    serving.copy()
    serving.look()

    assert serving.said(int.from_bytes(serving.made.serial(intent), "big")) == "UNKNOWN"


def test_a_row_of_the_certificate_table_makes_nothing_good(serving: Publishing) -> None:
    serial = 0x01 << 120 | 77
    with serving.store.database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO certificate (serial_number, authority, account, profile, der, subject, not_before, not_after,"
            " issued_at, revocation_state) VALUES (?, ?, 'a', 'p', x'00', 's', 0, 9000000000000000, 0, 'none')",
            (f"{serial:x}", serving.authority.name),
        )
    serving.start()
    serving.look()

    assert serving.said(serial) == "UNKNOWN"


def test_an_unread_journal_knows_nothing_for_sure(serving: Publishing) -> None:
    """Its certificate may have been issued a second ago."""
    serving.made.issue()
    serving.copying.open(serving.made.signed_head())
    serving.copying.turn()
    serving.look()

    assert serving.said(5) == "TRY_LATER"
    serving.copying.run()
    serving.look()
    assert serving.said(5) == "UNKNOWN"


def test_nothing_is_said_without_a_crl_in_force(serving: Publishing) -> None:
    serial = next(iter(serving.made.tbs))
    number = int.from_bytes(serving.made.serial(serial), "big")
    serving.certify()  # a new process that has not looked
    assert serving.said(number) == "TRY_LATER"
    serving.look()
    assert serving.said(number) == "GOOD"
    assert serving.said(number, now=LATER + 11 * DAY) == "TRY_LATER"
    assert serving.said(number, now=NOW - dt.timedelta(hours=1)) == "TRY_LATER"


def test_nothing_is_said_by_a_responder_that_is_not_certified(publishing: Publishing) -> None:
    serial = publishing.issue()
    publishing.sign_crl()
    publishing.copy()
    publishing.look()
    assert publishing.said(serial) == "TRY_LATER"

    publishing.certify(wish_to="2d")
    publishing.look()
    assert publishing.said(serial) == "GOOD"
    assert publishing.said(serial, now=LATER + 2 * DAY) == "TRY_LATER"


def test_no_answer_outlives_what_it_rests_on(publishing: Publishing) -> None:
    serial = publishing.issue()
    publishing.sign_crl()
    publishing.copy()
    publishing.certify(wish_to="1d")
    publishing.look()
    almost = LATER + DAY - dt.timedelta(hours=1)

    assert publishing.ask(serial).next_update_utc == (LATER + dt.timedelta(hours=12)).replace(microsecond=0)
    end = publishing.ask(serial, now=almost).next_update_utc
    assert end is not None
    assert end < NOW + DAY


def test_a_nonce_comes_back_and_nobody_may_keep_that_answer(serving: Publishing) -> None:
    number = int.from_bytes(serving.made.serial(next(iter(serving.made.tbs))), "big")
    answer = serving.answerer.answer(asked(number, nonce=b"n" * 32), now=LATER)

    read = ocsp.load_der_ocsp_response(answer.octets)
    assert read.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32
    assert answer.next_update is None
    assert serving.answerer.answer(asked(number, nonce=b"m" * 32), now=LATER).octets != answer.octets


def test_an_answer_is_given_again_until_something_has_changed(serving: Publishing) -> None:
    number = int.from_bytes(serving.made.serial(next(iter(serving.made.tbs))), "big")
    hours = [dt.timedelta(hours=each) for each in range(8)]
    first, again, later = (serving.answerer.answer(asked(number), now=LATER + hours[each]) for each in (0, 5, 7))
    assert first == again
    assert later.octets != first.octets

    serving.revoke(number)
    serving.sign_crl()
    serving.look()
    changed = serving.answerer.answer(asked(number), now=LATER + hours[7])
    assert ocsp.load_der_ocsp_response(changed.octets).certificate_status is ocsp.OCSPCertStatus.REVOKED


def test_answers_that_are_kept_are_bounded(serving: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cassiopeia.publisher.answering._KEPT_ANSWERS", 2)
    number = int.from_bytes(serving.made.serial(next(iter(serving.made.tbs))), "big")
    by_hash = {name: serving.answerer.answer(asked(number, name=name), now=LATER) for name in HASHES}

    assert len(serving.answerer._kept) == 2
    assert serving.answerer.answer(asked(number, name="sha512"), now=LATER) == by_hash["sha512"]
    # ECDSA: another signature, whatever it says.
    assert serving.answerer.answer(asked(number, name="sha1"), now=LATER) != by_hash["sha1"]


def test_one_answer_is_about_one_sub_ca(serving: Publishing) -> None:
    """It has one signature, by a key that speaks for that sub-CA alone."""
    number = int.from_bytes(serving.made.serial(next(iter(serving.made.tbs))), "big")
    ours, theirs = asked(number), asked(number, ca=make_ca("other", key=p256_key()))

    def both(*requests: bytes) -> ocsp.OCSPResponse:
        members = [der.encode(der.SEQUENCE, read_request(each).cert_ids[0].octets) for each in requests]
        octets = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, *members)))
        return ocsp.load_der_ocsp_response(serving.answerer.answer(octets, now=LATER).octets)

    assert [each.certificate_status.name for each in both(ours, asked(5, name="sha1")).responses] == ["GOOD", "UNKNOWN"]
    assert both(ours, theirs).response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED


def test_of_other_cas_nothing_is_known(serving: Publishing) -> None:
    answer = serving.answerer.answer(asked(ca=make_ca("other", key=p256_key())), now=LATER)

    status = ocsp.load_der_ocsp_response(answer.octets).response_status
    assert status is ocsp.OCSPResponseStatus.UNAUTHORIZED


def test_what_is_no_request_is_called_so(serving: Publishing) -> None:
    answer = serving.answerer.answer(b"\x30\x03abc", now=LATER)

    status = ocsp.load_der_ocsp_response(answer.octets).response_status
    assert status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def test_the_responder_shows_its_certificate(publishing: Publishing) -> None:
    serial = publishing.issue()
    publishing.sign_crl()
    publishing.copy()
    certificate = publishing.certify()
    publishing.look()

    answer = publishing.ask(serial)

    assert [each.public_bytes(Encoding.DER) for each in answer.certificates] == [certificate]
