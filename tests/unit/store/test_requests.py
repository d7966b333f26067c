from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.store import NOW, after, certificate_request, issue, lease_sign, request_id, submit

from cassiopeia.core.request import CertificateRequest, SubjectAltName, SubjectAttribute, request_digest
from cassiopeia.errors import Refused
from cassiopeia.store.database import Store
from cassiopeia.store.records import Postponement

FULL = CertificateRequest(
    request_id=request_id(1),
    account="Zoë & søn, 東京 🔑",
    profile="0100-ocsp",
    key_kind="spkac",
    key_proof=bytes(range(256)),
    signature_hash="sha384",
    wish_from="2026-12-01",
    wish_to="90d",
    attributes=(SubjectAttribute(type="CN", value='"quoted" \\ Ünïcode'), SubjectAttribute(type="O", value="ACME")),
    alt_names=(SubjectAltName(type="DNS", value="example.org"), SubjectAltName(type="IP", value="2001:db8::1")),
    ocsp_target_ca="assured_2026_2",
)


def test_a_request_comes_back_exactly_as_it_was_handed_in(store: Store) -> None:
    record = store.requests.submit(FULL, request_id=request_id(1), now=NOW)
    assert record.request == FULL
    assert record.digest == request_digest(FULL)
    assert (record.state, record.created_at, record.updated_at) == ("queued", NOW, NOW)
    assert store.requests.find(request_id(1)) == record
    [job] = lease_sign(store)
    assert job.request == FULL


def test_the_same_request_again_changes_nothing(store: Store) -> None:
    first = store.requests.submit(FULL, request_id=request_id(1), now=NOW)
    again = store.requests.submit(FULL, request_id=request_id(1), now=after(60))
    assert again == first
    assert len(lease_sign(store)) == 1


def test_the_same_request_again_shows_how_it_went(store: Store) -> None:
    [result] = issue(store, 1)
    again = store.requests.submit(certificate_request(), request_id=request_id(0), now=after(60))
    assert (again.state, again.serial_number, again.authority) == (
        "issued",
        f"{result.serial_number:032x}",
        result.authority,
    )


def test_an_id_never_names_another_request(store: Store) -> None:
    store.requests.submit(FULL, request_id=request_id(1), now=NOW)
    other = replace(FULL, alt_names=())
    with pytest.raises(Refused, match="already names another request") as caught:
        store.requests.submit(other, request_id=request_id(1), now=NOW)
    assert caught.value.code == "request-id-taken"
    with pytest.raises(Refused, match="already names another request"):
        store.requests.record_refusal(other, request_id=request_id(1), refusal=caught.value, now=NOW)
    found = store.requests.find(request_id(1))
    assert found is not None
    assert (found.request, found.state) == (FULL, "queued")


@pytest.mark.parametrize("octets", [b"", b"\0" * 31, b"\0" * 33])
def test_an_id_has_32_octets(store: Store, octets: bytes) -> None:
    with pytest.raises(Refused) as caught:
        store.requests.submit(FULL, request_id=octets, now=NOW)
    assert caught.value.code == "request-id-invalid"


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"account": "nul\0"}, "text-invalid", "account"),
        ({"profile": "\udcff"}, "text-invalid", "profile"),
        ({"wish_from": "x" * 256}, "text-too-long", "wish_from"),
        ({"attributes": (SubjectAttribute(type="CN", value="a\0b"),)}, "text-invalid", "CN"),
        ({"attributes": (SubjectAttribute(type="\0", value="a"),)}, "text-invalid", "subject"),
        ({"alt_names": (SubjectAltName(type="DNS", value="\ud800.org"),)}, "text-invalid", "DNS"),
        ({"alt_names": (SubjectAltName(type="URI", value="x" * 70_000),)}, "text-too-long", "URI"),
    ],
)
def test_text_that_no_database_holds_is_refused_and_can_be_kept_as_refused(
    store: Store, changes: dict[str, object], code: str, field: str
) -> None:
    wanted = certificate_request(**changes)
    with pytest.raises(Refused) as caught:
        store.requests.submit(wanted, request_id=request_id(1), now=NOW)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert store.requests.find(request_id(1)) is None

    kept = store.requests.record_refusal(wanted, request_id=request_id(1), refusal=caught.value, now=NOW)
    assert (kept.state, kept.refusal_code, kept.refusal_field) == ("refused", code, field)
    assert kept.refusal_message == str(caught.value)
    # The same once more is the same refusal, not another request.
    assert store.requests.record_refusal(wanted, request_id=request_id(1), refusal=caught.value, now=NOW) == kept
    assert lease_sign(store) == []


def test_what_is_kept_of_a_refused_request_is_bounded(store: Store) -> None:
    wanted = certificate_request(
        key_proof=b"\0" * 10_000_000,
        attributes=tuple(SubjectAttribute(type="CN", value="x" * 1_000) for _ in range(1_000)),
        alt_names=tuple(SubjectAltName(type="DNS", value="y" * 1_000) for _ in range(1_000)),
        account="z" * 100_000,
        key_kind="not a kind at all",
    )
    refusal = Refused("too much of everything " * 1_000, code="too-large", field="key_proof")
    kept = store.requests.record_refusal(wanted, request_id=request_id(1), refusal=refusal, now=NOW)
    assert kept.request.key_proof == b""
    assert kept.request.attributes == ()
    assert kept.request.alt_names == ()
    assert len(kept.request.account) == 255
    assert len(kept.refusal_message) == 2_000


