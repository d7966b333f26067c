"""Our client's own process gets on with the original signer, imitated: over a Unix socket and over a serial line."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from examples.system import System
from tests.support import links, original, version_1
from tests.support.original_signer import OriginalSigner, SubCa, load_sub_cas

from cassiopeia.config import load_client_config
from cassiopeia.core.request import CertificateRequest, SubjectAltName, SubjectAttribute
from cassiopeia.store.database import Store, open_store
from cassiopeia.store.records import RequestRecord
from cassiopeia.store.submission import submit

TIME_LIMIT_S = 20.0
CONFIG = "ca/client/client-v1.toml"
# The client as it is, but that it loses patience sooner.
TRIES = 3
IMPATIENT = f"""
from cassiopeia.client import patience, worker
from cassiopeia.cli.main import main
patience.TRIES = {TRIES}
patience._FIRST_DELAY_S = 0.01
worker._ANSWER_TIME_LIMIT_S = 0.5
main()
"""


@pytest.fixture(params=version_1.LINKS)
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A client that knows the original's link certificate; nobody is at the other end of the line yet."""
    with System(directory=tmp_path_factory.mktemp("v1"), link=request.param) as made:
        version_1.lay_out(made)
        peer = made.directory / "ca/client/peers/signer-v1.pem"
        peer.write_bytes(links.certificate("original").read_bytes())
        (made.directory / "a.csr").write_bytes(version_1.csr())
        yield made
        if "client" in made.processes:
            made.stop("client")


def _signer(system: System, **behaviour: Any) -> OriginalSigner:
    address = f"unix:{system.directory / 'ca/run/signer.sock'}"
    if system.modem is not None:
        address = f"serial:{system.modem.devices[0]}"
    return OriginalSigner(
        address=address,
        context=version_1.tls(server_side=True, trusted=system.directory / "ca/client/link-v1.pem"),
        sub_cas=load_sub_cas(system.directory / "ca/signer"),
        **behaviour,
    )


def _start(system: System, *, impatient: bool = False) -> None:
    if not impatient:
        system.start_client(config=CONFIG)
        return
    command = [sys.executable, "-c", IMPATIENT, "client", "run", "-c", CONFIG]
    with (system.directory / "client.log").open("ab") as log:
        system.processes["client"] = subprocess.Popen(command, cwd=system.directory, stdout=log, stderr=log)


def _submit(system: System, name: str) -> bytes:
    """Put a request into the queue as `request submit` does, and a good deal quicker."""
    wanted = CertificateRequest(
        key_kind="csr",
        key_proof=(system.directory / "a.csr").read_bytes(),
        profile=version_1.PROFILE,
        account="test",
        attributes=(SubjectAttribute(type="CN", value=name),),
        alt_names=(SubjectAltName(type="DNS", value=name),),
    )
    request_id = os.urandom(32)
    with _store(system) as store:
        submit(store, wanted, request_id=request_id, now=dt.datetime.now(dt.UTC))
    return request_id


def _record(system: System, request_id: bytes) -> RequestRecord:
    with _store(system) as store:
        record = store.requests.find(request_id)
    assert record is not None
    return record


def _wait(system: System, request_id: bytes) -> Path:
    system.wait_until(lambda: _record(system, request_id).state == "issued", "it is issued", time_limit_s=TIME_LIMIT_S)
    with _store(system) as store:
        found = store.certificates.of_request(request_id)
    assert found is not None
    path = system.directory / f"{request_id.hex()[:8]}.crt"
    path.write_text(ssl.DER_cert_to_PEM_cert(found.der))
    return path


def _await_set_aside(system: System, request_id: bytes) -> str:
    """Why it was."""
    system.wait_until(lambda: _record(system, request_id).set_aside, "it is set aside", time_limit_s=TIME_LIMIT_S)
    return _record(system, request_id).last_error


def _store(system: System) -> Store:
    return open_store(load_client_config(system.directory / CONFIG).store_url)


def _serial(certificate: Path) -> str:
    return f"{x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number:x}"


