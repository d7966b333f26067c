"""Good requests: every kind of key, every profile that asks for no proofs, names as people write them, dates."""

from __future__ import annotations

import datetime as dt
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography.x509 import load_der_x509_csr, load_pem_x509_certificate
from examples.system import CASSIOPEIA, COMMAND_TIME_LIMIT_S, System
from tests.support import hostile_requests
from tests.support.acceptance import (
    CLIENT,
    HOUSE,
    SERVER,
    Extension,
    certificates,
    extensions,
    fails,
    issue,
    make_key,
    make_request,
    serial_of,
    submit,
    validity,
    verify,
    x509,
)

RSA = ["-algorithm", "RSA", "-pkeyopt"]
EC = ["-algorithm", "EC", "-pkeyopt"]
KEYS = {
    "rsa-2048": [*RSA, "rsa_keygen_bits:2048"],
    "rsa-3072": [*RSA, "rsa_keygen_bits:3072"],
    "p-256": [*EC, "ec_paramgen_curve:P-256"],
    "p-384": [*EC, "ec_paramgen_curve:P-384"],
    "p-521": [*EC, "ec_paramgen_curve:P-521"],
    "ed25519": ["-algorithm", "ED25519"],
}
CA_ISSUERS = "CA Issuers - URI:http://pki.example.org/{authority}.crt"
CRL = "Full Name: URI:http://pki.example.org/{authority}.crl"


def subject(system: System, certificate: Path) -> str:
    return x509(system, certificate, "-subject").removeprefix("subject=")


def alt_names(system: System, certificate: Path) -> str:
    return extensions(system, certificate)["X509v3 Subject Alternative Name"].value


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_key_is_certified(running: System, kind: str) -> None:
    key = make_key(running, *KEYS[kind])
    names = ["--cn", f"{kind}.example.org", "--dns", f"{kind}.example.org"]

    certificate = issue(running, "--profile", SERVER, *names, make_request(running, key))

    assert verify(running, certificate) == f"{certificate.name}: OK\n"
    assert x509(running, certificate, "-pubkey") == running.openssl("pkey", "-in", key, "-pubout").stdout.strip()
    assert subject(running, certificate) == f"CN={kind}.example.org"


def test_a_key_that_openssl_does_not_know_yet_is_certified(running: System) -> None:
    octets, _ = hostile_requests.sound_requests()["ml-dsa-44"]
    (running.directory / "ml-dsa.csr").write_bytes(octets)

    certificate = issue(running, "--profile", SERVER, "--dns", "ml-dsa.example.org", "ml-dsa.csr")

    issued = load_pem_x509_certificate(certificate.read_bytes())
    authority = running.directory / "ca/client/certificates" / f"{running.authority_of(certificate)}.pem"
    issued.verify_directly_issued_by(load_pem_x509_certificate(authority.read_bytes()))
    assert issued.public_key() == load_der_x509_csr(octets).public_key()


@pytest.mark.parametrize("options", [["-outform", "DER"], ["-newhdr"], ["-text"]], ids=["der", "old-label", "text"])
def test_every_form_of_a_request(running: System, key: str, options: list[str]) -> None:
    request = make_request(running, key, *options)

    assert verify(running, issue(running, "--profile", SERVER, "--dns", "form.example.org", request)).endswith("OK\n")


def test_a_spkac(running: System) -> None:
    key = make_key(running, *KEYS["rsa-2048"])
    running.openssl("spkac", "-key", key, "-digest", "sha256", "-challenge", "hello", "-out", "sound.spkac")

    certificate = issue(running, "--profile", CLIENT, "--cn", "Momo", "--email", "momo@example.org", "sound.spkac")

    assert verify(running, certificate, "-purpose", "sslclient") == f"{certificate.name}: OK\n"
    assert x509(running, certificate, "-pubkey") == running.openssl("pkey", "-in", key, "-pubout").stdout.strip()


SUBJECT_KEY = "X509v3 Subject Key Identifier"
AUTHORITY_KEY = "X509v3 Authority Key Identifier"
PERSON = ["--cn", "Momo", "--email", "momo@example.org"]


