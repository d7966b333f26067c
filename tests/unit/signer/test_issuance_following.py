"""Desks that follow another configuration: what is under way is decided anew, promised, or taken back."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import default_ca, make_authority
from tests.support.issuing import assert_failed, certificate_of, journaled, kinds, log_of, wanted
from tests.support.known_keys import certification_request, rsa_key
from tests.support.revoking import Copy
from tests.support.signer import Front, meaningless_tbs, record_intent

from cassiopeia.core.authority import Authority
from cassiopeia.core.crl_size import RESPONDERS, CrlRoom
from cassiopeia.core.request import CertificateRequest
from cassiopeia.errors import Refused, Unavailable
from cassiopeia.journal import entry as entries
from cassiopeia.protocol.events import CertificateIssued, LogReceived, RequestAbandoned, RequestFailed, RequestRefused
from cassiopeia.signer.caps import Caps
from cassiopeia.signer.gate import check_authority
from cassiopeia.signer.journal import Intent
from cassiopeia.signer.own_faults import OwnFaults
from cassiopeia.signer.tasks import Decide, Decided, Sign, Signed

ANOTHER = b"another configuration"


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path)
    yield made
    made.journal.close()


def follow(front: Front, *authorities: Authority) -> None:
    names = {each.name: each for each in authorities or (front.authority,)}
    front.issuance.follow(configuration_hash=ANOTHER, authorities=names, now=front.now)


def judged_by(front: Front) -> bytes:
    log = entries.decode_log(journaled(front).log)
    body: entries.Intent = entries.decode_body(entries.decode_entry(log.entry))
    return body.configuration_hash


def retired(front: Front) -> Authority:
    return dataclasses.replace(front.authority, retired=True)


def test_what_a_worker_decides_is_decided_anew(front: Front) -> None:
    pair = front.connect()
    pair.client.submit(wanted())
    front.carry()
    [old] = front.tasks
    front.tasks.clear()
    follow(front)
    [new] = front.tasks
    assert isinstance(new, Decide)
    assert new.task != old.task
    # What the old worker says comes too late.
    assert not front.issuance.delivered(front.worker.carry_out(old), now=front.now)
    front.settle()
    (answer,) = front.answers(pair)
    assert isinstance(answer, LogReceived)
    assert kinds(front) == ["intent"]
    assert judged_by(front) == ANOTHER


def test_nobody_decides_for_a_session_that_has_gone(front: Front) -> None:
    pair = front.connect()
    pair.client.submit(wanted())
    front.carry()
    front.vanish(pair)
    front.tasks.clear()
    follow(front)
    assert not front.tasks
    assert certificate_of(front, front.connect())


def test_what_was_decided_and_is_being_compared_is_decided_anew(front: Front) -> None:
    pair = front.connect()
    pair.client.submit(wanted(key_proof=certification_request(rsa_key(0, 1))))
    front.carry()
    front.deliver(front.worker.carry_out(front.tasks.popleft()))
    assert len(front.examinations) == 1
    follow(front)
    assert not front.tasks
    front.examine()
    [task] = front.tasks
    assert isinstance(task, Decide)
    front.settle()
    (answer,) = front.answers(pair)
    assert isinstance(answer, LogReceived)
    assert judged_by(front) == ANOTHER


def test_however_often_it_changes_it_is_no_serial_number_that_was_taken(front: Front) -> None:
    pair = front.connect()
    pair.client.submit(wanted())
    front.carry()
    for _ in range(10):
        front.tasks.clear()
        follow(front)
    [exchange] = front.issuance._deciding.values()
    assert exchange.decisions == 1


def test_a_promise_stands(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    follow(front)
    assert isinstance(front.confirm(pair, log.handle), CertificateIssued)
    assert kinds(front) == ["intent", "confirmation", "result"]


def test_a_retired_sub_ca_takes_back_what_nobody_has_confirmed(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    follow(front, retired(front))
    front.settle()
    (answer,) = front.answers(pair)
    assert isinstance(answer, RequestAbandoned)
    assert answer.handle == log.handle
    assert kinds(front) == ["intent", "abandonment"]
    assert front.issuance.issued[front.authority.name] == 0


def test_a_retired_sub_ca_signs_nothing_that_was_confirmed_before(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    [task] = front.tasks
    assert isinstance(task, Sign)
    front.tasks.clear()
    follow(front, retired(front))
    signed = front.worker.carry_out(task)
    assert isinstance(signed, Signed)
    front.deliver(signed)
    front.journal.commit()
    (answer,) = front.answers(pair)
    assert isinstance(answer, RequestRefused)
    assert answer.code == "authority-retired"
    assert answer.message.startswith(f"The sub-CA {front.authority.name} was taken out of service")
    assert kinds(front) == ["intent", "confirmation", "refusal"]


def test_whoever_asks_again_for_what_a_retired_sub_ca_had_promised_hears_that_it_never_comes(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    front.journal.commit()
    front.vanish(pair)
    front.tasks.clear()
    follow(front, retired(front))
    again = front.connect()
    answer = front.confirm(again, log_of(front, again).handle)
    assert isinstance(answer, RequestRefused)
    assert answer.code == "authority-retired"
    assert not front.tasks


def test_a_sub_ca_that_retires_while_the_disk_takes_the_confirmation_signs_nothing(front: Front) -> None:
    pair = front.connect()
    log = log_of(front, pair)
    pair.client.confirm_log(log.handle)
    front.carry()
    follow(front, retired(front))
    front.journal.commit()
    assert not front.tasks
    front.journal.commit()
    (answer,) = front.answers(pair)
    assert isinstance(answer, RequestRefused)
    assert answer.code == "authority-retired"


def test_a_sub_ca_is_full_when_its_crl_is_though_it_might_issue_more(front: Front) -> None:
    """Invalidity dates took the room, and operators let it issue more behind them."""
    [crl] = front.revocation.lists
    crl._room = CrlRoom(octets=100, entry_octets=49)
    pair = front.connect()
    logs = [log_of(front, pair, wanted(request_id=bytes([number]) * 32)) for number in (1, 2)]
    full = f"the CRL of {front.authority.name} is full"

    assert assert_failed(front.ask(pair, wanted(request_id=b"3" * 32)), "busy").message.startswith(full)
    # From then on the workers know, and would take another; another configuration begins anew.
    assert_failed(front.ask(pair, wanted(request_id=b"3" * 32)), "authority-full")
    follow(front)
    assert assert_failed(front.ask(pair, wanted(request_id=b"3" * 32)), "busy").message.startswith(full)
    # One that is abandoned makes room.
    pair.client.abandon(logs[0].handle, "veto")
    front.settle()
    front.answers(pair)
    assert isinstance(front.ask(pair, wanted(request_id=b"3" * 32)), LogReceived)


@pytest.mark.parametrize(("beyond", "answered"), [(0, LogReceived), (RESPONDERS, RequestFailed)])
def test_a_full_sub_ca_certifies_its_responder_in_the_places_kept_for_that(
    front: Front, beyond: int, answered: type
) -> None:
    pair = front.connect()
    front.issuance.issued[front.authority.name] = front.authority.maximum_certificates + beyond
    pair.client.submit(wanted(ocsp_target_ca=front.authority.name, profile=""))
    front.carry()
    task = front.tasks.popleft()
    front.deliver(
        Decided(
            task=task.task,
            signing_ca=front.authority.name,
            serial_number=b"\1" + b"o" * 15,
            algorithm=b"a",
            tbs_certificate=meaningless_tbs(1),
            validators=(),
        )
    )
    front.journal.commit()
    (answer,) = front.answers(pair)
    assert isinstance(answer, answered)


def test_the_certificate_of_a_responder_is_signed_by_a_retired_sub_ca(front: Front) -> None:
    other = record_intent(front.journal)
    check_authority(other, front.authority)
    with pytest.raises(Refused, match="taken out of service"):
        check_authority(other, retired(front))
    with pytest.raises(Unavailable, match="put it back into authorities"):
        check_authority(other, None)
    responder = responder_intent(front)
    check_authority(responder, retired(front))


def responder_intent(front: Front) -> Intent:
    request = CertificateRequest(key_kind="csr", key_proof=b"csr", ocsp_target_ca=front.authority.name)
    return front.journal.record_intent(
        request,
        request_id=b"o" * 32,
        request_digest=b"d" * 32,
        protocol=2,
        boot_id=b"b" * 16,
        configuration_hash=b"c" * 32,
        signing_ca=front.authority.name,
        serial_number=b"\1" + b"o" * 15,
        algorithm=b"a",
        tbs_certificate=meaningless_tbs(2),
        now=front.now,
    )


def test_a_crl_that_is_being_signed_is_finished_and_the_next_has_the_new_lifetime(front: Front) -> None:
    pair = front.connect()
    front.revocation.renew(now=front.now)
    front.journal.commit()
    [task] = front.tasks
    front.tasks.clear()
    spare = make_authority(default_ca(), name="unassured_2026_9")
    front.revocation.follow([front.authority, spare], lifetime=dt.timedelta(days=3), resign_after=dt.timedelta(hours=6))
    front.deliver(front.worker.carry_out(task))
    front.settle()
    [old, new] = front.revocation.lists
    assert old.current is not None
    assert old.current.next_update - old.current.this_update == dt.timedelta(days=10)
    assert (new.authority.name, new.current) == ("unassured_2026_9", None)
    front.now += dt.timedelta(hours=6)
    front.revocation.follow([front.authority], lifetime=dt.timedelta(days=3), resign_after=dt.timedelta(hours=6))
    front.revocation.renew(now=front.now)
    front.settle()
    [only] = front.revocation.lists
    assert only is old
    assert (old.current.number, old.current.next_update - old.current.this_update) == (2, dt.timedelta(days=3))
    # Whoever asks gets it.
    copy = Copy(front)
    pair.client.revoke(copy.request())
    front.settle()
    assert copy.patch(front.answers(pair)[0]) == []


def test_caps_count_on_under_other_limits(front: Front) -> None:
    certificate_of(front, front.connect())
    front.caps.follow({**front.limits, "account-certificates": 1})
    answer = front.ask(front.connect(), wanted(request_id=b"n" * 32))
    assert_failed(answer, "cap-account-certificates")
    assert isinstance(front.caps, Caps)


def test_what_was_found_about_a_profile_is_over_when_that_is_mended() -> None:
    faults = OwnFaults({"0001-a": "it is unsound"})
    faults.lint_finding("0002-b", "this")
    faults.lint_finding("0003-c", "that")
    faults.follow({}, mended={"0002-b"})
    [alarm] = faults.alarms()
    assert "0003-c" in alarm
