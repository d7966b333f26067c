"""The original client, imitated, is served by our signer's own process: over a Unix socket and over a serial line."""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from examples.system import System
from tests.support import links, original, version_1
from tests.support.original import Closed, OriginalClient

from cassiopeia.journal import entry as entries


@pytest.fixture(scope="module", params=version_1.LINKS)
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A running signer whose version 1 peer is the original's certificate."""
    with System(directory=tmp_path_factory.mktemp("v1"), link=request.param) as made:
        version_1.lay_out(made)
        signer = made.directory / "ca/signer"
        (signer / "peers/client-v1.pem").write_bytes(links.certificate("original").read_bytes())
        # The operator may list a profile that demands evidence; version 1 still brings none.
        version_1.edit(signer / "signer.toml", '"9001-unproved-client", ', '"0004-server", "9001-unproved-client", ')
        made.start_signer()
        made.wait_for_log("signer", "running: signer 1")
        yield made
        made.stop("signer")


@pytest.fixture
def client(system: System) -> OriginalClient:
    return OriginalClient(
        address=_address(system),
        context=version_1.tls(server_side=False, trusted=system.directory / "ca/signer/link-v1.pem"),
    )


def _address(system: System) -> str:
    if system.modem is not None:
        return f"serial:{system.modem.devices[1]}"
    return f"unix:{system.directory / 'ca/run/signer.sock'}"


def _save(system: System, name: str, pem: bytes) -> Path:
    path = system.directory / name
    path.write_bytes(pem)
    return path


