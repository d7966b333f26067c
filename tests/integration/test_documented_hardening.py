"""docs/hardening.md says of each unit what systemd says, explains every line, and hides no copy of a passphrase."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.integration.test_systemd_units import DROP_INS, MOST, SERVICES, UNITS, analyze, installed
from tests.support import confined

from cassiopeia import process_guard

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "cassiopeia"
PAGE = (ROOT / "docs" / "hardening.md").read_text(encoding="utf-8")


def table(heading: str) -> list[dict[str, str]]:
    """The rows of the first table below a heading, by their headers."""
    below = re.search(rf"^##+ {re.escape(heading)}\n(.*)", PAGE, re.MULTILINE | re.DOTALL)
    assert below is not None
    first = re.search(r"(?:^\|.*\n)+", below[1], re.MULTILINE)
    assert first is not None
    header, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in first[0].splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def quoted(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


ROWS = {(*quoted(row["unit"]), *quoted(row["with"])): row for row in table("Exposure")}


def test_every_choice_that_is_tested_has_its_figure() -> None:
    assert set(ROWS) == set(MOST)


@pytest.mark.parametrize("chosen", MOST, ids="+".join)
def test_the_figure_is_what_systemd_says(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    said = re.search(
        r"exposure level for \S+: ([0-9.]+)", analyze("security", "--offline=true", installed(tmp_path, *chosen)).stdout
    )
    measured_with = re.search(r"Measured with (systemd [0-9]+)", PAGE)
    assert said is not None
    assert measured_with is not None

    figure = ROWS[chosen]["exposure"]

    # Other versions weigh, and look at, other things.
    same = analyze("--version").stdout.startswith(f"{measured_with[1]} ")
    assert said[1] == figure if same else float(said[1]) <= MOST[chosen]


@pytest.mark.parametrize("chosen", MOST, ids="+".join)
def test_the_families_of_sockets_are_those_of_the_unit(chosen: tuple[str, ...]) -> None:
    service, *drop_ins = chosen
    settings = confined.read_service(UNITS / service, [DROP_INS / each for each in drop_ins])

    families = {name for value in settings["RestrictAddressFamilies"] for name in value.split()}

    assert set(quoted(ROWS[chosen]["families of sockets"])) == families


def test_every_drop_in_is_named_with_what_it_opens() -> None:
    named = [quoted(row["drop-in"])[0] for row in table("Installing the units")]

    assert sorted(named) == sorted(path.name for path in DROP_INS.iterdir())


def test_every_line_is_explained_and_no_other() -> None:
    lines = set()
    for path in (*(UNITS / each for each in SERVICES), *DROP_INS.iterdir()):
        service = path.read_text(encoding="utf-8").partition("[Service]\n")[2].partition("\n[")[0]
        lines |= set(re.findall(r"^#?([A-Z][A-Za-z]+=)", service, re.MULTILINE))

    explained = [name for row in table("What each line is good for") for name in quoted(row["line"])]

    assert sorted(explained) == sorted(lines)


def test_every_variable_that_is_dropped_is_named() -> None:
    cells = [row["what"] for row in table("What the processes do for themselves")]

    assert set(quoted(next(cell for cell in cells if "variables" in cell))) == set(process_guard._TELLING)


def test_every_place_that_copies_a_passphrase_is_named() -> None:
    copying = {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for path in SOURCE.rglob("*.py")
        if re.search(r"\bbytes\(pass(phrase|word)\)|passphrase\.encode\(\)", path.read_text(encoding="utf-8"))
    }

    named = {name for row in table("Passphrases in memory") for name in quoted(row["where"])}

    assert copying
    assert copying <= named
    assert all((SOURCE / name.replace(".", "/")).with_suffix(".py").is_file() for name in named)
