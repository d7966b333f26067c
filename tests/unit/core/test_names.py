"""Names: what is encoded, and what each bad name is told."""

# ruff: noqa: RUF001 - names that look like other names are the point

from __future__ import annotations

import ipaddress
import re

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from cassiopeia.core.names import MAXIMUM_ATTRIBUTES, check_alt_name, check_attribute, encode_subject, general_name
from cassiopeia.core.request import SubjectAltName, SubjectAttribute
from cassiopeia.errors import Refused

SENTENCE = re.compile(r"[A-Z].{5,400}[;,].+\.", re.DOTALL)


def attribute(attribute_type: str, value: str) -> SubjectAttribute:
    return SubjectAttribute(type=attribute_type, value=value)


def alt_name(alt_name_type: str, value: str) -> SubjectAltName:
    return SubjectAltName(type=alt_name_type, value=value)


def refused(name: SubjectAttribute | SubjectAltName) -> Refused:
    with pytest.raises(Refused) as refusal:
        check_attribute(name) if isinstance(name, SubjectAttribute) else check_alt_name(name)
    assert SENTENCE.fullmatch(refusal.value.message)
    assert refusal.value.message.isascii()
    return refusal.value


def test_a_subject_is_encoded_as_the_library_would() -> None:
    given = [
        attribute("EMAIL", "momo@example.org"),
        attribute("CN", "Momo Müller"),
        attribute("OU", "Turtles"),
        attribute("OU", "Agents"),
        attribute("O", "龜"),
        attribute("L", "Zürich"),
        attribute("ST", "ZH"),
        attribute("C", "CH"),
    ]
    expected = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CH"),  # PrintableString by the library's choice, too
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "ZH"),
            x509.NameAttribute(NameOID.LOCALITY_NAME, "Zürich"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "龜"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Turtles"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Agents"),
            x509.NameAttribute(NameOID.COMMON_NAME, "Momo Müller"),
            x509.NameAttribute(NameOID.EMAIL_ADDRESS, "momo@example.org"),  # IA5String
        ]
    )
    assert encode_subject(given) == expected.public_bytes()


def test_an_empty_subject_is_an_empty_sequence() -> None:
    assert encode_subject([]) == b"\x30\x00"


def test_the_three_string_types() -> None:
    # RFC 5280 appendix A.1: tags 13 PrintableString, 0c UTF8String, 16 IA5String
    assert encode_subject([attribute("C", "DE")]).hex() == "300d310b3009060355040613024445"
    assert encode_subject([attribute("CN", "é")]).hex() == "300d310b300906035504030c02c3a9"
    assert (
        encode_subject([attribute("EMAIL", "a@b.c")]).hex() == "30163114301206092a864886f70d0109011605" + b"a@b.c".hex()
    )


def test_bounds_count_characters_and_not_octets() -> None:
    assert ("龜" * 64).encode() in encode_subject([attribute("CN", "龜" * 64)])
    assert refused(attribute("CN", "龜" * 65)).code == "name-too-long"


@pytest.mark.parametrize(("attribute_type", "bound"), [("CN", 64), ("O", 64), ("OU", 64), ("L", 128), ("ST", 128)])
def test_upper_bounds_of_rfc_5280(attribute_type: str, bound: int) -> None:
    check_attribute(attribute(attribute_type, "x" * bound))
    refusal = refused(attribute(attribute_type, "x" * (bound + 1)))
    assert (refusal.code, refusal.field) == ("name-too-long", attribute_type)


