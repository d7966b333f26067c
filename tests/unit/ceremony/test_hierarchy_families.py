"""What the hierarchy file says of families, signers, constraints and pins: each value that cannot be is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cassiopeia.ceremony.hierarchy import (
    Hierarchy,
    SignerMachine,
    StructureLevel,
    check_hierarchy,
    default_hierarchy_text,
    load_hierarchy,
    with_key_algorithm,
    with_periods,
)
from cassiopeia.errors import ConfigurationError

CODE = 'common_name = "Cassiopeia Code Signing"'


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        # Families against each other, and their own times.
        ('name = "orgaSign"', 'name = "oRga"', "family[4].name", "another CA is called 'orga'"),
        ("Cassiopeia Root", "assured_2026_1", "root.common_name", "this is how time sub-CAs are called"),
        (CODE, 'common_name = "x_2026_1"', "family[2].common_name", "this is how time sub-CAs are called"),
        (CODE, f"{CODE}\nstructure_years = 3", "family[2].structure_years", "codesign may end 48 months from now"),
        (CODE, f"{CODE}\nmonths = 12\noutlives_years = 5", "", ""),
        (
            CODE,
            f"{CODE}\nmonths = 12\noutlives_years = 5\nstructure_years = 7",
            "family[2].structure_years",
            "96 months",
        ),
        (CODE, f"{CODE}\nstructure_years = 21", "root.years", "that of codesign lives for 21 years"),
        (CODE, f"{CODE}\nmonths = 5", "family[2].months", "5 is none of the values"),
        (CODE, f"{CODE}\nspares = 10", "family[2].spares", "expected int <= 9"),
        (CODE, f"{CODE}\nmaximum_certificates = 21301", "family[2].maximum_certificates", "expected int <= 21300"),
        (CODE, f'{CODE}\nkey_algorithm = "ML-DSA-87"', "time.maximum_certificates", "at most 21000 with ML-DSA-87"),
        (
            CODE,
            f'{CODE}\nkey_algorithm = "ML-DSA-87"\nmaximum_certificates = 21001',
            "family[2].maximum_certificates",
            "at most 21000 with ML-DSA-87",
        ),
        (CODE, f'{CODE}\nkey_algorithm = "RSA-1024"', "family[2].key_algorithm", "'RSA-1024' is none of the values"),
        (CODE, f'{CODE}\nprofiles_ = ["x"]', "family[2].profiles_", "this key is not known here"),
        ('["0009-code-a"]', '["0009-code-a", "0009-code-a"]', "family[2].profiles", "twice"),
        (CODE, f'{CODE}\ncps_url = "http://x.org"', "family[2].cps_url", "it stands beside a policy"),
        (CODE, f'{CODE}\ncps_url = "x.org"\npolicy_identifiers = ["1.2"]', "family[2].cps_url", "an http or https URL"),
        ("expected_a_month = 20\n", "expected_a_month = -1\n", "family[2].expected_a_month", "expected int >= 0"),
        # Name constraints.
        (
            CODE,
            f'{CODE}\nname_constraints = {{permitted_domains = ["Example.org"]}}',
            "family[2].name_constraints.permitted_domains[0]",
            "a domain name in lower case",
        ),
        (
            CODE,
            f'{CODE}\nname_constraints = {{permitted_domains = [".example.org"]}}',
            "family[2].name_constraints.permitted_domains[0]",
            "a domain name in lower case",
        ),
        (
            CODE,
            f'{CODE}\nname_constraints = {{permitted_domains = ["a.org", "a.org"]}}',
            "family[2].name_constraints.permitted_domains",
            "twice",
        ),
        (
            CODE,
            f'{CODE}\nname_constraints = {{permitted_mail_domains = ["a.b.org"], excluded_mail_domains = ["b.org"]}}',
            "family[2].name_constraints.excluded_mail_domains",
            "nothing is permitted below a.b.org",
        ),
        (
            CODE,
            f'{CODE}\nname_constraints = {{permitted_domains = ["ab.org"], excluded_domains = ["b.org"]}}',
            "",
            "",
        ),
        (CODE, f"{CODE}\nname_constraints = {{domains = []}}", "family[2].name_constraints.domains", "not known here"),
        # Signers.
        ("id = 1 ", "id = 127 ", "signer[0].id", "expected int <= 126"),
        ("id = 1 ", "id = 1\n[[signer]]\nid = 1 ", "signer[1].id", "another signer has the id 1"),
        (
            "id = 1 ",
            'id = 1\nfamilies = ["codesigning"] ',
            "signer[0].families",
            "no [[family]] is called 'codesigning'",
        ),
        ("id = 1 ", 'id = 1\nfamilies = ["orga", "orga"] ', "signer[0].families", "twice"),
        ("id = 1 ", "id = 1\nname = 'x' ", "signer[0].name", "this key is not known here"),
        # Pins, and OCSP.
        (
            "[[family]]",
            '[[validator]]\nname = "v"\nkey = "v.pem"\nkinds = ["dns-control", "tls-control"]\n[[family]]',
            "validator[0].kinds",
            "'tls-control' is nothing that a validator states",
        ),
        (
            "[[family]]",
            '[[validator]]\nname = "v"\nkey = "v.pem"\nkinds = ["dns-control", "dns-control"]\n[[family]]',
            "validator[0].kinds",
            "twice",
        ),
        ("[[family]]", "[orders]\nquorum = 0\n[[family]]", "orders.quorum", "expected int >= 1"),
        ("[[family]]", "[ocsp]\nresponder = []\n[[family]]", "ocsp.responder", "this key is not known here"),
        ("ocsp_urls = []", 'ocsp_urls = ["http://a.org", "http://a.org"]', "ocsp_urls", "twice"),
        ("ocsp_urls = []", 'ocsp_urls = ["http:///ocsp"]', "ocsp_urls[0]", "'http:///ocsp' leads to no host"),
        ("http://pki.example.org", "http://[::1", "url_base", "leads to no host"),
        ("http://pki.example.org", "http://pki:http/", "url_base", "leads to no host"),
        ("http://pki.example.org", "http://pki:99999/", "url_base", "leads to no host"),
        (
            CODE,
            f'{CODE}\npolicy_identifiers = ["1.2.3"]\ncps_url = "http://:80/"',
            "family[2].cps_url",
            "leads to no host",
        ),
    ],
)
def test_values_that_cannot_be(tmp_path: Path, old: str, new: str, key: str, reason: str) -> None:
    text = default_hierarchy_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    if not reason:
        assert load_hierarchy(path) != load_hierarchy()
        return

    with pytest.raises(ConfigurationError) as caught:
        load_hierarchy(path)

    assert (caught.value.source, caught.value.key) == (str(path), key)
    assert reason in caught.value.reason


def test_more_sub_cas_than_a_year_has_numbers(hierarchy: Hierarchy) -> None:
    many = msgspec.structs.replace(
        hierarchy,
        time=msgspec.structs.replace(hierarchy.time, months=1, spares=9, periods=1),
        signer=tuple(SignerMachine(id=number) for number in range(1, 84)),
    )
    assert check_hierarchy(many, source="x") is many
    more = msgspec.structs.replace(many, signer=(*many.signer, SignerMachine(id=84)))

    with pytest.raises(ConfigurationError, match=r"time\.spares: 10080 time sub-CAs of unassured a year"):
        check_hierarchy(more, source="x")
    own = msgspec.structs.replace(
        more,
        time=msgspec.structs.replace(more.time, spares=0),
        family=(msgspec.structs.replace(more.family[0], spares=9),),
    )
    with pytest.raises(ConfigurationError, match=r"family\[0\]\.spares: 10080"):
        check_hierarchy(own, source="x")


def test_a_family_says_otherwise(hierarchy: Hierarchy) -> None:
    family = msgspec.structs.replace(
        hierarchy.family[0],
        months=3,
        spares=2,
        outlives_years=1,
        maximum_certificates=10,
        key_algorithm="Ed25519",
        structure_key_algorithm="P-384",
        structure_years=9,
    )
    changed = msgspec.structs.replace(hierarchy, family=(family, *hierarchy.family[1:]))

    time = changed.time_of(family)
    assert (time.months, time.spares, time.outlives_years, time.maximum_certificates) == (3, 2, 1, 10)
    assert time.key_algorithm == "Ed25519"
    assert changed.structure_of(family) == StructureLevel(key_algorithm="P-384", years=9)
    assert changed.time_of(hierarchy.family[1]) == hierarchy.time


def test_one_key_algorithm_and_few_keys_whatever_the_families_say(hierarchy: Hierarchy) -> None:
    family = msgspec.structs.replace(
        hierarchy.family[0],
        key_algorithm="Ed25519",
        structure_key_algorithm="P-384",
        maximum_certificates=21_300,
        spares=3,
    )
    changed = msgspec.structs.replace(hierarchy, family=(family, *hierarchy.family[1:]))
    quick = with_periods(with_key_algorithm(changed, "ML-DSA-87"), 2, spares=0)

    time = quick.time_of(quick.family[0])
    assert (time.key_algorithm, time.maximum_certificates, time.periods, time.spares) == ("ML-DSA-87", 21_000, 2, 0)
    assert quick.structure_of(quick.family[0]).key_algorithm == "ML-DSA-87"
    assert check_hierarchy(quick, source="x") is quick
    assert with_periods(changed, 2).time_of(family).spares == 3


def test_who_owns_which_families(hierarchy: Hierarchy) -> None:
    changed = msgspec.structs.replace(
        hierarchy, signer=(SignerMachine(id=7), SignerMachine(id=3, families=("orga", "assured")))
    )
    assert check_hierarchy(changed, source="x") is changed

    assert {each.name: changed.signers_of(each) for each in changed.family} == {
        "unassured": (7,),
        "assured": (7, 3),
        "codesign": (7,),
        "orga": (7, 3),
        "orgaSign": (7,),
    }
