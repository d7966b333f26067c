"""The sample of badkeys that shares a prime with keys of the wild, met after another key with that prime."""

from __future__ import annotations

from tests.support.badkeys import SAMPLES, modulus
from tests.support.known_keys import prime

from cassiopeia.core.shared_factors import PythonArithmetic, SeenModuli


def octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def test_a_key_that_shares_its_prime_is_found_and_a_sound_one_is_not() -> None:
    shared = int((SAMPLES / "primes2048-one.txt").read_text(), 16)
    weak, sound = octets(modulus("rsa-sharedprimes.key")), octets(modulus("rsa-ok.key"))
    other = octets(shared * prime(0))
    seen = SeenModuli(PythonArithmetic())
    seen.remember([octets(prime(1) * prime(2)), other])
    assert seen.examine([sound, weak]) == [(), (other,)]
