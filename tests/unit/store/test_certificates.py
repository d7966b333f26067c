from __future__ import annotations

import datetime as dt

import pytest
from tests.support.store import NOW, after, issue, issued, lease_revoke, lease_sign, request_id, submit

from cassiopeia.errors import Refused
from cassiopeia.store.database import Store
from cassiopeia.store.records import Postponement

SERIAL = 0x01_AB_CD_EF_00_11_22_33_44_55_66_77_88_99_AA_BB


def issue_with(store: Store, *serials: int, authority: str = "unassured_2026_1") -> None:
    for serial in serials:
        submit(store, serial % 1_000_003)
    jobs = lease_sign(store)
    results = [
        issued(job, serial_number=serial, authority=authority) for job, serial in zip(jobs, serials, strict=True)
    ]
    store.results.finish_issued(results, now=NOW)


def code_of(store: Store, text: str, **arguments: str) -> str:
    with pytest.raises(Refused) as caught:
        store.certificates.look_up(text, **arguments)
    assert caught.value.field == "serial"
    return caught.value.code


@pytest.mark.parametrize(
    "text",
    [
        "01abcdef00112233445566778899aabb",
        "01ABCDEF00112233445566778899AABB",
        "0x1abcdef00112233445566778899aabb",
        "1ABCDEF00112233445566778899AABB",
        "01:AB:CD:EF:00:11:22:33:44:55:66:77:88:99:AA:BB",
        " 01 ab cd ef 00 11 22 33 44 55 66 77 88 99 aa bb\n",
        "0001abcdef00112233445566778899aabb",
        "01abcdef",
        "0x1ABC",
        "1abcd",
        "01:ab:c",
    ],
)
def test_a_serial_number_is_found_however_it_is_written(store: Store, text: str) -> None:
    issue_with(store, 0x01_AB_00, SERIAL & 0xFFFF, 0x02_AB_CD_EF)
    submit(store, 99)
    [job] = lease_sign(store)
    store.results.finish_issued([issued(job, serial_number=SERIAL)], now=NOW)
    assert int(store.certificates.look_up(text).serial_number, 16) == SERIAL


def test_a_look_up_that_fails_says_why(store: Store) -> None:
    issue_with(store, 0x0102AA, 0x0102BB)
    assert code_of(store, "0102") == "serial-ambiguous"
    assert code_of(store, "0103") == "certificate-unknown"
    assert code_of(store, "010") == "certificate-unknown"
    for text in ("", "0", "00:00", "serial", "0102_", "01%", "1" * 50):
        assert code_of(store, text) == "serial-invalid"
    # All digits of one number win over being the beginning of another.
    submit(store, 7)
    [job] = lease_sign(store)
    store.results.finish_issued([issued(job, serial_number=0x0102)], now=NOW)
    assert store.certificates.look_up("0102").serial_number == "0102"


def test_the_digits_may_begin_two_ways(store: Store) -> None:
    issue_with(store, 0x01AB_3344, 0x1AB3_3344)
    assert code_of(store, "1ab3") == "serial-ambiguous"
    assert store.certificates.look_up("01ab3").serial_number == "01ab3344"


def test_the_authority_tells_two_of_one_number_apart(store: Store) -> None:
    issue_with(store, SERIAL, authority="assured_2026_1")
    submit(store, 7)
    [job] = lease_sign(store)
    store.results.finish_issued([issued(job, serial_number=SERIAL, authority="assured_2026_2")], now=NOW)
    assert code_of(store, f"{SERIAL:x}") == "serial-ambiguous"
    assert store.certificates.look_up(f"{SERIAL:x}", authority="assured_2026_2").authority == "assured_2026_2"
    assert code_of(store, f"{SERIAL:x}", authority="assured_2026_3") == "certificate-unknown"


def test_a_request_without_certificate_has_none(store: Store) -> None:
    submit(store, 1)
    assert store.certificates.of_request(request_id(1)) is None


