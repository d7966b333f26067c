"""The documents that a configuration entry keeps: what requests were judged by, and the sub-CAs' certificates among it.

A certificate is the document NAME.pem or NAME.crt (DER), in whatever directory, of the sub-CA NAME. A profile is
NAME.toml. Validators and pinned keys stand in `rules.json` (`core.rules_document`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cassiopeia.core.authority import Authority, load_authority
from cassiopeia.core.profile import Profile, parse_profile
from cassiopeia.core.rules import Validator
from cassiopeia.core.rules_document import RULES_DOCUMENT, read_rules_document
from cassiopeia.errors import ConfigurationError, OperatorError, PeerError
from cassiopeia.journal.entry import Document, Documents

_SUFFIXES: Final = (".pem", ".crt")
_PROFILE_SUFFIX: Final = ".toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedBy:
    """What requests were judged by, as far as it can be read: a profile that cannot be is None."""

    profiles: Mapping[str, Profile | None]
    validators: Mapping[bytes, Validator]
    responder_keys: frozenset[bytes]
    version_1_profiles: frozenset[str]


def read_authorities(documents: Documents, *, signer_id: int) -> dict[str, Authority]:
    """Every sub-CA whose certificate is among these, by name; raises PeerError for one that cannot be read."""
    authorities = {}
    for each in documents.documents:
        name = each.name.rpartition("/")[2]
        if name.endswith(_SUFFIXES):
            name = name.rpartition(".")[0]
            try:
                authorities[name] = load_authority(_certificate(each), name=name, signer_id=signer_id)
            except OperatorError as error:
                raise PeerError(f"the configuration names a sub-CA that is none: {error}") from error
    return authorities


def read_judged_by(documents: Documents) -> JudgedBy | None:
    """What these documents judge by; None before there was a document of it. Raises PeerError."""
    by_name = {each.name: each.octets for each in documents.documents}
    if RULES_DOCUMENT not in by_name:
        return None
    rules = read_rules_document(by_name[RULES_DOCUMENT])
    names = (name.removesuffix(_PROFILE_SUFFIX) for name in by_name if name.endswith(_PROFILE_SUFFIX))
    return JudgedBy(
        profiles={name: _profile(name, by_name[name + _PROFILE_SUFFIX]) for name in names},
        validators=rules.pinned(),
        responder_keys=frozenset(map(_from_hex, rules.responder_keys)),
        version_1_profiles=frozenset(rules.version_1_profiles),
    )


def _profile(name: str, octets: bytes) -> Profile | None:
    # The list of the sub-CAs is TOML, too, and what a profile may say changes with the years.
    try:
        return parse_profile(octets.decode(), name=name, source=name)
    except (ConfigurationError, UnicodeDecodeError):
        return None


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise PeerError(f"the configuration names a key by {text[:40]!a}, which is no hash") from error


def _certificate(document: Document) -> bytes:
    if document.name.endswith(".crt"):
        return document.octets
    try:
        return x509.load_pem_x509_certificate(document.octets).public_bytes(Encoding.DER)
    except ValueError as error:
        raise PeerError(f"the certificate {document.name[:80]!a} of the configuration cannot be read") from error
