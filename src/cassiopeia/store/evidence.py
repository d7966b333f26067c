"""Evidence: what validators saw, what they vouch for, and which requests wait for that.

An observation is kept until it is forgotten (`forget`), and used again meanwhile. An attestation is for one open
request under one nonce of one signer; it goes when the request's job is done. A request of a profile that demands
evidence stands apart in the queue (`job.unattested`) until a validator has attested it; under a nonce that has run out
the attestation is void, and the request stands apart again (`lapse`). Once a signer has the request's intent in its
journal (`job.signer_id`), no evidence is needed any more, unless the signer asks for it.

Whether a statement is true or suffices is judged elsewhere; the store keeps octets.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)

from cassiopeia.core import structure
from cassiopeia.core.evidence import Observation, read_observation
from cassiopeia.core.request import CertificateRequest
from cassiopeia.errors import PeerError
from cassiopeia.store.connection import Database
from cassiopeia.store.dialects import among, insert_or
from cassiopeia.store.lint_streaks import due_probes, held_profiles, of_profiles
from cassiopeia.store.models import (
    OPEN_JOB,
    UtcTime,
    attestation,
    job,
    observation,
    profile_evidence,
    request,
    validator_status,
)
from cassiopeia.store.records import WAITS, Outcome, Page, check_text, storable
from cassiopeia.store.requests import certificate_request

NONCE_LIFE: Final = dt.timedelta(minutes=10)
"""Under no signer does a nonce hold for longer (wire specification, "Proofs")."""

_LONGEST_TEXT: Final = 8_192
_FACTS_AT_ONCE: Final = 1_000
# No row of ours is dated beyond what there is; one that is must not end whoever reads it.
_EVER: Final = dt.datetime.max.replace(tzinfo=dt.UTC)
_DATED: Final = and_(observation.c.observed_at <= _EVER, observation.c.saved_at <= _EVER)
_ALIKE: Final = 16
# An organisation may have thousands of people, each with an observation of his own; beyond that it is junk.
_OF_A_FACT: Final = 10_000
# An organisation's observation proves parts of what it says, too: all of an account's are looked up together.
_WITHOUT_VALUE: Final = frozenset({"organisation"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """What an observation is about: exactly this value, for this account alone.

    Of the kind `organisation`, every observation of the account is found under any value.
    """

    account: str
    kind: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObservation:
    """An observation, and its octets as its validator (`key_id`, hexadecimal) signed them."""

    number: int
    account: str
    kind: str
    value: str
    method: str
    validator: str
    observed_at: dt.datetime
    saved_at: dt.datetime
    octets: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class UnattestedRequest:
    """A request for a validator to vouch for. `number` names it here; `signer_id`: no other signer may have it.

    `reattested` counts how often in a row the signer has wanted its evidence anew; `difficulty` is what kept it last.
    """

    number: int
    request: CertificateRequest
    signer_id: int | None
    reattested: int
    difficulty: str
    created_at: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredAttestation:
    """What travels with request `number`: signed observations and, last, the attestation under this nonce."""

    number: int
    signer_id: int
    boot_id: bytes
    nonce: bytes
    proofs: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceDelay:
    """Request `number` cannot be vouched for now; `reason` is for its owner, behind "waits for evidence:"."""

    number: int
    reason: str
    delay_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidatorStatus:
    """A validator's last word on itself."""

    name: str
    report: Mapping[str, Any]
    seen_at: dt.datetime


