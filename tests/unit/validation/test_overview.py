from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from sqlalchemy import text
from tests.support.validating import ACCOUNT, HOUR, Site

from cassiopeia.config import load_profiles
from cassiopeia.core.evidence import Observation, sign_observation
from cassiopeia.validation.key import load_validator_key
from cassiopeia.validation.overview import Overlooked, overview


def look(site: Site, **ages: int) -> list[Overlooked]:
    profiles = load_profiles(site.config.profiles)
    if ages:
        changed = dataclasses.replace(profiles["0008-server-a"], maximum_age_hours=(("dns-control", ages["dns"]),))
        profiles = profiles | {"0008-server-a": changed}
    return overview(site.config, site.store, profiles, account=ACCOUNT, limit=10)


def test_one_moment_where_all_profiles_agree(site: Site) -> None:
    site.observe("caa-permits")
    site.observe("dns-control", account="beppo")

    [found] = look(site)

    assert found.says_until(now=site.now) == "2026-11-23 18:00:00Z"
    assert found.says_until(now=site.now + 7 * HOUR) == "2026-11-23 18:00:00Z (lapsed)"
    assert dict(found.until).keys() == {"0004-server", "0008-server-a"}


def test_each_moment_with_its_profiles_where_they_differ(site: Site) -> None:
    site.observe("dns-control")

    [found] = look(site, dns=2)

    assert found.says_until(now=site.now + 2 * HOUR) == (
        "2027-03-02 11:00:00Z for 0004-server; 2026-11-23 13:00:00Z (lapsed) for 0008-server-a"
    )


def test_what_nobody_asks_for_and_what_nobody_believes(site: Site) -> None:
    site.observe("name-verified", "Momo")
    octets = site.observe("dns-control")
    site.store.evidence.put_observations([octets.replace(b"stated", b"dreamt")], now=site.now)

    site.observe("caa-permits")
    with site.store.database.write() as connection:
        connection.execute(text("UPDATE observation SET octets = x'3000' WHERE kind = 'caa-permits'"))

    dreamt, good, name = look(site)

    assert "not proved: is not signed by the validator that it names" in dreamt.says_until(now=site.now)
    assert good.doubt == ""
    assert name.says_until(now=dt.datetime.now(dt.UTC)) == "no profile asks for it"


@pytest.mark.parametrize(
    ("kind", "words"), [("caa-permits", "9999-12-31 23:59:59Z"), ("attestation", "no profile asks for it")]
)
def test_whatever_is_signed_is_listed(site: Site, kind: str, words: str) -> None:
    observation = Observation(
        kind=kind,
        value="www.example.org",
        account=ACCOUNT,
        method="x",
        observed_at=dt.datetime(9999, 12, 31, 23, tzinfo=dt.UTC),
        table="",
        primary_key="",
        validator=site.key_id,
    )
    site.store.evidence.put_observations(
        [sign_observation(observation, load_validator_key(site.config.key))], now=site.now
    )

    [found] = look(site)

    assert found.says_until(now=site.now) == words