def _issue(client: OriginalClient, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(client.certify(version_1.request(name)).certificate)


def test_a_csr_becomes_a_certificate_that_openssl_verifies(system: System, client: OriginalClient) -> None:
    certified = client.certify(version_1.request("www.example.org"))
    path = _save(system, "csr.crt", certified.certificate)
    shown = system.openssl("verify", *system.trust_options(path), str(path)).stdout
    assert shown == f"{path}: OK\n"
    assert certified.signing_ca == version_1.signing_ca(system)
    text = system.openssl("x509", "-in", str(path), "-noout", "-text").stdout
    assert "Subject: CN = www.example.org" in text
    assert "DNS:www.example.org" in text
    assert client.ciphers == [("ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.2")]


def test_the_log_says_what_was_signed_and_is_journaled_first(system: System, client: OriginalClient) -> None:
    certified = client.certify(version_1.request("log.example.org"))
    log = certified.log.decode()
    serial = x509.load_pem_x509_certificate(certified.certificate).serial_number
    assert f"serial number: {serial:032x}\n" in log
    assert "alternative name: DNS=log.example.org\n" in log
    intent, journaled = next(
        (entry, each)
        for entry, each in version_1.journal(system, "intent")
        if entries.decode_body(entry).serial_number.hex() == f"{serial:032x}"
    )
    assert f"journal entry SHA-256: {entries.part_hash(entries.encode_log(journaled)).hex()}\n" in log
    confirmations = [entries.decode_body(entry) for entry, _ in version_1.journal(system, "confirmation")]
    # The original confirms without a hash.
    assert entries.Confirmation(intent=intent.index, log_hash=b"") in confirmations


def test_a_spkac_becomes_a_certificate(system: System, client: OriginalClient) -> None:
    proof = version_1.spkac(system.directory)
    certified = client.certify(version_1.request("spkac.example.org", proof=proof))
    path = _save(system, "spkac.crt", certified.certificate)
    system.openssl("verify", *system.trust_options(path), str(path))


def test_a_payload_of_several_records_arrives_whole(client: OriginalClient) -> None:
    proof = version_1.csr(bulk=b"x" * 46_500)
    assert len(proof) > 0xF000
    certified = client.certify(version_1.request("long.example.org", proof=proof))
    assert certified.answers[2].payload.startswith(b"-----BEGIN CERTIFICATE-----\n")


def test_one_request_follows_the_other(client: OriginalClient) -> None:
    serials = {_issue(client, f"{number}.example.org").serial_number for number in range(4)}
    assert len(serials) == 4


def test_what_the_original_sends_and_nobody_needs_is_passed_over(client: OriginalClient) -> None:
    """An attribute without a value is dropped; a proof line over version 1 proves nothing."""
    more = [(original.ADD_AVA, b"OU,"), (original.ADD_PROOF_LINE, b"5f5e100,646f6d61696e,2a")]
    certified = client.certify(version_1.request("more.example.org", more=more))
    certificate = x509.load_pem_x509_certificate(certified.certificate)
    assert certificate.subject.rfc4514_string() == "CN=more.example.org"


@pytest.mark.parametrize("sent", [0, 3, 8])
def test_a_client_that_vanishes_is_forgotten(client: OriginalClient, sent: int) -> None:
    parts = [*version_1.request("half.example.org"), (original.SIGN, b"")]
    assert len(parts) == 8
    client.vanish(parts[:sent])
    _issue(client, "whole.example.org")


def test_wishes_that_mean_nothing_are_taken_for_the_longest(client: OriginalClient) -> None:
    """Over version 1 a nonsensical date is the absence of one."""
    certified = client.certify(version_1.request("dates.example.org", to="some day"))
    certificate = x509.load_pem_x509_certificate(certified.certificate)
    assert 98 <= (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days <= 99


def test_a_log_that_is_confirmed_by_its_hash(client: OriginalClient) -> None:
    """What our own client does over version 1; a hash of anything else signs nothing."""
    with client.session() as session:
        client.send(session, [*version_1.request("hash.example.org"), (original.SIGN, b"")])
        log = session.receive()
        digest = hashlib.sha256(log.payload).digest()
        session.write(original.encode(original.LOG_SAVED, digest, session=13, count=9))
        assert [session.receive().command for _ in range(2)] == [original.SIGNING_CA, original.RESPOND_CERTIFICATE]
    with client.session() as session:
        client.send(session, [*version_1.request("hash.example.org"), (original.SIGN, b"")])
        session.receive()
        session.write(original.encode(original.LOG_SAVED, bytes(32), session=13, count=9))
        client.expect_end(session)


@pytest.mark.parametrize("full", [False, True])
def test_a_revocation_is_answered_and_shows_in_the_full_crl(
    system: System, client: OriginalClient, *, full: bool
) -> None:
    signing_ca = version_1.signing_ca(system)
    certificate = _issue(client, "revoked.example.org")
    revoked, crl = client.revoke(signing_ca, [f"{certificate.serial_number:x}"], full=full)
    assert (revoked.command, revoked.session, revoked.count) == (original.REVOKED, 0, 0)
    # date (UTCTime), AlgorithmIdentifier (ecdsa-with-SHA256), signature, two dates.
    assert revoked.payload.startswith(b"\x17\x0d")
    assert bytes.fromhex("300a06082a8648ce3d040302") in revoked.payload
    if crl is None:
        crl = client.full_crl(signing_ca)
    pem = _save(system, "list.crl", crl.payload)
    authority = f"ca/client/public/{signing_ca}.pem"
    assert "verify OK" in system.openssl("crl", "-in", str(pem), "-noout", "-CAfile", authority).stderr
    loaded = x509.load_pem_x509_crl(crl.payload)
    assert loaded.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
    # What was told to the client is the signature of this very list.
    assert loaded.signature in revoked.payload


def test_a_crl_is_signed_anew_without_serials(system: System, client: OriginalClient) -> None:
    revoked, _ = client.revoke(version_1.signing_ca(system), [], full=False)
    assert revoked.payload.startswith(bytes.fromhex("300a06082a8648ce3d040302"))


@pytest.mark.parametrize(
    ("details", "code"),
    [
        ({"profile": "0004-server"}, "evidence-missing"),
        ({"profile": "0008-server-a"}, "profile-not-in-version-1"),
        ({"profile": "1234-nothing"}, "profile-unknown"),
        ({"proof": b"-----BEGIN NONSENSE-----\n"}, "pem-label"),
        ({"more": [(original.ADD_SAN, b"email,a@example.org")]}, "name-not-allowed"),
        ({"more": [(original.SET_SIGNATURE_TYPE, b"sha256")]}, None),
        ({"more": [(original.ADD_SAN, b"no comma")]}, None),
        ({"more": [(0x77, b"")]}, None),
    ],
)
def test_a_refused_request_is_closed_without_a_word_and_the_next_is_served(
    system: System, client: OriginalClient, details: dict[str, Any], code: str | None
) -> None:
    before = version_1.journal(system, "refusal")
    logged = len(system.log("signer"))
    with pytest.raises(Closed):
        client.certify(version_1.request("www.example.org", **details))
    _issue(client, "next.example.org")
    refusals = version_1.journal(system, "refusal")[len(before) :]
    words = system.log("signer")[logged:]
    if code is None:
        # Not a request at all: a peer that breaks the protocol is not journaled.
        assert refusals == []
        assert "line: " in words
    else:
        ((entry, log),) = refusals
        assert entries.decode_body(entry).code == code
        assert entries.decode_part(entries.Reason, log.parts[0]).message in words


def test_an_ocsp_responder_is_never_certified_over_version_1(system: System, client: OriginalClient) -> None:
    parts = version_1.request("ocsp.example.org")
    parts[2] = (original.OCSP_TARGET_CA, version_1.signing_ca(system).encode())
    with pytest.raises(Closed):
        client.certify(parts)
    entry, _ = version_1.journal(system, "refusal")[-1]
    assert entries.decode_body(entry).code == "profile-not-in-version-1"


@pytest.mark.parametrize("serial", ["1", "01" * 16, "ff" * 21])
def test_a_serial_that_was_never_issued_is_refused(system: System, client: OriginalClient, serial: str) -> None:
    logged = len(system.log("signer"))
    with pytest.raises(Closed):
        client.revoke(version_1.signing_ca(system), [serial], full=False)
    _issue(client, "next.example.org")
    assert "never issued" in system.log("signer")[logged:]


def test_a_full_crl_of_nobody_is_refused(system: System, client: OriginalClient) -> None:
    logged = len(system.log("signer"))
    with pytest.raises(Closed):
        client.full_crl("nobody_2026_1")
    client.full_crl(version_1.signing_ca(system))
    assert "no sub-CA named 'nobody_2026_1'" in system.log("signer")[logged:]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b":00\n",
        b":zz\n",
        original.encode(original.SIGN, session=13, count=1)[:-3] + b"00\n",
        original.encode(original.SIGN, session=13, count=1),
        # The total says 4 GiB, the record has nothing.
        b":8000000D0000000100FFFFFFFF0000000074\n",
        b":" + b"0" * 200_000,
    ],
)
def test_a_garbage_record_ends_its_session_and_nothing_else(client: OriginalClient, garbage: bytes) -> None:
    with client.session() as session:
        session.write(garbage)
        client.expect_end(session)
    _issue(client, "next.example.org")


