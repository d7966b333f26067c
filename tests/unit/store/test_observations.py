from __future__ import annotations

import datetime as dt

import pytest
from tests.support.statements import OBSERVED_AT, OTHER_KEY, VALIDATOR, VALIDATOR_KEY, signed_observation
from tests.support.store import NOW, after, lease_sign, submit

from cassiopeia.core.evidence import key_id
from cassiopeia.errors import PeerError, Refused
from cassiopeia.store.database import Store
from cassiopeia.store.evidence import Fact
from cassiopeia.store.records import Refusal

FACT = Fact(account="account-1", kind="dns-control", value="www.example.org")
LONG_AGO = OBSERVED_AT - dt.timedelta(days=400)


def test_an_observation_comes_back_as_it_was_signed(store: Store) -> None:
    octets = signed_observation()
    assert store.evidence.put_observations([octets], now=NOW) == 1
    [(fact, (found,))] = store.evidence.observations([FACT], since=OBSERVED_AT).items()
    assert (fact, found.octets, found.method, found.observed_at, found.saved_at) == (
        FACT,
        octets,
        "dns",
        OBSERVED_AT,
        NOW,
    )
    assert (found.account, found.kind, found.value) == (FACT.account, FACT.kind, FACT.value)
    assert found.validator == key_id(VALIDATOR).hex()


def test_an_observation_is_kept_once(store: Store) -> None:
    first, second = signed_observation(), signed_observation(key=OTHER_KEY)
    assert store.evidence.put_observations([first, first], now=NOW) == 1
    assert store.evidence.put_observations([second, first], now=NOW) == 1
    assert store.evidence.put_observations([], now=NOW) == 0
    assert len(store.evidence.page().items) == 2


def test_the_newest_observation_comes_first_and_old_ones_are_left_out(store: Store) -> None:
    times = [OBSERVED_AT - dt.timedelta(hours=each) for each in (3, 1, 2)]
    store.evidence.put_observations([signed_observation(observed_at=each) for each in times], now=NOW)
    found = store.evidence.observations([FACT], since=OBSERVED_AT - dt.timedelta(hours=2))[FACT]
    assert [each.observed_at for each in found] == [times[1], times[2]]


@pytest.mark.parametrize(
    "other",
    [("account", "account-2"), ("kind", "caa-permits"), ("value", "example.org"), ("value", "WWW.example.org")],
)
def test_what_is_about_something_else_is_not_found(store: Store, other: tuple[str, str]) -> None:
    store.evidence.put_observations([signed_observation(VALIDATOR_KEY, **dict([other]))], now=NOW)
    assert store.evidence.observations([FACT], since=LONG_AGO) == {}


def test_many_facts_are_looked_up_at_once(store: Store) -> None:
    values = [f"{number}.example.org" for number in range(1_200)]
    store.evidence.put_observations([signed_observation(value=each) for each in values], now=NOW)
    facts = [Fact(account="account-1", kind="dns-control", value=each) for each in [*values, "nobody.example.org"]]
    found = store.evidence.observations(facts, since=LONG_AGO)
    assert {fact.value for fact in found} == set(values)


def test_every_observation_of_an_organisation_is_found(store: Store) -> None:
    values = ["C=AT\nO=Example", "C=AT\nST=Wien\nO=Example"]
    store.evidence.put_observations([signed_observation(kind="organisation", value=each) for each in values], now=NOW)
    fact = Fact(account="account-1", kind="organisation", value="O=Example")
    assert {each.value for each in store.evidence.observations([fact], since=LONG_AGO)[fact]} == set(values)


def test_a_value_may_be_longer_than_an_index_entry(store: Store) -> None:
    fact = Fact(account="account-1", kind="name-verified", value="Zoë " * 700)
    store.evidence.put_observations([signed_observation(kind=fact.kind, value=fact.value)], now=NOW)
    assert len(store.evidence.observations([fact], since=LONG_AGO)[fact]) == 1


def test_a_bad_member_writes_nothing(store: Store) -> None:
    good = signed_observation()
    with pytest.raises(PeerError):
        store.evidence.put_observations([good, b"no observation"], now=NOW)
    with pytest.raises(Refused, match="value contains a character"):
        store.evidence.put_observations([good, signed_observation(value="nul \0")], now=NOW)
    assert store.evidence.page().items == ()


def test_observations_are_listed_by_pages(store: Store) -> None:
    values = ["a.example", "b.example", "c.example"]
    store.evidence.put_observations([signed_observation(value=each) for each in values], now=NOW)
    store.evidence.put_observations([signed_observation(account="bob", kind="mailbox-control")], now=NOW)
    first = store.evidence.page(account="account-1", limit=2)
    assert [each.value for each in first.items] == ["c.example", "b.example"]
    second = store.evidence.page(account="account-1", limit=2, after=first.next_page)
    assert ([each.value for each in second.items], second.next_page) == (["a.example"], None)
    assert [each.account for each in store.evidence.page(kind="mailbox-control").items] == ["bob"]
    assert [each.value for each in store.evidence.page(value="a.example").items] == ["a.example"]


def test_old_observations_can_be_forgotten(store: Store) -> None:
    old, new = (signed_observation(observed_at=OBSERVED_AT + dt.timedelta(days=each)) for each in (-30, 0))
    store.evidence.put_observations([old, new], now=NOW)
    assert store.evidence.forget(OBSERVED_AT) == 1
    assert [each.octets for each in store.evidence.page().items] == [new]


def test_what_a_waiting_request_may_need_is_not_forgotten(store: Store) -> None:
    """Without it, what has lapsed and what was never proved would be the same."""
    old = [signed_observation(account=each) for each in ("account-1", "account-2")]
    store.evidence.put_observations(old, now=NOW)
    submit(store, 1, account="account-1")
    assert store.evidence.forget(NOW + dt.timedelta(days=1)) == 1
    assert [each.account for each in store.evidence.page().items] == ["account-1"]
    [job] = lease_sign(store)
    store.results.refuse("client", [Refusal(job_id=job.id, code="c", field="", message="m")], now=NOW)
    assert store.evidence.forget(NOW + dt.timedelta(days=1)) == 1


def test_of_what_is_alike_the_newest_are_enough(store: Store) -> None:
    times = [OBSERVED_AT - dt.timedelta(hours=each) for each in range(30)]
    rare = signed_observation(method="dns", observed_at=LONG_AGO)
    frequent = [signed_observation(method="http", observed_at=each) for each in times]
    store.evidence.put_observations([rare, *frequent], now=NOW)
    found = store.evidence.observations([FACT], since=LONG_AGO)[FACT]
    assert [each.octets for each in found] == [*frequent[:16], rare]


def test_the_newest_word_of_each_validator_is_kept(store: Store) -> None:
    store.evidence.save_word("b", {"attested": 1}, now=NOW)
    store.evidence.save_word("a", {}, now=NOW)
    store.evidence.save_word("b", {"attested": 2}, now=after(5))
    assert [(each.name, each.report, each.seen_at) for each in store.evidence.validators()] == [
        ("a", {}, NOW),
        ("b", {"attested": 2}, after(5)),
    ]
