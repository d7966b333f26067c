"""Key files that change hands: the same key, another passphrase, or an error that says which of both was wrong."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from tests.support.authorities import p256_key, rsa_key
from tests.support.bundles import encrypted

from cassiopeia.errors import OperatorError
from cassiopeia.signer.keystore.handover import WrongKey, check_key_file, relock

KEY = p256_key()
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
GIVEN, OWN = b"correct horse", b"battery staple"


def test_the_same_key_gets_another_passphrase() -> None:
    locked = relock(encrypted(KEY, GIVEN), bytearray(GIVEN), bytearray(OWN), public_key_info=SPKI)

    assert load_pem_private_key(locked, OWN).public_key() == KEY.public_key()
    with pytest.raises(ValueError, match=r"."):
        load_pem_private_key(locked, GIVEN)
    check_key_file(locked, OWN, public_key_info=SPKI)


def test_another_key_is_told_from_a_wrong_passphrase() -> None:
    other = encrypted(rsa_key(), GIVEN)

    with pytest.raises(WrongKey):
        relock(other, GIVEN, OWN, public_key_info=SPKI)
    with pytest.raises(WrongKey):
        check_key_file(other, GIVEN, public_key_info=SPKI)
    for call in (
        lambda: relock(encrypted(KEY, GIVEN), OWN, OWN, public_key_info=SPKI),
        lambda: check_key_file(encrypted(KEY, GIVEN), OWN, public_key_info=SPKI),
    ):
        with pytest.raises(OperatorError, match="wrong passphrase") as caught:
            call()
        assert not isinstance(caught.value, WrongKey)
        assert OWN.decode() not in str(caught.value)


@pytest.mark.parametrize("octets", [b"", b"no key", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n"])
def test_what_is_no_key_file_is_no_other_key_either(octets: bytes) -> None:
    with pytest.raises(OperatorError, match="not an encrypted PKCS#8 PEM file"):
        relock(octets, GIVEN, OWN, public_key_info=SPKI)
