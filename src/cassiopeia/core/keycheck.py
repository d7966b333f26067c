"""Public keys: which ones may be certified at all.

Owns sizes, curves and exponents, which are judged in a microsecond, so that a hostile key is turned away before
anything slow is done with it; and the way from a key to the checks of its strength, in `moduli` and `points`. Knows
nothing of other keys, lists or history. RSA: CA/Browser Forum Baseline Requirements 6.1.5 and 6.1.6, NIST SP 800-89
5.3.3; EC: RFC 5480; Ed25519: RFC 8410; ML-DSA: RFC 9881.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from cassiopeia.core.moduli import check_modulus
from cassiopeia.core.points import check_ed25519, check_not_small_multiple
from cassiopeia.errors import Refused

MINIMUM_RSA_BITS: Final = 2048
# Whoever verifies a certificate pays for its key: beyond this some libraries stop, and all are slow.
MAXIMUM_RSA_BITS: Final = 8192
_MINIMUM_EXPONENT: Final = 65537  # BR 6.1.6: from 2^16 + 1 to 2^256 - 1, odd
_MAXIMUM_EXPONENT_BITS: Final = 256

_CURVES: Final[Mapping[str, str]] = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_USE: Final = "use RSA with 3072 bits, P-256, P-384 or Ed25519"


def check_public_key(public_key: PublicKeyTypes) -> str:
    """Describe a key that may be certified, as "RSA-2048", "P-256", "Ed25519" or "ML-DSA-65"; else raise Refused."""
    match public_key:
        case rsa.RSAPublicKey():
            numbers = public_key.public_numbers()
            _check_rsa(numbers.n, numbers.e)
            return f"RSA-{numbers.n.bit_length()}"
        case ec.EllipticCurvePublicKey():
            curve = public_key.curve.name
            if curve not in _CURVES:
                raise Refused(
                    f"Keys on the curve {curve} are not certified; {_USE}.", code="key-unsupported", field="key"
                )
            return _CURVES[curve]
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case mldsa.MLDSA44PublicKey():
            return "ML-DSA-44"
        case mldsa.MLDSA65PublicKey():
            return "ML-DSA-65"
        case mldsa.MLDSA87PublicKey():
            return "ML-DSA-87"
        case _:
            raise Refused(f"Keys of this kind are not certified; {_USE}.", code="key-unsupported", field="key")


def check_strength(public_key: PublicKeyTypes) -> None:
    """Raise Refused for a key whose private half anybody can find from its numbers.

    Only for what `check_public_key` has let pass, and best after the request's own signature is verified: this takes
    0.1 to 0.2 ms, a few times as long.
    """
    match public_key:
        case rsa.RSAPublicKey():
            check_modulus(public_key.public_numbers().n)
        case ec.EllipticCurvePublicKey():
            numbers = public_key.public_numbers()
            check_not_small_multiple(_CURVES[public_key.curve.name], numbers.x, numbers.y)
        case ed25519.Ed25519PublicKey():
            check_ed25519(public_key.public_bytes_raw())
        case _:
            pass  # ML-DSA: nothing of this kind is known of it


def _check_rsa(modulus: int, exponent: int) -> None:
    bits = modulus.bit_length()
    if bits < MINIMUM_RSA_BITS:
        raise Refused(
            f"The RSA key has {bits} bits, too few to be safe; make one with 3072 bits.", code="key-weak", field="key"
        )
    if bits > MAXIMUM_RSA_BITS:
        raise Refused(
            f"The RSA key has {bits} bits, more than {MAXIMUM_RSA_BITS}; make one with 3072 or 4096 bits.",
            code="key-unsupported",
            field="key",
        )
    if bits % 8:
        raise Refused(
            f"The RSA key has {bits} bits, which is not a multiple of 8; make one with 3072 bits.",
            code="key-weak",
            field="key",
        )
    if exponent < _MINIMUM_EXPONENT or exponent.bit_length() > _MAXIMUM_EXPONENT_BITS or not exponent & 1:
        raise Refused(
            "The RSA key's public exponent is not an odd number from 65537 to 2^256; make a key with the usual 65537.",
            code="key-weak",
            field="key",
        )
    # No library need be trusted to compute with such a number; other factors are for `check_strength`.
    if not modulus & 1:
        raise Refused(
            "The RSA key's modulus is even, so anybody can factor it; make a new key with another program.",
            code="key-weak",
            field="key",
        )
