"""The passphrase of the offline keys, split among people: Shamir's secret sharing, by SLIP-39's words.

Owns what a share is, its words on paper and in files, and the commitments that the offline bundle keeps, so that each
share is known as right or wrong by itself. The arithmetic is `shamir_mnemonic`'s, the reference implementation of
SLIP-39: whoever has enough shares gets the secret back with any other implementation too. What the secret opens is
`safe`'s business. No message here repeats a word of a share, but for the two that name its set.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import shamir_mnemonic
from shamir_mnemonic.wordlist import WORDLIST

from cassiopeia.errors import InternalError, OperatorError

SECRET_OCTETS: Final = 32
WORDS: Final = 33
"""SLIP-39: 256 bits in words of 10 bits, and 7 words that say which share of which set it is, and that it is whole."""
MOST_SHARES: Final = 16
"""SLIP-39: a share has its number in four bits."""
LEAST_THRESHOLD: Final = 2
"""With 1, every share would be the secret itself (and SLIP-39 has no such sets)."""

_SET_WORDS: Final = 2  # SLIP-39: identifier, extendable flag and iteration exponent have 20 bits
_COMMITMENT_TAG: Final = b"cassiopeia share\0"
# The secret is random: there is nothing to guess that many rounds would make slower.
_ITERATION_EXPONENT: Final = 0
_MOST_OCTETS: Final = 16 * 1024
_MOST_REHEARSED: Final = 20

_COLUMNS: Final = 3
# SLIP-39: four letters tell each word from all others.
_PREFIX_LETTERS: Final = 4
_BY_PREFIX: Final[dict[str, str]] = {word[:_PREFIX_LETTERS]: word for word in WORDLIST}
_ROW: Final = re.compile(r"\s*([0-9]{1,3}[.:)]?\s+[A-Za-z]+(\s+|$))+")
_CELL: Final = re.compile(r"([0-9]{1,3})[.:)]?\s+([A-Za-z]+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """One of several shares, any `threshold` of which give the secret. `set_name` is the same in all of a set."""

    set_name: str
    number: int
    threshold: int
    words: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareSet:
    """What is kept of a set of shares: how many open the safe, and a commitment to each (SHA-256, hex), in order."""

    name: str
    threshold: int
    commitments: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.commitments)


def check_numbers(*, shares: int, threshold: int) -> None:
    """Raise OperatorError unless a secret can be split so."""
    if not LEAST_THRESHOLD <= threshold <= shares <= MOST_SHARES:
        raise OperatorError(
            f"{shares} shares of which {threshold} are needed: take {LEAST_THRESHOLD} to {MOST_SHARES} shares, of "
            f"which at least {LEAST_THRESHOLD} are needed, and no more than there are"
        )


def split(secret: bytes, *, shares: int, threshold: int, other_than: str = "") -> tuple[Share, ...]:
    """Split a secret of 32 random octets into a set with another name than `other_than`.

    Raises OperatorError for numbers that cannot be.
    """
    check_numbers(shares=shares, threshold=threshold)
    if len(secret) != SECRET_OCTETS:
        raise InternalError(f"a secret of {SECRET_OCTETS} octets is split, and no other")
    while True:
        (lines,) = shamir_mnemonic.generate_mnemonics(
            1, [(threshold, shares)], secret, iteration_exponent=_ITERATION_EXPONENT
        )
        made = tuple(_read(line.split()) for line in lines)
        # Sets are named at random, by 15 bits: an old share and a new one must never look alike.
        if made[0].set_name != other_than:
            return made


def share_set(shares: Sequence[Share]) -> ShareSet:
    """What the offline bundle keeps of all the shares of a set."""
    ordered = sorted(shares, key=lambda each: each.number)
    return ShareSet(
        name=ordered[0].set_name,
        threshold=ordered[0].threshold,
        commitments=tuple(_commitment(each) for each in ordered),
    )


def check_share(share: Share, known: ShareSet, *, source: str) -> None:
    """Raise OperatorError unless this is a share of that set, unaltered. `source` says where it came from."""
    if share.set_name != known.name:
        raise OperatorError(
            f"{source}: is a share of the set {share.set_name!r}, and this safe opens with the set {known.name!r}: "
            "look for the newer shares, or for the older bundle"
        )
    if share.number > known.count or not hmac.compare_digest(known.commitments[share.number - 1], _commitment(share)):
        raise OperatorError(
            f"{source}: calls itself share {share.number} of the set {known.name!r}, and is not: it was altered, or "
            "made by somebody else; put it aside, take another one, and find out who had it"
        )


def check_together(shares: Sequence[tuple[str, Share]]) -> None:
    """Raise OperatorError unless these are shares of one set, and none is there twice."""
    by_number: dict[int, str] = {}
    first_source, first = shares[0]
    for source, share in shares:
        if (share.set_name, share.threshold) != (first.set_name, first.threshold):
            raise OperatorError(
                f"{source}: is a share of the set {share.set_name!r}, and {first_source} is one of {first.set_name!r}: "
                "shares open a safe only with others of their own set"
            )
        if share.number in by_number:
            raise OperatorError(
                f"{source}: is share {share.number}, and so is {by_number[share.number]}: another one is needed instead"
            )
        by_number[share.number] = source


def recover(shares: Sequence[tuple[str, Share]], known: ShareSet | None = None) -> bytes:
    """The secret, of shares with the places that they came from; raises OperatorError that names what is wrong.

    More shares than needed are welcome: all are looked at. Without the set, a forged share shows in what comes out, but
    nobody knows which one it is.
    """
    # 1. Each by itself.
    if not shares:
        raise OperatorError("no share was given: name the files of the shares, or type their words")
    if known is not None:
        for source, share in shares:
            check_share(share, known, source=source)
    # 2. All together.
    check_together(shares)
    _, first = shares[0]
    if len(shares) < first.threshold:
        raise OperatorError(
            f"{len(shares)} of the {first.threshold} shares that are needed: get {first.threshold - len(shares)} more "
            f"of the set {first.set_name!r}"
        )
    # 3. The secret: the library takes exactly as many as are needed.
    chosen = [share for _, share in shares][: first.threshold]
    try:
        secret: bytes = shamir_mnemonic.combine_mnemonics([" ".join(each.words) for each in chosen])
    except shamir_mnemonic.MnemonicError:
        raise OperatorError(
            "these shares do not fit together: one of them was altered or made by somebody else; with the offline "
            "bundle, `cassiopeia ceremony share check` says which"
        ) from None
    return secret


def rehearse(paths: Sequence[Path], known: ShareSet, *, secret: bytes) -> tuple[tuple[int, ...], ...]:
    """Open the safe with what was written down, as if it were needed; return the sets of numbers that did it.

    Every choice of just enough shares is tried, where there are few; otherwise so many that each share is used as often
    as any other. Raises OperatorError when anything is not as it should be.
    """
    written = [(path.name, read_share_file(path)) for path in paths]
    if sorted(share.number for _, share in written) != list(range(1, known.count + 1)):
        raise OperatorError(f"{len(written)} share files were written, and not one for each of {known.count} shares")
    tried = []
    for chosen in _minimal_choices(written, known.threshold):
        if not hmac.compare_digest(recover(chosen, known), secret):
            raise OperatorError(
                f"the shares {', '.join(source for source, _ in chosen)} give another secret than the one that was "
                "split: use none of these shares, and begin again"
            )
        tried.append(tuple(sorted(share.number for _, share in chosen)))
    return tuple(tried)


def share_file_name(share: Share) -> str:
    return f"share-{share.number}.txt"


def share_document(share: Share, *, count: int, made_on: dt.date) -> str:
    """What is written into a share's file, to be printed, or copied by hand; it says what it is, and no more."""
    rows = -(-WORDS // _COLUMNS)
    numbered = [f"{number:>2} {word:<9}" for number, word in enumerate(share.words, start=1)]
    table = ["   ".join(numbered[row::rows]).rstrip() for row in range(rows)]
    return "\n".join(
        [
            f"Share {share.number} of {count}",
            "",
            f"Any {share.threshold} of these {count} shares together open a safe with keys. Keep this one where nobody",
            "finds it with another one, and show it to nobody.",
            "",
            f"Set:   {share.set_name}",
            f"Made:  {made_on:%Y-%m-%d}",
            "",
            *table,
            "",
        ]
    )


def read_share_file(path: Path) -> Share:
    """Raises OperatorError, which names the file."""
    try:
        with path.open("rb") as file:
            octets = file.read(_MOST_OCTETS + 1)
        if len(octets) > _MOST_OCTETS:
            raise OperatorError(f"{path}: is too long for a share: name a file that `cassiopeia ceremony` wrote")
        text = octets.decode("utf-8-sig")
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the share: {error.strerror}") from error
    except UnicodeDecodeError:
        raise OperatorError(f"{path}: is no text: name a file that `cassiopeia ceremony` wrote") from None
    return read_share(text, source=str(path))


def read_share(text: str, *, source: str) -> Share:
    """A share of its words, alone or in a numbered table with other text around it; raises OperatorError.

    Words may be in capitals and cut to four letters. No message repeats a word.
    """
    try:
        return _read(list(_words(text)))
    except OperatorError as error:
        raise OperatorError(f"{source}: {error}") from None


def complete_word(text: str) -> str:
    """The word of the list that this is, or that its first four letters begin; raises OperatorError, without it."""
    word = text.strip().lower()
    found = _BY_PREFIX.get(word[:_PREFIX_LETTERS])
    if found is None or not found.startswith(word):
        raise OperatorError("this is no word of the list: look at it again")
    return found


def _words(text: str) -> Iterator[str]:
    rows = [line for line in text.splitlines() if _ROW.fullmatch(line)]
    if rows:
        cells = [(int(number), word) for line in rows for number, word in _CELL.findall(line)]
        if sorted(number for number, _ in cells) != list(range(1, WORDS + 1)):
            raise OperatorError(
                f"the words of its table are not numbered from 1 to {WORDS}, each once: fill in what is missing"
            )
        given = [word for _, word in sorted(cells)]
    else:
        given = text.split()
    for number, word in enumerate(given, start=1):
        try:
            yield complete_word(word)
        except OperatorError:
            raise OperatorError(f"word {number} is no word of the list: look at it again") from None


def _read(words: Sequence[str]) -> Share:
    if len(words) != WORDS:
        raise OperatorError(f"a share has {WORDS} words, and this is {len(words)}: write down all of them")
    try:
        share = shamir_mnemonic.Share.from_mnemonic(" ".join(words))
    except shamir_mnemonic.MnemonicError:
        raise OperatorError("its words do not fit together: at least one of them is wrong; compare each") from None
    ours = (1, 1, _ITERATION_EXPONENT)
    theirs = (share.group_threshold, share.group_count, share.iteration_exponent)
    if theirs != ours or share.member_threshold < LEAST_THRESHOLD:
        raise OperatorError("is a share of another kind of set than this software makes: look for the right one")
    return Share(
        set_name=" ".join(words[:_SET_WORDS]),
        number=share.index + 1,
        threshold=share.member_threshold,
        words=tuple(words),
    )


def _commitment(share: Share) -> str:
    return hashlib.sha256(_COMMITMENT_TAG + " ".join(share.words).encode()).hexdigest()


def _minimal_choices(written: Sequence[tuple[str, Share]], threshold: int) -> Iterable[tuple[tuple[str, Share], ...]]:
    if math.comb(len(written), threshold) <= _MOST_REHEARSED:
        return itertools.combinations(written, threshold)
    around = [*written, *written]
    return (tuple(around[start : start + threshold]) for start in range(len(written)))