def test_the_time_and_the_state_are_told_and_the_session_goes_on(client: OriginalClient) -> None:
    with client.session() as session:
        client.send(session, [(original.GET_TIMESTAMP, b"")])
        timestamp = session.receive()
        client.send(session, [(original.GET_STATUS_REPORT, b"")])
        status = session.receive()
        client.send(session, [*version_1.request("late.example.org"), (original.SIGN, b""), (original.LOG_SAVED, b"")])
        assert session.receive().command == original.SET_LOG
    assert (timestamp.command, status.command) == (original.GET_TIMESTAMP, original.GET_STATUS_REPORT)
    assert abs(dt.datetime.fromisoformat(timestamp.payload.decode()) - dt.datetime.now(dt.UTC)).total_seconds() < 60
    assert status.payload == b"running"


def test_both_versions_share_a_line(system: System, client: OriginalClient) -> None:
    _issue(client, "before.example.org")
    (system.directory / "a.csr").write_bytes(version_1.csr())
    options = ["--profile", version_1.PROFILE, "--dns", "two.example.org", "a.csr"]
    system.client("request", "submit", options=options)
    system.client("client", "run", options=["--drain"])
    (request,) = system.ask("request", "list")["requests"]
    assert request["state"] == "issued"
    _issue(client, "after.example.org")


def test_the_key_of_version_2_does_not_open_version_1(system: System) -> None:
    client = system.directory / "ca/client"
    context = original.tls_context(
        server_side=False,
        chain=client / "link.pem",
        key=client / "link.key",
        trusted=system.directory / "ca/signer/link-v1.pem",
    )
    _expect_wrong_pin(system, context)


def test_the_key_of_version_1_does_not_open_version_2(system: System) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(system.directory / "ca/signer/link.pem")
    context.load_cert_chain(links.certificate("original_chain"), links.key("original"))
    context.set_alpn_protocols(["cassiopeia/2"])
    _expect_wrong_pin(system, context)


def _expect_wrong_pin(system: System, context: ssl.SSLContext) -> None:
    logged = len(system.log("signer"))
    with pytest.raises(Closed):
        OriginalClient(address=_address(system), context=context).full_crl(version_1.signing_ca(system))
    system.wait_until(
        lambda: "the peer's link certificate has the pin" in system.log("signer")[logged:], "the signer names the pin"
    )
