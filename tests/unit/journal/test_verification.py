"""What came of a journal is compared with it: each certificate, each CRL, each head, and what is wrong is kept."""

from __future__ import annotations

import dataclasses

import pytest
from tests.support.authorities import default_authority
from tests.support.journal_maker import JournalMaker, journal_key

from cassiopeia.core import certificate, ed25519
from cassiopeia.journal import findings
from cassiopeia.journal import head as heads
from cassiopeia.journal.replay import Replay
from cassiopeia.journal.verification import Verification

PUBLIC_KEYS = [ed25519.public_octets(journal_key(number)) for number in range(4)]


@pytest.fixture
def made() -> JournalMaker:
    sound = JournalMaker()
    sound.begin()
    return sound


def verification(made: JournalMaker, size: int | None = None, *, ahead: frozenset[bytes] = frozenset()) -> Verification:
    replay = Replay()
    for log in made.logs[:size]:
        replay.append(log)
    return Verification(replay=replay, ahead=ahead)


def reasons(found: Verification) -> list[str]:
    return [str(each) for each in found.findings.kept]


def test_what_is_as_the_journal_says_is_counted(made: JournalMaker) -> None:
    first, second = made.issue(), made.issue()
    made.revocation(second)
    made.crl()
    compared = verification(made)

    compared.certificate(made.certificates[first], where="a")
    compared.certificate(made.certificates[second], where="b", revoked=True)
    compared.crl(made.crls[0], where="c")

    assert (compared.certificates, compared.crls, compared.findings.count, compared.findings.kept) == (2, 1, 0, [])
    assert compared.unseen() == ()


def test_a_certificate_that_nobody_showed_is_unseen(made: JournalMaker) -> None:
    issued = made.issue()
    made.confirmation(made.intent())

    assert [each.index for each in verification(made).unseen()] == [issued]


def test_a_crl_may_be_ahead_of_a_copy_with_what_it_revokes(made: JournalMaker) -> None:
    issued = made.issue()
    until = made.size
    made.revocation(issued)
    made.crl()
    compared = verification(made, until)

    compared.crl(made.crls[0], where="the store", may_be_ahead=True)
    compared.certificate(made.certificates[issued], where="the store", revoked=True)

    assert (compared.findings.count, compared.ahead_of_copy) == (0, 1)


def test_who_takes_a_certificate_for_revoked_has_to_have_it_from_the_journal(made: JournalMaker) -> None:
    issued = made.issue()
    compared = verification(made)

    compared.certificate(made.certificates[issued], where="the store", revoked=True)

    assert reasons(compared) == [f"entry 6: the store: {made.serial(issued).hex()} is revoked, and no entry says so"]


def test_what_is_newer_than_the_copy_is_not_wrong(made: JournalMaker) -> None:
    made.crl()
    copied = made.size
    issued = made.issue()
    made.crl()
    compared = verification(made, copied, ahead=frozenset({made.serial(issued)}))

    compared.certificate(made.certificates[issued], where="a")
    compared.crl(made.crls[1], where="b", may_be_ahead=True)

    assert (compared.ahead_of_copy, compared.findings.count) == (2, 0)
    compared.crl(made.crls[1], where="c")
    compared.crl(made.crls[1][:-1] + bytes([made.crls[1][-1] ^ 1]), where="d", may_be_ahead=True)
    assert reasons(compared)[0] == "c: the CRL number 2 of unassured_2026_2 is not in this journal"
    assert reasons(compared)[1].startswith("d: ")


