"""`cassiopeia ceremony share`: from files and from the keyboard, with the safe and without."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import pytest
import shamir_mnemonic
from click.testing import CliRunner, Result
from tests.support.safes import make_safe, put_away, put_away_split, shows

from cassiopeia.ceremony.safe import Safe
from cassiopeia.ceremony.shares import Share, read_share, read_share_file
from cassiopeia.cli.main import cassiopeia


@pytest.fixture(scope="module")
def safe() -> Safe:
    return make_safe()


@pytest.fixture
def shares(safe: Safe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Share]:
    """offline.bundle and share-1.txt to share-3.txt, where we are; two are needed."""
    monkeypatch.chdir(tmp_path)
    _, made = put_away_split(safe, tmp_path)
    return made


def run(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(
        cassiopeia, ["ceremony", "share", *arguments], prog_name="cassiopeia", input=typed or None
    )


def words(share: Share) -> str:
    return " ".join(share.words)


def forge(share: Share) -> str:
    """A share with another content, whole in itself."""
    inner = shamir_mnemonic.Share.from_mnemonic(words(share))
    forged: str = dataclasses.replace(inner, value=bytes(32)).mnemonic()
    return forged


def test_a_share_is_looked_at_by_itself(shares: list[Share]) -> None:
    name = shares[0].set_name
    result = run("check", "share-2.txt")
    assert (result.exit_code, result.output) == (
        0,
        f"share-2.txt: share 2 of the set '{name}', 2 are needed: is whole\n",
    )
    result = run("check", "share-2.txt", "--offline", "offline.bundle")
    assert result.output == (
        f"share-2.txt: share 2 of the set '{name}', 2 are needed: belongs to the safe of ceremony 1 of "
        "2026-01-23 12:30 UTC\n"
    )


def test_enough_shares_open_the_safe(shares: list[Share]) -> None:
    result = run("check", "share-1.txt", "share-3.txt", "--offline", "offline.bundle", "--bundle-key", "key.pem")
    assert (result.exit_code, result.output) == (
        1,
        "cassiopeia: error: key.pem: cannot read the bundle key: No such file or directory\n",
    )
    result = run("check", "share-1.txt", "share-3.txt", "--offline", "offline.bundle")
    assert (result.exit_code, len(result.output.splitlines())) == (0, 3)
    assert result.output.endswith("Together they open it: 3 keys, each the one of its certificate.\n")
    result = run("check", "share-1.txt", "share-3.txt")
    assert result.output.splitlines()[-1].startswith("They fit together. Which safe they open, only the offline bundle")
    assert not any(shows(share, result.output) for share in shares)


def test_a_wrong_share_is_named(shares: list[Share], tmp_path: Path) -> None:
    (tmp_path / "false.txt").write_text(forge(shares[1]))
    result = run("check", "share-1.txt", "false.txt", "--offline", "offline.bundle")
    assert result.exit_code == 1
    assert "cassiopeia: error: false.txt: calls itself share 2 of the set" in result.output
    result = run("check", "share-1.txt", "false.txt")
    assert result.exit_code == 1
    assert "error: these shares do not fit together: one of them was altered" in result.output


@pytest.mark.parametrize("offline", [(), ("--offline", "offline.bundle")], ids=["alone", "with-safe"])
def test_the_same_share_twice_is_not_two(shares: list[Share], offline: tuple[str, ...]) -> None:
    assert shares
    result = run("check", "share-1.txt", "share-1.txt", *offline)
    assert result.exit_code == 1
    assert "error: share-1.txt: is share 1, and so is share-1.txt: another one is needed instead" in result.output


def test_shares_of_two_sets_are_told_apart(shares: list[Share], safe: Safe, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    _, others = put_away_split(safe, tmp_path / "old")
    result = run("check", "share-1.txt", "old/share-2.txt")
    assert f"old/share-2.txt: is a share of the set '{others[0].set_name}', and share-1.txt is one of" in result.output
    result = run("check", "old/share-2.txt", "--offline", "offline.bundle")
    assert result.exit_code == 1
    assert f"and this safe opens with the set '{shares[0].set_name}': look for the newer shares" in result.output


def test_words_are_typed_and_not_shown(shares: list[Share]) -> None:
    short = " ".join(word[:4] for word in shares[2].words)
    result = run("check", "--typed", "1", "--offline", "offline.bundle", typed=short + "\n")
    assert result.exit_code == 0
    assert "the typed share: share 3 of the set" in result.stdout
    assert not shows(shares[2], result.output)


def test_a_typing_error_costs_one_word(shares: list[Share]) -> None:
    given = [*shares[0].words]
    typed = "\n".join(
        [" ".join(given[:10]), f"{given[10]} xylophone {given[12]}", " ".join(given[11:20]), " ".join(given[20:])]
    )
    result = run("check", "share-2.txt", "--typed", "1", typed=typed + "\n")
    assert result.exit_code == 0, result.output
    assert "word 12: this is no word of the list: look at it again; go on from there" in result.stderr
    assert "xylophone" not in result.output
    assert "They fit together." in result.stdout


def test_words_that_do_not_fit_together_are_asked_for_again(shares: list[Share]) -> None:
    wrong = [*shares[0].words]
    wrong[20] = "academic" if wrong[20] != "academic" else "acid"
    typed = [" ".join(wrong), words(shares[0]), words(shares[1])]
    result = run("check", "--typed", "2", typed="\n".join(typed) + "\n")
    assert result.exit_code == 0, result.output
    assert "typed share 1 of 2: its words do not fit together: at least one of them is wrong" in result.stderr
    assert "typed share 2 of 2: share 2 of the set" in result.stdout


def test_who_stops_typing_stops_it(shares: list[Share]) -> None:
    result = run("check", "--typed", "1", typed=f"{shares[0].words[0]}\n")
    assert result.exit_code == 1
    assert "share 1 of the set" not in result.output


def test_what_is_missing_is_said(shares: list[Share]) -> None:
    assert shares
    for arguments, said in (
        (("check",), "Missing shares: name their files, or have words asked for with --typed 1."),
        (("check", "share-1.txt", "--bundle-key", "k"), "--bundle-key says something of a bundle: name that with"),
        (("reshare", "--out", "new"), "Missing option '--offline'"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert said in result.output
        assert len(result.output.splitlines()) == 1


def test_a_safe_that_is_not_split(safe: Safe, shares: list[Share], tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    put_away(safe, tmp_path / "whole")
    assert shares
    result = run("check", "share-1.txt", "--offline", "whole/offline.bundle")
    assert result.output.endswith("is not split into shares: it opens with its passphrase file alone\n")
    result = run("reshare", "--offline", "whole/offline.bundle", "--out", "new", "--shares", "4", "--threshold", "4")
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "new" / "shares").iterdir())) == 4


def test_new_shares_are_made(shares: list[Share], tmp_path: Path) -> None:
    result = run(
        "reshare", "--offline", "offline.bundle", "--share", "share-2.txt", "--typed", "1", "--out", "new",
        typed=words(shares[0]) + "\n",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Made in new, in place of ceremony 1 of 2026-01-23 12:30 UTC:" in result.output
    assert "offline.bundle: the safe, as ceremony 2, which is the newest one now" in result.output
    assert "shares/: 5 shares, 3 of which open it; 10 choices of them were tried" in result.output
    assert "Destroy them all: the shares, the passphrase's file, and the old bundles" in result.output
    paths = [f"new/shares/share-{number}.txt" for number in (2, 4, 5)]
    assert run("check", *paths, "--offline", "new/offline.bundle").exit_code == 0
    assert run("check", "share-1.txt", "--offline", "new/offline.bundle").exit_code == 1
    assert f"Made:  {dt.datetime.now(dt.UTC):%Y-%m}" in (tmp_path / paths[0]).read_text()
    assert not any(shows(read_share_file(tmp_path / path), result.output) for path in paths)
    assert shows(shares[0], words(shares[0])), "as it would look"


def test_too_few_shares_make_no_new_ones(shares: list[Share], tmp_path: Path) -> None:
    result = run("reshare", "--offline", "offline.bundle", "--share", "share-2.txt", "--out", "new")
    assert result.exit_code == 1
    assert "error: 1 of the 2 shares that are needed: get 1 more of the set" in result.output
    assert not (tmp_path / "new").exists()
    assert read_share(words(shares[0]), source="it").number == 1
