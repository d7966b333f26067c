"""What every crypto backend refuses to take for a signature: every one that is not exactly the one that was made."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa, x25519
from tests.support.authorities import PrivateKey, sign
from tests.support.crypto_backends import BACKENDS, VERIFIES, kind_for, private_key, public_key_info, title, verifying

from cassiopeia.core import algorithms, der
from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm
from cassiopeia.errors import OperatorError, SignatureInvalid
from cassiopeia.signer.keystore.backends import load_backend

OCTETS = b"to be signed"
# FIPS 186-5 and RFC 8032 5.1, 5.2: the orders of the groups.
ORDERS = {
    "P-256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "P-384": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    "P-521": 0x01FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFA51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409,  # noqa: E501 - one number
    "Ed25519": 2**252 + 27742317777372353535851937790883648493,
    "Ed448": 2**446 - 13818066809895115352007386748515426880336692474882178609894547503885,
}
ECDSA = ("ecdsa-with-SHA256", "ecdsa-with-SHA384", "ecdsa-with-SHA512")
PSS = ("rsassaPss-sha256", "rsassaPss-sha384", "rsassaPss-sha512")


def takes(backend: str, key: PrivateKey, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes) -> bool:
    """Whether the backend takes this for a signature. It may say nothing else than yes or `SignatureInvalid`."""
    try:
        load_backend(backend).verify(public_key_info(key), algorithm, signature, octets)
    except SignatureInvalid:
        return False
    return True


@pytest.mark.parametrize(("backend", "algorithm"), verifying(), ids=title)
def test_not_with_any_single_bit_flipped(backend: str, algorithm: SignatureAlgorithm) -> None:
    key = private_key(kind_for(algorithm))
    public, verify = public_key_info(key), load_backend(backend).verify
    signature = sign(key, algorithm, OCTETS)
    verify(public, algorithm, signature, OCTETS)
    taken = []
    for bit in range(8 * len(signature)):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            verify(public, algorithm, bytes(flipped), OCTETS)
        except SignatureInvalid:
            continue
        taken.append(bit)
    assert taken == []


@pytest.mark.parametrize(("backend", "algorithm"), verifying(), ids=title)
def test_not_of_another_length(backend: str, algorithm: SignatureAlgorithm) -> None:
    key = private_key(kind_for(algorithm))
    signature = sign(key, algorithm, OCTETS)
    half = len(signature) // 2
    for changed in (
        b"",
        signature[:1],
        signature[:half],
        signature[:-1],
        signature[1:],
        signature + b"\0",
        b"\0" + signature,
        signature * 2,
        signature + bytes(100_000),
        bytes(len(signature)),
        b"\xff" * len(signature),
    ):
        assert not takes(backend, key, algorithm, changed, OCTETS), changed.hex()
    assert takes(backend, key, algorithm, signature, OCTETS)


@pytest.mark.parametrize(("backend", "algorithm"), verifying(), ids=title)
def test_not_over_other_octets_nor_by_another_key(backend: str, algorithm: SignatureAlgorithm) -> None:
    key = private_key(kind_for(algorithm))
    first, second = sign(key, algorithm, OCTETS), sign(key, algorithm, b"something else")
    assert takes(backend, key, algorithm, second, b"something else")
    assert not takes(backend, key, algorithm, second, OCTETS)
    for octets in (b"", OCTETS[:-1], OCTETS + b"\0", OCTETS.upper()):
        assert not takes(backend, key, algorithm, first, octets)
    assert not takes(backend, another(key), algorithm, first, OCTETS)


def another(key: PrivateKey) -> PrivateKey:
    """A key of the same kind."""
    if isinstance(key, rsa.RSAPrivateKey):
        return rsa.generate_private_key(65537, key.key_size)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return ec.generate_private_key(key.curve)
    kinds = (
        ed25519.Ed25519PrivateKey,
        ed448.Ed448PrivateKey,
        mldsa.MLDSA44PrivateKey,
        mldsa.MLDSA65PrivateKey,
        mldsa.MLDSA87PrivateKey,
    )
    made: PrivateKey = next(each for each in kinds if isinstance(key, each)).generate()
    return made


@pytest.mark.parametrize(("backend", "algorithm"), verifying(), ids=title)
def test_not_by_another_algorithm(backend: str, algorithm: SignatureAlgorithm) -> None:
    """Nor does a key of another kind make it do anything but refuse."""
    key = private_key(kind_for(algorithm))
    signature = sign(key, algorithm, OCTETS)
    for other in ALGORITHMS:
        if other == algorithm or other.name not in VERIFIES[backend]:
            continue
        for kind in {kind_for(algorithm), kind_for(other)}:
            with pytest.raises((SignatureInvalid, OperatorError)):
                load_backend(backend).verify(public_key_info(private_key(kind)), other, signature, OCTETS)


@pytest.mark.parametrize("backend", [each for each in BACKENDS if VERIFIES[each]])
@pytest.mark.parametrize(
    "info",
    [
        b"",
        b"\x30",
        b"no key",
        public_key_info(private_key("P-256"))[:-1],
        # A point that is not on the curve.
        public_key_info(private_key("P-256"))[:-1] + b"\0\0",
        x25519.X25519PrivateKey.generate().public_key().public_bytes_raw(),
    ],
    ids=["empty", "begun", "text", "cut-off", "extended", "raw"],
)
def test_says_that_it_cannot_take_a_key_that_is_none(backend: str, info: bytes) -> None:
    algorithm = algorithms.choose_algorithm(private_key("P-256").public_key(), "")
    signature = sign(private_key("P-256"), algorithm, OCTETS)
    with pytest.raises(OperatorError, match="public key"):
        load_backend(backend).verify(info, algorithm, signature, OCTETS)


def rsa_key_info(modulus: int, exponent: int, *, unused_bits: int = 0, parameters: bytes = b"\x05\0") -> bytes:
    key = der.encode(der.SEQUENCE, integer(modulus), integer(exponent))
    identifier = der.encode(der.SEQUENCE, bytes.fromhex("06092a864886f70d010101"), parameters)
    return der.encode(der.SEQUENCE, identifier, der.encode(der.BIT_STRING, bytes([unused_bits]), key))


@pytest.mark.parametrize("backend", [each for each in BACKENDS if VERIFIES[each]])
def test_no_rsa_key_with_which_everything_verifies_nor_in_another_form(backend: str) -> None:
    key = private_key("RSA-2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    modulus = key.private_numbers().public_numbers.n
    digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(OCTETS).digest()
    encoded = b"\0\1" + b"\xff" * (256 - 3 - len(digest)) + b"\0" + digest
    for info in (
        rsa_key_info(modulus, 1),
        rsa_key_info(modulus, 0),
        rsa_key_info(modulus, modulus + 2),
        rsa_key_info(modulus, 65537, unused_bits=1),
        rsa_key_info(modulus, 65537, parameters=b"\x04\0"),
    ):
        with pytest.raises(OperatorError, match="public key"):
            load_backend(backend).verify(info, ALGORITHMS[0], encoded, OCTETS)
    with pytest.raises(SignatureInvalid):
        load_backend(backend).verify(rsa_key_info(modulus, 65537), ALGORITHMS[0], encoded, OCTETS)


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=PSS), ids=title)
def test_pss_not_by_a_key_that_is_too_short_for_it(backend: str, algorithm: SignatureAlgorithm) -> None:
    """RFC 8017 9.1.1 step 3: there is no such signature."""
    with pytest.raises(SignatureInvalid):
        load_backend(backend).verify(rsa_key_info((1 << 511) + 1, 65537), algorithm, b"\1" * 64, OCTETS)


# ECDSA


def integer(value: int, *, octets: int = 0, signed: bool = True) -> bytes:
    """An INTEGER; longer than it has to be where `octets` says so, and read as negative unless `signed`."""
    length = max(octets, (value.bit_length() + 8) // 8 if signed else (value.bit_length() + 7) // 8)
    return der.encode(der.INTEGER, value.to_bytes(length, "big"))


def pair(signature: bytes) -> tuple[int, int]:
    r, s = (each for _, each in der.elements(der.content(signature, der.SEQUENCE), at_most=2))
    return int.from_bytes(der.content(r, der.INTEGER), "big"), int.from_bytes(der.content(s, der.INTEGER), "big")


def ecdsa_signature(key: PrivateKey, algorithm: SignatureAlgorithm, *, high: bool = False) -> tuple[bytes, int, int]:
    """A signature with its two numbers; with `high`, the first octet of r would make it negative."""
    while True:
        signature = sign(key, algorithm, OCTETS)
        r, s = pair(signature)
        if not high or r.bit_length() % 8 == 0:
            return signature, r, s


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=ECDSA), ids=title)
def test_ecdsa_not_with_numbers_out_of_range(backend: str, algorithm: SignatureAlgorithm) -> None:
    key = private_key(kind_for(algorithm))
    order = ORDERS[kind_for(algorithm)]
    _, r, s = ecdsa_signature(key, algorithm)
    # X9.62 7.4: the other root is a signature too, so that this shows that pairs are encoded here as they should be.
    for good in ((r, s), (r, order - s)):
        assert takes(backend, key, algorithm, der.encode(der.SEQUENCE, *map(integer, good)), OCTETS)
    for bad in (
        (0, 0), (0, s), (r, 0), (1, 0), (0, 1), (1, 1),
        (r, s + order), (r + order, s), (r + order, s + order), (r, 2 * order - s),
        (order, s), (r, order), (order, order), (order - 1, order - 1), (r, order + 1), (1, order), (order, 1),
        (s, r), (r, r), (s, s), (r, s + 1), (r + 1, s), (r, 2**4096 + s), (2**4096 + r, s),
    ):  # fmt: skip
        signature = der.encode(der.SEQUENCE, *map(integer, bad))
        assert not takes(backend, key, algorithm, signature, OCTETS), bad


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=ECDSA), ids=title)
def test_ecdsa_not_but_in_der(backend: str, algorithm: SignatureAlgorithm) -> None:
    """BER that is no DER, and what is neither (X.690 8.1.3, 8.3.2, 10.1)."""
    key = private_key(kind_for(algorithm))
    signature, r, s = ecdsa_signature(key, algorithm, high=kind_for(algorithm) != "P-521")
    first, second = integer(r), integer(s)
    inside = first + second
    assert takes(backend, key, algorithm, der.encode(der.SEQUENCE, inside), OCTETS)
    size = len(inside).to_bytes(2, "big")
    wrong = {
        "a length in more octets than it needs": b"\x30\x82" + size + inside,
        "an indefinite length": b"\x30\x80" + inside + b"\0\0",
        "a length that is too short": b"\x30" + signature[1:2] + inside[:-1],
        "r with a zero in front": der.encode(der.SEQUENCE, integer(r, octets=len(first)), second),
        "s with a zero in front": der.encode(der.SEQUENCE, first, integer(s, octets=len(second))),
        "r with a length in more octets than it needs": der.encode(
            der.SEQUENCE, b"\x02\x82" + (len(first) - 2).to_bytes(2, "big") + first[2:], second
        ),
        "something behind s": der.encode(der.SEQUENCE, inside, b"\0"),
        "a third number": der.encode(der.SEQUENCE, inside, integer(1)),
        "NULL behind s": der.encode(der.SEQUENCE, inside, b"\x05\0"),
        "something behind all": der.encode(der.SEQUENCE, inside) + b"\0",
        "NULL behind all": der.encode(der.SEQUENCE, inside) + b"\x05\0",
        "only r": der.encode(der.SEQUENCE, first),
        "nothing inside": der.encode(der.SEQUENCE),
        "an empty s": der.encode(der.SEQUENCE, first, der.encode(der.INTEGER)),
        "an empty r": der.encode(der.SEQUENCE, der.encode(der.INTEGER), second),
        "a SET": der.encode(0x31, inside),
        "r as OCTET STRING": der.encode(der.SEQUENCE, der.encode(der.OCTET_STRING, first[2:]), second),
        "no SEQUENCE around": inside,
        "two numbers without DER": r.to_bytes(66, "big") + s.to_bytes(66, "big"),
        "a SEQUENCE around": der.encode(der.SEQUENCE, signature),
        "a BIT STRING around": der.encode(der.BIT_STRING, b"\0", signature),
        "minus r": der.encode(der.SEQUENCE, negative(r), second),
        "minus s": der.encode(der.SEQUENCE, first, negative(s)),
    }
    if r.bit_length() % 8 == 0:
        wrong["r without the zero that makes it positive"] = der.encode(der.SEQUENCE, integer(r, signed=False), second)
    assert [name for name, each in wrong.items() if takes(backend, key, algorithm, each, OCTETS)] == []


def negative(value: int) -> bytes:
    length = value.bit_length() // 8 + 1
    return der.encode(der.INTEGER, (-value).to_bytes(length, "big", signed=True))


# EdDSA


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=("Ed25519", "Ed448")), ids=title)
def test_eddsa_not_with_s_out_of_range(backend: str, algorithm: SignatureAlgorithm) -> None:
    """RFC 8032 5.1.7 and 5.2.7: S is less than the order of the group, or whoever has a signature can make another."""
    key = private_key(kind_for(algorithm))
    order = ORDERS[algorithm.name]
    signature = sign(key, algorithm, OCTETS)
    half = len(signature) // 2
    point, s = signature[:half], int.from_bytes(signature[half:], "little")
    assert s < order
    assert takes(backend, key, algorithm, point + s.to_bytes(half, "little"), OCTETS)
    multiples = [s + many * order for many in (1, 2, 3, 4, 5, 6, 7)]
    for bad in (*multiples, order, order - s, 0, 2 ** (8 * half) - 1):
        if bad < 2 ** (8 * half):
            assert not takes(backend, key, algorithm, point + bad.to_bytes(half, "little"), OCTETS), bad
    assert not takes(backend, key, algorithm, signature[half:] + signature[:half], OCTETS)
    # The coordinate of a point that is none: as large as the field and larger.
    for bad_point in (b"\xff" * half, b"\xff" * (half - 1) + b"\x7f", bytes(half)):
        assert not takes(backend, key, algorithm, bad_point + signature[half:], OCTETS)


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=("Ed448",)), ids=title)
def test_ed448_not_with_anything_in_the_last_octet(backend: str, algorithm: SignatureAlgorithm) -> None:
    """RFC 8032 5.2.7: S has 57 octets, of which the order of the group leaves the last one zero."""
    key = private_key("Ed448")
    signature = sign(key, algorithm, OCTETS)
    assert signature[-1] == 0
    taken = [last for last in range(1, 256) if takes(backend, key, algorithm, signature[:-1] + bytes([last]), OCTETS)]
    assert taken == []
