"""The signer's real worker, in which the library that is called wolfssl has a fault: what a broken one may do one day.

Started in the real one's place, with the same arguments. What the fault is stands in the file `FAULT` beside the
configuration, and is read anew each time: the first word says what goes wrong, and a second one, `always`, that it does
so when the key is opened and proved too. Without that file OpenSSL does all the work, and nothing goes wrong.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm
from cassiopeia.core.key_uri import KeyUri
from cassiopeia.errors import OperatorError, SignatureInvalid, Unavailable
from cassiopeia.signer import worker
from cassiopeia.signer.keystore import ring
from cassiopeia.signer.keystore.backends import load_backend
from cassiopeia.signer.keystore.interface import Backend, CaKey, KeyStore, StoreSettings

FAULT = "fault"
FAULTY = "wolfssl"
AWAY = "the token is away: put it back"
_CHALLENGE = b"cassiopeia: proof of possession"

configuration = Path()


def set_fault(directory: Path, words: str) -> None:
    """From now on this goes wrong in the workers of the configuration there; empty: nothing."""
    new = directory / f"{FAULT}.new"
    new.write_text(words, encoding="ascii")
    new.replace(directory / FAULT)


def fault(octets: bytes) -> str:
    """What goes wrong when these octets are to be signed or verified."""
    try:
        words = configuration.with_name(FAULT).read_text(encoding="ascii").split()
    except FileNotFoundError:
        return ""
    if not words or (octets == _CHALLENGE and "always" not in words):
        return ""
    return words[0]


class FaultyKey:
    def __init__(self, key: CaKey) -> None:
        self._key = key
        self.public_key_info = key.public_key_info
        self.algorithms = key.algorithms

    def sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        match fault(octets):
            case "flip":
                signature = bytearray(self._key.sign(algorithm, octets))
                signature[-1] ^= 1
                return bytes(signature)
            case "other-octets":
                return self._key.sign(algorithm, octets + b"\0")
            case "empty":
                return b""
            case "short":
                return self._key.sign(algorithm, octets)[:-1]
            case "hang":
                time.sleep(600)
            case "exit":
                os._exit(3)
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "odd":
                raise ZeroDivisionError("what no library should say")
            case "away":
                raise Unavailable(AWAY, code="token-away")
            case "gone":
                raise OperatorError("the key is gone from its token")
        return self._key.sign(algorithm, octets)


class FaultyStore:
    def __init__(self, store: KeyStore) -> None:
        self._store = store

    def list_keys(self) -> Sequence[KeyUri]:
        return self._store.list_keys()

    def open(self, uri: KeyUri) -> CaKey:
        return FaultyKey(self._store.open(uri))

    def generate(self, uri: KeyUri, key_algorithm: str) -> CaKey:
        return self._store.generate(uri, key_algorithm)

    def close(self) -> None:
        self._store.close()


class FaultyBackend:
    name = FAULTY
    version = "that of the test"
    signs: Sequence[SignatureAlgorithm] = ALGORITHMS
    verifies: Sequence[SignatureAlgorithm] = ALGORITHMS

    def open_store(self, settings: StoreSettings) -> KeyStore:
        return FaultyStore(load_backend("openssl").open_store(settings))

    def verify(self, public_key_info: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes) -> None:
        if fault(octets) == "says-wrong":
            raise SignatureInvalid("so it says")
        load_backend("openssl").verify(public_key_info, algorithm, signature, octets)


def load_faulty(name: str) -> Backend:
    return FaultyBackend() if name == FAULTY else load_backend(name)


def install() -> None:
    """Make this process, which is to be a worker, one with the fault."""
    global configuration  # noqa: PLW0603 - one process has one
    configuration = next(Path(each) for each in sys.orig_argv if each.endswith(".toml"))
    ring.__dict__["load_backend"] = load_faulty


def environment(directory: Path) -> dict[str, str]:
    """What makes every worker that is started with it such a one, whoever starts it; `directory` is for files."""
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(_START, encoding="ascii")
    return {"PYTHONPATH": f"{directory}:{Path(__file__).resolve().parents[2]}"}


# The site module imports this when an interpreter starts.
_START = """
import sys

if "cassiopeia.signer.worker" in sys.orig_argv:
    from tests.support import faulty_worker

    faulty_worker.install()
"""


def main() -> None:
    install()
    worker.main()


if __name__ == "__main__":
    main()
