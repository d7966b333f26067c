from __future__ import annotations

import pytest
from sqlalchemy import text
from tests.support.store import NOW, after

from cassiopeia.errors import Unavailable
from cassiopeia.store.database import Store
from cassiopeia.store.records import SignerStatus


def test_the_last_word_of_each_signer_is_kept(store: Store) -> None:
    assert store.signers.list() == ()
    store.signers.save(2, {"state": "locked", "reason": "no passphrase \0"}, now=NOW)
    store.signers.save(1, {"state": "ready", "authorities": [{"name": "a", "issued": 3}]}, now=NOW)
    store.signers.save(2, {"state": "ready"}, now=after(5))
    assert store.signers.list() == (
        SignerStatus(signer_id=1, report={"state": "ready", "authorities": [{"name": "a", "issued": 3}]}, seen_at=NOW),
        SignerStatus(signer_id=2, report={"state": "ready"}, seen_at=after(5)),
    )


def test_one_signers_report_is_had_without_the_others(store: Store) -> None:
    store.signers.save(1, {"state": "ready"}, now=NOW)
    assert store.signers.report(1) == {"state": "ready"}
    assert store.signers.report(2) is None


@pytest.mark.parametrize("nonsense", ["{", "7", ""])
def test_a_report_that_somebody_has_damaged_says_nothing(store: Store, nonsense: str) -> None:
    store.signers.save(1, {"state": "ready"}, now=NOW)
    with store.database.write() as connection:
        connection.execute(text("UPDATE signer_status SET report = :nonsense"), {"nonsense": nonsense})
    assert [each.report for each in store.signers.list()] == [{}]
    assert store.signers.report(1) == {}


@pytest.mark.parametrize("nonsense", [9 * 10**18, -9 * 10**18])
def test_a_time_that_is_none_is_no_fault_of_ours(store: Store, nonsense: int) -> None:
    store.signers.save(1, {"state": "ready"}, now=NOW)
    with store.database.write() as connection:
        connection.execute(text("UPDATE signer_status SET seen_at = :nonsense"), {"nonsense": nonsense})
    with pytest.raises(Unavailable, match=f"the store has '{nonsense}' where a time should be") as caught:
        store.signers.list()
    assert caught.value.code == "store"
    store.signers.save(1, {"state": "ready"}, now=NOW)
    assert store.signers.list()[0].seen_at == NOW