class Evidence:
    def __init__(self, database: Database) -> None:
        self._database = database

    # Observations

    def put_observations(self, octets: Sequence[bytes], *, now: dt.datetime) -> int:
        """Keep signed observations, all or none; return how many were new.

        Raises PeerError for octets that are no observation, Refused for text that no database holds. Their
        signatures are not looked at.
        """
        values = [_observation_values(each, now=now) for each in octets]
        with self._database.write() as connection:
            before = _known(connection, [each["sha256"] for each in values])
            fresh = {each["sha256"]: each for each in values if each["sha256"] not in before}
            if fresh:
                statement = insert_or(connection.dialect.name, observation).on_conflict_do_nothing()
                connection.execute(statement, list(fresh.values()))
        return len(fresh)

    def observations(self, facts: Collection[Fact], *, since: dt.datetime) -> dict[Fact, tuple[StoredObservation, ...]]:
        """Return what was observed of each of these facts since then, the newest first; nothing known: no key.

        Of what one validator saw again and again in one way, the newest `_ALIKE` are enough: whatever else proves the
        same is found beside them, up to the newest `_OF_A_FACT` of all.
        """
        by_hash: dict[bytes, list[Fact]] = {}
        for fact in facts:
            by_hash.setdefault(_fact_hash(fact.account, fact.kind, fact.value), []).append(fact)
        hashes = list(by_hash)
        found: dict[Fact, list[StoredObservation]] = {}
        with self._database.read() as connection:
            for start in range(0, len(hashes), _FACTS_AT_ONCE):
                newest_first = (observation.c.observed_at.desc(), observation.c.id.desc())
                alike = (observation.c.fact, observation.c.value, observation.c.method, observation.c.validator)
                ranked = (
                    select(
                        observation.c.id,
                        func.row_number().over(partition_by=alike, order_by=newest_first).label("place"),
                        func.row_number().over(partition_by=observation.c.fact, order_by=newest_first).label("of_all"),
                    )
                    .where(
                        observation.c.fact.in_(hashes[start : start + _FACTS_AT_ONCE]),
                        observation.c.observed_at >= since,
                    )
                    .subquery()
                )
                statement = (
                    select(observation)
                    .join(ranked, ranked.c.id == observation.c.id)
                    .where(ranked.c.place <= _ALIKE, ranked.c.of_all <= _OF_A_FACT, _DATED)
                    .order_by(*newest_first)
                )
                for row in connection.execute(statement):
                    for fact in by_hash[row.fact]:
                        found.setdefault(fact, []).append(_stored(row))
        return {fact: tuple(rows) for fact, rows in found.items()}

    def page(
        self,
        *,
        account: str | None = None,
        kind: str | None = None,
        value: str | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> Page[StoredObservation]:
        """Return observations, those that were saved last first; `after` is the previous page's `next_page`."""
        statement = select(observation).where(_DATED).order_by(observation.c.id.desc()).limit(limit + 1)
        conditions = {observation.c.account: account, observation.c.kind: kind, observation.c.value: value}
        for column, wanted in conditions.items():
            if wanted is not None:
                statement = statement.where(column == wanted)
        if after is not None:
            statement = statement.where(observation.c.id < after)
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        items = tuple(_stored(row) for row in rows[:limit])
        return Page(items=items, next_page=items[-1].number if len(rows) > limit else None)

    def forget(self, before: dt.datetime) -> int:
        """Delete what was observed before then; return how much it was. What is attested keeps its proofs.

        Of accounts with requests that wait, everything stays: what was proved once is made anew, and what never was is
        refused for good; without the observation, nobody could tell one from the other.
        """
        waiting = select(request.c.account).where(request.c.state == "queued")
        with self._database.write() as connection:
            return connection.execute(
                delete(observation).where(observation.c.observed_at < before, observation.c.account.not_in(waiting))
            ).rowcount

    # What validators vouch for

    def to_attest(
        self, signer_id: int, nonces: Collection[bytes], *, profiles: Collection[str], limit: int, now: dt.datetime
    ) -> tuple[UnattestedRequest, ...]:
        """Return the next requests of these profiles ("" for OCSP responders) that need an attestation, in their order.

        `nonces` are all that hold for this signer: what was attested for it under any other counts as unattested, and
        so does what was attested for another signer longer ago than a nonce can hold. Requests that another signer has
        in its journal are left out, and those of held profiles but for a probe.
        """
        self.lapse(signer_id, nonces, now=now)
        with self._database.read() as connection:
            waiting: Select[Any] = (
                select(request, job.c.signer_id, job.c.reattested, job.c.error)
                .select_from(job.join(request, request.c.id == job.c.request_row))
                .where(
                    OPEN_JOB,
                    job.c.unattested == 1,
                    job.c.state == "queued",
                    job.c.ready_at <= now,
                    or_(job.c.signer_id.is_(None), job.c.signer_id == signer_id),
                )
                .order_by(job.c.priority, job.c.turn, job.c.id)
            )
            held = held_profiles(connection)
            rows: list[Row[Any]] = []
            for probe in sorted({*due_probes(connection, now=now)} & {*profiles}) if held else ():
                rows += connection.execute(waiting.where(request.c.profile == probe).limit(1))
            others = [each for each in profiles if each not in held]
            rows += connection.execute(waiting.where(request.c.profile.in_(others)).limit(limit))
        return tuple(
            UnattestedRequest(
                number=row.id,
                request=certificate_request(row),
                signer_id=row.signer_id,
                reattested=row.reattested,
                difficulty=row.error,
                created_at=row.created_at,
            )
            for row in rows[:limit]
        )

    def attested(self, signer_id: int, nonces: Collection[bytes], *, now: dt.datetime) -> int:
        """How many requests are ready to be leased for this signer: how far ahead of it the validators are."""
        statement = (
            select(func.count())
            .select_from(attestation.join(job, job.c.request_row == attestation.c.request_row))
            .where(
                attestation.c.signer_id == signer_id,
                attestation.c.nonce.in_([each.hex() for each in nonces]),
                job.c.state == "queued",
                job.c.unattested == 0,
                job.c.ready_at <= now,
            )
        )
        with self._database.read() as connection:
            return connection.execute(statement).scalar_one()

    def put_attestations(self, attestations: Sequence[StoredAttestation], *, now: dt.datetime) -> tuple[Outcome, ...]:
        """Let these requests be leased under their nonces.

        NOT_HELD: it does not wait for an attestation (another validator was quicker, or it is done), or belongs to
        another signer.
        """
        with self._database.write() as connection:
            jobs = _lock_requests(connection, [each.number for each in attestations])
            first = {each.number: each for each in reversed(attestations) if _may_attest(jobs.get(each.number), each)}
            if first:
                values = [
                    {
                        "request_row": each.number,
                        "signer_id": each.signer_id,
                        "boot_id": each.boot_id,
                        "nonce": each.nonce.hex(),
                        "made_at": now,
                        "proofs": structure.encode(_Proofs(proofs=each.proofs)),
                    }
                    for each in first.values()
                ]
                insert = insert_or(connection.dialect.name, attestation)
                changed = {name: insert.excluded[name] for name in values[0] if name != "request_row"}
                connection.execute(insert.on_conflict_do_update(index_elements=["request_row"], set_=changed), values)
            for nonce in sorted({each.nonce for each in first.values()}):
                under = [jobs[each.number].id for each in first.values() if each.nonce == nonce]
                connection.execute(_ATTESTED.where(among(connection, job.c.id, under)).values(nonce=nonce.hex()))
        return tuple(
            Outcome.UNKNOWN
            if each.number not in jobs
            else Outcome.RECORDED
            if first.get(each.number) is each
            else Outcome.NOT_HELD
            for each in attestations
        )

    def postpone(self, delays: Sequence[EvidenceDelay], *, now: dt.datetime) -> None:
        """Leave requests alone for a while that cannot be vouched for; those that wait for no evidence stay."""
        with self._database.write() as connection:
            jobs = _lock_requests(connection, [each.number for each in delays])
            changes = [
                {
                    "job_id": jobs[each.number].id,
                    "ready": now + dt.timedelta(seconds=each.delay_s),
                    "reason": storable(WAITS + each.reason),
                }
                for each in delays
                if each.number in jobs and jobs[each.number].state == "queued" and jobs[each.number].unattested
            ]
            if changes:
                connection.execute(_LATER, changes)

    def hurry(self, accounts: Collection[str], *, now: dt.datetime) -> int:
        """Look at once at what these accounts' requests wait for: there is new evidence. Return how many those are."""
        of_accounts = select(request.c.id).where(request.c.account.in_(accounts), request.c.state == "queued")
        with self._database.write() as connection:
            return connection.execute(
                update(job)
                .where(
                    OPEN_JOB,
                    job.c.unattested == 1,
                    job.c.state == "queued",
                    job.c.ready_at > now,
                    job.c.request_row.in_(of_accounts),
                )
                .values(ready_at=now)
            ).rowcount

    def discard(self, numbers: Collection[int], reason: str, *, now: dt.datetime) -> int:
        """Declare the attestations of queued requests void; return how many there were. They are attested anew."""
        with self._database.write() as connection:
            jobs = _lock_requests(connection, numbers)
            void = [number for number, row in jobs.items() if row.state == "queued" and row.nonce is not None]
            if void:
                connection.execute(
                    update(job)
                    .where(among(connection, job.c.request_row, void))
                    .values(unattested=1, ready_at=now, error=storable(WAITS + reason))
                )
        return len(void)

    def lapse(self, signer_id: int, nonces: Collection[bytes], *, now: dt.datetime) -> int:
        """Let queued requests that were attested for this signer under other nonces wait for evidence again.

        The same goes for any signer's that were attested longer ago than a nonce can hold. Return how many it was.
        """
        with self._database.read() as connection:
            # Mostly there is nothing to do, and nobody has to wait for that.
            if connection.execute(_void(signer_id, nonces, now=now).limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            void = list(connection.execute(_void(signer_id, nonces, now=now)).scalars())
            # Who leases one of them in between keeps it.
            queued = [number for number, row in _lock_requests(connection, void).items() if row.state == "queued"]
            connection.execute(
                update(job)
                .where(among(connection, job.c.request_row, queued))
                # It waits for validators from now on, and not since it was queued.
                .values(
                    unattested=1, ready_at=case((job.c.ready_at < now, literal(now, UtcTime)), else_=job.c.ready_at)
                )
            )
        return len(queued)

    # Which profiles it is about

    def demand(self, profiles: Mapping[str, bool], *, now: dt.datetime) -> None:
        """Say which profiles demand evidence ("" for OCSP responders), and bring queued requests in line with that.

        Of profiles that are not named nothing changes. Requests of a profile that demands none any more lose what was
        attested: it would be one thing too many.
        """
        if not profiles:
            return
        rows = [{"profile": name, "demanded": int(each), "updated_at": now} for name, each in profiles.items()]
        with self._database.write() as connection:
            insert = insert_or(connection.dialect.name, profile_evidence)
            changed = {name: insert.excluded[name] for name in ("demanded", "updated_at")}
            connection.execute(insert.on_conflict_do_update(index_elements=["profile"], set_=changed), rows)
            queued = and_(OPEN_JOB, job.c.kind == "sign", job.c.state == "queued")
            demanding = [name for name, each in profiles.items() if each]
            connection.execute(
                update(job)
                .where(
                    queued,
                    job.c.unattested == 0,
                    job.c.nonce.is_(None),
                    job.c.signer_id.is_(None),
                    of_profiles(demanding),
                )
                .values(unattested=1)
            )
            content = [name for name, each in profiles.items() if not each]
            needless = select(job.c.request_row).where(
                queued, or_(job.c.unattested == 1, job.c.nonce.is_not(None)), of_profiles(content)
            )
            drop_attestations(connection, list(connection.execute(needless).scalars()))
            connection.execute(
                update(job)
                .where(queued, or_(job.c.unattested == 1, job.c.nonce.is_not(None)), of_profiles(content))
                .values(unattested=0, nonce=None)
            )

    # Who vouches

    def save_word(self, name: str, report: Mapping[str, Any], *, now: dt.datetime) -> None:
        """Keep a validator's last word on itself (anything that JSON can say): that it runs, and how it fares."""
        values = {"report": msgspec.json.encode(report).decode(), "seen_at": now}
        with self._database.write() as connection:
            statement = insert_or(connection.dialect.name, validator_status).values(name=name, **values)
            connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))

    def validators(self) -> tuple[ValidatorStatus, ...]:
        with self._database.read() as connection:
            rows = connection.execute(select(validator_status).order_by(validator_status.c.name)).all()
        return tuple(
            ValidatorStatus(name=row.name, report=msgspec.json.decode(row.report), seen_at=row.seen_at) for row in rows
        )


