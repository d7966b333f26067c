"""What the signer finds wrong with itself: nothing is signed or released, nobody is refused, and the operators hear."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.authorities import default_ca, sign
from tests.support.conversations import Pair
from tests.support.der_tree import Node
from tests.support.issuing import assert_failed, certificate_of, journaled, kinds, log_of, wanted
from tests.support.lintable import ENTROPY, SERIAL, edited
from tests.support.signer import PROFILE, SIGNING_CA, Front, install

from cassiopeia.config import load_signer_config
from cassiopeia.core import algorithms, certificate, lint
from cassiopeia.core.lint import LintedTbs
from cassiopeia.core.policy import ApprovedRequest
from cassiopeia.errors import SignatureInvalid
from cassiopeia.protocol.events import CertificateIssued, LogReceived
from cassiopeia.signer.configuration import load_rules
from cassiopeia.signer.own_faults import OwnFaults
from cassiopeia.signer.service import Signer
from cassiopeia.signer.tasks import Decided, Deferred, Denied, Sign, Signed


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path)
    yield made
    made.journal.close()


def put_serial(tree: Node) -> None:
    tree.at(SERIAL).contents = b"\1" + ENTROPY


def alarms(front: Front) -> list[str]:
    return list(front.own_faults.alarms())


# --- a finding of the lint


def assemble_wrongly(approved: ApprovedRequest) -> bytes:
    """As if the assembly had been given another serial number."""

    return edited(ASSEMBLE(approved), put_serial)


ASSEMBLE = certificate.assemble_tbs


def test_what_the_lint_finds_is_not_journaled_and_not_held_against_the_request(
    front: Front, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pair = front.connect()
    monkeypatch.setattr(certificate, "assemble_tbs", assemble_wrongly)
    for number in (1, 2):
        failed = assert_failed(front.ask(pair, wanted(request_id=bytes([number]) * 32)), "lint-finding")
        assert "serial-approved" in failed.message
    assert kinds(front) == []
    [alarm] = alarms(front)
    assert alarm.startswith(f"profile {PROFILE}: 2 certificates were stopped by the signer's own lint; the last: ")
    assert "serial-approved" in alarm
    assert [each.message for each in caplog.records if each.levelno == logging.ERROR and "ALARM" in each.message]
    # The request is as good as it was.
    monkeypatch.setattr(certificate, "assemble_tbs", ASSEMBLE)
    assert certificate_of(front, pair, wanted(request_id=b"\1" * 32))


# --- serial numbers


def repeat_entropy(monkeypatch: pytest.MonkeyPatch, *entropies: bytes) -> None:
    """What the workers draw, one behind the other, and then honest numbers."""
    waiting = [*entropies]
    draw = os.urandom
    monkeypatch.setattr(os, "urandom", lambda count: waiting.pop(0) if count == 15 and waiting else draw(count))


def test_a_serial_number_that_was_drawn_before_is_drawn_again(
    front: Front, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pair = front.connect()
    repeat_entropy(monkeypatch, ENTROPY, *[ENTROPY] * 2)
    first = log_of(front, pair)
    second = log_of(front, pair, wanted(request_id=b"s" * 32))
    assert first.log != second.log
    serials = {each.serial_number for each in front.journal.index.open_intents()}
    assert b"\1" + ENTROPY in serials
    assert len(serials) == 2
    [alarm] = alarms(front)
    assert alarm.startswith("random serial numbers came up twice, 2 times: the machine's random numbers are broken")
    assert "is in the journal already" in caplog.text


def test_abandoned_serial_numbers_are_burned(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = front.connect()
    repeat_entropy(monkeypatch, ENTROPY, ENTROPY)
    log = log_of(front, pair)
    pair.client.abandon(log.handle, "veto")
    front.settle()
    front.answers(pair)
    assert isinstance(front.ask(pair, wanted(request_id=b"s" * 32)), LogReceived)
    [intent] = front.journal.index.open_intents()
    assert intent.serial_number != b"\1" + ENTROPY


def test_numbers_that_never_change_stop_the_request_and_not_the_signer(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = front.connect()
    repeat_entropy(monkeypatch, *[ENTROPY] * 9)
    log_of(front, pair)
    assert_failed(front.ask(pair, wanted(request_id=b"s" * 32)), "internal")
    assert kinds(front) == ["intent"]


# --- signatures


def confirmed(front: Front) -> tuple[Pair, Sign]:
    """A request whose log is confirmed, and the task that a worker was given."""
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    task = front.tasks.popleft()
    assert isinstance(task, Sign)
    return pair, task


def signature_over(octets: bytes) -> bytes:
    ca = default_ca()
    return sign(ca.key, algorithms.choose_algorithm(ca.key.public_key(), ""), octets)


def test_a_signature_over_other_octets_than_were_linted_is_never_released(front: Front) -> None:
    """A worker that answers, with the real key, for another TBSCertificate: here one with another serial number."""
    halted: list[tuple[str, str]] = []
    front.issuance._mistrusted = lambda *said: halted.append(said)
    pair, task = confirmed(front)
    with pytest.raises(SignatureInvalid):
        front.deliver(Signed(task=task.task, signature=signature_over(edited(task.octets, put_serial))))
    front.journal.commit()
    (answer,) = front.answers(pair)
    assert_failed(answer, "internal")
    assert kinds(front) == ["intent", "confirmation"]
    [alarm] = alarms(front)
    assert alarm.startswith(f"1 signatures of {SIGNING_CA} were not over what was linted and journaled, and were not")
    assert [name for name, _ in halted] == [SIGNING_CA]
    # It is the same certificate that comes when it is asked for again.
    again = log_of(front, pair)
    issued = front.confirm(pair, again.handle)
    assert isinstance(issued, CertificateIssued)
    assert issued.signature is not None
    octets = journaled(front).tbs_certificate
    assert octets == task.octets
    algorithm = certificate.read_tbs(octets).algorithm
    algorithms.verify(front.authority.public_key, algorithm, issued.signature, octets)


def test_what_is_released_is_what_was_linted(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    linted: list[bytes] = []
    judge = lint.lint

    def note(octets: bytes, *arguments: Any, **named: Any) -> LintedTbs:
        linted.append(octets)
        return judge(octets, *arguments, **named)

    monkeypatch.setattr(lint, "lint", note)
    version_1 = front.connect(version=1)
    version_1.client.submit(wanted(request_id=b"", account=""))
    front.settle()
    [log] = [each for each in front.answers(version_1) if isinstance(each, LogReceived)]
    issued = front.confirm(version_1, log.handle)
    assert isinstance(issued, CertificateIssued)
    assert issued.certificate is not None
    assert [certificate.split_certificate(issued.certificate)[0]] == linted


def test_a_signature_for_a_sub_ca_that_was_taken_away_is_not_let_out(front: Front) -> None:
    pair, task = confirmed(front)
    front.issuance.follow(configuration_hash=b"another", authorities={}, now=front.now)
    front.deliver(Signed(task=task.task, signature=signature_over(task.octets)))
    front.journal.commit()
    (answer,) = front.answers(pair)
    assert_failed(answer, "authority-missing")
    assert kinds(front) == ["intent", "confirmation"]


def test_other_answers_are_no_fault_of_ours(front: Front) -> None:
    pair = front.connect()
    for outcome in (
        Denied(task=1, code="key-weak", field="key", message="no"),
        Deferred(task=2, code="no-authority", message="later", retry_after_s=5),
        Decided(task=3, signing_ca="x", serial_number=b"1" * 16, algorithm=b"", tbs_certificate=b""),
    ):
        pair.client.submit(wanted(request_id=bytes([outcome.task]) * 32))
        front.carry()
        front.tasks.clear()
        front.deliver(outcome)
    assert alarms(front) == []


# --- profiles


def test_a_profile_whose_sample_has_findings_disables_itself_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = install(tmp_path)
    bad = tmp_path / "profiles" / "9005-bad.toml"
    good = tmp_path / "profiles" / f"{PROFILE}.toml"
    bad.write_text(
        good.read_text(encoding="utf-8").replace(
            'key_usage = ["digitalSignature", "keyEncipherment"]', 'key_usage = ["nonRepudiation"]'
        ),
        encoding="utf-8",
    )
    config = load_signer_config(path)
    # Every worker reads the same files, and comes to the same.
    first, second = load_rules(config), load_rules(config)
    assert first.unsound_profiles == second.unsound_profiles
    assert list(first.unsound_profiles) == ["9005-bad"]
    signer = Signer(config, config_path=path)
    try:
        [alarm] = [each for each in signer._alarms() if "profile" in each]
        assert alarm.startswith("profile 9005-bad issues nothing: its sample certificate (RSA-3072, by ")
        assert "has the finding purpose: " in alarm
        signer._own_faults.report()
        assert f"ALARM: {alarm}" in caplog.text
    finally:
        signer._journal.close()
        signer._selector.close()


def test_a_request_under_an_unsound_profile_waits_and_the_others_do_not(front: Front) -> None:
    rules = front.worker._rules
    other = dataclasses.replace(rules.profiles[PROFILE], name="9005-bad")
    front.worker._rules = dataclasses.replace(
        rules, profiles={**rules.profiles, other.name: other}, unsound_profiles={other.name: "its sample is bad"}
    )
    pair = front.connect()
    failed = assert_failed(front.ask(pair, wanted(profile=other.name)), "profile-unsound")
    assert "its sample is bad" in failed.message
    assert certificate_of(front, pair, wanted(request_id=b"s" * 32))


def test_without_faults_there_are_no_alarms() -> None:
    assert list(OwnFaults({}).alarms()) == []