def _published(system: System, name: str) -> x509.CertificateRevocationList | None:
    path = system.directory / f"ca/client/public/{name}.crl"
    return x509.load_der_x509_crl(path.read_bytes()) if path.exists() else None


def _is_listed(system: System, sub_ca: SubCa, serial: str) -> bool:
    crl = _published(system, sub_ca.name)
    return crl is not None and crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None


def _revoke(system: System, serial: str, *, wait: bool = True) -> None:
    with _store(system) as store:
        store.certificates.request_revocation(serial, now=dt.datetime.now(dt.UTC))
        if wait:
            system.wait_until(
                lambda: store.certificates.look_up(serial).revocation_state == "revoked",
                "it is revoked",
                time_limit_s=TIME_LIMIT_S,
            )


def _commands(session: list[original.Message]) -> list[int]:
    return [each.command for each in session]


def _of(name: str) -> Callable[[dict[int, list[str]]], bool]:
    """Whether a request asks for this name, or a revocation names this serial number."""
    return lambda request: any(name in each for values in request.values() for each in values)


def _asked_for(signer: OriginalSigner, name: str) -> int:
    """How many sessions named this."""
    return sum(any(name.encode() in message.payload for message in session) for session in signer.sessions)


def _await_first_lists(system: System, signer: OriginalSigner) -> None:
    system.wait_until(
        lambda: all(_published(system, each.name) is not None for each in signer.sub_cas), "all CRLs are there"
    )


@pytest.mark.parametrize("together", [True, False])
def test_requests_are_issued_and_written_back(system: System, *, together: bool) -> None:
    """From the command line to the certificate; the signer closes in the same breath, or a little later."""
    (system.directory / "b.spkac").write_bytes(version_1.spkac(system.directory))
    requests = {"a.csr": "www.example.org", "b.spkac": "spkac.example.org"}
    with _signer(system, together=together) as signer:
        _start(system)
        for file, name in requests.items():
            options = ["--profile", version_1.PROFILE, "--cn", name, "--dns", name, "--wait", "--out", "made.crt"]
            system.client("request", "submit", options=[*options, file])
            made = system.directory / "made.crt"
            assert system.openssl("verify", *system.trust_options(made), "made.crt").stdout == "made.crt: OK\n"
            # 21 octets, as the original makes them.
            assert len(_serial(made)) == 41
        # Each of them was asked for once, and each has the log that was confirmed by its SHA-256.
        assert len(signer.requests) == len(requests)
        assert [saved for _, saved in signer.confirmations] == [
            hashlib.sha256(log).digest() for log, _ in signer.confirmations
        ]
        assert set(signer.ciphers) == {("ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.2")}


def test_a_request_is_worded_as_the_original_words_it(system: System) -> None:
    name = "www.example.org"
    options = ["--profile", version_1.PROFILE, "--cn", name, "--dns", name, "--digest", "sha256", "--to", "2m", "a.csr"]
    system.client("request", "submit", options=options)
    with _signer(system) as signer:
        system.run("client", "run", "-c", CONFIG, "--drain")
        (said,) = signer.requests
    wanted = [*version_1.request(name)[1:], (original.SIGN, b"")]
    assert [(each.command, each.payload) for each in said[1:8]] == wanted
    assert said[0].payload == (system.directory / "a.csr").read_bytes()
    assert [(each.session, each.count) for each in said] == [(13, count) for count in range(1, 10)]
    assert said[8].command == original.LOG_SAVED


def test_the_first_list_is_asked_for_in_full(system: System) -> None:
    with _signer(system) as signer:
        # Longer than one record: 61,440 octets.
        signer.sub_cas[0].revoked = [(number, dt.datetime(2026, 1, 1, tzinfo=dt.UTC)) for number in range(1, 2500)]
        _start(system)
        _await_first_lists(system, signer)
        assert [_commands(session) for session in signer.sessions] == [[original.GET_FULL_CRL]] * len(signer.sub_cas)
    long = _published(system, signer.sub_cas[0].name)
    assert long is not None
    assert len(long) == 2499
    assert len(long.public_bytes(Encoding.PEM)) > 0xF000


