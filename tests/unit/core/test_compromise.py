from __future__ import annotations

import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.authorities import PrivateKey, sign
from tests.support.compromising import KINDS, key_info, key_of, prove, tbs_of

from cassiopeia.core import algorithms
from cassiopeia.core.compromise import CompromiseClaim, check_compromise, compromise_statement
from cassiopeia.core.key_identity import certified_key_info
from cassiopeia.errors import PeerError, Refused

SERIAL = (1 << 120) + 0xABCD


def claim(key: PrivateKey, **changes: bytes) -> CompromiseClaim:
    tbs = tbs_of(key, SERIAL)
    made = CompromiseClaim(serial_number=SERIAL.to_bytes(16, "big"), tbs_certificate=tbs, proof=prove(key, SERIAL, tbs))
    return dataclasses.replace(made, **changes)


def assert_refused(refused: CompromiseClaim) -> None:
    with pytest.raises(Refused) as caught:
        check_compromise(refused)
    assert (caught.value.code, caught.value.field) == ("proof-invalid", f"{int.from_bytes(refused.serial_number):x}")
    assert "make it anew with the certificate's own key" in caught.value.message


def test_the_statement_is_a_tag_and_der() -> None:
    expected = (
        b"cassiopeia/2 compromised key\0"
        + bytes.fromhex("3034")
        + bytes.fromhex("0210")
        + SERIAL.to_bytes(16, "big")
        + bytes.fromhex("0420")
        + hashlib.sha256(b"tbs").digest()
    )
    assert compromise_statement(SERIAL, b"tbs") == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_itself_proves_it(kind: str) -> None:
    check_compromise(claim(key_of(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_else_does(kind: str) -> None:
    key, other = key_of(kind), key_of(kind, 1)
    right = claim(key)
    # 1. Another key, of the same kind and of another.
    assert_refused(claim(key, proof=prove(other, SERIAL, right.tbs_certificate)))
    assert_refused(claim(key, proof=prove(key_of("P-256", 2), SERIAL, right.tbs_certificate)))
    # 2. The same key about another certificate: by its number, or by what it says.
    assert_refused(claim(key, proof=prove(key, SERIAL + 1, right.tbs_certificate)))
    assert_refused(claim(key, proof=prove(key, SERIAL, tbs_of(key, SERIAL + 1))))
    # 3. The same key over something else: the statement without its tag.
    bare = compromise_statement(SERIAL, right.tbs_certificate).partition(b"\0")[2]
    assert_refused(claim(key, proof=sign(key, algorithms.algorithms_for(key.public_key())[0], bare)))
    # 4. Damaged, cut off, none.
    assert_refused(claim(key, proof=bytes([right.proof[0] ^ 1]) + right.proof[1:]))
    assert_refused(claim(key, proof=right.proof[:-1]))
    assert_refused(claim(key, proof=right.proof + b"\0"))
    assert_refused(claim(key, proof=b""))


@given(st.sampled_from(KINDS), st.binary(max_size=200))
def test_any_octets_are_a_refusal(kind: str, octets: bytes) -> None:
    assert_refused(claim(key_of(kind), proof=octets))


def test_a_key_that_cannot_be_read_proves_nothing() -> None:
    tbs = tbs_of(key_of("Ed25519"), SERIAL)
    assert_refused(claim(key_of("Ed25519"), tbs_certificate=tbs[:-34] + b"\0" * 34))


def test_the_key_of_a_certificate_is_found() -> None:
    key = key_of("P-384")
    assert certified_key_info(tbs_of(key, SERIAL)) == key_info(key)
    with pytest.raises(PeerError):
        certified_key_info(b"\x30\x00")
