from __future__ import annotations

import datetime as dt
import itertools
import secrets
from collections.abc import Sequence
from pathlib import Path

import pytest
import shamir_mnemonic
from shamir_mnemonic.wordlist import WORDLIST
from tests.support.safes import shows

from cassiopeia.ceremony import shares as module
from cassiopeia.ceremony.shares import (
    WORDS,
    Share,
    check_numbers,
    check_share,
    complete_word,
    read_share,
    read_share_file,
    recover,
    rehearse,
    share_document,
    share_file_name,
    share_set,
    split,
)
from cassiopeia.errors import InternalError, OperatorError

SECRET = bytes(range(32))
TODAY = dt.date(2026, 11, 23)

# Made once by this software with shamir-mnemonic 0.3.0, of SECRET, 3 of 5: numbers 1, 3 and 5. Paper lasts longer than
# any version of this software.
ON_PAPER = (
    (
        "laundry response academic acne activity legend average havoc pencil move class "
        "losing mineral retreat hawk steady lift voice tricycle eraser aide avoid "
        "garbage machine gather forward leader ending mama scramble iris curious corner"
    ),
    (
        "laundry response academic amazing agency elite critical timely crush episode leaves "
        "lecture belong snake branch junk justice criminal repair avoid capacity envelope "
        "guard envelope losing flame satisfy chemical nuclear average parcel emerald aluminum"
    ),
    (
        "laundry response academic axle activity activity rainbow floral unfair timely gums "
        "formal lair impact mama advance crisis tactics permit gums national salt "
        "dream lamp fiction western cluster quiet pajamas shaped typical exotic toxic"
    ),
)


@pytest.fixture(scope="module")
def five() -> tuple[Share, ...]:
    return split(SECRET, shares=5, threshold=3)


def named(shares: Sequence[Share]) -> list[tuple[str, Share]]:
    return [(share_file_name(share), share) for share in shares]


def altered(share: Share) -> Share:
    """The same share with other contents, whole in itself: as somebody would forge it."""
    inner = shamir_mnemonic.Share.from_mnemonic(" ".join(share.words))
    values = {name: getattr(inner, name) for name in inner.__dataclass_fields__}
    forged = shamir_mnemonic.Share(**values | {"value": bytes(31) + b"\x01"})
    return read_share(forged.mnemonic(), source="forged")


def write(directory: Path, shares: Sequence[Share]) -> list[Path]:
    paths = [directory / share_file_name(share) for share in shares]
    for path, share in zip(paths, shares, strict=True):
        path.write_text(share_document(share, count=len(shares), made_on=TODAY))
    return paths


def test_any_three_of_five_open_it_and_no_two_do(five: tuple[Share, ...]) -> None:
    known = share_set(five)
    for chosen in itertools.permutations(five, 3):
        assert recover(named(chosen), known) == SECRET
    for too_few in itertools.combinations(five, 2):
        with pytest.raises(OperatorError, match=r"^2 of the 3 shares that are needed: get 1 more of the set '"):
            recover(named(too_few), known)


def test_more_shares_than_needed_are_all_looked_at(five: tuple[Share, ...]) -> None:
    known = share_set(five)
    assert recover(named(five), known) == SECRET
    with pytest.raises(OperatorError, match=r"^share-5.txt: calls itself share 5 of the set"):
        recover(named([*five[:4], altered(five[4])]), known)


def test_words_written_down_long_ago_open_it_still() -> None:
    shares = [(f"paper {index}", read_share(text, source="paper")) for index, text in enumerate(ON_PAPER)]
    assert [share.number for _, share in shares] == [1, 3, 5]
    assert recover(shares) == SECRET


def test_the_library_alone_opens_it_too(five: tuple[Share, ...]) -> None:
    """Nobody depends on this software to get at the keys again: SLIP-39, with an empty passphrase."""
    assert shamir_mnemonic.combine_mnemonics([" ".join(share.words) for share in five[1:4]]) == SECRET


@pytest.mark.parametrize(("shares", "threshold"), [(2, 2), (16, 2), (16, 16), (3, 2)])
def test_every_number_that_is_allowed(shares: int, threshold: int) -> None:
    check_numbers(shares=shares, threshold=threshold)
    made = split(SECRET, shares=shares, threshold=threshold)
    assert [share.number for share in made] == list(range(1, shares + 1))
    assert {share.threshold for share in made} == {threshold}
    assert recover(named(made[-threshold:]), share_set(made)) == SECRET


