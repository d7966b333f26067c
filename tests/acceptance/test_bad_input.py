"""Bad input: each ends as a refused request whose reason the submitter sees, and the next request is served."""

from __future__ import annotations

import base64
import datetime as dt
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from examples.system import System
from tests.support import hostile_requests
from tests.support.acceptance import (
    CLIENT,
    SERVER,
    check_logs,
    check_nothing_half_written,
    error_line,
    issue,
    make_key,
    make_request,
)
from tests.support.badkeys import SAMPLES

NAME = "bad.example.org"
MIXED = "\u0440ay\u0440al"  # the first and the fourth letter are Cyrillic
MIXED_A_LABEL = f"xn--{MIXED.encode('punycode').decode()}.example.org"
NOW = dt.datetime.now(dt.UTC)
IN_A_MONTH = f"{NOW + dt.timedelta(days=30):%Y-%m-%d}"
YESTERDAY = f"{NOW - dt.timedelta(days=1):%Y-%m-%d}"
TIME_AUTHORITY = f"unassured_{NOW.year}_{1 if NOW.month <= 6 else 2}"

# Makes what is handed in, from a sound CSR: a system and the CSR's file, to the octets of the new one.
Make = Callable[[System, Path], bytes]


def unchanged(_system: System, csr: Path) -> bytes:
    return csr.read_bytes()


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is handed in, and what the submitter must read: the code in `request show`, the words in both places."""

    code: str
    words: str
    make: Make = unchanged
    options: list[str] = field(default_factory=lambda: ["--profile", SERVER, "--dns", NAME])


def edited(edit: Callable[[bytes], bytes]) -> Make:
    return lambda _, csr: edit(csr.read_bytes())


def crafted(name: str) -> Make:
    return lambda *_: hostile_requests.bad_requests()[name][0]


def by_openssl(*genpkey: str, options: tuple[str, ...] = ()) -> Make:
    """A CSR by a key that openssl makes."""

    def make(system: System, _csr: Path) -> bytes:
        return (system.directory / make_request(system, make_key(system, *genpkey), *options)).read_bytes()

    return make


def by_dsa(system: System, _csr: Path) -> bytes:
    system.openssl("dsaparam", "-genkey", "-noout", "-out", "dsa.key", "1024")
    return (system.directory / make_request(system, "dsa.key")).read_bytes()


def md5_spkac(system: System, _csr: Path) -> bytes:
    """What `openssl spkac` writes when it is not told a digest."""
    key = make_key(system, "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    return system.openssl("spkac", "-key", key, "-digest", "md5").stdout.encode()


def by_sample(name: str) -> Make:
    return lambda *_: (SAMPLES / name).read_bytes()


def near_zero(*_: object) -> bytes:
    """A CSR by the key 12345 of P-256: in order but for that."""
    key = ec.derive_private_key(12345, ec.SECP256R1())
    return hostile_requests.certification_request(
        key_info=hostile_requests.public_key_info(key), sign=lambda octets: key.sign(octets, ec.ECDSA(hashes.SHA256()))
    )


def near_zero_spkac(*_: object) -> bytes:
    key = ec.derive_private_key(12345, ec.SECP256R1())
    spkac = hostile_requests.spkac(
        key_info=hostile_requests.public_key_info(key), sign=lambda octets: key.sign(octets, ec.ECDSA(hashes.SHA256()))
    )
    return b"SPKAC=" + base64.b64encode(spkac)


def private_key(system: System, _csr: Path) -> bytes:
    return (system.directory / make_key(system, "-algorithm", "ED25519")).read_bytes()


def server(*options: str) -> list[str]:
    return ["--profile", SERVER, "--dns", NAME, *options]


RSA = ("-algorithm", "RSA", "-pkeyopt")
EC = ("-algorithm", "EC", "-pkeyopt")

CASES = {
    "empty": Case(make=edited(lambda _: b""), code="request-empty", words="is empty"),
    "truncated": Case(make=edited(lambda pem: pem[:200]), code="request-malformed", words="is cut off"),
    "ten-megabytes": Case(
        make=edited(lambda pem: pem * (10_000_000 // len(pem))), code="request-too-large", words="longer than 65536"
    ),
    "wrong-label": Case(
        make=edited(lambda pem: pem.replace(b"CERTIFICATE REQUEST", b"CERTIFICATE")),
        code="pem-label",
        words="labelled 'CERTIFICATE' and not 'CERTIFICATE REQUEST'",
    ),
    "private-key": Case(make=private_key, code="private-key-sent", words="never use this one again"),
    "version-2": Case(make=crafted("version-2"), code="request-malformed", words="a version other than 1"),
    "broken-signature": Case(
        make=crafted("signature-changed"), code="signature-invalid", words="is not signed by the key it holds"
    ),
    "md5-spkac": Case(make=md5_spkac, code="signature-algorithm", words="MD5, which is broken"),
    "dsa": Case(make=by_dsa, code="key-unsupported", words="not certified"),
    "secp256k1": Case(
        make=by_openssl(*EC, "ec_paramgen_curve:secp256k1"), code="key-unsupported", words="curve secp256k1"
    ),
    "x25519": Case(make=crafted("key-x25519"), code="key-unsupported", words="not certified"),
    "rsa-1024": Case(
        make=by_openssl(*RSA, "rsa_keygen_bits:1024"), code="key-weak", words="has 1024 bits, too few to be safe"
    ),
    "close-primes": Case(make=by_sample("rsa-fermat.csr"), code="key-close-primes", words="close together"),
    "private-key-near-zero": Case(make=near_zero, code="key-guessable", words="a number near zero"),
    "private-key-near-zero-spkac": Case(make=near_zero_spkac, code="key-guessable", words="a number near zero"),
    "exponent-1": Case(make=crafted("key-rsa-exponent-1"), code="key-unsupported", words="damaged or of a kind"),
    "unknown-profile": Case(
        options=["--profile", "9999-fly", "--dns", NAME], code="profile-unknown", words="'9999-fly'"
    ),
    "proofs-missing": Case(
        options=["--profile", "0004-server", "--dns", NAME],
        code="evidence-missing",
        words=f": dns-control for {NAME}, caa-permits for {NAME}. Have them proved, or leave such names out",
    ),
    "name-not-allowed": Case(
        options=server("--email", "momo@example.org"), code="name-not-allowed", words="takes no email; leave it out"
    ),
    "name-missing": Case(
        options=["--profile", CLIENT, "--cn", "Momo"], code="name-missing", words="needs email; add it"
    ),
    "no-name": Case(options=["--profile", SERVER], code="name-missing", words="name nobody; add a name"),
    "another-common-name": Case(
        options=server("--cn", "good.example.org"), code="name-not-covered", words="one of its host names"
    ),
    "control-character": Case(
        options=["--profile", CLIENT, "--cn", "a\x1b[31mb", "--email", "momo@example.org"],
        code="name-character",
        words=r"CN 'a\x1b[31mb' contains a control character (U+001B)",
    ),
    "control-character-in-domain": Case(
        options=server("--dns", "a\x01.example.org"), code="dns-name-invalid", words=r"'a\x01.example.org' is not valid"
    ),
    # A command line holds no NUL; this is how one could still be asked for.
    "escaped-nul-in-domain": Case(
        options=server("--dns", "good.example.org%00.evil.org"), code="dns-name-invalid", words="is not valid"
    ),
    "not-utf-8": Case(
        options=["--profile", CLIENT, "--cn", os.fsdecode(b"a\xff"), "--email", "momo@example.org"],
        code="text-invalid",
        words="not allowed",
    ),
    "mixed-scripts": Case(
        options=["--profile", SERVER, "--dns", f"{MIXED}.example.org"],
        code="mixed-scripts",
        words="write each label in one script",
    ),
    "mixed-scripts-in-a-labels": Case(
        options=["--profile", SERVER, "--dns", MIXED_A_LABEL],
        code="mixed-scripts",
        words="write each label in one script",
    ),
    "name-too-long": Case(
        options=["--profile", CLIENT, "--cn", "M" * 65, "--email", "momo@example.org"],
        code="name-too-long",
        words="longer than 64 characters",
    ),
    "begins-in-the-past": Case(options=server("--from", YESTERDAY), code="date-past", words="in the past"),
    "begins-never": Case(options=server("--from", "2027-02-30"), code="date-invalid", words="not understood"),
    "ends-in-the-past": Case(options=server("--to", YESTERDAY), code="date-past", words="not after the beginning"),
    "ends-too-late": Case(options=server("--to", "10y"), code="validity-too-long", words="at most 99 days"),
    "ends-nonsense": Case(options=server("--to", "soon"), code="date-invalid", words="not understood"),
    "truncated-der": Case(make=crafted("cut-off"), code="request-malformed", words="damaged or cut off"),
    "exponent-3": Case(
        make=by_openssl(*RSA, "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"),
        code="key-weak",
        words="public exponent",
    ),
    "ocsp-responder": Case(
        options=["--ocsp-for", TIME_AUTHORITY, "--cn", "responder"],
        code="key-not-pinned",
        words="not pinned as an OCSP responder's",
    ),
    "attribute-not-allowed": Case(
        options=server("--subject", "O=Example"), code="name-not-allowed", words="takes no O; leave it out"
    ),
    "bidirectional-override": Case(
        options=["--profile", CLIENT, "--cn", "Momo\u202egpj.exe", "--email", "momo@example.org"],
        code="name-character",
        words="U+202E",
    ),
    "begins-too-late": Case(options=server("--from", IN_A_MONTH), code="date-ahead", words="at most 14 days ahead"),
    "hash-broken": Case(options=server("--digest", "MD5"), code="signature-hash-weak", words="wish for sha256"),
}


def hand_in(system: System, csr: str, name: str, case: Case) -> tuple[str, str]:
    """Submit and wait; return the request's id and the line that its submitter reads."""
    identifier = os.urandom(32).hex()
    (system.directory / f"{name}.input").write_bytes(case.make(system, system.directory / csr))
    options = ["--wait", "--id", identifier, *case.options, f"{name}.input"]
    return identifier, error_line(system.client("request", "submit", options=options, status=1))


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_with_a_reason_and_the_next_is_served(running: System, csr: str, name: str) -> None:
    case = CASES[name]
    before = {each: running.process_ids(each) for each in ("signer", "client")}

    identifier, line = hand_in(running, csr, name, case)
    shown = running.client("request", "show", options=[identifier]).stdout
    issue(running, "--profile", SERVER, "--dns", "next.example.org", csr)

    assert case.words in line
    fields = dict(line.split("  ", 1) for line in shown.splitlines())
    assert fields["state"].strip() == "refused"
    assert fields["reason"].strip() == f"{line} [{case.code}]"
    assert shown.replace("\n", "").isprintable()
    assert {each: running.process_ids(each) for each in ("signer", "client")} == before
    check_logs(running)


def test_nothing_is_left_half_written(running: System, csr: str) -> None:
    """All at once, good ones between them, by several people."""
    chosen = ["empty", "broken-signature", "exponent-1", "unknown-profile", "mixed-scripts", "proofs-missing"]
    before = {each: running.process_ids(each) for each in ("signer", "client")}

    with ThreadPoolExecutor(4) as people:
        bad = [people.submit(hand_in, running, csr, f"again-{name}", CASES[name]) for name in chosen]
        good = [people.submit(issue, running, "--profile", SERVER, "--dns", NAME, csr) for _ in chosen]
        refused = {each.result()[0] for each in bad}
        certificates = {each.result() for each in good}

    assert (len(refused), len(certificates)) == (len(chosen), len(chosen))
    check_nothing_half_written(running)
    check_logs(running)
    assert {each: running.process_ids(each) for each in ("signer", "client")} == before
