from __future__ import annotations

from pathlib import Path

from tests.support.signer import SIGNING_CA, open_journal, record_intent

from cassiopeia.signer.open_intents import OpenIntents


def test_they_are_found_by_what_may_end_them(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    first, second, third = (
        record_intent(journal, number, signing_ca=name)
        for number, name in enumerate((SIGNING_CA, "unassured_2026_3", SIGNING_CA), start=1)
    )
    intents = OpenIntents()
    assert (len(intents), intents.every(), intents.late(1e9)) == (0, [], [])
    for deadline, each in enumerate((first, second, third), start=10):
        intents.add(each, deadline=deadline)

    assert len(intents) == 3
    assert intents.late(11.0) == [first]
    assert intents.of(SIGNING_CA) == [first, third]
    assert intents.of_others([SIGNING_CA]) == [second]
    assert intents.among([third.serial_number, b"another"]) == [third]

    intents.remove(first)
    intents.remove(first)
    assert intents.every() == [second, third]
    journal.close()
