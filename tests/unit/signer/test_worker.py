from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from tests.support.authorities import (
    NOW,
    certification_request,
    default_authority,
    make_authority,
    make_ca,
    p256_key,
    rsa_key,
    server_request,
    subject_public_key_info,
)
from tests.support.compromising import key_of, prove, tbs_of
from tests.support.operators import PUBLIC_KEYS, public_pem
from tests.support.signer import PASSPHRASE, PROFILE, SIGNING_CA, MemoryKeys, install, make_worker

from cassiopeia.config import SignerConfig, load_signer_config
from cassiopeia.core import algorithms
from cassiopeia.core.certificate import check_certificate, compose_certificate
from cassiopeia.core.compromise import CompromiseClaim
from cassiopeia.core.rules import Standing, Validator
from cassiopeia.core.rules_document import read_rules_document
from cassiopeia.errors import OperatorError
from cassiopeia.frames import FrameReader, frame
from cassiopeia.signer import worker as worker_module
from cassiopeia.signer.configuration import configuration_documents, configuration_hash, load_rules
from cassiopeia.signer.tasks import (
    MISTRUSTED,
    CheckProofs,
    Decide,
    Decided,
    Deferred,
    Denied,
    Opening,
    Outcome,
    Proved,
    Ready,
    Sign,
    Signed,
    Stands,
    Unusable,
    read_outcomes,
)

ECDSA = algorithms.choose_algorithm(p256_key().public_key(), "")


def decide(**changes: Any) -> Decide:
    values: dict[str, Any] = {"task": 5, "request": server_request(), "version": 2, "now": NOW, "issued": {}}
    return Decide(**(values | changes))


def sign(**changes: Any) -> Sign:
    values: dict[str, Any] = {"task": 6, "signing_ca": SIGNING_CA, "algorithm": ECDSA.der, "octets": b"to be signed"}
    return Sign(**(values | changes))


def test_proofs_are_verified() -> None:
    key, serial = key_of("Ed25519"), (1).to_bytes(16, "big")
    tbs = tbs_of(key, 1)
    claim = CompromiseClaim(serial_number=serial, tbs_certificate=tbs, proof=prove(key, 1, tbs))
    worker = make_worker(default_authority())
    assert worker.carry_out(CheckProofs(task=7, claims=(claim, claim))) == Proved(task=7)
    wrong = dataclasses.replace(claim, proof=b"nobody's")
    denied = worker.carry_out(CheckProofs(task=8, claims=(claim, wrong)))
    assert isinstance(denied, Denied)
    assert (denied.task, denied.code, denied.field) == (8, "proof-invalid", "1")


def test_a_request_that_is_approved_becomes_a_certificate_with_two_tasks() -> None:
    worker = make_worker(default_authority())
    request = server_request()
    decided = worker.carry_out(decide(request=request))
    assert isinstance(decided, Decided)
    assert (decided.task, decided.signing_ca, len(decided.serial_number)) == (5, SIGNING_CA, 16)
    assert decided.serial_number[0] == 1  # the signer's id

    signed = worker.carry_out(sign(algorithm=decided.algorithm, octets=decided.tbs_certificate))

    assert isinstance(signed, Signed)
    certificate = compose_certificate(decided.tbs_certificate, signed.signature)
    checked = check_certificate(
        certificate,
        request=request,
        subject_public_key_info=subject_public_key_info(request),
        authority=default_authority(),
    )
    assert checked.serial_number == int.from_bytes(decided.serial_number, "big")


def test_each_decision_has_a_serial_number_of_its_own() -> None:
    worker = make_worker(default_authority())
    outcomes = [worker.carry_out(decide()) for _ in range(3)]
    assert len({each.serial_number for each in outcomes if isinstance(each, Decided)}) == 3


def test_a_request_that_is_refused_says_why() -> None:
    outcome = make_worker(default_authority()).carry_out(decide(request=server_request(profile="none")))
    assert isinstance(outcome, Denied)
    assert (outcome.task, outcome.code, outcome.field) == (5, "profile-unknown", "profile")
    assert outcome.message


def test_a_request_that_nobody_can_serve_now_may_come_again() -> None:
    outcome = make_worker(default_authority()).carry_out(decide(issued={SIGNING_CA: 10**6}))
    assert isinstance(outcome, Deferred)
    assert (outcome.task, outcome.code, outcome.retry_after_s) == (5, "authority-full", 3600)


