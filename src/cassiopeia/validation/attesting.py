"""Vouching for requests: each is looked at, its proofs are put together, and an attestation is signed over all of it.

Goes by the signer's rules, so that whatever is attested is what the signer will decide by: a request of which a proof
never existed is attested as it is, and refused there with the list; one whose proof has lapsed waits, with the reason
for its owner, and so does one that ends whatever looks at it. Nothing is attested that does not wait in the queue, and
no more than is soon asked for.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cassiopeia.config import ValidatorConfig, load_profiles
from cassiopeia.core import ed25519, evidence
from cassiopeia.core.demands import Demand, candidates, demands
from cassiopeia.core.evidence import ATTESTATION, AttestedRequest, Observation
from cassiopeia.core.profile import Profile
from cassiopeia.core.request import CertificateRequest, request_digest
from cassiopeia.errors import OperatorError, PeerError, Refused
from cassiopeia.store.database import Store
from cassiopeia.store.evidence import EvidenceDelay, Fact, StoredAttestation, StoredObservation, UnattestedRequest
from cassiopeia.store.records import Outcome
from cassiopeia.validation.choice import Choice, Held, Lapsed, choose, read_held, shown
from cassiopeia.validation.key import load_validator_key
from cassiopeia.validation.look_worker import Look
from cassiopeia.validation.looking import Looker
from cassiopeia.validation.words import Word, Words

_log = logging.getLogger(__name__)

AT_ONCE: Final = 200
"""Requests in one turn: some tenths of a second."""
# Before the first validator there was nothing to see.
_EVER: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_NO_KEY: Final = hashlib.sha256().digest()
_AGAIN_AT_ONCE: Final = 2
_BY_HAND: Final = ("somebody who is believed has to state it", 60.0)
# It has cost two processes, and those that wait behind it up to two time limits: less and less often, then.
_AFTER_FATAL_S: Final = (60.0, 600.0, 3_600.0, 21_600.0, 86_400.0)
_REMEMBERED: Final = 10_000

_FATAL: Final = (
    "looking at its key has ended two processes of the validator; make a new certification request with other "
    "software, and tell the operators: the validator's log has it"
)
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

LookAgain = Callable[[Held], tuple[str, float]]
"""Have something looked at again: says how that stands, and for how many seconds nothing will come of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attested:
    """A request that was just attested, with what it was attested with."""

    request_id: bytes
    signer_id: int
    chosen: tuple[Observation, ...]


