"""Processes that die, and that are not there: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from examples.system import System
from tests.support.acceptance import (
    SERVER,
    certificates,
    check_logs,
    check_nothing_half_written,
    error_line,
    fails,
    issue,
    make_key,
    make_request,
    requests,
    serial_of,
    start,
    submit,
    verify,
)
from tests.support.slow_line import SlowLine

BACKLOG = 8
SECOND_CLIENT = "ca/client/second.toml"
# A process dies in the midst of the work: a certificate takes about a quarter of a second.
OCTETS_A_SECOND = 8_000


@pytest.fixture
def slow(alone: System) -> Iterator[System]:
    """A system whose client reaches the signer over a slow line."""
    configuration = alone.directory / alone.client_config
    text = configuration.read_text().replace("signer.sock", "slow.sock")
    configuration.write_text(text.replace("window = 400", "window = 2"))
    run = alone.directory / "ca/run"
    run.mkdir(exist_ok=True)
    with SlowLine(run / "slow.sock", run / "signer.sock", octets_a_second=OCTETS_A_SECOND):
        yield alone


def some_request(system: System) -> str:
    return make_request(system, make_key(system, "-algorithm", "ED25519"))


def fill_queue(system: System) -> set[str]:
    request = some_request(system)
    return {submit(system, "--profile", SERVER, "--dns", f"n{n}.example.org", request) for n in range(BACKLOG)}


def wait_for_new(system: System, name: str, words: str, seen: int) -> None:
    """Wait until `name` logs `words` in what it writes after its first `seen` characters."""
    system.wait_until(lambda: words in system.log(name)[seen:], f"{name} logs {words!r} again")


def check_each_is_issued_once(system: System, submitted: set[str]) -> None:
    check_nothing_half_written(system)
    assert {each["id"] for each in requests(system) if each["state"] == "issued"} == submitted
    assert len(certificates(system)) == len(submitted)


MOMENTS = ["intent journaled", "log confirmed", "signed and verified"]


def test_a_signer_that_dies_loses_nothing(slow: System) -> None:
    submitted = fill_queue(slow)
    slow.start_client("--verbose", "--drain")
    for moment in MOMENTS:
        seen = len(slow.log("signer"))
        slow.start_signer("--verbose")
        wait_for_new(slow, "signer", moment, seen)
        slow.kill("signer")
    assert {each["state"] for each in requests(slow)} >= {"queued"}, "killed too late to show anything"

    slow.start_signer("--verbose")
    slow.wait_for_end("client")

    check_each_is_issued_once(slow, submitted)
    check_logs(slow)
    slow.stop("signer")


def test_a_client_that_dies_loses_nothing(slow: System) -> None:
    submitted = fill_queue(slow)
    slow.start_signer("--verbose")
    for moment in ["sent", "log saved", "log saved"]:
        seen = len(slow.log("client"))
        slow.start_client("--verbose")
        wait_for_new(slow, "client", moment, seen)
        slow.kill("client")
    assert {each["state"] for each in requests(slow)} >= {"queued"}, "killed too late to show anything"

    slow.start_client("--verbose", "--drain")
    slow.wait_for_end("client")

    check_each_is_issued_once(slow, submitted)
    assert "a client died on this machine" in slow.log("client")
    check_logs(slow)
    slow.stop("signer")


def test_a_signer_restarts_at_the_end_of_a_serial_line(short_path: Path, quick_init: tuple[str, ...]) -> None:
    """Where no connection breaks, the client must be told; and a client that dies must not stop the next one."""
    with System(directory=short_path, link="serial", init_options=quick_init) as system:
        system.run(*system.init_command)
        request = some_request(system)
        options = ["--timeout", "20", "--profile", SERVER, "--dns", "a.example.org", request]
        start(system)
        issue(system, *options)

        system.stop("signer")
        system.start_signer("--verbose")
        issue(system, *options)
        system.kill("client")
        system.start_client("--verbose")
        issue(system, *options)

        check_logs(system)


def test_requests_wait_for_a_signer_that_is_away(alone: System) -> None:
    request = some_request(alone)
    alone.start_client()
    options = ["--id", "cd" * 32, "--wait", "--timeout", "1", "--profile", SERVER, "--dns", "a.example.org", request]

    line = fails(alone, "request", "submit", options=options)
    status = alone.client("status").stdout
    alone.start_signer()
    answer = alone.ask("request", "wait", options=["cd" * 32])

    assert line.startswith(f"request {'cd' * 32} still waits after 1 seconds")
    assert "it is not lost" in line
    assert "cassiopeia request wait cdcdcdcdcdcd" in line
    assert "1 waiting, 0 with a client, 0 set aside" in status
    assert "never heard: is `cassiopeia client run` running, and the signer?" in status
    assert "no signer answers" in alone.log("client")
    assert answer["state"] == "issued"


def test_a_revocation_outlives_its_client(alone: System) -> None:
    start(alone)
    certificate = issue(alone, "--profile", SERVER, "--dns", "a.example.org", some_request(alone))
    alone.stop("client")

    queued = alone.client("certificate", "revoke", options=[serial_of(alone, certificate)]).stdout
    again = alone.client("certificate", "revoke", options=[serial_of(alone, certificate)]).stdout
    waiting = alone.ask("certificate", "show", options=[serial_of(alone, certificate)])
    alone.start_client("--drain")
    alone.wait_for_end("client")

    assert queued == again == f"{serial_of(alone, certificate)}: the revocation is queued\n"
    assert (waiting["state"], waiting["revoked"]) == ("being revoked", None)
    crl = alone.openssl("crl", "-inform", "DER", "-in", alone.crl_of(certificate), "-noout", "-text").stdout
    assert crl.lower().count(serial_of(alone, certificate)) == 1
    said = verify(alone, certificate, "-crl_check", "-CRLfile", f"{alone.crl_of(certificate)}.pem", status=2)
    assert "certificate revoked" in said


def test_two_clients_share_one_queue_and_one_signer(alone: System) -> None:
    first = alone.directory / alone.client_config
    text = first.read_text().replace("window = 400", "window = 2")
    first.write_text(text)
    (alone.directory / SECOND_CLIENT).write_text(text.replace('name = "client"', 'name = "second"'))
    submitted = fill_queue(alone)

    alone.start_client("--verbose")
    alone.start_client("--verbose", name="second", config=SECOND_CLIENT)
    alone.start_signer("--verbose")
    for name in ("client", "second"):
        alone.wait_for_log(name, "session open")
    # The first may have emptied the queue before the second has a session: more comes until both have had some.
    for _ in range(20):
        if "sent" in alone.log("client") and "sent" in alone.log("second"):
            break
        submitted |= fill_queue(alone)
    alone.wait_until(
        lambda: all(each["state"] == "issued" for each in requests(alone)), "both clients have emptied the queue"
    )

    check_each_is_issued_once(alone, submitted)
    sent = re.findall(r"request ([0-9a-f]{8}): sent", alone.log("client") + alone.log("second"))
    assert sorted(sent) == sorted(each[:8] for each in submitted)
    assert "sent" in alone.log("client")
    assert "sent" in alone.log("second")
    for each in certificates(alone)[:4]:
        alone.client("certificate", "revoke", options=[each["serial_number"], "--wait"])
    [authority] = {each["authority"] for each in certificates(alone)}
    revoked = {each["serial_number"] for each in certificates(alone) if each["state"] == "revoked"}
    assert len(revoked) == 4
    assert set(alone.ask("crl", "show", options=[authority])["revoked"]) == revoked
    check_logs(alone)


def test_a_second_signer_on_the_same_state_is_refused(alone: System) -> None:
    start(alone)
    configuration = alone.directory / "ca/signer/signer.toml"
    other = configuration.with_name("other.toml")
    other.write_text(configuration.read_text().replace("signer.sock", "other.sock"))

    with ThreadPoolExecutor() as people:
        done = [people.submit(alone.run, "signer", "run", "-c", str(each), status=1) for each in (configuration, other)]
        lines = [error_line(each.result()) for each in done]

    expected = "journal.sqlite: another signer is running on this journal"
    assert [expected in line for line in lines] == [True, True]
    assert verify(alone, issue(alone, "--profile", SERVER, "--dns", "still.example.org", some_request(alone))).endswith(
        "OK\n"
    )