def test_version_1_has_its_own_profiles() -> None:
    worker = make_worker(default_authority())
    assert isinstance(worker.carry_out(decide(version=1)), Decided)
    worker = worker_module.Worker(
        rules=dataclasses.replace(worker._rules, version_1_profiles=frozenset()),
        keys=MemoryKeys({}),
    )
    outcome = worker.carry_out(decide(version=1))
    assert isinstance(outcome, Denied)
    assert outcome.code == "profile-not-in-version-1"


def test_an_algorithm_that_nobody_knows_is_our_own_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = make_worker(default_authority()).carry_out(sign(algorithm=b"0\x00"))
    assert isinstance(outcome, Deferred)
    assert outcome.code == "internal"
    assert "3000" in capsys.readouterr().err


def test_a_sub_ca_that_was_taken_away_signs_nothing_and_costs_no_worker() -> None:
    """An intent was confirmed, then the signer was started with another bundle."""
    outcome = make_worker(default_authority()).carry_out(sign(signing_ca="unassured_2020_1"))
    assert isinstance(outcome, Deferred)
    assert (outcome.task, outcome.code) == (6, "unknown-ca")
    assert "unassured_2020_1" in outcome.message


def make_worker_from(config: Path) -> worker_module.Worker:
    return worker_module.make_worker(load_signer_config(config))


def test_a_worker_is_made_from_files_and_proves_its_keys(tmp_path: Path) -> None:
    worker = make_worker_from(install(tmp_path))
    assert isinstance(worker.carry_out(decide()), Decided)
    assert isinstance(worker.carry_out(sign()), Signed)
    outcome = worker.carry_out(decide(version=1))
    assert isinstance(outcome, Denied)
    assert outcome.code == "profile-not-in-version-1"


def test_version_1_profiles_come_from_the_configuration(tmp_path: Path) -> None:
    version_1 = f"[link.version_1]\ncertificate = 'a'\nkey = 'b'\npeers = ['c']\nprofiles = ['{PROFILE}']\n"
    assert isinstance(make_worker_from(install(tmp_path, more=version_1)).carry_out(decide(version=1)), Decided)


def test_a_key_that_does_not_fit_its_certificate_is_refused(tmp_path: Path) -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    with pytest.raises(OperatorError, match=f"{SIGNING_CA}: the key file:.*ca.key.* does not belong to this sub-CA"):
        make_worker_from(install(tmp_path, key=other))


def test_without_a_sub_ca_of_its_own_a_signer_has_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="no sub-CA belongs to signer 1"):
        make_worker_from(install(tmp_path, signer_id=2))


def test_a_damaged_key_is_found_before_it_signs_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading skips the check of RSA keys; its public half is all right."""
    numbers = rsa_key().private_numbers()
    damaged = rsa.RSAPrivateNumbers(
        p=numbers.p,
        q=numbers.q,
        d=numbers.d + 2,
        dmp1=numbers.dmp1 + 2,
        dmq1=numbers.dmq1 + 2,
        iqmp=numbers.iqmp,
        public_numbers=numbers.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)
    ca = make_ca("rsa", key=rsa_key())
    (lacking,) = make_worker_from(install(tmp_path, ca=ca, key=damaged)).lacking
    assert (lacking.signing_ca, lacking.code) == (SIGNING_CA, MISTRUSTED)
    assert re.match(f"{SIGNING_CA}: the key file:.*ca.key.* makes wrong signatures", lacking.message)


def test_a_pss_sub_ca_is_proved_with_pss() -> None:
    ca = make_ca("rsa", key=rsa_key())
    authority = make_authority(ca, pss=True)
    worker = make_worker(authority, ca=ca)
    decided = worker.carry_out(decide())
    assert isinstance(decided, Decided)
    assert algorithms.algorithm_from_der(decided.algorithm).is_pss
    assert isinstance(worker.carry_out(sign(algorithm=decided.algorithm, octets=decided.tbs_certificate)), Signed)


class Conversation:
    """The front's end of a worker that runs in a thread of the test."""

    def __init__(self, run: Callable[[socket.socket], None]) -> None:
        self.stream, theirs = socket.socketpair()
        self.stream.settimeout(10)
        self.failure: BaseException | None = None
        self._reader = FrameReader()
        self._bodies: list[bytes] = []

        def target() -> None:
            try:
                run(theirs)
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                self.failure = error
            finally:
                theirs.close()

        self._thread = threading.Thread(target=target)
        self._thread.start()

    def receive(self) -> list[Outcome]:
        while not self._bodies:
            octets = self.stream.recv(1 << 16)
            assert octets, "the worker has gone"
            self._bodies += self._reader.feed(octets)
        return read_outcomes(self._bodies.pop(0))

    def close(self) -> None:
        self.stream.close()
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def served() -> Iterator[Conversation]:
    worker = make_worker(default_authority())
    conversation = Conversation(lambda stream: worker_module.serve(worker, stream))
    yield conversation
    conversation.close()
    assert conversation.failure is None


