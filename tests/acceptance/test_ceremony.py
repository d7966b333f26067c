"""From a hierarchy file to a certificate, by way of a ceremony and machines that were made one by one.

Needs the `openssl` program (Debian: apt install openssl).
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from examples.system import CASSIOPEIA, System
from tests.support.acceptance import (
    QuickSystem,
    check_logs,
    error_line,
    issue,
    make_key,
    make_request,
    start,
)
from tests.support.warm_commands import WarmCommands

PROFILE = "9004-unproved-server"
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
outlives_years = 2

[[family]]
name = "unassured"
common_name = "House Servers"
extended_key_usage = ["serverAuth"]
profiles = ["{PROFILE}"]

[[signer]]
id = 5
"""


@pytest.fixture
def system(commands: WarmCommands) -> Iterator[System]:
    with (
        TemporaryDirectory(prefix="ca-") as directory,
        QuickSystem(directory=Path(directory), commands=commands) as made,
    ):
        (made.directory / "house.toml").write_text(HIERARCHY)
        yield made


def secrets_of(directory: Path) -> list[str]:
    return [path.read_text().strip() for path in directory.rglob("*passphrase") if path.is_file()]


def make_machines(system: System) -> None:
    """Each side for itself, with what has to be carried from one to the other."""
    (system.directory / "ca/run").mkdir(parents=True)
    listen = ["--listen", "unix:../run/signer.sock", "--bundle-key", "first/bundle-key.pem"]
    system.run("signer", "init", "ca/signer", "--id", "5", *listen)
    connect = ["--connect", "unix:../run/signer.sock", "--bundle-key", "first/bundle-key.pem"]
    theirs = ["--signer", "ca/signer/link.pem", "--journal", "ca/signer/journal.pem"]
    system.run("client", "init", "ca/client", *connect, *theirs)
    pin = (system.directory / "ca/client/link.pem").read_bytes()
    (system.directory / "ca/signer/peers/client.pem").write_bytes(pin)


def install(system: System, ceremony: str, *passphrase: str) -> None:
    system.run("signer", "install", f"{ceremony}/signer-5.bundle", "-c", "ca/signer/signer.toml", *passphrase)
    for bundle in ("client", "publication"):
        system.run("client", "install", f"{ceremony}/{bundle}.bundle", "-c", "ca/client/client.toml")


def shares(*numbers: int) -> list[str]:
    return [word for number in numbers for word in ("--share", f"first/shares/share-{number}.txt")]


