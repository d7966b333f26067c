"""The calendar as the client sees it: its own sub-CAs, what signers told, what stands in the public directory.

Reports of signers come from the database: what is not of the right kind in them is passed over.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from cassiopeia.client.crl_watch import read_crl_of
from cassiopeia.config import ChainEntry, ClientConfig, check_installed, load_authorities, load_chain
from cassiopeia.core.ocsp import RESPONDER_ACCOUNT
from cassiopeia.duties import RATE_WINDOW, Calendar, OfflineCa
from cassiopeia.errors import PeerError
from cassiopeia.store.database import Store
from cassiopeia.store.records import ServedCrl, SignerStatus

_log = logging.getLogger(__name__)

# What a signer that has been silent for longer has told may have changed.
_HEARD_LATELY: Final = dt.timedelta(minutes=10)
_EVER: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def read_calendar(config: ClientConfig, store: Store, *, now: dt.datetime) -> Calendar:
    """All that the operators' duties are judged by; raises `OperatorError` and `Unavailable`."""
    check_installed(config.bundles, config.authorities, command="client install")
    entries = load_authorities(config.authorities)
    signers = store.signers.list()
    served = store.served_crls.list()
    hears = config.version > 1
    return Calendar(
        now=now,
        authorities=tuple(each.authority for each in entries),
        issuers={each.authority.name: each.issuer for each in entries},
        offline=tuple(
            OfflineCa(
                name=each.name,
                issuer=each.issuer,
                not_after=x509.load_der_x509_certificate(each.certificate).not_valid_after_utc,
                crl_ends=_end_of_crl(config.publish_directory / f"{each.name}.crl", each, served),
            )
            for each in load_chain(config.authorities)
        ),
        issued=_issued(signers) if hears else store.certificates.issued_since(_EVER),
        recently=store.certificates.issued_since(now - RATE_WINDOW),
        on_signers=_on_signers(signers, now=now) if hears else None,
        halted=frozenset(name for each in signers for name in _halted(each)),
        responders=store.certificates.last_ends(RESPONDER_ACCOUNT),
    )


def _end_of_crl(path: Path, ca: ChainEntry, served: Iterable[ServedCrl]) -> dt.datetime | None:
    """When the CRL in the public directory ends; without one, that which the world gets of a CA that others run."""
    try:
        return read_crl_of(path.read_bytes(), ca.certificate).next_update
    except FileNotFoundError:
        ends = [each.next_update for each in served if each.authority == ca.name and each.state != "wrong"]
        return max((each for each in ends if each is not None), default=None)
    except (OSError, PeerError) as error:
        _log.debug("%s: %s", path, error)
        return None  # the calendar says so


def _issued(signers: Iterable[SignerStatus]) -> Mapping[str, int]:
    """Every serial number that was used counts, also of what was never handed out: so the signers count."""
    counts: Counter[str] = Counter()
    for signer in signers:
        for each in _told(signer):
            if isinstance(each.get("issued"), int):
                counts[each["name"]] += each["issued"]
    return counts


def _on_signers(signers: Iterable[SignerStatus], *, now: dt.datetime) -> dict[int, frozenset[str] | None]:
    return {
        each.signer_id: frozenset(one["name"] for one in _told(each) if not _has_ended(one, now))
        if now - each.seen_at <= _HEARD_LATELY and "authorities" in each.report
        else None
        for each in signers
    }


def _told(signer: SignerStatus) -> Iterator[Mapping[str, Any]]:
    """The sub-CAs of a report."""
    told = signer.report.get("authorities")
    for each in told if isinstance(told, list) else ():
        if isinstance(each, dict) and isinstance(each.get("name"), str):
            yield each


def _halted(signer: SignerStatus) -> list[str]:
    """By order, or because a signature was wrong: both last until operators resume them."""
    orders = signer.report.get("orders")
    halted = orders.get("halted_authorities") if isinstance(orders, dict) else None
    by_order = [each for each in halted if isinstance(each, str)] if isinstance(halted, list) else []
    return by_order + [each["name"] for each in _told(signer) if each.get("mistrusted")]


def _has_ended(authority: Mapping[str, Any], now: dt.datetime) -> bool:
    """Whether its certificate has run out: newer bundles leave it out, and one side may have that bundle first."""
    try:
        return dt.datetime.fromisoformat(str(authority.get("not_after"))) <= now
    except (ValueError, TypeError):
        return False