@pytest.mark.parametrize("confirmed", [False, True], ids=["open", "confirmed"])
def test_a_certificate_may_be_ahead_of_a_copy_that_ends_behind_its_intent(
    made: JournalMaker, *, confirmed: bool
) -> None:
    intent = made.intent()
    copied = made.size
    made.confirmation(intent)
    if confirmed:
        copied = made.size
    made.result(intent)
    der = made.certificates[intent]
    head = made.signed_head()

    early = verification(made, copied)
    early.certificate(der, where="while nobody has said that there is more")
    assert (early.ahead_of_copy, early.findings.count) == (0, 1)

    compared = verification(made, copied)
    assert compared.newest(head, None) is not None
    compared.certificate(der, where="a")
    assert (compared.ahead_of_copy, compared.findings.count) == (1, 0)
    compared.certificate(der[:-1] + bytes([der[-1] ^ 1]), where="b")
    other = made.certificates[made.issue()]
    forged = certificate.compose_certificate(
        certificate.split_certificate(other)[0].replace(made.serial(other_index(made)), made.serial(intent)),
        certificate.split_certificate(other)[2],
    )
    compared.certificate(forged, where="c")
    assert [each.partition(":")[0] for each in reasons(compared)] == ["b", "c"]


def other_index(made: JournalMaker) -> int:
    """The intent that was issued last."""
    return max(made.certificates)


def test_the_first_crl_may_be_ahead_too(made: JournalMaker) -> None:
    copied = made.size
    made.crl()
    compared = verification(made, copied)

    compared.crl(made.crls[0], where="b", may_be_ahead=True)

    assert (compared.ahead_of_copy, compared.findings.count) == (1, 0)


def test_what_is_of_other_cas_is_left_aside(made: JournalMaker) -> None:
    issued = made.issue()
    made.crl()
    subject = default_authority().subject
    other = subject.replace(b"unassured_2026_2", b"unassured_1999_9")
    compared = verification(made)

    compared.certificate(made.certificates[issued].replace(subject, other), where="a")
    compared.crl(made.crls[0].replace(subject, other), where="b")

    assert (compared.not_ours, compared.certificates, compared.crls) == (2, 0, 0)


def test_what_cannot_be_read_is_wrong(made: JournalMaker) -> None:
    compared = verification(made)

    compared.certificate(b"nonsense", where="a")
    compared.crl(b"nonsense", where="b")
    compared.newest(b"nonsense", None)

    assert [each.partition(":")[0] for each in reasons(compared)] == ["a", "b", "the newest signed head"]


def test_a_serial_number_of_another_length_is_just_another_one(made: JournalMaker) -> None:
    tbs = made.tbs[made.intent()]
    number = made.serial(made.size)
    longer = tbs.replace(b"\x02\x10" + number, b"\x02\x11\x01" + number)
    outer = bytes([*longer[:2], *(int.from_bytes(longer[2:4], "big") + 1).to_bytes(2, "big")]) + longer[4:]
    compared = verification(made)

    compared.certificate(certificate.compose_certificate(outer, b"signature"), where="a")

    assert reasons(compared) == [f"a: the certificate 01{number.hex()} is not in this journal"]


def test_only_the_first_findings_are_kept(made: JournalMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "MAXIMUM_FINDINGS", 2)
    compared = verification(made)
    for number in range(5):
        compared.crl(b"nonsense", where=str(number))

    assert (compared.findings.count, len(compared.findings.kept)) == (5, 2)


def test_heads_are_judged(made: JournalMaker) -> None:
    compared = verification(made)
    head = made.signed_head()

    said = compared.head(head, [PUBLIC_KEYS[1]])
    assert said is not None
    assert said.size == made.size
    assert compared.head(head, [PUBLIC_KEYS[2]]) is None
    assert "none of those that are trusted" in reasons(compared)[0]


def test_the_newest_head_may_cover_more(made: JournalMaker) -> None:
    head = heads.read_head(made.signed_head())
    ahead = heads.sign_head(dataclasses.replace(head, size=99), journal_key(1))
    rotated = heads.sign_head(dataclasses.replace(head, size=99), journal_key(2))
    compared = verification(made)

    for octets, keys in ((ahead, None), (ahead, [PUBLIC_KEYS[1]]), (rotated, [PUBLIC_KEYS[2]])):
        said = compared.newest(octets, keys)
        assert said is not None
        assert said.size == 99
    assert compared.findings.count == 0
    assert compared.newest(made.signed_head(), None) is not None
    assert compared.newest(rotated, [PUBLIC_KEYS[1]]) is None
    assert reasons(compared) == ["the newest signed head: no known journal key has signed this head"]
