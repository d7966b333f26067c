"""The statements that run all day use the index that was made for them, however many finished rows there are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event
from tests.support.store import NONCE, NOW, issue, to_attest

from cassiopeia.store.database import Store
from cassiopeia.store.evidence import Fact
from cassiopeia.store.lint_streaks import HOLD_AFTER, LintVerdict


def lease_past_a_hold(store: Store) -> None:
    """A lease that has to step over the jobs of a held profile."""
    veto = LintVerdict(profile="held", findings=("pkix.x",), message="x")
    store.lint_streaks.record([veto] * HOLD_AFTER, now=NOW)
    store.queue.lease("c", limit=9, lease_s=60, now=NOW, signer_id=1, authorities=["a"])


STATEMENTS: dict[str, tuple[Callable[[Store], object], str]] = {
    "lease": (
        lambda store: store.queue.lease("c", limit=9, lease_s=60, now=NOW, signer_id=1, authorities=["a"]),
        "ix_job_open",
    ),
    "lease while a profile is held": (lease_past_a_hold, "ix_job_open"),
    "lease what is attested": (
        lambda store: store.queue.lease("c", limit=9, lease_s=60, now=NOW, signer_id=1, nonces=[NONCE]),
        "ix_job_open",
    ),
    "requests to attest": (to_attest, "ix_job_open"),
    "observations of a fact": (
        lambda store: store.evidence.observations([Fact(account="a", kind="dns-control", value="v")], since=NOW),
        "ix_observation_fact",
    ),
    "one account's observations": (lambda store: store.evidence.page(account="a"), "ix_observation_account_id"),
    "lease a suspect": (lambda store: store.queue.lease_suspect("c", lease_s=60, now=NOW), "ix_job_suspect"),
    "whether a suspect waits": (lambda store: store.queue.suspect_waits(now=NOW), "ix_job_suspect"),
    "statistics": (lambda store: store.queue.statistics(now=NOW), "ix_job_open"),
    "set aside": (lambda store: store.queue.statistics(now=NOW), "ix_job_failed"),
    "issued in the last hour": (lambda store: store.queue.statistics(now=NOW), "ix_certificate_issued_at"),
    "revoked": (lambda store: store.certificates.page(revocation_state="revoked"), "ix_certificate_revocation"),
    "one account's certificates": (lambda store: store.certificates.page(account="a"), "ix_certificate_account_id"),
    "queued requests": (lambda store: store.requests.page(state="queued"), "ix_request_state_id"),
    "one account's requests": (lambda store: store.requests.page(account="a"), "ix_request_account_id"),
    "by serial number": (
        lambda store: store.certificates.look_up(store.certificates.page().items[0].serial_number[:9]),
        "uq_certificate_serial_number_authority|sqlite_autoindex_certificate_2",  # SQLite names a constraint's itself
    ),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_an_index_serves_the_statement(store: Store, name: str) -> None:
    work, index = STATEMENTS[name]
    issue(store, 1)
    plans = explained(store, lambda: work(store))
    assert any(re.search(index, plan) for plan in plans), plans


def explained(store: Store, work: Callable[[], object]) -> list[str]:
    """Return the plan of every SELECT that `work` runs."""
    seen: list[tuple[str, Any]] = []

    def listen(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if statement.startswith("SELECT"):
            seen.append((statement, parameters))

    engine = store.database._engine
    event.listen(engine, "before_cursor_execute", listen)
    try:
        work()
    finally:
        event.remove(engine, "before_cursor_execute", listen)
    plans = []
    with store.database.read() as connection:
        prefix = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        if connection.dialect.name == "postgresql":
            # A planner would read a table of one row from end to end.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        for statement, parameters in seen:
            rows = connection.exec_driver_sql(prefix + statement, parameters).all()
            plans.append("\n".join(" ".join(map(str, row)) for row in rows))
    return plans