def test_a_list_is_patched_revocation_by_revocation(system: System) -> None:
    ids = [_submit(system, f"{number}.example.org") for number in range(2)]
    with _signer(system) as signer:
        _start(system)
        certificates = [_wait(system, each) for each in ids]
        _await_first_lists(system, signer)
        # One after the other, and the client begins anew between the two: its copy comes from the store.
        for certificate in certificates:
            if "client" not in system.processes:
                _start(system)
            _revoke(system, _serial(certificate))
            revocation = signer.sessions[-1]
            # No full CRL was needed; and the client takes its leave in good order.
            assert _commands(revocation) == [original.ADD_SERIAL, original.REVOKE]
            assert revocation[0].payload.decode() == _serial(certificate)
            system.wait_until(lambda: signer.endings[-1] == "close_notify", "the client closes TLS")
            system.stop("client")
        for certificate in certificates:
            options = ["-crl_check", "-CRLfile", system.crl_of(certificate), *system.trust_options(certificate)]
            done = system.openssl("verify", *options, str(certificate), status=2)
            assert "certificate revoked" in done.stderr
    crl = _published(system, version_1.signing_ca(system))
    assert crl is not None
    assert crl.next_update_utc == crl.last_update_utc + dt.timedelta(days=1, seconds=10)
    assert not list(crl.extensions)


def test_a_list_that_cannot_be_patched_is_asked_for_in_the_same_session(system: System) -> None:
    request_id = _submit(system, "www.example.org")
    with _signer(system) as signer:
        _start(system)
        certificate = _wait(system, request_id)
        _await_first_lists(system, signer)
        sub_ca = signer.sub_ca("unassured")
        # Another client was faster.
        sub_ca.revoked.append((0x0200000000000000000000000000000000000000FF, dt.datetime(2026, 1, 1, tzinfo=dt.UTC)))
        _revoke(system, _serial(certificate))
        assert _commands(signer.sessions[-1]) == [original.ADD_SERIAL, original.REVOKE, original.GET_FULL_CRL]
        crl = _published(system, sub_ca.name)
        assert crl is not None
        assert len(crl) == 2


def test_a_list_is_renewed_when_half_of_its_life_is_over(system: System) -> None:
    with _signer(system, crl_life=dt.timedelta(seconds=4)) as signer:
        _start(system)
        _await_first_lists(system, signer)
        name = signer.sub_cas[0].name
        first = _published(system, name)
        system.wait_until(lambda: _published(system, name) != first, "the list is renewed")
        renewals = [session for session in signer.sessions if _commands(session) == [original.REVOKE]]
        assert renewals


def test_a_request_that_is_refused_is_set_aside_and_holds_nobody_up(system: System) -> None:
    bad = _submit(system, "bad.example.org")
    good = [_submit(system, f"{number}.example.org") for number in range(3)]
    with _signer(system, refuses=_of("bad.example.org")) as signer:
        _start(system, impatient=True)
        for each in good:
            _wait(system, each)
        why = _await_set_aside(system, bad)
        assert _asked_for(signer, "bad.example.org") == TRIES
        assert len(signer.requests) == TRIES + len(good)
    assert "the signer closed the session without a word" in why
    assert f"tried {TRIES} times" in why
    assert why in system.client("request", "show", options=[bad.hex()]).stdout
    assert "1 set aside" in system.client("status").stdout
    assert "set aside" in system.log("client")


def test_a_request_that_is_refused_is_not_repeated_hotly(system: System) -> None:
    bad = _submit(system, "bad.example.org")
    with _signer(system, refuses=_of("bad.example.org")) as signer:
        _start(system)
        system.wait_until(lambda: _asked_for(signer, "bad.example.org") >= 2, "it is tried again")
        good = _submit(system, "good.example.org")
        _wait(system, good)
        time.sleep(1)
        # At once, after 1 second, and 5 seconds after that.
        assert _asked_for(signer, "bad.example.org") == 2
        assert _record(system, bad).state == "queued"


