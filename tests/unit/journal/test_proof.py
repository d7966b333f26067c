"""A proof is checked with the signer's public key alone, and one changed octet is enough to refuse it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.journal_maker import JournalMaker, journal_key

from cassiopeia.core import ed25519
from cassiopeia.errors import PeerError
from cassiopeia.journal import proof as proofs
from cassiopeia.journal.entry import Log
from cassiopeia.journal.proof import Proof, ProvedEntry
from cassiopeia.journal.replay import Replay

PUBLIC_KEY = ed25519.public_octets(journal_key())


def prove(made: JournalMaker, *indices: int) -> Proof:
    replay = Replay()
    for log in made.logs:
        replay.append(log)
    return Proof(
        entries=tuple(
            ProvedEntry(log=made.logs[index - 1], path=replay.prove(index, replay.size)) for index in indices
        ),
        head=made.signed_head(),
        public_key=PUBLIC_KEY,
    )


@pytest.fixture(scope="module")
def made() -> JournalMaker:
    made = JournalMaker()
    made.begin()
    for _ in range(3):
        made.issue()
    return made


def test_a_proof_shows_its_entries(made: JournalMaker) -> None:
    document = proofs.encode_proof(prove(made, 7, 8, 9))

    head, shown = proofs.check_proof(proofs.read_proof(document), [PUBLIC_KEY])

    assert head.size == made.size
    assert [(each.index, each.kind) for each in shown] == [(7, "intent"), (8, "confirmation"), (9, "result")]


def test_a_part_may_be_kept_back(made: JournalMaker) -> None:
    proof = prove(made, 7)
    proof = dataclasses.replace(
        proof, entries=(dataclasses.replace(proof.entries[0], log=Log(entry=made.logs[6].entry, parts=(b"",))),)
    )

    proofs.check_proof(proofs.read_proof(proofs.encode_proof(proof)), [PUBLIC_KEY])


def change(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update(changes)


def change_entry(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["entries"][0].update(changes)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (change(format="a letter"), "this is 'a letter', version 1"),
        (change(version=3), "this is 'cassiopeia journal proof', version 3"),
        (change(colour="red"), "colour: this key is not known here"),
        (change_entry(path=["no hash"]), "this is not a proof: "),
        (change_entry(path=["00" * 32]), "does not lead to the root"),
        (change_entry(parts=["AAAA"]), "is not the one that the entry names"),
        (change_entry(entry="AAAA"), "this is not the DER of a JournalEntry"),
        (change(entries=[]), "about no entry"),
        (change(head_signature="AAAA"), "no known journal key has signed this head"),
    ],
)
def test_a_proof_that_was_changed_proves_nothing(
    made: JournalMaker, spoil: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    document = json.loads(proofs.encode_proof(prove(made, 7)))
    spoil(document)

    with pytest.raises(PeerError, match=complaint):
        proofs.check_proof(proofs.read_proof(json.dumps(document).encode()), [PUBLIC_KEY])


def test_the_key_is_the_readers_not_the_proofs(made: JournalMaker) -> None:
    with pytest.raises(PeerError, match="no known journal key has signed this head"):
        proofs.check_proof(prove(made, 7), [ed25519.public_octets(journal_key(2))])


def test_an_entry_of_another_signer_is_not_this_ones(made: JournalMaker) -> None:
    with pytest.raises(PeerError, match="an entry of signer 1, not 2"):
        proofs.check_proof(dataclasses.replace(prove(made, 7), head=made.signed_head(signer_id=2)), [PUBLIC_KEY])


def test_a_proof_is_bounded(made: JournalMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    document = proofs.encode_proof(prove(made, 7))
    monkeypatch.setattr(proofs, "MAXIMUM_OCTETS", 500)

    with pytest.raises(PeerError, match="no more than 500 octets"):
        proofs.read_proof(document)


@given(octets=st.binary(max_size=300))
def test_any_octets_give_a_peer_error(octets: bytes) -> None:
    with pytest.raises(PeerError):
        proofs.read_proof(octets)
