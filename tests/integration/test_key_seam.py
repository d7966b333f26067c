"""Nothing but the key store calls a crypto library with a CA's private key: who loads and makes keys is counted here.

The offline ceremony is the one exception: it makes the keys, and has no signer beside it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "cassiopeia"
APART = ("ceremony/", "signer/keystore/")

LOADERS = {
    "sealing.py": "the key that bundles are sealed to",
    "unattended_key.py": "keys of validators and publishers",
    "client/compromised_key.py": "a subscriber's key that everybody knows, as its proof",
    "signer/journal_key.py": "the key that signs the journal",
}
MAKERS = {
    "link/credentials.py": "keys of the line",
    "publisher/key.py": "keys of OCSP responders",
}
GENERATORS = {
    "sealing.py": "the key that bundles are sealed to",
    "link/credentials.py": "keys of the line",
    "publisher/key.py": "keys of OCSP responders",
    "validation/key.py": "keys of validators",
    "signer/machine.py": "the key that signs the journal",
    "signer/key_rotation.py": "the next key that signs the journal",
}


def names(path: Path) -> Iterator[str]:
    """Every name and attribute that stands in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
            if isinstance(node.value, ast.Name | ast.Attribute):
                before = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                yield f"{before}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from (each.name for each in node.names)


def users(*wanted: str) -> set[str]:
    """The modules, but for the key store's and the ceremony's, in which one of these names stands."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        found[str(path.relative_to(SOURCE))] = not set(wanted).isdisjoint(names(path))
    assert any(found[name] for name in found if name.startswith(APART)), "the key store has to be among them"
    return {name for name, uses in found.items() if uses and not name.startswith(APART)}


def test_private_keys_are_loaded_where_they_are_no_cas() -> None:
    kinds = ("pem_private_key", "der_private_key", "ssh_private_key")
    assert users(*(f"load_{each}" for each in kinds), "load_pkcs12", "load_key_and_certificates") == set(LOADERS)


def test_keys_of_the_kinds_of_cas_are_made_where_they_are_no_cas() -> None:
    assert users("generate_private_key") == set(MAKERS)


def test_keys_of_the_other_kinds_too() -> None:
    kinds = ("Ed25519", "Ed448", "MLDSA44", "MLDSA65", "MLDSA87", "X25519", "MLKEM768")
    assert users(*(f"{each}PrivateKey.generate" for each in kinds)) == set(GENERATORS)


def test_the_makers_of_ca_keys_are_the_key_stores_own() -> None:
    assert users("make_ca_key", "encrypt_ca_key") == set()


def test_only_the_workers_and_those_that_install_open_a_key() -> None:
    assert users("KeyRing", "load_backend") == {
        "signer/worker.py",
        "signer/installing.py",
        "signer/key_birth.py",
        "cli/backend.py",
    }
