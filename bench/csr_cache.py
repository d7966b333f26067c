"""Certification requests, each with a key of its own. Making RSA keys takes minutes, so they are kept between runs.

They lie in the directory for temporary files, and none of their private keys does.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

_TOGETHER = 20
_decoder = msgspec.msgpack.Decoder(list[bytes])


def distinct_requests(kind: str, count: int) -> list[bytes]:
    """DER of so many requests with as many keys, of the kind "P-256" or "RSA-" and the bits."""
    if kind == "P-256":
        return [make_request(kind) for _ in range(count)]
    path = Path(tempfile.gettempdir()) / f"cassiopeia-bench-{os.getuid()}-{kind.lower()}.msgpack"
    known = _decoder.decode(path.read_bytes()) if path.exists() else []
    if len(known) < count:
        print(f"  (making {count - len(known):,} {kind} keys for {path}, once)", flush=True)
        with multiprocessing.get_context("spawn").Pool() as pool:
            known += pool.map(make_request, [kind] * (count - len(known)), chunksize=_TOGETHER)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(msgspec.msgpack.encode(known))
        unfinished.replace(path)
    return known[:count]


def make_request(kind: str) -> bytes:
    """DER of a request with a new key; its private half is thrown away."""
    key = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "P-256"
        else rsa.generate_private_key(public_exponent=65537, key_size=int(kind.removeprefix("RSA-")))
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)
