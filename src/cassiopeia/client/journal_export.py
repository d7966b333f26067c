"""The client's copy of a signer's journal, as `cassiopeia journal` reads it and as a lost journal is made from it.

Beside the entries there is what the copy may lack, because a signer can be lost between two turns of copying: logs
that were saved, with the signatures of their certificates, and the newest CRLs. Owns no table and no format.
"""

from __future__ import annotations

from collections.abc import Iterator

from cassiopeia.core import certificate, crl
from cassiopeia.core.authority import Authority
from cassiopeia.errors import OperatorError, PeerError
from cassiopeia.journal import entry as entries
from cassiopeia.journal.entry import Log
from cassiopeia.journal.readable import serial_text
from cassiopeia.journal.replay import Replay
from cassiopeia.journal.transcript import End, Header, Item, SavedCrl, SavedLog
from cassiopeia.store.database import Store
from cassiopeia.store.journal_copies import CopyState
from cassiopeia.store.saved_logs import saved_logs


def choose_copy(store: Store, signer_id: int | None) -> CopyState:
    """The copy of this signer's journal, or of the only signer there is; raises OperatorError."""
    states = [each for each in store.journal_copies.states() if each.link.size]
    if signer_id is not None:
        states = [each for each in states if each.link.signer_id == signer_id]
    if not states:
        whose = "of any signer's journal" if signer_id is None else f"of the journal of signer {signer_id}"
        raise OperatorError(f"the store has no copy {whose} yet: the client copies it while it runs (version 2)")
    if len(states) > 1:
        numbers = ", ".join(str(each.link.signer_id) for each in states)
        raise OperatorError(f"the store has copies of the journals of the signers {numbers}: choose one with --signer")
    return states[0]


def export(store: Store, state: CopyState, replay: Replay) -> Iterator[Item]:
    """Everything that the store holds of this journal, each entry after `replay` has taken it.

    Raises Inconsistent where the copy contradicts itself.
    """
    signer_id = state.link.signer_id
    yield Header(signer_id=signer_id, keys=state.link.keys)
    for log in store.journal_copies.logs(signer_id):
        replay.append(log)
        yield log
    yield from saved_beside(store, replay)
    yield from crls_beside(store, replay)
    proof = state.proof.octets if state.proof else b""
    newest = state.head.octets if state.head else b""
    yield End(head=proof, newest=b"" if newest == proof else newest)


def saved_beside(store: Store, replay: Replay) -> Iterator[SavedLog]:
    """Logs whose intent the journal does not have, or has without an end, with the signature of their certificate."""
    for octets in saved_logs(store.database, replay.signer_id):
        try:
            body = _intent(octets)
        except PeerError:
            continue  # the log of version 1 is text
        issuance = replay.certificates.find_serial(body.serial_number)
        if issuance is None or issuance.state in {"open", "confirmed"}:
            yield SavedLog(log=octets, signature=_signature(store, body))


def crls_beside(store: Store, replay: Replay) -> Iterator[SavedCrl]:
    """The store's CRL of each sub-CA of this signer."""
    for header in store.crls.headers():
        authority = replay.authorities.get(header.authority)
        record = store.crls.get(header.authority)
        if authority is not None and record is not None and _is_of(record.der, authority):
            yield SavedCrl(signing_ca=header.authority, crl=record.der)


def _intent(octets: bytes) -> entries.Intent:
    log: Log = entries.decode_log(octets)
    entry = entries.decode_entry(log.entry)
    if entry.kind != "intent":
        raise PeerError("a saved log is not that of an intent")
    body: entries.Intent = entries.decode_body(entry)
    return body


def _signature(store: Store, body: entries.Intent) -> bytes:
    record = store.certificates.of_request(body.request_id)
    if record is None or record.serial_number != serial_text(int.from_bytes(body.serial_number, "big")):
        return b""
    return certificate.split_certificate(record.der)[2]


def _is_of(der: bytes, authority: Authority) -> bool:
    return crl.read_crl(der).issuer == authority.subject
