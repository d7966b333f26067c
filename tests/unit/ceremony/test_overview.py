"""A plan in words: the tree, the calendar and the numbers, as people read them before a ceremony."""

from __future__ import annotations

import dataclasses
import datetime as dt

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.ceremonies import hold_ceremony

from cassiopeia.ceremony.declaration import Declaration, load_declaration, read_declaration
from cassiopeia.ceremony.hierarchy import KEY_ALGORITHMS, KeyAlgorithm
from cassiopeia.ceremony.overview import Rows, calendar_rows, overview, tree, volume_rows
from cassiopeia.ceremony.pins import no_file
from cassiopeia.ceremony.planning import make_plan
from cassiopeia.core.authority import load_authority

NOW = dt.datetime(2026, 11, 23, 12, 34, 56, tzinfo=dt.UTC)

SMALL = """\
organisation = "Turtle Trust"
url_base = "http://pki.turtles.nl"
crl_months = 12

[root]
common_name = "Turtle Root"
key_algorithm = "P-384"
years = 20

[structure]
key_algorithm = "P-384"
years = 10

[time]
key_algorithm = "P-256"
months = 12
periods = 1
spares = 2
outlives_years = 1
maximum_certificates = 5000

[[signer]]
id = 1

[[signer]]
id = 2
families = ["code"]

[[family]]
name = "mail"
common_name = "Turtle Mail"
extended_key_usage = ["emailProtection"]
policy_identifiers = ["1.2.3", "1.2.4"]
cps_url = "http://turtles.nl/cps"
profiles = ["0002-mail"]

[family.name_constraints]
permitted_mail_domains = ["turtles.nl"]
excluded_domains = ["a.turtles.nl", "b.turtles.nl"]

[[family]]
name = "code"
common_name = "Turtle Code"
extended_key_usage = ["codeSigning"]
profiles = ["0009-code-a"]
months = 1
spares = 0
outlives_years = 2
expected_a_month = 12000
"""


def small() -> Declaration:
    return read_declaration(SMALL, read=no_file, source="small.toml")


def test_the_tree_shows_each_ca_and_what_it_is_for() -> None:
    assert list(tree(make_plan(small(), now=NOW))) == [
        "  root: Turtle Root, P-384, until 2046-11-23",
        "    mail: Turtle Mail, P-384, until 2036-11-23, for emailProtection",
        "      policies: 1.2.3, 1.2.4 (http://turtles.nl/cps)",
        "      names: no domains a.turtles.nl, b.turtles.nl; only mail of turtles.nl",
        "      3 time sub-CAs, P-256: each issues for 12 months, and is valid for 1 year more",
        "      profiles: 0002-mail (365 days)",
        "    code: Turtle Code, P-384, until 2036-11-23, for codeSigning",
        "      4 time sub-CAs, P-256: each issues for 1 month, and is valid for 2 years more",
        "      profiles: 0009-code-a (365 days)",
    ]


def test_the_calendar_shows_who_issues_when_for_each_signer() -> None:
    assert calendar_rows(make_plan(small(), now=NOW)) == Rows(
        columns=("issues from", "until before", "family", "signer", "sub-CAs", "valid until"),
        rows=(
            ("2026-11-23", "2027-01-01", "mail", "1", "mail_2026_1 +2 +3", "2027-12-31"),
            ("2026-11-23", "2026-12-01", "code", "1", "code_2026_21", "2028-11-30"),
            ("2026-11-23", "2026-12-01", "code", "2", "code_2026_22", "2028-11-30"),
            # Its periods are shorter: it goes on for as long as the others.
            ("2026-12-01", "2027-01-01", "code", "1", "code_2026_23", "2028-12-31"),
            ("2026-12-01", "2027-01-01", "code", "2", "code_2026_24", "2028-12-31"),
        ),
    )


def test_one_signer_needs_no_column() -> None:
    table = calendar_rows(make_plan(load_declaration(), now=NOW))

    assert "signer" not in table.columns
    assert len(table.rows) == 4 * 5
    # Two periods side by side, each family in the order of the file.
    assert [row[2] for row in table.rows[:6]] == ["unassured", "assured", "codesign", "orga", "orgaSign", "unassured"]
    assert [row[3] for row in table.rows if row[2] == "orga"] == [
        "orga_2026_3 +4",
        "orga_2027_1 +2",
        "orga_2027_3 +4",
        "orga_2028_1 +2",
    ]


def test_the_numbers_say_how_many_spares_are_needed() -> None:
    assert volume_rows(make_plan(small(), now=NOW)).rows == (
        ("mail", "5,000", "not said", "", "", "2"),
        # Two signers share 12,000 a month: 6,000 each, which is one sub-CA and a spare.
        ("code", "5,000", "12,000", "6,000", "1", "0"),
    )


@pytest.mark.parametrize("algorithm", KEY_ALGORITHMS)
def test_a_sub_ca_holds_what_the_signer_will_let_it(algorithm: KeyAlgorithm) -> None:
    """The signer counts by the certificate itself: whatever is declared, its CRL stays under 1 MiB."""
    text = SMALL.replace('"P-256"', f'"{algorithm}"').replace("= 5000", "= 21000")
    declaration = read_declaration(text, read=no_file, source="small.toml")
    greatest = msgspec.structs.replace(
        declaration.hierarchy, time=msgspec.structs.replace(declaration.hierarchy.time, maximum_certificates=21_300)
    )
    plan = make_plan(dataclasses.replace(declaration, hierarchy=greatest), now=NOW)
    (made, *_) = (each for each in hold_ceremony(greatest, now=NOW).time if each.authority.name == "mail_2026_1")

    authority = load_authority(made.authority.certificate.public_bytes(Encoding.DER), name="mail_2026_1", signer_id=1)
    assert plan.volumes[0].maximum == authority.maximum_certificates


def test_a_table_is_as_wide_as_it_must_be() -> None:
    table = Rows(columns=("a", "long"), rows=(("wider", "b"), ("c", "")))

    assert list(table.lines()) == ["  a      long", "  wider  b", "  c"]


def test_everything_together() -> None:
    lines = list(overview(make_plan(small(), now=NOW)))

    assert lines[0] == (
        "Turtle Trust: a root, 2 structure CAs and 7 time sub-CAs, made on 2026-11-23 and issuing until 2027-01-01"
    )
    for heading in ("The tree", "How many certificates they may issue"):
        assert heading in lines
    assert "  mail    5,000             not said                                                   2" in lines


def test_a_family_without_profiles_shows_none() -> None:
    text = SMALL.replace('profiles = ["0002-mail"]\n', "")

    assert "      profiles: none" in list(tree(make_plan(read_declaration(text, read=no_file, source="x"), now=NOW)))
