"""A journal that is copied entry by entry: what has to be kept of it to judge the next entry, and the next head.

Entries travel without the hash of the entry before them, so each is put together with the hash of the last one: a
journal that is not the one that was copied so far shows when a signed head is compared with the root. Knows nothing of
what entries say, but for journal keys and epochs: those decide who may sign heads.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from cassiopeia.core import ed25519, merkle, structure
from cassiopeia.errors import Inconsistent, PeerError, SignatureInvalid
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.entry import JournalEntry, Log


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """Where a journal stands behind its entry `size`.

    `last_hash` is the hash of that entry, `frontier` that of the tree over all (`merkle.Frontier.encode`), `keys` are
    the journal keys that its entries named, the newest last (DER SubjectPublicKeyInfo).
    """

    signer_id: int
    epoch: int
    size: int
    last_hash: bytes
    frontier: bytes
    keys: tuple[bytes, ...]

    def root(self) -> bytes:
        """RFC 9162 2.1.1: the root over all entries."""
        return merkle.Frontier.decode(self.size, self.frontier).root()

    def head_keys(self, pinned: Collection[bytes]) -> tuple[bytes, ...]:
        """The keys whose heads of this size or more are believed, where `pinned` are believed in any case.

        The newest key counts when a pinned one stands before it, for each is vouched for by the one before; a key that
        another has followed counts no more.
        """
        newest = self.keys[-1:] if any(key in pinned for key in self.keys) else ()
        return (*newest, *(key for key in pinned if key not in self.keys))


def no_entries(signer_id: int) -> Link:
    """Where every journal begins."""
    return Link(signer_id=signer_id, epoch=1, size=0, last_hash=entries.NO_ENTRY, frontier=b"", keys=())


class Chain:
    """Grows from a `Link`, one entry after the other; raises Inconsistent for one that cannot be the next."""

    def __init__(self, link: Link, pinned: Collection[bytes]) -> None:
        self._link = link
        self._pinned = pinned
        self._frontier = merkle.Frontier.decode(link.size, link.frontier)
        self.size = link.size
        self.last_hash = link.last_hash
        self._epoch = link.epoch
        self._keys = link.keys

    def link(self) -> Link:
        """Where the chain stands now."""
        return replace(
            self._link,
            epoch=self._epoch,
            size=self.size,
            last_hash=self.last_hash,
            frontier=self._frontier.encode(),
            keys=self._keys,
        )

    def complete(self, copied: Log) -> tuple[JournalEntry, Log]:
        """The next entry with the hash of the one before it put in; nothing is appended yet."""
        try:
            octets = entries.put_previous(copied.entry, self.last_hash)
            return structure.decode(JournalEntry, octets), Log(entry=octets, parts=copied.parts)
        except PeerError as error:
            raise Inconsistent(self.size + 1, str(error)) from error

    def append(self, entry: JournalEntry, log: Log) -> None:
        """Take the next entry, whose octets are `log.entry`."""
        index = self.size + 1
        try:
            self._check_place(entry, index)
            entries.check_parts(entry, log.parts)
            self._take_key(entry)
        except PeerError as error:
            raise Inconsistent(index, str(error)) from error
        self.last_hash = merkle.leaf_hash(log.entry)
        self._frontier.append(self.last_hash)
        self.size = index

    def _check_place(self, entry: JournalEntry, index: int) -> None:
        # Kinds that are not known here are copied all the same: later releases may read them.
        if entry.version != entries.VERSION:
            raise PeerError(f"journal entries of version {entry.version} are not known here")
        if entry.index != index:
            raise PeerError(f"this entry says that it is entry {entry.index}")
        if entry.signer_id != self._link.signer_id:
            raise PeerError(f"this is an entry of signer {entry.signer_id}, not {self._link.signer_id}")
        if entry.previous_hash != self.last_hash:
            raise PeerError("it does not follow the entry before it")
        if index == 1 and entry.kind != "key":
            raise PeerError("the first entry is not a journal key")
        entries.check_epoch(entry, self._epoch)

    def _take_key(self, entry: JournalEntry) -> None:
        if entry.kind == "key":
            self._follow_key(entry, structure.decode(entries.Key, entry.body))
        elif entry.kind == "epoch":
            self._open_epoch(entry, structure.decode(entries.Epoch, entry.body))

    def _follow_key(self, entry: JournalEntry, body: entries.Key) -> None:
        statement = entries.key_statement(
            signer_id=entry.signer_id,
            index=entry.index,
            previous_hash=entry.previous_hash,
            public_key=body.public_key,
        )
        before = self._keys[-1] if self._keys else body.public_key
        try:
            ed25519.verify(before, body.signature, heads.KEY_TAG + statement)
        except SignatureInvalid as error:
            raise PeerError("the new journal key is not signed by the one before it") from error
        self._keys = (*(key for key in self._keys if key != body.public_key), body.public_key)

    def _open_epoch(self, entry: JournalEntry, body: entries.Epoch) -> None:
        if body.number != entry.epoch:
            raise PeerError(f"it opens epoch {body.number}, not {entry.epoch}")
        if body.public_key not in (*self._pinned, *self.link().head_keys(self._pinned)):
            raise PeerError(
                f"epoch {body.number} is signed with a journal key that is not known here: if operators have made the "
                "signer anew, put the public half of its journal.key into [journal] keys"
            )
        self._epoch = body.number
        self._keys = (*(key for key in self._keys if key != body.public_key), body.public_key)
