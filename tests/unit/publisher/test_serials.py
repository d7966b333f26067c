from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cassiopeia.publisher.serials import SerialTable

MANY = 5_000


def test_every_number_is_found_and_no_other() -> None:
    chosen = random.Random(1)  # noqa: S311 - a test
    table = SerialTable()
    expected = {chosen.getrandbits(127): place for place in range(MANY)}
    for serial_number, place in expected.items():
        table.add(serial_number, place)

    assert len(table) == MANY
    assert dict(table) == expected
    assert all(table.find(each) == place for each, place in expected.items())
    assert all(table.find(each + 1) is None for each in expected if each + 1 not in expected)


def test_what_was_first_stands() -> None:
    table = SerialTable()
    for number in (1, 2):
        for serial_number in range(2_000):
            table.add(serial_number, number)

    assert len(table) == 2_000
    assert {table.find(each) for each in range(2_000)} == {1}


def test_a_hundred_thousand_take_little_memory() -> None:
    table = SerialTable()
    for serial_number in range(1 << 100, (1 << 100) + 100 * MANY, 5):
        table.add(serial_number, 7)

    assert len(table) == 20 * MANY
    assert sys.getsizeof(table._rows) < 26 * len(table)
    assert len(table._fresh) < 1024


@pytest.mark.parametrize("serial_number", [-1, 1 << 168])
def test_what_is_no_serial_number_is_not_there(serial_number: int) -> None:
    table = SerialTable()
    table.add(5, 1)

    assert table.find(serial_number) is None
    with pytest.raises(OverflowError):
        table.add(serial_number, 1)


@given(st.lists(st.integers(0, 50)))
def test_it_does_what_a_dict_does(serial_numbers: list[int]) -> None:
    table, expected = SerialTable(), dict[int, int]()
    for place, serial_number in enumerate(serial_numbers):
        table.add(serial_number, place)
        expected.setdefault(serial_number, place)
        table._merge()

    assert [table.find(each) for each in range(51)] == [expected.get(each) for each in range(51)]
