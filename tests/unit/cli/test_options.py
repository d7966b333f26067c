from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cassiopeia.cli.options import print_fields, print_json, print_table, set_up_logging, show_time, write_out

MOMENT = dt.datetime(2026, 11, 23, 8, 32, 13, tzinfo=dt.timezone(dt.timedelta(hours=1)))

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


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """The logger that every module's own is below of, as it was afterwards."""
    logger = logging.getLogger("cassiopeia")
    handlers, level = logger.handlers[:], logger.level
    yield logging.getLogger("cassiopeia.signer.service")
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_log_lines_have_utc_and_say_when_something_is_wrong(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(verbose=False, log_format="text")
    log.debug("a step")
    log.info("running: signer %d", 7)
    log.warning("the line broke")
    first, second = capsys.readouterr().err.splitlines()
    time_text, _, words = first.partition(" ")
    assert words == "running: signer 7"
    moment = dt.datetime.strptime(time_text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=dt.UTC)
    assert abs(dt.datetime.now(dt.UTC) - moment) < dt.timedelta(minutes=1)
    assert second.endswith(" the line broke [WARNING]")


def test_verbose_tells_every_step(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(verbose=True, log_format="text")
    log.debug("a step")
    assert capsys.readouterr().err.endswith(" a step\n")


def test_log_lines_for_machines_are_json(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(verbose=False, log_format="json")
    log.info("CRL of %s\nin one line", "Zoë")
    try:
        int("not a number")
    except ValueError:
        log.exception("a bug")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(each["level"], each["module"], each["message"]) for each in lines] == [
        ("info", "cassiopeia.signer.service", "CRL of Zoë\nin one line"),
        ("error", "cassiopeia.signer.service", "a bug"),
    ]
    assert dt.datetime.fromisoformat(lines[0]["time"]).utcoffset() == dt.timedelta()
    assert "exception" not in lines[0]
    assert lines[1]["exception"].endswith("ValueError: invalid literal for int() with base 10: 'not a number'")


def test_json_says_when_in_iso_8601_and_refuses_what_it_cannot_say(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "Zoë", "at": MOMENT})
    assert json.loads(capsys.readouterr().out) == {"name": "Zoë", "at": "2026-11-23T08:32:13+01:00"}
    with pytest.raises(TypeError, match="no JSON for bytes"):
        print_json([b"octets"])


def test_times_for_people_are_utc() -> None:
    assert show_time(MOMENT) == "2026-11-23 07:32:13Z"
    assert show_time(None) == ""


def test_octets_go_to_a_file_or_to_stdout(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_out(b"\x30\x00\n", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"\x30\x00\n"
    write_out(b"\x30\x00\n", None)
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == b"\x30\x00\n"
