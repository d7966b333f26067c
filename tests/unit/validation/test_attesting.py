"""What the validator attests, the signer's own judgement accepts, and what it does not attest waits with a reason."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.support.authorities import alt_names, certification_request
from tests.support.store import request_id
from tests.support.validating import ACCOUNT, HOUR, NONCE, Site

from cassiopeia.config import ValidatorConfig, load_validator_config
from cassiopeia.core.evidence import read_attestation
from cassiopeia.errors import OperatorError, Refused
from cassiopeia.validation.attesting import Attester
from cassiopeia.validation.key import make_validator_key, public_pem


def test_what_is_proved_is_attested_and_accepted(site: Site, attester: Attester) -> None:
    site.hear()
    site.prove()
    site.submit(1)

    assert site.turn(attester) == 1

    [job] = site.lease()
    assert len(job.request.proofs) == 3
    assert site.judge(job) == (site.key_id,)
    assert attester.attested == 1
    assert site.turn(attester) == 0


def test_without_a_signer_nothing_is_attested(site: Site, attester: Attester) -> None:
    site.prove()
    site.submit(1)

    assert site.turn(attester) == 0
    assert site.lease() == []


def test_a_few_requests_share_a_signature(site: Site, attester: Attester) -> None:
    site.hear()
    site.prove()
    for number in range(6):
        site.submit(number)
    site.turn(attester)

    jobs = site.lease()

    assert [read_attestation(job.request.proofs[-1]).size for job in jobs] == [4, 4, 4, 4, 2, 2]
    for job in jobs:
        site.judge(job)


def test_of_a_whole_domain_one_observation_is_enough(site: Site, attester: Attester) -> None:
    site.hear()
    site.observe("dns-control", "example.org", method="dns")
    for name in ("*.example.org", "www.example.org"):
        site.observe("caa-permits", name)
    site.submit(1, "*.example.org", "www.example.org", profile="0008-server-a")
    site.turn(attester)

    [job] = site.lease()
    assert len(job.request.proofs) == 4
    site.judge(job)


def test_the_newest_is_taken(site: Site, attester: Attester) -> None:
    site.hear()
    site.prove(ago=3 * HOUR)
    newest = site.prove(ago=2 * HOUR)
    site.submit(1)
    site.turn(attester)

    assert list(site.lease()[0].request.proofs[:-1]) == newest


@pytest.mark.parametrize(
    ("proved", "words"),
    [
        ([], ["dns-control for www.example.org", "caa-permits for www.example.org"]),
        (["dns-control"], ["caa-permits for www.example.org"]),
    ],
)
def test_what_was_never_proved_is_left_to_the_signer(
    site: Site, attester: Attester, proved: list[str], words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    site.hear()
    for kind in proved:
        site.observe(kind)
    site.observe("caa-permits", account="beppo")
    site.submit(1)
    with caplog.at_level(logging.INFO):
        site.turn(attester)

    [job] = site.lease()
    with pytest.raises(Refused) as refused:
        site.judge(job)
    assert refused.value.code == "evidence-missing"
    assert f"for the account 'momo': {', '.join(words)}." in refused.value.message
    assert f"is left to the signer to refuse: for the account 'momo' was never seen {', '.join(words)}" in caplog.text


def test_what_has_lapsed_and_what_is_missing_are_refused_together(site: Site, attester: Attester) -> None:
    site.hear()
    site.observe("caa-permits", ago=8 * HOUR)
    site.submit(1)
    site.turn(attester)

    with pytest.raises(Refused, match=r"dns-control for www.example.org, caa-permits for www.example.org"):
        site.judge(site.lease()[0])


def test_what_has_lapsed_waits_until_it_is_seen_again(site: Site, attester: Attester) -> None:
    site.hear()
    site.observe("dns-control")
    old = site.observe("caa-permits", ago=8 * HOUR)
    site.submit(1)
    site.turn(attester)

    assert site.lease() == []
    assert [each.octets for each in site.looked_at] == [old]
    assert site.difficulty(1) == (
        "waits for evidence: the proof caa-permits for www.example.org has lapsed on 2026-11-23 11:00:00Z, and "
        "somebody looks"
    )
    assert site.turn(attester) == 0  # for half a minute
    site.observe("caa-permits", ago=HOUR)
    site.store.evidence.hurry([ACCOUNT], now=site.now)
    site.turn(attester)
    site.judge(site.lease()[0])


def test_what_will_lapse_before_long_is_used_and_looked_at_again(site: Site, attester: Attester) -> None:
    site.hear()
    site.observe("dns-control")
    lapsing = site.observe("caa-permits", ago=6.75 * HOUR)
    site.submit(1)
    site.turn(attester)

    assert [each.octets for each in site.looked_at] == [lapsing]
    site.judge(site.lease()[0])


def test_ages_go_by_the_clock_of_the_signer(site: Site, attester: Attester) -> None:
    site.hear(time=site.now + 2 * HOUR)
    site.prove(ago=6 * HOUR)
    site.submit(1)
    site.turn(attester)

    assert site.lease() == []
    assert "has lapsed on" in site.difficulty(1)


def test_one_that_waits_holds_up_nobody(site: Site, attester: Attester) -> None:
    site.hear()
    site.prove(ago=8 * HOUR)
    site.prove("b.example.org")
    for number in range(1, 4):
        site.submit(number)
    site.submit(4, "b.example.org")
    site.turn(attester)

    assert [job.request.request_id for job in site.lease()] == [request_id(4)]


def test_a_forged_observation_is_no_proof(site: Site, attester: Attester) -> None:
    """By somebody who holds the database: another's proof under his own account, row and octets."""
    site.hear()
    for octets in site.prove(account="beppo"):
        site.store.evidence.put_observations([octets.replace(b"beppo", b"momo!")], now=site.now)
    site.submit(1, account="momo!")
    site.turn(attester)

    assert site.lease() == []
    assert "is not signed by the validator that it names: somebody has changed it" in site.difficulty(1)
    assert "and somebody who is believed has to state it" in site.difficulty(1)
    # Nor is it a reason to ask a program, which might see what there is to see.
    assert site.looked_at == []


