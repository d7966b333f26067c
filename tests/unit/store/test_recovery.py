"""What a journal has and the store has lost comes back, on both databases, and nothing that is there is overwritten."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select
from tests.support.authorities import certification_request, default_authority, server_request
from tests.support.journal_maker import JournalMaker, journal_key
from tests.support.store import NOW, issue, issued, lease_revoke, lease_sign

from cassiopeia.client import journal_recovery
from cassiopeia.client.journal_recovery import Material, Recovered
from cassiopeia.core import ed25519
from cassiopeia.core.authority import Authority
from cassiopeia.core.request import CertificateRequest
from cassiopeia.errors import Inconsistent, OperatorError, Refused
from cassiopeia.journal import entry as entries
from cassiopeia.journal.replay import Replay
from cassiopeia.journal.transcript import End, Item
from cassiopeia.store import recovery
from cassiopeia.store.database import Store
from cassiopeia.store.models import METADATA, job, signing_log
from cassiopeia.store.records import CertificateRecord, CrlRecord, Outcome, SigningLog
from cassiopeia.store.recovery import Recovery

AUTHORITY = default_authority()


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(journal_recovery, "_AT_ONCE", 2)


@pytest.fixture
def made() -> JournalMaker:
    sound = JournalMaker()
    sound.begin()
    return sound


def recover(
    store: Store,
    made: JournalMaker,
    *,
    head: bytes | None = None,
    newest: bytes = b"",
    authorities: dict[str, Authority] | None = None,
    key: int = 1,
    again: JournalMaker | None = None,
) -> Recovered:
    """Recover; `again` is what is read when the journal is read for the second time."""
    head = made.signed_head() if head is None else head

    def items(replay: Replay) -> Iterator[Item]:
        for each in made.logs:
            replay.append(each)
            yield each
        yield End(head=head, newest=newest)

    material = Material(
        items=items, logs=lambda: iter((again or made).logs), keys=[ed25519.public_octets(journal_key(key))]
    )
    return journal_recovery.recover(store, material, authorities or {}, now=NOW)


def contents(store: Store) -> dict[str, list[tuple[object, ...]]]:
    with store.database.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in METADATA.sorted_tables
        }


def certificate_of(store: Store, made: JournalMaker, intent: int) -> CertificateRecord:
    return store.certificates.look_up(made.serial(intent).hex())


def submit(store: Store, made: JournalMaker, intent: int) -> CertificateRequest:
    request = made.requests[intent]
    store.requests.submit(request, request_id=request.request_id, now=NOW)
    return request


def finish(store: Store, made: JournalMaker, *intents: int) -> None:
    """As the client has done it, before anything was lost."""
    for intent in intents:
        submit(store, made, intent)
    serials = {made.requests[intent].request_id: intent for intent in intents}
    for each in lease_sign(store):
        intent = serials[each.request.request_id]
        result = issued(
            each,
            authority=AUTHORITY.name,
            serial_number=int.from_bytes(made.serial(intent), "big"),
            certificate=made.certificates[intent],
        )
        assert store.results.finish_issued([result], now=NOW) == (Outcome.RECORDED,)


def test_what_was_lost_is_here_again_with_all_that_belongs_to_it(store: Store, made: JournalMaker) -> None:
    kept = made.issue()
    finish(store, made, kept)
    lost = [made.issue() for _ in range(5)]
    made.abandonment(made.intent())
    made.confirmation(made.intent())
    made.crl()

    done = recover(store, made)

    assert (done.known, done.taken, done.outcomes[Recovery.RECOVERED], done.problems) == (1, 5, 5, [])
    for intent in lost:
        record = certificate_of(store, made, intent)
        assert record.der == made.certificates[intent]
        assert (record.authority, record.account, record.profile) == (AUTHORITY.name, "", "9004-unproved-server")
        assert (record.subject, record.revocation_state) == ("CN=www.example.org", "none")
        assert record.issued_at == entries.decode_entry(made.logs[intent + 1].entry).time
        found = store.requests.find(made.requests[intent].request_id)
        assert found is not None
        assert (found.request, found.state) == (made.requests[intent], "issued")
        assert found.serial_number == record.serial_number
    with store.database.read() as connection:
        logs = set(connection.execute(select(signing_log.c.entry)).scalars())
        jobs = connection.execute(select(job.c.state, job.c.signer_id)).all()
    assert logs == {entries.encode_log(made.logs[intent - 1]) for intent in lost}
    assert sorted({each.state for each in jobs}) == ["done"]
    # Whoever hands it in again gets the same, and nothing is queued.
    assert submit(store, made, lost[0]) == made.requests[lost[0]]
    assert lease_sign(store) == []


def test_what_came_back_can_be_revoked(store: Store, made: JournalMaker) -> None:
    intent = made.issue()
    recover(store, made)

    store.certificates.request_revocation(made.serial(intent).hex(), now=NOW, reason=4)

    (revocation,) = lease_revoke(store)
    assert revocation.revocation.serial_number == int.from_bytes(made.serial(intent), "big")
    assert revocation.authority == AUTHORITY.name


def test_nobody_is_unrevoked(store: Store, made: JournalMaker) -> None:
    kept, asked, lost = made.issue(), made.issue(), made.issue()
    finish(store, made, kept, asked)
    store.certificates.request_revocation(made.serial(asked).hex(), now=NOW, reason=4)
    date = made.now
    made.revocation(kept, asked, lost)
    made.crl()

    done = recover(store, made)

    assert (done.recovered_revoked, done.newly_revoked) == (1, 1)
    for intent in (kept, lost):
        record = certificate_of(store, made, intent)
        assert (record.revocation_state, record.revocation_reason, record.revoked_at) == ("revoked", 1, date)
        with pytest.raises(Refused, match="was revoked on"):
            store.certificates.request_revocation(record.serial_number, now=NOW)
    # What is under way is the client's: it ends with the CRL that shows it.
    assert certificate_of(store, made, asked).revocation_state == "requested"
    assert len(lease_revoke(store)) == 1


def test_a_crl_of_the_store_may_know_more(store: Store, made: JournalMaker) -> None:
    intent = made.issue()
    until = made.size
    made.revocation(intent)
    made.crl()
    record = CrlRecord(authority=AUTHORITY.name, number=1, this_update=NOW, next_update=NOW, der=made.crls[0])
    store.crls.put(record, now=NOW)
    store.crls.put(dataclasses.replace(record, authority="orga_2026_1", der=b"of another signer"), now=NOW)

    done = recover(store, made, head=made.signed_head(until))

    assert (done.recovered_revoked, done.problems) == (1, [])
    assert certificate_of(store, made, intent).revocation_state == "revoked"


def test_a_crl_that_nobody_has_signed_is_not_believed(store: Store, made: JournalMaker) -> None:
    made.crl(signature=b"nobody's")
    der = made.crls[0]
    store.crls.put(CrlRecord(authority=AUTHORITY.name, number=1, this_update=NOW, next_update=NOW, der=der), now=NOW)

    (problem,) = recover(store, made).problems

    assert problem.startswith(f"the store's CRL of {AUTHORITY.name} is not believed: ")


def test_the_second_time_there_is_nothing_to_do(store: Store, made: JournalMaker) -> None:
    kept, lost, revoked = made.issue(), made.issue(), made.issue()
    finish(store, made, kept)
    made.revocation(kept, revoked)
    made.crl()
    recover(store, made)
    before = contents(store)

    done = recover(store, made)

    assert (done.known, done.taken, done.newly_revoked, done.problems) == (3, 0, 0, [])
    assert contents(store) == before
    assert certificate_of(store, made, lost).revocation_state == "none"


def wait(_store: Store) -> None:
    """The request is in the queue, as it was submitted."""


def lease(store: Store) -> None:
    assert lease_sign(store)


def set_aside(store: Store) -> None:
    (leased,) = lease_sign(store)
    store.queue.set_aside("client", [(leased.id, "a certificate that is none")], now=NOW)


@pytest.mark.parametrize("prepare", [wait, lease, set_aside])
def test_a_request_without_an_answer_gets_its_certificate(
    store: Store, made: JournalMaker, prepare: Callable[[Store], None]
) -> None:
    intent = made.issue()
    request = submit(store, made, intent)
    prepare(store)

    done = recover(store, made)

    assert done.outcomes == {Recovery.COMPLETED: 1}
    found = store.requests.find(request.request_id)
    assert found is not None
    assert (found.state, found.set_aside, found.last_error) == ("issued", False, "")
    assert store.queue.lease("other", limit=9, lease_s=60, now=NOW + dt.timedelta(days=1)) == ()


def test_a_client_that_has_it_in_hand_is_told_that_it_is_there(store: Store, made: JournalMaker) -> None:
    intent = made.issue()
    submit(store, made, intent)
    (leased,) = lease_sign(store)
    recover(store, made)
    result = issued(
        leased,
        authority=AUTHORITY.name,
        serial_number=int.from_bytes(made.serial(intent), "big"),
        certificate=made.certificates[intent],
    )

    octets = entries.encode_log(made.logs[intent - 1])
    log = SigningLog(job_id=leased.id, sha256=entries.part_hash(octets), entry=octets)
    assert store.results.save_logs("client", [log], now=NOW) == (Outcome.NOT_HELD,)
    assert store.results.finish_issued([result], now=NOW) == (Outcome.ALREADY_RECORDED,)


def refused(store: Store, request: CertificateRequest) -> None:
    refusal = Refused("no", code="vetoed")
    store.requests.record_refusal(request, request_id=request.request_id, refusal=refusal, now=NOW)


def another(store: Store, request: CertificateRequest) -> None:
    other = dataclasses.replace(request, account="bob")
    store.requests.submit(other, request_id=request.request_id, now=NOW)


@pytest.mark.parametrize("prepare", [refused, another])
def test_a_certificate_whose_request_is_not_its_own_here_stands_alone(
    store: Store, made: JournalMaker, prepare: Callable[[Store, CertificateRequest], None]
) -> None:
    intent = made.issue()
    request = made.requests[intent]
    prepare(store, request)
    before = store.requests.find(request.request_id)

    done = recover(store, made)

    assert (done.alone, done.problems) == ([made.serial(intent).hex()], [])
    assert store.requests.find(request.request_id) == before
    assert certificate_of(store, made, intent).request_id == ""
    assert recover(store, made).taken == 0
    store.certificates.request_revocation(made.serial(intent).hex(), now=NOW)
    assert len(lease_revoke(store)) == 1


def test_another_certificate_of_that_number_is_told_and_stays(store: Store, made: JournalMaker) -> None:
    first, second = made.issue(), made.issue()
    finish(store, made, first)
    made.certificates[second] = made.certificates[first]
    finish(store, made, second)

    done = recover(store, made)

    assert done.problems == [f"{made.serial(second).hex()}: the store has another certificate under this number"]
    assert (done.known, done.taken) == (2, 0)
    assert certificate_of(store, made, second).der == made.certificates[first]


def test_what_is_no_certificate_is_told_and_stays(store: Store, made: JournalMaker) -> None:
    intent = made.issue()
    whole, made.certificates[intent] = made.certificates[intent], b"damaged"
    finish(store, made, intent)

    (problem,) = recover(store, made).problems

    assert problem.startswith(f"{made.serial(intent).hex()}: the store has something else: ")
    assert certificate_of(store, made, intent).der != whole


def test_certificates_of_another_signer_are_no_business_of_this_journal(store: Store, made: JournalMaker) -> None:
    made.issue()
    (foreign,) = issue(store, 1)

    done = recover(store, made)

    assert (done.known, done.taken, done.problems) == (0, 1, [])
    assert store.certificates.look_up(f"{foreign.serial_number:x}").der == foreign.certificate


def test_a_journal_that_is_another_one_when_it_is_read_again(store: Store, made: JournalMaker) -> None:
    other = JournalMaker()
    other.begin()
    other.result(other.intent(serial_number=b"\1" * 16))
    made.issue()

    done = recover(store, made, again=other)

    assert done.taken == 0
    assert "has another serial number than the journal says" in done.problems[0]


def test_two_who_recover_at_once_write_it_once(
    store: Store, made: JournalMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent, other = made.issue(), made.issue()
    recover(store, made)
    before = contents(store)
    # As it was before the other one was quicker.
    monkeypatch.setattr(recovery, "stored_certificates", lambda _database: iter(()))

    done = recover(store, made)
    assert (done.outcomes, done.taken, done.problems) == ({Recovery.KNOWN: 2}, 0, [])
    assert contents(store) == before

    made.requests[intent] = dataclasses.replace(made.requests[intent], request_id=b"o" * 32)
    with store.database.write() as connection:
        connection.execute(
            METADATA.tables["certificate"]
            .update()
            .values(der=b"another")
            .where(METADATA.tables["certificate"].c.serial_number == made.serial(other).hex())
        )
    done = recover(store, made)
    assert done.outcomes == {Recovery.KNOWN: 1, Recovery.CONFLICT: 1}
    assert "the store has another certificate of" in done.problems[0]


def test_a_number_that_is_taken_leaves_no_request_behind(
    store: Store, made: JournalMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = made.issue(), made.issue()
    finish(store, made, first)
    made.certificates[second] = made.certificates[first]
    request = made.requests[second]
    other = dataclasses.replace(request, request_id=b"o" * 32)
    made.requests[second] = other
    finish(store, made, second)
    monkeypatch.setattr(recovery, "stored_certificates", lambda _database: iter(()))

    done = recover(store, made)

    assert done.outcomes == {Recovery.KNOWN: 1, Recovery.CONFLICT: 1}
    assert store.requests.find(request.request_id) is None


@pytest.mark.parametrize("part", [0, 2], ids=["intent", "result"])
def test_without_octets_there_is_nothing_to_take_in(store: Store, made: JournalMaker, part: int) -> None:
    intent, whole = made.issue(), made.issue()
    made.drop_part(intent + part)

    done = recover(store, made)

    assert (done.bare, done.taken, done.problems) == ([made.serial(intent).hex()], 1, [])
    assert certificate_of(store, made, whole).der == made.certificates[whole]


def test_a_certificate_that_was_signed_again_comes_once(store: Store, made: JournalMaker) -> None:
    intent = made.issue()
    made.new_epoch()
    made.result(intent)

    done = recover(store, made)

    assert (done.taken, done.problems) == (1, [])
    assert recover(store, made).known == 1


def test_a_sub_ca_that_nobody_knows_is_asked_for(store: Store, made: JournalMaker) -> None:
    made.drop_part(2)
    intent = made.issue()

    (problem,) = recover(store, made).problems
    assert problem.startswith(f"{made.serial(intent).hex()}: ")
    assert "add its certificate to authorities.toml" in problem

    assert recover(store, made, authorities={AUTHORITY.name: AUTHORITY}).taken == 1


def test_a_signature_of_another_key_is_not_taken_in(store: Store, made: JournalMaker) -> None:
    made.issue()
    stranger = dataclasses.replace(AUTHORITY, public_key=ec.generate_private_key(ec.SECP256R1()).public_key())

    done = recover(store, made, authorities={AUTHORITY.name: stranger})

    assert done.taken == 0
    assert len(done.problems) == 1
    assert contents(store)["certificate"] == []


def test_what_no_head_covers_is_left_alone(store: Store, made: JournalMaker) -> None:
    covered = made.issue()
    until = made.size
    later = made.issue()
    made.revocation(covered)

    done = recover(store, made, head=made.signed_head(until))

    assert (done.covered, done.entries, done.taken, done.newly_revoked) == (until, made.size, 1, 0)
    assert certificate_of(store, made, covered).revocation_state == "none"
    with pytest.raises(Refused, match="there is no certificate"):
        certificate_of(store, made, later)
    assert recover(store, made, newest=made.signed_head()).ahead == 0


def test_entries_that_are_not_copied_yet_are_counted(store: Store, made: JournalMaker) -> None:
    made.issue()
    behind = JournalMaker()
    behind.logs = made.logs[:-2]

    assert recover(store, behind, newest=made.signed_head()).ahead == 2


def test_a_journal_that_nobody_vouches_for_is_not_believed(store: Store, made: JournalMaker) -> None:
    made.issue()

    with pytest.raises(Inconsistent, match="none of those that are trusted"):
        recover(store, made, key=2)
    with pytest.raises(OperatorError, match="no signed head over this journal yet"):
        recover(store, made, head=b"")
    assert contents(store)["certificate"] == []


def test_what_no_database_holds_is_cut(store: Store, made: JournalMaker) -> None:
    request = server_request(key_proof=certification_request())
    intent = made.issue(protocol=1, request=dataclasses.replace(request, account="x" * 300))

    assert recover(store, made).taken == 1

    assert certificate_of(store, made, intent).account == "x" * 255


def test_what_a_client_of_version_1_sent_is_kept_as_the_store_keeps_it() -> None:
    octets = certification_request()
    pem = x509.load_der_x509_csr(octets).public_bytes(Encoding.PEM)
    request = server_request(key_proof=pem)

    assert journal_recovery._as_kept(request) == dataclasses.replace(request, key_proof=octets)
    damaged = dataclasses.replace(request, key_proof=b"")
    assert journal_recovery._as_kept(damaged) == damaged
