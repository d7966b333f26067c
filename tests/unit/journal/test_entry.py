from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest
from tests.support.conversations import certificate_request
from tests.support.journal_entries import (
    BODIES,
    DOCUMENTS,
    PARTS,
    REASON,
    REQUESTED,
    SALT,
    SIGNER_ID,
    chain,
    journal_entry,
    log,
)
from tests.support.journal_keys import JOURNAL_KEY, JOURNAL_PUBLIC_KEY

from cassiopeia.core import ed25519, merkle, structure
from cassiopeia.errors import PeerError, SignatureInvalid
from cassiopeia.journal import entry, head


class TestEntries:
    @pytest.mark.parametrize("kind", entry.BODIES)
    def test_one_of_each_kind_comes_back(self, kind: str) -> None:
        made = journal_entry(kind)
        read = entry.decode_entry(structure.encode(made))
        assert read == made
        assert entry.decode_body(read) == BODIES[kind]
        assert type(BODIES[kind]) is entry.BODIES[kind]

    def test_a_kind_has_one_body_and_a_body_one_kind(self) -> None:
        assert {entry.KINDS[body]: body for body in entry.BODIES.values()} == entry.BODIES
        assert set(BODIES) == set(entry.BODIES)

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("key", "f7bc6e4a87e1ce95bd38dc276260445aa0d9e81226ab827b24a49b0014b75823"),
            ("epoch", "da7101b4d80b3dbe59d2203e0b28e2570c5eefccfe537f9b45df361ca55f33d2"),
            ("start", "317fde1ab08f7dc44da6eaf7d090718139cfd6ef1fde77fd2cd4ef8c48598736"),
            ("configuration", "e19858606e72f3343c0d18cc1a3338ae64d2cfd50f9e073fac3a153dcfb49c21"),
            ("intent", "64e00ffff366051272390920d67353e44a6354bb75a10a1ff2d9fe33bbc1b3fd"),
            ("confirmation", "c171aea8dbce02bf4c9a9b08f96b6dd149421242a3450ea3333a8ca50c3d0192"),
            ("result", "99f3e4a3fd1e7d15abf2d4cfa99c74bc5f57da9d68ef74d88ba1d415ba8142d1"),
            ("abandonment", "20dc7dcffb598c19fcb7fbef60640cbe5868fc424795852900f87a9119b7bacd"),
            ("refusal", "9d027ca7fae9cbe73abd2c9407afeaef52f98092bca8473553a2a7759fdcd720"),
            ("revocation", "09b87e46970e7fc9bc1218e49941e2301ca2bece71ba92096826addedfa6d6db"),
            ("crl", "61812ee9eb092e28a092f2a53d5cc29f0b17e145b78cc19cdd8c0dc38d3f042c"),
            ("halt", "a0c3f0dbd37a840a86645e000cfdbd70e58589de0cbf3fdf386092178395479a"),
            ("resume", "edb41cf1914330c9da5171f141ded49001759dd96244c351c66206157c869964"),
            ("clock", "d790ef0ca17e53c36aebfc9d6359f0e9142b092d964245c3355e64d0593667f2"),
            ("order", "71572bbd4c5f8f8ea6f4cdd0f86bfd2d97c73314e128341dc69812c9a1b4372e"),
            ("removal", "f8bf4a1fad70d004cd8a9e98265d60db409cfbcbd10fa74aebcffed12e681925"),
        ],
    )
    def test_its_octets_never_change(self, kind: str, expected: str) -> None:
        # Chain, tree, heads and logSaved rest on them: an entry of version 1 is encoded so for ever.
        assert hashlib.sha256(log(kind)).hexdigest() == expected

    @pytest.mark.parametrize("version", [0, 2, (1 << 168) - 1])
    def test_another_version_is_a_peer_error(self, version: int) -> None:
        with pytest.raises(PeerError, match=f"version {version} are"):
            entry.decode_entry(structure.encode(journal_entry(version=version)))

    @pytest.mark.parametrize("kind", ["", "Intent", "later", "x" * 500, "\N{ESC}[2J"])
    def test_an_unknown_kind_is_a_peer_error(self, kind: str) -> None:
        with pytest.raises(PeerError, match="of the kind") as error:
            entry.decode_entry(structure.encode(dataclasses.replace(journal_entry(), kind=kind)))
        assert len(str(error.value)) < 100
        assert str(error.value).isprintable()

    def test_a_body_of_another_kind_is_a_peer_error(self) -> None:
        with pytest.raises(PeerError, match="DER of a Result"):
            entry.decode_body(dataclasses.replace(journal_entry("result"), body=structure.encode(BODIES["intent"])))

    @pytest.mark.parametrize("octets", [b"", b"0\0", log()])
    def test_anything_else_is_a_peer_error(self, octets: bytes) -> None:
        with pytest.raises(PeerError):
            entry.decode_entry(octets)


