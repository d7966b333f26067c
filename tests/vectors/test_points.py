"""Points that are no public keys, and small multiples of generators, as others have published them.

- Points of P-256: C2SP/wycheproof, testvectors_v1/ecdh_secp256r1_ecpoint_test.json, tests 337 to 355 ("point is not on
  curve", "invalid public key", "public key is a low order point on twist").
- Multiples of the generator of P-256: http://point-at-infinity.org/ecc/nisttv.
- Ed25519: the points of small order, and their encodings that are not canonical, from table 5 of Chalkias, Garillot,
  Nikolaenko: Taming the many EdDSAs (IACR ePrint 2020/1244), with messages and signatures that many libraries take for
  good from novifinancial/ed25519-speccheck, cases.txt (tests 0, 1, 10 and 11).
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.support import hostile_requests as made

from cassiopeia.core.csr import parse_certification_request, parse_spkac
from cassiopeia.core.keycheck import check_strength
from cassiopeia.errors import Refused

P = "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff"
P_MINUS_1 = P[:-1] + "e"
ZERO, ONE = "00" * 32, "00" * 31 + "01"

NOT_ON_P256 = [
    *("04" + ONE + ONE, "04" + ONE + P_MINUS_1, "04" + ONE + P),
    *("04" + P_MINUS_1 + y for y in (ZERO, ONE, P_MINUS_1, P)),
    *("04" + P + y for y in (ZERO, ONE, P_MINUS_1, P)),
    "",
    "02fd4bf61763b46581fd9174d623516cf3c81edd40e29ffa2777fb6cb0ae3ce535",
]
ON_ITS_TWIST = [
    "03efdde3b32872a9effcf3b94cbf73aa7b39f9683ece9121b9852167f4e3da609b",
    "02efdde3b32872a9effcf3b94cbf73aa7b39f9683ece9121b9852167f4e3da609b",
    "02c49524b2adfd8f5f972ef554652836e2efb2d306c6d3b0689234cec93ae73db5",
    "0318f9bae7747cd844e98525b7ccd0daf6e1d20a818b2175a9a91e4eae5343bc98",
    "0218f9bae7747cd844e98525b7ccd0daf6e1d20a818b2175a9a91e4eae5343bc98",
    "03c49524b2adfd8f5f972ef554652836e2efb2d306c6d3b0689234cec93ae73db5",
]
AT_INFINITY = ["00", "04" + ZERO + ZERO, "00" + ZERO, "02" + ZERO[:-2] + "00" * 2]

MULTIPLES_ON_P256 = [  # x, y
    (
        "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    ),
    (
        "7cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978",
        "07775510db8ed040293d9ac69f7430dbba7dade63ce982299e04b79d227873d1",
    ),
    (
        "5ecbe4d1a6330a44c8f7ef951d4bf165e6c6b721efada985fb41661bc6e7fd6c",
        "8734640c4998ff7e374b06ce1a64a2ecd82ab036384fb83d9a79b127a27d5032",
    ),
]

SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    # x = 0 with the sign of a negative one: RFC 8032 5.1.3 forbids it
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]
NOT_CANONICAL = [
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]
# Key, message, the two halves of the signature.
TAKEN_FOR_GOOD = [
    (
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        ZERO,
    ),
    (
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    (
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc",
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
]


@pytest.mark.parametrize("point", [*NOT_ON_P256, *ON_ITS_TWIST, *AT_INFINITY])
def test_the_library_loads_no_point_that_is_not_on_its_curve(point: str) -> None:
    """So that it need not be checked again: neither in a request, nor in a SPKAC."""
    information = made.ec_key_info(bytes.fromhex(point))
    for octets, parse in (
        (made.certification_request(key_info=information), parse_certification_request),
        (made.spkac(key_info=information), parse_spkac),
    ):
        with pytest.raises(Refused) as refusal:
            parse(octets)
        assert refusal.value.code == "key-unsupported"


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1()])
def test_the_library_loads_no_point_of_another_curve(curve: ec.EllipticCurve) -> None:
    numbers = ec.generate_private_key(curve).public_key().public_numbers()
    for x, y in ((numbers.x, numbers.y), (numbers.x % 2**256, numbers.y % 2**256)):
        with pytest.raises(ValueError, match="curve"):
            ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


@pytest.mark.parametrize(("x", "y"), MULTIPLES_ON_P256)
def test_multiples_of_the_generator(x: str, y: str) -> None:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex("04" + x + y))
    with pytest.raises(Refused) as refusal:
        check_strength(key)
    assert refusal.value.code == "key-guessable"


@pytest.mark.parametrize(
    ("octets", "code"),
    [*((each, "key-point") for each in SMALL_ORDER), *((each, "key-encoding") for each in NOT_CANONICAL)],
)
def test_ed25519_keys_under_which_anybody_can_sign(octets: str, code: str) -> None:
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(octets))  # the library looks at none of this
    with pytest.raises(Refused) as refusal:
        check_strength(key)
    assert refusal.value.code == code


@pytest.mark.parametrize(("key", "message", "point", "scalar"), TAKEN_FOR_GOOD)
def test_the_signature_alone_would_not_tell(key: str, message: str, point: str, scalar: str) -> None:
    """A reason for the check: OpenSSL verifies these, as far as it takes part in the many EdDSAs."""
    public_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
    public_key.verify(bytes.fromhex(point + scalar), bytes.fromhex(message))
