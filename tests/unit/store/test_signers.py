from __future__ import annotations

from tests.support.store import NOW, after

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