class TestCopies:
    def test_a_hash_that_the_receiver_knows_stays_out_and_is_put_back(self) -> None:
        whole = chain(["key", "start", "intent", "confirmation", "result"])
        copied = [entry.without_previous(each) for each in whole]
        assert sum(map(len, whole)) - sum(map(len, copied)) >= 5 * merkle.HASH_OCTETS
        previous_hash, again = entry.NO_ENTRY, []
        for each in copied:
            again.append(entry.put_previous(each, previous_hash))
            previous_hash = merkle.leaf_hash(again[-1])
        assert again == whole

    def test_a_wrong_hash_makes_another_entry(self) -> None:
        whole = structure.encode(journal_entry())
        other = entry.put_previous(entry.without_previous(whole), b"q" * 32)
        assert merkle.leaf_hash(other) != merkle.leaf_hash(whole)

    @pytest.mark.parametrize("octets", [b"", b"0\0", log()])
    def test_what_is_no_entry_is_a_peer_error(self, octets: bytes) -> None:
        with pytest.raises(PeerError):
            entry.put_previous(octets, entry.NO_ENTRY)
        with pytest.raises(PeerError):
            entry.without_previous(octets)


class TestLogs:
    @pytest.mark.parametrize("kind", entry.BODIES)
    def test_an_entry_comes_with_its_parts(self, kind: str) -> None:
        read = entry.decode_log(log(kind))
        assert read.entry == structure.encode(journal_entry(kind))
        assert read.parts == PARTS.get(kind, ())
        assert entry.encode_log(read) == log(kind)

    def test_a_part_may_be_withheld(self) -> None:
        withheld = entry.Log(entry=structure.encode(journal_entry()), parts=(b"",))
        assert entry.decode_log(entry.encode_log(withheld)) == withheld

    @pytest.mark.parametrize("parts", [(), (b"", b""), PARTS["intent"] * 2])
    def test_parts_are_as_many_as_the_entry_names(self, parts: tuple[bytes, ...]) -> None:
        octets = entry.encode_log(entry.Log(entry=structure.encode(journal_entry()), parts=parts))
        with pytest.raises(PeerError, match=f"has 1 parts, not {len(parts)}"):
            entry.decode_log(octets)

    @pytest.mark.parametrize("part", [b"x", PARTS["intent"][0][:-1], PARTS["intent"][0] + b"\0", PARTS["refusal"][0]])
    def test_a_part_is_the_one_that_the_entry_names(self, part: bytes) -> None:
        octets = entry.encode_log(entry.Log(entry=structure.encode(journal_entry()), parts=(part,)))
        with pytest.raises(PeerError, match="a part of entry 9 is not the one"):
            entry.decode_log(octets)

    def test_an_entry_that_was_left_out_is_no_log_by_itself(self) -> None:
        with pytest.raises(PeerError):
            entry.decode_log(entry.encode_log(entry.Log(entry=b"", parts=())))


