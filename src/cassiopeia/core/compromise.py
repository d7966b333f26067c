"""The proof that a key is compromised: a statement about one certificate, signed by that certificate's own key.

Whoever can make one holds the private key, and that is the fact to be proved, whoever it is. Owns the statement and
how it is verified, not what follows from it. It names the certificate by its serial number and by the hash of its
TBSCertificate (RFC 5280 4.1), so that it says nothing about another certificate for the same key, by whichever
authority, and its tag keeps it apart from everything else that the key may ever have signed. It does not grow old: who
is careful makes one beforehand, and keeps it for the day on which the key is lost.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cassiopeia.core import algorithms, structure
from cassiopeia.core.key_identity import certified_key_info
from cassiopeia.errors import Refused, SignatureInvalid

COMPROMISE_TAG: Final = b"cassiopeia/2 compromised key\0"
KEY_COMPROMISE: Final = 1
"""The only CRLReason that goes with such a proof (RFC 5280 5.3.1)."""

# What the library raises for a key that it cannot use, or that cannot verify.
_UNUSABLE: Final = (ValueError, TypeError, OverflowError, UnsupportedAlgorithm, InternalError)


@dataclass(frozen=True, kw_only=True, slots=True)
class CompromisedKey:
    """What is signed, behind the tag. `tbs_hash` is SHA-256 of the TBSCertificate."""

    serial_number: int
    tbs_hash: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class CompromiseClaim:
    """A signature that has yet to be verified, and the certificate that it is about; `serial_number` has 16 octets."""

    serial_number: bytes
    tbs_certificate: bytes
    proof: bytes


def compromise_statement(serial_number: int, tbs_certificate: bytes) -> bytes:
    """The octets to be signed. RSA: PKCS#1 1.5 with SHA-256; ECDSA: the hash of the curve; other keys have theirs."""
    said = CompromisedKey(serial_number=serial_number, tbs_hash=hashlib.sha256(tbs_certificate).digest())
    return COMPROMISE_TAG + structure.encode(said)


def check_compromise(claim: CompromiseClaim) -> None:
    """Raise Refused (`proof-invalid`, the field is the serial number) unless the certificate's own key has signed."""
    number = int.from_bytes(claim.serial_number, "big")
    statement = compromise_statement(number, claim.tbs_certificate)
    try:
        key = load_der_public_key(certified_key_info(claim.tbs_certificate))
        algorithms.verify(key, algorithms.algorithms_for(key)[0], claim.proof, statement)
    except (SignatureInvalid, Refused, *_UNUSABLE) as error:
        raise Refused(
            f"The proof that the key of certificate {number:x} is compromised is not signed by that key, or not over "
            "the statement about this certificate; make it anew with the certificate's own key.",
            code="proof-invalid",
            field=f"{number:x}",
        ) from error
