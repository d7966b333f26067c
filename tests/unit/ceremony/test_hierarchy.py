from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cassiopeia.ceremony.calendar import Period, period_start, periods_from
from cassiopeia.ceremony.hierarchy import (
    KEY_ALGORITHMS,
    Hierarchy,
    TimeLevel,
    check_hierarchy,
    default_hierarchy_text,
    load_hierarchy,
    with_key_algorithm,
    with_periods,
)
from cassiopeia.ceremony.profiles import default_profile_texts
from cassiopeia.config.toml_writer import toml_document
from cassiopeia.core.profile import parse_profile
from cassiopeia.errors import ConfigurationError, OperatorError


def time_level(*, months: int, periods: int = 1) -> TimeLevel:
    return TimeLevel(
        key_algorithm="P-256",
        months=months,  # type: ignore[arg-type] # any divisor of 12, from a list
        periods=periods,
        outlives_years=2,
    )


def test_the_default_is_the_original_structure_with_rsa_4096() -> None:
    hierarchy = load_hierarchy()

    assert [family.name for family in hierarchy.family] == ["unassured", "assured", "codesign", "orga", "orgaSign"]
    levels = (hierarchy.root, hierarchy.structure, hierarchy.time)
    assert [level.key_algorithm for level in levels] == ["RSA-4096"] * 3
    assert (hierarchy.time.months, hierarchy.time.outlives_years) == (6, 2)
    # Two years lie ready, and a spare for each half of them.
    assert (hierarchy.time.periods, hierarchy.time.spares) == (4, 1)
    assert all(family.policy_identifiers == () for family in hierarchy.family)


def test_every_default_profile_has_its_family() -> None:
    families = {family.name for family in load_hierarchy().family}
    profiles = [parse_profile(text, name=name, source=name) for name, text in default_profile_texts().items()]

    assert len(profiles) >= 15
    assert {profile.family for profile in profiles} - {""} == families


def test_code_signing_is_apart_from_everything_else() -> None:
    for family in load_hierarchy().family:
        assert ("codeSigning" in family.extended_key_usage) == (len(family.extended_key_usage) == 1)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    hierarchy = with_periods(with_key_algorithm(load_hierarchy(), "ML-DSA-65"), 3)
    path = tmp_path / "hierarchy.toml"
    path.write_text(toml_document(msgspec.to_builtins(hierarchy)), encoding="utf-8")

    assert load_hierarchy(path) == hierarchy


@pytest.mark.parametrize("algorithm", KEY_ALGORITHMS)
def test_one_key_algorithm_for_every_level(algorithm: str) -> None:
    hierarchy = with_key_algorithm(load_hierarchy(), algorithm)  # type: ignore[arg-type] # from the list itself

    levels = (hierarchy.root, hierarchy.structure, hierarchy.time)
    assert {level.key_algorithm for level in levels} == {algorithm}
    assert check_hierarchy(hierarchy, source="x") is hierarchy


def test_the_crl_of_a_sub_ca_with_long_signatures_fits_too() -> None:
    hierarchy = with_key_algorithm(load_hierarchy(), "ML-DSA-87")
    assert hierarchy.time.maximum_certificates == 21_000
    smaller = msgspec.structs.replace(
        hierarchy, time=msgspec.structs.replace(hierarchy.time, maximum_certificates=20_999)
    )
    assert with_key_algorithm(smaller, "ML-DSA-87") == smaller
    assert with_key_algorithm(load_hierarchy(), "ML-DSA-65").time.maximum_certificates == 21_300

    greater = msgspec.structs.replace(
        hierarchy, time=msgspec.structs.replace(hierarchy.time, maximum_certificates=21_001)
    )
    with pytest.raises(ConfigurationError, match=r"time\.maximum_certificates: at most 21000 with ML-DSA-87"):
        check_hierarchy(greater, source="x")


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        ('organisation = "Cassiopeia"', 'organisation = " x"', "organisation", "a name of 1 to 64 characters"),
        ('organisation = "Cassiopeia"', 'organisation = "a\\u0007b"', "organisation", "a name of 1 to 64 characters"),
        ('organisation = "Cassiopeia"', f'organisation = "{"x" * 65}"', "organisation", "a name of 1 to 64"),
        ('country = ""', 'country = "nl"', "country", "two capital letters"),
        ("http://pki.example.org", "pki.example.org", "url_base", "an http or https URL"),
        ("http://pki.example.org", "http://pki.example.org/a b", "url_base", "an http or https URL"),
        ("ocsp_urls = []", 'ocsp_urls = ["x"]', "ocsp_urls[0]", "an http or https URL"),
        ("crl_months = 12", "crl_months = 0", "crl_months", "expected int >= 1"),
        ("crl_months = 12", "crl_month = 12", "crl_month", "this key is not known here"),
        ('key_algorithm = "RSA-4096"\nyears = 20', "years = 20", "root.key_algorithm", "this key is missing"),
        (
            '"RSA-4096"\nyears = 20',
            '"RSA-1024"\nyears = 20',
            "root.key_algorithm",
            "'RSA-1024' is none of the values that this key can have",
        ),
        ("years = 20", "years = 9", "root.years", "no structure CA may outlive the root"),
        ("years = 10", "years = 2", "structure.years", "none may outlive its structure CA"),
        ("periods = 4 ", "periods = 17", "structure.years", "may end 126 months from now"),
        ("months = 6 ", "months = 5 ", "time.months", "5 is none of the values that this key can have"),
        ("outlives_years = 2", "outlives_years = 0", "time.outlives_years", "expected int >= 1"),
        ("= 21300", "= 21301", "time.maximum_certificates", "expected int <= 21300"),
        ('name = "assured"', 'name = "unassured"', "family[1].name", "another CA is called 'unassured'"),
        ('name = "assured"', 'name = "root"', "family[1].name", "another CA is called 'root'"),
        ('name = "assured"', 'name = "as_sured"', "family[1].name", "a word of letters and digits"),
        ("Cassiopeia Assured", "Cassiopeia Root", "family[1].common_name", "another CA has this name"),
        ("Cassiopeia Assured", "Cassiopeia Unassured", "family[1].common_name", "another CA has this name"),
        ('["codeSigning"]', '["codeSinging"]', "family[2].extended_key_usage", "'codeSinging' is not known"),
        ('["codeSigning"]', '["1.50.3"]', "family[2].extended_key_usage[0]", "or an OID"),
        ('["codeSigning"]', '[""]', "family[2].extended_key_usage[0]", "or an OID"),
        ('["codeSigning"]', "[]", "family[2].extended_key_usage", "expected array of length >= 1"),
        ('["codeSigning"]', '["OCSPSigning"]', "family[2].extended_key_usage", "leave it out"),
        ('["codeSigning"]', '["1.3.6.1.5.5.7.3.9"]', "family[2].extended_key_usage", "leave it out"),
        ('["codeSigning"]', '["2.5.29.37.0"]', "family[2].extended_key_usage", "allows every use"),
        ('["codeSigning"]', '["codeSigning", "1.3.6.1.5.5.7.3.3"]', "family[2].extended_key_usage", "twice"),
        (
            '["codeSigning"]',
            '["codeSigning"]\npolicy_identifiers = ["1"]',
            "family[2].policy_identifiers[0]",
            "an object identifier",
        ),
        (
            '["codeSigning"]',
            '["codeSigning"]\npolicy_identifiers = ["1.2.3", "1.2.3"]',
            "family[2].policy_identifiers",
            "twice",
        ),
    ],
)
def test_a_wrong_hierarchy_is_refused(tmp_path: Path, old: str, new: str, key: str, reason: str) -> None:
    text = default_hierarchy_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")

    with pytest.raises(ConfigurationError) as caught:
        load_hierarchy(path)

    assert (caught.value.source, caught.value.key) == (str(path), key)
    assert reason in caught.value.reason


