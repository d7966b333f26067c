"""Whether each certificate that a journal intends was to be issued: judged anew, by nothing but the journal itself.

A stranger's judgement of the signer's decisions, as far as the journal shows what they rest on: the certificate says
what was asked for, the request was signed with its key, no order stood in the way, and the proofs sufficed under the
profile and the validators of that time. That an attestation's nonce was fresh is the signer's word; what a profile says
of usages and dates is for the lints of signer and client. Findings are gathered, and end nothing.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Final

from cassiopeia.core import certificate
from cassiopeia.core.authority import Authority
from cassiopeia.core.csr import CertifiedKey, parse_certification_request, parse_spkac
from cassiopeia.core.demands import maximum_age
from cassiopeia.core.evidence import read_attestation, read_observation
from cassiopeia.core.judgement import judge
from cassiopeia.core.profile import Profile
from cassiopeia.core.request import CertificateRequest
from cassiopeia.core.rules import Rules, Standing
from cassiopeia.errors import PeerError, Refused, Unavailable
from cassiopeia.journal import entry as entries
from cassiopeia.journal.documents import JudgedBy, read_judged_by
from cassiopeia.journal.entry import Documents, JournalEntry
from cassiopeia.journal.findings import Findings
from cassiopeia.journal.order import read_order
from cassiopeia.journal.standing import InForce

DECIDED_BEFORE: Final = dt.timedelta(hours=1)
"""How long before its intent a request may have been decided: an entry's time is that of the intent."""

# Why something could not be judged, for people.
NOT_HERE: Final = "their requests are not here"
WRITTEN_AGAIN: Final = "written down again after a loss"
NO_RULES: Final = "the configuration of that time is not here, or too old to be judged by"
UNREADABLE_PROFILE: Final = "this version cannot read their profile"
STRICTER: Final = "this version takes no such keys"


class Judging:
    """Takes the configurations, orders and intents of a journal in their order. `replay` has checked what they are."""

    def __init__(self, find_authority: Callable[[str], Authority | None]) -> None:
        self._find_authority = find_authority
        self._judged_by: JudgedBy | None = None
        self._in_force = InForce()
        self.proved = 0
        self.undemanding = 0
        """Certificates that were in order, of profiles that demand no proofs."""
        self.unjudged: Counter[str] = Counter()
        self.findings = Findings()

    def configuration(self, documents: Documents | None) -> None:
        """Requests are judged by these from here on; None when they are not in this copy."""
        self._judged_by = None if documents is None else read_judged_by(documents)

    def order(self, entry: JournalEntry, body: entries.OrderObeyed) -> None:
        try:
            _, arguments = read_order(body.order)
        except PeerError:
            return  # of a later version: what it restricted is not known here
        self._in_force = self._in_force.after(arguments, at=entry.time)

    def not_decided(self) -> None:
        """An intent was written down again, between an epoch's begin and the signer's start."""
        self.unjudged[WRITTEN_AGAIN] += 1

    def intent(self, entry: JournalEntry, body: entries.Intent, octets: bytes) -> None:
        """Judge the request of an intent; `octets` are its part, empty where that is missing."""
        try:
            outcome = self._judge(entry, body, octets)
        except (PeerError, Refused, Unavailable) as error:
            self.findings.add(entry.index, f"this was not to be issued: {error}")
            return
        if isinstance(outcome, str):
            self.unjudged[outcome] += 1
        elif outcome.evidence:
            self.proved += 1
        else:
            self.undemanding += 1

    def _judge(self, entry: JournalEntry, body: entries.Intent, octets: bytes) -> Profile | str:
        """The profile under which it was rightly issued, or why that cannot be judged; raises for what is wrong."""
        # 1. What there is to judge, and by what.
        authority, by = self._find_authority(body.signing_ca), self._judged_by
        if not octets:
            return NOT_HERE
        if by is None or authority is None:
            return NO_RULES
        part = entries.decode_part(entries.Requested, octets)
        request = entries.as_request(part, request_id=body.request_id)
        profile = _choose_profile(request, by)
        if profile is None:
            return UNREADABLE_PROFILE
        key = _certified_key(request)
        if key is None:
            return STRICTER
        # 2. The certificate says what was asked for, no more, and comes from a sub-CA for it.
        certificate.check_tbs(
            part.tbs_certificate,
            request=request,
            subject_public_key_info=key.subject_public_key_info,
            authority=authority,
        )
        if profile.family not in ("", authority.family):
            raise PeerError(f"{profile.name} is not for {authority.name}")
        # 3. No order stood in the way.
        self._check_orders(key, authority)
        # 4. All was proved.
        if not profile.family and _hash(key) not in by.responder_keys:
            raise PeerError("its key was not pinned as that of an OCSP responder")
        self._check_proofs(entry, body, request, profile=profile, key=key, by=by)
        return profile

    def _check_orders(self, key: CertifiedKey, authority: Authority) -> None:
        if authority.name in self._in_force.halted_authorities:
            raise PeerError(f"{authority.name} was halted by an order")
        if _hash(key) in self._in_force.blocked_keys:
            raise PeerError("its key was blocked by an order")

    def _check_proofs(
        self,
        entry: JournalEntry,
        body: entries.Intent,
        request: CertificateRequest,
        *,
        profile: Profile,
        key: CertifiedKey,
        by: JudgedBy,
    ) -> None:
        if body.protocol == 1:
            if profile.evidence or profile.name not in by.version_1_profiles:
                raise PeerError(f"version 1 of the protocol carries no proofs, and {profile.name} is not for it")
            return
        judge(
            request,
            profile=profile,
            key=key,
            rules=Rules(signer_id=entry.signer_id, profiles={}, authorities=(), validators=by.validators),
            standing=Standing(
                boot_id=body.boot_id,
                nonces=_nonces(request),
                disabled_validators=self._in_force.disabled_validators,
            ),
            now=_decided_at(entry.time, request, profile),
        )