def test_asking_for_a_revocation_queues_it_once(store: Store) -> None:
    issue_with(store, SERIAL)
    asked = store.certificates.request_revocation(f"{SERIAL:x}", now=after(1), reason=4, invalidity_date=after(-3_600))
    assert (asked.revocation_state, asked.revocation_reason, asked.invalidity_date, asked.revocation_requested_at) == (
        "requested",
        4,
        after(-3_600),
        after(1),
    )
    # A second wish, even with another reason, does not change the first, which may be on its way already.
    assert store.certificates.request_revocation(f"{SERIAL:x}", now=after(2), reason=1) == asked
    [job] = lease_revoke(store, at=after(2))
    assert (job.authority, job.revocation.serial_number, job.revocation.reason, job.revocation.invalidity_date) == (
        "unassured_2026_1",
        SERIAL,
        4,
        after(-3_600),
    )


def test_a_proof_of_the_compromised_key_goes_to_the_signer(store: Store) -> None:
    issue_with(store, SERIAL)
    asked = store.certificates.request_revocation(f"{SERIAL:x}", now=NOW, reason=1, proof=b"signature")
    assert asked.revocation_proof == b"signature"
    [job] = lease_revoke(store)
    assert job.revocation.proof == b"signature"


def test_a_proof_comes_to_what_waits_and_that_waits_no_longer(store: Store) -> None:
    issue_with(store, SERIAL)
    store.certificates.request_revocation(f"{SERIAL:x}", now=NOW, reason=4, invalidity_date=after(-60))
    [job] = lease_revoke(store)
    put_off = Postponement(job_id=job.id, delay_s=3_000, counts=False, reason="the cap is reached")
    store.queue.retry_later("client", [put_off], now=NOW)
    assert lease_revoke(store, at=after(5)) == []
    asked = store.certificates.request_revocation(f"{SERIAL:x}", now=after(5), reason=1, proof=b"signature")
    assert (asked.revocation_reason, asked.invalidity_date, asked.revocation_requested_at) == (1, after(-60), NOW)
    [job] = lease_revoke(store, at=after(5))
    assert (job.revocation.reason, job.revocation.proof) == (1, b"signature")
    # In a client's hands it stays, and without a proof nothing is changed.
    again = store.certificates.request_revocation(
        f"{SERIAL:x}", now=after(6), reason=1, proof=b"another", invalidity_date=after(-90)
    )
    assert (again.revocation_proof, again.invalidity_date) == (b"another", after(-90))
    assert store.certificates.request_revocation(f"{SERIAL:x}", now=after(6), reason=4) == again
    assert lease_revoke(store, at=after(6)) == []


def test_a_proof_goes_with_key_compromise_only(store: Store) -> None:
    issue_with(store, SERIAL)
    for reason in (None, 4):
        with pytest.raises(Refused, match="goes with the reason keyCompromise"):
            store.certificates.request_revocation(f"{SERIAL:x}", now=NOW, reason=reason, proof=b"signature")
    assert store.certificates.look_up(f"{SERIAL:x}").revocation_state == "none"


def test_a_revoked_certificate_says_since_when(store: Store) -> None:
    issue_with(store, SERIAL)
    store.certificates.request_revocation(f"{SERIAL:x}", now=NOW)
    store.results.finish_revoked([job.id for job in lease_revoke(store)], revoked_at=NOW, now=NOW)
    with pytest.raises(Refused, match="was revoked on 2026-11-23 at 12:00:00 UTC") as caught:
        store.certificates.request_revocation(f"{SERIAL:x}", now=after(5))
    assert caught.value.code == "already-revoked"
    assert lease_revoke(store, at=after(5)) == []


def test_a_revocation_that_was_set_aside_is_put_back(store: Store) -> None:
    issue_with(store, SERIAL, SERIAL + 1)
    records = [store.certificates.request_revocation(f"{serial:x}", now=NOW) for serial in (SERIAL, SERIAL + 1)]
    assert not store.certificates.retry_revocation(records[0], now=NOW)
    jobs = lease_revoke(store)
    assert not store.certificates.retry_revocation(records[0], now=NOW)
    store.queue.set_aside("client", [(job.id, "the signer does not know it") for job in jobs], now=NOW)

    assert store.certificates.request_revocation(f"{SERIAL:x}", now=NOW).revocation_state == "requested"
    assert lease_revoke(store) == []
    assert store.certificates.retry_revocation(records[0], now=after(5))
    [again] = lease_revoke(store, at=after(5))
    assert (again.revocation.serial_number, again.tries) == (SERIAL, 0)
    assert not store.certificates.retry_revocation(records[0], now=after(5))


