"""Nothing unproved: real signer, client and validator, and people who state what they have seen."""

from __future__ import annotations

import datetime as dt
import json
import re
import stat
from pathlib import Path

import pytest
from examples.system import System
from tests.support.acceptance import (
    SERVER,
    check_logs,
    check_nothing_half_written,
    fails,
    make_key,
    make_request,
    start,
    submit,
    verify,
    x509,
)

PROVED = "0004-server"
EIGHT_HOURS_AGO = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=8)).isoformat(timespec="seconds")

PROGRAMS = """
[[check]]
kinds = ["caa-permits"]
command = ["./check-caa"]
timeout_s = 20
"""
# Sees what a file beside it names, and writes down what it was asked.
CHECK = """#!/bin/sh
echo "$@" >> asked
grep -qx "$2" permitted || { echo "no CAA record lets us issue for $2" >&2; exit 1; }
echo dns
"""


@pytest.fixture
def csr(alone: System) -> str:
    return make_request(alone, make_key(alone, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))


def start_all(system: System) -> None:
    start(system)
    start_validator(system)


def start_validator(system: System) -> None:
    system.start_validator("--verbose")
    system.wait_for_log("validator", "is heard: its requests are attested")


def stop_all(system: System) -> None:
    for name in ("validator", "client", "signer"):
        system.stop(name)
    check_logs(system)
    assert "Traceback" not in system.log("validator"), system.log("validator")


def prove(system: System, name: str, *, account: str = "momo", caa: str = "") -> None:
    system.observe("dns-control", name, account, "--method", "dns")
    system.observe("caa-permits", name, account, *(["--at", caa] if caa else []))


def ask(system: System, csr: str, *names: str, account: str = "momo", profile: str = PROVED) -> str:
    options = [option for name in names for option in ("--dns", name)]
    return submit(system, "--profile", profile, "--account", account, *options, csr)


def issued(system: System, request_id: str) -> Path:
    path = system.directory / f"{request_id[:8]}.pem"
    system.client("request", "wait", options=["--out", path.name, request_id])
    return path


def difficulty(system: System, request_id: str) -> str:
    document = system.ask("request", "show", options=[request_id])
    assert document["state"] == "queued"
    return str(document["last_difficulty"])


def names_of(system: System, certificate: Path) -> list[str]:
    return re.findall(r"DNS:([^,\s]+)", x509(system, certificate, "-ext", "subjectAltName"))


def test_what_is_proved_is_issued_and_what_is_not_is_refused_with_the_list(alone: System, csr: str) -> None:
    start_all(alone)
    prove(alone, "Bücher.example.org")
    request_id = ask(alone, csr, "bücher.example.org")

    certificate = issued(alone, request_id)
    assert names_of(alone, certificate) == ["xn--bcher-kva.example.org"]
    assert verify(alone, certificate) == f"{certificate.name}: OK\n"

    line = fails(alone, "request", "wait", options=[ask(alone, csr, "bücher.example.org", "other.example.org")])
    assert line == (
        "The profile 0004-server demands proofs that are missing for the account 'momo': dns-control for "
        "other.example.org, caa-permits for other.example.org. Have them proved, or leave such names out, and ask "
        "again."
    )
    # What momo has proved is nothing for others.
    line = fails(alone, "request", "wait", options=[ask(alone, csr, "bücher.example.org", account="beppo")])
    assert "dns-control for xn--bcher-kva.example.org" in line

    # A request that is no good for itself is refused for that.
    alone.openssl("dgst", "-sha256", "-binary", "-out", "nothing", csr)
    broken = (alone.directory / csr).read_text().splitlines()
    (alone.directory / "broken.csr").write_text("\n".join([*broken[:2], broken[2][::-1], *broken[3:]]))
    assert "certification request" in fails(
        alone, "request", "wait", options=[ask(alone, "broken.csr", "bücher.example.org")]
    )
    stop_all(alone)
    check_nothing_half_written(alone)
    # A stranger who has nothing but the journal comes to the same judgement.
    judged = alone.run("journal", "verify", "-c", "ca/signer/signer.toml").stdout
    assert "judged anew   the proofs of 1 certificates suffice\n" in judged
    proofs = json.loads(
        alone.run("journal", "show", "-c", "ca/signer/signer.toml", "--kind", "intent", "--json").stdout
    )
    assert [each.partition(" ")[0] for each in proofs[0]["proofs"]] == ["dns-control", "caa-permits", "attested"]


def test_a_persons_and_an_organisations_certificate(alone: System, csr: str) -> None:
    start_all(alone)
    facts = [
        {"kind": "organisation", "organisation": {"C": "IT", "L": "Rome", "O": "Timesavers"}, "account": "beppo"},
        {"kind": "organisation", "organisation": {"O": "Timesavers", "CN": "Beppo"}, "account": "beppo"},
        {"kind": "mailbox-control", "value": "Beppo@Example.ORG", "account": "beppo", "method": "mail"},
    ]
    (alone.directory / "facts").write_text("".join(json.dumps(each) + "\n" for each in facts))
    stated = alone.validator("observe", options=["--from", "facts"]).stdout
    assert "organisation C=IT, L=Rome, O=Timesavers: stated for beppo" in stated
    subject = ["--subject", "C=IT", "--subject", "O=Timesavers", "--email", "Beppo@example.org"]
    request_id = submit(alone, "--profile", "0011-mail-orga", "--account", "beppo", *subject, csr)

    assert "C=IT,O=Timesavers" in x509(alone, issued(alone, request_id), "-subject")
    line = fails(
        alone,
        "request",
        "wait",
        options=[
            submit(alone, "--profile", "0011-mail-orga", "--account", "beppo", *subject, "--subject", "L=Milan", csr)
        ],
    )
    assert "organisation for C=IT, L=Milan, O=Timesavers" in line
    stop_all(alone)


