"""A stranger judges anew what a signer did: each way to have issued what was not to be issued is found."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from tests.support import hostile_requests
from tests.support.authorities import NOW, PROFILES, alt_names, attributes, load_profile, server_request
from tests.support.evidence import ACCOUNT, BOOT_ID, NONCE, TestValidator
from tests.support.journal_maker import JournalMaker, key_hash

from cassiopeia.core import rules_document, structure
from cassiopeia.core.request import CertificateRequest, request_digest
from cassiopeia.errors import Inconsistent, Refused
from cassiopeia.journal import entry as entries
from cassiopeia.journal import judging as judging_module
from cassiopeia.journal import order
from cassiopeia.journal.judging import Judging
from cassiopeia.journal.replay import Replay

SERVER = load_profile("0004-server")
VALIDATOR = TestValidator()
OTHER = TestValidator(b"o", name="other")
WWW = "www.example.org"


class Maker(JournalMaker):
    """A journal whose configurations say by which profiles and validators requests were judged."""

    def begin(self, **changes: Any) -> None:
        self.key()
        self.judged_by(**changes)
        self.add(entries.Start(boot_id=BOOT_ID, boot_seconds=60, configuration_hash=b"c" * 32, software_version="1.0"))

    def judged_by(
        self,
        *profiles: str,
        validators: tuple[TestValidator, ...] = (VALIDATOR,),
        texts: dict[str, bytes] | None = None,
        **more: Any,
    ) -> None:
        names = profiles or (SERVER.name, "9004-unproved-server", "0100-ocsp", "0008-server-a")
        pinned = tuple(
            rules_document.PinnedValidator(
                name=each.pinned.name, public_key=each.public_key, kinds=tuple(sorted(each.pinned.kinds))
            )
            for each in validators
        )
        document = rules_document.RulesDocument(signer_id=1, validators=pinned, **more)
        documents = {f"{name}.toml": (PROFILES / f"{name}.toml").read_bytes() for name in names}
        documents[rules_document.RULES_DOCUMENT] = rules_document.encode_rules_document(document)
        self.configuration(documents | (texts or {}))

    def order(self, arguments: order.Arguments) -> None:
        self.sequence = getattr(self, "sequence", 0) + 1
        draft = order.draft_order(
            signer_id=1, sequence=self.sequence, boot_id=BOOT_ID, arguments=arguments, reason="a test"
        )
        self.add(entries.OrderObeyed(sequence=self.sequence, order=draft))


@pytest.fixture
def made() -> Maker:
    return Maker()


def wanted(**changes: Any) -> CertificateRequest:
    values = {"profile": SERVER.name, "account": ACCOUNT, "request_id": b"r" * 32, "alt_names": alt_names(f"DNS,{WWW}")}
    return server_request(**({"attributes": ()} | values | changes))


def proved(**changes: Any) -> CertificateRequest:
    return VALIDATOR.prove_all(wanted(**changes), SERVER)


def observed(**changes: Any) -> CertificateRequest:
    """Proved by observations in which these things are otherwise."""
    request = wanted()
    return VALIDATOR.prove(request, *VALIDATOR.observe_all(request, SERVER, **changes))


def judged(made: JournalMaker) -> Judging:
    replay = Replay(judge=True)
    for log in made.logs:
        replay.append(log)
    assert replay.judging is not None
    return replay.judging


def finding(made: JournalMaker) -> str:
    """The one thing that is wrong, which must be about the last entry."""
    (found,) = judged(made).findings.kept
    assert found.index == made.size
    return found.reason


def counts(made: JournalMaker) -> tuple[int, int, dict[str, int], int]:
    found = judged(made)
    return found.proved, found.undemanding, dict(found.unjudged), found.findings.count


def test_what_was_proved_was_to_be_issued(made: Maker) -> None:
    made.begin()
    made.issue(request=proved())
    made.issue(request=server_request())
    assert counts(made) == (1, 1, {}, 0)


def test_a_spkac_is_judged_alike(made: Maker) -> None:
    made.begin()
    request = wanted(key_kind="spkac", key_proof=hostile_requests.spkac())
    # What the part says is judged; the maker has its TBSCertificate from a CSR with the same key.
    csr = dataclasses.replace(request, key_kind="csr", key_proof=hostile_requests.certification_request())
    made.intent(request=csr)
    part = dataclasses.replace(part_of(made), key_kind="spkac", key_proof=request.key_proof)
    retell(made, dataclasses.replace(part, proofs=spkac_proofs(request)))
    assert counts(made) == (1, 0, {}, 0)


def spkac_proofs(request: CertificateRequest) -> tuple[bytes, ...]:
    return VALIDATOR.prove_all(request, SERVER).proofs


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (wanted, "proofs that are missing for the account 'alice': attestation, dns-control for www.example.org"),
        (lambda: VALIDATOR.prove(wanted()), "proofs that are missing"),
        (lambda: OTHER.prove_all(wanted(), SERVER), "the signer has no validator"),
        (lambda: observed(account="mallory"), "made for another account"),
        (
            lambda: VALIDATOR.prove(wanted(), VALIDATOR.observe("dns-control", "example.com")),
            "proves nothing that this request asks for",
        ),
        (lambda: observed(observed_at=NOW + dt.timedelta(hours=1)), "it is only 2026-11-23"),
        (lambda: observed(observed_at=NOW - dt.timedelta(hours=9)), "counts for 7 hours"),
        (lambda: VALIDATOR.prove_all(wanted(), SERVER, boot_id=b"x" * 16), "not over this request"),
        (lambda: VALIDATOR.prove_all(wanted(), SERVER, signer_id=2), "not over this request"),
        (lambda: dataclasses.replace(proved(), proofs=(b"no", b"proof")), "One of the proofs cannot be read"),
        (lambda: dataclasses.replace(proved(), proofs=(b"no proof",)), "One of the proofs cannot be read"),
        (lambda: dataclasses.replace(proved(), account="mallory"), "not over this request"),
        (lambda: dataclasses.replace(server_request(), proofs=(b"x",)), "takes no proofs"),
    ],
)
def test_proofs_that_do_not_suffice_are_found(
    made: Maker, request_: Callable[[], CertificateRequest], complaint: str
) -> None:
    made.begin()
    made.intent(request=request_())
    reason = finding(made)
    assert reason.startswith("this was not to be issued: ")
    assert complaint in reason


@pytest.mark.parametrize(("minutes", "proofs_suffice"), [(59, True), (61, False)])
def test_an_observation_may_have_lapsed_while_the_work_waited(
    made: Maker, minutes: int, *, proofs_suffice: bool
) -> None:
    """The entry has the time of the intent; the decision came before, never by more than an hour."""
    made.begin()
    made.intent(request=observed(observed_at=NOW - dt.timedelta(hours=7, minutes=minutes)))
    assert counts(made)[0] == proofs_suffice
    assert counts(made)[3] == (not proofs_suffice)


def test_validators_are_those_of_the_configuration_in_force(made: Maker) -> None:
    made.begin(validators=())
    made.judged_by()
    made.issue(request=proved())
    assert counts(made) == (1, 0, {}, 0)
    made.judged_by(validators=(OTHER,))
    made.intent(request=proved(request_id=b"s" * 32))
    assert "the signer has no validator" in finding(made)


def test_a_validator_proves_what_it_is_pinned_for(made: Maker) -> None:
    made.begin(validators=(TestValidator(kinds=["attestation", "dns-control"]),))
    made.intent(request=proved())
    assert "for caa-permits" in finding(made)


def test_a_disabled_validator_proves_nothing_until_it_is_enabled_again(made: Maker) -> None:
    made.begin()
    made.order(order.DisableValidator(validator=VALIDATOR.key_id))
    made.order(order.EnableValidator(validator=VALIDATOR.key_id))
    made.issue(request=proved())
    made.order(order.DisableValidator(validator=VALIDATOR.key_id))
    made.intent(request=proved(request_id=b"s" * 32))
    assert "is disabled by an order" in finding(made)


def test_a_blocked_key_and_a_halted_sub_ca_are_found(made: Maker) -> None:
    made.begin()
    made.order(order.BlockKey(key_hash=key_hash(wanted())))
    made.intent(request=proved())
    assert finding(made).endswith("its key was blocked by an order")
    made.order(order.UnblockKey(key_hash=key_hash(wanted())))
    made.order(order.HaltAuthority(authority=made.authority.name))
    made.intent(request=proved(request_id=b"s" * 32))
    assert str(judged(made).findings.kept[-1]).endswith("unassured_2026_2 was halted by an order")


def test_an_order_of_a_later_version_is_passed_over(made: Maker) -> None:
    made.begin()
    made.add(entries.OrderObeyed(sequence=1, order=b"what nobody knows yet"))
    made.issue(request=proved())
    assert counts(made) == (1, 0, {}, 0)


def part_of(made: JournalMaker) -> entries.Requested:
    return entries.decode_part(entries.Requested, made.logs[-1].parts[0])


def retell(made: JournalMaker, part: entries.Requested) -> None:
    """Let the last intent be about this instead, so that every hash and digest is right again."""
    entry = entries.decode_entry(made.logs.pop().entry)
    body = entries.decode_body(entry)
    asked = entries.as_request(part, request_id=body.request_id)
    made.add(dataclasses.replace(body, request_digest=request_digest(asked)), structure.encode(part))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"alt_names": alt_names(f"DNS,{WWW}", "DNS,example.org")}, "alternative names are not those"),
        ({"attributes": attributes(CN=WWW)}, "subject is not the one"),
        ({"key_proof": hostile_requests.certification_request()}, "for another key"),
    ],
)
def test_a_certificate_that_says_something_else_is_found(made: Maker, changes: Any, complaint: str) -> None:
    made.begin()
    made.intent(request=proved())
    retell(made, dataclasses.replace(part_of(made), **changes))
    assert complaint in finding(made)


def test_a_profile_has_its_sub_cas(made: Maker) -> None:
    made.begin()
    made.intent(request=proved())
    retell(made, dataclasses.replace(part_of(made), profile="0008-server-a"))
    assert "0008-server-a is not for unassured_2026_2" in finding(made)


def test_a_profile_that_was_not_there_is_found(made: Maker) -> None:
    made.begin()
    made.judged_by("9004-unproved-server")
    made.intent(request=proved())
    assert "there was no profile '0004-server'" in finding(made)


@pytest.mark.parametrize(("profiles", "complaint"), [((), "is not for it"), (("9004-unproved-server",), "")])
def test_version_1_has_its_own_profiles(made: Maker, profiles: tuple[str, ...], complaint: str) -> None:
    made.begin(version_1_profiles=profiles)
    made.intent(request=server_request(), protocol=1)
    assert complaint in finding(made) if complaint else counts(made) == (0, 1, {}, 0)


def test_version_1_proves_nothing(made: Maker) -> None:
    made.begin(version_1_profiles=(SERVER.name,))
    made.intent(request=proved(), protocol=1)
    assert "carries no proofs" in finding(made)


def responder(made: JournalMaker) -> CertificateRequest:
    request = server_request(
        profile="",
        ocsp_target_ca=made.authority.name,
        account=ACCOUNT,
        request_id=b"o" * 32,
        attributes=attributes(CN="responder"),
        alt_names=(),
    )
    return VALIDATOR.prove(request)


def test_a_responder_has_a_pinned_key(made: Maker) -> None:
    made.begin()
    made.intent(request=responder(made))
    assert "not pinned as that of an OCSP responder" in finding(made)
    made = Maker()
    made.begin(responder_keys=(key_hash(responder(made)).hex(),))
    made.intent(request=responder(made))
    assert counts(made) == (1, 0, {}, 0)


@pytest.mark.parametrize("octets", [b"title = 1\n", b"\xff"])
def test_a_profile_that_nobody_can_read_any_more_is_not_judged_by(made: Maker, octets: bytes) -> None:
    made.begin(texts={f"{SERVER.name}.toml": octets, "0100-ocsp.toml": octets})
    made.issue(request=proved())
    made.issue(request=responder(made))
    assert counts(made) == (0, 0, {judging_module.UNREADABLE_PROFILE: 2}, 0)


def test_a_key_that_is_not_taken_any_more_is_not_judged(made: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    made.begin()
    made.issue(request=proved())

    def stricter(_octets: bytes) -> None:
        raise Refused("too few bits", code="key-weak", field="key")

    monkeypatch.setattr(judging_module, "parse_certification_request", stricter)
    assert counts(made) == (0, 0, {judging_module.STRICTER: 1}, 0)


def test_a_request_that_its_key_has_not_signed_is_found(made: Maker) -> None:
    made.begin()
    made.intent(request=proved())
    part = part_of(made)
    retell(made, dataclasses.replace(part, key_proof=part.key_proof[:-1] + bytes([part.key_proof[-1] ^ 1])))
    assert "is not signed by the key it holds" in finding(made)


def test_what_is_not_here_is_not_judged(made: Maker) -> None:
    made.begin()
    made.issue(request=proved())
    made.drop_part(made.size - 2)
    assert counts(made) == (0, 0, {judging_module.NOT_HERE: 1}, 0)


def test_without_its_configuration_nothing_is_judged(made: Maker) -> None:
    made.begin()
    made.drop_part(2)
    made.issue(request=proved())
    assert counts(made) == (0, 0, {judging_module.NO_RULES: 1}, 0)
    made = Maker()
    JournalMaker.begin(made)  # as before there was a document of validators
    made.issue(request=proved())
    assert counts(made) == (0, 0, {judging_module.NO_RULES: 1}, 0)


def test_a_configuration_that_names_no_hashes_ends_the_replay(made: Maker) -> None:
    made.begin(responder_keys=("xyz",))
    with pytest.raises(Inconsistent, match="entry 2: the configuration names a key by 'xyz'"):
        judged(made)


def test_what_is_written_down_again_was_not_decided_then(made: Maker) -> None:
    made.begin()
    made.new_epoch()
    made.issue(request=wanted())
    assert counts(made) == (0, 0, {judging_module.WRITTEN_AGAIN: 1}, 0)


def test_nothing_is_judged_unasked(made: Maker) -> None:
    made.begin()
    made.new_epoch()
    made.order(order.DisableValidator(validator=VALIDATOR.key_id))
    made.issue(request=wanted())
    replay = Replay()
    for log in made.logs:
        replay.append(log)
    assert replay.judging is None


def test_a_nonce_is_taken_as_it_comes(made: Maker) -> None:
    """The signer knew which ones it had given out; the journal does not say."""
    made.begin()
    made.intent(request=VALIDATOR.prove_all(wanted(), SERVER, nonce=NONCE[::-1] + b"x"))
    assert counts(made) == (1, 0, {}, 0)