def test_a_signer_that_keeps_silent_is_given_up(system: System) -> None:
    bad = _submit(system, "bad.example.org")
    good = _submit(system, "good.example.org")
    with _signer(system, refuses=_of("bad.example.org"), silent=True) as signer:
        _start(system, impatient=True)
        _wait(system, good)
        _await_set_aside(system, bad)
        assert _asked_for(signer, "bad.example.org") == TRIES
    assert "the signer keeps silent" in system.log("client")


def test_a_signer_that_closes_every_session_loses_nothing(system: System) -> None:
    request_id = _submit(system, "www.example.org")
    with _signer(system, closes_at_once=True) as signer:
        _start(system)
        system.wait_until(lambda: len(signer.sessions) > 2, "the client tries")
        begin, tried = time.monotonic(), len(signer.sessions)
        time.sleep(3)
        assert (len(signer.sessions) - tried) / (time.monotonic() - begin) < 4
        signer.closes_at_once = False
        _wait(system, request_id)


def test_a_signer_that_comes_later_finds_the_queue(system: System) -> None:
    request_id = _submit(system, "www.example.org")
    _start(system)
    if system.modem is None:
        system.wait_until(lambda: "no signer answers" in system.log("client"), "the client misses the signer")
    with _signer(system):
        _wait(system, request_id)


def test_a_revocation_that_is_refused_holds_no_other_up(system: System) -> None:
    ids = [_submit(system, f"{number}.example.org") for number in range(2)]
    with _signer(system) as signer:
        _start(system, impatient=True)
        bad, good = (_serial(_wait(system, each)) for each in ids)
        _await_first_lists(system, signer)
        signer.refuses = _of(bad)
        _revoke(system, bad, wait=False)
        _revoke(system, good)
        system.wait_until(lambda: "set aside" in system.log("client"), "it is set aside", time_limit_s=TIME_LIMIT_S)
        assert _is_listed(system, signer.sub_ca("unassured"), good)
        assert not _is_listed(system, signer.sub_ca("unassured"), bad)
        assert _asked_for(signer, bad) == TRIES


def test_a_list_that_is_refused_is_asked_for_ever_more_seldom(system: System) -> None:
    request_id = _submit(system, "www.example.org")
    with _signer(system, refuses=_of("orga_")) as signer:
        _start(system)
        _wait(system, request_id)
        system.wait_until(lambda: _asked_for(signer, "orga_") >= 2, "it is asked for again")
        time.sleep(1)
        assert _asked_for(signer, "orga_") == 2


def test_a_certificate_that_nobody_asked_for_is_set_aside_at_once(system: System) -> None:
    def forge(request: dict[int, list[str]]) -> bool:
        if original.ADD_SAN in request:
            request[original.ADD_SAN].append("DNS,forged.example.org")
        return False

    request_id = _submit(system, "www.example.org")
    with _signer(system, refuses=forge) as signer:
        _start(system)
        assert "bad certificate" in _await_set_aside(system, request_id)
        assert len(signer.requests) == 1


def test_the_queue_is_drained(system: System) -> None:
    ids = [_submit(system, f"{number}.example.org") for number in range(2)]
    with _signer(system):
        done = system.run("client", "run", "-c", CONFIG, "--drain")
        assert "drained" in done.stderr
    for each in ids:
        assert _record(system, each).state == "issued"


def test_our_own_signer_is_served_as_well(system: System) -> None:
    """Both sides ours, version 1 between them: our CRLs are v2, so that each revocation ends with a full one."""
    version_1_peer = system.directory / "ca/client/peers/signer-v1.pem"
    version_1_peer.write_bytes((system.directory / "ca/signer/link-v1.pem").read_bytes())
    ids = [_submit(system, f"{number}.example.org") for number in range(2)]
    system.start_signer()
    _start(system)
    for each in ids:
        certificate = _wait(system, each)
        shown = system.openssl("verify", *system.trust_options(certificate), str(certificate)).stdout
        assert shown == f"{certificate}: OK\n"
        _revoke(system, _serial(certificate))
    crl = _published(system, version_1.signing_ca(system))
    assert crl is not None
    assert len(crl) == 2
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number >= 3
    system.stop("client")
    system.stop("signer")
