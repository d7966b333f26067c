"""Lists of published keys: reading both formats, damaged ones, and the search."""

from __future__ import annotations

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from tests.support.badkeys import modulus, sample

from cassiopeia.core import weak_keys
from cassiopeia.core.weak_keys import (
    WeakKeyList,
    check_badkeys_records,
    check_not_published,
    detect_format,
    parse_badkeys_metadata,
    parse_openssl_blacklist,
)
from cassiopeia.errors import OperatorError, Refused

# `openssl rsa -RSAPublicKey_in -in rsa-debianweak.key -noout -modulus | sha1sum | cut -c 21-40`
DEBIAN_LINE = "b7ead9492dfd921fc4f9"
OTHERS = ["00006aa0ce2cd60e6660", "70a40110ad60c7282f18", "ffffba5a5a5a5a5a5a5a"]
BLACKLIST = "# Debian's weak keys\n" + "\n".join(sorted([DEBIAN_LINE, *OTHERS])) + "\n"

DEBIAN = sample("rsa-debianweak.key")
SOUND = sample("rsa-ok.key")
COLLECTIONS = {2: "debianssl", 7: "rfc"}


def openssl_list(text: str = BLACKLIST) -> WeakKeyList:
    packed = parse_openssl_blacklist(text.encode(), source="blacklist.RSA-2048")
    records = [packed[at : at + 10] for at in range(0, len(packed), 10)]
    return WeakKeyList(name="blacklist.RSA-2048", format="openssl-blacklist", records=records)


def badkeys_list(*numbers: bytes, collection: int = 2) -> WeakKeyList:
    """A list of keys by the octets that are hashed, among others."""
    digests = [hashlib.sha256(each).digest()[:15] for each in (*numbers, b"one", b"two", b"three")]
    records = sorted(digest + bytes((collection,)) for digest in digests)
    return WeakKeyList(name="blocklist.dat", format="badkeys", records=records, collections=COLLECTIONS)


def test_a_key_on_debian_s_list() -> None:
    with pytest.raises(Refused, match=r"published \(blacklist.RSA-2048\).*; make a new key") as refusal:
        check_not_published(DEBIAN, [openssl_list()])
    assert (refusal.value.code, refusal.value.field) == ("key-published", "key")


@pytest.mark.parametrize("digits", [1024, 2048])
def test_the_digest_is_over_capital_digits_without_leading_zeros(digits: int) -> None:
    number = modulus("rsa-ok.key") >> (2048 - digits + 4)  # an odd number of digits
    key = rsa.RSAPublicNumbers(65537, number | 1).public_key()
    octets = b"Modulus=" + f"{number | 1:X}".encode() + b"\n"
    line = hashlib.sha1(octets, usedforsecurity=False).hexdigest()[20:]
    with pytest.raises(Refused):
        check_not_published(key, [openssl_list(line)])


def test_keys_that_are_on_no_list() -> None:
    check_not_published(SOUND, [])
    lists = [openssl_list(), badkeys_list()]
    check_not_published(SOUND, lists)
    check_not_published(ec.generate_private_key(ec.SECP256R1()).public_key(), lists)
    check_not_published(ed25519.Ed25519PrivateKey.generate().public_key(), lists)


@pytest.mark.parametrize("line", sorted([DEBIAN_LINE, *OTHERS]))
def test_every_record_of_a_list_is_found(line: str) -> None:
    records = openssl_list().records
    assert weak_keys._find(records, bytes.fromhex(line)).hex() == line


def test_a_list_need_not_be_sorted_and_may_have_comments_blank_lines_and_line_ends_of_windows() -> None:
    text = f"#\r\n# some list\r\n\r\n{OTHERS[2]}\r\n# more of it\r\n{DEBIAN_LINE}  \r\n{OTHERS[0]}"
    assert len(openssl_list(text).records) == 3
    with pytest.raises(Refused):
        check_not_published(DEBIAN, [openssl_list(text)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"# a list\n{DEBIAN_LINE}\n{OTHERS[0][:19]}", "line 3 is neither"),
        (f"{DEBIAN_LINE}0\n", "line 1 is neither"),
        (f"{DEBIAN_LINE.upper()}\n", "line 1 is neither"),
        (f"{DEBIAN_LINE[:10]} {DEBIAN_LINE[11:]}\n", "line 1 is neither"),
        ("<html><title>Not found</title></html>\n", "line 1 is neither"),
        ("# nothing but a comment\n\n", "it lists no key"),
        ("", "it lists no key"),
    ],
)
def test_a_damaged_list_of_text(text: str, says: str) -> None:
    with pytest.raises(OperatorError, match=f"^lists/a: this list of weak keys is damaged: {says}.*; fetch it again$"):
        parse_openssl_blacklist(text.encode(), source="lists/a")


