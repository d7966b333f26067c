from __future__ import annotations

import pytest

from cassiopeia.cli.options import print_fields, print_table

# Red ink, a bell, a line of one's own, a C1 control sequence, text that runs backwards.
HOSTILE = "a\x1b[31m\x07\nb\x9b2J\u202ec"
VISIBLE = r"a\x1b[31m\x07\nb\x9b2J\u202ec"


def test_no_field_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"name": HOSTILE, "empty": "", "other": "Zoë 株式会社"})

    assert capsys.readouterr().out == f"name   {VISIBLE}\nother  Zoë 株式会社\n"


def test_no_cell_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "STATE"), [(HOSTILE, "refused"), ("Zoë", "issued")])

    width = len(VISIBLE)
    lines = [f"{'NAME'.ljust(width)}  STATE", f"{VISIBLE}  refused", f"{'Zoë'.ljust(width)}  issued"]
    assert capsys.readouterr().out.splitlines() == lines
