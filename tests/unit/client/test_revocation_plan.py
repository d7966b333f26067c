"""The plan as files: whole or not at all, for its owner alone, and safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.certified import certify
from tests.support.store import NOW

from cassiopeia import files
from cassiopeia.client import mass_revocation
from cassiopeia.client.revocation_plan import Chosen, Plan, make_plan, read_plan, read_template, write_plan
from cassiopeia.errors import OperatorError
from cassiopeia.store.database import Store

DEADLINE = dt.datetime(2026, 12, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def chosen(store: Store) -> tuple[Chosen, ...]:
    certify(store, 1, at=NOW, account="bob@example.org", names=("a.example.org", "b.example.org"))
    certify(store, 2, at=NOW, account="../../etc/passwd", subject="=HYPERLINK(1)\n2", names=())
    certify(store, 3, at=NOW, account="bob@example.org", names=())
    found = [record for page in (store.certificates.page(),) for record in page.items]
    return mass_revocation.choose(found, also_expired=False, now=NOW).chosen


def plan_of(chosen: tuple[Chosen, ...], **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "what": "all",
        "reason": 1,
        "invalidity_date": None,
        "deadline": DEADLINE,
        "now": NOW,
    } | changes
    return make_plan(chosen, **values)


def notices(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((directory / "notices").iterdir())}


def test_what_is_written_is_read_again(chosen: tuple[Chosen, ...], tmp_path: Path) -> None:
    plan = plan_of(chosen, invalidity_date=NOW)
    assert write_plan(tmp_path / "plan", plan, chosen, template=None) == 2
    assert read_plan(tmp_path / "plan") == plan
    assert read_plan(tmp_path / "plan" / "plan.json") == plan
    assert [each.serial_number for each in plan.named] == [each.record.serial_number for each in chosen]


def test_nobody_else_reads_it(chosen: tuple[Chosen, ...], tmp_path: Path) -> None:
    write_plan(tmp_path / "plan", plan_of(chosen), chosen, template=None)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "plan", *(tmp_path / "plan").rglob("*"))}
    assert {mode for name, mode in modes.items() if name in ("plan", "notices")} == {0o700}
    assert {mode for name, mode in modes.items() if name not in ("plan", "notices")} == {0o600}


def test_a_table_that_no_spreadsheet_takes_for_formulas(chosen: tuple[Chosen, ...], tmp_path: Path) -> None:
    write_plan(tmp_path / "plan", plan_of(chosen), chosen, template=None)
    with (tmp_path / "plan" / "certificates.csv").open(newline="") as file:
        first, second, third = csv.DictReader(file)
    assert first["serial_number"] == chosen[0].record.serial_number
    assert (first["account"], first["names"]) == ("bob@example.org", "a.example.org b.example.org")
    assert (first["sub_ca"], first["valid_until"]) == ("unassured_2026_1", "2027-02-21T12:00:00Z")
    assert second["subject"] == "'=HYPERLINK(1)\n2"
    assert first["notice"] == third["notice"] != second["notice"]
    assert (tmp_path / "plan" / "notices" / first["notice"]).is_file()


def test_a_notice_for_each_account(chosen: tuple[Chosen, ...], tmp_path: Path) -> None:
    write_plan(tmp_path / "plan", plan_of(chosen), chosen, template=None)
    written = notices(tmp_path / "plan")
    assert list(written) == ["00001-..%2F..%2Fetc%2Fpasswd.txt", "00002-bob%40example.org.txt"]
    first, second = written.values()
    assert "2 of your certificates will be revoked by 2026-12-01 12:00 UTC" in second
    assert "The reason: keyCompromise" in second
    assert f"{chosen[0].record.serial_number}  valid until 2027-02-21  a.example.org, b.example.org" in second
    # What a stranger has written is one line.
    assert "=HYPERLINK(1)?2" in first
    assert len([path for path in tmp_path.rglob("*") if path.name.startswith("00001")]) == 1


def test_without_a_deadline_the_notice_names_none(chosen: tuple[Chosen, ...], tmp_path: Path) -> None:
    write_plan(tmp_path / "plan", plan_of(chosen, deadline=None, reason=0), chosen, template=None)
    for text in notices(tmp_path / "plan").values():
        assert "will be revoked in the next days" in text
        assert "unspecified" in text
        assert "$" not in text


def test_a_text_of_ones_own(chosen: tuple[Chosen, ...], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Dear $account: $count for 5 $$, $reason, ${deadline}.\n$certificates")
    template = read_template(tmp_path / "text")
    write_plan(tmp_path / "plan", plan_of(chosen), chosen, template=template)
    assert (
        "Dear bob@example.org: 2 for 5 $, keyCompromise, 2026-12-01 12:00 UTC."
        in notices(tmp_path / "plan")["00002-bob%40example.org.txt"]
    )


@pytest.mark.parametrize(
    ("text", "deadline", "said"),
    [
        ("$subject", DEADLINE, r"speaks of \$subject, which is nothing here: there are \$account"),
        ("${account.__class__}", DEADLINE, r"write \$\$ for the sign"),
        ("100 $", DEADLINE, r"write \$\$ for the sign"),
        ("$deadline", None, "give --deadline"),
    ],
)
def test_a_text_that_says_what_is_not_there(
    chosen: tuple[Chosen, ...], tmp_path: Path, text: str, deadline: dt.datetime | None, said: str
) -> None:
    with pytest.raises(OperatorError, match=said):
        write_plan(tmp_path / "plan", plan_of(chosen, deadline=deadline), chosen, template=text)
    assert list(tmp_path.glob("*plan*")) == []


def test_a_text_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes("Grüße".encode("latin-1"))
    (tmp_path / "long").write_bytes(b"x" * 70_000)
    for name, said in (("none", "No such file"), ("latin", "UTF-8"), ("long", "more than 65536")):
        with pytest.raises(OperatorError, match=said):
            read_template(tmp_path / name)


def test_nothing_is_overwritten(chosen: tuple[Chosen, ...], tmp_path: Path) -> None:
    write_plan(tmp_path / "plan", plan_of(chosen), chosen, template=None)
    with pytest.raises(OperatorError, match="never overwritten"):
        write_plan(tmp_path / "plan", plan_of(chosen[:1]), chosen[:1], template=None)
    assert len(read_plan(tmp_path / "plan").certificates) == 3


def test_a_full_disk_leaves_nothing(
    chosen: tuple[Chosen, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file = files.write_file
    for writes in range(4):
        left = [writes]

        def fail(path: Path, content: bytes | str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            write_file(path, content)

        monkeypatch.setattr(files, "write_file", fail)
        with pytest.raises(OperatorError, match="No space left"):
            write_plan(tmp_path / "plan", plan_of(chosen), chosen, template=None)
        assert [path.name for path in tmp_path.iterdir() if "plan" in path.name] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "cassiopeia revocation plan 2"}, "no plan of a mass revocation"),
        ({"reason": 6}, "6 is no reason"),
        ({"invalidity_date": "9999-01-01T00:00:00Z"}, "9999-01-01 is still to come: make the plan anew"),
        ({"deadline": "2026-12-01T12:00:00"}, "no plan of a mass revocation"),
        ({"surprise": 1}, "surprise"),
        ({"certificates": [{"serial_number": "x", "authority": "a", "sha256": "0" * 64}]}, "certificates"),
    ],
    ids=["format", "reason", "invalidity", "deadline", "unknown", "serial"],
)
def test_a_plan_that_somebody_has_changed(
    chosen: tuple[Chosen, ...], tmp_path: Path, change: dict[str, object], said: str
) -> None:
    write_plan(tmp_path / "plan", plan_of(chosen), chosen, template=None)
    path = tmp_path / "plan" / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(OperatorError, match=said):
        read_plan(path)


def test_what_is_no_plan(chosen: tuple[Chosen, ...], tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot read the plan"):
        read_plan(tmp_path)
    for octets in (b"", b"\xff", b"[]", b"{"):
        (tmp_path / "plan.json").write_bytes(octets)
        with pytest.raises(OperatorError, match="cassiopeia revoke plan"):
            read_plan(tmp_path)
    write_plan(tmp_path / "twice", plan_of((chosen[0], chosen[0])), chosen[:1], template=None)
    with pytest.raises(OperatorError, match="twice"):
        read_plan(tmp_path / "twice")