def test_an_unknown_certificate_cannot_be_revoked(store: Store) -> None:
    with pytest.raises(Refused, match="there is no certificate with serial number 01ab") as caught:
        store.certificates.request_revocation("01:AB", now=NOW)
    assert caught.value.code == "certificate-unknown"


@pytest.mark.parametrize("reason", [6, 7, 8, 11, -1])
def test_reasons_that_no_crl_of_ours_holds_are_refused(store: Store, reason: int) -> None:
    issue_with(store, SERIAL)
    with pytest.raises(Refused) as caught:
        store.certificates.request_revocation(f"{SERIAL:x}", now=NOW, reason=reason)
    assert caught.value.code == "reason-invalid"
    assert store.certificates.look_up(f"{SERIAL:x}").revocation_state == "none"


def test_unspecified_is_no_reason(store: Store) -> None:
    issue_with(store, SERIAL)
    assert store.certificates.request_revocation(f"{SERIAL:x}", now=NOW, reason=0).revocation_reason is None


def test_pages_show_each_certificate_once_newest_first(store: Store) -> None:
    issue(store, 5)
    first = store.certificates.page(limit=2)
    issue(store, 1, first=50)
    second = store.certificates.page(limit=2, after=first.next_page)
    third = store.certificates.page(limit=2, after=second.next_page)
    shown = [*first.items, *second.items, *third.items]
    assert [each.request_id for each in shown] == [request_id(number).hex() for number in range(4, -1, -1)]
    assert third.next_page is None


def test_pages_are_filtered(store: Store) -> None:
    for number, (account, authority, days) in enumerate(
        [("alice", "a_2026_1", 10), ("bob", "a_2026_1", 20), ("alice", "a_2026_2", 30), ("alice", "a_2026_1", 40)]
    ):
        submit(store, number, account=account)
        [job] = lease_sign(store)
        result = issued(job, serial_number=number + 1, authority=authority, not_after=NOW + dt.timedelta(days=days))
        store.results.finish_issued([result], now=NOW)
    store.certificates.request_revocation("01", now=NOW)
    store.certificates.request_revocation("02", now=NOW)
    jobs = lease_revoke(store)
    store.results.finish_revoked([job.id for job in jobs if job.revocation.serial_number == 1], revoked_at=NOW, now=NOW)

    def serials(**filters: object) -> list[int]:
        items = store.certificates.page(**filters).items  # type: ignore[arg-type] # filters vary
        return [int(each.serial_number, 16) for each in items]

    assert serials() == [4, 3, 2, 1]
    assert serials(account="alice") == [4, 3, 1]
    assert serials(account="alice", authority="a_2026_1") == [4, 1]
    assert serials(profile="9004-unproved-server", account="bob") == [2]
    assert serials(profile="else") == []
    assert serials(revocation_state="none") == [4, 3]
    assert serials(revocation_state="requested") == [2]
    assert serials(revocation_state="revoked") == [1]
    assert serials(expires_before=NOW + dt.timedelta(days=25)) == [2, 1]
    assert serials(valid_at=NOW + dt.timedelta(days=25)) == [4, 3]
    assert serials(valid_at=NOW - dt.timedelta(days=1)) == []


def test_a_serial_number_of_the_original_signer_is_found(store: Store) -> None:
    """It has 21 octets, one more than RFC 5280 4.1.2.2 allows."""
    number = 0x0200000004B7146DBE4CC5B938E7073E75A82323AA
    issue_with(store, number)
    assert int(store.certificates.look_up(f"{number:x}").serial_number, 16) == number
