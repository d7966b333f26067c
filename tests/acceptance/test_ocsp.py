"""OCSP as `openssl ocsp` and a bare HTTP client see it: a publisher over a real authority."""

from __future__ import annotations

import base64
import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pytest
from examples.system import CommandFailed, System
from tests.support.acceptance import (
    CLIENT,
    SERVER,
    QuickSystem,
    issue,
    make_authority,
    make_key,
    make_request,
    serial_of,
    start,
    wait_for_crls,
)
from tests.support.warm_commands import WarmCommands

QUICK_KEYS = ("--unproved-profiles", "--key-algorithm", "P-256")
PUBLIC = "ca/client/public"
SUB_CAS = 5


@pytest.fixture(scope="module")
def served(commands: WarmCommands) -> Iterator[System]:
    """A whole system, the publisher among it, whose responder is certified under every sub-CA."""
    with (
        TemporaryDirectory(prefix="ca-") as directory,
        QuickSystem(directory=Path(directory), init_options=QUICK_KEYS, commands=commands) as system,
    ):
        make_authority(system)
        start(system)
        system.start_validator()
        wait_for_crls(system)
        wait_until_certified(system, system.start_publisher("--verbose"))
        yield system
        for name in ("publisher", "validator", "client", "signer"):
            system.stop(name)
        assert "Traceback" not in system.log("publisher")
        assert "[ERROR]" not in system.log("publisher")


@pytest.fixture(scope="module")
def csr(served: System) -> str:
    return make_request(served, make_key(served, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))


def wait_until_certified(system: System, url: str) -> None:
    responder = system.directory / "ca/publisher/responder"
    system.wait_until(lambda: len(list(responder.glob("*.pem"))) == SUB_CAS, "the responder is certified everywhere")
    (system.directory / "publisher.url").write_text(url)


def url_of(system: System) -> str:
    return (system.directory / "publisher.url").read_text()


def ask(system: System, certificate: Path, *options: str) -> str:
    """`openssl ocsp`: what it says of the certificate, behind its word that the signature is right."""
    authority = system.authority_of(certificate)
    chain = system.directory / "chain.pem"
    names = ("root", authority.partition("_")[0], authority)
    chain.write_text("".join((system.directory / PUBLIC / f"{name}.pem").read_text() for name in names))
    done = system.openssl(
        *("ocsp", "-url", f"{url_of(system)}/ocsp", "-CAfile", "chain.pem", "-issuer", f"{PUBLIC}/{authority}.pem"),
        *(options or ("-cert", certificate.name)),
    )
    assert done.stderr.startswith("Response verify OK"), done.stderr
    return done.stdout


