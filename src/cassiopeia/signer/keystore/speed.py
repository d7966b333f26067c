"""How many signatures a second each crypto library makes on this machine: what `cassiopeia backend bench` measures.

One thread, one key. Libraries take turns in short rounds, so that whatever else the machine does meets all of them: the
ratio of two figures of one run says more than either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm, algorithms_for
from cassiopeia.core.key_uri import Pkcs11Uri
from cassiopeia.errors import OperatorError
from cassiopeia.signer.keystore.ca_key import CA_KEY_ALGORITHMS
from cassiopeia.signer.keystore.interface import Backend, CaKey, KeyStore
from cassiopeia.signer.keystore.trial_keys import TrialKeys, key_algorithm_for

_ROUNDS: Final = 5
# A TBSCertificate is about as long.
_OCTETS: Final = bytes(1000)
_RSA: Final = "RSA"
_RSA_HASH: Final = "sha256"
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """What one library (or the token that is named in its place) does in a second with one kind of key."""

    key_algorithm: str
    algorithm: SignatureAlgorithm
    by: str
    a_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Contestant:
    """Somebody who is measured, with a key of each key algorithm that it signs with."""

    name: str
    backend: Backend
    keys: Mapping[str, CaKey]


def file_contestant(backend: Backend, store: KeyStore, trial: TrialKeys, key_algorithms: Sequence[str]) -> Contestant:
    """A library with the trial's key files, as far as it knows their kinds."""
    kinds = {each.key_kind if each.key_kind == _RSA else key_algorithm_for(each) for each in backend.signs}
    return Contestant(
        name=backend.name,
        backend=backend,
        keys={
            each: store.open(trial.key(each))
            for each in key_algorithms
            if (_RSA if each.startswith(_RSA) else each) in kinds
        },
    )


def token_contestants(backend: Backend, store: KeyStore, uris: Sequence[Pkcs11Uri]) -> list[Contestant]:
    """Each token with its keys that are named; raises OperatorError for a key of a kind that nobody else has."""
    keys: dict[str, dict[str, CaKey]] = {}
    for uri in uris:
        key = store.open(uri)
        of_token, kind = keys.setdefault(uri.token or uri.serial, {}), key_algorithm_of(key)
        if kind in of_token:
            raise OperatorError(f"{uri}: name one {kind} key of this token, for all are as quick")
        of_token[kind] = key
    return [Contestant(name=name, backend=backend, keys=each) for name, each in keys.items()]


def key_algorithm_of(key: CaKey) -> str:
    """Which of `ca_key.CA_KEY_ALGORITHMS` it is of; raises OperatorError for none."""
    public_key = load_der_public_key(key.public_key_info)
    name = algorithms_for(public_key)[0].key_kind
    if isinstance(public_key, rsa.RSAPublicKey):
        name = f"RSA-{public_key.key_size}"
    elif isinstance(public_key, ec.EllipticCurvePublicKey):
        name = _CURVES[public_key.curve.name]
    if name not in CA_KEY_ALGORITHMS:
        raise OperatorError(f"nothing is measured with a key of {name}: take one of {', '.join(CA_KEY_ALGORITHMS)}")
    return name


def measure(contestants: Sequence[Contestant], key_algorithms: Sequence[str], *, seconds: float) -> Iterator[Figure]:
    """Signatures a second: so many seconds for each figure, the contestants taking turns."""
    for key_algorithm in key_algorithms:
        taking_part = [each for each in contestants if key_algorithm in each.keys]
        for algorithm in _algorithms(taking_part, key_algorithm):
            turns = {
                each.name: _signing(each.keys[key_algorithm], algorithm)
                for each in taking_part
                if algorithm in each.keys[key_algorithm].algorithms
            }
            yield from _figures(key_algorithm, algorithm, turns, seconds)


def measure_verifying(
    contestants: Sequence[Contestant], key_algorithms: Sequence[str], *, seconds: float
) -> Iterator[Figure]:
    """Verifications a second, of one signature by the first contestant that has such a key."""
    for key_algorithm in key_algorithms:
        for algorithm in _algorithms(contestants, key_algorithm):
            key = next(each.keys[key_algorithm] for each in contestants if _signs(each, key_algorithm, algorithm))
            signature = key.sign(algorithm, _OCTETS)
            # Tokens share one library, which does not verify faster for one of them.
            turns = {
                each.backend.name: _verifying(each.backend, key.public_key_info, algorithm, signature)
                for each in contestants
                if algorithm in each.backend.verifies
            }
            yield from _figures(key_algorithm, algorithm, turns, seconds)


def _algorithms(contestants: Sequence[Contestant], key_algorithm: str) -> list[SignatureAlgorithm]:
    """Those that somebody signs with by this kind of key; RSA with one hash, for they cost the same."""
    able = {name for each in contestants if key_algorithm in each.keys for name in each.keys[key_algorithm].algorithms}
    return [each for each in ALGORITHMS if each in able and (each.key_kind != _RSA or each.hash_name == _RSA_HASH)]


def _signs(contestant: Contestant, key_algorithm: str, algorithm: SignatureAlgorithm) -> bool:
    return key_algorithm in contestant.keys and algorithm in contestant.keys[key_algorithm].algorithms


def _signing(key: CaKey, algorithm: SignatureAlgorithm) -> Callable[[], object]:
    return lambda: key.sign(algorithm, _OCTETS)


def _verifying(
    backend: Backend, public_key_info: bytes, algorithm: SignatureAlgorithm, signature: bytes
) -> Callable[[], object]:
    return lambda: backend.verify(public_key_info, algorithm, signature, _OCTETS)


def _figures(
    key_algorithm: str, algorithm: SignatureAlgorithm, turns: Mapping[str, Callable[[], object]], seconds: float
) -> Iterator[Figure]:
    done, spent = dict.fromkeys(turns, 0), dict.fromkeys(turns, 0.0)
    for act in turns.values():
        act()  # what a library does once only, is not measured
    for _ in range(_ROUNDS):
        for name, act in turns.items():
            begun = time.perf_counter()
            while (passed := time.perf_counter() - begun) < seconds / _ROUNDS or not done[name]:
                act()
                done[name] += 1
            spent[name] += passed
    for name in turns:
        yield Figure(key_algorithm=key_algorithm, algorithm=algorithm, by=name, a_second=done[name] / spent[name])
