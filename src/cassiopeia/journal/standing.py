"""What the orders of the operators add up to: a pure fold over those that were obeyed, in the order of the journal.

So it holds after a restart, and after a journal was made again from a copy: it comes from the entries and from nothing
else. Whether an order may be obeyed is asked before (`order.verify_order`, `signer.orders`); here it was.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cassiopeia.journal.order import (
    Arguments,
    BlockKey,
    ConfirmClock,
    DisableValidator,
    EnableValidator,
    HaltAuthority,
    InstallBundle,
    RaiseCap,
    ResumeAuthority,
    UnblockKey,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RaisedCap:
    limit: int
    ends: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class InForce:
    """What holds by order: names of sub-CAs, key ids of validators, SHA-256 of SubjectPublicKeyInfo, caps by name.

    `bundle` is the one that was to be installed last, if any was.
    """

    halted_authorities: frozenset[str] = frozenset()
    disabled_validators: frozenset[bytes] = frozenset()
    blocked_keys: frozenset[bytes] = frozenset()
    raised_caps: Mapping[str, RaisedCap] = field(default_factory=dict)
    bundle: InstallBundle | None = None

    def after(self, arguments: Arguments, *, at: dt.datetime) -> InForce:
        """What holds once this order is obeyed; `at` is the time of its journal entry."""
        match arguments:
            case HaltAuthority(authority=name):
                return replace(self, halted_authorities=self.halted_authorities | {name})
            case ResumeAuthority(authority=name):
                return replace(self, halted_authorities=self.halted_authorities - {name})
            case DisableValidator(validator=key_id):
                return replace(self, disabled_validators=self.disabled_validators | {key_id})
            case EnableValidator(validator=key_id):
                return replace(self, disabled_validators=self.disabled_validators - {key_id})
            case BlockKey(key_hash=key_hash):
                return replace(self, blocked_keys=self.blocked_keys | {key_hash})
            case UnblockKey(key_hash=key_hash):
                return replace(self, blocked_keys=self.blocked_keys - {key_hash})
            case RaiseCap(cap=cap, limit=limit, hours=hours):
                raised = RaisedCap(limit=limit, ends=at + dt.timedelta(hours=hours))
                return replace(self, raised_caps={**self.raised_caps, cap: raised})
            case InstallBundle():
                return replace(self, bundle=arguments)
            case ConfirmClock():
                # Their ends were reckoned by the clock that was in doubt: it may have been years ahead.
                return replace(self, raised_caps={})

    def raised(self, *, now: dt.datetime) -> dict[str, RaisedCap]:
        """The caps that are raised at this moment."""
        return {cap: each for cap, each in self.raised_caps.items() if now < each.ends}
