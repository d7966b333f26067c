from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.conversations import NOW
from tests.support.journal_keys import JOURNAL_KEY, JOURNAL_PUBLIC_KEY

from cassiopeia.core import ed25519, structure
from cassiopeia.errors import PeerError, SignatureInvalid
from cassiopeia.journal import head

HEAD = head.JournalHead(signer_id=1, epoch=1, size=8, root_hash=b"r" * 32, time=NOW)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
OTHER_PUBLIC_KEY = ed25519.public_octets(OTHER_KEY)
P256_PUBLIC_KEY = (
    ec.derive_private_key(5, ec.SECP256R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)


def signed(octets: bytes, *, tag: bytes = head.HEAD_TAG, key: Ed25519PrivateKey = JOURNAL_KEY) -> bytes:
    return structure.encode(head.SignedHead(head=octets, signature=key.sign(tag + octets)))


class TestHeads:
    def test_one_says_what_was_signed(self) -> None:
        octets = head.sign_head(HEAD, JOURNAL_KEY)
        assert head.read_head(octets) == HEAD
        assert head.verify_head(octets, [JOURNAL_PUBLIC_KEY]) == HEAD

    def test_its_octets_never_change(self) -> None:
        # Ed25519 draws no random numbers (RFC 8032 5.1.6): the same head signed again gives the same octets.
        assert head.sign_head(HEAD, JOURNAL_KEY) == bytes.fromhex(
            "308182"
            "043e303c"
            "020101"  # signerId
            "020101"  # epoch
            "020108"  # size
            "04207272727272727272727272727272727272727272727272727272727272727272"  # rootHash
            "180f32303236313132333038333231335a"  # time
            "0440f12ce5432b4c94abd4245ed3108f6c8a5ce2351e8933cd0a94a8adf73791c601"
            "bc2faa70c615c69b8242a68c0d256ef9717d4a4b006e53fbbb198571aca5e504"
        )

    def test_any_of_the_known_keys_will_do(self) -> None:
        octets = head.sign_head(HEAD, OTHER_KEY)
        assert head.verify_head(octets, [JOURNAL_PUBLIC_KEY, OTHER_PUBLIC_KEY]) == HEAD

    @pytest.mark.parametrize("keys", [[], [OTHER_PUBLIC_KEY]])
    def test_a_key_that_is_not_known_has_no_word(self, keys: list[bytes]) -> None:
        with pytest.raises(SignatureInvalid, match="no known journal key"):
            head.verify_head(head.sign_head(HEAD, JOURNAL_KEY), keys)

    @pytest.mark.parametrize("tag", [b"", head.KEY_TAG, head.TIMESTAMP_TAG])
    def test_what_was_signed_for_something_else_is_no_head(self, tag: bytes) -> None:
        with pytest.raises(SignatureInvalid):
            head.verify_head(signed(structure.encode(HEAD), tag=tag), [JOURNAL_PUBLIC_KEY])

    @pytest.mark.parametrize(
        "changes", [{"signer_id": 2}, {"epoch": 2}, {"size": 9}, {"root_hash": b"s" * 32}], ids=str
    )
    def test_a_change_is_noticed(self, changes: dict[str, object]) -> None:
        signature = structure.decode(head.SignedHead, head.sign_head(HEAD, JOURNAL_KEY)).signature
        changed = structure.encode(dataclasses.replace(HEAD, **changes))  # type: ignore[arg-type] # of the fields' types
        with pytest.raises(SignatureInvalid):
            head.verify_head(structure.encode(head.SignedHead(head=changed, signature=signature)), [JOURNAL_PUBLIC_KEY])

    @pytest.mark.parametrize("octets", [b"", b"0\0", structure.encode(HEAD), signed(b"no head"), signed(b"")[:-1]])
    def test_anything_else_is_a_peer_error(self, octets: bytes) -> None:
        with pytest.raises(PeerError):
            head.read_head(octets)
        with pytest.raises(PeerError):
            head.verify_head(octets, [JOURNAL_PUBLIC_KEY])

    def test_tags_are_never_the_beginning_of_one_another(self) -> None:
        tags = [head.HEAD_TAG, head.KEY_TAG, head.TIMESTAMP_TAG]
        assert not [(one, other) for one in tags for other in tags if one is not other and one.startswith(other)]


class TestKeys:
    def test_both_halves_have_the_same_public_octets(self) -> None:
        assert ed25519.public_octets(JOURNAL_KEY) == ed25519.public_octets(JOURNAL_KEY.public_key())
        assert ed25519.public_octets(ed25519.load_public_key(JOURNAL_PUBLIC_KEY)) == JOURNAL_PUBLIC_KEY

    @pytest.mark.parametrize("octets", [b"", b"0\0", JOURNAL_PUBLIC_KEY[:-1], JOURNAL_PUBLIC_KEY + b"\0"])
    def test_octets_that_are_no_key_are_a_peer_error(self, octets: bytes) -> None:
        with pytest.raises(PeerError, match="cannot be read"):
            ed25519.load_public_key(octets)

    def test_a_key_of_another_kind_is_a_peer_error(self) -> None:
        with pytest.raises(PeerError, match="not an Ed25519 key"):
            ed25519.verify(P256_PUBLIC_KEY, b"", b"")

    @pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65)])
    def test_a_signature_that_does_not_verify_raises(self, signature: bytes) -> None:
        with pytest.raises(SignatureInvalid):
            ed25519.verify(JOURNAL_PUBLIC_KEY, signature, b"octets")
        ed25519.verify(JOURNAL_PUBLIC_KEY, JOURNAL_KEY.sign(b"octets"), b"octets")
