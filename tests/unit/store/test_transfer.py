from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select
from tests.support.journal_maker import JournalMaker
from tests.support.postgres import PostgresServer
from tests.support.statements import signed_observation
from tests.support.store import NONCE, NOW, certificate_request, demand, issue, lease_sign, request_id, submit

from cassiopeia.errors import OperatorError, Refused
from cassiopeia.journal.chain import Chain, no_entries
from cassiopeia.store import transfer
from cassiopeia.store.database import Store, open_store, upgrade
from cassiopeia.store.evidence import StoredAttestation
from cassiopeia.store.lint_streaks import LintVerdict
from cassiopeia.store.models import METADATA
from cassiopeia.store.records import CrlRecord, ServedCrl, SigningLog


@pytest.fixture
def target_url(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> str:
    return postgres_server.create_database(f"copy_{abs(hash(request.node.name))}")


def fill(store: Store) -> None:
    results = issue(store, 12)
    store.certificates.request_revocation(f"{results[0].serial_number:x}", now=NOW, reason=1)
    submit(store, 100, account="bob")
    [job] = lease_sign(store)
    store.results.save_logs("client", [SigningLog(job_id=job.id, sha256=b"\1" * 32, entry=b"\0\xff")], now=NOW)
    submit(store, 101, account="Zoë")
    wanted = certificate_request(account="nul \0")
    store.requests.record_refusal(wanted, request_id=request_id(102), refusal=Refused("no", code="no"), now=NOW)
    store.crls.put(CrlRecord(authority="a", number=2**90, this_update=NOW, next_update=NOW, der=b"crl"), now=NOW)
    seen = ServedCrl(
        authority="a", url="http://a", state="served", what="", number=2**90, this_update=NOW, next_update=None,
        seen_at=NOW,
    )  # fmt: skip
    store.served_crls.record([seen])
    store.signers.save(1, {"state": "ready"}, now=NOW)
    store.lint_streaks.record([LintVerdict(profile="p", findings=("pkix.x",), message="x")], now=NOW)
    journal = JournalMaker()
    journal.begin()
    begin, chain = no_entries(1), Chain(no_entries(1), ())
    for log in journal.logs:
        chain.append(*chain.complete(log))
    store.journal_copies.append(begin, chain.link(), journal.logs, head=None, proof=None, now=NOW)
    store.orders.put(1, 1, b"order", bundle=b"bundle", now=NOW)
    store.orders.save_timestamp(1, b"timestamp", asked_at=NOW)
    store.evidence.put_observations([signed_observation()], now=NOW)
    demand(store, "p")
    waits = store.requests.submit(certificate_request(profile="p"), request_id=request_id(103), now=NOW)
    vouched = StoredAttestation(number=waits.number, signer_id=1, boot_id=b"b", nonce=NONCE, proofs=(b"proof",))
    store.evidence.put_attestations([vouched], now=NOW)
    store.evidence.save_word("validator", {"attested": 1}, now=NOW)
    store.publishers.save("publisher", [], now=NOW)


def contents(store: Store) -> dict[str, list[tuple[object, ...]]]:
    with store.database.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in METADATA.sorted_tables
        }


def test_every_row_arrives_and_life_goes_on(store_url: str, target_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_ROWS_AT_ONCE", 5)
    with open_store(store_url) as source:
        fill(source)
        before = contents(source)
    counts = transfer.copy_store(store_url, target_url)
    assert counts == {name: len(rows) for name, rows in before.items()}
    assert all(counts.values())
    with open_store(target_url) as target:
        assert contents(target) == before
        # New rows get new numbers, and the queue goes on where it was.
        record = target.requests.submit(certificate_request(), request_id=request_id(500), now=NOW)
        assert record.number == counts["request"] + 1
        assert [job.request.account for job in lease_sign(target)] == ["Zoë", "alice"]


def test_an_empty_store_can_be_copied_and_used(store_url: str, target_url: str) -> None:
    assert set(transfer.copy_store(store_url, target_url).values()) == {0}
    with open_store(target_url) as target:
        assert target.requests.submit(certificate_request(), request_id=request_id(1), now=NOW).number == 1


def test_the_way_back_to_sqlite(store_url: str, tmp_path: Path) -> None:
    with open_store(store_url) as source:
        fill(source)
        before = contents(source)
    back = f"sqlite:///{tmp_path / 'back.db'}"
    transfer.copy_store(store_url, back)
    with open_store(back) as target:
        assert contents(target) == before


def test_a_store_that_holds_something_is_not_copied_over(store_url: str, tmp_path: Path) -> None:
    target_url = f"sqlite:///{tmp_path / 'target.db'}"
    upgrade(target_url)
    with open_store(target_url) as target:
        submit(target, 1)
        before = contents(target)
    with open_store(store_url) as source:
        submit(source, 2)
    with pytest.raises(OperatorError, match="not empty"):
        transfer.copy_store(store_url, target_url)
    with open_store(target_url) as target:
        assert contents(target) == before