def attested_proofs(connection: Connection, request_rows: Collection[int]) -> dict[int, tuple[bytes, ...]]:
    """Map those of these requests that are attested to what travels with them.

    What nobody can read is left out: the signer then wants the request attested anew.
    """
    if not request_rows:
        return {}
    statement: Select[Any] = select(attestation.c.request_row, attestation.c.proofs).where(
        among(connection, attestation.c.request_row, request_rows)
    )
    found = {}
    for row in connection.execute(statement):
        with contextlib.suppress(PeerError):
            found[row.request_row] = structure.decode(_Proofs, row.proofs).proofs
    return found


def drop_attestations(connection: Connection, request_rows: Collection[int]) -> None:
    """Delete what was attested of these requests; whoever calls sees to their jobs."""
    if request_rows:
        connection.execute(delete(attestation).where(among(connection, attestation.c.request_row, request_rows)))


def leasable(nonces: Collection[bytes]) -> ColumnElement[bool]:
    """Return the condition that a job needs no evidence, or has what it needs under one of these nonces.

    A signer that has the request in its journal asks for none. And whoever let a lease run out is found whatever was
    attested.
    """
    return and_(
        job.c.unattested == 0,
        or_(
            job.c.nonce.is_(None),
            job.c.nonce.in_([each.hex() for each in nonces]),
            job.c.signer_id.is_not(None),
            job.c.state == "leased",
        ),
    )


