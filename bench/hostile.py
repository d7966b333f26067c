"""What one request can cost a worker of the signer, in CPU time: the worst of what is let through, and refused."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.authorities import NOW, alt_names, default_authority, load_profile, server_request
from tests.support.evidence import ACCOUNT, REQUEST_ID, STANDING, TestValidator
from tests.support.signer import MemoryKeys

from cassiopeia.core import csr, der, evidence, keycheck
from cassiopeia.core.request import CertificateRequest
from cassiopeia.core.rules import Rules
from cassiopeia.signer.tasks import Decide, Decided, Deferred, Denied
from cassiopeia.signer.worker import Worker

_NAMES = 250
_REPETITIONS = 5
_SHA256_WITH_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")
# RFC 8017 9.2: what stands before a SHA-256 in a signature.
_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
_EMPTY_NAME, _VERSION_1, _NO_ATTRIBUTES = b"\x30\x00", b"\x02\x01\x00", b"\xa0\x00"

_VALIDATOR = TestValidator()
_STRANGER = TestValidator(b"s")
_PROFILE = dataclasses.replace(load_profile("0004-server"), maximum_alt_names=_NAMES, whole_domain=True)
_UNPROVED = load_profile("9004-unproved-server")
_RULES = Rules(
    signer_id=1,
    profiles={each.name: each for each in (_PROFILE, _UNPROVED)},
    authorities=(default_authority(),),
    validators={_VALIDATOR.key_id: _VALIDATOR.pinned},
)


def main(*, quick: bool) -> None:
    print("\nOne request in a worker of the signer: milliseconds of CPU")
    worker = Worker(rules=_RULES, keys=MemoryKeys({}))
    names = tuple(f"DNS,{'.'.join('a' * 90)}.{number:03}.example.org" for number in range(_NAMES))
    unproved = server_request(profile=_UNPROVED.name, account=ACCOUNT, request_id=REQUEST_ID)
    ordinary = dataclasses.replace(unproved, profile=_PROFILE.name)
    many = dataclasses.replace(ordinary, attributes=(), alt_names=alt_names(*names))
    senseless = tuple(
        _VALIDATOR.observe("dns-control", f"{number}.example.org", account=ACCOUNT)
        for number in range(evidence.MAXIMUM_PROOFS - 1)
    )
    cases: dict[str, CertificateRequest] = {
        "ordinary: P-256, two names, four proofs": _VALIDATOR.prove_all(ordinary, _PROFILE),
        f"{_NAMES} deep names, {2 * _NAMES} proofs": _VALIDATOR.prove_all(many, _PROFILE),
        "512 proofs, attested by nobody known": _STRANGER.prove(many, *senseless),
        "512 proofs, attested, of other names": _VALIDATOR.prove(many, *senseless),
        "a request of 64 KiB": dataclasses.replace(unproved, key_proof=_largest()),
        "RSA-3072, an exponent of 256 bits": dataclasses.replace(unproved, key_proof=_rsa_request(3072, 256)),
    }
    if not quick:  # such a key takes a while to make
        key_proof = _rsa_request(keycheck.MAXIMUM_RSA_BITS, 64)
        cases["RSA-8192, an exponent of 64 bits"] = dataclasses.replace(unproved, key_proof=key_proof)
    for name, request in cases.items():
        spent, outcome = _cost(worker, request)
        print(f"  {name:42}{1000 * spent:9.2f}  {outcome}", flush=True)


def _cost(worker: Worker, request: CertificateRequest) -> tuple[float, str]:
    best, outcome = math.inf, ""
    for _ in range(_REPETITIONS):
        evidence._verify.cache_clear()  # noqa: SLF001 - every signature is met for the first time
        began = time.process_time()
        answer = worker.carry_out(Decide(task=1, request=request, version=2, now=NOW, issued={}, standing=STANDING))
        best = min(best, time.process_time() - began)
        outcome = "approved" if isinstance(answer, Decided) else ""
        if isinstance(answer, Denied | Deferred):
            outcome = answer.code
    return best, outcome


def _largest() -> bytes:
    """A sound request whose attributes, which nobody reads, fill it up."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    filler = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(csr.MAXIMUM_REQUEST_OCTETS - 300))
    return builder.add_extension(filler, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _rsa_request(bits: int, exponent_bits: int) -> bytes:
    """A request by a key with such an exponent, which no library makes."""
    numbers = rsa.generate_private_key(65537, bits).private_numbers()
    modulus, totient = numbers.public_numbers.n, (numbers.p - 1) * (numbers.q - 1)
    exponent = (1 << exponent_bits) - 1
    while math.gcd(exponent, totient) != 1:
        exponent -= 2
    public_key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    key_info = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    information = der.encode(der.SEQUENCE, _VERSION_1, _EMPTY_NAME, key_info, _NO_ATTRIBUTES)
    digest = _DIGEST_INFO + hashlib.sha256(information).digest()
    padded = b"\0\1" + digest.rjust(bits // 8 - 3, b"\xff")[: -len(digest)] + b"\0" + digest
    signature = pow(int.from_bytes(padded, "big"), pow(exponent, -1, totient), modulus)
    return der.encode_signed(information, _SHA256_WITH_RSA, signature.to_bytes(bits // 8, "big"))