def test_what_has_lapsed_is_renewed_by_a_program_or_waits(alone: System, csr: str) -> None:
    validator = alone.directory / "ca/validator"
    (validator / "check-caa").write_text(f"#!/bin/sh\ncd {validator}\n{CHECK.partition(chr(10))[2]}")
    (validator / "check-caa").chmod(stat.S_IRWXU)
    (validator / "permitted").write_text("renewed.example.org\n")
    config = validator / "validator.toml"
    config.write_text(config.read_text() + PROGRAMS)
    start_all(alone)
    for name in ("renewed.example.org", "not-renewed.example.org"):
        prove(alone, name, caa=EIGHT_HOURS_AGO)
    waiting = ask(alone, csr, "not-renewed.example.org")

    assert names_of(alone, issued(alone, ask(alone, csr, "renewed.example.org"))) == ["renewed.example.org"]
    assert "caa-permits renewed.example.org momo" in (validator / "asked").read_text()
    alone.wait_until(lambda: "could not be seen again" in difficulty(alone, waiting), "its owner is told why")
    reason = difficulty(alone, waiting)
    assert "the proof caa-permits for not-renewed.example.org has lapsed on" in reason
    assert "no CAA record lets us issue for not-renewed.example.org" in reason
    assert "has lapsed on" in alone.client("request", "show", options=[waiting]).stdout

    # Somebody has seen to it, and says so.
    alone.observe("caa-permits", "not-renewed.example.org", "momo")
    assert names_of(alone, issued(alone, waiting)) == ["not-renewed.example.org"]
    stop_all(alone)


def test_without_a_validator_only_what_needs_proof_waits(alone: System, csr: str) -> None:
    start(alone)
    prove(alone, "a.example.org")
    waiting = [ask(alone, csr, "a.example.org") for _ in range(7)]
    issued(alone, ask(alone, csr, "b.example.org", profile=SERVER))
    assert "queue    7 waiting" in alone.client("status").stdout
    assert {alone.ask("request", "show", options=[each])["state"] for each in waiting} == {"queued"}

    # One by hand, the others by the validator when it comes back.
    said = alone.validator("attest", options=[waiting[3][:12]]).stdout
    assert re.search(r"^  caa-permits a\.example\.org, by stated, seen ", said, re.MULTILINE)
    issued(alone, waiting[3])
    start_validator(alone)
    for each in waiting:
        assert names_of(alone, issued(alone, each)) == ["a.example.org"]
    alone.kill("validator")
    again = ask(alone, csr, "a.example.org")
    start_validator(alone)
    issued(alone, again)
    stop_all(alone)
    check_nothing_half_written(alone)


def test_a_signer_that_was_started_again_wants_new_words_and_gets_them(alone: System, csr: str) -> None:
    start_all(alone)
    prove(alone, "a.example.org")
    issued(alone, ask(alone, csr, "a.example.org"))
    alone.stop("client")
    waiting = [ask(alone, csr, "a.example.org") for _ in range(5)]
    alone.wait_until(lambda: attested(alone) >= 6, "they are attested for the signer that is")
    alone.stop("signer")
    alone.start_signer("--verbose")
    alone.start_client("--verbose")

    for each in waiting:
        issued(alone, each)
    assert attested(alone) >= 11
    stop_all(alone)


def attested(system: System) -> int:
    return sum(map(int, re.findall(r" (\d+) requests? attested for signer 1", system.log("validator"))))


def test_two_validators_do_no_harm(alone: System, csr: str) -> None:
    """The second one has a key of its own, and is believed when the signer is told."""
    alone.run("validator", "init", "second", "--client", alone.client_config)
    other = System(directory=alone.directory, validator_config="second/validator.toml")
    pin = alone.run("validator", "init", "third", "--client", alone.client_config, "--kind", "caa-permits")
    signer = alone.directory / "ca/signer"
    for name in ("second", "third"):
        (signer / f"validators/{name}.pem").write_bytes((alone.directory / name / "validator.pem").read_bytes())
    assert pin.stdout.encode() == (alone.directory / "third/validator.pem").read_bytes()
    tables = pin.stderr[pin.stderr.index("[[validator]]") : pin.stderr.index("Then:")]
    every = tables.replace("third", "second").replace('["caa-permits"]', '["attestation", "dns-control"]')
    (signer / "signer.toml").write_text((signer / "signer.toml").read_text() + tables + every)
    for place in ("ca/validator", "second"):
        config = alone.directory / place / "validator.toml"
        peers = [f"{alone.directory}/{each}/validator.pem" for each in ("ca/validator", "second", "third")]
        config.write_text(config.read_text().replace("[store]", f"peers = {json.dumps(peers)}\n\n[store]"))
    start_all(alone)
    other.start_validator("--verbose", name="second")
    alone.processes |= other.processes
    other.observe("dns-control", "a.example.org", "momo", "--method", "dns")
    System(directory=alone.directory, validator_config="third/validator.toml").observe(
        "caa-permits", "a.example.org", "momo"
    )

    requests = [ask(alone, csr, "a.example.org") for _ in range(10)]
    for each in requests:
        issued(alone, each)
    alone.stop("second")
    assert "Traceback" not in alone.log("second"), alone.log("second")
    stop_all(alone)
