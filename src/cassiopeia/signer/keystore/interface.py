"""The seam behind which CA keys live.

Nothing else in this software calls a crypto backend with a CA's private key. What is signed is octets: a key store
knows nothing of certificates.
"""

from __future__ import annotations

from typing import Protocol

from cassiopeia.core.algorithms import SignatureAlgorithm


class KeyStore(Protocol):
    """Signs octets with keys that never leave it.

    Duties: `sign` gives a complete signature or raises `Unavailable` (token away, retry) or `OperatorError` (key wrong
    or missing); it may be called any number of times with the same octets; calls come from one thread. A returned
    signature is not trusted: the caller verifies it before anything is released.
    """

    def add(self, name: str, uri: str) -> None:
        """Make the key at `uri` known as `name`; raises `OperatorError` when it is not there or not usable."""
        ...

    def subject_public_key_info(self, name: str) -> bytes:
        """DER of the SubjectPublicKeyInfo (RFC 5280 4.1.2.7) of this key."""
        ...

    def sign(self, name: str, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        """Signature over `octets`, encoded as X.509 wants it (ECDSA: DER)."""
        ...