class Attester:
    """One validator's word on requests. `attested` counts them."""

    def __init__(
        self,
        *,
        config: ValidatorConfig,
        store: Store,
        key: Ed25519PrivateKey,
        profiles: Mapping[str, Profile],
        looker: Looker,
    ) -> None:
        self._config = config
        self._store = store
        self._key = key
        self._looker = looker
        # As the store names them: requests for OCSP responders name no profile.
        self._profiles = {each.name if each.family else "": each for each in profiles.values() if each.evidence}
        self._keys = {evidence.key_id(each): each for each in (ed25519.public_octets(key), *config.peers)}
        self._words = Words(store, config.journal_keys)
        self._margin = dt.timedelta(minutes=config.margin_minutes)
        self._key_id = evidence.key_id(ed25519.public_octets(key))
        self._fatal: dict[bytes, int] = {}
        self._unreadable: dict[tuple[int, bytes], None] = {}
        self.attested = 0

    @classmethod
    def of(cls, config: ValidatorConfig, store: Store) -> Self:
        """With everything that validator.toml names; raises OperatorError."""
        if ATTESTATION not in config.kinds:
            raise OperatorError(f"{config.source}: this validator's key signs no {ATTESTATION}; see validator.kinds")
        return cls(
            config=config,
            store=store,
            key=load_validator_key(config.key),
            profiles=load_profiles(config.profiles),
            looker=Looker(),
        )

    def close(self) -> None:
        self._looker.close()

    def live(self, now: dt.datetime) -> tuple[Word, ...]:
        """The signers for which requests can be attested now."""
        return self._words.live(now)

    def doubt(self, word: Word) -> str:
        """Why this signer takes no attestation of ours, as the end of a sentence; empty when it does."""
        return word.doubt(self._key_id, ATTESTATION)

    def turn(self, word: Word, *, now: dt.datetime, look_again: LookAgain) -> int:
        """Attest the next requests for this signer; return how many were looked at. Raises Unavailable."""
        if self.doubt(word) or not word.issues:
            return 0
        nonces = word.nonces
        room = self._config.ahead - self._store.evidence.attested(word.signer_id, nonces, now=now)
        if room <= 0:
            return 0
        waiting = self._store.evidence.to_attest(
            word.signer_id, nonces, profiles=self._profiles, limit=min(room, AT_ONCE), now=now
        )
        if not waiting:
            return 0
        looks = self._looker.look([each.request for each in waiting])
        held = self._held(waiting)
        attested: list[tuple[UnattestedRequest, AttestedRequest, tuple[Held, ...]]] = []
        delays: list[EvidenceDelay] = []
        for each, look in zip(waiting, looks, strict=True):
            choice = self._choose(each.request, held, word=word, now=now)
            delay = self._after_fatal(each) if look.is_fatal else self._delay(each, choice, look_again)
            if delay is not None:
                delays.append(delay)
                continue
            self._say(each.request, choice, look)
            # What the signer sends back again and again has something about it that only it can see.
            doubtful = choice.chosen if each.reattested >= _AGAIN_AT_ONCE else ()
            for held_once in dict.fromkeys((*choice.lapsing, *doubtful)):
                look_again(held_once)
            attested.append((each, _attested_request(each.request, look, choice.chosen), choice.chosen))
        self._store.evidence.postpone(delays, now=now)
        self._put(attested, word=word, now=now)
        return len(waiting)

    def attest_one(self, request_id: str, *, incomplete: bool, now: dt.datetime) -> Attested:
        """Attest the request whose id begins so; raises OperatorError or Refused when that cannot be, or is no use."""
        # 1. The request, and a signer to attest it for.
        record = self._store.requests.look_up(request_id)
        request = record.request
        short = request.request_id.hex()[:12]
        if record.state != "queued":
            raise OperatorError(f"request {short} is {record.state}: there is nothing to attest")
        profile = self._profiles.get(request.profile)
        if profile is None:
            raise OperatorError(
                f"request {short}: the profile {request.profile!a} demands no evidence, or {self._config.profiles} "
                "has not got it"
            )
        words = self.live(now)
        if not words:
            raise OperatorError(
                "no signer was heard in the last five minutes: is `cassiopeia client run` running, does the line "
                "stand, and is the clock right, here and there?"
            )
        word = next((each for each in words if not self.doubt(each)), words[0])
        if doubt := self.doubt(word):
            raise OperatorError(f"request {short} is not attested: whatever this validator says {doubt}")
        # 2. What is proved of it, and what is not.
        [look] = self._looker.look([request])
        if look.is_fatal:
            raise OperatorError(f"request {short} is not attested: {_FATAL}")
        waiting = UnattestedRequest(
            number=record.number, request=request, signer_id=None, reattested=0,
            difficulty="", created_at=record.created_at,
        )  # fmt: skip
        choice = self._choose(request, self._held([waiting]), word=word, now=now)
        if choice.lapsed and not choice.missing:
            reasons = "; ".join(_lapsed(each) for each in choice.lapsed)
            raise OperatorError(
                f"request {short} is not attested: {reasons}; state it anew: cassiopeia validator observe"
            )
        if choice.missing and not incomplete:
            raise OperatorError(
                f"request {short} is not attested: for the account {request.account!a} was never seen "
                f"{_listed(choice.missing)}; state what you have seen (cassiopeia validator observe), or let the "
                "signer refuse it (--incomplete)"
            )
        # 3. The attestation.
        entry = (waiting, _attested_request(request, look, choice.chosen), choice.chosen)
        if self._put([entry], word=word, now=now) != 1:
            raise OperatorError(f"request {short} waits for no attestation: it has one, or the client has it in hand")
        return Attested(
            request_id=request.request_id,
            signer_id=word.signer_id,
            chosen=tuple(each.observation for each in choice.chosen),
        )

    def _put(
        self,
        attested: Sequence[tuple[UnattestedRequest, AttestedRequest, tuple[Held, ...]]],
        *,
        word: Word,
        now: dt.datetime,
    ) -> int:
        """Sign, a few requests under each signature, and keep that; return how many still waited for it."""
        made = []
        for start in range(0, len(attested), self._config.batch):
            batch = attested[start : start + self._config.batch]
            octets = evidence.attest(
                [statement for _, statement, _ in batch],
                self._key,
                signer_id=word.signer_id,
                boot_id=word.boot_id,
                nonce=word.nonce,
            )
            made += [
                StoredAttestation(
                    number=waiting.number,
                    signer_id=word.signer_id,
                    boot_id=word.boot_id,
                    nonce=word.nonce,
                    proofs=(*(held.octets for held in chosen), attestation),
                )
                for (waiting, _, chosen), attestation in zip(batch, octets, strict=True)
            ]
        if not made:
            return 0
        outcomes = self._store.evidence.put_attestations(made, now=now)
        recorded = sum(each is Outcome.RECORDED for each in outcomes)
        self.attested += recorded
        if recorded:
            what = "request" if recorded == 1 else "requests"
            _log.info("%d %s attested for signer %d", recorded, what, word.signer_id)
        return recorded

    def _held(self, waiting: Iterable[UnattestedRequest]) -> dict[Fact, tuple[Held, ...]]:
        """What the store has for all that these requests may need."""
        facts = {
            fact
            for each in waiting
            for demand in self._demands(each.request)
            for fact in _facts(demand, each.request, self._profiles[each.request.profile])
        }
        stored = self._store.evidence.observations(facts, since=_EVER)
        return {fact: tuple(self._read(rows)) for fact, rows in stored.items()}

    def _read(self, rows: Iterable[StoredObservation]) -> Iterator[Held]:
        """By what the octets say, whatever the other columns of a row have come to be."""
        for each in rows:
            try:
                yield read_held(each.octets, self._keys)
            except PeerError as error:
                self._note_unreadable(each, error)

    def _note_unreadable(self, row: StoredObservation, error: PeerError) -> None:
        """Say so once for each row, and for what stands in it."""
        known_by = (row.number, hashlib.sha256(row.octets).digest())
        if known_by not in self._unreadable:
            _remember(self._unreadable, known_by, None)
            _log.error("observation %d in the store is none, and is left out: %s", row.number, error)

    def _choose(
        self, request: CertificateRequest, held: Mapping[Fact, tuple[Held, ...]], *, word: Word, now: dt.datetime
    ) -> Choice:
        profile = self._profiles[request.profile]
        demanded = self._demands(request)
        facts = dict.fromkeys(fact for demand in demanded for fact in _facts(demand, request, profile))
        return choose(
            demanded,
            [_doubted(each, word) for fact in facts for each in held.get(fact, ())],
            account=request.account,
            profile=profile,
            now=now + word.ahead,
            margin=self._margin,
        )

    def _demands(self, request: CertificateRequest) -> tuple[Demand, ...]:
        """None for a request that the signer refuses in any case."""
        profile = self._profiles[request.profile]
        if len(request.alt_names) > profile.maximum_alt_names:
            return ()
        try:
            return demands(profile, request)
        except Refused:
            return ()

    def _delay(self, waiting: UnattestedRequest, choice: Choice, look_again: LookAgain) -> EvidenceDelay | None:
        """Why, and for how long, a request cannot be attested; None when it can."""
        if choice.missing:
            return None  # what else has lapsed makes no difference
        if choice.lapsed:
            answers = [(each, *(_BY_HAND if each.held.doubt else look_again(each.held))) for each in choice.lapsed]
            reason = "; ".join(f"{_lapsed(each)}, and {how}" for each, how, _ in answers)
            delay_s = min(delay_s for _, _, delay_s in answers)
            _log.info("request %s waits: %s", waiting.request.request_id.hex()[:8], reason)
            return EvidenceDelay(number=waiting.number, reason=reason, delay_s=delay_s)
        return None

    def _after_fatal(self, waiting: UnattestedRequest) -> EvidenceDelay:
        """A request whose key nobody knows is vouched for by nobody; it is looked at again, less and less often."""
        known_by = waiting.request.request_id
        looks = self._fatal.pop(known_by, 0)
        _remember(self._fatal, known_by, looks + 1)
        delay_s = _AFTER_FATAL_S[min(looks, len(_AFTER_FATAL_S) - 1)]
        _log.error("request %s waits for %.0f minutes: %s", known_by.hex()[:8], delay_s / 60, _FATAL)
        return EvidenceDelay(number=waiting.number, reason=_FATAL, delay_s=delay_s)

    def _say(self, request: CertificateRequest, choice: Choice, look: Look) -> None:
        request_id = request.request_id.hex()[:8]
        if look.reason:
            _log.info("request %s is left to the signer to refuse: %s", request_id, look.reason)
        if choice.missing:
            _log.info(
                "request %s is left to the signer to refuse: for the account %a was never seen %s",
                request_id,
                request.account,
                _listed(choice.missing),
            )
        for each in choice.chosen:
            seen = each.observation
            _log.debug("request %s: %s %s, by %s", request_id, seen.kind, shown(seen.value), seen.method)