@pytest.mark.parametrize(
    "value", ["Momo", "José Ñandú", "Ольга Ивановна", "محمد", "王小明", "می\u200cخواهم", "O'Brien & Söhne", "𠮷野"]
)
def test_what_people_are_called(value: str) -> None:
    check_attribute(attribute("CN", value))


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "name-empty"),
        (" Momo", "name-blank"),
        ("Momo ", "name-blank"),
        (" ", "name-blank"),
        ("Mo\x00mo", "name-character"),
        ("Mo\nmo", "name-character"),
        ("Mo\x7fmo", "name-character"),
        ("Mo\x85mo", "name-character"),
        ("Mo\u202emo", "name-character"),  # right-to-left override
        ("Mo\u2066mo", "name-character"),  # isolate
        ("Mo\u200bmo", "name-character"),  # zero-width space
        ("Mo\ufeffmo", "name-character"),
        ("Mo\u200dmo", "name-character"),  # a joiner where nothing joins
        ("\u200d", "name-character"),
        ("م\u200c", "name-character"),
        ("Mo\u2028mo", "name-character"),
        ("Mo\u2029mo", "name-character"),
        ("Mo\u00a0mo", "name-character"),  # a blank that is not the space
        ("\u3000Momo", "name-character"),
        ("Mo\ud800mo", "name-character"),
        ("Mo\ue000mo", "name-character"),
        ("Mo\u0378mo", "name-character"),
        ("Mo\ufffemo", "name-character"),
        ("Momo\ufffd", "name-character"),
        ("Mo\u3164mo", "name-character"),  # Hangul filler: a letter that shows nothing
        ("Mo\U000e0041mo", "name-character"),  # a tag
        ("Mo\ufe0fmo", "name-character"),
        ("\u0301Momo", "name-character"),
        ("Jose\u0301", "name-not-normal"),
        ("\u212bngstrom", "name-not-normal"),
    ],
)
def test_text_that_is_refused(value: str, code: str) -> None:
    refusal = refused(attribute("CN", value))
    assert (refusal.code, refusal.field) == (code, "CN")


@pytest.mark.parametrize("value", ["", "D", "de", "DEU", "D1", "ÄÖ", "DE\n", "ＤＥ"])
def test_a_country_is_two_capital_letters(value: str) -> None:
    assert refused(attribute("C", value)).code == "country-invalid"


def test_an_unknown_attribute() -> None:
    refusal = refused(attribute("serialNumber", "1"))
    assert refusal.code == "attribute-unknown"
    with pytest.raises(Refused, match="not known"):
        encode_subject([attribute("serialNumber", "1")])


@pytest.mark.parametrize("attribute_type", ["C", "ST", "L", "O", "CN", "EMAIL"])
def test_only_ou_is_repeated(attribute_type: str) -> None:
    value = {"C": "DE", "EMAIL": "a@example.org"}.get(attribute_type, "x")
    with pytest.raises(Refused, match=f"names {attribute_type} 2 times"):
        encode_subject([attribute(attribute_type, value)] * 2)


def test_the_number_of_attributes_is_bounded() -> None:
    assert encode_subject([attribute("OU", "x")] * MAXIMUM_ATTRIBUTES)
    with pytest.raises(Refused, match="17 attributes") as refusal:
        encode_subject([attribute("OU", "x")] * (MAXIMUM_ATTRIBUTES + 1))
    assert refusal.value.code == "too-many-attributes"


def test_a_message_bounds_what_it_shows() -> None:
    assert len(refused(attribute("CN", "x" * 100_000)).message) < 250


