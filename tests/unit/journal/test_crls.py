"""Revocations only grow, CRL numbers only rise, and every CRL is the one that the journal gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.authorities import default_ca
from tests.support.journal_maker import JournalMaker

from cassiopeia.errors import Inconsistent, PeerError
from cassiopeia.journal import crls
from cassiopeia.journal.entry import CompromiseProof
from cassiopeia.journal.replay import Replay

NAME = "unassured_2026_2"


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


def revoked_twice(made: JournalMaker) -> None:
    issued = made.issue()
    made.revocation(issued)
    made.revocation(issued)


def number_again(made: JournalMaker) -> None:
    made.crl()
    made.crl(number=1)


def number_of_the_old_epoch(made: JournalMaker) -> None:
    made.crl()
    made.new_epoch()
    made.crl(number=crls.NUMBERS_SKIPPED + 1)


def first_number_of_the_old_epoch(made: JournalMaker) -> None:
    made.new_epoch()
    made.crl(number=crls.NUMBERS_SKIPPED)


def fewer_entries(made: JournalMaker) -> None:
    made.revocation(made.issue())
    made.crl()
    made.crl(entries=0)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda made: made.revocation(made.intent()), "never issued the certificate"),
        (lambda made: made.revocation(made.issue(), signing_ca="assured_2026_1"), "assured_2026_1 never issued"),
        (lambda made: made.revocation(entries=(made.crl_entry(1 << 130),)), "never issued the certificate 04"),
        (lambda made: made.revocation(entries=(b"",)), "are not one entry of a CRL"),
        (lambda made: made.revocation(entries=(made.crl_entry(7) * 2,)), "are not one entry of a CRL"),
        (lambda made: made.revocation(entries=(b"\x04\0",)), "is not a sequence"),
        (
            lambda made: made.revocation(proofs=(CompromiseProof(serial_number=b"n" * 16, signature=b"s"),)),
            f"the key of {'6e' * 16} is compromised, which it does not revoke",
        ),
        (revoked_twice, "is revoked since entry 7"),
        (lambda made: made.crl(number=0), "is not above 0"),
        (number_again, "is not above 1"),
        (number_of_the_old_epoch, "is not above 65537"),
        (first_number_of_the_old_epoch, "is not above 65536"),
        (lambda made: made.crl(entries=1), "lists 1 of 0 revocations, the one before 0"),
        (fewer_entries, "lists 0 of 1 revocations, the one before 1"),
        (lambda made: made.crl(tbs_hash=b"t" * 32), "is not the one that the revocations of unassured_2026_2 give"),
        (lambda made: made.crl(algorithm=b"x"), "is not one that is accepted"),
        (lambda made: made.crl(signature=made.sign(b"something else")), "has not signed this CRL"),
    ],
)
def test_what_cannot_be_is_named_with_its_entry(
    made: JournalMaker, spoil: Callable[[JournalMaker], object], complaint: str
) -> None:
    spoil(made)

    with pytest.raises(Inconsistent, match=complaint) as caught:
        replay(made)

    assert caught.value.index == made.size


def test_a_proof_of_what_is_revoked_is_taken(made: JournalMaker) -> None:
    issued = made.issue()
    made.revocation(issued, proofs=(CompromiseProof(serial_number=made.serial(issued), signature=b"s"),))

    assert replay(made).crls.lists[NAME].revoked == 1


def test_signatures_are_verified_only_in_depth(made: JournalMaker) -> None:
    made.crl(signature=b"nobody's")

    assert replay(made, deep=False).crls.lists[NAME].number == 1


def test_numbers_go_on_far_above_in_every_epoch(made: JournalMaker) -> None:
    numbers = []
    for _ in range(3):
        made.crl()
        numbers.append(made.number)
        made.new_epoch()
        made.new_epoch()

    done = replay(made)

    assert numbers == [1, 1 + 2 * crls.NUMBERS_SKIPPED + 1, 1 + 4 * crls.NUMBERS_SKIPPED + 2]
    assert done.crls.lists[NAME].number == numbers[-1]


def test_it_is_known_who_is_revoked_since_when(made: JournalMaker) -> None:
    first, second = made.issue(), made.issue()
    entry = made.revocation(second)
    done = replay(made)

    assert done.crls.revoked_at(made.serial(second)) == entry
    assert done.crls.revoked_at(made.serial(first)) == 0


def test_a_crl_that_the_journal_does_not_know_is_named(made: JournalMaker) -> None:
    made.crl()
    done = replay(made)
    made.crl()
    other = JournalMaker()
    other.begin()
    other.revocation(other.issue())
    other.crl()

    assert done.crls.check_crl(made.crls[0], signing_ca=NAME) == 4
    for shown, complaint in (
        (b"no CRL", "this is not a CRL"),
        (made.crls[1], "the CRL number 2 of unassured_2026_2 is not in this journal"),
        (other.crls[0], "is another one than that of entry 4"),
        (_crl_of_another(), "is not that of unassured_2026_2"),
    ):
        with pytest.raises(PeerError, match=complaint):
            done.crls.check_crl(shown, signing_ca=NAME)


def _crl_of_another() -> bytes:
    made = JournalMaker()
    made.begin()
    made.crl()
    issuer = default_ca().certificate.subject.public_bytes()
    return made.crls[0].replace(issuer, issuer.replace(b"unassured_2026_2", b"unassured_2026_7"))
