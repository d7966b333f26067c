"""Whether a key is that of its sub-CA's certificate: shown by a signature, before anything relies on it."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia.core import algorithms
from cassiopeia.core.authority import Authority
from cassiopeia.errors import OperatorError, SignatureInvalid
from cassiopeia.signer.keystore.interface import KeyStore

_CHALLENGE: Final = b"cassiopeia: proof of possession"


def prove_key(keys: KeyStore, authority: Authority, uri: str) -> None:
    """Make the key at `uri` known by the name of its sub-CA; raises OperatorError unless it is this sub-CA's."""
    keys.add(authority.name, uri)
    expected = authority.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if keys.subject_public_key_info(authority.name) != expected:
        raise OperatorError(f"{authority.name}: the key {uri} does not belong to this sub-CA's certificate")
    algorithm = algorithms.choose_algorithm(authority.public_key, "", pss=authority.pss)
    try:
        signature = keys.sign(authority.name, algorithm, _CHALLENGE)
        algorithms.verify(authority.public_key, algorithm, signature, _CHALLENGE)
    except SignatureInvalid as error:
        raise OperatorError(
            f"{authority.name}: the key {uri} makes wrong signatures: it is damaged, restore it from its backup"
        ) from error
