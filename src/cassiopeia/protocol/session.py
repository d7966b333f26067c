"""The session: one state machine for both roles and both versions. Octets in, events out; calls in, octets out.

Owns the order of the conversation (by the table in `transitions`), handles, bounds and the logs' dictionaries. It has
no clock, no I/O, and judges no request. After a PeerError the session is closed: what the same octets had said before
the fault is dropped with it (a certificate that was lost so comes again under the same request id).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from cassiopeia.core import der
from cassiopeia.core.request import CertificateRequest, RevocationRequest
from cassiopeia.errors import InternalError, PeerError, Refused, Unavailable
from cassiopeia.protocol import compression, payload
from cassiopeia.protocol.conversation import Conversation
from cassiopeia.protocol.events import (
    AbandonRequested,
    BundleHeld,
    BundleReceived,
    CertificateIssued,
    EntriesReceived,
    EntriesRequested,
    Event,
    FullCrlReceived,
    FullCrlRequested,
    HelloReceived,
    LogConfirmed,
    LogReceived,
    OrderObeyed,
    OrderReceived,
    RequestAbandoned,
    RequestFailed,
    RequestRefused,
    RevocationAnswered,
    RevocationRequested,
    SignRequested,
    StatusReceived,
    StatusRequested,
    TimestampReceived,
    TimestampRequested,
)
from cassiopeia.protocol.exchange import Exchange, certificate_messages, revocation_messages
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import ClientCommand, Message, Role, SignerCommand
from cassiopeia.protocol.transitions import State

__all__ = [
    "AbandonRequested",
    "BundleHeld",
    "BundleReceived",
    "CertificateIssued",
    "EntriesReceived",
    "EntriesRequested",
    "Event",
    "FullCrlReceived",
    "FullCrlRequested",
    "HelloReceived",
    "LogConfirmed",
    "LogReceived",
    "OrderObeyed",
    "OrderReceived",
    "RequestAbandoned",
    "RequestFailed",
    "RequestRefused",
    "RevocationAnswered",
    "RevocationRequested",
    "Role",
    "Session",
    "SignRequested",
    "StatusReceived",
    "StatusRequested",
    "TimestampReceived",
    "TimestampRequested",
]

_OPENING_HANDLE = 0
_TIME_TEXT = "%Y-%m-%dT%H:%M:%SZ"


class Session(Conversation):
    """A conversation between one client and one signer.

    Calls raise InternalError when the role or the state has no place for them: that is the caller's mistake.
    """

    def __init__(self, *, role: Role, version: int, limits: Limits | None = None) -> None:
        super().__init__(role=role, version=version, limits=limits or Limits())
        # The newest log that went over the line, as canonical octets: part of the next log's dictionary.
        self._previous_log = b""

    # Both roles.

    def hello(self, hello: payload.Hello) -> None:
        """Version 2: the client begins with it, the signer answers with it."""
        self._send(_OPENING_HANDLE, ClientCommand.HELLO if self.role is Role.CLIENT else SignerCommand.HELLO, hello)

    # The client.

    def submit(self, request: CertificateRequest) -> int:
        """Ask for a certificate, return the handle; raises Refused for what can't travel, Unavailable when busy."""
        return self._send_request(certificate_messages(request, version=self.version))

    def confirm_log(self, handle: int) -> None:
        """Say that the log is durable: sends SHA-256 of the log that was received."""
        log_hash = self._exchange(handle).log_hash
        if log_hash is None:
            raise InternalError("a log can't be confirmed before it came")
        self._send(handle, ClientCommand.LOG_SAVED, log_hash)

    def abandon(self, handle: int, reason: str) -> None:
        """Veto a certificate whose log is not confirmed (version 2)."""
        self._send(handle, ClientCommand.ABANDON, reason)

    def revoke(self, request: RevocationRequest) -> int:
        """Ask for a revocation, return the handle; raises as `submit` does."""
        return self._send_request(revocation_messages(request, version=self.version))

    def get_full_crl(self, signing_ca: str) -> int:
        return self._send_request([Message(command=ClientCommand.GET_FULL_CRL, value=signing_ca)])

    def get_timestamp(self) -> int:
        return self._send_request([Message(command=ClientCommand.GET_TIMESTAMP, value=None)])

    def get_entries(self, first: int, at_most: int) -> int:
        """Ask for entries of the signer's journal (version 2)."""
        wish = payload.GetEntries(first=first, at_most=at_most)
        return self._send_request([Message(command=ClientCommand.GET_ENTRIES, value=wish)])

    def send_order(self, order: bytes) -> int:
        """Pass on what operators have signed (version 2)."""
        return self._send_request([Message(command=ClientCommand.SEND_ORDER, value=order)])

    def send_bundle(self, bundle: bytes) -> int:
        """Give a signed bundle to the signer, for an order that follows (version 2, by `payload.BUNDLE_CAPABILITY`).

        It is bulk: nothing waits behind it. Raises Refused when it is too large, Unavailable when busy.
        """
        if len(bundle) > self.limits.bundle_octets:
            most = self.limits.bundle_octets
            raise Refused(f"The bundle has more than {most} octets: carry it to the signer.", code="request-too-large")
        encoding, octets = payload.pack(bundle, b"", deflate=self._peer_inflates)
        # The announcement opens the handle: its fragments may arrive behind requests that were opened later.
        messages = [
            Message(command=ClientCommand.ANNOUNCE_BUNDLE, value=hashlib.sha256(bundle).digest()),
            Message(command=ClientCommand.SEND_BUNDLE, value=payload.PackedBundle(encoding=encoding, octets=octets)),
        ]
        return self._send_request(messages, bulk=True)

    def get_status(self) -> int:
        return self._send_request([Message(command=ClientCommand.GET_STATUS_REPORT, value=None)])

    # The signer.

    def send_log(self, handle: int, log: bytes, *, head: bytes | None = None) -> None:
        """Send the canonical log (version 2), with a signed journal head, or the log's text (version 1).

        In version 1 the confirmation may be here already: `take_events` gives it then.
        """
        exchange = self._exchange(handle)
        if self.version == 1:
            confirmed = exchange.state is State.CONFIRMED_LOG
            self._send(handle, SignerCommand.SET_LOG, log)
            if confirmed:
                self._events.append(LogConfirmed(handle=handle, log_hash=b""))
            return
        encoding, octets = payload.pack(
            log, compression.dictionary(self._previous_log, exchange.sent), deflate=self._peer_inflates
        )
        self._send(handle, SignerCommand.SET_LOG, payload.SetLog(encoding=encoding, octets=octets, head=head))
        self._previous_log = log
        exchange.sent = []

    def send_certificate(
        self,
        handle: int,
        *,
        signing_ca: str,
        signature: bytes,
        index: int,
        certificate: bytes,
        head: bytes | None = None,
    ) -> None:
        """Release a certificate: version 2 sends the signature, version 1 the whole `certificate` (DER)."""
        if self.version == 1:
            self._send(handle, SignerCommand.SIGNING_CA, signing_ca)
            self._send(handle, SignerCommand.RESPOND_CERTIFICATE, certificate)
            return
        issued = payload.Issued(index=index, signing_ca=signing_ca, signature=signature, head=head)
        self._send(handle, SignerCommand.RESPOND_CERTIFICATE, issued)

    def send_abandoned(self, handle: int, *, index: int | None = None, head: bytes | None = None) -> None:
        """Give the signer's word that the intent is abandoned (`index` says where), asked for or not."""
        self._send(handle, SignerCommand.ABANDONED, payload.Abandoned(index=index, head=head))

    def send_entries(self, handle: int, first: int, logs: Sequence[bytes], *, head: bytes) -> None:
        """Send entries of the journal, each DER of `journal.entry.Log`."""
        encoding, octets = payload.pack(b"".join(logs), b"", deflate=self._peer_inflates)
        entries = payload.Entries(first=first, encoding=encoding, octets=octets, head=head)
        self._send(handle, SignerCommand.ENTRIES, entries, bulk=True)

    def send_obeyed(self, handle: int, index: int) -> None:
        """Say that an order is carried out."""
        self._send(handle, SignerCommand.OBEYED, payload.Obeyed(index=index))

    def send_bundle_held(self, handle: int) -> None:
        """Say that a bundle is kept for the order that follows."""
        self._send(handle, SignerCommand.BUNDLE_HELD, None)

    def send_revoked(self, handle: int, answer: payload.RevokedAnswer) -> None:
        self._send(handle, SignerCommand.REVOKED, answer, bulk=True)

    def send_full_crl(self, handle: int, crl: bytes) -> None:
        self._send(handle, SignerCommand.FULL_CRL, crl, bulk=True)

    def send_timestamp(self, handle: int, timestamp: payload.Timestamp) -> None:
        text = timestamp.time.strftime(_TIME_TEXT)
        self._send(handle, SignerCommand.TIMESTAMP_RESPONSE, text if self.version == 1 else timestamp)

    def send_status(self, handle: int, report: payload.StatusReport) -> None:
        text = f"{report.state} {report.reason}".rstrip()
        self._send(handle, SignerCommand.STATUS_REPORT, text if self.version == 1 else report)

    def send_refused(self, handle: int, refused: Refused) -> None:
        """Answer with a final no. Version 1 has no words for it: the session ends."""
        refusal = payload.Refusal(code=refused.code, field=refused.field, message=refused.message)
        self._send_no(handle, SignerCommand.REFUSED, refusal)

    def send_failed(self, handle: int, unavailable: Unavailable) -> None:
        """Answer with a not now. Version 1 has no words for it: the session ends."""
        failure = payload.Failure(
            code=unavailable.code, message=unavailable.message, retry_after=unavailable.retry_after_s
        )
        self._send_no(handle, SignerCommand.FAILED, failure)

    def _send_no(self, handle: int, command: SignerCommand, value: payload.Refusal | payload.Failure) -> None:
        if self.version == 1:
            self._exchange(handle)
            self.finish()
            return
        self._send(handle, command, value)

    @property
    def _peer_inflates(self) -> bool:
        return self.peer_hello is not None and payload.DEFLATE_CAPABILITY in self.peer_hello.capabilities

    # What messages mean.

    def _understand(self, handle: int, exchange: Exchange, message: Message, *, before: State) -> None:
        command, value = message.command, message.value
        if isinstance(command, ClientCommand):
            self._hear_client(handle, exchange, command, value)
        elif command is SignerCommand.SET_LOG:
            self._hear_log(handle, exchange, value, before=before)
        elif command is SignerCommand.SIGNING_CA:
            exchange.signing_ca = value
        elif command is SignerCommand.HELLO:
            self._hear_hello(value)
        else:
            self._events.append(self._answer(handle, exchange, command, value))

    def _hear_client(self, handle: int, exchange: Exchange, command: ClientCommand, value: Any) -> None:
        match command:
            case ClientCommand.HELLO:
                self._hear_hello(value)
            case ClientCommand.SIGN:
                self._events.append(SignRequested(handle=handle, request=exchange.certificate_request()))
            case ClientCommand.LOG_SAVED if exchange.state is State.CONFIRMED_LOG:
                _check_early_confirmation(value)
            case ClientCommand.LOG_SAVED:
                self._events.append(LogConfirmed(handle=handle, log_hash=value))
            case ClientCommand.ABANDON:
                self._events.append(AbandonRequested(handle=handle, reason=value))
            case ClientCommand.REVOKE:
                self._events.append(RevocationRequested(handle=handle, request=exchange.revocation_request(value)))
            case ClientCommand.GET_FULL_CRL:
                self._events.append(FullCrlRequested(handle=handle, signing_ca=value))
            case ClientCommand.GET_TIMESTAMP:
                self._events.append(TimestampRequested(handle=handle))
            case ClientCommand.GET_STATUS_REPORT:
                self._events.append(StatusRequested(handle=handle))
            case ClientCommand.GET_ENTRIES:
                self._events.append(EntriesRequested(handle=handle, first=value.first, at_most=value.at_most))
            case ClientCommand.SEND_ORDER:
                self._events.append(OrderReceived(handle=handle, order=value))
            case ClientCommand.ANNOUNCE_BUNDLE if self._has_another_bundle(handle):
                self._answer_busy(handle)
            case ClientCommand.SEND_BUNDLE:
                self._events.append(self._hear_bundle(handle, exchange, value))
            # The original drops an attribute without a value.
            case ClientCommand.ADD_AVA if self.version == 1 and not value.value:
                pass
            case _:
                exchange.collect(command, value)

    def _hear_hello(self, hello: payload.Hello) -> None:
        if self.version not in hello.versions:
            raise PeerError("the peer's hello does not name the version that it speaks")
        self.peer_hello = hello
        self._events.append(HelloReceived(hello=hello))

    def _hear_log(self, handle: int, exchange: Exchange, value: Any, *, before: State) -> None:
        log: bytes = value if self.version == 1 else self._unpacked_log(value, exchange)
        self._previous_log = log
        exchange.sent = []
        exchange.log_hash = hashlib.sha256(log).digest()
        # A log that crossed with the client's veto is of no interest, but for the next log's dictionary.
        if before is not State.ABANDONMENT:
            head = None if self.version == 1 else value.head
            self._events.append(LogReceived(handle=handle, log=log, head=head))

    def _unpacked_log(self, packed: payload.SetLog, exchange: Exchange) -> bytes:
        known = compression.dictionary(self._previous_log, exchange.sent)
        return payload.unpack(packed.encoding, packed.octets, known, limit=self.limits.message_octets)

    def _hear_entries(self, handle: int, entries: payload.Entries) -> EntriesReceived:
        octets = payload.unpack(entries.encoding, entries.octets, b"", limit=self.limits.crl_octets)
        logs = tuple(element for _, element in der.elements(octets, at_most=payload.MAXIMUM_ENTRIES))
        return EntriesReceived(handle=handle, first=entries.first, logs=logs, head=entries.head)

    def _hear_bundle(self, handle: int, exchange: Exchange, packed: payload.PackedBundle) -> BundleReceived:
        bundle = payload.unpack(packed.encoding, packed.octets, b"", limit=self.limits.bundle_octets)
        if hashlib.sha256(bundle).digest() != exchange.announced_bundle():
            raise PeerError("a bundle came that is not the one that was announced")
        return BundleReceived(handle=handle, bundle=bundle)

    def _has_another_bundle(self, handle: int) -> bool:
        """Whether a bundle is on its way or not answered: of what a few octets inflate to, one at a time is held."""
        return any(
            each.state in {State.BUNDLE, State.KEEPING} for other, each in self._exchanges.items() if other != handle
        )

    def _answer(self, handle: int, exchange: Exchange, command: object, value: Any) -> Event:
        match command:
            case SignerCommand.RESPOND_CERTIFICATE if self.version == 1:
                return CertificateIssued(handle=handle, signing_ca=exchange.signing_ca, certificate=value)
            case SignerCommand.RESPOND_CERTIFICATE:
                return CertificateIssued(
                    handle=handle,
                    signing_ca=value.signing_ca,
                    signature=value.signature,
                    index=value.index,
                    head=value.head,
                )
            case SignerCommand.REVOKED:
                return RevocationAnswered(handle=handle, answer=value)
            case SignerCommand.FULL_CRL:
                return FullCrlReceived(handle=handle, der=value)
            case SignerCommand.REFUSED:
                return RequestRefused(handle=handle, code=value.code, field=value.field, message=value.message)
            case SignerCommand.FAILED:
                return RequestFailed(
                    handle=handle, code=value.code, message=value.message, retry_after_s=value.retry_after
                )
            case SignerCommand.TIMESTAMP_RESPONSE if self.version == 1:
                return TimestampReceived(handle=handle, text=value)
            case SignerCommand.TIMESTAMP_RESPONSE:
                return TimestampReceived(handle=handle, timestamp=value)
            case SignerCommand.STATUS_REPORT if self.version == 1:
                return StatusReceived(handle=handle, text=value)
            case SignerCommand.STATUS_REPORT:
                return StatusReceived(handle=handle, report=value)
            case SignerCommand.ENTRIES:
                return self._hear_entries(handle, value)
            case SignerCommand.OBEYED:
                return OrderObeyed(handle=handle, index=value.index)
            case SignerCommand.BUNDLE_HELD:
                return BundleHeld(handle=handle)
            case _:
                return RequestAbandoned(handle=handle, index=value.index, head=value.head)


def _check_early_confirmation(log_hash: bytes) -> None:
    # The original confirms right behind `sign`; nobody can have hashed a log by then.
    if log_hash:
        raise PeerError("a log can't be hashed before it came")
