"""Shares: enough of them always give the secret back, and no text and no mistake passes for a share."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from shamir_mnemonic.wordlist import WORDLIST
from tests.support.safes import shows

from cassiopeia.ceremony.shares import (
    MOST_SHARES,
    WORDS,
    Share,
    check_share,
    read_share,
    recover,
    share_document,
    share_set,
    split,
)
from cassiopeia.errors import OperatorError

FIVE = split(bytes(range(32)), shares=5, threshold=3)
KNOWN = share_set(FIVE)
TODAY = dt.date(2026, 11, 23)
WORD = st.sampled_from(WORDLIST)
# What people write around words, and what they write instead of one.
SCRAPS = st.one_of(WORD, st.sampled_from([" ", "\n", "\t", "1", "33.", "0", ":", "Share", "\x85", "ß", "İ", "x" * 99]))


@given(
    secret=st.binary(min_size=32, max_size=32),
    numbers=st.tuples(st.integers(2, MOST_SHARES), st.integers(2, MOST_SHARES)),
    data=st.data(),
)
def test_enough_shares_give_the_secret_back(secret: bytes, numbers: tuple[int, int], data: st.DataObject) -> None:
    threshold, count = sorted(numbers)
    shares = split(secret, shares=count, threshold=threshold)
    order = data.draw(st.permutations(shares))[: data.draw(st.integers(threshold, count))]
    read = [(str(share.number), read_share(" ".join(share.words), source="it")) for share in order]
    assert recover(read, share_set(shares)) == recover(read) == secret
    with pytest.raises(OperatorError, match=r"shares that are needed|no share was given"):
        recover(read[: threshold - 1])


@given(share=st.sampled_from(FIVE), wrong=st.dictionaries(st.integers(0, WORDS - 1), WORD, min_size=1, max_size=3))
def test_up_to_three_wrong_words_never_pass(share: Share, wrong: dict[int, str]) -> None:
    """SLIP-39: that many its checksum finds for certain, whichever they are."""
    words = [wrong.get(place, word) for place, word in enumerate(share.words)]
    assume(tuple(words) != share.words)
    with pytest.raises(OperatorError, match=r"^paper: its words do not fit together"):
        read_share(" ".join(words), source="paper")


@given(share=st.sampled_from(FIVE), value=st.lists(WORD, min_size=WORDS - 7, max_size=WORDS - 7))
def test_whatever_else_is_whole_is_not_one_of_ours(share: Share, value: list[str]) -> None:
    """Somebody who makes the checksum right still does not know what the commitment is to."""
    from shamir_mnemonic import rs1024, wordlist  # noqa: PLC0415 - its inner parts, for this alone

    body = wordlist.mnemonic_to_indices(" ".join([*share.words[:4], *value]))
    # The first word of the value has to leave the padding empty: 260 bits for 256.
    body = [*body[:4], body[4] & 0x3F, *body[5:]]
    checksum = rs1024.create_checksum(body, b"shamir_extendable")
    forged = read_share(wordlist.mnemonic_from_indices([*body, *checksum]), source="paper")
    assume(forged != share)
    assert (forged.set_name, forged.number, forged.threshold) == (share.set_name, share.number, share.threshold)
    with pytest.raises(OperatorError, match=r"^paper: calls itself share \d of the set '.*', and is not"):
        check_share(forged, KNOWN, source="paper")


@given(share=st.sampled_from(FIVE), before=st.text(max_size=40), cut=st.integers(4, 8), columns=st.integers(1, 33))
def test_any_table_is_read(share: Share, before: str, cut: int, columns: int) -> None:
    assume(not any(line.strip()[:1].isdigit() for line in before.splitlines()))
    cells = [f"{number} {word[:cut].upper()}" for number, word in enumerate(share.words, start=1)]
    rows = ["  ".join(cells[start : start + columns]) for start in range(0, WORDS, columns)]
    assert read_share("\n".join([before, *rows[::-1]]), source="it") == share
    assert read_share(share_document(share, count=5, made_on=TODAY) + f"\n{before}", source="it") == share


@given(st.one_of(st.text(), st.lists(SCRAPS, max_size=80).map(" ".join), st.lists(SCRAPS, max_size=80).map("".join)))
def test_any_text_is_a_share_or_a_refusal_that_repeats_nothing(text: str) -> None:
    with pytest.raises(OperatorError, match=r"^paper: ") as caught:
        read_share(text, source="paper")
    assert not any(shows(share, str(caught.value)) for share in FIVE)
    assert len(str(caught.value)) < 200
