"""Keys that nobody relies on, in files that last as long as one command: self-test and measurements sign by them.

Owns the directory in which they are (of this user alone), and the passphrase that they are encrypted with.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_private_key

from cassiopeia import files
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.key_uri import FileUri
from cassiopeia.secret_source import SecretSource
from cassiopeia.signer.keystore.ca_key import encrypt_ca_key, make_ca_key
from cassiopeia.signer.keystore.interface import StoreSettings

_PASSPHRASE_OCTETS: Final = 16
_CURVES: Final = {"sha256": "P-256", "sha384": "P-384", "sha512": "P-521"}
_RSA: Final = "RSA-2048"


def key_algorithm_for(algorithm: SignatureAlgorithm) -> str:
    """The one of `ca_key.CA_KEY_ALGORITHMS` that signs with it; for RSA the smallest."""
    if algorithm.key_kind == "EC":
        return _CURVES[algorithm.hash_name]
    return _RSA if algorithm.key_kind == "RSA" else algorithm.key_kind


@contextmanager
def trial_keys() -> Iterator[TrialKeys]:
    with tempfile.TemporaryDirectory(prefix="cassiopeia-trial-") as directory:
        yield TrialKeys(Path(directory))


class TrialKeys:
    """Each key is made once, when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._passphrase = secrets.token_hex(_PASSPHRASE_OCTETS).encode()
        self._made: dict[str, FileUri] = {}
        file = directory / "passphrase"
        with files.new_file(file) as stream:
            stream.write(self._passphrase)
        self.settings = StoreSettings(passphrase=SecretSource(what="the passphrase of trial keys", file=file))

    def key(self, key_algorithm: str) -> FileUri:
        """A new key of one of `ca_key.CA_KEY_ALGORITHMS`."""
        return self._file(key_algorithm, lambda: make_ca_key(key_algorithm))

    def known_key(self, name: str, private_key: bytes) -> FileUri:
        """A key that is given, as DER of PKCS#8; each has a name of its own."""
        return self._file(
            f"known-{name}", lambda: cast("CertificateIssuerPrivateKeyTypes", load_der_private_key(private_key, None))
        )

    def _file(self, name: str, make: Callable[[], CertificateIssuerPrivateKeyTypes]) -> FileUri:
        if name not in self._made:
            path = self._directory / f"{name}.key"
            with files.new_file(path) as stream:
                stream.write(encrypt_ca_key(make(), self._passphrase))
            self._made[name] = FileUri(path=str(path))
        return self._made[name]
