"""A hierarchy through two half-years and beyond, with real programs whose clocks are moved; openssl is asked each time.

Needs the `openssl` program (Debian: apt install openssl).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.support.acceptance import check_logs, serial_of, validity
from tests.support.lives import (
    CLUB,
    CLUB_PROFILE,
    CRL_EXPIRED,
    EXPIRED,
    GOOD,
    PUBLIC,
    REVOKED,
    SERVER,
    SIGNER,
    Life,
)
from tests.support.machine_time.clock import SimulatedTime
from tests.support.warm_commands import WarmCommands

# Each level has an algorithm of its own, and one structure CA and its sub-CAs another again.
HIERARCHY = f"""
organisation = "House"
url_base = "http://pki.house.test"
crl_months = 12

[root]
common_name = "House Root"
key_algorithm = "P-384"
years = 20

[structure]
key_algorithm = "P-256"
years = 10

[time]
key_algorithm = "P-256"
months = 6
periods = 2
outlives_years = 1

[[family]]
name = "unassured"
common_name = "House Servers"
extended_key_usage = ["serverAuth"]
profiles = ["{SERVER}"]
maximum_certificates = 3
spares = 1

[[family]]
name = "club"
common_name = "House Club"
extended_key_usage = ["clientAuth"]
profiles = ["{CLUB}.toml"]
structure_key_algorithm = "Ed25519"
key_algorithm = "Ed25519"

[[signer]]
id = 5
"""
# Debian 12's openssl knows nothing of ML-DSA.
POST_QUANTUM = f"""
organisation = "House"
url_base = "http://pki.house.test"
crl_months = 12

[root]
common_name = "House Root"
key_algorithm = "ML-DSA-87"
years = 20

[structure]
key_algorithm = "ML-DSA-65"
years = 10

[time]
key_algorithm = "ML-DSA-44"
months = 6
periods = 2
outlives_years = 1

[[family]]
name = "unassured"
common_name = "House Servers"
extended_key_usage = ["serverAuth"]
profiles = ["{SERVER}"]

