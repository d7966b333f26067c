"""What is proved, and until when: the observations of the store beside the ages that profiles allow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from cassiopeia.config import ValidatorConfig
from cassiopeia.core import ed25519, evidence
from cassiopeia.core.demands import maximum_age
from cassiopeia.core.evidence import OBSERVATION_KINDS, Observation
from cassiopeia.core.profile import Profile
from cassiopeia.errors import PeerError
from cassiopeia.store.database import Store
from cassiopeia.validation.choice import read_held
from cassiopeia.validation.key import load_validator_key


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlooked:
    """One observation. `until` has a moment for each profile that demands its kind; `doubt` as in `choice.Held`."""

    observation: Observation
    doubt: str
    until: tuple[tuple[str, dt.datetime], ...]

    def says_until(self, *, now: dt.datetime) -> str:
        """In words: one moment where all profiles agree, else each with the profiles that it is for."""
        if self.doubt:
            return f"not proved: {self.doubt}"
        by_moment: dict[dt.datetime, list[str]] = {}
        for name, moment in self.until:
            by_moment.setdefault(moment, []).append(name)
        if not by_moment:
            return "no profile asks for it"
        parts = [
            f"{moment:%Y-%m-%d %H:%M:%S}Z"
            + (" (lapsed)" if moment < now else "")
            + (f" for {', '.join(names)}" if len(by_moment) > 1 else "")
            for moment, names in sorted(by_moment.items(), reverse=True)
        ]
        return "; ".join(parts)


def overview(
    config: ValidatorConfig, store: Store, profiles: Mapping[str, Profile], *, account: str | None, limit: int
) -> list[Overlooked]:
    """Return observations, those that were saved last first."""
    own = ed25519.public_octets(load_validator_key(config.key))
    keys = {evidence.key_id(each): each for each in (own, *config.peers)}
    found = []
    for stored in store.evidence.page(account=account, limit=limit).items:
        try:
            held = read_held(stored.octets, keys)
        except PeerError:
            continue  # written by nobody of ours: it is no observation
        observation = held.observation
        found.append(
            Overlooked(
                observation=observation,
                doubt=held.doubt,
                until=tuple(
                    (each.name, _until(observation, each))
                    for each in profiles.values()
                    if observation.kind in each.evidence and observation.kind in OBSERVATION_KINDS
                ),
            )
        )
    return found


def _until(observation: Observation, profile: Profile) -> dt.datetime:
    try:
        return observation.observed_at + maximum_age(profile, observation.kind)
    except OverflowError:  # somebody has dated it at the end of time
        return dt.datetime.max.replace(tzinfo=dt.UTC)
