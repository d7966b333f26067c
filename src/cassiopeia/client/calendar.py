"""The calendar as the client sees it: its own sub-CAs, what signers told, what stands in the public directory."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from cassiopeia.config import ClientConfig, load_authorities, load_chain
from cassiopeia.core import crl
from cassiopeia.core.ocsp import RESPONDER_ACCOUNT
from cassiopeia.duties import Calendar, OfflineCa
from cassiopeia.errors import PeerError
from cassiopeia.store.database import Store
from cassiopeia.store.records import SignerStatus

_RECENT: Final = dt.timedelta(days=30)
# What a signer that has been silent for longer has told may have changed.
_HEARD_LATELY: Final = dt.timedelta(minutes=10)


def read_calendar(config: ClientConfig, store: Store, *, now: dt.datetime) -> Calendar:
    """All that the operators' duties are judged by; raises `ConfigurationError` and `Unavailable`."""
    entries = load_authorities(config.authorities)
    signers = store.signers.list()
    return Calendar(
        now=now,
        authorities=tuple(each.authority for each in entries),
        issuers={each.authority.name: each.issuer for each in entries},
        offline=tuple(
            OfflineCa(
                name=each.name,
                issuer=each.issuer,
                not_after=x509.load_der_x509_certificate(each.certificate).not_valid_after_utc,
                crl_ends=_end_of_crl(config.publish_directory / f"{each.name}.crl"),
            )
            for each in load_chain(config.authorities)
        ),
        issued=_issued(signers),
        recently=store.certificates.issued_since(now - _RECENT),
        on_signers=_on_signers(signers, now=now) if config.version > 1 else None,
        responders=store.certificates.last_ends(RESPONDER_ACCOUNT),
    )


def _end_of_crl(path: Path) -> dt.datetime | None:
    try:
        return crl.read_crl(path.read_bytes()).next_update
    except (OSError, PeerError):
        return None  # the calendar says so


def _issued(signers: Iterable[SignerStatus]) -> Mapping[str, int]:
    """Every serial number that was used counts, also of what was never handed out: so the signers count."""
    return {str(each["name"]): int(each["issued"]) for signer in signers for each in _told(signer)}


def _on_signers(signers: Iterable[SignerStatus], *, now: dt.datetime) -> dict[int, frozenset[str]]:
    return {
        each.signer_id: frozenset(str(one["name"]) for one in _told(each))
        for each in signers
        if now - each.seen_at <= _HEARD_LATELY
    }


def _told(signer: SignerStatus) -> tuple[Mapping[str, Any], ...]:
    """The sub-CAs of a report; reports come from the database, and those of older signers may lack them."""
    return tuple(each for each in signer.report.get("authorities", ()) if "name" in each and "issued" in each)
