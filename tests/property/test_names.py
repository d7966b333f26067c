"""Names under any text: a refusal or a name that others read as it was meant."""

from __future__ import annotations

import contextlib

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.request_target import check_refusal

from cassiopeia.core.idn import normalise_alt_name, to_a_labels
from cassiopeia.core.names import check_alt_name, encode_subject, general_name
from cassiopeia.core.request import SubjectAltName, SubjectAttribute
from cassiopeia.errors import Refused

TYPES = st.sampled_from(["DNS", "email", "IP", "URI"])
HOSTILE_PIECES = st.sampled_from(
    [
        ".",
        "@",
        "*.",
        "xn--",
        "-",
        "://",
        "[",
        "]",
        ":",
        "%",
        "\x00",
        "\u202e",
        "\u3002",
        "\u0430",
        "a",
        "1",
        "::ffff:",
        "https",
    ]
)
HOSTILE_TEXT = st.lists(st.one_of(HOSTILE_PIECES, st.text(max_size=3)), max_size=8).map("".join)
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
ATTRIBUTES = st.builds(
    SubjectAttribute,
    type=st.sampled_from(["C", "ST", "L", "O", "OU", "CN", "EMAIL"]),
    value=st.text(min_size=1, max_size=70),
)


@given(st.lists(ATTRIBUTES, max_size=6))
def test_a_subject_is_refused_or_read_back_as_given(attributes: list[SubjectAttribute]) -> None:
    try:
        encoded = encode_subject(attributes)
    except Refused as refusal:
        check_refusal(refusal)
        return
    read = [attribute.value for attribute in x509.Name.from_bytes(encoded)]
    assert sorted(map(str, read)) == sorted(attribute.value for attribute in attributes)
    assert all(len(rdn) == 1 for rdn in x509.Name.from_bytes(encoded).rdns)


@given(TYPES, st.one_of(HOSTILE_TEXT, st.text()))
def test_an_alternative_name_is_refused_or_encoded_in_ascii(alt_name_type: str, value: str) -> None:
    try:
        name = general_name(SubjectAltName(type=alt_name_type, value=value))
    except Refused as refusal:
        check_refusal(refusal)
        return
    assert value.isascii()
    extension = x509.SubjectAlternativeName([name]).public_bytes()
    assert alt_name_type == "IP" or value.encode("ascii") in extension


@given(TYPES, st.one_of(HOSTILE_TEXT, st.text()))
def test_what_is_normalised_is_a_fixed_point(alt_name_type: str, value: str) -> None:
    with contextlib.suppress(Refused):
        alt_name = normalise_alt_name(SubjectAltName(type=alt_name_type, value=value))
        check_alt_name(alt_name)
        assert normalise_alt_name(alt_name) == alt_name


@given(st.lists(LABELS, min_size=1, max_size=4), st.sampled_from(["org", "example", "museum"]))
def test_an_ascii_name_stays_what_it_is(labels: list[str], top: str) -> None:
    domain = ".".join([*labels, top])
    assert to_a_labels(domain.upper()) == domain


@given(st.text(alphabet="\u0431\u0434\u0436\u0437\u0438\u043a0123456789", min_size=1, max_size=20))
def test_letters_of_one_script_pass_and_one_of_another_is_seen(label: str) -> None:
    cyrillic = f"\u0431{label}"
    assert to_a_labels(f"{cyrillic}.example").startswith("xn--")
    with pytest.raises(Refused) as refusal:
        to_a_labels(f"{cyrillic}x.example")
    assert refusal.value.code == "mixed-scripts"