def test_an_observation_in_anothers_row_is_no_proof(site: Site, attester: Attester) -> None:
    """By the same, who has not touched the octets."""
    site.hear()
    theirs = site.prove(account="beppo")
    site.prove(ago=2 * HOUR, account=ACCOUNT)
    others = site.prove(ago=3 * HOUR)
    with site.store.database.write() as connection:
        for each, other in zip(theirs, others, strict=True):
            fact = text("(SELECT fact FROM observation WHERE octets = :other)")
            connection.execute(
                text(f"UPDATE observation SET account = :account, fact = {fact} WHERE octets = :octets"),  # noqa: S608 - a constant
                {"account": ACCOUNT, "other": other, "octets": each},
            )
    site.submit(1)
    site.turn(attester)

    site.judge(site.lease()[0])


def test_another_validators_word_counts_when_it_is_known(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = make_validator_key(tmp_path / "other.key")
    (tmp_path / "other.pem").write_bytes(public_pem(other))
    own = site.config
    site.config = changed(own, key=tmp_path / "other.key")
    site.prove()
    site.config = own
    site.hear()
    site.submit(1)
    ours = Attester.of(own, site.store)
    site.turn(ours)
    ours.close()
    assert "is signed by a validator that is not known here (key " in site.difficulty(1)

    path = own.source
    path.write_text(path.read_text().replace("[store]", 'peers = ["../other.pem"]\n[store]'))
    knowing = Attester.of(load_validator_config(path), site.store)
    site.now += dt.timedelta(minutes=1)
    site.hear()
    site.turn(knowing)
    knowing.close()
    [job] = site.lease()
    assert len(job.request.proofs) == 3


def changed(config: ValidatorConfig, **changes: Any) -> ValidatorConfig:
    return dataclasses.replace(config, **changes)


def orders(site: Site, *kinds: str, disabled: tuple[bytes, ...] = ()) -> dict[str, Any]:
    pinned = {"name": "validator", "key_id": site.key_id.hex(), "kinds": list(kinds)}
    return {"validators": [pinned], "disabled_validators": [each.hex() for each in disabled]}


def test_what_the_signer_does_not_believe_waits_here(site: Site, attester: Attester) -> None:
    site.hear(orders=orders(site, "attestation", "dns-control"))
    site.prove()
    site.submit(1)
    site.turn(attester)

    assert site.lease() == []
    assert "which signer 1 has not pinned for caa-permits" in site.difficulty(1)


def test_a_signer_that_does_not_take_our_word_gets_none(site: Site, attester: Attester) -> None:
    site.hear(orders=orders(site, "attestation", "dns-control", "caa-permits", disabled=(site.key_id,)))
    site.prove()
    site.submit(1)

    assert site.turn(attester) == 0
    assert "has disabled" in attester.doubt(attester.live(site.now)[0])
    with pytest.raises(OperatorError, match=r"is not attested: whatever this validator says is signed by .* disabled"):
        attester.attest_one(request_id(1).hex(), incomplete=False, now=site.now)


@pytest.mark.parametrize(
    "key_proof", [b"\x30\x00", certification_request()[:-1] + b"\0"], ids=["no request", "not its signature"]
)
def test_a_broken_request_is_left_to_the_signer(
    site: Site, attester: Attester, key_proof: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    site.hear()
    site.prove()
    site.submit(1, key_proof=key_proof)
    with caplog.at_level(logging.INFO):
        site.turn(attester)

    assert "is left to the signer to refuse: The certification request" in caplog.text
    [job] = site.lease()
    with pytest.raises(Refused) as refused:
        site.judge(job)
    assert refused.value.code in {"request-malformed", "signature-invalid"}


def test_names_that_nothing_proves_are_left_to_the_signer(site: Site, attester: Attester) -> None:
    site.hear()
    site.submit(1, alt_names=alt_names("IP,192.0.2.1"))
    site.turn(attester)

    [job] = site.lease()
    with pytest.raises(Refused, match=r"Nothing proves the name type 'IP' under 0004-server"):
        site.judge(job)


def test_an_ocsp_responder_needs_the_attestation_alone(site: Site, attester: Attester) -> None:
    site.hear()
    site.submit(1, profile="", ocsp_target_ca="unassured_2026_2", alt_names=())
    site.turn(attester)

    [job] = site.lease()
    assert len(job.request.proofs) == 1
    site.judge(job)


def test_what_demands_nothing_is_not_touched(site: Site, attester: Attester) -> None:
    site.hear()
    site.submit(1, profile="9004-unproved-server")

    assert site.turn(attester) == 0
    assert site.lease()[0].request.proofs == ()


def test_no_more_is_attested_than_is_soon_asked_for(site: Site) -> None:
    site.hear()
    site.prove()
    attester = Attester.of(changed(site.config, ahead=3), site.store)
    for number in range(5):
        site.submit(number)

    assert [site.turn(attester), site.turn(attester)] == [3, 0]
    assert len(site.lease(limit=2)) == 2
    assert site.turn(attester) == 2
    attester.close()


def test_what_was_attested_under_an_old_nonce_is_attested_anew(site: Site, attester: Attester) -> None:
    site.hear()
    site.prove()
    site.submit(1)
    site.turn(attester)
    site.hear(boot_id=b"c" * 16, nonce=b"2" * 16)

    assert site.turn(attester) == 1
    assert site.lease() == []
    [job] = site.lease(nonces=[b"2" * 16])
    site.judge(job, nonce=b"2" * 16, boot_id=b"c" * 16)


def test_what_the_signer_sends_back_is_attested_anew_and_in_the_end_looked_at(site: Site, attester: Attester) -> None:
    site.hear()
    proofs = site.prove()
    site.submit(1)
    for times in range(4):
        assert site.turn(attester) == 1
        assert len(site.looked_at) == (2 if times == 2 else 4 if times == 3 else 0)
        site.send_back(site.lease()[0], "look at the clocks")
    assert [each.octets for each in site.looked_at] == [*proofs, *proofs]


def test_one_request_by_hand(site: Site, attester: Attester) -> None:
    site.hear()
    site.prove()
    site.submit(1)

    done = attester.attest_one(request_id(1).hex()[:8], incomplete=False, now=site.now)

    assert (done.request_id, done.signer_id) == (request_id(1), 1)
    assert [each.kind for each in done.chosen] == ["dns-control", "caa-permits"]
    site.judge(site.lease()[0])
    with pytest.raises(OperatorError, match=r"waits for no attestation: it has one, or the client has it in hand"):
        attester.attest_one(request_id(1).hex(), incomplete=False, now=site.now)


def test_by_hand_it_says_what_is_missing(site: Site, attester: Attester) -> None:
    site.hear()
    site.observe("dns-control", "bücher.example")
    site.submit(1, "xn--bcher-kva.example")
    prefix = request_id(1).hex()[:8]

    with pytest.raises(OperatorError) as raised:
        attester.attest_one(prefix, incomplete=False, now=site.now)
    assert "for the account 'momo' was never seen caa-permits for xn--bcher-kva.example; state" in str(raised.value)
    assert site.lease() == []

    attester.attest_one(prefix, incomplete=True, now=site.now)
    with pytest.raises(Refused, match=r"caa-permits for xn--bcher-kva.example"):
        site.judge(site.lease()[0])


def test_by_hand_it_says_what_has_lapsed(site: Site, attester: Attester) -> None:
    site.hear()
    site.prove(ago=8 * HOUR)
    site.submit(1)

    with pytest.raises(OperatorError, match=r"the proof caa-permits for www.example.org has lapsed on .*; state it"):
        attester.attest_one(request_id(1).hex(), incomplete=True, now=site.now)


def test_by_hand_there_has_to_be_something_to_attest(site: Site, attester: Attester) -> None:
    site.submit(1, profile="9004-unproved-server")
    site.submit(2)
    site.submit(3)

    with pytest.raises(OperatorError, match=r"the profile '9004-unproved-server' demands no evidence, or "):
        attester.attest_one(request_id(1).hex(), incomplete=False, now=site.now)
    with pytest.raises(OperatorError, match=r"no signer was heard in the last five minutes"):
        attester.attest_one(request_id(2).hex(), incomplete=False, now=site.now)
    with pytest.raises(Refused, match=r"there is no request"):
        attester.attest_one("00000000", incomplete=False, now=site.now)
    site.hear()
    with site.store.database.write() as connection:
        connection.execute(text("UPDATE request SET state = 'issued' WHERE id = 3"))
    with pytest.raises(OperatorError, match=r"is issued: there is nothing to attest"):
        attester.attest_one(request_id(3).hex(), incomplete=False, now=site.now)


def test_a_validator_that_may_not_attest_does_not_begin(site: Site) -> None:
    with pytest.raises(OperatorError, match=r"this validator's key signs no attestation; see validator.kinds"):
        Attester.of(changed(site.config, kinds=frozenset({"dns-control"})), site.store)


def test_two_validators_do_no_harm(site: Site, attester: Attester) -> None:
    site.hear()
    site.prove()
    site.submit(1)
    other = Attester.of(site.config, site.store)
    [word] = other.live(site.now)
    waiting = site.store.evidence.to_attest(1, [NONCE], profiles=["0004-server"], limit=9, now=site.now)

    assert site.turn(attester) == 1
    site.store.evidence.to_attest = lambda *_, **__: waiting  # type: ignore[method-assign] # it had looked before
    assert other.turn(word, now=site.now, look_again=lambda _: ("", 0.0)) == 1
    assert other.attested == 0
    other.close()
    site.judge(site.lease()[0])


def test_names_are_listed_in_ascii(site: Site, attester: Attester, caplog: pytest.LogCaptureFixture) -> None:
    """In the log: a stranger has chosen them."""
    site.hear()
    site.submit(1, "evil\u202e.example")
    with caplog.at_level(logging.INFO):
        site.turn(attester)

        site.submit(2, "evil\x1b[2J.example")
        site.turn(attester)

    assert "dns-control for 'evil\\u202e.example'" in caplog.text
    assert "dns-control for 'evil\\x1b[2J.example'" in caplog.text


def test_what_is_no_observation_is_left_out(site: Site, attester: Attester, caplog: pytest.LogCaptureFixture) -> None:
    """By somebody who holds the database: it must not end the validator."""
    site.hear()
    site.prove(ago=2 * HOUR)
    bad = site.prove()
    with site.store.database.write() as connection:
        for each in bad:
            connection.execute(text("UPDATE observation SET octets = x'3000' WHERE octets = :octets"), {"octets": each})
    site.submit(1)
    site.turn(attester)

    site.judge(site.lease()[0])
    assert "in the store is none, and is left out: this is not the DER of a SignedObservation" in caplog.text


def test_what_is_believed_is_looked_at_again_whatever_lies_on_top_of_it(site: Site, attester: Attester) -> None:
    site.hear()
    lapsed = site.prove(ago=100 * 24 * HOUR)
    for octets in site.prove():
        forged = octets[:-1] + bytes([octets[-1] ^ 1])
        site.store.evidence.put_observations([forged], now=site.now)
        with site.store.database.write() as connection:
            connection.execute(text("DELETE FROM observation WHERE octets = :octets"), {"octets": octets})
    site.submit(1)
    site.turn(attester)

    assert [each.octets for each in site.looked_at] == lapsed


def test_more_names_than_the_profile_takes_are_not_even_looked_up(site: Site, attester: Attester) -> None:
    site.hear()
    site.submit(1, *(f"{number}.example.org" for number in range(101)))
    site.turn(attester)

    [job] = site.lease()
    assert len(job.request.proofs) == 1