def _remember(known: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Forget what came first rather than grow without end."""
    known[key] = value
    if len(known) > _REMEMBERED:
        del known[next(iter(known))]


def _doubted(held: Held, word: Word) -> Held:
    """The same as this signer sees it."""
    seen = held.observation
    return held if held.doubt else replace(held, doubt=word.doubt(seen.validator, seen.kind))


def _facts(demand: Demand, request: CertificateRequest, profile: Profile) -> list[Fact]:
    """Under what the store has that which may cover the demand."""
    values = candidates(demand, profile) or ("",)
    facts = [Fact(account=request.account, kind=demand.kind, value=value) for value in values]
    return facts if demand.otherwise is None else [*facts, *_facts(demand.otherwise, request, profile)]


def _attested_request(request: CertificateRequest, look: Look, chosen: Sequence[Held]) -> AttestedRequest:
    return AttestedRequest(
        request_id=request.request_id,
        # Of what was looked at, and not as the database has it: that could be another request's.
        request_digest=request_digest(request),
        # Of a request without a key that can be certified, the signer looks at nothing else.
        key_hash=look.key_hash or _NO_KEY,
        account=request.account,
        observations=tuple(evidence.observation_hash(each.octets) for each in chosen),
    )


def _listed(missing: Iterable[Demand]) -> str:
    return ", ".join(f"{each.kind} for {shown(each.name)}" for each in missing)


def _lapsed(lapsed: Lapsed) -> str:
    seen = lapsed.held.observation
    return f"the proof {seen.kind} for {shown(lapsed.demand.name)} {lapsed.reason}"
