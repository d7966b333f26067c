"""The document of the journal that says by which keys a signer judged: what decides in `signer.toml`, in one form.

Owns its text (`rules.json`), so that a stranger who has nothing but the journal can judge proofs as the signer did.
Profiles and sub-CAs are documents of their own. A reader passes over what it does not know.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cassiopeia.core.rules import Validator
from cassiopeia.errors import PeerError

RULES_DOCUMENT: Final = "rules.json"
"""Its name among the documents of a configuration."""


class PinnedValidator(msgspec.Struct, frozen=True, kw_only=True):
    """One validator; `public_key` is the DER of its SubjectPublicKeyInfo, base64 in the text."""

    name: str
    public_key: bytes
    kinds: tuple[str, ...]


class KeyUsed(msgspec.Struct, frozen=True, kw_only=True):
    """By which crypto backend a sub-CA signs, and which one verifies its signatures besides (empty: none)."""

    authority: str
    backend: str
    verify_with: str = ""


class RulesDocument(msgspec.Struct, frozen=True, kw_only=True):
    """`responder_keys` are SHA-256 of SubjectPublicKeyInfo in hex, `operators` DER of it, base64 in the text.

    `quorum` of the operators must sign an order that loosens. `caps` bound what happens in an hour, by their names.
    `weak_keys` are the lists of keys that were not certified, by name and SHA-256 in hex, or "missing".
    `keys` say by what each sub-CA signs.
    """

    signer_id: int
    version_1_profiles: tuple[str, ...] = ()
    validators: tuple[PinnedValidator, ...] = ()
    responder_keys: tuple[str, ...] = ()
    operators: tuple[bytes, ...] = ()
    quorum: int = 1
    caps: dict[str, int] = {}
    weak_keys: tuple[tuple[str, str], ...] = ()
    keys: tuple[KeyUsed, ...] = ()

    def pinned(self) -> dict[bytes, Validator]:
        """The validators by their key ids, as `Rules.validators` has them."""
        validators = [
            Validator(name=each.name, public_key=each.public_key, kinds=frozenset(each.kinds))
            for each in self.validators
        ]
        return {each.key_id: each for each in validators}


def encode_rules_document(document: RulesDocument) -> bytes:
    """The same text for the same rules: the caller sorts what has no order."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def read_rules_document(octets: bytes) -> RulesDocument:
    """Read what `encode_rules_document` gave, here or in a later version; raises PeerError."""
    try:
        return msgspec.json.decode(octets, type=RulesDocument)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PeerError(f"the document {RULES_DOCUMENT} of the configuration cannot be read: {error}") from error
