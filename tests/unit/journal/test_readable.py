"""Every kind of entry has its line; what a part says is shown while the part is there."""

from __future__ import annotations

import dataclasses

import pytest
from tests.support.authorities import alt_names, load_profile, server_request
from tests.support.evidence import TestValidator
from tests.support.journal_maker import JournalMaker, full_journal
from tests.support.operators import drafted

from cassiopeia.core.rules_document import KeyUsed, RulesDocument, encode_rules_document
from cassiopeia.errors import PeerError
from cassiopeia.journal import entry as entries
from cassiopeia.journal import readable
from cassiopeia.journal.entry import Log
from cassiopeia.journal.order import HaltAuthority


def shown(log: Log) -> str:
    entry = entries.decode_entry(log.entry)
    return readable.line(entry, readable.facts(entry, entries.decode_body(entry), log.parts))


def test_every_kind_has_its_line() -> None:
    made = full_journal()
    made.add(entries.Removal(last=5, parts=2))
    lines = [shown(each) for each in made.logs]

    assert {line.split()[2] for line in lines} == set(entries.BODIES)
    assert all(str(number) == line.split()[0] for number, line in enumerate(lines, start=1))
    for words in (
        "configuration=6363",
        "documents=authorities.toml,certificates/unassured_2026_2.pem",
        "software_version=1.0",
        "profile=9004-unproved-server",
        "protocol=2 algorithm=ecdsa-with-SHA256 names=CN=www.example.org,DNS=www.example.org,DNS=example.org",
        "intent=4 log_hash=",
        'code=unconfirmed message="nobody confirmed"',
        'code=key-weak message="This key is weak."',
        f"signing_ca=unassured_2026_2 serials={made.serial(4).hex()} request=7171",
        "number=2 entries=1 this_update=2026-11-23T",
        "number=65539",
        'code=clock-back message="the clock has gone back"',
        "true_time=2026-11-22T",
        'sequence=1 action="unknown to this release" order=',
        "number=2 public_key=",
        "last=5 parts=2",
        " copy_signed_up_to=",
    ):
        assert any(words in line for line in lines), words


def test_proofs_are_shown_in_words() -> None:
    validator, profile = TestValidator(), load_profile("0004-server")
    request = server_request(profile=profile.name, account="alice", alt_names=alt_names("DNS,www.example.org"))
    request = validator.prove_all(dataclasses.replace(request, attributes=(), request_id=b"r" * 32), profile)
    made = JournalMaker()
    made.begin()
    made.intent(request=dataclasses.replace(request, proofs=(*request.proofs, b"timestamp,table")))
    name = validator.key_id.hex()

    assert shown(made.logs[-1]).endswith(
        f'proofs="dns-control of www.example.org for account alice by {name} (dns, 2026-11-23T11:30:15Z),'
        f"caa-permits of www.example.org for account alice by {name} (dns, 2026-11-23T11:30:15Z),"
        f'attested by {name},15 octets that are no proof"'
    )


def test_a_removed_part_is_left_out() -> None:
    made = JournalMaker()
    made.begin()
    for index in (2, made.intent(), made.refusal()):
        made.drop_part(index)
    lines = [shown(each) for each in made.logs]

    assert "documents" not in lines[1]
    assert "names" not in lines[3]
    assert lines[4].endswith(f"refusal       code=key-weak request={'72' * 32}")


def test_a_configuration_says_by_which_library_each_sub_ca_signs() -> None:
    keys = (
        KeyUsed(authority="assured_2026_2", backend="gnutls", verify_with="wolfssl"),
        KeyUsed(authority="codesign_2026_2", backend="openssl"),
        KeyUsed(authority="unassured_2026_2", backend="gnutls", verify_with="wolfssl"),
    )
    rules = encode_rules_document(RulesDocument(signer_id=1, keys=keys))

    assert configured(rules).endswith(
        ' signing="gnutls verified by wolfssl: assured_2026_2 unassured_2026_2,openssl: codesign_2026_2"'
        " documents=authorities.toml,certificates/unassured_2026_2.pem,rules.json"
    )
    assert "signing" not in configured(b"of a form that nobody knows")


def configured(rules: bytes) -> str:
    made = JournalMaker()
    made.begin()
    made.configuration({"rules.json": rules})
    return shown(made.logs[-1])


def test_an_epoch_without_a_head_says_so_by_silence() -> None:
    made = JournalMaker()
    made.begin()
    made.new_epoch(head=b"")

    assert "copy_signed_up_to" not in shown(made.logs[-1])


def test_an_order_is_told_in_words() -> None:
    made = JournalMaker()
    made.begin()
    order = drafted(HaltAuthority(authority="assured_2026_1"), reason="a drill")
    made.add(entries.OrderObeyed(sequence=1, order=order))

    assert 'sequence=1 action=haltAuthority says="the sub-CA assured_2026_1 signs no' in shown(made.logs[-1])
    assert 'reason="a drill" order=' in shown(made.logs[-1])


def test_a_kind_that_is_not_known_has_no_facts() -> None:
    made = JournalMaker()
    made.begin()
    entry = dataclasses.replace(entries.decode_entry(made.logs[-1].entry), kind="feast")

    with pytest.raises(PeerError, match="nothing is known of the kind 'feast'"):
        readable.facts(entry, object(), ())
