"""From the octets of an OCSP request to those of the answer.

Owns when something may be said at all: `good` needs a journal entry that says the certificate exists, and a CRL that is
in force and does not list it. Whatever is not known well enough is not said (`tryLater`). Who signs is `responder`'s
part.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cassiopeia.core import ocsp
from cassiopeia.core.authority import Authority
from cassiopeia.core.certificate import split_certificate
from cassiopeia.core.key_identity import certified_key_info
from cassiopeia.core.ocsp import CertId, ErrorStatus, SingleResponse
from cassiopeia.errors import PeerError, Unavailable
from cassiopeia.publisher.key import ResponderKey, public_info, sign
from cassiopeia.publisher.known import KnownCertificates

# A certificate may be asked about before its journal entry has been copied here: nobody shall keep that answer.
_UNKNOWN_HOLDS: Final = dt.timedelta(minutes=1)
# Clocks differ a little; a CRL from the future is none.
_AHEAD_AT_MOST: Final = dt.timedelta(minutes=5)
_KEPT_ANSWERS: Final = 4096
# Nobody may call a certificate good who has not looked for so long whether it was revoked.
BLIND_S: Final = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """DER of an OCSPResponse. `this_update` and `next_update` are None where it must not be kept by anybody."""

    octets: bytes
    this_update: dt.datetime | None = None
    next_update: dt.datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Delegation:
    """A responder's certificate (DER) under one sub-CA, and when it ends."""

    certificate: bytes
    not_before: dt.datetime
    not_after: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """One sub-CA: what is known of its certificates, and who may speak for it (None: nobody yet).

    `is_whole` says whether the journal of its signer was read to its end.
    """

    authority: Authority
    known: KnownCertificates
    delegation: Delegation | None
    is_whole: bool


class Answerer:
    """Signs with one key. `holds` is how long an answer may be kept at most; `clock` counts seconds."""

    def __init__(self, key: ResponderKey, *, holds: dt.timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = key
        self._responder = ocsp.responder_id(public_info(key))
        self._holds = holds
        self._clock = clock
        self._looked_at = clock()
        self._served: Mapping[ocsp.IssuerId, Served] = {}
        # Answers without a nonce by what was asked: what they rest on, when they were made, until when they are given.
        self._kept: dict[tuple[bytes, ...], tuple[tuple[object, ...], dt.datetime, dt.datetime, Answer]] = {}

    def serve(self, served: Sequence[Served]) -> None:
        """From now on answer for these sub-CAs, and no others."""
        self._served = {issuer: each for each in served for issuer in _issuer_ids(each.authority)}

    def looked(self) -> None:
        """Somebody has just looked into the store for what is new.

        Asked for here, and not by whoever looks: a database that never answers keeps that one waiting.
        """
        self._looked_at = self._clock()

    @property
    def is_blind(self) -> bool:
        """Whether nobody has looked for an hour: then nothing is said."""
        return self._clock() - self._looked_at > BLIND_S

    def answer(self, octets: bytes, *, now: dt.datetime) -> Answer:
        """Whatever the octets are, there is an answer to them."""
        now = now.replace(microsecond=0)
        try:
            request = ocsp.read_request(octets)
        except PeerError:
            return _without(ErrorStatus.MALFORMED_REQUEST)
        # One answer has one signer, who speaks for one sub-CA (RFC 6960 4.2.2.2).
        found = [self._served.get(each.issuer) for each in request.cert_ids]
        served = found[0]
        if served is None or any(each is None or each.authority != served.authority for each in found):
            return _without(ErrorStatus.UNAUTHORIZED)
        if self.is_blind:
            return _without(ErrorStatus.TRY_LATER)
        try:
            if request.nonce:
                return self._sign(served, request.cert_ids, request.nonce, now=now)
            return self._kept_or_signed(served, request.cert_ids, now=now)
        except Unavailable:
            return _without(ErrorStatus.TRY_LATER)

    def _kept_or_signed(self, served: Served, cert_ids: Sequence[CertId], *, now: dt.datetime) -> Answer:
        asked = tuple(each.octets for each in cert_ids)
        state = (served.known.changes, served.delegation, served.is_whole)
        kept = self._kept.get(asked)
        if kept is not None and kept[0] == state and kept[1] <= now < kept[2]:
            return kept[3]
        answer = self._sign(served, cert_ids, b"", now=now)
        if answer.next_update is not None:
            self._kept.pop(asked, None)
            self._kept[asked] = state, now, now + (answer.next_update - now) / 2, answer
            if len(self._kept) > _KEPT_ANSWERS:
                del self._kept[next(iter(self._kept))]
        return answer

    def _sign(self, served: Served, cert_ids: Sequence[CertId], nonce: bytes, *, now: dt.datetime) -> Answer:
        delegation = served.delegation
        if delegation is None or not delegation.not_before <= now <= delegation.not_after:
            raise Unavailable("nobody may speak for this sub-CA now", code="responder")
        responses = [_look_up(served, each, holds=self._holds, now=now) for each in cert_ids]
        tbs = ocsp.assemble_tbs_response(responder=self._responder, produced_at=now, responses=responses, nonce=nonce)
        algorithm, signature = sign(self._key, tbs)
        octets = ocsp.compose_response(
            tbs, algorithm=algorithm, signature=signature, certificates=[delegation.certificate]
        )
        if nonce or any(each.status == ocsp.UNKNOWN for each in responses):
            return Answer(octets=octets)
        return Answer(
            octets=octets,
            this_update=max(each.this_update for each in responses),
            next_update=min(each.next_update for each in responses),
        )


def _look_up(served: Served, cert_id: CertId, *, holds: dt.timedelta, now: dt.datetime) -> SingleResponse:
    """What is said of one certificate; raises Unavailable where nothing may be."""
    known, delegation = served.known, served.delegation
    crl = known.crl
    # 1. Nothing is said by what is out of date.
    if crl is None or not crl.this_update - _AHEAD_AT_MOST <= now < crl.next_update:
        raise Unavailable("there is no CRL in force", code="crl")
    # 2. Revoked is revoked, whatever the journal says.
    next_update = min(now + holds, crl.next_update, *([delegation.not_after] if delegation else []))
    revocation = known.revocation(cert_id.serial_number)
    this_update = crl.this_update
    if revocation is not None:
        status = ocsp.revoked(*revocation)
        this_update = max(this_update, revocation[0])
    # 3. Good is what exists.
    elif known.was_issued(cert_id.serial_number):
        status = ocsp.GOOD
    # 4. What the journal does not know does not exist, if all of it was read.
    elif served.is_whole:
        status, next_update = ocsp.UNKNOWN, min(next_update, now + _UNKNOWN_HOLDS)
    else:
        raise Unavailable("the journal is not here to its end", code="journal")
    return SingleResponse(cert_id=cert_id, status=status, this_update=min(this_update, now), next_update=next_update)


def _issuer_ids(authority: Authority) -> tuple[ocsp.IssuerId, ...]:
    key = certified_key_info(split_certificate(authority.certificate)[0])
    return ocsp.issuer_ids(authority.subject, key)


def _without(status: ErrorStatus) -> Answer:
    return Answer(octets=ocsp.error_response(status))