class TestParts:
    @pytest.mark.parametrize("part", [REQUESTED, REASON, DOCUMENTS], ids=lambda part: type(part).__name__)
    def test_one_comes_back(self, part: Any) -> None:
        assert entry.decode_part(type(part), structure.encode(part)) == part

    def test_one_that_was_removed_is_a_peer_error_that_says_so(self) -> None:
        with pytest.raises(PeerError, match="was removed, or is not in this copy"):
            entry.decode_part(entry.Reason, b"")

    def test_one_of_another_kind_is_a_peer_error(self) -> None:
        with pytest.raises(PeerError, match="DER of a Requested"):
            entry.decode_part(entry.Requested, structure.encode(REASON))

    def test_what_can_be_guessed_is_salted(self) -> None:
        other = dataclasses.replace(REASON, salt=bytes(entry.SALT_OCTETS))
        assert entry.part_hash(structure.encode(other)) != entry.part_hash(structure.encode(REASON))
        assert "salt" in entry.Requested.__slots__


class TestRequested:
    @pytest.mark.parametrize(
        "changes", [{}, {"key_kind": "spkac"}, {"profile": "", "ocsp_target_ca": "unassured_2026_2"}, {"proofs": ()}]
    )
    def test_the_whole_request_is_in_it(self, changes: dict[str, Any]) -> None:
        request = certificate_request(3, **changes)
        part = entry.requested(request, salt=SALT, tbs_certificate=b"tbs")
        assert (part.salt, part.tbs_certificate) == (SALT, b"tbs")
        # The id stands in the intent: it is no datum about a person.
        assert entry.as_request(part, request_id=request.request_id) == request

    @pytest.mark.parametrize("kind", ["", "CSR", "x" * 500])
    def test_a_key_of_no_known_kind_is_a_peer_error(self, kind: str) -> None:
        with pytest.raises(PeerError, match="unknown way") as error:
            entry.as_request(dataclasses.replace(REQUESTED, key_kind=kind), request_id=b"i" * 32)
        assert len(str(error.value)) < 100


def test_the_statement_of_a_key_holds_at_one_place_only() -> None:
    statement: dict[str, Any] = {
        "signer_id": SIGNER_ID,
        "index": 1,
        "previous_hash": entry.NO_ENTRY,
        "public_key": JOURNAL_PUBLIC_KEY,
    }
    signature = JOURNAL_KEY.sign(head.KEY_TAG + entry.key_statement(**statement))
    ed25519.verify(JOURNAL_PUBLIC_KEY, signature, head.KEY_TAG + entry.key_statement(**statement))
    for change in (
        {"signer_id": 2},
        {"index": 2},
        {"previous_hash": b"p" * 32},
        {"public_key": JOURNAL_PUBLIC_KEY[:-1] + b"\0"},
    ):
        with pytest.raises(SignatureInvalid):
            ed25519.verify(JOURNAL_PUBLIC_KEY, signature, head.KEY_TAG + entry.key_statement(**statement | change))


def test_account_and_certificate_are_read_without_the_rest() -> None:
    requested = entry.Requested(
        salt=b"s" * 16,
        account="zoë",
        profile="p",
        ocsp_target_ca="",
        key_kind="csr",
        key_proof=b"csr",
        attributes=(),
        alt_names=(),
        wish_from="",
        wish_to="",
        signature_hash="",
        proofs=(),
        tbs_certificate=b"tbs",
    )
    assert entry.certified_in_part(structure.encode(requested)) == ("zoë", b"tbs")
    for nonsense in (
        b"",
        b"\x30\x00",
        b"\x30\x02\x04\x00",
        b"\x30\x05\x04\x00\x0c\x01\xff",
        b"\x30\x04\x04\x00\x05\x00",
    ):
        with pytest.raises(PeerError):
            entry.certified_in_part(nonsense)
