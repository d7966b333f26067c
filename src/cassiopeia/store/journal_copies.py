"""Copies of the signers' journals: every entry in order, many to a row, and how far each copy goes.

What the client keeps elsewhere anyway is not kept twice: the parts of an intent stand in `signing_log`, a result's
signature in `certificate`. Such a part is left empty here and put back by `logs`. Owns the two tables and that joining;
whether an entry is the right one has been judged before (`journal.chain`). Two clients may copy the same journal: only
the one that is quicker writes, the other hears that it was late.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, and_, delete, insert, or_, select, update

from cassiopeia.core import der, structure
from cassiopeia.errors import InternalError, OperatorError, PeerError
from cassiopeia.journal import entry as entries
from cassiopeia.journal.chain import Link, no_entries
from cassiopeia.journal.entry import JournalEntry, Log
from cassiopeia.store.connection import Database
from cassiopeia.store.dialects import insert_or
from cassiopeia.store.models import certificate, crl, journal_chunk, journal_copy, request, signing_log
from cassiopeia.store.records import serial_text

MAXIMUM_CHUNK: Final = 1_000
"""Entries in one row at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenHead:
    """A signed head (`octets`) that was verified, and what it says of its place."""

    signer_id: int
    epoch: int
    size: int
    octets: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyState:
    """How far a copy goes (`link`), the newest signed head that was seen, and the newest one that it agrees with.

    `head` may be ahead of the copy; `proof` is not, and covers all but what came without a head so far. None: no head
    yet.
    """

    link: Link
    head: SeenHead | None
    proof: SeenHead | None


