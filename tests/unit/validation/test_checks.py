"""Real programs: what they see, what they cannot do to us, and that nothing of them is left."""

from __future__ import annotations

import os
import selectors
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cassiopeia.config import CheckProgram
from cassiopeia.validation.checks import OUTPUT_OCTETS, Checks, Fact, Finding

FACT = Fact(kind="dns-control", value="www.example.org", account="momo")
PATIENCE_S = 60.0


class Loop:
    """What the service does: select, then pump."""

    def __init__(self, at_once: int = 2) -> None:
        self.selector = selectors.DefaultSelector()
        self.time = 0.0
        self.checks = Checks(at_once=at_once, selector=self.selector, clock=lambda: self.time)

    def turn(self) -> list[Finding]:
        for key, mask in self.selector.select(0.02) if self.selector.get_map() else []:
            key.data(mask)
        return self.checks.pump()

    def until(self, count: int) -> list[Finding]:
        found: list[Finding] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < count:
            assert time.monotonic() < deadline, found
            found += self.turn()
        return found


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.checks.stop()
    assert not made.selector.get_map()
    made.selector.close()


def program(code: str, *, timeout_s: int = 60) -> CheckProgram:
    return CheckProgram(kinds=("dns-control",), command=(sys.executable, "-c", code), timeout_s=timeout_s)


def shell(script: str, *, timeout_s: int = 60) -> CheckProgram:
    return CheckProgram(kinds=("dns-control",), command=("sh", "-c", script, "check"), timeout_s=timeout_s)


def test_it_is_told_what_to_look_at_and_says_how_it_saw(loop: Loop) -> None:
    arguments = '[ "$*" = "dns-control www.example.org momo" ]'
    environment = '[ "$CASSIOPEIA_KIND $CASSIOPEIA_VALUE $CASSIOPEIA_ACCOUNT" = "$*" ]'
    loop.checks.submit(FACT, shell(f"{arguments} && {environment} && echo dns && echo more"))

    assert loop.checks.is_under_way(FACT)
    assert loop.until(1) == [Finding(fact=FACT, method="dns", reason="")]
    assert not loop.checks.is_under_way(FACT)


def test_it_gets_nothing_of_ours(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    with Path("/dev/null").open("rb") as ours:
        os.set_inheritable(ours.fileno(), True)
        loop.checks.submit(
            FACT, shell(f'[ -z "$PGPASSWORD" ] && [ ! -e /proc/$$/fd/{ours.fileno()} ] && ! read line && echo dns')
        )

        assert loop.until(1)[0].method == "dns"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo working; echo first >&2; echo 'no TXT record' >&2; echo >&2; exit 1", "no TXT record"),
        ("exit 7", "ended with status 7, and said nothing"),
        ("kill -9 $$", "ended with status -9, and said nothing"),
        ("echo; echo dns", "named no method in its first line, as dns or http: empty"),
        ("echo 'DNS, I think'", "named no method in its first line, as dns or http: DNS, I think"),
        ("printf '\\033[2J\\377' >&2; exit 1", "\\x1b[2J\\xff"),
        ("head -c 1000 /dev/zero | tr '\\0' a >&2; exit 1", "a" * 200),
    ],
)
def test_what_it_did_not_see_has_a_reason(loop: Loop, script: str, reason: str) -> None:
    loop.checks.submit(FACT, shell(script))

    assert loop.until(1) == [Finding(fact=FACT, method="", reason=reason)]


def test_a_program_that_is_not_there(loop: Loop) -> None:
    loop.checks.submit(FACT, CheckProgram(kinds=("dns-control",), command=("/nowhere/check",), timeout_s=1))

    [found] = loop.until(1)
    assert found.reason == "cannot be started (No such file or directory): /nowhere/check"
    assert not loop.checks.is_under_way(FACT)


def test_a_value_that_no_program_can_be_told(loop: Loop) -> None:
    fact = Fact(kind="dns-control", value="a\0b", account="momo")
    loop.checks.submit(fact, shell("echo dns"))

    assert "cannot be started" in loop.until(1)[0].reason


@pytest.mark.parametrize(
    "script",
    [
        "echo dns; sleep 1000",
        "exec >&- 2>&-; sleep 1000",
        "trap '' TERM; while :; do sleep 1000; done",
    ],
    ids=["hangs", "closes its outputs", "ignores signals"],
)
def test_one_that_takes_too_long_is_ended_with_all_it_started(loop: Loop, tmp_path: Path, script: str) -> None:
    notes = tmp_path / "children"
    loop.checks.submit(FACT, shell(f"sleep 1000 & echo $! $$ > {notes}; {script}", timeout_s=5))
    while not notes.exists() or not notes.read_text().strip():
        loop.turn()
    loop.time = 6.0

    assert loop.until(1) == [Finding(fact=FACT, method="", reason="took longer than 5 seconds")]
    wait_until_gone(*map(int, notes.read_text().split()))


def test_what_it_leaves_behind_is_ended(loop: Loop, tmp_path: Path) -> None:
    notes = tmp_path / "child"
    loop.checks.submit(FACT, shell(f"sleep 1000 > /dev/null 2>&1 & echo $! > {notes}; echo dns"))

    assert loop.until(1)[0].method == "dns"
    wait_until_gone(int(notes.read_text()))


@pytest.mark.parametrize("output", ["", ">&2"])
def test_one_that_prints_without_end_is_ended(loop: Loop, output: str) -> None:
    loop.checks.submit(FACT, shell(f"exec yes {output}"))

    assert loop.until(1)[0].reason == f"printed more than {OUTPUT_OCTETS} octets"


def test_so_many_run_at_once_and_no_fact_twice(loop: Loop, tmp_path: Path) -> None:
    facts = [Fact(kind="dns-control", value=f"{number}.example.org", account="momo") for number in range(5)]
    script = f'echo >> {tmp_path}/"$2"; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; echo dns'
    for fact in facts + facts:
        loop.checks.submit(fact, shell(script))
    while len(list(tmp_path.iterdir())) < 2:
        loop.turn()
    for _ in range(10):
        loop.turn()

    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / "go").touch()
    found = loop.until(5)
    assert sorted(each.fact.value for each in found) == [fact.value for fact in facts]
    assert all((tmp_path / fact.value).read_text() == "\n" for fact in facts)


def test_stop_ends_what_runs(loop: Loop, tmp_path: Path) -> None:
    notes = tmp_path / "process"
    loop.checks.submit(FACT, shell(f"echo $$ > {notes}; sleep 1000"))
    while not notes.exists() or not notes.read_text().strip():
        loop.turn()

    loop.checks.stop()

    assert loop.checks.pump() == []
    wait_until_gone(int(notes.read_text()))


def wait_until_gone(*process_ids: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(_runs(each) for each in process_ids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(process_id: int) -> bool:
    """Whether it is more than a name that its parent has not asked for yet."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"