def test_a_refused_request_keeps_what_was_wrong_with_it(store: Store) -> None:
    refusal = Refused("mixed scripts", code="name-mixed-script", field="DNS")
    kept = store.requests.record_refusal(FULL, request_id=request_id(1), refusal=refusal, now=NOW)
    assert kept.request == FULL
    # Handing it in again does not make it queued: a refusal is final.
    assert store.requests.submit(FULL, request_id=request_id(1), now=after(1)) == kept


def test_a_request_tells_why_it_still_waits(store: Store) -> None:
    submit(store, 1)
    [job] = lease_sign(store)
    store.queue.retry_later(
        "client", [Postponement(job_id=job.id, delay_s=60, counts=True, reason="the signer is locked")], now=NOW
    )
    record = store.requests.find(request_id(1))
    assert record is not None
    assert (record.state, record.tries, record.last_error, record.set_aside) == (
        "queued",
        1,
        "the signer is locked",
        False,
    )
    [job] = lease_sign(store, at=after(61))
    store.queue.set_aside("client", [(job.id, "it kills workers")], now=after(61))
    record = store.requests.find(request_id(1))
    assert record is not None
    assert (record.last_error, record.set_aside) == ("it kills workers", True)


def test_a_set_aside_request_is_tried_again(store: Store) -> None:
    identifier = submit(store, 1).hex()
    submit(store, 2)
    first, _ = lease_sign(store)
    store.queue.set_aside("client", [(first.id, "it kills workers")], now=NOW)
    store.queue.release("client", now=NOW)

    record = store.requests.retry(identifier[:8].upper(), now=after(5))

    assert (record.state, record.set_aside, record.tries, record.last_error) == ("queued", False, 0, "it kills workers")
    assert [job.request.request_id for job in lease_sign(store, at=after(5))] == [request_id(1), request_id(2)]


def test_only_a_set_aside_request_is_tried_again(store: Store) -> None:
    issue(store, 1, first=2)
    queued = submit(store, 1)
    with pytest.raises(Refused, match=f"request {queued.hex()} is not set aside: it is queued") as caught:
        store.requests.retry(queued.hex(), now=NOW)
    assert (caught.value.code, caught.value.field) == ("not-set-aside", "request id")
    with pytest.raises(Refused, match="is not set aside: it is issued"):
        store.requests.retry(request_id(2).hex(), now=NOW)
    with pytest.raises(Refused, match="there is no request") as caught:
        store.requests.retry("0123456789", now=NOW)
    assert caught.value.code == "request-unknown"
    store.requests.record_refusal(
        FULL, request_id=request_id(3), refusal=Refused("no", code="name", field="CN"), now=NOW
    )
    with pytest.raises(Refused, match="is not set aside: it is refused"):
        store.requests.retry(request_id(3).hex(), now=NOW)


def test_a_request_is_looked_up_by_a_unique_beginning(store: Store) -> None:
    for number in range(20):
        submit(store, number)
    full = request_id(7).hex()
    assert store.requests.look_up(full).request.request_id == request_id(7)
    assert store.requests.look_up(f" {full[:12].upper()}\n").request.request_id == request_id(7)


def test_a_look_up_that_fails_says_why(store: Store) -> None:
    for last in (1, 2):
        store.requests.submit(certificate_request(), request_id=b"\xab" * 31 + bytes([last]), now=NOW)
    codes = {}
    for text in ("abab", "abac", "aba", "", "xyzw1234", "ab%b"):
        with pytest.raises(Refused) as caught:
            store.requests.look_up(text)
        codes[text] = caught.value.code
    assert codes == {
        "abab": "request-ambiguous",
        "abac": "request-unknown",
        "aba": "request-id-invalid",
        "": "request-id-invalid",
        "xyzw1234": "request-id-invalid",
        "ab%b": "request-id-invalid",
    }


def test_an_unknown_id_is_not_found(store: Store) -> None:
    assert store.requests.find(request_id(404)) is None


def test_pages_show_each_request_once_newest_first(store: Store) -> None:
    for number in range(7):
        submit(store, number)
    seen = []
    after_number = None
    sizes = []
    while True:
        page = store.requests.page(limit=3, after=after_number)
        sizes.append(len(page.items))
        seen += [each.request.request_id for each in page.items]
        # A request that arrives while somebody turns pages moves nothing.
        submit(store, 100 + len(seen))
        if page.next_page is None:
            break
        after_number = page.next_page
    assert sizes == [3, 3, 1]
    assert seen == [request_id(number) for number in range(6, -1, -1)]


def test_a_full_last_page_has_no_next(store: Store) -> None:
    for number in range(4):
        submit(store, number)
    assert store.requests.page(limit=4).next_page is None


def test_pages_are_filtered(store: Store) -> None:
    issue(store, 1, account="alice")
    submit(store, 1, account="bob")
    submit(store, 2, account="alice")
    refusal = Refused("no", code="no")
    refused = certificate_request(profile="none")
    store.requests.record_refusal(refused, request_id=request_id(3), refusal=refusal, now=NOW)

    def numbers(**filters: object) -> list[bytes]:
        return [each.request.request_id for each in store.requests.page(**filters).items]  # type: ignore[arg-type] # filters vary

    assert numbers(account="alice") == [request_id(3), request_id(2), request_id(0)]
    assert numbers(account="alice", state="queued") == [request_id(2)]
    assert numbers(state="issued") == [request_id(0)]
    assert numbers(state="refused") == [request_id(3)]
    assert numbers(profile="none") == [request_id(3)]
    assert numbers(account="nobody") == []