class JournalCopies:
    def __init__(self, database: Database) -> None:
        self._database = database

    def states(self) -> tuple[CopyState, ...]:
        """Return how far every copy goes, by signer."""
        with self._database.read() as connection:
            rows = connection.execute(select(journal_copy).order_by(journal_copy.c.signer_id)).all()
        return tuple(map(_state, rows))

    def state(self, signer_id: int) -> CopyState:
        """Return how far the copy of this signer's journal goes; it may have no entries yet."""
        with self._database.read() as connection:
            row = connection.execute(select(journal_copy).where(journal_copy.c.signer_id == signer_id)).one_or_none()
        return CopyState(link=no_entries(signer_id), head=None, proof=None) if row is None else _state(row)

    def save_head(self, head: SeenHead, *, now: dt.datetime) -> None:
        """Keep the newest signed head."""
        with self._database.write() as connection:
            put_head(connection, head, now=now)

    def append(
        self,
        before: Link,
        after: Link,
        logs: Sequence[Log],
        *,
        head: SeenHead | None,
        proof: SeenHead | None,
        now: dt.datetime,
    ) -> bool:
        """Add the entries that lead from `before` to `after`; False when the copy does not end at `before` any more.

        `head` is the newest signed head, `proof` one whose root is that of `after`.
        """
        if after.size - before.size != len(logs):
            raise InternalError("entries and places of a copied journal do not agree")
        values: dict[str, Any] = {"link": structure.encode(after), "size": after.size, "seen_at": now}
        if proof is not None:
            values |= {"proof": proof.octets, "proven_link": values["link"]}
        with self._database.write() as connection:
            connection.execute(_beginning(connection, before.signer_id, now=now).on_conflict_do_nothing())
            # The comparison stands in the statement: what another client appends meanwhile is seen by it.
            moved = connection.execute(
                update(journal_copy)
                .where(journal_copy.c.signer_id == before.signer_id, journal_copy.c.link == structure.encode(before))
                .values(values)
                .returning(journal_copy.c.signer_id)
            )
            if moved.first() is None:
                return False
            chunks = [logs[start : start + MAXIMUM_CHUNK] for start in range(0, len(logs), MAXIMUM_CHUNK)]
            first = before.size + 1
            for chunk in chunks:
                connection.execute(
                    insert(journal_chunk).values(
                        signer_id=before.signer_id,
                        first=first,
                        last=first + len(chunk) - 1,
                        entries=b"".join(map(entries.encode_log, chunk)),
                        saved_at=now,
                    )
                )
                first += len(chunk)
            if head is not None:
                put_head(connection, head, now=now)
        return True

    def cut_back(self, signer_id: int, *, now: dt.datetime) -> int:
        """Drop what no signed head has confirmed, because one has contradicted it; return how many entries those were.

        A copy proves to be wrong only when it has caught up with a head; what came until then is in it by that time.
        """
        with self._database.write() as connection:
            statement = select(journal_copy).where(journal_copy.c.signer_id == signer_id).with_for_update()
            row = connection.execute(statement).one_or_none()
            if row is None:
                return 0
            proven = structure.decode(Link, row.proven_link)
            connection.execute(
                delete(journal_chunk).where(journal_chunk.c.signer_id == signer_id, journal_chunk.c.first > proven.size)
            )
            connection.execute(
                update(journal_copy)
                .where(journal_copy.c.signer_id == signer_id)
                .values(link=row.proven_link, size=proven.size, seen_at=now)
            )
            return int(row.size) - proven.size

    def entry(self, signer_id: int, index: int) -> bytes | None:
        """Return the octets of one entry; None where the copy does not go so far."""
        with self._database.read() as connection:
            row = _chunk(connection, signer_id, index)
        return None if row is None else _logs_in(row)[index - row.first].entry

    def stored(self, signer_id: int, index: int) -> tuple[int, list[Log]] | None:
        """Return the row that holds this entry: the index of its first one, and all of them as they are kept.

        Parts that stand in other tables are left empty. None behind the last entry; raises OperatorError when rows are
        missing.
        """
        with self._database.read() as connection:
            row = _chunk(connection, signer_id, index)
        return None if row is None else (row.first, _logs_in(row))

    def saved_logs(self, digests: Collection[bytes]) -> frozenset[bytes]:
        """Which of these logs `signing_log` has, each named by the SHA-256 of all of it."""
        if not digests:
            return frozenset()
        with self._database.read() as connection:
            rows = connection.execute(select(signing_log.c.sha256).where(signing_log.c.sha256.in_(digests)))
            return frozenset(rows.scalars())

    def logs(self, signer_id: int) -> Iterator[Log]:
        """Every entry of the copy in order, with the parts that this store has; one row at a time is in memory.

        The copy may grow meanwhile. Raises OperatorError when rows are missing.
        """
        following = 1
        # Intents that have neither result nor abandonment yet: a result names its intent, not the serial number.
        pending: dict[int, entries.Intent] = {}
        while True:
            with self._database.read() as connection:
                row = _chunk(connection, signer_id, following)
                if row is None:
                    return
                joined = _joined(connection, _logs_in(row), pending)
            yield from joined
            following = row.last + 1


def put_head(connection: Connection, head: SeenHead, *, now: dt.datetime) -> None:
    """Keep the newest signed head, within the caller's transaction."""
    columns = journal_copy.c
    values = {"head": head.octets, "head_epoch": head.epoch, "head_size": head.size, "seen_at": now}
    statement = _beginning(connection, head.signer_id, now=now, **values).on_conflict_do_update(
        index_elements=["signer_id"],
        set_=values,
        where=or_(
            columns.head_epoch < head.epoch, and_(columns.head_epoch == head.epoch, columns.head_size < head.size)
        ),
    )
    connection.execute(statement)


def _beginning(connection: Connection, signer_id: int, *, now: dt.datetime, **changes: Any) -> Any:
    link = structure.encode(no_entries(signer_id))
    values: dict[str, Any] = {"link": link, "size": 0, "head": b"", "head_epoch": 0, "head_size": 0, "seen_at": now}
    values |= {"signer_id": signer_id, "proof": b"", "proven_link": link}
    return insert_or(connection.dialect.name, journal_copy).values(values | changes)


def _state(row: Row[Any]) -> CopyState:
    proven = structure.decode(Link, row.proven_link)
    head, proof = None, None
    if row.head:
        head = SeenHead(signer_id=row.signer_id, epoch=row.head_epoch, size=row.head_size, octets=row.head)
    if row.proof:
        proof = SeenHead(signer_id=row.signer_id, epoch=proven.epoch, size=proven.size, octets=row.proof)
    return CopyState(link=structure.decode(Link, row.link), head=head, proof=proof)


