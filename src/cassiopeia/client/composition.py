"""What one configuration makes of a client: the parts that its sessions work with, all of them or none.

Owns how they are put together. A client that takes over another configuration gets new ones, and what the old ones
knew of a session is gone with that: everything that must not be lost stands in the store.
"""

from __future__ import annotations

import datetime as dt
import logging
import selectors
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cassiopeia.client.crl_sync import CrlSync
from cassiopeia.client.evidence import NonceKeeper
from cassiopeia.client.issuance import Issuance
from cassiopeia.client.journal_copy import JournalCopy
from cassiopeia.client.leases import Leases
from cassiopeia.client.lint import Lint
from cassiopeia.client.lint_pool import LintPool, require_linter
from cassiopeia.client.orders import OrderCourier
from cassiopeia.client.publish import Publisher
from cassiopeia.config import ClientConfig, load_authorities, load_chain, load_profiles
from cassiopeia.core.authority import Authority
from cassiopeia.core.profile import Profile
from cassiopeia.link.credentials import LinkTls, client_tls
from cassiopeia.store.database import Store

_log = logging.getLogger(__name__)

_CRL_RENEW_AFTER: Final = dt.timedelta(hours=24)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """`lint` is None where nothing is linted; `journal` shows nothing over version 1."""

    config: ClientConfig
    authorities: Mapping[str, Authority]
    profiles: Mapping[str, Profile]
    tls: LinkTls
    publisher: Publisher
    lint: Lint | None
    journal: JournalCopy
    nonces: NonceKeeper
    issuance: Issuance
    crl_sync: CrlSync
    orders: OrderCourier
    leases: Leases


def compose(
    config: ClientConfig,
    *,
    store: Store,
    owner: str,
    selector: selectors.BaseSelector,
    clock: Callable[[], dt.datetime],
) -> Parts:
    """Read all that the configuration names, and publish its CA certificates; raises OperatorError."""
    # 1. What may be wrong with files.
    authorities = {each.authority.name: each.authority for each in load_authorities(config.authorities)}
    above = load_chain(config.authorities)
    profiles = load_profiles(config.profiles)
    tls = client_tls(certificate=config.certificate, key=config.key, peers=config.peers, version=config.version)
    lint = _make_lint(config, profiles, store=store, selector=selector)
    # 2. What others see of it.
    publisher = Publisher(config.publish_directory)
    for authority in authorities.values():
        publisher.publish_certificate(authority.name, authority.certificate)
    for each in above:
        publisher.publish_certificate(each.name, each.certificate)
    # 3. Those who work by it.
    journal = JournalCopy(store=store, pinned=config.journal_keys)
    nonces = NonceKeeper(store=store, journal_keys=config.journal_keys)
    crl_sync = CrlSync(
        authorities=authorities.values(),
        store=store,
        owner=owner,
        publisher=publisher,
        renew_after=_CRL_RENEW_AFTER,
    )
    issuance = Issuance(
        authorities=authorities,
        store=store,
        owner=owner,
        version=config.version,
        profiles=profiles,
        lint=lint,
        journal=journal,
    )
    leases = Leases(
        queue=store.queue,
        owner=owner,
        authorities=authorities,
        version=config.version,
        journal=journal,
        nonces=nonces,
        issuance=issuance,
        crl_sync=crl_sync,
        clock=clock,
    )
    return Parts(
        config=config,
        authorities=authorities,
        profiles=profiles,
        tls=tls,
        publisher=publisher,
        lint=lint,
        journal=journal,
        nonces=nonces,
        issuance=issuance,
        crl_sync=crl_sync,
        orders=OrderCourier(store=store),
        leases=leases,
    )


def _make_lint(
    config: ClientConfig, profiles: Mapping[str, Profile], *, store: Store, selector: selectors.BaseSelector
) -> Lint | None:
    """The linter with its workers, which start with the first turn."""
    if config.version == 1:  # it says what it has signed when it has signed it: there is nothing to veto
        return None
    if not config.lint_workers:
        _log.warning("nothing is linted: client.toml says workers = 0 under [lint]")
        return None
    require_linter()
    pool = LintPool(count=config.lint_workers, selector=selector)
    return Lint(pool=pool, profiles=profiles, streaks=store.lint_streaks)
