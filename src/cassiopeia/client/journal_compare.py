"""What a client holds, compared with a journal: the store's certificates and CRLs, and the published CRLs.

And the other way round: what the journal has and the store has lost, as after a restore of an older database.
"""

from __future__ import annotations

from dataclasses import dataclass

from cassiopeia.config import ClientConfig
from cassiopeia.journal.verification import Verification
from cassiopeia.store import recovery
from cassiopeia.store.database import Store, open_store


@dataclass(frozen=True, kw_only=True, slots=True)
class Lacks:
    """How many certificates of the journal the store has not, by the reason, and what it does not know of others.

    `lost` can be recovered. `bare` cannot from this copy, which lacks their octets: they were removed by age. Requests
    of those that `wait` are in the queue. `version_1`: made for clients that may keep records of their own.
    `unrevoked` are in the store, and it has missed their revocation.
    """

    lost: int
    bare: int
    wait: int
    version_1: int
    unrevoked: int


def compare(client: ClientConfig, verification: Verification) -> Lacks:
    """Show all of it to the verification; return what is lacking."""
    for path in sorted(client.publish_directory.glob("*.crl")):
        verification.crl(path.read_bytes(), where=str(path), may_be_ahead=True)
    with open_store(client.store_url) as store:
        for header in store.crls.headers():
            record = store.crls.get(header.authority)
            if record is not None:
                verification.crl(record.der, where=f"the store's CRL of {header.authority}", may_be_ahead=True)
        return _lacks(store, verification, _compare_certificates(store, verification))


def _compare_certificates(store: Store, verification: Verification) -> int:
    unrevoked = 0
    for stored in recovery.stored_certificates(store.database):
        verification.certificate(
            stored.der,
            where=f"the store's certificate {stored.serial_number}",
            revoked=stored.state == "revoked",
        )
        if stored.state == "none" and verification.replay.crls.revoked_at(bytes.fromhex(stored.serial_number)):
            unrevoked += 1
    return unrevoked


def _lacks(store: Store, verification: Verification, unrevoked: int) -> Lacks:
    unseen = verification.unseen()
    waiting = recovery.waiting_requests(store.database, (each.request_id for each in unseen))
    lost = [each for each in unseen if each.request_id not in waiting and each.protocol > 1]
    bare = sum(not each.tbs_hash for each in lost)
    return Lacks(
        lost=len(lost) - bare,
        bare=bare,
        wait=sum(each.request_id in waiting for each in unseen),
        version_1=sum(each.request_id not in waiting and each.protocol == 1 for each in unseen),
        unrevoked=unrevoked,
    )
