"""`cassiopeia ceremony run`, `extend`, `crl` and `adopt`: what is wrong with what was typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.safes import make_safe, put_away

from cassiopeia.cli.ceremony_hold import REASONS, named_files
from cassiopeia.cli.main import cassiopeia
from cassiopeia.core import crl

OUT = ["--out", "out"]


@pytest.fixture(autouse=True)
def _in_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def offline() -> list[str]:
    return ["--offline", put_away(make_safe(), Path()).name]


def error(*arguments: str, status: int = 1) -> str:
    done = CliRunner().invoke(cassiopeia, ["ceremony", *arguments], prog_name="cassiopeia")
    assert done.exit_code == status, done.output
    assert not Path("out").exists()
    return " ".join(done.stderr.split())


def test_the_reasons_are_those_of_crls() -> None:
    assert tuple(crl.REASONS.values()) == REASONS


def test_names_have_files_and_each_once() -> None:
    assert named_files(["a=x", "b=y=z"], option="--csr") == {"a": Path("x"), "b": Path("y=z")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "none.toml", *OUT], "none.toml: cannot read this file: No such file or directory"),
        (["extend", "--offline", "none", "--period", "2027-1", *OUT], "none: cannot read the offline bundle"),
        (["crl", "--offline", "none", *OUT], "none: cannot read the offline bundle"),
    ],
    ids=["run", "extend", "crl"],
)
def test_what_is_not_there_is_named(words: list[str], said: str) -> None:
    assert said in error(*words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "default.toml", "--shares", "5", *OUT], "Give both --shares and --threshold"),
        (["run", "default.toml", "--shares", "1", "--threshold", "1", *OUT], "1 is not in the range 2<=x<=16"),
        (["run", "default.toml", "--csr", "x.csr", *OUT], "--csr 'x.csr': write NAME=FILE"),
        (["run", "default.toml", "--csr", "a=x", "--csr", "a=y", *OUT], "--csr: a is given twice"),
        (["adopt", "default.toml"], "Give one of --out and --csr-out"),
        (["adopt", "default.toml", "--csr-out", "x", *OUT], "Give one of --out and --csr-out"),
        (["adopt", "default.toml", "--csr-out", "x", "--csr", "a=x"], "--csr-out makes no sub-CAs"),
        (["adopt", "default.toml", "--key", "root=x", *OUT], "--key root=...: give its certificate as well"),
        (["adopt", "default.toml", "--ca", "root=y", "--key", "root=x", *OUT], "give its last CRL as well"),
        (["adopt", "default.toml", "--share", "x", *OUT], "Name what these open with --offline"),
        (["crl", "--offline", "x", "--reason", "superseded", *OUT], "--reason says why a CA is revoked"),
        (["crl", "--offline", "x", "--revoke", "a", "--reason", "certificateHold", *OUT], "'certificateHold' is not"),
    ],
    ids=lambda value: " ".join(value[:5]) if isinstance(value, list) else "",
)
def test_words_that_do_not_fit_together(words: list[str], said: str) -> None:
    Path("default.toml").write_text(
        CliRunner().invoke(cassiopeia, ["ceremony", "plan", "--show-default"]).stdout, encoding="utf-8"
    )

    assert said in error(*words, status=2)


@pytest.mark.parametrize("period", ["2027", "2027-3", "27-1", "2027-0", "1999-1"])
def test_a_period_that_is_none(offline: list[str], period: str) -> None:
    said = error("extend", *offline, "--period", period, *OUT)

    assert f"'{period}' is no period of this hierarchy: write the year and a number from 1 to 2, as 2027-1" in said


def test_a_period_that_is_over(offline: list[str]) -> None:
    assert "which is over: begin with a later period" in error("extend", *offline, "--period", "2020-1", *OUT)


def test_a_ca_that_there_is_not(offline: list[str]) -> None:
    said = error("crl", *offline, "--revoke", "nobody", *OUT)

    assert "there is no CA 'nobody' in this hierarchy; there are root, unassured" in said


def test_a_passphrase_that_is_another_ones(offline: list[str]) -> None:
    path = Path("offline.passphrase")
    path.write_text("0" * 64)

    assert "offline.bundle: does not open with this passphrase" in error("crl", *offline, *OUT)
