"""Revoking: reasons, invalidity dates, CRLs that openssl verifies and believes, and what cannot be revoked."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from examples.system import System
from tests.support.acceptance import CLIENT, SERVER, fails, issue, make_key, make_request, serial_of, verify

PUBLIC = "ca/client/public"
# As `--reason` takes it, and as openssl prints it.
REASONS = {
    "unspecified": "",
    "keyCompromise": "Key Compromise",
    "cACompromise": "CA Compromise",
    "affiliationChanged": "Affiliation Changed",
    "superseded": "Superseded",
    "cessationOfOperation": "Cessation Of Operation",
    "privilegeWithdrawn": "Privilege Withdrawn",
    "aACompromise": "AA Compromise",
}


def issue_one(system: System, csr: str) -> Path:
    return issue(system, "--profile", SERVER, "--dns", "revoked.example.org", csr)


def crl_text(system: System, certificate: Path) -> str:
    return system.openssl("crl", "-inform", "DER", "-in", system.crl_of(certificate), "-noout", "-text").stdout


def entry(text: str, serial: str) -> str:
    """What a CRL says of one serial number, blanks joined; empty if it is not listed."""
    for part in text.split("    Signature Algorithm: ")[1].split("Serial Number: ")[1:]:
        if part.splitlines()[0].lower() == serial:
            return " ".join(part.split())
    return ""


def number(system: System, certificate: Path) -> int:
    crl = system.openssl("crl", "-inform", "DER", "-in", system.crl_of(certificate), "-noout", "-crlnumber").stdout
    return int(crl.strip().partition("=0x")[2], 16)


def check_revocation(system: System, certificate: Path, *, revoked: bool = False) -> str:
    """`openssl verify -crl_check_all`: with the CRLs of root, structure CA and sub-CA as they are published."""
    authority = system.authority_of(certificate)
    names = ["root", authority.partition("_")[0], authority]
    crls = [word for name in names for word in ("-CRLfile", f"{PUBLIC}/{name}.crl.pem")]
    return verify(system, certificate, "-crl_check_all", *crls, status=2 if revoked else 0)


@pytest.mark.parametrize("reason", REASONS)
def test_the_crl_says_why(running: System, csr: str, reason: str) -> None:
    certificate = issue_one(running, csr)
    serial = serial_of(running, certificate)
    before = number(running, certificate)
    assert check_revocation(running, certificate).endswith("OK\n")

    answer = running.ask("certificate", "revoke", options=[serial, "--reason", reason, "--wait"])

    assert (answer["serial_number"], answer["state"]) == (serial, "revoked")
    assert "certificate revoked" in check_revocation(running, certificate, revoked=True)
    said = entry(crl_text(running, certificate), serial)
    assert said.partition("X509v3 CRL Reason Code: ")[2] == REASONS[reason]
    assert "Invalidity Date" not in said
    assert number(running, certificate) > before


def test_the_crl_says_since_when(running: System, csr: str) -> None:
    certificate = issue_one(running, csr)
    serial = serial_of(running, certificate)

    options = [serial.upper(), "--reason", "keycompromise", "--invalid-since", "2026-01-31", "--wait"]
    line = running.client("certificate", "revoke", options=options).stdout

    assert re.fullmatch(rf"{serial}: revoked on [-0-9]{{10}} [:0-9]{{8}}Z, the CRL is published\n", line)
    said = entry(crl_text(running, certificate), serial)
    assert "Key Compromise" in said
    assert "Invalidity Date: Jan 31 00:00:00 2026 GMT" in said
    shown = running.client("certificate", "show", options=[serial]).stdout
    assert re.search(r"^state +revoked$", shown, re.MULTILINE)
    assert re.search(r"^invalid since +2026-01-31 00:00:00Z$", shown, re.MULTILINE)


def test_every_published_crl_verifies_and_is_current(running: System) -> None:
    names = sorted(path.stem for path in (running.directory / PUBLIC).glob("*.crl"))
    families = ["assured", "codesign", "orga", "orgaSign", "unassured"]
    time_authorities = [path.stem for path in (running.directory / "ca/signer/certificates").glob("*.pem")]
    assert names == sorted(["root", *families, *time_authorities])
    for name in names:
        path = f"{PUBLIC}/{name}"
        verified = running.openssl("crl", "-inform", "DER", "-in", f"{path}.crl", "-CAfile", f"{path}.pem", "-noout")
        assert verified.stderr == "verify OK\n"
        running.openssl("crl", "-in", f"{path}.crl.pem", "-outform", "DER", "-out", "converted.crl")
        assert (running.directory / "converted.crl").read_bytes() == (running.directory / f"{path}.crl").read_bytes()


def test_asking_twice_revokes_once(running: System, csr: str) -> None:
    certificate = issue_one(running, csr)
    serial = serial_of(running, certificate)

    first = running.client("certificate", "revoke", options=[serial, "--reason", "superseded", "--wait"])
    text = crl_text(running, certificate)
    line = fails(running, "certificate", "revoke", options=[serial, "--reason", "keyCompromise"])

    moment = first.stdout.split("revoked on ")[1].partition("Z,")[0]
    assert line == f"certificate {serial} was revoked on {moment.replace(' ', ' at ')} UTC"
    assert text.lower().count(serial) == 1
    assert "Superseded" in entry(crl_text(running, certificate), serial)


def test_one_of_several_accounts_is_revoked_and_found_again(running: System) -> None:
    csr = make_request(running, make_key(running, "-algorithm", "ED25519"))  # no other account may have its key
    ours = issue(running, "--profile", CLIENT, "--email", "momo@example.org", "--account", "momo", csr)
    kept = issue(running, "--profile", CLIENT, "--email", "momo@example.org", "--account", "momo", csr)
    serial = serial_of(running, ours)

    running.client("certificate", "revoke", options=[serial, "--wait"])

    answer = running.ask("certificate", "list", options=["--account", "momo", "--revoked"])
    assert [(each["serial_number"], each["reason"]) for each in answer["certificates"]] == [(serial, "")]
    assert check_revocation(running, kept).endswith("OK\n")
    listed = running.ask("crl", "show", options=[running.authority_of(ours)])
    assert serial in listed["revoked"]
    assert serial_of(running, kept) not in listed["revoked"]
    assert listed["number"] == number(running, ours)


def test_a_whole_account_is_revoked_by_a_plan(running: System) -> None:
    csr = make_request(running, make_key(running, "-algorithm", "ED25519"))
    options = ["--profile", CLIENT, "--email", "emma@example.org", "--account", "emma", csr]
    certificates = [issue(running, *options) for _ in range(3)]

    planned = running.ask(
        "revoke", "plan", options=["--account", "emma", "--reason", "keyCompromise", "--out", "emmas-plan"]
    )
    assert (planned["certificates"], planned["notices"]) == (3, 1)
    assert all(check_revocation(running, each).endswith("OK\n") for each in certificates)
    running.client("revoke", "run", options=["emmas-plan", "--yes"])
    for _ in range(300):
        shown = running.ask("revoke", "show", options=["emmas-plan"])
        if shown["revoked"] == 3:
            break
        time.sleep(0.1)

    assert (shown["revoked"], shown["waiting"], shown["not_asked"], shown["set_aside"]) == (3, 0, 0, 0)
    for each in certificates:
        assert "certificate revoked" in check_revocation(running, each, revoked=True)
        assert "Key Compromise" in entry(crl_text(running, each), serial_of(running, each))
    assert "0 revocations are queued" in running.client("revoke", "run", options=["emmas-plan"]).stdout


def test_a_crl_is_signed_anew_when_somebody_asks(running: System, csr: str) -> None:
    certificate = issue_one(running, csr)
    authority, before = running.authority_of(certificate), number(running, certificate)

    line = running.client("crl", "renew", options=[authority, "--wait"]).stdout

    assert re.fullmatch(rf"{authority}: number \d+ is signed, valid until [-0-9: ]+Z\n", line)
    assert running.ask("crl", "show", options=[authority])["number"] > before
    assert check_revocation(running, certificate).endswith("OK\n")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["01" * 16], 1, "there is no certificate with serial number 0101"),
        (["xyz"], 1, "a serial number is hexadecimal"),
        (["01" * 16, "--reason", "certificateHold"], 2, "'certificateHold' is not one of 'unspecified', 'keycompr"),
        (["01" * 16, "--invalid-since", "yesterday"], 2, "'yesterday' is no day: write YYYY-MM-DD"),
        (["01" * 16, "--invalid-since", "2999-01-01"], 2, "2999-01-01 is in the future"),
        ([], 2, "Missing argument 'SERIAL'"),
    ],
    ids=["unknown", "no-number", "reason", "no-day", "future", "none"],
)
def test_what_cannot_be_revoked_is_one_line(running: System, arguments: list[str], status: int, words: str) -> None:
    line = fails(running, "certificate", "revoke", options=arguments, status=status)

    assert words in line
