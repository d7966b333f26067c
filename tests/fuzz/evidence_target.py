"""What the fuzzer calls: any octets, read as what is signed by validators and operators, are a value or a clean no.

The first octet chooses what the rest is read as. What was read must be written as the same octets again, because
signatures and hashes are over them; and what verifies must be what a key of ours has signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.support import operators, statements
from tests.support.authorities import NOW, load_profile, server_request
from tests.support.evidence import ACCOUNT, STANDING, TestValidator
from tests.support.operators import BOOT_ID as ORDER_BOOT_ID
from tests.support.operators import PUBLIC_KEYS, confirm_clock
from tests.support.statements import VALIDATOR, VALIDATOR_KEY, attested, signed_observation

from cassiopeia.core import der, evidence, structure
from cassiopeia.core.csr import parse_certification_request
from cassiopeia.core.judgement import judge
from cassiopeia.core.rules import Rules
from cassiopeia.errors import PeerError, Refused, Unavailable
from cassiopeia.journal import order

ATTESTED = attested(0, [signed_observation()])
BATCH = statements.attestations([ATTESTED, *map(attested, range(1, 6))])
ALONE = statements.attestations([ATTESTED])
ORDERS = [confirm_clock(), operators.signed(confirm_clock(), 0), operators.signed(confirm_clock(reason=""), 0, 1, 2, 3)]

FRONT = TestValidator()
PROFILE = load_profile("0004-server")
WANTED = server_request(profile=PROFILE.name, account=ACCOUNT, request_id=b"r" * 32)
KEY = parse_certification_request(WANTED.key_proof)
PROVED = FRONT.prove_all(WANTED, PROFILE)
RULES = Rules(signer_id=1, profiles={}, authorities=(), validators={FRONT.key_id: FRONT.pinned})


def _observation(octets: bytes) -> bytes:
    said = evidence.read_observation(octets)
    signed = structure.decode(evidence.SignedObservation, octets)
    return structure.encode(evidence.SignedObservation(observation=structure.encode(said), signature=signed.signature))


def _true_observation(octets: bytes) -> bytes:
    evidence.verify_observation(octets, VALIDATOR)
    return evidence.sign_observation(evidence.read_observation(octets), VALIDATOR_KEY)


def _attestation(octets: bytes) -> bytes:
    return structure.encode(evidence.read_attestation(octets))


def _true_attestation(octets: bytes) -> bytes:
    said = evidence.read_attestation(octets)
    evidence.verify_attestation(
        said,
        ATTESTED,
        public_key=VALIDATOR,
        signer_id=statements.SIGNER_ID,
        boot_id=statements.BOOT_ID,
    )
    # Two requests share this signature; whose attestation it is, its place says.
    (again,) = (each for each in (*BATCH[:1], *ALONE) if evidence.read_attestation(each).size == said.size)
    return again


def _order(octets: bytes) -> bytes:
    said, arguments = order.read_order(octets)
    if not all(isinstance(words, str) for words in order.describe(said, arguments).values()):
        raise AssertionError(f"{said!r} cannot be put in words")
    if structure.encode(arguments) != said.arguments:
        raise AssertionError(f"{arguments!r} is not what {said!r} says")
    signed = order.read_signed(octets)
    return structure.encode(order.SignedOrder(order=structure.encode(said), signatures=signed.signatures))


def _true_order(octets: bytes) -> bytes:
    order.verify_order(
        octets,
        operators=PUBLIC_KEYS,
        quorum=1,
        signer_id=1,
        boot_id=ORDER_BOOT_ID,
        last_sequence=0,
    )
    # Who else has signed is free, and so is the place of each signature.
    if order.read_signed(octets).order not in [order.read_signed(each).order for each in ORDERS]:
        raise AssertionError(f"{octets.hex()} verifies, and nobody has signed it")
    return octets


def _judged(octets: bytes) -> bytes:
    proofs = tuple(proof for _, proof in der.elements(octets, at_most=evidence.MAXIMUM_PROOFS))
    judge(
        replace(WANTED, proofs=proofs),
        profile=PROFILE,
        key=KEY,
        rules=RULES,
        standing=STANDING,
        now=NOW,
    )
    # Nothing else proves it than what was made for it, in this order.
    return b"".join(PROVED.proofs)


READERS: list[Callable[[bytes], bytes]] = [
    _observation,
    _true_observation,
    _attestation,
    _true_attestation,
    _order,
    _true_order,
    _judged,
]


def exercise_evidence(octets: bytes) -> int:
    """Read these octets as the first of them says; 1 for a value, -1 for a fault."""
    if not octets:
        return 0
    read = READERS[octets[0] % len(READERS)]
    try:
        again = read(octets[1:])
    except (PeerError, Refused, Unavailable):
        return -1
    if again != octets[1:]:
        raise AssertionError(f"{octets[1:].hex()} was read and written as {again.hex()}")
    return 1


def evidence_seeds() -> Iterator[bytes]:
    """At least one good input for each reader."""
    observations = [
        signed_observation(),
        signed_observation(kind="organisation", value="C=AT\nO=Übung & Co\nOU=", account="", method="", table=""),
        signed_observation(kind="caa-permits", value="*." + ".".join(["x" * 60] * 4)),
    ]
    good = [(reader, octets) for reader in (0, 1) for octets in observations]
    good += [(2, octets) for octets in (*BATCH, *ALONE)]
    good += [(3, octets) for octets in (BATCH[0], *ALONE)]
    good += [(4, octets) for octets in ORDERS]
    good += [(5, octets) for octets in ORDERS[1:]]
    good.append((6, b"".join(PROVED.proofs)))
    for reader, octets in good:
        yield bytes([reader]) + octets