def test_a_hierarchy_lives_from_ceremony_to_ceremony(system: System) -> None:
    # 1. The ceremony, and machines that are made elsewhere.
    said = system.run("ceremony", "run", "house.toml", "--out", "first", "--shares", "3", "--threshold", "2").stdout
    assert "The rehearsal went well." in said
    told = [said]
    current = re.findall(r"unassured_[0-9]{4}_[0-9]", said)[0]
    make_machines(system)
    install(system, "first", "--passphrase-file", "first/signer-5.passphrase")
    # 2. They issue.
    start(system)
    request = make_request(system, make_key(system, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))
    first = issue(system, "--profile", PROFILE, "--dns", "www.house.test", request)
    assert system.authority_of(first) == current
    system.openssl("verify", "-x509_strict", *system.trust_options(first), first.name)
    check_logs(system)
    for name in ("client", "signer"):
        system.stop(name)
    # 3. Years later: a key that is born in the signer, and the rest of the calendar.
    listed = error_line(
        system.run(
            *["ceremony", "extend", "house.toml", "--offline", "first/offline.bundle", *shares(1, 3)],
            *["--period", "2099-1", "--csr", "none_2099_1=" + request, "--out", "second"],
            status=1,
        )
    )
    assert "no sub-CA 'none_2099_1' will be made, which a request is for; made are unassured_2099_1" in listed
    year = time.gmtime().tm_year + 2
    born = f"unassured_{year}_1"
    config = ["-c", "ca/signer/signer.toml", "--key-algorithm", "P-256"]
    system.run("signer", "csr", born, *config, "--out", "born.csr")
    said = system.run(
        *["ceremony", "extend", "house.toml", "--offline", "first/offline.bundle", *shares(1, 3)],
        *["--period", f"{year}-1", "--csr", f"{born}=born.csr", "--out", "second"],
    ).stdout
    assert f"New CAs: {born}, unassured_{year}_2" in said
    told.append(said)
    install(system, "second", "--passphrase-file", "second/signer-5.passphrase")
    said = system.run("signer", "install", "second/signer-5.bundle", *config[:2]).stdout
    assert "It is installed already; nothing was changed." in said
    in_force = system.directory / "ca/signer/bundles/current"
    assert in_force.readlink() == Path("0002")
    # Nobody but this machine ever had that key.
    assert f"{born}.key".encode() not in (system.directory / "second/signer-5.bundle").read_bytes()
    assert (in_force / f"keys/{born}.key").is_file()
    # 4. A sub-CA is revoked: the list above it says so, and it issues no more.
    said = system.run(
        *["ceremony", "crl", "--offline", "second/offline.bundle", *shares(2, 3)],
        *["--revoke", current, "--reason", "cACompromise", "--out", "third"],
    ).stdout
    assert "third/offline.passphrase" not in said
    told.append(said)
    install(system, "third")
    of_list = ["-in", "ca/client/public/unassured.crl", "-CAfile", "ca/client/public/unassured.pem"]
    assert system.openssl("crl", *of_list, "-noout").stderr == "verify OK\n"
    lists = ["-CRLfile", "ca/client/public/root.crl", "-CRLfile", "ca/client/public/unassured.crl"]
    chain = ["-CAfile", "ca/client/public/root.pem", "-untrusted", "ca/client/public/unassured.pem"]
    public = "ca/client/public"
    done = system.openssl("verify", "-crl_check_all", *lists, *chain, f"{public}/{current}.pem", status=2)
    assert "certificate revoked" in done.stderr
    system.openssl("verify", "-crl_check_all", *lists, *chain, f"{public}/{born}.pem")
    start(system)
    system.run(
        *["request", "submit", "-c", "ca/client/client.toml", "--profile", PROFILE],
        *["--dns", "www.house.test", request],
    )
    system.wait_for_log("client", "no sub-CA")
    for name in ("client", "signer"):
        system.stop(name)
    # 5. Nothing of what opens anything stands where it should not.
    told += [path.read_text() for path in system.directory.glob("*/transcript.*")]
    told += [system.log("signer"), system.log("client")]
    secrets = secrets_of(system.directory)
    assert (len(told), len(secrets)) == (11, 3)
    for secret in secrets:
        assert not any(secret in each for each in told)


def end(system: System, number: int, *, after: str) -> str:
    """Begin a ceremony, end it by this signal when it has said so much, and return what it says on stderr."""
    # Whoever runs the tests in the background may have them ignore signals.
    heard = ["env", "--default-signal=INT,HUP,TERM"]
    command = [*heard, *CASSIOPEIA, "ceremony", "run", "house.toml", "--out", "out"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=system.directory, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith(after):
            assert process.poll() is None
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode != 0
    return said


def left_by(system: System) -> list[str]:
    return sorted(path.name for path in system.directory.iterdir() if path.name != "house.toml")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=["TERM", "HUP", "INT"])
def test_a_ceremony_that_is_ended_leaves_nothing(system: System, number: int) -> None:
    said = end(system, number, after="Rehearsal")
    assert left_by(system) == []
    end(system, number, after="The rehearsal went well")

    assert left_by(system) == []
    if number != signal.SIGINT:
        assert f"ended by {signal.Signals(number).name}: nothing was made" in said


def test_what_sigkill_leaves_opens_nothing_and_is_pointed_out(system: System) -> None:
    end(system, signal.SIGKILL, after="The rehearsal went well")
    left = left_by(system)
    assert all(name.startswith(".out.") for name in left)
    assert secrets_of(system.directory) == []

    said = system.run("ceremony", "run", "house.toml", "--out", "out").stdout

    assert left_by(system) == [*left, "out"]
    assert said.count("was left by a ceremony that was ended by force") == len(left)


def test_a_second_ceremony_overwrites_nothing(system: System) -> None:
    system.run("ceremony", "run", "house.toml", "--out", "out")
    before = {path: path.read_bytes() for path in (system.directory / "out").rglob("*") if path.is_file()}

    line = error_line(system.run("ceremony", "run", "house.toml", "--out", "out", status=1))

    assert "is there already, and a ceremony is never overwritten: choose another directory" in line
    assert {path: path.read_bytes() for path in before} == before
    assert left_by(system) == ["out"]
