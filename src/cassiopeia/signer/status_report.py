"""The parts of a status report: what each sub-CA is like, and what the operators' orders add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cassiopeia.config import SignerConfig
from cassiopeia.journal.standing import InForce, RaisedCap
from cassiopeia.protocol import payload
from cassiopeia.signer.caps import Caps
from cassiopeia.signer.revocation import RevocationList


def authority_statuses(
    lists: Iterable[RevocationList],
    *,
    issued: Mapping[str, int],
    mistrusted: Mapping[str, str],
    key_faults: Mapping[str, str],
) -> tuple[payload.AuthorityStatus, ...]:
    """Every sub-CA, by the lists of what they have revoked; the others by the names of sub-CAs."""
    return tuple(
        payload.AuthorityStatus(
            name=each.authority.name,
            not_before=each.authority.not_before,
            not_after=each.authority.not_after,
            issued=issued.get(each.authority.name, 0),
            revoked=each.revoked,
            crl_number=each.current.number if each.current else 0,
            next_update=each.current.next_update if each.current else None,
            mistrusted=mistrusted.get(each.authority.name),
            key_fault=key_faults.get(each.authority.name),
        )
        for each in lists
    )


def standing_orders(
    config: SignerConfig, in_force: InForce, *, caps: Caps, raised: Mapping[str, RaisedCap]
) -> payload.StandingOrders:
    """What holds by order, and what orders can be about."""
    return payload.StandingOrders(
        halted_authorities=tuple(sorted(in_force.halted_authorities)),
        disabled_validators=tuple(sorted(in_force.disabled_validators)),
        blocked_keys=len(in_force.blocked_keys),
        validators=tuple(
            payload.ValidatorStatus(name=each.name, key_id=each.key_id, kinds=tuple(sorted(each.kinds)))
            for each in config.validators
        ),
        caps=tuple(
            payload.CapStatus(name=cap, limit=caps.limit(cap), ends=raised[cap].ends if cap in raised else None)
            for cap in config.caps
        ),
    )
