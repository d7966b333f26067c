from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cassiopeia.core.key_uri import FILE_BACKENDS, FileUri, KeyUri, Pkcs11Uri, parse_key_uri
from cassiopeia.errors import OperatorError


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("file:keys/a.key", FileUri(path="keys/a.key")),
        ("file:/var/lib/a.key", FileUri(path="/var/lib/a.key")),
        ("file:a.key?backend=gnutls", FileUri(path="a.key", backend="gnutls")),
        ("pkcs11:token=ca", Pkcs11Uri(token="ca")),
        ("pkcs11:serial=d0a1;object=x", Pkcs11Uri(serial="d0a1", label="x")),
        (
            "pkcs11:token=A%20B;manufacturer=M;model=v%202;serial=1;type=private;object=a%3Bb;id=%01%fF?pin-source=file:/pin&module-path=/p11.so",
            Pkcs11Uri(
                token="A B",
                manufacturer="M",
                model="v 2",
                serial="1",
                label="a;b",
                identifier=b"\x01\xff",
                pin_source="file:/pin",
                module_path="/p11.so",
            ),
        ),
        ("pkcs11:token=ca?pin-source=credential:pin", Pkcs11Uri(token="ca", pin_source="credential:pin")),
    ],
)
def test_a_uri_says_where_a_key_is(text: str, uri: KeyUri) -> None:
    assert parse_key_uri(text) == uri


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "by file:PATH or by a pkcs11: URI"),
        ("ca.key", "by file:PATH or by a pkcs11: URI"),
        ("FILE:ca.key", "by file:PATH or by a pkcs11: URI"),
        ("file:", "a path has to stand behind file:"),
        ("file:?backend=gnutls", "a path has to stand behind file:"),
        ("file:a\0", "a path has to stand behind file:"),
        ("file:a?backend=botan", "only backend= with one of openssl, gnutls, wolfssl"),
        ("file:a?backend=", "only backend="),
        ("file:a?library=gnutls", "only backend="),
        ("pkcs11:", "has to name its token"),
        ("pkcs11:object=x", "has to name its token"),
        ("pkcs11:token=a;token=b", "token= stands there twice"),
        ("pkcs11:token=a;colour=red", "knows here only token, manufacturer, model, serial, object, id, type"),
        ("pkcs11:token=", "each with = and a value"),
        ("pkcs11:token=a;;object=b", "each with = and a value"),
        ("pkcs11:token=a;object", "each with = and a value"),
        ("pkcs11:token=a;slot-id=0", "knows here only"),
        ("pkcs11:token=a;type=public", "a CA key is a private key"),
        ("pkcs11:token=%zz", "followed by two hexadecimal digits"),
        ("pkcs11:token=a%2", "followed by two hexadecimal digits"),
        ("pkcs11:token=%ff", "token= is not UTF-8"),
        ("pkcs11:token=a%00", "token= holds a zero octet"),
        ("pkcs11:token=a?pin-source=/etc/pin", "pin-source= is file:PATH or credential:NAME"),
        ("pkcs11:token=a?pin-source=|cat", "pin-source= is file:PATH or credential:NAME"),
        ("pkcs11:token=a?max-size=1", "knows here only pin-source, module-path"),
    ],
)
def test_what_is_no_key_uri_says_what_to_write(text: str, reason: str) -> None:
    with pytest.raises(OperatorError) as fault:
        parse_key_uri(text)
    assert reason in str(fault.value)


def test_a_pin_has_no_place_in_a_uri_and_is_not_repeated() -> None:
    with pytest.raises(OperatorError, match="a PIN does not stand in a URI") as fault:
        parse_key_uri("pkcs11:token=a?pin-value=4711")
    assert "4711" not in str(fault.value)


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(path=words.filter(lambda text: text and "?" not in text), backend=st.sampled_from(["", *FILE_BACKENDS]))
def test_the_text_of_a_file_uri_reads_back(path: str, backend: str) -> None:
    uri = FileUri(path=path, backend=backend)
    assert parse_key_uri(str(uri)) == uri


@given(
    token=words.filter(bool),
    manufacturer=words,
    label=words,
    identifier=st.binary(max_size=20),
    pin=words.map(lambda text: text and f"file:{text}"),
    module=words,
)
def test_the_text_of_a_token_uri_reads_back(
    token: str, manufacturer: str, label: str, identifier: bytes, pin: str, module: str
) -> None:
    uri = Pkcs11Uri(
        token=token,
        manufacturer=manufacturer,
        label=label,
        identifier=identifier,
        pin_source=pin,
        module_path=module,
    )
    assert parse_key_uri(str(uri)) == uri


@given(st.text())
def test_any_text_is_a_uri_or_a_clear_error(text: str) -> None:
    for prefix in ("", "file:", "pkcs11:", "pkcs11:token=x;"):
        try:
            uri = parse_key_uri(prefix + text)
        except OperatorError:
            continue
        assert parse_key_uri(str(uri)) == uri
