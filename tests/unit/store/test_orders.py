from __future__ import annotations

from tests.support.store import NOW, after

from cassiopeia.store.database import Store
from cassiopeia.store.orders import StoredTimestamp


def test_orders_wait_in_the_order_in_which_they_were_sent(store: Store) -> None:
    first = store.orders.put(1, 7, b"first", now=NOW)
    other = store.orders.put(2, 1, b"other", now=NOW)
    second = store.orders.put(1, 8, b"second", now=after(1))
    assert store.orders.waiting(1) == (first, second)
    assert store.orders.waiting(2) == (other,)
    assert store.orders.list(limit=2) == (second, other)
    assert (first.signer_id, first.sequence, first.octets, first.state, first.answer) == (1, 7, b"first", "waiting", "")
    assert (first.created_at, second.created_at) == (NOW, after(1))


def test_an_order_that_waits_is_not_sent_twice(store: Store) -> None:
    first = store.orders.put(1, 1, b"order", now=NOW)
    assert store.orders.put(1, 1, b"order", now=after(5)) == first
    assert store.orders.waiting(1) == (first,)


def test_an_obeyed_order_says_where_that_stands(store: Store) -> None:
    order = store.orders.put(1, 1, b"order", now=NOW)
    store.orders.postponed(order.id, "the signer is busy \0", now=after(1))
    (waiting,) = store.orders.waiting(1)
    assert (waiting.answer, waiting.updated_at) == ("the signer is busy \\x00", after(1))
    store.orders.obeyed(order.id, journal_index=42, now=after(2))
    assert store.orders.waiting(1) == ()
    obeyed = store.orders.get(order.id)
    assert (obeyed.state, obeyed.answer, obeyed.journal_index) == ("obeyed", "", 42)


def test_an_answer_is_final(store: Store) -> None:
    order = store.orders.put(1, 1, b"order", now=NOW)
    store.orders.refused(order.id, "no", now=NOW)
    store.orders.obeyed(order.id, journal_index=1, now=after(1))
    store.orders.postponed(order.id, "later", now=after(1))
    (refused,) = store.orders.list(limit=10)
    assert (refused.state, refused.answer, refused.journal_index) == ("refused", "no", None)


def test_a_refused_order_may_be_sent_again(store: Store) -> None:
    """After the restart that it was refused for, or when the signer knows its operators."""
    order = store.orders.put(1, 1, b"order", now=NOW)
    store.orders.refused(order.id, "no", now=NOW)
    again = store.orders.put(1, 1, b"order", now=after(1))
    assert again.id != order.id
    assert store.orders.waiting(1) == (again,)


def test_the_newest_word_of_each_signer_is_kept(store: Store) -> None:
    assert store.orders.timestamp(1) is None
    store.orders.save_timestamp(1, b"old", asked_at=NOW)
    store.orders.save_timestamp(1, b"new", asked_at=after(1))
    store.orders.save_timestamp(2, b"other", asked_at=NOW)
    assert store.orders.timestamp(1) == StoredTimestamp(octets=b"new", asked_at=after(1))


def test_a_bundle_is_kept_until_its_order_is_answered_for_good(store: Store) -> None:
    one = store.orders.put(1, 1, b"one", bundle=b"a bundle", now=NOW)
    two = store.orders.put(1, 2, b"two", bundle=b"a bundle", now=NOW)
    bare = store.orders.put(1, 3, b"three", now=NOW)
    assert store.orders.put(1, 1, b"one", bundle=b"a bundle", now=after(1)) == one
    store.orders.postponed(one.id, "later", now=after(1))
    assert [store.orders.bundle(each.id) for each in (one, two, bare)] == [b"a bundle", b"a bundle", None]
    store.orders.obeyed(one.id, journal_index=1, now=after(2))
    assert [store.orders.bundle(each.id) for each in (one, two)] == [None, b"a bundle"]
    store.orders.refused(two.id, "no", now=after(2))
    assert store.orders.bundle(two.id) is None