def _chunk(connection: Connection, signer_id: int, index: int) -> Row[Any] | None:
    """Return the row that holds this entry, None behind the last one."""
    columns = journal_chunk.c
    row = connection.execute(
        select(journal_chunk)
        .where(columns.signer_id == signer_id, columns.first <= index)
        .order_by(columns.first.desc())
        .limit(1)
    ).one_or_none()
    if row is not None and row.last >= index:
        return row
    size = connection.execute(select(journal_copy.c.size).where(journal_copy.c.signer_id == signer_id)).scalar()
    if index <= (size or 0):
        raise OperatorError(
            f"the store has lost entries of its copy of the journal of signer {signer_id}, from entry {index} on: "
            "restore the database from a backup"
        )
    return None


def _logs_in(row: Row[Any]) -> list[Log]:
    octets = der.elements(row.entries, at_most=MAXIMUM_CHUNK)
    return [structure.decode(Log, each) for _, each in octets]


def _joined(connection: Connection, logs: Sequence[Log], pending: dict[int, entries.Intent]) -> list[Log]:
    """Put the parts back that stand in other tables."""
    decoded = [structure.decode(JournalEntry, log.entry) for log in logs]
    # 1. What each entry lacks, by the table that may have it.
    requests: set[bytes] = set()
    results: dict[int, entries.Intent] = {}
    crls: set[str] = set()
    for entry, log in zip(decoded, logs, strict=True):
        lacks = not all(log.parts)
        if entry.kind not in _JOINED:
            continue
        body = entries.decode_body(entry)
        if entry.kind == "intent":
            pending[entry.index] = body
            if lacks:
                requests.add(body.request_id)
        elif entry.kind == "crl":
            if lacks:
                crls.add(body.signing_ca)
        else:
            intent = pending.pop(body.intent, None)
            if entry.kind == "result" and lacks and intent is not None:
                results[entry.index] = intent
    # 2. All of it, in one statement a table, by the hash that the entry names.
    parts: dict[bytes, bytes] = {}
    for octets in (
        *_parts_of_intents(connection, requests),
        *_signatures(connection, list(results.values())),
        *_crl_signatures(connection, crls),
    ):
        parts[entries.part_hash(octets)] = octets
    return [_filled(entry, log, parts) for entry, log in zip(decoded, logs, strict=True)]


_JOINED: Final = frozenset({"intent", "result", "abandonment", "crl"})


def _filled(entry: JournalEntry, log: Log, parts: Mapping[bytes, bytes]) -> Log:
    if all(log.parts):
        return log
    found = zip(log.parts, entry.parts, strict=True)
    return replace(log, parts=tuple(octets or parts.get(digest, b"") for octets, digest in found))


def _parts_of_intents(connection: Connection, request_ids: Collection[bytes]) -> Iterator[bytes]:
    if request_ids:
        statement: Select[Any] = (
            select(signing_log.c.entry)
            .join(request, request.c.id == signing_log.c.request_row)
            .where(request.c.request_id.in_([each.hex() for each in request_ids]))
        )
        for octets in connection.execute(statement).scalars():
            try:
                log = structure.decode(Log, octets)
            except PeerError:
                continue  # the log of version 1 is text
            yield from log.parts


def _signatures(connection: Connection, intents: Sequence[entries.Intent]) -> Iterator[bytes]:
    if intents:
        serials = [serial_text(int.from_bytes(each.serial_number, "big")) for each in intents]
        statement = select(certificate.c.der).where(certificate.c.serial_number.in_(serials))
        yield from _signatures_of(connection.execute(statement).scalars())


def _crl_signatures(connection: Connection, authorities: Collection[str]) -> Iterator[bytes]:
    if authorities:
        yield from _signatures_of(
            connection.execute(select(crl.c.der).where(crl.c.authority.in_(authorities))).scalars()
        )


def _signatures_of(signed: Any) -> Iterator[bytes]:
    for octets in signed:
        try:
            _, _, signature = der.split_signed(octets)
        except PeerError:
            continue  # whatever it is, it is not the certificate or CRL that the journal speaks of
        yield signature
