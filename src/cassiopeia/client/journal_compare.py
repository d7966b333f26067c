"""What a client holds, compared with a journal: the store's certificates and CRLs, and the published CRLs."""

from __future__ import annotations

from cassiopeia.config import ClientConfig
from cassiopeia.journal.verification import Verification
from cassiopeia.store.database import Store, open_store

_ROWS_AT_ONCE = 500


def compare(client: ClientConfig, verification: Verification) -> None:
    """Show all of it to the verification."""
    with open_store(client.store_url) as store:
        _compare_certificates(store, verification)
        for header in store.crls.headers():
            record = store.crls.get(header.authority)
            if record is not None:
                verification.crl(record.der, where=f"the store's CRL of {header.authority}", may_be_ahead=True)
    for path in sorted(client.publish_directory.glob("*.crl")):
        verification.crl(path.read_bytes(), where=str(path), may_be_ahead=True)


def _compare_certificates(store: Store, verification: Verification) -> None:
    after: int | None = None
    while True:
        page = store.certificates.page(after=after, limit=_ROWS_AT_ONCE)
        for record in page.items:
            verification.certificate(
                record.der,
                where=f"the store's certificate {record.serial_number}",
                revoked=record.revocation_state == "revoked",
            )
        if page.next_page is None:
            return
        after = page.next_page