@pytest.mark.parametrize(("shares", "threshold"), [(1, 1), (5, 1), (5, 0), (3, 4), (17, 3), (0, 0), (-1, -2)])
def test_numbers_that_cannot_be(shares: int, threshold: int) -> None:
    with pytest.raises(OperatorError, match=r"take 2 to 16 shares, of which at least 2 are needed"):
        split(SECRET, shares=shares, threshold=threshold)


def test_only_a_whole_secret_is_split() -> None:
    with pytest.raises(InternalError, match="32 octets"):
        split(SECRET[:16], shares=3, threshold=2)


def test_a_new_set_never_has_the_name_of_the_old(monkeypatch: pytest.MonkeyPatch) -> None:
    identifiers = iter([7, 7, 8])
    monkeypatch.setattr(shamir_mnemonic.shamir, "_random_identifier", lambda: next(identifiers))
    old = split(SECRET, shares=3, threshold=2)
    new = split(SECRET, shares=3, threshold=2, other_than=old[0].set_name)
    assert new[0].set_name != old[0].set_name
    assert next(identifiers, None) is None


def test_what_is_wrong_with_the_shares_is_said(five: tuple[Share, ...]) -> None:
    known = share_set(five)
    others = split(SECRET, shares=5, threshold=3, other_than=known.name)
    with pytest.raises(OperatorError, match=r"^no share was given"):
        recover([], known)
    with pytest.raises(OperatorError, match=r"^again.txt: is share 1, and so is share-1.txt: another one is needed"):
        recover([*named(five[:2]), ("again.txt", five[0])], known)
    with pytest.raises(OperatorError, match=rf"^old.txt: is a share of the set '{others[2].set_name}', and this safe"):
        recover([*named(five[:2]), ("old.txt", others[2])], known)
    with pytest.raises(OperatorError, match=rf"^old.txt: .*, and share-1.txt is one of '{known.name}'"):
        recover([*named(five[:2]), ("old.txt", others[2])])


def test_a_forged_share_is_named_with_the_set_and_noticed_without(five: tuple[Share, ...]) -> None:
    forged = altered(five[1])
    assert (forged.set_name, forged.number) == (five[1].set_name, 2)
    given = [("one", five[0]), ("two", forged), ("three", five[2])]
    with pytest.raises(OperatorError, match=r"^two: calls itself share 2 of the set .*, and is not: it was altered"):
        recover(given, share_set(five))
    with pytest.raises(OperatorError, match=r"^these shares do not fit together: one of them was altered"):
        recover(given)


def test_a_share_with_a_number_that_no_share_has_is_forged(five: tuple[Share, ...]) -> None:
    fewer = share_set(five[:4])
    with pytest.raises(OperatorError, match="calls itself share 5"):
        check_share(five[4], fewer, source="five")


def test_the_document_says_what_it_is_and_is_read_again(five: tuple[Share, ...], tmp_path: Path) -> None:
    document = share_document(five[1], count=5, made_on=TODAY)
    assert document.startswith("Share 2 of 5\n")
    assert f"Set:   {five[1].set_name}\nMade:  2026-11-23\n" in document
    assert max(map(len, document.splitlines())) <= 90
    assert all(f"{number:>2} {word}" in document for number, word in enumerate(five[1].words, start=1))
    path = tmp_path / "share.txt"
    path.write_text(document)
    assert read_share_file(path) == five[1]


def test_words_are_read_however_people_write_them(five: tuple[Share, ...]) -> None:
    share = five[3]
    plain = " ".join(share.words)
    short = "\n".join(word[:4].upper() for word in share.words)
    one_a_line = "My share!\n" + "\n".join(f"{number}. {word}" for number, word in enumerate(share.words, start=1))
    backwards = "\n".join(f"{number:>2}: {share.words[number - 1]}" for number in range(WORDS, 0, -1))
    for text in (plain, short, one_a_line, backwards, f"\n\t{plain}  \n", plain.replace(" ", "\r\n")):
        assert read_share(text, source="paper") == share


def test_words_that_are_no_share_are_refused_without_repeating_one(five: tuple[Share, ...]) -> None:
    words = list(five[0].words)
    swapped = [*words[:10], words[11], words[10], *words[12:]]
    another = [*words[:20], next(word for word in WORDLIST if word != words[20]), *words[21:]]
    numbered = [f"{number} {word}" for number, word in enumerate(words, start=1)]
    wrong = {
        " ".join(words[:-1]): "a share has 33 words, and this is 32",
        " ".join([*words, words[0]]): "a share has 33 words, and this is 34",
        "": "and this is 0",
        " ".join([*words[:6], "xylophone", *words[7:]]): "word 7 is no word of the list",
        " ".join([*words[:6], "a", *words[7:]]): "word 7 is no word of the list",
        " ".join([*words[:6], "академия", *words[7:]]): "word 7 is no word of the list",
        " ".join([*words[:6], words[6] + "s", *words[7:]]): "word 7 is no word of the list",
        "\n".join(numbered[:-1]): "not numbered from 1 to 33",
        "\n".join([*numbered[:-1], numbered[0]]): "not numbered from 1 to 33",
        " ".join(another): "do not fit together",
    }
    if swapped != words:
        wrong[" ".join(swapped)] = "do not fit together"
    for text, reason in wrong.items():
        with pytest.raises(OperatorError, match=rf"^paper: .*{reason}") as caught:
            read_share(text, source="paper")
        assert not shows(five[0], str(caught.value))
        assert "xylophone" not in str(caught.value)


