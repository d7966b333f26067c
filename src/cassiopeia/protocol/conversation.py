"""What every session has: records in and out, handles, the table's word on each message, and the bounds.

Knows who may say what when, not what it means: that is `session`. Wire specification, "Opening", "Handles" and
"Bounds". It has no clock and no I/O.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Final

from cassiopeia.errors import InternalError, PeerError, Refused, Unavailable
from cassiopeia.protocol.events import Event
from cassiopeia.protocol.exchange import MESSAGE_OVERHEAD_OCTETS, Exchange
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import (
    ClientCommand,
    Command,
    Message,
    Role,
    SignerCommand,
    decode_message,
    encode_message,
    find_command,
)
from cassiopeia.protocol.payload import Failure, Hello, Refusal
from cassiopeia.protocol.record import Frame, MessageLimits, reader_for, writer_for
from cassiopeia.protocol.transitions import COLLECTING, RESTING, TRANSITIONS, State

_DEFAULT_LIMITS: Final = Limits()
_OPENING_HANDLE: Final = 0
_LAST_HANDLE: Final = 0xFFFF_FFFF
_BUSY_RETRY_AFTER_S: Final = 5


class Conversation(abc.ABC):
    """The half of a session that both roles and all messages share."""

    def __init__(self, *, role: Role, version: int, limits: Limits = _DEFAULT_LIMITS) -> None:
        self.role = role
        self.version = version
        self.limits = limits
        self.peer_hello: Hello | None = None
        self._peer_role = Role.SIGNER if role is Role.CLIENT else Role.CLIENT
        self._reader = reader_for(version, _message_limits(role, limits))
        self._writer = writer_for(version, counting=role is Role.CLIENT)
        self._opening = Exchange(state=State.CLIENT_HELLO if version > 1 else State.OPEN)
        self._exchanges: dict[int, Exchange] = {}
        self._highest_handle = _OPENING_HANDLE
        # Version 1 has one request after the other: where the next one begins.
        self._resting = State.REQUEST
        self._held_octets = 0
        self._events: list[Event] = []
        self._broken = False
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether the conversation came to its end in good order: send what is queued, then close."""
        return self._finished

    @property
    def closed(self) -> bool:
        """Whether nothing more can be said or heard: finished, or broken by the peer."""
        return self._finished or self._broken

    @property
    def open_handles(self) -> frozenset[int]:
        """The requests that have no final answer yet."""
        return frozenset(self._exchanges)

    @property
    def capacity(self) -> int:
        """How many more requests may be opened now."""
        if self.closed or self._opening.state is not State.OPEN or self._highest_handle == _LAST_HANDLE:
            return 0
        if self.version == 1:
            return 0 if self._exchanges else 1
        most = self.limits.open_requests
        most = min(most, self.peer_hello.limits.open_requests if self.peer_hello else most)
        return max(0, most - len(self._exchanges))

    @property
    def incomplete(self) -> bool:
        """Whether the peer owes the rest of a record, message or request: for whoever has a clock."""
        collecting = (exchange.state in COLLECTING for exchange in self._exchanges.values())
        return self._reader.incomplete or any(collecting)

    @property
    def has_data_to_send(self) -> bool:
        return self._writer.pending

    def data_to_send(self, bulk_octets: int | None = None) -> bytes:
        """Everything queued since the last call, as one flight.

        With `bulk_octets`, at most about so much of what is bulk (full CRLs); call again while `has_data_to_send`.
        """
        return self._writer.take(bulk_octets)

    def receive(self, octets: bytes) -> list[Event]:
        """Take octets from the peer; raises PeerError when it breaks the protocol, and at every call after that."""
        if self._broken:
            raise PeerError("the session was broken before")
        try:
            if not self._finished:
                for frame in self._reader.receive(octets):
                    self._take(frame)
                    if self.closed:
                        break
        except PeerError:
            self._broken = True
            raise
        return self.take_events()

    def take_events(self) -> list[Event]:
        """Events that came due without octets from the peer (a version 1 log that was confirmed before it was sent)."""
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """End the session from this side, in good order: what is queued is still to be sent."""
        self._finished = True

    @abc.abstractmethod
    def _understand(self, handle: int, exchange: Exchange, message: Message, *, before: State) -> None:
        """Make of a message what it means; `before` is the state in which it came."""

    def _take(self, frame: Frame) -> None:
        command = find_command(self._peer_role, self.version, frame.code)
        handle, exchange = self._addressed(frame.handle)
        if exchange is None:
            return
        if command is None:
            self._answer_unknown(handle, exchange, frame.code)
            return
        before = exchange.state
        after = TRANSITIONS.get((self.version, before, command))
        if after is None:
            raise PeerError(f"{command.wire_name} came while waiting for {before.value}")
        if before in COLLECTING and not self._charge(handle, exchange, command, frame.payload):
            return
        message = decode_message(command, frame.payload, version=self.version)
        self._move(handle, exchange, after)
        self._understand(handle, exchange, message, before=before)

    def _addressed(self, handle: int) -> tuple[int, Exchange | None]:
        """Find the exchange that a message belongs to, None for one that is to be passed over."""
        if self.version == 1:
            for open_handle, exchange in self._exchanges.items():
                return open_handle, exchange
            handle = self._highest_handle + 1
        elif handle == _OPENING_HANDLE:
            return handle, self._opening
        elif handle in self._exchanges:
            return handle, self._exchanges[handle]
        if self.role is Role.CLIENT:
            raise PeerError(f"an answer came for handle {handle}, under which nothing is open")
        if self._opening.state is not State.OPEN:
            raise PeerError("a request came before the opening was over")
        if handle <= self._highest_handle:
            # Handles only rise: this crossed with the final answer, or belongs to a request that was refused half-way.
            return handle, None
        exchange = self._open(handle)
        if len(self._exchanges) > self.limits.open_requests:
            self._answer_busy(handle)
            return handle, None
        return handle, exchange

    def _open(self, handle: int) -> Exchange:
        exchange = Exchange(state=self._resting)
        self._exchanges[handle] = exchange
        self._highest_handle = handle
        return exchange

    def _charge(self, handle: int, exchange: Exchange, command: Command, octets: bytes) -> bool:
        """Count what a request holds; answer it and return False when that is too much."""
        cost = len(octets) + MESSAGE_OVERHEAD_OCTETS
        if excess := self._excess(exchange, command, octets):
            if self.version == 1:
                raise PeerError(f"a request has more than {excess}")
            message = f"The request has more than {excess}: ask for fewer names at once."
            self._send(handle, SignerCommand.REFUSED, Refusal(code="request-too-large", field="", message=message))
            return False
        if self._held_octets + cost > self.limits.session_octets:
            self._answer_busy(handle)
            return False
        exchange.octets += cost
        self._held_octets += cost
        if self.version > 1 and command is not ClientCommand.SEND_BUNDLE:
            exchange.sent.append(octets)
        return True

    def _excess(self, exchange: Exchange, command: Command, octets: bytes) -> str:
        """Which bound of one request would be passed, in words; empty: none."""
        limits = self.limits
        if command is ClientCommand.SEND_BUNDLE:
            return ""  # it is bounded as a message
        if command is ClientCommand.ADD_PROOF_LINE:
            if len(octets) > limits.proof_octets:
                return f"{limits.proof_octets} octets in a proof"
            if exchange.count(command) == limits.proofs:
                return f"{limits.proofs} proofs"
        if exchange.octets + len(octets) + MESSAGE_OVERHEAD_OCTETS > limits.request_octets:
            return f"{limits.request_octets} octets"
        return ""

    def _answer_busy(self, handle: int) -> None:
        if self.version == 1:
            raise PeerError("the session holds more than it may")
        message = "The signer has too much under way in this session."
        failure = Failure(code="busy", message=message, retry_after=_BUSY_RETRY_AFTER_S)
        self._send(handle, SignerCommand.FAILED, failure)

    def _answer_unknown(self, handle: int, exchange: Exchange, code: int) -> None:
        # Once a request is complete its owner answers it, nobody else; and a signer may not send what we don't know.
        if self.version == 1 or self.role is Role.CLIENT or exchange.state not in COLLECTING:
            raise PeerError(f"a command with the unknown code {code:#x} came")
        message = f"This signer knows no command with code {code:#x}."
        self._send(handle, SignerCommand.REFUSED, Refusal(code="unknown-command", field="", message=message))

    def _move(self, handle: int, exchange: Exchange, after: State) -> None:
        exchange.state = after
        if after not in RESTING:
            return
        del self._exchanges[handle]
        self._held_octets -= exchange.octets
        if self.version == 1:
            self._resting = after
            self._finished = self._finished or after is State.END

    def _exchange(self, handle: int) -> Exchange:
        if self.closed:
            raise InternalError("the session is closed")
        exchange = self._opening if handle == _OPENING_HANDLE else self._exchanges.get(handle)
        if exchange is None:
            raise InternalError(f"nothing is open under handle {handle}")
        return exchange

    def _send(self, handle: int, command: Command, value: object, *, bulk: bool = False) -> None:
        """Queue one message; raises InternalError where the table has no place for it."""
        exchange = self._exchange(handle)
        after = self._next_state(exchange.state, command)
        octets = encode_message(Message(command=command, value=value), version=self.version)
        self._writer.put(command.code, handle, octets, bulk=bulk)
        self._move(handle, exchange, after)

    def _send_request(self, messages: Sequence[Message], *, bulk: bool = False) -> int:
        """Queue all messages of a new request, or none: raises Refused when it can't travel, Unavailable when busy.

        With `bulk` its last message is bulk, and may be larger than the peer's bound of a request.
        """
        if self.closed or self._opening.state is not State.OPEN:
            raise InternalError("the session is not open")
        if not self.capacity:
            raise Unavailable("the session has as many requests under way as it may", retry_after_s=1)
        state = self._resting
        for message in messages:
            state = self._next_state(state, message.command)
        payloads = [encode_message(message, version=self.version) for message in messages]
        if not bulk:
            self._check_size(payloads)
        handle = self._highest_handle + 1
        exchange = self._open(handle)
        exchange.state = state
        # For the dictionary of its log; what is bulk gets none.
        if self.version > 1 and not bulk:
            exchange.sent = payloads
        last = len(messages) - 1
        for number, (message, octets) in enumerate(zip(messages, payloads, strict=True)):
            self._writer.put(message.command.code, handle, octets, bulk=bulk and number == last)
        return handle

    def _check_size(self, payloads: Sequence[bytes]) -> None:
        if self.peer_hello is None:
            return
        most = self.peer_hello.limits.request_octets
        if sum(map(len, payloads)) + MESSAGE_OVERHEAD_OCTETS * len(payloads) > most:
            raise Refused(f"The request is larger than the signer's {most} octets.", code="request-too-large")

    def _next_state(self, before: State, command: Command) -> State:
        after = TRANSITIONS.get((self.version, before, command))
        sender = Role.CLIENT if isinstance(command, ClientCommand) else Role.SIGNER
        if after is None or sender is not self.role:
            raise InternalError(
                f"the {self.role.value} can't send {command.wire_name} while waiting for {before.value}"
            )
        return after


def _message_limits(role: Role, limits: Limits) -> MessageLimits:
    if role is Role.CLIENT:
        large = {
            each.code: limits.crl_octets
            for each in (SignerCommand.FULL_CRL, SignerCommand.REVOKED, SignerCommand.ENTRIES)
        }
    else:
        # The octets of the bundle with what DER puts around them.
        large = {ClientCommand.SEND_BUNDLE.code: limits.bundle_octets + MESSAGE_OVERHEAD_OCTETS}
    return MessageLimits(
        by_code=large,
        otherwise=limits.message_octets,
        together=limits.session_octets,
        unfinished=limits.open_requests,
    )