def test_no_family_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("family = []\n" + default_hierarchy_text().partition("[[family]]")[0], encoding="utf-8")

    with pytest.raises(ConfigurationError, match="family: expected array of length >= 1"):
        load_hierarchy(path)


def test_values_that_a_caller_replaced_are_checked() -> None:
    broken = msgspec.structs.replace(load_hierarchy(), url_base="nowhere")

    with pytest.raises(ConfigurationError, match="given: url_base: this has to be an http or https URL"):
        check_hierarchy(broken, source="given")


@pytest.mark.parametrize("url_base", ["http://a.example", "http://a.example/"])
def test_urls_are_made_from_the_name(url_base: str) -> None:
    hierarchy: Hierarchy = msgspec.structs.replace(load_hierarchy(), url_base=url_base)

    assert hierarchy.crl_url("orga_2026_2") == "http://a.example/orga_2026_2.crl"
    assert hierarchy.issuer_url("orga_2026_2") == "http://a.example/orga_2026_2.crt"


def test_half_years_are_numbered_within_the_year() -> None:
    now = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)

    assert periods_from(now, time_level(months=6, periods=2)) == (
        Period(year=2026, number=2, start=now, end=dt.datetime(2027, 1, 1, tzinfo=dt.UTC)),
        Period(
            year=2027,
            number=1,
            start=dt.datetime(2027, 1, 1, tzinfo=dt.UTC),
            end=dt.datetime(2027, 7, 1, tzinfo=dt.UTC),
        ),
    )


def test_a_period_is_known_by_its_year_and_number() -> None:
    assert period_start("2027-1", time_level(months=6)) == dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    assert period_start("2027-4", time_level(months=3)) == dt.datetime(2027, 10, 1, tzinfo=dt.UTC)
    for text in ("2027-0", "2027-3", "2027", "27-1", "2027-1 ", "2027-01"):
        with pytest.raises(OperatorError, match="a number from 1 to 2, as 2027-1"):
            period_start(text, time_level(months=6))


def test_the_period_is_that_of_utc() -> None:
    new_year_in_tonga = dt.datetime(2027, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=13)))

    (period,) = periods_from(new_year_in_tonga, time_level(months=3))

    assert (period.year, period.number) == (2026, 4)


@given(
    now=st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC)),  # noqa: DTZ001 - hypothesis adds the zone
    months=st.sampled_from([1, 2, 3, 4, 6, 12]),
    count=st.integers(1, 24),
)
def test_periods_follow_each_other_without_a_gap(now: dt.datetime, months: int, count: int) -> None:
    periods = periods_from(now, time_level(months=months, periods=count))

    assert len(periods) == count
    assert periods[0].start <= now < periods[0].end
    for period, following in itertools.pairwise(periods):
        assert period.end == following.start
    assert len({(period.year, period.number) for period in periods}) == count
    assert all(period.start.year == period.year for period in periods)
    assert all(1 <= period.number <= 12 // months for period in periods)