def fetch(system: System, path: str) -> tuple[bytes, dict[str, str]]:
    """What an HTTP client gets, and the header fields."""
    connection = http.client.HTTPConnection(url_of(system).removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def wait_until_said(system: System, certificate: Path, words: str) -> str:
    """Until the journal entry of a new certificate has been copied, the publisher says that it does not know yet."""
    said = ""

    def is_said() -> bool:
        nonlocal said
        try:
            said = ask(system, certificate)
        except CommandFailed as failure:
            assert "Responder Error: trylater (3)" in str(failure)  # noqa: PT017 - both may come
        return words in said

    system.wait_until(is_said, f"OCSP says {words!r}")
    return said


@pytest.mark.parametrize(
    ("profile", "options"), [(SERVER, ["--dns", "www.example.org"]), (CLIENT, ["--email", "momo@example.org"])]
)
def test_a_certificate_is_good_until_it_is_revoked(served: System, csr: str, profile: str, options: list[str]) -> None:
    certificate, other = (issue(served, "--profile", profile, *options, csr) for _ in range(2))
    for each in (certificate, other):
        wait_until_said(served, each, f"{each.name}: good")

    served.client("certificate", "revoke", options=[serial_of(served, certificate), "--reason", "superseded", "--wait"])

    said = wait_until_said(served, certificate, f"{certificate.name}: revoked")
    assert "Reason: superseded" in said
    assert re.search(r"Revocation Time: .* GMT", said)
    assert f"{other.name}: good" in ask(served, other)


def test_several_are_asked_about_at_once_by_either_hash(served: System, csr: str) -> None:
    first, second = (issue(served, "--profile", SERVER, "--dns", "www.example.org", csr) for _ in range(2))
    for each in (first, second):
        wait_until_said(served, each, f"{each.name}: good")

    unknown = "0x" + "01" * 16
    said = ask(
        *(served, first, "-cert", first.name, "-sha256", "-cert", second.name),
        *("-sha384", "-serial", unknown, "-no_nonce"),
    )

    assert [line.partition(": ")[2] for line in said.splitlines() if not line.startswith("\t")] == [
        "good",
        "good",
        "unknown",
    ]


def test_requests_in_a_url_may_be_kept(served: System, csr: str) -> None:
    certificate = issue(served, "--profile", SERVER, "--dns", "www.example.org", csr)
    wait_until_said(served, certificate, f"{certificate.name}: good")
    authority = served.authority_of(certificate)
    issuer = f"{PUBLIC}/{authority}.pem"
    served.openssl("ocsp", "-issuer", issuer, "-cert", certificate.name, "-no_nonce", "-reqout", "request.der")
    text = base64.b64encode((served.directory / "request.der").read_bytes()).decode()

    body, headers = fetch(served, f"/ocsp/{quote(text, safe='')}")

    assert headers["content-type"] == "application/ocsp-response"
    assert re.fullmatch(r"max-age=\d+, public, no-transform, must-revalidate", headers["cache-control"])
    (served.directory / "response.der").write_bytes(body)
    said = served.openssl(
        *("ocsp", "-respin", "response.der", "-CAfile", "chain.pem", "-issuer", issuer, "-cert", certificate.name)
    )
    assert f"{certificate.name}: good" in said.stdout


def test_the_responders_certificate_is_what_it_should_be(served: System) -> None:
    for path in sorted((served.directory / "ca/publisher/responder").glob("*.pem")):
        trust = ["-CAfile", f"{PUBLIC}/root.pem", "-untrusted", f"{PUBLIC}/{path.stem.partition('_')[0]}.pem"]
        trust += ["-untrusted", f"{PUBLIC}/{path.stem}.pem"]
        assert served.openssl("verify", "-purpose", "ocsphelper", *trust, str(path)).stdout.endswith("OK\n")
        text = served.openssl("x509", "-in", str(path), "-noout", "-text").stdout
        assert "OCSP Signing" in text
        assert "OCSP No Check" in text
        assert "Subject: CN = OCSP responder" in text
        month = 30 * 86_400
        served.openssl("x509", "-in", str(path), "-noout", "-checkend", str(month), status=1)
        served.openssl("x509", "-in", str(path), "-noout", "-checkend", str(month - 86_400))


def test_everything_that_is_published_is_served(served: System) -> None:
    for path in sorted((served.directory / PUBLIC).iterdir()):
        assert fetch(served, f"/{path.name}")[0] == path.read_bytes()
    page = fetch(served, "/")[0].decode()
    root = served.openssl("x509", "-in", f"{PUBLIC}/root.pem", "-noout", "-fingerprint", "-sha256").stdout
    assert root.strip().partition("=")[2].lower() in page


def test_a_restart_asks_for_nothing_again(served: System, csr: str) -> None:
    certificate = issue(served, "--profile", SERVER, "--dns", "www.example.org", csr)
    before = served.ask("request", "list", options=["--account", "ocsp-responder"])["requests"]
    assert len(before) == SUB_CAS

    served.stop("publisher")
    wait_until_certified(served, served.start_publisher("--verbose"))

    wait_until_said(served, certificate, f"{certificate.name}: good")
    assert served.ask("request", "list", options=["--account", "ocsp-responder"])["requests"] == before


def test_the_journal_accounts_for_every_certificate_of_a_responder(served: System) -> None:
    responder = str(served.directory / "ca/publisher/responder")

    said = served.client("journal", "verify", options=["--certificates", responder]).stdout

    assert said.endswith("othing is wrong.\n")
