"""What an outsider was seen to get: the last look, and since when it is so; on both databases."""

from __future__ import annotations

import threading

from tests.support.store import NOW, after

from cassiopeia.store.database import Store
from cassiopeia.store.records import ServedCrl, ServedState


def seen(url: str, state: ServedState = "served", *, at_s: float = 0, number: int | None = 7) -> ServedCrl:
    return ServedCrl(
        authority="a_2026_1",
        url=url,
        state=state,
        what="number 7",
        number=number,
        this_update=NOW,
        next_update=None,
        seen_at=after(at_s),
    )


def test_the_last_look_stands(store: Store) -> None:
    store.served_crls.record([seen("http://b", number=(1 << 160) - 1), seen("http://a", number=None)])
    first, second = store.served_crls.list()
    assert (first.url, first.number, first.this_update, first.next_update) == ("http://a", None, NOW, None)
    assert (second.url, second.number, second.since) == ("http://b", (1 << 160) - 1, NOW)
    store.served_crls.record([seen("http://b", at_s=60)])
    (only,) = store.served_crls.list()
    assert (only.url, only.number, only.since, only.seen_at) == ("http://b", 7, NOW, after(60))
    store.served_crls.record([])
    assert store.served_crls.list() == ()


def test_since_begins_anew_with_each_state(store: Store) -> None:
    for at_s, state in ((0, "served"), (60, "stale"), (120, "stale"), (180, "served")):
        store.served_crls.record([seen("http://a", state, at_s=at_s)])  # type: ignore[arg-type] # a state
        (found,) = store.served_crls.list()
        assert found.since == after(at_s if at_s != 120 else 60)


def test_one_url_twice_is_one(store: Store) -> None:
    store.served_crls.record([seen("http://a"), seen("http://a", "stale")])
    assert [each.state for each in store.served_crls.list()] == ["stale"]


def test_two_may_look_at_once(store: Store) -> None:
    """On PostgreSQL they really do."""
    urls = [f"http://{number}" for number in range(20)]
    failed: list[BaseException] = []

    def look(order: int) -> None:
        try:
            for _ in range(5):
                store.served_crls.record([seen(each) for each in urls[::order]])
        except BaseException as error:  # noqa: BLE001 - the other thread's, told below
            failed.append(error)

    threads = [threading.Thread(target=look, args=(order,)) for order in (1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(store.served_crls.list()) == 20