def _choose_profile(request: CertificateRequest, by: JudgedBy) -> Profile | None:
    """The profile of that time, None where this version cannot read it; raises PeerError when there was none."""
    if request.ocsp_target_ca and not request.profile:
        responders = [each for each in by.profiles.values() if each is not None and not each.family]
        return responders[0] if responders else None
    if request.profile not in by.profiles:
        raise PeerError(f"there was no profile {request.profile[:40]!a}")
    return by.profiles[request.profile]


def _certified_key(request: CertificateRequest) -> CertifiedKey | None:
    """The key that the request was signed with; None for one that is not certified any more. Raises Refused."""
    parse = parse_certification_request if request.key_kind == "csr" else parse_spkac
    try:
        return parse(request.key_proof)
    except Refused as refusal:
        if refusal.code.startswith("key-") or refusal.code == "signature-algorithm":
            return None
        raise


def _nonces(request: CertificateRequest) -> tuple[bytes, ...]:
    """Whichever nonce the attestation is under: that it was the newest cannot be seen from here."""
    try:
        return tuple(read_attestation(each).nonce for each in request.proofs[-1:])
    except PeerError:
        return ()  # `judge` says what is wrong with it


def _decided_at(recorded: dt.datetime, request: CertificateRequest, profile: Profile) -> dt.datetime:
    """The latest moment, an hour before the entry at most, at which no observation had lapsed; else that of the entry.

    Work waits: behind other requests, for a worker that has to be replaced.
    """
    try:
        observations = [read_observation(each) for each in request.proofs[:-1]]
        lapses = [each.observed_at + maximum_age(profile, each.kind) for each in observations]
    except (PeerError, KeyError, OverflowError):
        return recorded  # as above
    moment = min([recorded, *lapses])
    return moment if recorded - moment <= DECIDED_BEFORE else recorded


def _hash(key: CertifiedKey) -> bytes:
    return hashlib.sha256(key.subject_public_key_info).digest()