@pytest.mark.parametrize(
    "name",
    [
        "example.org",
        "www.example.org",
        "*.example.org",
        "a.b",
        "1.example",
        "3com.com",
        "xn--bcher-kva.example",
        "xn--fa-hia.de",  # faß
        "xn--wgv71a119e.jp",  # 日本語
        "xn--mgbaam7a8h.example",
        "a-b.example",
        "x" * 63 + ".example",
        ".".join(["x" * 49] * 5) + ".exa",
    ],
)
def test_dns_names_that_stand(name: str) -> None:
    assert general_name(alt_name("DNS", name)) == x509.DNSName(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "has no domain"),
        ("*.", "has no domain"),
        ("*", "not the whole first label"),
        ("*.org", "single label"),
        ("localhost", "single label"),
        ("www.*.org", "not the whole first label"),
        ("w*.example.org", "not the whole first label"),
        ("*w.example.org", "not the whole first label"),
        ("*.*.example.org", "not the whole first label"),
        ("example.org.", "ends with a dot"),
        (".example.org", "two dots"),
        ("example..org", "two dots"),
        (".", "ends with a dot"),
        ("Example.org", "capital letters"),
        ("bücher.example", "A-labels"),
        ("p\u0430ypal.com", "A-labels"),
        ("example\u3002org", "A-labels"),
        ("example\u2024org", "A-labels"),
        ("exam\u202eple.org", "A-labels"),
        ("example.org\x00.evil.org", "letters, digits and hyphens"),
        ("exa mple.org", "letters, digits and hyphens"),
        ("exam_ple.org", "letters, digits and hyphens"),
        ("-example.org", "no hyphen at either end"),
        ("example-.org", "no hyphen at either end"),
        ("ex--ample.org", "reserved label"),
        ("1.2.3.4", "ends in a number"),
        ("192.168.010.1", "ends in a number"),
        ("127.0.0.0x1", "ends in a number"),
        ("1", "ends in a number"),
        ("example.0x", "ends in a number"),
        ("2001:db8::1", "single label"),
        ("x" * 64 + ".example", "label longer than 63"),
        (".".join(["x" * 49] * 5) + ".exam", "longer than 253"),
        ("*." + ".".join(["x" * 49] * 5) + ".ex", "is longer than 253"),
        ("x" * 1_000_000, "longer than 253"),
        ("xn--.example", "no hyphen at either end"),
        ("xn--abc-.example", "no hyphen at either end"),  # would decode to ASCII
        ("xn--a.example", "no valid A-label"),  # U+0080
        ("xn--99999999.example", "no valid A-label"),  # beyond Unicode
        ("xn--a-ecp.example", "no valid A-label"),
        ("xn--bcher-kv.example", "no valid A-label"),
        ("xn--bcher-kva0.example", "no valid A-label"),
        ("xn--n3h.example", "no valid A-label"),  # a snowman is no letter
        ("xn--" + "p\u202eal".encode("punycode").decode() + ".example", "no valid A-label"),
        ("xn--" + "p\u200dal".encode("punycode").decode() + ".example", "no valid A-label"),
        ("xn--" + "p\ufe0fal".encode("punycode").decode() + ".example", "no valid A-label"),
        ("xn--" + "\u0301a".encode("punycode").decode() + ".example", "no valid A-label"),
        ("xn--" + "e\u0301".encode("punycode").decode() + ".example", "no valid A-label"),  # not NFC
        ("xn--" + "b\u00dc".encode("punycode").decode().lower() + ".example", "no valid A-label"),  # capital
        ("xn--" + "a\ud800".encode("punycode").decode() + ".example", "no valid A-label"),
    ],
)
def test_dns_names_that_fall(name: str, says: str) -> None:
    refusal = refused(alt_name("DNS", name))
    assert says in refusal.message
    assert (refusal.code, refusal.field) == ("dns-name-invalid", "DNS")


def test_a_joiner_within_a_script_that_needs_it_stands() -> None:
    label = "xn--" + "می\u200cخواهم".encode("punycode").decode()
    assert general_name(alt_name("DNS", f"{label}.example"))


@pytest.mark.parametrize(
    "address",
    [
        "momo@example.org",
        "Momo.B+turtle@example.org",
        "o'brien@xn--bcher-kva.example",
        "x" * 64 + "@example.org",
        "!#$%@a.b",
    ],
)
def test_addresses_that_stand(address: str) -> None:
    assert general_name(alt_name("email", address)) == x509.RFC822Name(address)
    check_attribute(attribute("EMAIL", address))


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "has no @"),
        ("momo", "has no @"),
        ("@example.org", "before the @"),
        ("momo@", "has no domain"),
        ("momo@localhost", "single label"),
        ("momo@example.org.", "ends with a dot"),
        ("momo@Example.org", "capital letters"),
        ("momo@*.example.org", "letters, digits and hyphens"),
        ("momo@[192.0.2.1]", "letters, digits and hyphens"),
        ("momo@192.0.2.1", "ends in a number"),
        ("momo@bücher.example", "A-labels"),
        ('"mo mo"@example.org', "quoted"),
        ('"a@b"@example.org', "quoted"),
        ("mo mo@example.org", "before the @"),
        ("momo..b@example.org", "before the @"),
        (".momo@example.org", "before the @"),
        ("möm@example.org", "before the @"),
        ("momo\x00@example.org", "before the @"),
        ("momo@example.org\x00", "letters, digits and hyphens"),
        ("momo@example.org\n", "letters, digits and hyphens"),
        ("a@b@example.org", "before the @"),
        ("Momo <momo@example.org>", "before the @"),
        ("x" * 65 + "@example.org", "more than 64"),
        ("x" * 1_000_000 + "@example.org", "longer than 254"),
    ],
)
def test_addresses_that_fall(address: str, says: str) -> None:
    refusal = refused(alt_name("email", address))
    assert says in refusal.message
    assert (refusal.code, refusal.field) == ("email-invalid", "email")
    assert refused(attribute("EMAIL", address)).field == "EMAIL"


