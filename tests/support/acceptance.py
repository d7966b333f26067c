"""What acceptance tests see from outside: certificates as openssl prints them, errors as a person reads them."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.system import System
from tests.support.warm_commands import WarmCommands

SERVER = "9004-unproved-server"
CLIENT = "9001-unproved-client"
HOUSE = "8000-house"

# A profile that an operator might write: every kind of name, and no proofs.
HOUSE_PROFILE = """
title = "Everything in the house"
family = "orga"
key_usage = ["digitalSignature", "keyEncipherment"]
extended_key_usage = ["clientAuth", "emailProtection"]
maximum_validity_days = 730
not_before_ahead_days = 14
maximum_alt_names = 10
policy_identifiers = ["1.3.6.1.4.1.18506.9.1"]
cps_uri = "http://pki.example.org/cps"
evidence = []

[subject]
C = "optional"
ST = "optional"
L = "optional"
O = "optional"
OU = "optional"
CN = "optional"
EMAIL = "optional"

[alt_names]
DNS = "optional"
email = "optional"
IP = "optional"
URI = "optional"
"""

_ERROR_LINE = re.compile(r"cassiopeia: error: [^\n]+\n")
_numbers = itertools.count(1)


@dataclass(kw_only=True)
class QuickSystem(System):
    """A system whose commands need not be loaded; its two services are ordinary processes."""

    commands: WarmCommands

    def execute(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return self.commands.run(arguments, self.directory)


@dataclass(frozen=True, kw_only=True, slots=True)
class Extension:
    critical: bool
    value: str


def make_authority(system: System) -> None:
    """`cassiopeia init`, and an operator's own profile beside the default ones."""
    system.run(*system.init_command)
    for side in ("signer", "client"):
        (system.directory / "ca" / side / "profiles" / f"{HOUSE}.toml").write_text(HOUSE_PROFILE)


def start(system: System) -> None:
    system.start_signer("--verbose")
    system.start_client("--verbose")
    system.wait_for_log("client", "session open")


def wait_for_crls(system: System) -> None:
    """Wait until the first CRL of every sub-CA is published."""
    authorities = [path.stem for path in (system.directory / "ca/signer/certificates").glob("*.pem")]
    public = system.directory / "ca/client/public"
    system.wait_until(lambda: all((public / f"{name}.crl").exists() for name in authorities), "every CRL is published")


def make_key(system: System, *options: str) -> str:
    """Make a key by `openssl genpkey` and return the name of its file."""
    name = f"key-{next(_numbers)}.pem"
    system.openssl("genpkey", *options, "-out", name)
    return name


def make_request(system: System, key: str, *options: str) -> str:
    """Make a CSR by `openssl req` and return the name of its file."""
    name = f"request-{next(_numbers)}.csr"
    system.openssl("req", "-new", "-key", key, "-subj", "/", "-out", name, *options)
    return name


def issue(system: System, *options: str) -> Path:
    """`cassiopeia request submit --wait`; return the certificate's file."""
    path = system.directory / f"certificate-{next(_numbers)}.pem"
    system.client("request", "submit", options=["--wait", "--out", path.name, *options])
    return path


def submit(system: System, *options: str) -> str:
    """`cassiopeia request submit` without waiting; return the request's id."""
    identifier = os.urandom(32).hex()
    system.client("request", "submit", options=["--id", identifier, *options])
    return identifier


def fails(system: System, *words: str, options: Sequence[str] = (), status: int = 1) -> str:
    """A command of the database's side that must end with one clear line; return it."""
    return error_line(system.client(*words, options=options, status=status))


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    assert _ERROR_LINE.fullmatch(done.stderr), f"not one clear line:\n{done.stderr}"
    assert done.stdout == ""
    return done.stderr.removeprefix("cassiopeia: error: ").rstrip("\n")


def verify(system: System, certificate: Path, *options: str, status: int = 0) -> str:
    """`openssl verify` through the whole chain; return everything that it says."""
    trust = system.trust_options(certificate)
    done = system.openssl("verify", "-x509_strict", *options, *trust, certificate.name, status=status)
    return done.stdout + done.stderr


def x509(system: System, certificate: Path, *options: str) -> str:
    options = (*options, "-nameopt", "utf8,sep_comma_plus")
    return system.openssl("x509", "-in", str(certificate), "-noout", *options).stdout.strip()


def serial_of(system: System, certificate: Path) -> str:
    return x509(system, certificate, "-serial").partition("=")[2].lower()


def extensions(system: System, certificate: Path) -> dict[str, Extension]:
    """Map the name that openssl gives an extension to what it prints of it, blanks joined."""
    text = x509(system, certificate, "-text").split("X509v3 extensions:\n")[1].split("    Signature Algorithm")[0]
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if re.match(r" {12}\S", line):
            name = line.strip()
            found[name] = []
        else:
            found[name].append(line.strip())
    return {
        name.partition(":")[0]: Extension(critical=name.endswith(": critical"), value=" ".join(lines).strip())
        for name, lines in found.items()
    }


def validity(system: System, certificate: Path) -> tuple[dt.datetime, dt.datetime]:
    """NotBefore and notAfter."""
    lines = x509(system, certificate, "-startdate", "-enddate", "-dateopt", "iso_8601").splitlines()
    first, last = (dt.datetime.fromisoformat(line.partition("=")[2]) for line in lines)
    return first, last


def requests(system: System) -> list[Any]:
    """Every request, newest first."""
    answer: list[Any] = system.ask("request", "list", options=["--limit", "10000"])["requests"]
    return answer


def certificates(system: System) -> list[Any]:
    answer: list[Any] = system.ask("certificate", "list", options=["--limit", "10000"])["certificates"]
    return answer


def check_nothing_half_written(system: System) -> None:
    """Every request is issued with one certificate or refused with a reason, and the queue holds nothing."""
    every = requests(system)
    assert {each["state"] for each in every} <= {"issued", "refused"}
    assert not [each for each in every if each["state"] == "refused" and not each["refusal"]["message"]]
    issued = {each["id"]: each["serial_number"] for each in every if each["state"] == "issued"}
    kept = certificates(system)
    assert {each["request"]: each["serial_number"] for each in kept} == issued
    assert len({each["serial_number"] for each in kept}) == len(kept) == len(issued)
    queue = system.ask("status")["queue"]
    assert {name: sum(queue[name].values()) for name in ("waiting", "leased", "set_aside")} == {
        "waiting": 0,
        "leased": 0,
        "set_aside": 0,
    }


def check_logs(system: System) -> None:
    """Neither process met anything that it did not expect."""
    for name in ("signer", "client"):
        log = system.log(name)
        assert "Traceback" not in log, log
        assert "[ERROR]" not in log, log
