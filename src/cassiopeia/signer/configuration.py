"""What a signer was started with: its own sub-CAs, and the hash that names profiles and sub-CAs in every log entry."""

from __future__ import annotations

import hashlib

from cassiopeia.config import AuthorityEntry, SignerConfig, load_authorities
from cassiopeia.errors import OperatorError


def own_entries(config: SignerConfig) -> list[AuthorityEntry]:
    """The sub-CAs that belong to this signer; raises `OperatorError` when there are none."""
    own = [each for each in load_authorities(config.authorities) if each.authority.signer_id == config.signer_id]
    if not own:
        raise OperatorError(f"{config.authorities}: no sub-CA belongs to signer {config.signer_id}")
    return own


def configuration_documents(config: SignerConfig) -> list[tuple[str, bytes]]:
    """What the hash covers, by name: for the journal, so that a stranger can judge what was decided by it."""
    documents = [
        (path.name, path.read_bytes()) for path in [config.authorities, *sorted(config.profiles.glob("*.toml"))]
    ]
    documents += [(f"{each.authority.name}.crt", each.authority.certificate) for each in own_entries(config)]
    return documents


def configuration_hash(config: SignerConfig) -> bytes:
    """SHA-256 over all that decides how requests are judged: signer id, profiles, sub-CAs with their certificates."""
    version_1_profiles = config.version_1.profiles if config.version_1 is not None else ()
    digest = hashlib.sha256(f"{config.signer_id}\0{' '.join(sorted(version_1_profiles))}\0".encode())
    for path in [config.authorities, *sorted(config.profiles.glob("*.toml"))]:
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    for entry in load_authorities(config.authorities):
        digest.update(entry.authority.certificate)
    return digest.digest()
