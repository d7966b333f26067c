"""Which observations go along with a request: the newest that is good for each of its demands, and what is wanting.

Counts as the signer does (`core.demands`), by the signer's clock, so that nothing is sent that it would send back. It
reads no store: what was observed is given, and whose signatures verify is known.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cassiopeia.core import evidence
from cassiopeia.core.demands import Demand, covers, maximum_age
from cassiopeia.core.evidence import Observation
from cassiopeia.core.judgement import AHEAD
from cassiopeia.core.profile import Profile
from cassiopeia.errors import PeerError


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """An observation out of the store, and its signed octets. `doubt`: why it is not believed here (else empty)."""

    observation: Observation
    octets: bytes
    doubt: str = ""


def read_held(octets: bytes, keys: Mapping[bytes, bytes]) -> Held:
    """What signed octets say, and whether one of these keys (by their ids) has signed them; raises PeerError."""
    observation = evidence.read_observation(octets)
    doubt = ""
    if observation.validator not in keys:
        doubt = (
            f"is signed by a validator that is not known here (key {observation.validator.hex()}): name its public key "
            "in validator.peers of validator.toml"
        )
    else:
        try:
            evidence.verify_observation(octets, keys[observation.validator])
        except PeerError:
            doubt = "is not signed by the validator that it names: somebody has changed it in the database"
    return Held(observation=observation, octets=octets, doubt=doubt)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lapsed:
    """A demand that was proved once; `held` is the newest proof that is believed, else the newest of all.

    `reason` says why it is not good now. Only what is believed may be looked at again: whatever anybody writes into the
    database is no reason to prove something for him.
    """

    demand: Demand
    held: Held
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """`chosen` proves what is proved, in the order of the demands. `lapsing` of them will be too old before long.

    `missing` was never proved for this account: the signer refuses that for good. `lapsed` can be proved again.
    """

    chosen: tuple[Held, ...]
    lapsing: tuple[Held, ...]
    lapsed: tuple[Lapsed, ...]
    missing: tuple[Demand, ...]


def choose(
    demanded: Sequence[Demand],
    held: Sequence[Held],
    *,
    account: str,
    profile: Profile,
    now: dt.datetime,
    margin: dt.timedelta,
) -> Choice:
    """For each demand the newest good observation of `held`. `now` is the signer's clock.

    What will be too old after `margin` is lapsing. Of those that are good, a renewed one is always the newest.
    """
    newest_first = sorted(
        (each for each in held if each.observation.account == account),
        key=lambda each: each.observation.observed_at,
        reverse=True,
    )
    chosen: dict[Held, None] = {}
    lapsing: dict[Held, None] = {}
    lapsed = []
    missing = []
    for demand in demanded:
        about = [each for each in newest_first if covers(demand, each.observation, profile)]
        if not about:
            missing.append(demand)
            continue
        good = [each for each in about if not why_not(each, profile, now)]
        if not good:
            newest = next((each for each in about if not each.doubt), about[0])
            lapsed.append(Lapsed(demand=demand, held=newest, reason=why_not(newest, profile, now)))
            continue
        # One that is there for another demand serves this one too: the fewer, the less there is to send.
        best = next((each for each in good if each in chosen), good[0])
        chosen[best] = None
        if why_not(best, profile, now + margin):
            lapsing[best] = None
    return Choice(chosen=tuple(chosen), lapsing=tuple(lapsing), lapsed=tuple(lapsed), missing=tuple(missing))


def why_not(held: Held, profile: Profile, now: dt.datetime) -> str:
    """Why an observation is not good at this moment, as the end of a sentence about it; empty when it is."""
    observation = held.observation
    if held.doubt:
        return held.doubt
    if observation.observed_at > now + AHEAD:
        return f"is dated {observation.observed_at:%Y-%m-%d %H:%M:%S}Z, which has not come by the signer's clock"
    if (until := observation.observed_at + maximum_age(profile, observation.kind)) < now:
        return f"has lapsed on {until:%Y-%m-%d %H:%M:%S}Z"
    return ""


def shown(text: str) -> str:
    """What a stranger has chosen, as a log or a message may show it."""
    return text if text.isascii() and text.isprintable() else ascii(text)