_ATTESTED: Final = update(job).values(
    unattested=0,
    # What it waited for has come; other difficulties stand.
    error=case((job.c.error.startswith(WAITS, autoescape=True), ""), else_=job.c.error),
)
_LATER: Final = (
    update(job)
    .where(job.c.id == bindparam("job_id"))
    .values(ready_at=bindparam("ready", type_=UtcTime), error=bindparam("reason"))
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Proofs:
    """How the proofs of one request stand in their row."""

    proofs: tuple[bytes, ...]


def _fact_hash(account: str, kind: str, value: str) -> bytes:
    known_by = "" if kind in _WITHOUT_VALUE else value
    return hashlib.sha256(msgspec.json.encode((account, kind, known_by))).digest()


def _observation_values(octets: bytes, *, now: dt.datetime) -> dict[str, Any]:
    seen: Observation = read_observation(octets)
    check_text(seen.account, field="account")
    for field, text in (("kind", seen.kind), ("value", seen.value), ("method", seen.method)):
        check_text(text, field=field, limit=_LONGEST_TEXT)
    return {
        "sha256": hashlib.sha256(octets).digest(),
        "fact": _fact_hash(seen.account, seen.kind, seen.value),
        "account": seen.account,
        "kind": seen.kind,
        "value": seen.value,
        "method": seen.method,
        "validator": seen.validator.hex(),
        "observed_at": seen.observed_at,
        "saved_at": now,
        "octets": octets,
    }


def _known(connection: Connection, hashes: Sequence[bytes]) -> set[bytes]:
    known: set[bytes] = set()
    for start in range(0, len(hashes), _FACTS_AT_ONCE):
        part = hashes[start : start + _FACTS_AT_ONCE]
        known.update(connection.execute(select(observation.c.sha256).where(observation.c.sha256.in_(part))).scalars())
    return known


def _stored(row: Row[Any]) -> StoredObservation:
    return StoredObservation(
        number=row.id,
        account=row.account,
        kind=row.kind,
        value=row.value,
        method=row.method,
        validator=row.validator,
        observed_at=row.observed_at,
        saved_at=row.saved_at,
        octets=row.octets,
    )


def _lock_requests(connection: Connection, numbers: Collection[int]) -> dict[int, Row[Any]]:
    """Lock the jobs of these requests for the rest of the transaction, in the order in which everybody does."""
    statement: Select[Any] = (
        select(job.c.id, job.c.request_row, job.c.state, job.c.unattested, job.c.nonce, job.c.signer_id)
        .where(among(connection, job.c.request_row, numbers))
        .order_by(job.c.id)
        .with_for_update()
    )
    return {row.request_row: row for row in connection.execute(statement)}


def _may_attest(row: Row[Any] | None, each: StoredAttestation) -> bool:
    return row is not None and row.state == "queued" and row.unattested == 1 and row.signer_id in {None, each.signer_id}


def _void(signer_id: int, nonces: Collection[bytes], *, now: dt.datetime) -> Select[Any]:
    """Queued requests that were attested for this signer under other nonces, or for any signer too long ago."""
    return (
        select(attestation.c.request_row)
        # From what is attested, which is never much, to its jobs.
        .select_from(attestation.join(job, job.c.request_row == attestation.c.request_row))
        .where(
            or_(
                and_(attestation.c.signer_id == signer_id, attestation.c.nonce.not_in([each.hex() for each in nonces])),
                attestation.c.made_at <= now - NONCE_LIFE,
            ),
            job.c.state == "queued",
            job.c.unattested == 0,
            # A signer that has the request in its journal asks for no evidence.
            job.c.signer_id.is_(None),
        )
    )
