"""The key checks beside those of badkeys, which somebody else wrote: both must say the same of the same keys.

Its lists are not used (it would fetch them): for those its own reader reads what we make.
"""

from __future__ import annotations

import math
import random

import badkeys
import pytest
from badkeys.allkeys import block
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.badkeys import SAMPLES, sample

from cassiopeia.core import moduli, weak_keys
from cassiopeia.core.moduli import SMALL_FACTOR_BOUND, check_modulus
from cassiopeia.core.weak_keys import WeakKeyList, check_not_published
from cassiopeia.errors import Refused

CHECKS = {"key-roca": "roca", "key-close-primes": "fermat", "key-small-factor": "smallfactors"}


def verdict(modulus: int) -> str:
    try:
        check_modulus(modulus)
    except Refused as refusal:
        return CHECKS[refusal.code]
    return ""


def verdicts_of_badkeys(modulus: int) -> set[str]:
    """Without small factors between our bound and its own, which is 65537."""
    found = set(badkeys.checkrsa(modulus, checks=list(CHECKS.values())))
    if "smallfactors" in found and math.gcd(modulus, math.prod(moduli.primes(3, SMALL_FACTOR_BOUND))) == 1:
        found.remove("smallfactors")
    return found


def modulus_of(name: str) -> int:
    key = sample(name)
    assert isinstance(key, rsa.RSAPublicKey)
    return key.public_numbers().n


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.glob("rsa-*")))
def test_the_samples(name: str) -> None:
    modulus = modulus_of(name)
    assert verdict(modulus) in (verdicts_of_badkeys(modulus) or {""})


def test_close_primes_at_every_distance_up_to_its_last_round() -> None:
    """But for the last rounds: badkeys tries one number more."""
    random_numbers = random.Random(1)  # noqa: S311 - the same numbers each time
    found = 0
    for rounds in range(0, 99, 3):
        mean = random_numbers.getrandbits(1024) | 1 << 1023 | 1
        difference = math.isqrt(2 * mean * rounds + mean) & ~1
        modulus = mean**2 - difference**2
        theirs = verdicts_of_badkeys(modulus)
        assert ("fermat" in theirs) == ("fermat" in verdict_of_fermat(modulus))
        found += "fermat" in theirs
    assert found == 33


def verdict_of_fermat(modulus: int) -> str:
    try:
        moduli._check_close_primes(modulus)
    except Refused:
        return "fermat"
    return ""


def test_roca_of_moduli_with_the_fingerprint_and_of_others_near_it() -> None:
    """Made of powers of 65537 modulo the product of the primes, which is all that the fingerprint is."""
    product = math.prod(moduli.primes(3, 167))
    for exponent in range(50):
        power = pow(65537, exponent * 999_983, product)
        infected = power + product * ((1 << 1800) + (power + 1) % 2)  # odd, as every modulus is
        for modulus in (infected, infected + 2, infected + 2 * 167 * 163):
            try:
                moduli._check_roca(modulus)
                ours = False
            except Refused:
                ours = True
            assert ours == bool(badkeys.checkrsa(modulus, checks=["roca"])), hex(modulus)
            assert ours == (modulus == infected)


KEYS: dict[str, PublicKeyTypes] = {
    "RSA": sample("rsa-debianweak.key"),
    "P-256": sample("ec-p256-rfc-example.key"),
    "P-384": ec.generate_private_key(ec.SECP384R1()).public_key(),
    "P-521": ec.generate_private_key(ec.SECP521R1()).public_key(),
    "P-521 with a short x": ec.derive_private_key(1, ec.SECP521R1()).public_key(),
    "Ed25519": sample("ed25519-rfc-example.key"),
    "Ed25519 with zeros in front": ed25519.Ed25519PublicKey.from_public_bytes(bytes(2) + bytes(range(1, 31))),
    "ML-DSA-44": sample("mldsa44.key"),
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate().public_key(),
    "ML-DSA-87": mldsa.MLDSA87PrivateKey.generate().public_key(),
}


# badkeys asks each key whether it is of a kind that the library is going to drop.
@pytest.mark.filterwarnings(
    "ignore:Diffie-Hellman over finite fields:cryptography.utils.CryptographyDeprecationWarning"
)
def test_its_reader_finds_in_our_records_what_ours_does(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = weak_keys._badkeys_digest
    listed = dict(list(KEYS.items())[::2])
    records = sorted(digest(key) + b"\7" for key in listed.values())
    ours = WeakKeyList(name="blocklist.dat", format="badkeys", records=records, collections={7: "rfc"})
    monkeypatch.setattr(block, "_bldata", b"".join(records))
    monkeypatch.setattr(block, "_blmeta", {7: {"id": 7, "name": "rfc"}})

    for name, key in KEYS.items():
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        theirs = badkeys.checkpubkey(pem, checks=["blocklist"])["results"]
        assert [each["subtest"] for each in theirs.values()] == (["rfc"] if name in listed else [])
        if name in listed:
            with pytest.raises(Refused, match=r"\(blocklist.dat, rfc\)"):
                check_not_published(key, [ours])
        else:
            check_not_published(key, [ours])
