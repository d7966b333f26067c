"""Exports that a signer's journal is made again from, and what came of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from tests.support.journal_maker import JournalMaker, journal_key

from cassiopeia.config import SignerConfig
from cassiopeia.core import certificate, ed25519
from cassiopeia.journal import entry as entries
from cassiopeia.journal.replay import Replay
from cassiopeia.journal.transcript import End, Header, Item, SavedLog
from cassiopeia.signer.journal import Journal
from cassiopeia.signer.journal_file import FILE_NAME
from cassiopeia.signer.journal_reader import read_journal
from cassiopeia.signer.rebuild import Rebuilt, rebuild

PUBLIC_KEYS = [ed25519.public_octets(journal_key(number)) for number in range(4)]


def saved(made: JournalMaker, intent: int, *, signed: bool = False) -> SavedLog:
    """The log of this intent as the client has it, and the signature of the certificate if it is `signed`."""
    signature = certificate.split_certificate(made.certificates[intent])[2] if signed else b""
    return SavedLog(log=entries.encode_log(made.logs[intent - 1]), signature=signature)


def export(made: JournalMaker, *beside: Item, copied: int | None = None, end: End | None = None) -> Iterator[Item]:
    """As the client's: its copy ends after `copied` entries, and it knows the newest head."""
    size = made.size if copied is None else copied
    yield Header(signer_id=made.signer_id, keys=())
    yield from made.logs[:size]
    yield from beside
    yield end or End(head=made.signed_head(size), newest=made.signed_head())


def make(config: SignerConfig, items: Iterator[Item], *, later: dt.timedelta = dt.timedelta(days=30)) -> Rebuilt:
    return rebuild(config, items, trusted=[], now=JournalMaker().now + later, replace=False)


def replayed(config: SignerConfig) -> Replay:
    replay = Replay()
    for log in read_journal(config.state / FILE_NAME):
        replay.append(log)
    replay.finish(complete=True)
    return replay


def opened(config: SignerConfig, key: int = 1) -> Journal:
    return Journal(config.state, signer_id=1, key=journal_key(key))
