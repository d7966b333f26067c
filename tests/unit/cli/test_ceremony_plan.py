"""`cassiopeia ceremony plan` as a person meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cassiopeia.ceremony.hierarchy import default_hierarchy_text
from cassiopeia.cli.main import cassiopeia


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cassiopeia, ["ceremony", "plan", *arguments], prog_name="cassiopeia")


def write(*changes: tuple[str, str]) -> str:
    text = default_hierarchy_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path("mine.toml").write_text(text, encoding="utf-8")
    return "mine.toml"


def test_the_default_hierarchy_as_it_is() -> None:
    result = run(write(), "--from", "2027-02-03")

    assert result.exit_code == 0
    assert result.stdout.startswith(
        "Cassiopeia: a root, 5 structure CAs and 40 time sub-CAs, made on 2027-02-03 and issuing until 2029-01-01\n"
    )
    assert "\n  2027-02-03   2027-07-01    unassured  unassured_2027_1 +2  2029-06-30\n" in result.stdout
    assert "\nObjections\n  warning: url_base: nobody outside can reach 'pki.example.org'" in result.stdout
    assert [each.name for each in Path().iterdir()] == ["mine.toml"]


def test_the_default_hierarchy_is_there_to_copy() -> None:
    assert run("--show-default").stdout == default_hierarchy_text()
    assert "Missing argument 'FILE'" in run().stderr


def test_an_error_is_an_exit_status_behind_everything_else() -> None:
    result = run(write(("expected_a_month = 2500", "expected_a_month = 9000")), "--from", "2027-02-03")

    assert result.exit_code == 1
    assert "1 of these is an error: mend the hierarchy first" in result.stderr
    assert (
        "  unassured  21,300            9,000             54,000                    2              1\n" in result.stdout
    )
    assert "\nObjections\n  error: family unassured: 54000 certificates are expected in each period" in result.stdout


def test_a_file_that_is_no_hierarchy_makes_no_plan() -> None:
    result = run(write(('["0009-code-a"]', '["code.toml"]')))

    assert result.exit_code == 1
    assert result.stdout == ""
    assert "mine.toml: family[2].profiles[0]: cannot read 'code.toml': No such file" in result.stderr
    assert "gone.toml: cannot read this file" in run("gone.toml").stderr


@pytest.mark.parametrize("day", ["1999-12-31", "2200-01-01", "2027-02-30", "soon"])
def test_a_day_that_no_ceremony_is_held_on(day: str) -> None:
    result = run(write(), "--from", day)

    assert result.exit_code == 2
    assert "--from" in result.stderr
