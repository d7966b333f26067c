"""docs/wire-specification.md tells how to prove without our programs that a key is compromised: run word for word.

Needs openssl 3, bash and sha256sum (Debian: apt install openssl).
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.support.authorities import make_ca
from tests.support.compromising import key_of

from cassiopeia.client.compromised_key import read_proof

DOCUMENT = (Path(__file__).parents[2] / "docs" / "wire-specification.md").read_text(encoding="utf-8")


def documented() -> str:
    blocks: list[str] = re.findall(r"^```bash\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if block.startswith("# Prove that key.pem"))
    return found


# openssl 3.0 has no ML-DSA.
@pytest.mark.parametrize("kind", ["RSA", "P-256", "P-384", "P-521", "Ed25519"])
def test_a_proof_that_openssl_made_holds(tmp_path: Path, kind: str) -> None:
    key = key_of(kind)
    certificate = make_ca("somebody", key=key, is_ca=False, key_cert_sign=False)
    (tmp_path / "certificate.pem").write_bytes(certificate.pem)
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    command = ["bash", "-e", "-c", documented()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
    assert read_proof(tmp_path / "proof", certificate.der) == (tmp_path / "proof").read_bytes()