[[signer]]
id = 5
"""
SEALED = HIERARCHY + 'sealing_key = "ca/signer/sealing.pem"\n'


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    """It is the tenth of March 2027, and there is nothing yet but a plan."""
    begins = dt.datetime(2027, 3, 10, 9, 0, tzinfo=dt.UTC)
    time = SimulatedTime(tmp_path / "time", begins=begins, monkeypatch=monkeypatch)
    with (
        WarmCommands() as commands,
        TemporaryDirectory(prefix="ca-") as directory,
        Life(directory=Path(directory), commands=commands, time=time) as made,
    ):
        yield made


def shares(*numbers: int) -> list[str]:
    return [word for number in numbers for word in ("--share", f"first/shares/share-{number}.txt")]


def start(life: Life) -> None:
    life.start_signer("--verbose")
    life.start_client("--verbose")
    life.wait_for_log("signer", "running:")
    life.wait_for_crls(life.time.now)


def test_a_hierarchy_lives_through_the_years(life: Life) -> None:
    found(life)
    member = fill_a_sub_ca(life)
    roll_over(life)
    carol = extend(life)
    waiting = revoke_cas(life, member, carol)
    begin_again(life, waiting)
    end(life)


def found(life: Life) -> None:
    """The ceremony, with keys in shares; machines; and their first bundles."""
    for name, text in {"house.toml": HIERARCHY, f"{CLUB}.toml": CLUB_PROFILE, "sealed.toml": SEALED}.items():
        (life.directory / name).write_text(text)
    life.run("ceremony", "run", "house.toml", "--out", "first", "--shares", "3", "--threshold", "2")
    life.make_machines("first")
    life.install("first", "--passphrase-file", "first/signer-5.passphrase")
    start(life)
    assert life.published == sorted(
        ["root", "club", "unassured", "club_2027_1", "club_2027_2", *(f"unassured_2027_{n}" for n in range(1, 5))]
    )


def fill_a_sub_ca(life: Life) -> Path:
    """The first half-year: a sub-CA is filled up, and its spare takes over; one certificate is revoked."""
    first, second, third, spare = (life.obtain(SERVER, f"w{number}") for number in range(4))
    member = life.obtain(CLUB, "anna")
    assert [life.authority_of(each) for each in (first, second, third)] == ["unassured_2027_1"] * 3
    assert life.authority_of(spare) == "unassured_2027_2"
    assert life.authority_of(member) == "club_2027_1"
    life.check(GOOD, first, second, third, spare, member)
    life.revoke(second, "keyCompromise")
    life.check(REVOKED, second)
    # The signer is away for two days.
    life.stop("signer")
    life.time.move_to(dt.datetime(2027, 3, 12, 12, tzinfo=dt.UTC))
    life.check()
    life.start_signer("--verbose")
    life.wait_until(lambda: life.log("signer").count("running:") > 1, "the signer is back")
    life.move_to(2027, 5, 1)
    life.check()
    life.move_to(2027, 6, 30)
    life.check(EXPIRED, first, third, spare)
    return member


def roll_over(life: Life) -> None:
    """Until the last moment the old one issues, from the first of July on the next one."""
    july = dt.datetime(2027, 7, 1, tzinfo=dt.UTC)
    life.move_to(2027, 6, 30, 23, 50)
    last = life.obtain(SERVER, "last")
    assert life.time.now < july
    assert life.authority_of(last) == "unassured_2027_2"
    life.move_to(2027, 7, 1)
    new, ben = life.obtain(SERVER, "new"), life.obtain(CLUB, "ben")
    assert [life.authority_of(each) for each in (new, ben)] == ["unassured_2027_3", "club_2027_2"]
    assert validity(life, last)[0] < july <= validity(life, new)[0]
    life.check(GOOD, last, new, ben)
    # What an old sub-CA has issued can be revoked when it issues no more.
    life.revoke(last, "superseded")
    life.check(REVOKED, last)
    life.move_to(2027, 9, 1)
    assert "calendar-ends" not in life.concerns()
    life.check()


def extend(life: Life) -> Path:
    """Two months before the calendar ends, people are told; both families are extended, in running programs."""
    life.move_to(2027, 11, 10)
    assert life.concerns().count("calendar-ends") == 2
    [new] = [each for each in life.expected if life.authority_of(each) == "unassured_2027_3"]
    life.check(EXPIRED, new)
    said = life.run(
        *["ceremony", "extend", "sealed.toml", "--offline", "first/offline.bundle", *shares(1, 3)],
        *["--period", "2028-1", "--periods", "1", "--out", "second"],
    ).stdout
    assert "New CAs: unassured_2028_1, unassured_2028_2, club_2028_1" in said
    assert not list((life.directory / "second").glob("*.passphrase"))
    life.install_while_running("second", 2)
    life.wait_for_crls(life.time.now)
    assert "unassured_2028_1" in life.published
    assert "calendar-ends" not in life.concerns()
    before = life.obtain(SERVER, "before")
    assert life.authority_of(before) == "unassured_2027_3"
    life.move_to(2028, 1, 1)
    after, carol = life.obtain(SERVER, "after"), life.obtain(CLUB, "carol")
    assert [life.authority_of(each) for each in (after, carol)] == ["unassured_2028_1", "club_2028_1"]
    life.check(GOOD, before, after, carol)
    return carol


def revoke_cas(life: Life, member: Path, carol: Path) -> str:
    """A structure CA and a sub-CA of another family: nothing below is believed or issued; the rest goes on."""
    life.run(
        *["ceremony", "crl", "--offline", "second/offline.bundle", *shares(2, 3)],
        *["--revoke", "club", "--revoke", "unassured_2028_1", "--reason", "cACompromise", "--out", "third"],
    )
    life.check()
    life.obtain(CLUB, "dora")  # nothing is in force yet
    life.install_while_running("third", 3)
    of_club = [each for each in life.expected if life.authority_of(each).startswith("club_")]
    of_sub_ca = [each for each in life.expected if life.authority_of(each) == "unassured_2028_1"]
    assert member in of_club
    life.check(REVOKED, *of_club, *of_sub_ca)
    waiting = life.submit(CLUB, "emil")
    life.wait_until(lambda: "no sub-CA of the family club" in life.why_it_waits(waiting), "the signer has put it off")
    assert "calendar-gap" in life.concerns()
    other = life.obtain(SERVER, "other")
    assert life.authority_of(other) == "unassured_2028_2"
    life.check(GOOD, other)
    # The lists of the sub-CAs below it go on all the same, and with what is revoked there.
    life.revoke(carol, "cessationOfOperation")
    life.move_to(2028, 2, 1)
    listed = life.openssl("crl", "-in", f"{PUBLIC}/club_2028_1.crl.pem", "-noout", "-text").stdout
    assert serial_of(life, carol) in listed.lower()
    life.check()
    return waiting


def begin_again(life: Life, waiting: str) -> None:
    """The next ceremony makes another structure CA in the place of the revoked one; who has waited is served."""
    life.run(
        *["ceremony", "extend", "--offline", "third/offline.bundle", *shares(1, 2)],
        *["--period", "2028-1", "--periods", "1", "--out", "fourth"],
    )
    life.install_while_running("fourth", 4)
    emil = life.directory / "emil.pem"
    life.client("request", "wait", options=[waiting, "--out", emil.name])
    assert life.chain(emil) == ["club_2028_2", "club_2", "root"]
    life.wait_for_crls(life.time.now)
    life.check(GOOD, emil)
    assert "calendar-gap" not in life.concerns()


def end(life: Life) -> None:
    """Nobody signs any more: first the lists of the sub-CAs end, then those of the offline CAs."""
    for name in ("client", "signer"):
        life.stop(name)
    check_logs(life)
    assert "Nothing is wrong." in life.run("journal", "verify", "-c", SIGNER).stdout
    [other] = [each for each in life.expected if life.authority_of(each) == "unassured_2028_2"]
    life.move_to(2028, 3, 1)
    assert CRL_EXPIRED in life.verdict(other)
    assert "offline-crl-ends" not in life.concerns()
    life.move_to(2028, 12, 15)
    assert "offline-crl-ends" in life.concerns()


def test_a_hierarchy_of_ml_dsa_lives_as_well(life: Life) -> None:
    (life.directory / "house.toml").write_text(POST_QUANTUM)
    life.run("ceremony", "run", "house.toml", "--out", "first")
    life.make_machines("first")
    life.install("first", "--passphrase-file", "first/signer-5.passphrase")
    start(life)
    first, second = life.obtain(SERVER, "first"), life.obtain(SERVER, "second")
    assert (life.standing(first), life.standing(second)) == (GOOD, GOOD)
    life.revoke(first, "keyCompromise")
    assert (life.standing(first), life.standing(second)) == (REVOKED, GOOD)
    life.move_to(2027, 7, 1)
    later = life.obtain(SERVER, "later")
    assert [life.standing(each) for each in (first, second, later)] == [REVOKED, EXPIRED, GOOD]
    life.run("ceremony", "crl", "--offline", "first/offline.bundle", "--revoke", "unassured", "--out", "second")
    life.install_while_running("second", 2)
    assert life.standing(later) == REVOKED
    for name in ("client", "signer"):
        life.stop(name)
    check_logs(life)
