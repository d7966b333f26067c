"""RSA signatures of which only the inside is wrong: made with the private key, around what a signer would never write.

Each backend's verification has to find them (RFC 8017 8.1.2, 8.2.2, 9.1.2, 9.2): PKCS#1 v1.5 that is parsed instead of
compared is how signatures were forged (CVE-2006-4339 and its many successors).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.support.authorities import sign
from tests.support.crypto_backends import private_key, public_key_info, title, verifying

from cassiopeia.core import der
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.errors import SignatureInvalid
from cassiopeia.signer.keystore.backends import load_backend

OCTETS = b"to be signed"
PKCS1 = ("sha256WithRSAEncryption", "sha384WithRSAEncryption", "sha512WithRSAEncryption")
PSS = ("rsassaPss-sha256", "rsassaPss-sha384", "rsassaPss-sha512")
ARCS: Final = {"sha256": b"\x01", "sha384": b"\x02", "sha512": b"\x03"}
OTHER_HASH: Final = {"sha256": "sha384", "sha384": "sha512", "sha512": "sha256"}


def rsa_2048() -> rsa.RSAPrivateKey:
    key = private_key("RSA-2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def encrypt(encoded: bytes) -> bytes:
    """RSASP1 (RFC 8017 5.2.1): the signature whose inside is this."""
    key = rsa_2048()
    numbers = key.private_numbers()
    value = int.from_bytes(encoded, "big")
    assert value < numbers.public_numbers.n
    return pow(value, numbers.d, numbers.public_numbers.n).to_bytes(256, "big")


def takes(backend: str, algorithm: SignatureAlgorithm, signature: bytes) -> bool:
    try:
        load_backend(backend).verify(public_key_info(rsa_2048()), algorithm, signature, OCTETS)
    except SignatureInvalid:
        return False
    return True


# PKCS#1 v1.5


def identifier(hash_name: str, parameters: bytes = b"\x05\0") -> bytes:
    """AlgorithmIdentifier of a hash (RFC 8017 B.1)."""
    oid = der.encode(0x06, bytes.fromhex("608648016503040200")[:-1] + ARCS[hash_name])
    return der.encode(der.SEQUENCE, oid, parameters)


def digest_info(hash_name: str, *more: bytes, parameters: bytes = b"\x05\0", digest: bytes | None = None) -> bytes:
    digest = hashlib.new(hash_name, OCTETS).digest() if digest is None else digest
    return der.encode(der.SEQUENCE, identifier(hash_name, parameters), der.encode(der.OCTET_STRING, digest), *more)


def padded(inside: bytes, *, begin: bytes = b"\0\x01", fill: bytes = b"\xff", behind: bytes = b"") -> bytes:
    """EM of RFC 8017 9.2, as long as the key."""
    between = 256 - len(begin) - 1 - len(inside) - len(behind)
    return begin + fill * between + b"\0" + inside + behind


def ber_length(element: bytes) -> bytes:
    """The same element with its length in one octet more than it needs."""
    return element[:1] + b"\x81" + element[1:]


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=PKCS1), ids=title)
def test_pkcs1_not_with_another_inside(backend: str, algorithm: SignatureAlgorithm) -> None:
    name = algorithm.hash_name
    digest = hashlib.new(name, OCTETS).digest()
    good = digest_info(name)
    assert takes(backend, algorithm, encrypt(padded(good)))

    short = b"\0\x01" + b"\xff" * 8 + b"\0"
    wrong = {
        "octets behind, the filling cut": short + good + b"\x5a" * (256 - len(short) - len(good)),
        "zeros behind, the filling cut": short + good + bytes(256 - len(short) - len(good)),
        "one octet behind": padded(good, behind=b"\0"),
        "no filling at all": b"\0\x01\0" + good + bytes(256 - 3 - len(good)),
        "filling of zeros": padded(good, fill=b"\0"),
        "filling as of block type 2": padded(good, begin=b"\0\x02", fill=b"\x7b"),
        "block type 0": padded(good, begin=b"\0\0"),
        "block type 2": padded(good, begin=b"\0\x02"),
        "an octet in front": padded(good, begin=b"\x01\x01"),
        "one octet of the filling wrong": padded(good).replace(b"\xff\xff\xff\0", b"\xff\xfe\xff\0", 1),
        "the last octet of the filling wrong": padded(good).replace(b"\xff\0\x30", b"\x7f\0\x30", 1),
        "no zero between": (b"\0\x01" + b"\xff" * (254 - len(good)) + good),
        "the hash alone": padded(digest),
        "the hash of other octets": padded(digest_info(name, digest=hashlib.new(name, b"other").digest())),
        "a hash cut off": padded(digest_info(name, digest=digest[:-1])),
        "an empty hash": padded(digest_info(name, digest=b"")),
        "a hash with an octet behind": padded(digest_info(name, digest=digest + b"\0")),
        "another hash, rightly named": padded(digest_info(OTHER_HASH[name])),
        "another hash's name": padded(digest_info(OTHER_HASH[name], digest=digest)),
        "parameters that are no NULL": padded(digest_info(name, parameters=der.encode(der.OCTET_STRING, b"\0" * 8))),
        "NULL with contents": padded(digest_info(name, parameters=b"\x05\x01\0")),
        "NULL twice": padded(digest_info(name, parameters=b"\x05\0\x05\0")),
        "something behind the hash": padded(digest_info(name, b"\x05\0")),
        "much behind the hash": padded(digest_info(name, der.encode(der.OCTET_STRING, bytes(100)))),
        "the outer length in BER": padded(ber_length(good)),
        "the inner length in BER": padded(
            der.encode(der.SEQUENCE, ber_length(identifier(name)), der.encode(der.OCTET_STRING, digest))
        ),
        "the length of the hash in BER": padded(
            der.encode(der.SEQUENCE, identifier(name), ber_length(der.encode(der.OCTET_STRING, digest)))
        ),
        "an indefinite length": padded(b"\x30\x80" + good[2:] + b"\0\0"),
        "a SET": padded(b"\x31" + good[1:]),
        "the hash as BIT STRING": padded(
            der.encode(der.SEQUENCE, identifier(name), der.encode(der.BIT_STRING, digest))
        ),
        "nothing inside": padded(b""),
    }  # fmt: skip
    assert [each for each, encoded in wrong.items() if takes(backend, algorithm, encrypt(encoded))] == []


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=(*PKCS1, *PSS)), ids=title)
def test_not_with_a_number_out_of_range(backend: str, algorithm: SignatureAlgorithm) -> None:
    """RFC 8017 5.2.2: the signature is a number less than the modulus, in as many octets as this has."""
    modulus = rsa_2048().private_numbers().public_numbers.n
    good = sign(rsa_2048(), algorithm, OCTETS)
    value = int.from_bytes(good, "big")
    assert takes(backend, algorithm, good)
    for number in (0, 1, 2, modulus - 1, modulus, modulus + 1, modulus - value, 2**2048 - 1):
        assert not takes(backend, algorithm, number.to_bytes(256, "big")), number
    for many in (1, 2):
        # Equal to the good one modulo n, and longer.
        assert not takes(backend, algorithm, (value + many * modulus).to_bytes(257, "big"))


@functools.cache
def roomy_key() -> rsa.RSAPrivateKey:
    """A key whose modulus leaves room for larger numbers in as many octets."""
    while True:
        key = rsa.generate_private_key(65537, 2048)
        if key.private_numbers().public_numbers.n < 2**2048 * 4 // 5:
            return key


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=(*PKCS1, *PSS)), ids=title)
def test_not_with_the_modulus_added_in_the_same_length(backend: str, algorithm: SignatureAlgorithm) -> None:
    key = roomy_key()
    modulus = key.private_numbers().public_numbers.n
    for number in itertools.count():
        octets = str(number).encode()
        good = sign(key, algorithm, octets)
        if (other := int.from_bytes(good, "big") + modulus) < 2**2048:
            break
    verify = load_backend(backend).verify
    verify(public_key_info(key), algorithm, good, octets)
    with pytest.raises(SignatureInvalid):
        verify(public_key_info(key), algorithm, other.to_bytes(256, "big"), octets)


# PSS


def masked(data: bytes, seed: bytes, hash_name: str) -> bytes:
    """MGF1 (RFC 8017 B.2.1) over `seed`, exclusive-or `data`."""
    mask = b""
    for counter in range(len(data) // hashlib.new(hash_name).digest_size + 1):
        mask += hashlib.new(hash_name, seed + counter.to_bytes(4, "big")).digest()
    return bytes(a ^ b for a, b in zip(data, mask, strict=False))


def pss_encoded(
    hash_name: str,
    *,
    salt: bytes,
    mgf_hash: str = "",
    trailer: bytes = b"\xbc",
    zeros: bytes = b"",
    separator: bytes = b"\x01",
    top_bit: bool = False,
    octets: bytes = OCTETS,
) -> bytes:
    """EMSA-PSS-ENCODE (RFC 8017 9.1.1) for 2,048 bits, each step as it shall not be."""
    digest = hashlib.new(hash_name, bytes(8) + hashlib.new(hash_name, octets).digest() + salt).digest()
    length = 256 - len(digest) - 1
    block = (zeros + bytes(length - len(zeros) - len(separator) - len(salt)) + separator + salt)[-length:]
    if zeros:
        block = zeros + block[len(zeros) :]
    encoded = bytearray(masked(block, digest, mgf_hash or hash_name) + digest + trailer)
    encoded[0] &= 0x7F
    if top_bit:
        encoded[0] |= 0x80
    return bytes(encoded)


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=PSS), ids=title)
def test_pss_not_with_another_inside(backend: str, algorithm: SignatureAlgorithm) -> None:
    name = algorithm.hash_name
    size = hashlib.new(name).digest_size
    salt = bytes(range(size))
    assert takes(backend, algorithm, encrypt(pss_encoded(name, salt=salt)))
    wrong = {
        # RFC 4055 3.1 leaves the length open; ours says that it is the hash's.
        **{
            f"a salt of {length} octets": pss_encoded(name, salt=bytes(length))
            for length in (0, 1, 20, size - 1, size + 1, 256 - size - 2)
        },
        "another hash": pss_encoded(OTHER_HASH[name], salt=salt),
        "another hash in MGF1": pss_encoded(name, salt=salt, mgf_hash=OTHER_HASH[name]),
        "another trailer": pss_encoded(name, salt=salt, trailer=b"\xcc"),
        "a trailer of zero": pss_encoded(name, salt=salt, trailer=b"\0"),
        "a filling that is not zero": pss_encoded(name, salt=salt, zeros=b"\0\x01"),
        "a separator of 2": pss_encoded(name, salt=salt, separator=b"\x02"),
        "a separator of 0": pss_encoded(name, salt=salt, separator=b"\0"),
        "other octets": pss_encoded(name, salt=salt, octets=b"other"),
        "PKCS#1 v1.5": padded(digest_info(name)),
    }
    modulus = rsa_2048().private_numbers().public_numbers.n
    wrong["the first bit set"] = next(
        encoded
        for number in itertools.count()
        if int.from_bytes(encoded := pss_encoded(name, salt=number.to_bytes(size, "big"), top_bit=True), "big")
        < modulus
    )
    assert [each for each, encoded in wrong.items() if takes(backend, algorithm, encrypt(encoded))] == []