def test_batches_are_answered_one_by_one_in_order(served: Conversation) -> None:
    served.stream.sendall(frame([decide(task=1), sign(task=2)]) + frame([]) + frame([sign(task=3)]))
    assert [[each.task for each in served.receive()] for _ in range(3)] == [[1, 2], [], [3]]


def test_what_stands_holds_for_all_that_brings_nothing_of_its_own(served: Conversation) -> None:
    """Blocked keys come once, and are looked for by the policy all the same."""
    key = hashlib.sha256(subject_public_key_info(server_request())).digest()
    blocked = Stands(standing=Standing(blocked_keys=frozenset({key})))
    served.stream.sendall(frame([decide(task=1, standing=None)]) + frame([blocked]))
    (untold,) = served.receive()
    assert isinstance(untold, Deferred)
    assert untold.code == "internal"
    assert served.receive() == []
    served.stream.sendall(frame([decide(task=2, standing=None), Stands(standing=Standing()), decide(standing=None)]))
    denied, decided = served.receive()
    assert isinstance(denied, Denied)
    assert (denied.task, denied.code) == (2, "key-blocked")
    assert isinstance(decided, Decided)


def run_main(config: Path, monkeypatch: pytest.MonkeyPatch) -> Conversation:
    """`main` takes its stream by number, and closes it."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # for the main thread only
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)  # for a process of its own only

    def run(stream: socket.socket) -> None:
        monkeypatch.setattr(sys, "argv", ["worker", str(config), str(os.dup(stream.fileno()))])
        worker_module.main()

    return Conversation(run)


def test_a_worker_says_that_it_is_ready_and_under_which_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = install(tmp_path)
    conversation = run_main(config, monkeypatch)
    expected = configuration_hash(load_signer_config(config))
    assert conversation.receive() == [Opening(signing_ca=SIGNING_CA)]
    assert conversation.receive() == [Ready(configuration_hash=expected)]
    conversation.stream.sendall(frame([sign()]))
    assert isinstance(conversation.receive()[0], Signed)
    conversation.close()
    assert conversation.failure is None


def test_a_worker_is_bounded_before_it_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = install(tmp_path)
    set_limits: list[tuple[int, tuple[int, int]]] = []

    def run(stream: socket.socket) -> None:
        monkeypatch.setattr(sys, "argv", ["worker", str(config), str(os.dup(stream.fileno()))])
        monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: set_limits.append((kind, limits)))
        worker_module.main()

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    conversation = Conversation(run)
    conversation.receive()
    conversation.receive()
    conversation.close()
    (core, (memory, (soft, hard))) = set_limits
    assert core == (resource.RLIMIT_CORE, (0, 0))
    assert memory == resource.RLIMIT_AS
    assert soft == hard > 256 * 1024 * 1024


HUNGRY = """
import re
import resource
from cassiopeia.worker_process import bound_memory

bound_memory()
bound_memory()  # there is a limit already, and it can only shrink
held = bytearray(200 * 1024 * 1024)
try:
    more = bytearray(100 * 1024 * 1024)
except MemoryError:
    print("no more")