@pytest.mark.parametrize("address", ["192.0.2.1", "10.0.0.1", "127.0.0.1", "2001:db8::1", "::1", "fe80::1"])
def test_ip_addresses_that_stand(address: str) -> None:
    assert general_name(alt_name("IP", address)) == x509.IPAddress(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "no valid address"),
        ("example.org", "no valid address"),
        ("192.0.2.01", "no valid address"),
        ("192.0.2", "no valid address"),
        ("0x7f.1", "no valid address"),
        ("192.0.2.0/24", "no valid address"),
        ("١٩٢.0.2.1", "no valid address"),
        (" 192.0.2.1", "no valid address"),
        ("192.0.2.1\x00", "no valid address"),
        ("2001:DB8::1", "write 2001:db8::1"),
        ("2001:db8:0:0:0:0:0:1", "write 2001:db8::1"),
        ("::ffff:192.0.2.1", "write 192.0.2.1"),
        ("::ffff:c000:201", "write 192.0.2.1"),
        ("fe80::1%eth0", "has a zone"),
        ("0.0.0.0", "use the address of one machine"),  # noqa: S104 - nothing binds to it
        ("255.255.255.255", "use the address of one machine"),
        ("224.0.0.1", "use the address of one machine"),
        ("240.0.0.1", "use the address of one machine"),
        ("::", "use the address of one machine"),
        ("ff02::1", "use the address of one machine"),
        ("::192.0.2.1", "canonical"),
        ("64:ff9b::1", "use the address of one machine"),
    ],
)
def test_ip_addresses_that_fall(address: str, says: str) -> None:
    refusal = refused(alt_name("IP", address))
    assert says in refusal.message
    assert (refusal.code, refusal.field) == ("ip-invalid", "IP")


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org",
        "https://example.org/",
        "http://example.org:8080/path?query=1&b=%20#me",
        "https://192.0.2.1/",
        "https://[2001:db8::1]:443/",
        "ldaps://ldap.example.org/cn=x?y",
        "https://xn--bcher-kva.example/",
    ],
)
def test_uris_that_stand(uri: str) -> None:
    assert general_name(alt_name("URI", uri)) == x509.UniformResourceIdentifier(uri)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("", "does not begin with"),
        ("/relative", "does not begin with"),
        ("//example.org/", "does not begin with"),
        ("javascript:alert(1)", "does not begin with"),
        ("javascript://example.org/%0aalert(1)", "does not begin with"),
        ("file:///etc/passwd", "does not begin with"),
        ("HTTPS://example.org/", "does not begin with"),
        ("https:example.org", "does not begin with"),
        ("https:///path", "has no domain"),
        ("https://:443/", "has no domain"),
        ("https://user@example.org/", "names a user"),
        ("https://user:password@example.org/", "names a user"),
        ("https://example.org@evil.org/", "names a user"),
        ("https://example.org:0/", "invalid port"),
        ("https://example.org:/", "invalid port"),
        ("https://example.org:080/", "invalid port"),
        ("https://example.org:65536/", "invalid port"),
        ("https://example.org:x/", "invalid port"),
        ("https://localhost/", "single label"),
        ("https://Example.org/", "capital letters"),
        ("https://*.example.org/", "letters, digits and hyphens"),
        ("https://bücher.example/", "A-labels"),
        ("https://192.0.2.01/", "no valid address"),
        ("https://1.2/", "no valid address"),
        ("https://[192.0.2.1]/", "valid host"),
        ("https://[::ffff:192.0.2.1]/", "write 192.0.2.1"),
        ("https://[]/", "valid host"),
        ("https://[2001:db8::1/", "valid host"),
        ("https://2001:db8::1/", "invalid port"),
        ("https://example.org/a b", "percent-encode"),
        ("https://example.org/\x00", "percent-encode"),
        ("https://example.org/\n", "percent-encode"),
        ("https://example.org/ü", "percent-encode"),
        ("https://example.org/%2", "percent-encode"),
        ("https://example.org/#a#b", "percent-encode"),
        ("https://example.org\\@evil.org/", "names a user"),
        ("https://example.org\\.evil.org/", "letters, digits and hyphens"),
        ("https://example.org/" + "x" * 1_000_000, "longer than 1024"),
    ],
)
def test_uris_that_fall(uri: str, says: str) -> None:
    refusal = refused(alt_name("URI", uri))
    assert says in refusal.message
    assert (refusal.code, refusal.field) == ("uri-invalid", "URI")


def test_an_unknown_type_of_name() -> None:
    assert refused(alt_name("dns", "example.org")).code == "alt-name-unknown"
