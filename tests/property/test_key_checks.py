"""Any key that the library loads is judged, and any file is a list or an error: nothing else comes out."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from hypothesis import example, given
from hypothesis import strategies as st
from tests.fuzz.request_target import check_refusal

from cassiopeia.core import weak_keys
from cassiopeia.core.keycheck import check_public_key, check_strength
from cassiopeia.errors import OperatorError, Refused

PRIME = 2**255 - 19
DIGESTS = st.sets(st.binary(min_size=10, max_size=10), min_size=1, max_size=50)


@given(st.binary(min_size=32, max_size=32))
@example(bytes(32))
@example(bytes((1, *bytes(31))))
@example((PRIME - 1).to_bytes(32, "little"))
@example(b"\xff" * 32)
def test_any_32_octets_as_an_ed25519_key(octets: bytes) -> None:
    try:
        check_strength(Ed25519PublicKey.from_public_bytes(octets))
    except Refused as refusal:
        check_refusal(refusal)


@given(st.integers(min_value=1 << 2047, max_value=(1 << 2048) - 1), st.integers(min_value=3, max_value=1 << 256))
def test_any_two_numbers_as_an_rsa_key(modulus: int, exponent: int) -> None:
    try:
        key = RSAPublicNumbers(exponent | 1, modulus | 1).public_key()
        check_public_key(key)
        check_strength(key)
    except Refused as refusal:
        check_refusal(refusal)


@given(st.binary(max_size=200) | st.text(alphabet="0123456789abcdef#\n\r ", max_size=200).map(str.encode))
def test_any_octets_as_a_list(octets: bytes) -> None:
    weak_keys.detect_format(octets)
    for parse in (
        lambda: weak_keys.parse_openssl_blacklist(octets, source="list"),
        lambda: weak_keys.check_badkeys_records(octets, b"", source="list"),
        lambda: weak_keys.parse_badkeys_metadata(octets, sha256=hashlib.sha256().digest(), source="list"),
    ):
        try:
            parse()
        except OperatorError as error:
            assert "\n" not in str(error)  # noqa: PT017 - there may be none


@given(DIGESTS, st.binary(min_size=10, max_size=10))
def test_a_list_of_text_is_what_was_written(digests: set[bytes], other: bytes) -> None:
    text = b"".join(each.hex().encode() + b"\n" for each in digests)
    packed = weak_keys.parse_openssl_blacklist(text, source="list")
    records = [packed[at : at + 10] for at in range(0, len(packed), 10)]
    assert records == sorted(digests)
    for each in (*digests, other):
        assert weak_keys._find(records, each) == (each if each in digests else b"")
