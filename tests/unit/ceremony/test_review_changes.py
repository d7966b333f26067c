from __future__ import annotations

import dataclasses
import datetime as dt

import msgspec
import pytest
from tests.support.ceremonies import declare
from tests.support.operators import public_pem

from cassiopeia.ceremony.conducting import begin, extend, renew_crls
from cassiopeia.ceremony.declaration import Declaration
from cassiopeia.ceremony.hierarchy import SignerMachine, load_hierarchy, with_key_algorithm, with_periods
from cassiopeia.ceremony.objections import Severity
from cassiopeia.ceremony.pins import PinnedKey, Pins
from cassiopeia.ceremony.review_changes import review_calendar, review_changes
from cassiopeia.ceremony.safe import Safe

NOW = dt.datetime(2026, 8, 1, tzinfo=dt.UTC)
AFTER_ALL = dt.datetime(2040, 1, 1, tzinfo=dt.UTC)


def declared() -> Declaration:
    hierarchy = with_periods(with_key_algorithm(load_hierarchy(), "P-256"), 2, spares=0)
    families = tuple(each for each in hierarchy.family if each.name in {"assured", "codesign"})
    keys = [PinnedKey(name=f"key{number}", pem=public_pem(number)) for number in range(4)]
    return dataclasses.replace(
        declare(msgspec.structs.replace(hierarchy, family=families)),
        pins=Pins(operators=(keys[0], keys[1]), quorum=2, validators=(keys[2],), responders=(keys[3],)),
    )


OLD = declared()


@pytest.fixture(scope="module")
def safe() -> Safe:
    return begin(OLD, now=NOW).safe


def found(safe: Safe, new: Declaration, *, now: dt.datetime = NOW) -> dict[str, str]:
    objections = review_changes(OLD, new, record=safe.record, now=now)
    assert {each.severity for each in objections} <= {Severity.WARNING}
    return {each.code: f"{each.where}: {each.what}" for each in objections}


def test_what_only_grows_is_nothing_to_object_to(safe: Safe) -> None:
    more = msgspec.structs.replace(OLD.hierarchy, signer=(*OLD.hierarchy.signer, SignerMachine(id=2)))

    assert found(safe, OLD) == {}
    assert found(safe, dataclasses.replace(OLD, hierarchy=more)) == {}


def test_a_family_that_is_declared_no_more_is_missed_while_its_sub_cas_live(safe: Safe) -> None:
    less = declare(msgspec.structs.replace(OLD.hierarchy, family=OLD.hierarchy.family[:1]))
    less = dataclasses.replace(less, pins=OLD.pins)

    said = found(safe, less)

    assert said["family-left-out"].startswith("family codesign: is declared no more, and has sub-CAs")
    assert said["family-left-out"].endswith("until 2029-06-30")
    assert said["profile-left-out"].startswith("profile 0009-code-a: goes")
    assert set(found(safe, less, now=AFTER_ALL)) == {"profile-left-out"}


def test_a_signer_that_is_declared_no_more_has_to_go_on(safe: Safe) -> None:
    other = dataclasses.replace(OLD, hierarchy=msgspec.structs.replace(OLD.hierarchy, signer=(SignerMachine(id=2),)))

    assert found(safe, other)["signer-left-out"].startswith("signer 1: is declared no more")
    assert found(safe, other, now=AFTER_ALL) == {}


def test_urls_in_certificates_stay(safe: Safe) -> None:
    moved = dataclasses.replace(OLD, hierarchy=msgspec.structs.replace(OLD.hierarchy, url_base="http://new.test"))

    assert "until 2029-06-30" in found(safe, moved)["url-moved"]
    assert found(safe, moved, now=AFTER_ALL) == {}


def test_every_key_that_goes_is_named(safe: Safe) -> None:
    bare = dataclasses.replace(OLD, pins=Pins())

    objections = review_changes(OLD, bare, record=safe.record, now=NOW)

    assert [each.where for each in objections if each.code == "key-left-out"] == [
        "operator key0",
        "operator key1",
        "validator key2",
        "OCSP responder key3",
    ]
    assert [each.what for each in objections if each.code == "quorum-lowered"] == [
        "1 of the operators may loosen what 2 had to sign before"
    ]


def test_a_family_that_lost_its_last_sub_ca_is_named_until_it_has_others(safe: Safe) -> None:
    names = [each.name for each in safe.record.time if each.family == "assured"]
    assert review_calendar(safe.record, now=NOW) == ()

    one = renew_crls(safe, now=NOW, revoke=names[:1]).safe
    all_of_them = renew_crls(safe, now=NOW, revoke=names).safe
    others = extend(all_of_them, OLD, first=NOW, now=NOW).safe

    assert [each.code for each in review_calendar(one.record, now=NOW)] == ["calendar-gap"]
    [said] = review_calendar(all_of_them.record, now=NOW)
    assert said.what.startswith("nothing issues for assured on signer 1 any more")
    assert review_calendar(others.record, now=NOW) == ()
    # What would have ended by then is missed by nobody.
    assert review_calendar(all_of_them.record, now=AFTER_ALL) == ()
