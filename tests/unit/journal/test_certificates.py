"""Nothing is signed twice, nothing before its log was saved, and what exists is what was intended."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.authorities import make_ca
from tests.support.journal_maker import JournalMaker

from cassiopeia.core import certificate, structure
from cassiopeia.errors import Inconsistent, PeerError
from cassiopeia.journal import entry as entries
from cassiopeia.journal.replay import Replay


@pytest.fixture
def made() -> JournalMaker:
    sound = JournalMaker()
    sound.begin()
    return sound


def replay(made: JournalMaker, *, deep: bool = True) -> Replay:
    done = Replay(deep=deep)
    for log in made.logs:
        done.append(log)
    return done


def serial_again(made: JournalMaker) -> None:
    made.issue(serial_entropy=b"e" * 15)
    made.intent(serial_entropy=b"e" * 15)


def request_again(made: JournalMaker) -> None:
    made.issue(request_id=b"i" * 32)
    made.intent(request_id=b"i" * 32)


def request_twice_under_way(made: JournalMaker) -> None:
    made.intent(request_id=b"i" * 32)
    made.intent(request_id=b"i" * 32)


def changed_part(made: JournalMaker, **changes: object) -> None:
    index = made.intent()
    log = made.logs.pop()
    made.now = entries.decode_entry(log.entry).time
    part = structure.encode(
        entries.Requested(
            **{
                name: getattr(entries.decode_part(entries.Requested, log.parts[0]), name)
                for name in entries.Requested.__slots__
            }
            | changes
        )
    )
    made.add(entries.decode_body(entries.decode_entry(log.entry)), part)
    assert made.size == index


def result_without_confirmation(made: JournalMaker) -> None:
    made.result(made.intent())


def result_twice(made: JournalMaker) -> None:
    made.result(made.issue())


def confirmed_twice(made: JournalMaker) -> None:
    intent = made.intent()
    made.confirmation(intent)
    made.confirmation(intent)


def abandoned_when_confirmed(made: JournalMaker) -> None:
    intent = made.intent()
    made.confirmation(intent)
    made.abandonment(intent)


def confirmed_when_abandoned(made: JournalMaker) -> None:
    intent = made.intent()
    made.abandonment(intent)
    made.confirmation(intent)


def not_signed(made: JournalMaker) -> None:
    made.ca = make_ca("unassured_2026_2", key=ec.generate_private_key(ec.SECP256R1()))
    made.issue()


def foreign_tbs(made: JournalMaker) -> None:
    changed_part(made, tbs_certificate=_tbs(JournalMaker(), serial_entropy=b"f" * 15))


def _tbs(other: JournalMaker, **changes: bytes) -> bytes:
    return other.tbs[other.intent(**changes)]  # type: ignore[arg-type] # octets all of them


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda made: made.intent(serial_number=b"\x02" + b"n" * 15), "is not a serial number of signer 1"),
        (lambda made: made.intent(serial_number=b"\x01" + b"n" * 14), "is not a serial number of signer 1"),
        (serial_again, "was used before, by entry 4"),
        (request_again, "has a certificate, or one on its way, since entry 4"),
        (request_twice_under_way, "has a certificate, or one on its way, since entry 4"),
        (lambda made: made.intent(algorithm=b"x"), "is not one that is accepted"),
        (lambda made: made.intent(serial_number=b"\x01" + b"n" * 15), "not that of the entry"),
        (lambda made: made.intent(algorithm=bytes.fromhex("300506032b6570")), "and the entry another algorithm"),
        (lambda made: made.intent(request_digest=b"d" * 32), "the digest is not that of the request"),
        (lambda made: changed_part(made, account="mallory"), "the digest is not that of the request"),
        (lambda made: changed_part(made, key_kind="word of honour"), "the unknown way"),
        (foreign_tbs, "not that of the entry"),
        (lambda made: made.confirmation(2), "entry 2 is not an intent"),
        (lambda made: made.confirmation(made.intent(), b"h" * 32), "the hash is not that of the log at entry 4"),
        (lambda made: made.confirmation(made.intent(), b""), "the hash is not that of the log at entry 4"),
        (confirmed_twice, "entry 4 is confirmed already"),
        (confirmed_when_abandoned, "entry 4 is abandoned already"),
        (result_without_confirmation, "entry 4 is open: nothing may be signed for it"),
        (result_twice, "entry 4 is issued: nothing may be signed for it"),
        (abandoned_when_confirmed, "entry 4 is confirmed: it cannot be abandoned"),
        (not_signed, "has not signed this"),
    ],
)
def test_what_cannot_be_is_named_with_its_entry(
    made: JournalMaker, spoil: Callable[[JournalMaker], object], complaint: str
) -> None:
    spoil(made)

    with pytest.raises(Inconsistent, match=complaint) as caught:
        replay(made)

    assert caught.value.index == made.size


def test_the_issuer_is_the_sub_ca_that_the_entry_names(made: JournalMaker) -> None:
    made.ca = make_ca("unassured_2026_3", key=made.ca.key)
    made.configuration()
    made.intent()

    with pytest.raises(Inconsistent, match="issuer of the certificate intended is not unassured_2026_2"):
        replay(made)


def test_signatures_are_verified_only_in_depth(made: JournalMaker) -> None:
    not_signed(made)

    replay(made, deep=False)


def test_an_abandoned_request_may_be_sent_again(made: JournalMaker) -> None:
    made.abandonment(made.intent(request_id=b"i" * 32))
    again = made.issue(request_id=b"i" * 32)

    assert replay(made).certificates.check_certificate(made.certificates[again]).state == "issued"


def test_version_1_confirms_without_a_hash(made: JournalMaker) -> None:
    intent = made.intent(protocol=1)
    made.confirmation(intent, b"")
    made.result(intent)

    assert replay(made).certificates.count("issued") == 1


def test_a_lost_signature_is_made_again_in_a_new_epoch(made: JournalMaker) -> None:
    intent = made.issue()
    first = made.certificates[intent]
    made.drop_part(made.size)
    made.new_epoch()
    made.result(intent)

    certificates = replay(made).certificates

    assert made.certificates[intent] != first
    for der in (first, made.certificates[intent]):
        assert certificates.check_certificate(der).index == intent
    made.result(intent)
    with pytest.raises(Inconsistent, match="nothing may be signed for it"):
        replay(made)


def test_a_signature_made_again_is_verified_too(made: JournalMaker) -> None:
    intent = made.issue()
    made.drop_part(made.size)
    made.new_epoch()
    made.result(intent, made.sign(b"something else"))

    with pytest.raises(Inconsistent, match="has not signed this"):
        replay(made)


def test_a_certificate_that_the_journal_does_not_know_is_named(made: JournalMaker) -> None:
    issued, confirmed, abandoned = made.issue(), made.intent(), made.intent()
    made.confirmation(confirmed)
    made.abandonment(abandoned)
    other = JournalMaker()
    other.intent(serial_entropy=issued.to_bytes(15, "little"), request_id=b"o" * 32)
    certificates = replay(made).certificates
    der = made.certificates[issued]
    tbs, _, signature = certificate.split_certificate(der)

    for shown, complaint in (
        (_compose(_tbs(JournalMaker()), signature), "is not in this journal"),
        (_compose(made.tbs[confirmed], signature), f"its intent at entry {confirmed} is confirmed"),
        (_compose(made.tbs[abandoned], signature), f"its intent at entry {abandoned} is abandoned"),
        (_compose(tbs, b"another signature"), "is not the one that entry 6 released"),
        (_compose(_changed(tbs), signature), "is not what entry 4 intended"),
    ):
        with pytest.raises(PeerError, match=complaint):
            certificates.check_certificate(shown)


def test_a_certificate_is_known_by_its_signature_when_its_log_is_gone(made: JournalMaker) -> None:
    intent = made.issue()
    made.drop_part(intent)

    assert replay(made).certificates.check_certificate(made.certificates[intent]).index == intent


def _compose(tbs: bytes, signature: bytes) -> bytes:
    return certificate.compose_certificate(tbs, signature)


def _changed(tbs: bytes) -> bytes:
    return tbs.replace(b"www.example.org", b"www.example.com")