@pytest.mark.parametrize(
    ("profile", "names", "family", "key_usage", "extended_key_usage", "alt_name"),
    [
        (CLIENT, PERSON, "unassured", "Digital Signature", "TLS Web Client Authentication", "email:momo@example.org"),
        (
            "9002-unproved-mail",
            PERSON,
            "unassured",
            "Digital Signature, Key Agreement",
            "E-mail Protection",
            "email:momo@example.org",
        ),
        (
            "9003-unproved-client-mail",
            PERSON,
            "unassured",
            "Digital Signature, Key Agreement",
            "TLS Web Client Authentication, E-mail Protection",
            "email:momo@example.org",
        ),
        (
            SERVER,
            ["--cn", "a.example.org", "--dns", "a.example.org", "--dns", "*.a.example.org", "--ip", "2001:DB8::1"],
            "unassured",
            "Digital Signature",
            "TLS Web Server Authentication",
            "DNS:a.example.org, DNS:*.a.example.org, IP Address:2001:DB8:0:0:0:0:0:1",
        ),
        ("9009-unproved-code", PERSON, "codesign", "Digital Signature", "Code Signing", "email:momo@example.org"),
        (
            HOUSE,
            [*PERSON, "--uri", "https://Example.org/~momo", "--ip", "192.0.2.1"],
            "orga",
            "Digital Signature",
            "TLS Web Client Authentication, E-mail Protection",
            "email:momo@example.org, IP Address:192.0.2.1, URI:https://example.org/~momo",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value[0].isdigit() else "",
)
def test_the_extensions_are_those_of_the_profile(
    running: System,
    csr: str,
    profile: str,
    names: list[str],
    family: str,
    key_usage: str,
    extended_key_usage: str,
    alt_name: str,
) -> None:
    certificate = issue(running, "--profile", profile, *names, csr)

    authority = running.authority_of(certificate)
    found = extensions(running, certificate)
    issuer = extensions(running, running.directory / "ca/client/certificates" / f"{authority}.pem")
    assert authority.startswith(f"{family}_")
    assert found.pop(SUBJECT_KEY).critical is False
    expected = {
        AUTHORITY_KEY: Extension(critical=False, value=issuer[SUBJECT_KEY].value),
        "X509v3 Basic Constraints": Extension(critical=True, value="CA:FALSE"),
        "X509v3 Key Usage": Extension(critical=True, value=key_usage),
        "X509v3 Extended Key Usage": Extension(critical=False, value=extended_key_usage),
        "X509v3 Subject Alternative Name": Extension(critical=False, value=alt_name),
        "Authority Information Access": Extension(critical=False, value=CA_ISSUERS.format(authority=authority)),
        "X509v3 CRL Distribution Points": Extension(critical=False, value=CRL.format(authority=authority)),
    }
    if profile == HOUSE:
        policies = "Policy: 1.3.6.1.4.1.18506.9.1 CPS: http://pki.example.org/cps"
        expected["X509v3 Certificate Policies"] = Extension(critical=False, value=policies)
    assert found == expected


def test_an_rsa_key_may_encipher_keys(running: System) -> None:
    key = make_key(running, *KEYS["rsa-2048"])

    certificate = issue(running, "--profile", SERVER, "--dns", "a.example.org", make_request(running, key))

    expected = Extension(critical=True, value="Digital Signature, Key Encipherment")
    assert extensions(running, certificate)["X509v3 Key Usage"] == expected


@pytest.mark.parametrize(
    ("written", "certified"),
    [
        ("Bücher.example", "xn--bcher-kva.example"),
        ("*.Straße.example", "*.xn--strae-oqa.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("WWW.EXAMPLE.ORG", "www.example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_a_domain_name_is_written_as_people_do(running: System, csr: str, written: str, certified: str) -> None:
    assert alt_names(running, issue(running, "--profile", SERVER, "--dns", written, csr)) == f"DNS:{certified}"


def test_a_mail_address_keeps_its_local_part(running: System, csr: str) -> None:
    certificate = issue(running, "--profile", CLIENT, "--email", "Momo@Bücher.example", csr)

    assert alt_names(running, certificate) == "email:Momo@xn--bcher-kva.example"


def test_text_survives_in_every_script(running: System, csr: str) -> None:
    names = ["--cn", "Ἀριστοτέλης Παναγιώτου", "--subject", "O=株式会社 Größe", "--subject", "L=Zürich"]
    more = ["--subject", "C=CH", "--subject", "OU=Одно", "--subject", "ou=Два"]

    certificate = issue(running, "--profile", HOUSE, *names, *more, "--dns", "a.example.org", csr)

    shown = subject(running, certificate)
    assert shown == "C=CH,L=Zürich,O=株式会社 Größe,OU=Одно,OU=Два,CN=Ἀριστοτέλης Παναγιώτου"
    assert (
        running.client("certificate", "show", options=[serial_of(running, certificate)]).stdout.count("株式会社") == 1
    )


def test_without_a_subject_the_alternative_names_are_critical(running: System, csr: str) -> None:
    certificate = issue(running, "--profile", SERVER, "--dns", "a.example.org", csr)

    assert subject(running, certificate) == ""
    expected = Extension(critical=True, value="DNS:a.example.org")
    assert extensions(running, certificate)["X509v3 Subject Alternative Name"] == expected


def test_what_a_request_says_about_itself_is_never_copied(running: System, key: str) -> None:
    names = ["-subj", "/CN=evil.example.org/O=Evil"]
    wishes = ["-addext", "subjectAltName=DNS:evil.example.org", "-addext", "basicConstraints=critical,CA:TRUE"]

    certificate = issue(
        running, "--profile", SERVER, "--dns", "a.example.org", make_request(running, key, *names, *wishes)
    )

    text = x509(running, certificate, "-text")
    assert "evil" not in text.lower()
    assert "CA:TRUE" not in text


@pytest.mark.parametrize("fault", ["duplicate-extensions", "nul-in-subject"])
def test_what_is_not_copied_does_not_hurt(running: System, fault: str) -> None:
    """What cryptography would raise an error for, if anybody looked at it."""
    common_name = b"\x30\x17\x31\x15\x30\x13\x06\x03\x55\x04\x03\x0c\x0ca.example\x00.x"
    requests = {
        "duplicate-extensions": hostile_requests.certification_request(
            attributes=hostile_requests.duplicate_extensions()
        ),
        "nul-in-subject": hostile_requests.certification_request(subject=common_name),
    }
    (running.directory / f"{fault}.csr").write_bytes(requests[fault])

    certificate = issue(running, "--profile", SERVER, "--dns", "a.example.org", f"{fault}.csr")

    assert alt_names(running, certificate) == "DNS:a.example.org"
    assert subject(running, certificate) == ""


def day(days_from_now: int) -> dt.datetime:
    today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + dt.timedelta(days=days_from_now)


def test_dates_are_as_wished_less_a_second(running: System, csr: str) -> None:
    dates = ["--from", f"{day(7):%Y-%m-%d}", "--to", f"{day(40):%Y-%m-%d}"]

    first, last = validity(running, issue(running, "--profile", SERVER, "--dns", "a.example.org", *dates, csr))

    assert (first, last) == (day(7), day(40) - dt.timedelta(seconds=1))


@pytest.mark.parametrize(("wish", "days"), [([], 99), (["--to", "30d"], 30)])
def test_without_a_first_day_it_begins_now(running: System, csr: str, wish: list[str], days: int) -> None:
    certificate = issue(running, "--profile", SERVER, "--dns", "a.example.org", *wish, csr)

    first, last = validity(running, certificate)
    assert abs(first - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=30)
    assert last - first == dt.timedelta(days=days, seconds=-1)


@pytest.mark.parametrize("digest", ["sha256", "SHA512"])
def test_each_curve_has_its_hash_whatever_is_wished(running: System, csr: str, digest: str) -> None:
    """CA/Browser Forum Baseline Requirements 7.1.3.2.2; an RSA sub-CA would follow the wish."""
    certificate = issue(running, "--profile", SERVER, "--dns", "a.example.org", "--digest", digest, csr)

    assert "Signature Algorithm: ecdsa-with-SHA256" in x509(running, certificate, "-text")
    assert verify(running, certificate).endswith("OK\n")


def test_a_request_from_standard_input(running: System, csr: str) -> None:
    options = ["-c", running.client_config, "--wait", "--profile", SERVER, "--dns", "stdin.example.org", "-"]
    with (running.directory / csr).open("rb") as request:
        done = subprocess.run(
            [*CASSIOPEIA, "request", "submit", *options],
            stdin=request,
            cwd=running.directory,
            capture_output=True,
            check=True,
            timeout=COMMAND_TIME_LIMIT_S,
        )
    certificate = running.directory / "stdin.pem"
    certificate.write_bytes(done.stdout)
    assert verify(running, certificate) == "stdin.pem: OK\n"


def test_waiting_may_be_left_to_a_second_command(running: System, csr: str) -> None:
    identifier = submit(running, "--profile", SERVER, "--dns", "a.example.org", csr)

    answer = running.ask("request", "wait", options=[identifier[:16]])

    assert (answer["id"], answer["state"]) == (identifier, "issued")
    certificate = running.directory / "waited.pem"
    certificate.write_text(answer["certificate"])
    assert serial_of(running, certificate) == answer["serial_number"]


def test_one_request_id_makes_one_certificate(running: System, csr: str) -> None:
    options = ["--id", "ab" * 32, "--profile", SERVER, "--dns", "once.example.org", csr]

    first = issue(running, *options)
    second = issue(running, *options)
    line = fails(running, "request", "submit", options=[*options, "--cn", "once.example.org"])

    assert first.read_text() == second.read_text()
    assert line == "this request id already names another request: choose a new one"
    assert [each["request"] for each in certificates(running)].count("ab" * 32) == 1


def test_a_certificate_is_fetched_in_every_form(running: System, csr: str) -> None:
    certificate = issue(running, "--profile", SERVER, "--dns", "fetched.example.org", csr)
    serial = serial_of(running, certificate)

    pem = running.client("certificate", "get", options=[serial]).stdout
    chain = running.client("certificate", "get", options=[serial, "--format", "chain"]).stdout
    running.client("certificate", "get", options=[serial, "--format", "der", "--out", "fetched.der"])

    assert pem == certificate.read_text()
    assert (running.directory / "fetched.der").read_bytes() == ssl.PEM_cert_to_DER_cert(pem)
    assert chain.startswith(pem)
    (running.directory / "chain.pem").write_text(chain)
    trust = ["-CAfile", "ca/client/public/root.pem", "-untrusted", "chain.pem"]
    assert running.openssl("verify", "-x509_strict", *trust, certificate.name).stdout.endswith("OK\n")
