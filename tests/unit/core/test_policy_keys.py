"""The key checks where they decide: in `policy.decide`, for requests of both kinds, whoever has parsed them before."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support import hostile_requests as made
from tests.support.authorities import NOW, default_authority, load_profile, server_request
from tests.support.badkeys import SAMPLES, modulus
from tests.support.known_keys import certification_request, public_octets, rsa_key

from cassiopeia.core.authority import Authority
from cassiopeia.core.csr import parse_certification_request
from cassiopeia.core.policy import ApprovedRequest, decide
from cassiopeia.core.request import CertificateRequest, KeyKind
from cassiopeia.core.rules import Rules, Standing
from cassiopeia.core.weak_keys import WeakKeyList
from cassiopeia.errors import Refused

PROFILE = load_profile("9004-unproved-server")
# The key of RSA 2048 that badkeys made with primes close together, and a whole request by it.
CLOSE_PRIMES = (SAMPLES / "rsa-fermat.csr").read_bytes()


def judge(
    request: CertificateRequest,
    *,
    weak_keys: tuple[WeakKeyList, ...] = (),
    blocked: bytes = b"",
    authority: Authority | None = None,
) -> ApprovedRequest:
    return decide(
        request,
        rules=Rules(
            signer_id=1,
            profiles={PROFILE.name: PROFILE},
            authorities=(authority or default_authority(),),
            weak_keys=weak_keys,
        ),
        standing=Standing(blocked_keys=frozenset({hashlib.sha256(blocked).digest()})),
        now=NOW,
        serial_entropy=bytes(range(15)),
        issued={},
        version=2,
    )


def request_of(kind: KeyKind, key: ec.EllipticCurvePrivateKey) -> CertificateRequest:
    def sign(octets: bytes) -> bytes:
        return key.sign(octets, ec.ECDSA(hashes.SHA256()))

    make = made.certification_request if kind == "csr" else made.spkac
    return server_request(key_kind=kind, key_proof=make(key_info=made.public_key_info(key), sign=sign))


@pytest.mark.parametrize("kind", ["csr", "spkac"])
def test_a_key_near_zero_is_refused_although_its_owner_has_signed_with_it(kind: KeyKind) -> None:
    judge(request_of(kind, ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(Refused) as refusal:
        judge(request_of(kind, ec.derive_private_key(12345, ec.SECP256R1())))
    assert (refusal.value.code, refusal.value.field) == ("key-guessable", "key")


def test_a_request_that_somebody_else_made_with_a_weak_key() -> None:
    with pytest.raises(Refused) as refusal:
        judge(server_request(key_proof=CLOSE_PRIMES))
    assert refusal.value.code == "key-close-primes"


@pytest.mark.parametrize("kind", ["csr", "spkac"])
def test_a_key_on_a_list_is_refused(kind: KeyKind) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    number = key.public_key().public_numbers().x
    digest = hashlib.sha256(number.to_bytes((number.bit_length() + 7) // 8, "big")).digest()[:15]
    lists = WeakKeyList(name="blocklist.dat", format="badkeys", records=[digest + b"\0"])
    judge(request_of(kind, key))
    with pytest.raises(Refused) as refusal:
        judge(request_of(kind, key), weak_keys=(lists,))
    assert refusal.value.code == "key-published"


def test_what_the_operators_have_blocked_is_said_before_what_is_wrong_with_it() -> None:
    """The cheapest check comes first, and each has a code of its own."""
    digits = f"Modulus={modulus('rsa-fermat.csr'):X}\n".encode()
    line = hashlib.sha1(digits, usedforsecurity=False).digest()[10:]
    lists = (WeakKeyList(name="blacklist.RSA-2048", format="openssl-blacklist", records=[line]),)
    request = server_request(key_proof=CLOSE_PRIMES)
    with pytest.raises(Refused) as refusal:
        judge(request, weak_keys=lists)
    assert refusal.value.code == "key-published"
    key = parse_certification_request(CLOSE_PRIMES)  # parsing alone needs no list, and looks for nothing of this
    with pytest.raises(Refused) as refusal:
        judge(request, weak_keys=lists, blocked=key.subject_public_key_info)
    assert refusal.value.code == "key-blocked"


@pytest.mark.parametrize("exponent", [65537, 65539])
def test_a_key_that_is_blocked_is_blocked_with_any_exponent(exponent: int) -> None:
    request = server_request(key_proof=certification_request(rsa_key(0, 1, exponent=exponent)))
    judge(request)
    judge(request, blocked=public_octets(rsa_key(2, 3)))
    for blocked in {65537, exponent}:
        with pytest.raises(Refused) as refusal:
            judge(request, blocked=public_octets(rsa_key(0, 1, exponent=blocked)))
        assert refusal.value.code == "key-blocked"


@pytest.mark.parametrize("exponents", [(65537, 65537), (65539, 65537), (65539, 65539)])
def test_the_key_of_a_sub_ca_is_its_own_with_any_exponent(exponents: tuple[int, int]) -> None:
    asked, own = exponents
    authority = dataclasses.replace(default_authority(), public_key=rsa_key(0, 1, exponent=own).public_key())
    judge(server_request(key_proof=certification_request(rsa_key(0, 2))), authority=authority)
    with pytest.raises(Refused) as refusal:
        judge(
            server_request(key_proof=certification_request(rsa_key(0, 1, exponent=asked))),
            authority=authority,
        )
    assert refusal.value.code == "key-blocked"