def shortest(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


ML_DSA = mldsa.MLDSA44PrivateKey.generate().public_key()
ED25519 = ed25519.Ed25519PrivateKey.generate().public_key()
P256 = ec.generate_private_key(ec.SECP256R1()).public_key()


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (DEBIAN, shortest(modulus("rsa-debianweak.key"))),
        (P256, shortest(P256.public_numbers().x)),
        (ED25519, shortest(int.from_bytes(ED25519.public_bytes_raw(), "big"))),
        (ML_DSA, ML_DSA.public_bytes_raw()),
    ],
    ids=["RSA", "P-256", "Ed25519", "ML-DSA"],
)
def test_each_kind_of_key_on_a_list_of_badkeys(key: PublicKeyTypes, hashed: bytes) -> None:
    with pytest.raises(Refused, match=r"\(blocklist.dat, debianssl\)"):
        check_not_published(key, [badkeys_list(hashed)])
    check_not_published(key, [badkeys_list()])


def test_leading_zeros_are_not_hashed() -> None:
    """BLOCKLISTFORMAT.md: "encodes it to bytes without leading zeros"; also of an Ed25519 key's octets."""
    octets = bytes(2) + bytes(range(1, 31))
    key = ed25519.Ed25519PublicKey.from_public_bytes(octets)
    with pytest.raises(Refused):
        check_not_published(key, [badkeys_list(octets[2:])])


def test_a_collection_without_a_name() -> None:
    with pytest.raises(Refused, match=r"\(blocklist.dat\)"):
        check_not_published(DEBIAN, [badkeys_list(shortest(modulus("rsa-debianweak.key")), collection=99)])


def test_the_format_shows_in_the_beginning() -> None:
    assert detect_format(BLACKLIST.encode()) == "openssl-blacklist"
    assert detect_format(b"".join(badkeys_list().records[at] for at in range(3))) == "badkeys"


RECORDS = b"".join(sorted(hashlib.sha256(bytes((each,))).digest()[:16] for each in range(100)))


def test_records_in_order_may_come_in_blocks() -> None:
    last = b""
    for at in range(0, len(RECORDS), 320):
        last = check_badkeys_records(RECORDS[at : at + 320], last, source="blocklist.dat")
    assert last == RECORDS[-16:]


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (RECORDS[:-1], "its length is not a multiple of 16: it is cut off"),
        (b"", "its length"),
        (RECORDS[16:160] + RECORDS[:16], "its records are not in ascending order"),
        (RECORDS[:160], "its records are not in ascending order"),  # behind the last record
    ],
)
def test_damaged_records(block: bytes, says: str) -> None:
    with pytest.raises(OperatorError, match=f"^blocklist.dat: this list of weak keys is damaged: {says}"):
        check_badkeys_records(block, RECORDS[-16:], source="blocklist.dat")


SHA256 = hashlib.sha256(RECORDS).digest()


def metadata(**more: object) -> bytes:
    content = {
        "bkformat": 0,
        "blocklist_url": "https://update.example/blocklist.dat.xz",
        "blocklist_sha256": SHA256.hex(),
        "date": "2026-11-01T00:00:00+00:00",
        "blocklists": [
            {"id": 2, "name": "debianssl", "type": "github", "repo": "badkeys/debianopenssl", "path": "main"},
            {"id": 7, "name": "rfc", "type": "github", "repo": "badkeys/keypairvuln", "path": "main/rfc"},
        ],
    }
    return json.dumps(content | more).encode()


def test_the_collections_have_their_names_from_the_metadata() -> None:
    assert parse_badkeys_metadata(metadata(), sha256=SHA256, source="badkeysdata.json") == COLLECTIONS


@pytest.mark.parametrize(
    ("octets", "says"),
    [
        (b"{", "it is not what badkeys writes"),
        (b'"\xff"', "it is not what badkeys writes"),
        (b"{}", "it is not what badkeys writes"),
        (metadata(bkformat=1), "its format is 1, and only 0 is known here"),
        (metadata(blocklist_sha256="00" * 32), "it has the hash of another blocklist.dat"),
    ],
)
def test_metadata_that_does_not_belong_to_the_records(octets: bytes, says: str) -> None:
    with pytest.raises(OperatorError, match=says):
        parse_badkeys_metadata(octets, sha256=SHA256, source="badkeysdata.json")