def test_sets_of_another_making_are_refused() -> None:
    """Groups of groups, a share that is the secret itself, rounds that take an hour: whole, and not ours."""
    ((alone,),) = shamir_mnemonic.generate_mnemonics(1, [(1, 1)], SECRET)
    ((_, _), (grouped, _)) = shamir_mnemonic.generate_mnemonics(2, [(2, 2), (2, 2)], SECRET)
    ems = shamir_mnemonic.EncryptedMasterSecret(1, extendable=True, iteration_exponent=15, ciphertext=SECRET)
    ((slow, _),) = shamir_mnemonic.split_ems(1, [(2, 2)], ems)
    for text in (alone, grouped, slow.mnemonic()):
        with pytest.raises(OperatorError, match="another kind of set than this software makes"):
            read_share(text, source="paper")
    ((short, _),) = shamir_mnemonic.generate_mnemonics(1, [(2, 2)], SECRET[:16])
    with pytest.raises(OperatorError, match="and this is 20"):
        read_share(short, source="paper")


def test_files_that_are_no_shares(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(OperatorError, match=r"missing: cannot read the share: No such file"):
        read_share_file(missing)
    with pytest.raises(OperatorError, match="cannot read the share: Is a directory"):
        read_share_file(tmp_path)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OperatorError, match="binary: is no text"):
        read_share_file(binary)
    long = tmp_path / "long"
    long.write_text("academic " * 10_000)
    with pytest.raises(OperatorError, match="long: is too long for a share"):
        read_share_file(long)


def test_a_share_does_not_show_its_words(five: tuple[Share, ...]) -> None:
    assert repr(five[0]) == f"Share(set_name='{five[0].set_name}', number=1, threshold=3)"
    assert not shows(five[0], repr(five) + repr(share_set(five)))
    assert shows(five[0], " ".join(five[0].words))


def test_words_are_completed() -> None:
    for word in WORDLIST:
        assert complete_word(word) == complete_word(word[:4]) == complete_word(f" {word.upper()} ") == word
        for wrong in (word[:3], word + "x", "x" + word):
            if wrong not in WORDLIST:
                with pytest.raises(OperatorError, match="no word of the list"):
                    complete_word(wrong)


def test_every_choice_is_rehearsed_from_the_files(five: tuple[Share, ...], tmp_path: Path) -> None:
    paths = write(tmp_path, five)
    assert rehearse(paths, share_set(five), secret=SECRET) == tuple(itertools.combinations(range(1, 6), 3))


def test_of_many_choices_each_share_is_used_as_often(tmp_path: Path) -> None:
    shares = split(SECRET, shares=16, threshold=5)
    tried = rehearse(write(tmp_path, shares), share_set(shares), secret=SECRET)
    assert len(set(tried)) == 16
    assert all(sum(number in chosen for chosen in tried) == 5 for number in range(1, 17))


def test_a_rehearsal_sees_what_was_written_wrongly(five: tuple[Share, ...], tmp_path: Path) -> None:
    paths = write(tmp_path, five)
    known = share_set(five)
    with pytest.raises(OperatorError, match=r"4 share files were written, and not one for each of 5 shares"):
        rehearse(paths[:4], known, secret=SECRET)
    with pytest.raises(OperatorError, match=r"^the shares share-1.txt, share-2.txt, share-3.txt give another secret"):
        rehearse(paths, known, secret=secrets.token_bytes(32))
    paths[3].write_text(share_document(altered(five[3]), count=5, made_on=TODAY))
    with pytest.raises(OperatorError, match=r"^share-4.txt: calls itself share 4"):
        rehearse(paths, known, secret=SECRET)
    paths[3].write_text(paths[3].read_text()[:-20])
    with pytest.raises(OperatorError, match=r"share-4.txt: "):
        rehearse(paths, known, secret=SECRET)


def test_four_letters_tell_all_words_apart() -> None:
    assert len(module._BY_PREFIX) == len(WORDLIST) == 1024
