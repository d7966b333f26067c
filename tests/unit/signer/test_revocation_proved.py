"""Revocations that a compromised key has proved itself: past the cap, and no other certificate for that key."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authorities import NOW, PrivateKey
from tests.support.compromising import KINDS, certify, key_of, prove, proved, tbs_of
from tests.support.conversations import Pair
from tests.support.issuing import assert_failed, certificate_of, intent_in, log_of, wanted
from tests.support.revoking import Copy, kinds, revoke
from tests.support.signer import Front

from cassiopeia.core.request import CertificateRequest, Revocation, RevocationRequest
from cassiopeia.errors import PeerError
from cassiopeia.journal.entry import CompromiseProof, Revocations, decode_body, decode_entry
from cassiopeia.journal.order import CAPS
from cassiopeia.protocol.events import LogReceived, RequestAbandoned, RequestFailed, RequestRefused
from cassiopeia.signer.revocation import MAXIMUM_PROOFS
from cassiopeia.signer.tasks import CheckProofs, Deferred, Signed

BASE = 1 << 120
UNPROVED = [BASE + number for number in range(1, 5)]
OURS, OTHER = BASE + 100, BASE + 101
KEY, OTHER_KEY = key_of("P-256"), key_of("P-256", 1)
CAP = 2


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path, limits=dict.fromkeys(CAPS, 100) | {"revocations": CAP})
    for serial in UNPROVED:
        made.record_issued(serial)
    certify(made, OURS, KEY)
    certify(made, OTHER, OTHER_KEY)
    yield made
    made.journal.close()


@pytest.fixture
def pair(front: Front) -> Pair:
    return front.connect()


@pytest.fixture
def copy(front: Front) -> Copy:
    return Copy(front)


def request_of(copy: Copy, *revocations: Revocation, request_id: bytes = b"") -> RevocationRequest:
    return dataclasses.replace(copy.request(request_id=request_id), revocations=revocations)


def reach_cap(front: Front, pair: Pair, copy: Copy) -> None:
    copy.patch(revoke(front, pair, copy.request(*UNPROVED[:CAP])))
    assert_failed(revoke(front, pair, copy.request(UNPROVED[CAP])), "cap-revocations")


def assert_refused(front: Front, pair: Pair, copy: Copy, revocation: Revocation, code: str) -> None:
    answer = revoke(front, pair, request_of(copy, revocation))
    assert isinstance(answer, RequestRefused)
    assert (answer.code, answer.field) == (code, f"{revocation.serial_number:x}")
    assert kinds(front)[-1] == "refusal"
    assert not front.journal.index.is_revoked(revocation.serial_number.to_bytes(16, "big"))


def requested(key: PrivateKey, request_id: bytes) -> CertificateRequest:
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return wanted(key_proof=csr.sign(key, hashes.SHA256()).public_bytes(Encoding.DER), request_id=request_id)


def test_without_a_proof_it_waits_and_with_one_it_goes_through(front: Front, pair: Pair, copy: Copy) -> None:
    reach_cap(front, pair, copy)
    plain = Revocation(serial_number=OURS, reason=1)
    assert_failed(revoke(front, pair, request_of(copy, plain)), "cap-revocations")
    assert OURS in copy.patch(revoke(front, pair, request_of(copy, proved(OURS, KEY))))
    # A captured client gains nothing by it: whatever has no proof of its own still waits.
    assert_failed(revoke(front, pair, copy.request(UNPROVED[CAP])), "cap-revocations")


def test_proofs_are_not_counted(front: Front, pair: Pair, copy: Copy) -> None:
    both = request_of(copy, proved(OURS, KEY), proved(OTHER, OTHER_KEY))
    assert copy.patch(revoke(front, pair, both)) == [OURS, OTHER]
    front.restart()
    pair = front.connect()
    reach_cap(front, pair, copy)


def test_of_a_message_with_both_kinds_what_is_proved_is_taken(front: Front, pair: Pair, copy: Copy) -> None:
    reach_cap(front, pair, copy)
    mixed = Revocation(serial_number=UNPROVED[3]), proved(OURS, KEY)
    answer = revoke(front, pair, request_of(copy, *mixed, request_id=b"m" * 32))
    assert isinstance(answer, RequestFailed)
    assert answer.code == "cap-revocations"
    assert "1 of these are revoked, and 1 wait" in answer.message
    assert copy.patch(revoke(front, pair, copy.request()))[-1] == OURS
    front.now += dt.timedelta(minutes=61)
    answer = revoke(front, pair, request_of(copy, *mixed, request_id=b"m" * 32))
    assert copy.patch(answer)[-1] == UNPROVED[3]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_key_can(front: Front, pair: Pair, copy: Copy, kind: str) -> None:
    reach_cap(front, pair, copy)
    certify(front, OURS + 10, key_of(kind, 1))
    assert copy.patch(revoke(front, pair, request_of(copy, proved(OURS + 10, key_of(kind, 1)))))[-1] == OURS + 10


def test_a_wrong_proof_is_refused(front: Front, pair: Pair, copy: Copy) -> None:
    for proof in (b"", b"no signature", prove(OTHER_KEY, OURS, tbs_of(KEY, OURS))):
        assert_refused(front, pair, copy, Revocation(serial_number=OURS, reason=1, proof=proof), "proof-invalid")


def test_a_proof_of_another_certificate_is_refused(front: Front, pair: Pair, copy: Copy) -> None:
    twin = OURS + 50
    certify(front, twin, KEY)
    assert_refused(
        front, pair, copy, Revocation(serial_number=twin, reason=1, proof=proved(OURS, KEY).proof), "proof-invalid"
    )
    assert_refused(
        front, pair, copy, Revocation(serial_number=OTHER, reason=1, proof=proved(OURS, KEY).proof), "proof-invalid"
    )


def test_one_wrong_proof_refuses_the_message_and_names_it(front: Front, pair: Pair, copy: Copy) -> None:
    wrong = Revocation(serial_number=OTHER, reason=1, proof=b"wrong")
    answer = revoke(front, pair, request_of(copy, proved(OURS, KEY), wrong))
    assert isinstance(answer, RequestRefused)
    assert answer.field == f"{OTHER:x}"
    assert front.revocation.lists[0].revoked == 0


@pytest.mark.parametrize("reason", [None, 4])
def test_a_proof_goes_with_its_reason_only(front: Front, pair: Pair, copy: Copy, reason: int | None) -> None:
    assert_refused(front, pair, copy, dataclasses.replace(proved(OURS, KEY), reason=reason), "proof-reason")


def test_too_many_proofs_in_one_message(front: Front, pair: Pair, copy: Copy) -> None:
    many = [proved(OURS, KEY)] * (MAXIMUM_PROOFS + 1)
    answer = revoke(front, pair, request_of(copy, *many))
    assert isinstance(answer, RequestRefused)
    assert (answer.code, answer.field) == ("request-too-large", "proof")
    assert copy.patch(revoke(front, pair, request_of(copy, *many[1:]))) == [OURS]


def test_a_certificate_that_was_never_issued(front: Front, pair: Pair, copy: Copy) -> None:
    assert_refused(front, pair, copy, proved(BASE + 999, KEY), "unknown-serial")


def test_a_key_that_retention_has_removed_proves_nothing(front: Front, pair: Pair, copy: Copy) -> None:
    reach_cap(front, pair, copy)
    front.journal.remove_parts(before=NOW + dt.timedelta(days=1), now=front.now)
    front.journal.commit()
    assert_failed(revoke(front, pair, request_of(copy, proved(OURS, KEY))), "cap-revocations")


def test_what_is_revoked_already_needs_no_proof(front: Front, pair: Pair, copy: Copy) -> None:
    copy.patch(revoke(front, pair, request_of(copy, proved(OURS, KEY))))
    again = Revocation(serial_number=OURS, reason=1, proof=b"whatever")
    assert copy.patch(revoke(front, pair, request_of(copy, again))) == [OURS]


def test_the_proof_stands_in_the_journal(front: Front, pair: Pair, copy: Copy) -> None:
    revocation = proved(OURS, KEY)
    copy.patch(revoke(front, pair, request_of(copy, Revocation(serial_number=OTHER), revocation)))
    bodies = [decode_entry(octets) for _, octets, _ in front.journal.entries(1, front.journal.size)]
    (body,) = [decode_body(each) for each in bodies if each.kind == "revocation"]
    assert isinstance(body, Revocations)
    assert revocation.proof is not None
    assert body.proofs == (CompromiseProof(serial_number=OURS.to_bytes(16, "big"), signature=revocation.proof),)


def test_the_front_never_verifies_a_proof(front: Front, pair: Pair, copy: Copy) -> None:
    pair.client.revoke(request_of(copy, proved(OURS, KEY)))
    front.carry()
    assert [type(each) for each in front.tasks] == [CheckProofs]
    assert front.revocation.lists[0].revoked == 0
    front.settle()
    assert front.revocation.lists[0].revoked == 1


def test_a_proof_that_ends_workers_costs_its_message(front: Front, pair: Pair, copy: Copy) -> None:
    pair.client.revoke(request_of(copy, proved(OURS, KEY)))
    front.carry()
    task = front.tasks.popleft()
    front.deliver(Deferred(task=task.task, code="worker-died", message="it ended two workers", retry_after_s=300))
    front.settle()
    (answer,) = front.answers(pair)
    assert_failed(answer, "worker-died")


def test_a_worker_that_answers_something_else_is_at_fault(front: Front, pair: Pair, copy: Copy) -> None:
    pair.client.revoke(request_of(copy, proved(OURS, KEY)))
    front.carry()
    task = front.tasks.popleft()
    with pytest.raises(PeerError, match="something else"):
        front.deliver(Signed(task=task.task, signature=b"s"))
    front.settle()
    (answer,) = front.answers(pair)
    assert_failed(answer, "busy")


def test_a_signer_that_loses_its_past_meanwhile_revokes_nothing(front: Front, pair: Pair, copy: Copy) -> None:
    pair.client.revoke(request_of(copy, proved(OURS, KEY)))
    front.carry()
    front.gate.halt("lost-past", "it was shown a larger head", now=front.now)
    front.settle()
    (answer,) = front.answers(pair)
    assert_failed(answer, "lost-past")
    assert front.revocation.lists[0].revoked == 0


# --- and the key from then on


def compromise_issued(front: Front, pair: Pair, copy: Copy, key: PrivateKey) -> bytes:
    """Issue for this key, revoke by its proof, return the serial number."""
    log = log_of(front, pair, requested(key, b"1" * 32))
    front.confirm(pair, log.handle)
    _, intent, part = intent_in(log.log)
    serial = int.from_bytes(intent.serial_number, "big")
    proof = prove(key, serial, part.tbs_certificate)
    copy.patch(revoke(front, pair, request_of(copy, Revocation(serial_number=serial, reason=1, proof=proof))))
    return intent.serial_number


def test_a_real_certificate_is_revoked_and_its_key_blocked(front: Front, pair: Pair, copy: Copy) -> None:
    key = key_of("P-256", 7)
    compromise_issued(front, pair, copy, key)
    for _ in range(2):
        answer = front.ask(pair, requested(key, b"2" * 32))
        assert isinstance(answer, RequestRefused)
        assert (answer.code, answer.field) == ("key-blocked", "key")
        front.restart()
        pair = front.connect()
    # A key that somebody else only said to be compromised is not blocked.
    other = key_of("P-256", 8)
    log = log_of(front, pair, requested(other, b"3" * 32))
    front.confirm(pair, log.handle)
    serial = int.from_bytes(intent_in(log.log)[1].serial_number, "big")
    copy.patch(revoke(front, pair, request_of(copy, Revocation(serial_number=serial, reason=1))))
    assert isinstance(front.ask(pair, requested(other, b"4" * 32)), LogReceived)


def test_what_is_under_way_for_the_same_key_is_not_signed(front: Front, pair: Pair, copy: Copy) -> None:
    key = key_of("P-256", 7)
    first = log_of(front, pair, requested(key, b"1" * 32))
    front.confirm(pair, first.handle)
    open_one = log_of(front, pair, requested(key, b"5" * 32))
    bystander = log_of(front, pair, requested(key_of("P-256", 9), b"6" * 32))
    _, intent, part = intent_in(first.log)
    serial = int.from_bytes(intent.serial_number, "big")
    proof = prove(key, serial, part.tbs_certificate)
    pair.client.revoke(request_of(copy, Revocation(serial_number=serial, reason=1, proof=proof)))
    front.settle()
    ended = [each for each in front.answers(pair) if isinstance(each, RequestAbandoned)]
    assert [each.handle for each in ended] == [open_one.handle]
    front.confirm(pair, bystander.handle)


def test_what_was_promised_to_the_same_key_is_not_signed(front: Front, pair: Pair, copy: Copy) -> None:
    """Confirmed, and the power went before it was signed: no retry gets it. Nor is it one that has to be revoked."""
    key = key_of("P-256", 7)
    promised = requested(key, b"5" * 32)
    log = log_of(front, pair, promised)
    pair.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    front.restart()
    pair = front.connect()
    compromise_issued(front, pair, copy, key)
    log = log_of(front, pair, promised)
    answer = front.confirm(pair, log.handle)
    assert isinstance(answer, RequestRefused)
    assert (answer.code, "has proved to be compromised" in answer.message) == ("key-blocked", True)
    assert front.signing == []
    assert list(front.keys.alarms()) == []


def test_other_certificates_for_the_key_are_an_alarm(front: Front, pair: Pair, copy: Copy) -> None:
    key = key_of("P-256", 7)
    certificate_of(front, pair, requested(key, b"5" * 32))
    assert list(front.keys.alarms()) == []
    compromise_issued(front, pair, copy, key)
    (alarm,) = front.keys.alarms()
    intent = front.journal.index.find_request(b"5" * 32)
    assert intent is not None
    assert f"revoke {intent.serial_number.hex()}, with the reason keyCompromise" in alarm
    copy.patch(revoke(front, pair, copy.request(int.from_bytes(intent.serial_number, "big"))))
    assert list(front.keys.alarms()) == []


def test_version_1_has_no_proofs(front: Front, copy: Copy) -> None:
    reach_cap(front, front.connect(), copy)
    old = front.connect(version=1)
    old.client.revoke(request_of(copy, proved(OURS, KEY)))
    front.settle()
    assert not front.journal.index.is_revoked(OURS.to_bytes(16, "big"))
