"""Names as people write them: what they become, and which imitations are refused."""

# ruff: noqa: RUF001 - names that look like other names are the point

from __future__ import annotations

import pytest

from cassiopeia.core.idn import normalise_alt_name, normalise_email, to_a_labels
from cassiopeia.core.request import SubjectAltName
from cassiopeia.errors import Refused


@pytest.mark.parametrize(
    ("written", "a_labels"),
    [
        ("example.org", "example.org"),
        ("EXAMPLE.org", "example.org"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("faß.de", "xn--fa-hia.de"),  # non-transitional: not fass.de
        ("βόλος.com", "xn--nxasmm1c.com"),
        ("exam\u200bple\u00ad.org", "example.org"),  # UTS 46 drops what shows nothing
        ("example。org", "example.org"),
        ("ｅｘａｍｐｌｅ．org", "example.org"),
        ("日本語ひらがなカタカナabc.jp", None),
        ("漢字ㄅ.tw", None),
        ("漢字한글abc.kr", None),
        ("ラーメン.jp", None),  # the prolonged sound mark belongs to two scripts
        ("пример2.рф", None),
        ("ᏣᎳᎩ.example", None),
        ("ⴰⵎⴰⵣⵉⵖ.example", None),
        ("यूनिकोड.भारत", None),
        ("می\u200cخواهم.ایران", None),
    ],
)
def test_what_people_write_becomes_a_labels(written: str, a_labels: str | None) -> None:
    result = to_a_labels(written)
    assert a_labels in (None, result)
    assert result.isascii()
    assert to_a_labels(result) == result


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("p\u0430ypal.com", "mixed-scripts"),  # Cyrillic a
        ("xn--pypal-4ve.com", "mixed-scripts"),  # the same, already as an A-label
        ("www.p\u0430ypal.com", "mixed-scripts"),
        ("g\u03bfogle.com", "mixed-scripts"),  # Greek omicron
        ("пример-example.com", "mixed-scripts"),
        ("αлpha.com", "mixed-scripts"),
        ("ひらがな한글.com", "mixed-scripts"),
        ("ㄅカ.com", "mixed-scripts"),
        ("漢한カ.com", "mixed-scripts"),
        ("ક1૧.com", "mixed-scripts"),  # two ones
        ("\U00010330\U00010331.com", "mixed-scripts"),  # Gothic is written by nobody
        ("exam\u202eple.com", "dns-name-invalid"),
        ("example\u2024com", "dns-name-invalid"),
        ("example\uff0fcom.evil.org", "dns-name-invalid"),
        ("a\x00b.com", "dns-name-invalid"),
        ("a_b.com", "dns-name-invalid"),
        ("☃.net", "dns-name-invalid"),
        ("xn--n3h.net", "dns-name-invalid"),
        ("xn--abc-.com", "dns-name-invalid"),
        ("xn--a.com", "dns-name-invalid"),
        ("ab--cd.com", "dns-name-invalid"),
        ("ىs.com", "dns-name-invalid"),  # RFC 5893
        ("", "dns-name-invalid"),
        (".", "dns-name-invalid"),
        ("localhost", "dns-name-invalid"),
        ("example.org.", "dns-name-invalid"),
        ("192.0.2.1", "dns-name-invalid"),
        ("*.example.org", "dns-name-invalid"),
        ("\ud800.com", "dns-name-invalid"),
        ("ü" * 1_000_000, "dns-name-invalid"),
        ("\ufdfa" * 250 + ".com", "dns-name-invalid"),  # eighteen letters each, once mapped
    ],
)
def test_imitations_and_nonsense_are_refused(written: str, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        to_a_labels(written)
    assert (refusal.value.code, refusal.value.field) == (code, "DNS")
    assert refusal.value.message.isascii()
    assert refusal.value.message.endswith(".")
    assert len(refusal.value.message) < 600


@pytest.mark.parametrize(
    ("given", "normalised"),
    [
        (("DNS", " *.Bücher.example\n"), "*.xn--bcher-kva.example"),
        (("DNS", "WWW.example.org"), "www.example.org"),
        (("email", "Momo@Bücher.example"), "Momo@xn--bcher-kva.example"),
        (("IP", "2001:DB8:0::1"), "2001:db8::1"),
        (("IP", "192.0.2.1"), "192.0.2.1"),
        (("URI", "HTTPS://Bücher.example:8443/a#b"), "https://xn--bcher-kva.example:8443/a#b"),
        (("URI", "https://192.0.2.1/"), "https://192.0.2.1/"),
        (("URI", "https://[2001:db8::1]/"), "https://[2001:db8::1]/"),
    ],
)
def test_alternative_names_are_brought_into_form(given: tuple[str, str], normalised: str) -> None:
    alt_name = normalise_alt_name(SubjectAltName(type=given[0], value=given[1]))
    assert alt_name == SubjectAltName(type=given[0], value=normalised)
    assert normalise_alt_name(alt_name) == alt_name


@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        (("DNS", "*.p\u0430ypal.com"), "mixed-scripts", "DNS"),
        (("DNS", "w*.example.org"), "dns-name-invalid", "DNS"),
        (("email", "momo"), "email-invalid", "email"),
        (("email", "möm@example.org"), "email-invalid", "email"),
        (("email", "momo@"), "email-invalid", "email"),
        (("email", "momo@p\u0430ypal.com"), "mixed-scripts", "email"),
        (("IP", "::ffff:192.0.2.1"), "ip-invalid", "IP"),
        (("IP", "192.0.2.010"), "ip-invalid", "IP"),
        (("URI", "https://p\u0430ypal.com/"), "mixed-scripts", "URI"),
        (("URI", "https://a..b/"), "uri-invalid", "URI"),
        (("URI", "https://user@example.org/"), "uri-invalid", "URI"),
        (("URI", "gopher://example.org/"), "uri-invalid", "URI"),
        (("host", "example.org"), "alt-name-unknown", ""),
    ],
)
def test_alternative_names_that_are_refused(given: tuple[str, str], code: str, field: str) -> None:
    with pytest.raises(Refused) as refusal:
        normalise_alt_name(SubjectAltName(type=given[0], value=given[1]))
    assert (refusal.value.code, refusal.value.field) == (code, field)


def test_an_address_keeps_what_stands_before_the_at() -> None:
    assert normalise_email(" Momo.B@EXAMPLE.org ") == "Momo.B@example.org"
