"""The one table of the conversation: which message may come in which state, for both roles and both versions.

Both sides keep the same states and ask the same table, for what they send and for what they receive. States are named
for what they wait for. The wire specification's tables are made from this one (`as_markdown`).

Where messages cross on the line, both orders are in the table: an answer may be under way while the client abandons,
and an abandonment by the signer while the client confirms.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from cassiopeia.protocol.message import ClientCommand, Command, SignerCommand


class State(enum.Enum):
    """What a request (a handle) waits for; the value is that in words."""

    CLIENT_HELLO = "the client's hello (handle 0)"
    SIGNER_HELLO = "the signer's hello (handle 0)"
    OPEN = "nothing: the opening is over (handle 0)"
    REQUEST = "the first message of a request"
    SUBJECT = "the key or the serials of a request that has its id"
    SIGN = "the rest of a request for a certificate, up to `sign`"
    LOG = "the signer's log"
    CONFIRMATION = "the client's word that the log is saved"
    CONFIRMED_LOG = "the signer's log, which is confirmed already (version 1)"
    CERTIFICATE = "the certificate or its signature"
    NAMED_CERTIFICATE = "the certificate, whose sub-CA is named already (version 1)"
    ABANDONMENT = "the signer's word that the intent is abandoned"
    REVOKE = "more serials, or `revoke`"
    REVOKED = "the answer to a revocation"
    FULL_CRL = "a full CRL"
    FULL_CRL_OR_END = "a wish for the full CRL, or the end (version 1)"
    TIMESTAMP = "the signer's timestamp"
    STATUS = "the signer's status"
    ENTRIES = "entries of the signer's journal"
    OBEDIENCE = "the signer's word that an order is carried out"
    BUNDLE = "the bundle that was announced"
    KEEPING = "the signer's word that it keeps a bundle for an order"
    END = "nothing: the request is answered"

    __hash__ = object.__hash__  # as that of a command


# In these no request is open: the next message begins one, or nothing follows.
RESTING: Final = frozenset({State.REQUEST, State.FULL_CRL_OR_END, State.END})
# In these the client is still speaking.
COLLECTING: Final = frozenset({State.REQUEST, State.SUBJECT, State.SIGN, State.REVOKE, State.BUNDLE})

_BOTH: Final = (1, 2)
_Row = tuple[tuple[int, ...], State, Command, State]


def _rows() -> Iterable[_Row]:
    client, signer, state = ClientCommand, SignerCommand, State
    # The opening, on handle 0.
    yield (2,), state.CLIENT_HELLO, client.HELLO, state.SIGNER_HELLO
    yield (2,), state.SIGNER_HELLO, signer.HELLO, state.OPEN
    # A certificate.
    yield (2,), state.REQUEST, client.SET_REQUEST_ID, state.SUBJECT
    for key in (client.SET_CSR, client.SET_SPKAC):
        yield (1,), state.REQUEST, key, state.SIGN
        yield (2,), state.SUBJECT, key, state.SIGN
    for detail in (
        client.SET_SIGNATURE_TYPE,
        client.SET_PROFILE,
        client.WISH_FROM,
        client.WISH_TO,
        client.OCSP_TARGET_CA,
        client.ADD_SAN,
        client.ADD_AVA,
        client.ADD_PROOF_LINE,
    ):
        yield _BOTH, state.SIGN, detail, state.SIGN
    yield (2,), state.SIGN, client.SET_ACCOUNT, state.SIGN
    yield _BOTH, state.SIGN, client.SIGN, state.LOG
    yield _BOTH, state.LOG, signer.SET_LOG, state.CONFIRMATION
    yield _BOTH, state.CONFIRMATION, client.LOG_SAVED, state.CERTIFICATE
    yield (1,), state.LOG, client.LOG_SAVED, state.CONFIRMED_LOG
    yield (1,), state.CONFIRMED_LOG, signer.SET_LOG, state.CERTIFICATE
    yield (1,), state.CERTIFICATE, signer.SIGNING_CA, state.NAMED_CERTIFICATE
    yield (1,), state.NAMED_CERTIFICATE, signer.RESPOND_CERTIFICATE, state.END
    yield (2,), state.CERTIFICATE, signer.RESPOND_CERTIFICATE, state.END
    # The client's veto, and intents that end by themselves.
    yield (2,), state.LOG, client.ABANDON, state.ABANDONMENT
    yield (2,), state.CONFIRMATION, client.ABANDON, state.ABANDONMENT
    yield (2,), state.ABANDONMENT, signer.SET_LOG, state.ABANDONMENT
    for waiting in (state.LOG, state.CONFIRMATION, state.CERTIFICATE, state.ABANDONMENT):
        yield (2,), waiting, signer.ABANDONED, state.END
    # Revocation and CRLs.
    for before in (state.REQUEST, state.REVOKE):
        yield _BOTH, before, client.ADD_SERIAL, state.REVOKE
        yield _BOTH, before, client.REVOKE, state.REVOKED
    yield (2,), state.SUBJECT, client.ADD_SERIAL, state.REVOKE
    yield (2,), state.SUBJECT, client.REVOKE, state.REVOKED
    yield (1,), state.REVOKED, signer.REVOKED, state.FULL_CRL_OR_END
    yield (1,), state.FULL_CRL_OR_END, client.GET_FULL_CRL, state.FULL_CRL
    yield (2,), state.REVOKED, signer.REVOKED, state.END
    yield _BOTH, state.REQUEST, client.GET_FULL_CRL, state.FULL_CRL
    yield _BOTH, state.FULL_CRL, signer.FULL_CRL, state.END
    # The signer's word. Version 1 goes on afterwards as if nothing had been asked.
    yield _BOTH, state.REQUEST, client.GET_TIMESTAMP, state.TIMESTAMP
    yield _BOTH, state.REQUEST, client.GET_STATUS_REPORT, state.STATUS
    yield (1,), state.TIMESTAMP, signer.TIMESTAMP_RESPONSE, state.REQUEST
    yield (1,), state.STATUS, signer.STATUS_REPORT, state.REQUEST
    yield (2,), state.TIMESTAMP, signer.TIMESTAMP_RESPONSE, state.END
    yield (2,), state.STATUS, signer.STATUS_REPORT, state.END
    # Copies of the journal, and orders of the operators.
    yield (2,), state.REQUEST, client.GET_ENTRIES, state.ENTRIES
    yield (2,), state.ENTRIES, signer.ENTRIES, state.END
    yield (2,), state.REQUEST, client.SEND_ORDER, state.OBEDIENCE
    yield (2,), state.OBEDIENCE, signer.OBEYED, state.END
    yield (2,), state.REQUEST, client.ANNOUNCE_BUNDLE, state.BUNDLE
    yield (2,), state.BUNDLE, client.SEND_BUNDLE, state.KEEPING
    yield (2,), state.KEEPING, signer.BUNDLE_HELD, state.END
    # No, and not now.
    for waiting in (
        *(state.REQUEST, state.SUBJECT, state.SIGN, state.REVOKE),
        *(state.LOG, state.CONFIRMATION, state.CERTIFICATE, state.ABANDONMENT),
        *(state.REVOKED, state.FULL_CRL, state.TIMESTAMP, state.STATUS),
        *(state.ENTRIES, state.OBEDIENCE, state.BUNDLE, state.KEEPING),
    ):
        yield (2,), waiting, signer.REFUSED, state.END
        yield (2,), waiting, signer.FAILED, state.END


TRANSITIONS: Final[dict[tuple[int, State, Command], State]] = {
    (version, before, command): after for versions, before, command, after in _rows() for version in versions
}


def as_markdown(version: int) -> str:
    """Return the table of one version, as the wire specification prints it."""
    lines = ["| waiting for | message | from | then waiting for |", "| --- | --- | --- | --- |"]
    for (its_version, before, command), after in TRANSITIONS.items():
        if its_version == version:
            sender = "client" if isinstance(command, ClientCommand) else "signer"
            lines.append(f"| {before.name} | {command.wire_name} | {sender} | {after.name} |")
    return "\n".join(lines) + "\n"
