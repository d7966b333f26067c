"""Samples: every default profile has sound ones, and a profile that issues nothing good is found out."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from tests.support import lintable
from tests.support.authorities import NOW, PROFILES, default_authority, load_profile

from cassiopeia.core import certificate
from cassiopeia.core import sample as sample_module
from cassiopeia.core.authority import Authority
from cassiopeia.core.constraints import NameConstraints
from cassiopeia.core.keycheck import check_public_key
from cassiopeia.core.lint import lint
from cassiopeia.core.profile import EXTENDED_KEY_USAGES, Presence, Profile
from cassiopeia.core.sample import (
    COMMON_KEY_KINDS,
    KEY_KINDS,
    Sample,
    fault,
    lint_sample,
    make_sample,
    sample_authority,
    sample_key,
    unsound_profiles,
)
from cassiopeia.errors import Refused

DEFAULT = [load_profile(each.stem) for each in sorted(PROFILES.glob("*.toml"))]


def server(**changes: Any) -> Profile:
    return dataclasses.replace(load_profile("9004-unproved-server"), **changes)


def presences(profile: Profile, **changes: str) -> tuple[tuple[str, Presence], ...]:
    """Those of the subject, changed."""
    return tuple((each, Presence(changes.get(each, presence.value))) for each, presence in profile.subject)


def sample(profile: Profile, *, least: bool = False, key_kind: str = "P-256") -> Sample:
    return make_sample(profile, sample_authority(profile.family), key_kind=key_kind, least=least)


def test_the_default_profiles_are_sound() -> None:
    assert unsound_profiles(DEFAULT, []) == {}
    assert unsound_profiles(DEFAULT, [default_authority()]) == {}


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_a_sample_key_is_of_its_kind_and_always_the_same(kind: str) -> None:
    key = sample_key(kind)
    assert check_public_key(key.public_key) == kind
    assert sample_key.__wrapped__(kind).subject_public_key_info == key.subject_public_key_info


def test_the_common_kinds_of_keys_are_among_them() -> None:
    assert set(COMMON_KEY_KINDS) < set(KEY_KINDS)


def test_a_sample_is_the_same_every_time() -> None:
    [first, second] = (sample(load_profile("0004-server")) for _ in range(2))
    assert first.tbs_certificate == second.tbs_certificate


@pytest.mark.parametrize("profile", DEFAULT, ids=lambda each: each.name)
def test_a_sample_has_all_names_or_the_fewest(profile: Profile) -> None:
    for least in (False, True):
        made = sample(profile, least=least)
        request = made.approved.request
        given = {each.type for each in request.attributes}, {each.type for each in request.alt_names}
        for names, kinds in zip(given, (profile.subject, profile.alt_names), strict=True):
            wanted = {each for each, presence in kinds if presence is Presence.REQUIRED}
            allowed = {each for each, presence in kinds if presence is not Presence.FORBIDDEN}
            assert wanted <= names <= allowed
            if not least:
                assert names == allowed
        assert profile.allow_wildcard <= (least or any("*" in each.value for each in request.alt_names))
    assert str(made) == f"a P-256 key, the fewest names, by {made.authority.name}"
    assert "all kinds of names" in str(sample(profile))


def test_a_sample_is_of_the_moment_if_its_authority_issues_then() -> None:
    authority = dataclasses.replace(
        default_authority(), issues_from=NOW - dt.timedelta(days=1), issues_until=NOW + dt.timedelta(days=1)
    )
    for now, expected in (
        (NOW, NOW),
        (NOW - dt.timedelta(days=2), authority.issues_from),
        (None, authority.issues_from),
    ):
        made = make_sample(server(), authority, key_kind="P-256", now=now)
        assert certificate.read_tbs(made.tbs_certificate).not_before == expected
        lint_sample(made)


def test_a_sample_does_not_outlive_its_authority() -> None:
    authority = dataclasses.replace(sample_authority("unassured"), not_after=NOW, issues_until=NOW)
    for days in (40, 1, 0):
        beginning = NOW - dt.timedelta(days=days, hours=1)
        short = dataclasses.replace(authority, issues_from=beginning)
        reason = fault(server(), [short])
        assert bool(reason) == (days == 0)
    assert "would outlive" in reason


def test_a_sample_of_a_responder_names_its_authority() -> None:
    profile = load_profile("0100-ocsp")
    assert fault(profile, [default_authority()]) == ""
    made = make_sample(profile, default_authority(), key_kind="P-256")
    assert made.approved.request.ocsp_target_ca == default_authority().name


def every_kind_of_server() -> Iterator[Profile]:
    """Servers by address alone, by a URI alone, with a mailbox in the subject."""
    names = dict.fromkeys(("DNS", "email", "IP", "URI"), Presence.FORBIDDEN)
    subject = presences(server(), CN="optional", EMAIL="optional")
    for allowed in ("DNS", "IP", "URI", "email"):
        alt_names = tuple((names | {allowed: Presence.OPTIONAL}).items())
        yield server(alt_names=alt_names, subject=subject, allow_wildcard=False)
    yield server(
        allow_wildcard=False, alt_names=tuple(names.items()), subject=presences(server(), CN="forbidden", O="optional")
    )


@pytest.mark.parametrize("profile", list(every_kind_of_server()))
def test_odd_mixtures_of_names_are_no_fault(profile: Profile) -> None:
    assert fault(profile, []) == ""


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (
            server(key_usage=("nonRepudiation",)),
            "its sample certificate (RSA-3072, by unassured_2026_1) has the finding purpose: ",
        ),
        (server(cps_uri="https://bücher.example/", policy_identifiers=("1.2.3",)), "cannot be made: "),
        (server(key_usage=("dataEncipherment", "keyAgreement")), "has the finding purpose"),
        (server(subject=presences(server(), EMAIL="required")), "is refused: The subject's address"),
        (server(maximum_validity_days=0), "is refused: "),
        (server(policy_identifiers=("1.2.3", "1.2.3")), "certificate-policies"),
    ],
)
def test_a_profile_that_issues_nothing_good_is_found_out(profile: Profile, reason: str) -> None:
    assert reason in unsound_profiles([*DEFAULT, profile], [])[profile.name]


def test_a_profile_need_not_serve_every_kind_of_key_but_one() -> None:
    encipher = server(key_usage=("keyEncipherment",), extended_key_usage=(EXTENDED_KEY_USAGES["emailProtection"],))
    assert fault(encipher, []) == ""
    with pytest.raises(Refused):
        sample(encipher, key_kind="P-256")
    nothing = dataclasses.replace(encipher, key_usage=())
    assert fault(nothing, []).startswith("it certifies no kind of key: ")


def test_an_authority_with_a_strange_url_is_found_out() -> None:
    for url in ("http://exämple.org/", "\ud800"):
        strange = dataclasses.replace(default_authority(), crl_urls=(url,))
        assert f"by {strange.name}) cannot be made" in fault(server(), [default_authority(), strange])


def count_samples(monkeypatch: pytest.MonkeyPatch, authorities: list[Authority]) -> int:
    made = []

    def make(*positional: Any, **named: Any) -> Sample:
        made.append(named)
        return make_sample(*positional, **named)

    with monkeypatch.context() as patch:
        patch.setattr(sample_module, "make_sample", make)
        assert fault(server(), authorities) == ""
    return len(made)


def test_dozens_of_sub_cas_of_one_kind_sign_a_sample_each(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = default_authority()
    others = [dataclasses.replace(authority, name=f"unassured_2027_{number}") for number in range(1, 40)]
    alone = count_samples(monkeypatch, [authority])
    assert alone > len(KEY_KINDS)
    assert count_samples(monkeypatch, [authority, *others]) == alone + len(others)
    # What changes what they would sign is looked at whole.
    for changes in (
        {"constraints": NameConstraints(excluded_domains=("example.net",))},
        {"ocsp_urls": ("http://ocsp.example.org", "http://ocsp.example.net")},
        {"public_key": sample_key("P-384").public_key},
    ):
        another = dataclasses.replace(authority, name="unassured_2028_1", **changes)
        assert count_samples(monkeypatch, [authority, *others, another]) == 2 * alone + len(others)


def test_only_the_authorities_of_the_family_count() -> None:
    strange = dataclasses.replace(default_authority(), family="assured", crl_urls=("http://exämple.org/",))
    assert fault(server(), [strange]) == ""
    strange = dataclasses.replace(default_authority(), family="assured", issuer_urls=("nowhere",))
    assert "has the finding url-syntax: " in fault(load_profile("0100-ocsp"), [default_authority(), strange])


def test_a_retired_authority_makes_no_profile_unsound() -> None:
    retired = dataclasses.replace(default_authority(), retired=True)
    broken = dataclasses.replace(retired, issuer_urls=("nowhere",))
    # It signs nothing for subscribers any more, so whatever it would sign is nobody's fault.
    assert unsound_profiles(DEFAULT, [retired]) == {}
    assert unsound_profiles(DEFAULT, [retired, default_authority()]) == {}
    assert fault(server(), [broken]) == ""
    # OCSP responders it goes on to certify.
    assert fault(load_profile("0100-ocsp"), [broken])


def test_what_stands_for_an_authority_is_complete() -> None:
    authority = sample_authority("assured")
    assert (authority.name, authority.family) == ("assured_2026_1", "assured")
    assert authority.certificate == b""
    assert authority.crl_urls
    assert x509.Name.from_rfc4514_string("CN=assured_2026_1").public_bytes() == authority.subject


def test_a_linted_sample_is_what_the_worker_would_lint() -> None:
    made = sample(load_profile("0013-server-orga"))
    linted = lint(
        made.tbs_certificate,
        made.approved,
        signer_id=lintable.SIGNER_ID,
        now=made.authority.issues_from,
    )
    assert linted.octets == made.tbs_certificate