"""


def test_a_worker_can_take_so_much_memory_and_no_more() -> None:
    told = subprocess.run([sys.executable, "-c", HUNGRY], capture_output=True, text=True, check=True)
    assert told.stdout == "no more\n"


@pytest.mark.parametrize("passphrase", [PASSPHRASE, b"wrong"])
def test_a_worker_whose_front_has_gone_ends_in_peace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: bytes
) -> None:
    config = install(tmp_path)
    (tmp_path / "passphrase").write_bytes(passphrase)
    gate = threading.Event()

    def load_late(path: Path, *, installation: Path | None) -> SignerConfig:
        assert gate.wait(10)
        return load_signer_config(path, installation=installation)

    monkeypatch.setattr(worker_module, "load_signer_config", load_late)
    conversation = run_main(config, monkeypatch)
    conversation.stream.close()
    gate.set()
    conversation.close()
    assert conversation.failure is None


def test_a_worker_says_when_what_it_lacks_may_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = install(tmp_path)
    (tmp_path / "passphrase").unlink()
    conversation = run_main(config, monkeypatch)
    conversation.receive()
    (outcome,) = conversation.receive()
    conversation.close()
    assert isinstance(outcome, Unusable)
    assert outcome.may_come
    assert "is not there" in outcome.message


def test_a_worker_that_cannot_start_tells_the_operator_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = install(tmp_path)
    (tmp_path / "passphrase").write_bytes(b"wrong")
    conversation = run_main(config, monkeypatch)
    conversation.receive()
    (outcome,) = conversation.receive()
    conversation.close()
    assert isinstance(outcome, Unusable)
    assert "wrong passphrase" in outcome.message
    assert not outcome.may_come
    assert isinstance(conversation.failure, SystemExit)
    assert conversation.failure.code == 1


def test_the_configuration_hash_changes_with_all_that_judges(tmp_path: Path) -> None:
    config = install(tmp_path)
    seen = set()

    def note() -> None:
        seen.add(configuration_hash(load_signer_config(config)))

    note()
    note()
    assert len(seen) == 1
    profile = tmp_path / "profiles" / f"{PROFILE}.toml"
    profile.write_text(profile.read_text() + "\n# changed\n")
    note()
    profile.rename(profile.with_name("9005-other.toml"))
    note()
    (tmp_path / "authorities.toml").write_text((tmp_path / "authorities.toml").read_text() + "\n# changed\n")
    note()
    (tmp_path / "ca.pem").write_bytes(make_ca("another", key=p256_key()).pem)
    note()
    (tmp_path / "validator.pem").write_bytes(public_pem())
    validator = "[[validator]]\nname = 'front'\nkey = 'validator.pem'\nkinds = ['attestation', 'dns-control']\n"
    text = config.read_text()
    config.write_text(text + validator)
    note()
    config.write_text(text + validator.replace("'attestation', ", ""))
    note()
    config.write_text(text + validator.replace("front", "other"))
    note()
    (tmp_path / "validator.pem").write_bytes(public_pem(1))
    note()
    config.write_text(text + "[ocsp]\nresponders = ['validator.pem']\n")
    note()
    assert len(seen) == 10


def test_the_configuration_hash_does_not_change_with_what_judges_nothing(tmp_path: Path) -> None:
    path = install(tmp_path)
    (tmp_path / "validator.pem").write_bytes(public_pem())
    path.write_text(f"{path.read_text()}[[validator]]\nname = 'a'\nkey = 'validator.pem'\nkinds = ['organisation']\n")
    before = configuration_hash(load_signer_config(path))
    (tmp_path / "validator.pem").rename(tmp_path / "renamed.pem")
    path.write_text(
        path.read_text().replace("validator.pem", "renamed.pem") + "# a comment\n[disk]\nreserve_mib = 65\n"
    )
    assert configuration_hash(load_signer_config(path)) == before


def test_the_rules_come_from_the_configuration(tmp_path: Path) -> None:
    path = install(tmp_path)
    (tmp_path / "validator.pem").write_bytes(public_pem())
    path.write_text(
        f"{path.read_text()}[[validator]]\nname = 'a'\nkey = 'validator.pem'\nkinds = ['organisation']\n"
        "[ocsp]\nresponders = ['validator.pem']\n"
    )
    config = load_signer_config(path)
    rules = load_rules(config)
    pinned = Validator(name="a", public_key=PUBLIC_KEYS[0], kinds=frozenset({"organisation"}))
    assert rules.validators == {pinned.key_id: pinned}
    assert rules.responder_keys == {hashlib.sha256(PUBLIC_KEYS[0]).digest()}
    name, octets = configuration_documents(config)[-1]
    assert name == "rules.json"
    document = read_rules_document(octets)
    assert document.pinned() == rules.validators
    assert document.responder_keys == (hashlib.sha256(PUBLIC_KEYS[0]).hexdigest(),)


def test_a_request_for_a_csr_of_another_kind_is_decided_alike() -> None:
    request = server_request(key_proof=certification_request("Ed25519"))
    assert isinstance(make_worker(default_authority()).carry_out(decide(request=request)), Decided)
