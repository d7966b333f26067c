"""Publishers' last words, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import update
from tests.support.store import NOW, after

from cassiopeia.store.database import Store
from cassiopeia.store.models import publisher_status
from cassiopeia.store.publishers import PublisherStatus


def test_the_newest_word_of_each_is_kept(store: Store) -> None:
    store.publishers.save("b", ["the journal cannot be believed", "x\0y"], now=NOW)
    store.publishers.save("a", [], now=NOW)
    store.publishers.save("b", ["another"], now=after(5))

    assert store.publishers.list() == (
        PublisherStatus(name="a", alarms=(), seen_at=NOW),
        PublisherStatus(name="b", alarms=("another",), seen_at=after(5)),
    )


@pytest.mark.parametrize("report", ["", "[]", '{"alarms": 7}', '{"alarms": [7]}', "\N{SNOWMAN}"])
def test_what_is_no_report_says_nothing(store: Store, report: str) -> None:
    store.publishers.save("a", ["alarm"], now=NOW)
    with store.database.write() as connection:
        connection.execute(update(publisher_status).values(report=report))

    assert store.publishers.list() == (PublisherStatus(name="a", alarms=(), seen_at=NOW),)
