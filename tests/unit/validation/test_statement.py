from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from tests.support.statements import VALIDATOR, VALIDATOR_KEY

from cassiopeia.core.evidence import key_id, read_observation, verify_observation
from cassiopeia.errors import OperatorError, Refused
from cassiopeia.validation.statement import MAXIMUM_LINES, Statement, observe, read_statements

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=dt.UTC)


def stated(**changes: Any) -> Statement:
    values: dict[str, Any] = {"kind": "dns-control", "value": "www.example.org", "account": "momo"}
    return Statement(**(values | changes))


def test_an_observation_is_signed_and_says_what_was_stated() -> None:
    observation, octets = observe(
        stated(method="dns", at="2026-11-23T11:00:00.5+01:00", row="domain:17"), VALIDATOR_KEY, now=NOW
    )

    verify_observation(octets, VALIDATOR)
    assert read_observation(octets) == observation
    assert (observation.kind, observation.value, observation.account) == ("dns-control", "www.example.org", "momo")
    assert (observation.method, observation.table, observation.primary_key) == ("dns", "domain", "17")
    assert observation.observed_at == dt.datetime(2026, 11, 23, 10, tzinfo=dt.UTC)
    assert observation.validator == key_id(VALIDATOR)


def test_what_is_left_out_is_now_and_stated() -> None:
    observation, _ = observe(stated(), VALIDATOR_KEY, now=NOW)

    assert observation.observed_at == NOW.replace(microsecond=0)
    assert (observation.method, observation.table, observation.primary_key) == ("stated", "", "")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("dns-control", "WWW.Example.ORG", "www.example.org"),
        ("dns-control", " bücher.example ", "xn--bcher-kva.example"),
        ("caa-permits", "*.Bücher.example", "*.xn--bcher-kva.example"),
        ("mailbox-control", "Momo@EXAMPLE.org", "Momo@example.org"),
        ("name-verified", "Zoë Müller", "Zoë Müller"),
    ],
)
def test_values_have_the_form_that_the_signer_compares(kind: str, value: str, expected: str) -> None:
    assert observe(stated(kind=kind, value=value), VALIDATOR_KEY, now=NOW)[0].value == expected


def test_an_organisation_has_its_lines_in_their_order() -> None:
    parts: dict[str, str | tuple[str, ...]] = {
        "OU": ("Hours", "Flowers"),
        "O": "Timesavers",
        "CN": "Momo",
        "C": "IT",
        "L": "Rome",
    }

    observation, _ = observe(Statement(kind="organisation", account="momo", organisation=parts), VALIDATOR_KEY, now=NOW)

    assert observation.value == "C=IT\nL=Rome\nO=Timesavers\nOU=Hours\nOU=Flowers\nCN=Momo"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "attestation"}, "'attestation' is no kind of observation; use dns-control"),
        ({"kind": "fly"}, "'fly' is no kind"),
        ({"account": ""}, "is for one account; name it"),
        ({"account": "a\0b"}, "account contains a character"),
        ({"account": "a" * 256}, "account is longer than 255"),
        ({"value": " "}, "dns-control is about one value; name it"),
        ({"value": "example"}, "single label"),
        ({"value": "*.example.org"}, "state example.org; a method that proves the whole domain"),
        ({"value": "p\u0430ypal.example"}, "mixes scripts"),
        ({"kind": "mailbox-control", "value": "example.org"}, "has no @"),
        ({"kind": "name-verified", "value": "a\nb"}, "a control character"),
        ({"kind": "caa-permits", "value": "a.*.example.org"}, "is not valid"),
        ({"method": ""}, "the method '' is no word"),
        ({"method": "by mail"}, "the method 'by mail' is no word"),
        ({"method": "m" * 65}, "is no word"),
        ({"at": "yesterday"}, "'yesterday' is no time"),
        ({"at": "2026-11-23T11:00:00"}, "names no time zone: end it with Z"),
        ({"at": "2026-11-23T12:00:01Z"}, "is in the future: nobody has seen it yet"),
        ({"at": "0001-01-01T00:00:00+23:00"}, "is no time"),
        ({"row": "17"}, "'17' names no row: write TABLE:KEY"),
        ({"row": ":17"}, "names no row"),
        ({"row": "domain:"}, "names no row"),
        ({"row": "domain:" + "9" * 256}, "row is longer"),
        ({"organisation": {"O": "Timesavers"}}, "the parts of an organisation stand with organisation"),
        ({"kind": "organisation"}, "stated by its parts"),
        ({"kind": "organisation", "value": ""}, "an organisation has a name; add O"),
        ({"kind": "organisation", "value": "", "organisation": {"C": "IT"}}, "an organisation has a name; add O"),
        ({"kind": "organisation", "value": "", "organisation": {"O": ("a", "b")}}, "O stands there twice; only OU"),
        ({"kind": "organisation", "value": "", "organisation": {"X": "a"}}, "'X' is no part of an organisation"),
        ({"kind": "organisation", "value": "", "organisation": {"O": "a", "C": "Italy"}}, "two capital letters"),
        ({"kind": "organisation", "value": "", "organisation": {"O": "a\nCN=b"}}, "a control character"),
    ],
)
def test_what_cannot_be_stated(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words.replace("*", r"\*")):
        observe(stated(**changes), VALIDATOR_KEY, now=NOW)


def test_an_observation_has_to_fit_a_proof() -> None:
    parts: dict[str, str | tuple[str, ...]] = {"O": "a" * 64, "OU": ("ä" * 64,) * 60}

    with pytest.raises(Refused, match=r"would have \d+ octets; 4096 are the most"):
        observe(Statement(kind="organisation", account="momo", organisation=parts), VALIDATOR_KEY, now=NOW)


def test_lines_of_json() -> None:
    text = """
{"kind": "dns-control", "value": "a.example", "account": "momo", "method": "dns", "at": "2026-11-23T10:00:00Z"}

{"kind": "organisation", "organisation": {"O": "Timesavers", "OU": ["a", "b"]}, "account": "momo", "row": "o:1"}
"""

    first, second = read_statements(text)

    assert (first.value, first.method, first.at) == ("a.example", "dns", "2026-11-23T10:00:00Z")
    assert second.organisation == {"O": "Timesavers", "OU": ("a", "b")}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("no json", "line 2: this is not JSON"),
        ("[]", "line 2: expected object, got array; nothing was stated"),
        ("{}", "line 2: kind: this key is missing; nothing was stated"),
        ('{"kind": "dns-control", "value": "a.example"}', "line 2: account: this key is missing"),
        ('{"kind": "dns-control", "account": "a", "valeu": "b"}', "line 2: valeu: this key is not known here"),
        ('{"kind": "dns-control", "account": 7}', "line 2: account: expected str, got int"),
        ('{"kind": "dns-control", "account": "a", "value": ' + "[" * 100_000, "line 2: "),
    ],
)
def test_a_line_that_is_wrong_is_named(line: str, words: str) -> None:
    with pytest.raises(OperatorError) as raised:
        read_statements(f"\n{line}\n")

    assert str(raised.value).startswith(words)
    assert str(raised.value).endswith("nothing was stated")


def test_lines_are_bounded() -> None:
    with pytest.raises(OperatorError, match="are too many"):
        read_statements("\n" * (MAXIMUM_LINES + 1))
