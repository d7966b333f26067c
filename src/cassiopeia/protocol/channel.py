"""Mutual TLS over any octet stream, sans-I/O: ciphertext in, plaintext out, and back.

Owns the handshake, the choice of the protocol version (ALPN), and the check that the peer's public key is one of those
pinned for that version. It opens no file (`link.credentials` makes the contexts) and trusts no name, date or authority:
the pin decides. `ssl.MemoryBIO` brings its own clock and randomness, the one documented exception from purity.
Source: wire specification, "Links"; RFC 8446, RFC 5246, RFC 7301.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia.errors import PeerError

ALPN = {1: "cassiopeia/1", 2: "cassiopeia/2"}
_READ_OCTETS = 16 * 1024
# RFC 8446 4, 5.1: numbers of the handshake content type and of its Certificate message.
_HANDSHAKE = 22
_CERTIFICATE = 11


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkTls:
    """One side's credentials and expectations.

    `context` holds keys and trusted certificates; `bare_context` makes one with the same parameters and neither.
    Keys of `own_pins` and `peer_pins` are protocol versions; a version that is missing is off. A pin is the SHA-256
    of a DER SubjectPublicKeyInfo in lower-case hex.
    """

    context: ssl.SSLContext
    bare_context: Callable[[], ssl.SSLContext]
    own_pins: Mapping[int, str]
    peer_pins: Mapping[int, frozenset[str]]


def public_key_pin(certificate: bytes) -> str:
    """Return the pin of a DER certificate; ValueError when it cannot be read."""
    try:
        public_key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ValueError(f"not a readable certificate: {error}") from error
    octets = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(octets).hexdigest()


class _WatchedTls(ssl.SSLObject):
    """A TLS engine that remembers the certificate presented to it, for the operator's message only."""

    presented = b""


def remember_presented_certificates(context: ssl.SSLContext) -> None:
    """Let channels of this context name the pin of a certificate that OpenSSL turned down.

    Nothing is decided by it: on a Python without the hook the message says that the certificate is unknown.
    """
    context.sslobject_class = _WatchedTls
    # The standard library gives a refused certificate in no other way (there is no verify callback).
    context._msg_callback = _on_message  # type: ignore[attr-defined]  # noqa: SLF001 - see above


class TlsChannel:
    """One TLS connection. After a PeerError only `data_to_send` is of use: it may hold an alert for the peer."""

    def __init__(self, *, tls: LinkTls, server_side: bool) -> None:
        self._settings = tls
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        # OpenSSL keeps finished TLS 1.2 sessions in the context that an engine was born with, 5 kB each, and resumes
        # them without asking for a certificate. A context of its own for each engine dies with it: nothing is kept.
        self._tls = tls.bare_context().wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._tls.context = tls.context
        self._state = _State.HANDSHAKE
        self.version = 0
        self.peer_pin = ""
        if not server_side:
            self._shake_hands()

    @property
    def established(self) -> bool:
        """The handshake is done, the peer's key is pinned, and neither side has closed."""
        return self._state is _State.ESTABLISHED

    @property
    def closed(self) -> bool:
        """The peer has closed, or we have, or the channel has failed."""
        return self._state is _State.CLOSED

    @property
    def pending(self) -> int:
        """Octets of ciphertext that wait to be sent."""
        return self._outgoing.pending

    def receive(self, octets: bytes) -> list[bytes]:
        """Take ciphertext; return the plaintext of each TLS record that it completes."""
        if self.closed:
            return []
        self._incoming.write(octets)
        if self._state is _State.HANDSHAKE:
            self._shake_hands()
        return self._read() if self._state is _State.ESTABLISHED else []

    def send(self, octets: bytes) -> None:
        """Encrypt one flight: one TLS record for each 16 KiB."""
        rest = memoryview(octets)
        while rest:
            rest = rest[self._tls.write(rest) :]

    def data_to_send(self) -> bytes:
        """Take the ciphertext that waits."""
        return self._outgoing.read()

    def close(self) -> None:
        """Say close_notify (RFC 8446 6.1) and be closed; the peer's own is not waited for."""
        if self.closed:
            return
        self._state = _State.CLOSED
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            # Either close_notify is written and the peer's is still missing, or the handshake was under way and there
            # is nothing to close.
            return

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            self._state = _State.CLOSED
            raise self._failure(error) from error
        try:
            self.version, self.peer_pin = self._identify()
        except PeerError:
            self.close()
            raise
        self._state = _State.ESTABLISHED

    def _identify(self) -> tuple[int, str]:
        """Return version and pin, if this version may be spoken here and this is a peer for it."""
        # 1. The version is what ALPN says; no ALPN means 1 (wire specification, "two versions").
        version = 2 if self._tls.selected_alpn_protocol() == ALPN[2] else 1
        # 2. Version 2 is TLS 1.3 only.
        if version == 2 and self._tls.version() != "TLSv1.3":  # noqa: PLR2004 - the protocol's version
            raise PeerError(f"the peer wants protocol version 2 over {self._tls.version()}: it needs TLS 1.3")
        # 3. A version without pins is off.
        expected = self._settings.peer_pins.get(version)
        if expected is None:
            spoken = " and ".join(map(str, sorted(self._settings.peer_pins)))
            raise PeerError(f"the peer speaks protocol version {version}, this side version {spoken} only")
        # 4. The leaf's own key must be pinned for this version: it is not enough that a pinned key has signed it.
        certificate = self._tls.getpeercert(binary_form=True) or b""
        pin = _pin_or_empty(certificate)
        if pin not in expected:
            raise PeerError(_wrong_pin(pin, {version: expected}))
        return version, pin

    def _read(self) -> list[bytes]:
        records: list[bytes] = []
        while True:
            try:
                octets = self._tls.read(_READ_OCTETS)
            except ssl.SSLWantReadError:
                return records
            except ssl.SSLError as error:
                self._state = _State.CLOSED
                raise self._failure(error) from error
            if not octets:
                self.close()
                return records
            records.append(octets)

    def _failure(self, error: ssl.SSLError) -> PeerError:
        """Say what went wrong in the operator's terms; the peer sees the TLS alert alone."""
        reason = error.reason or "UNKNOWN"
        if isinstance(error, ssl.SSLCertVerificationError):
            pin = _pin_or_empty(getattr(self._tls, "presented", b""))
            return PeerError(f"{_wrong_pin(pin, self._settings.peer_pins)} ({error.verify_message})")
        if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return PeerError(f"the peer presented no link certificate; {_expected(self._settings.peer_pins)}")
        text = reason.lower().replace("_", " ")
        if "ALERT" in reason:
            own = ", ".join(f"{pin} (version {version})" for version, pin in sorted(self._settings.own_pins.items()))
            return PeerError(f"the peer ended TLS: {text}; our own link certificate has the pin {own}")
        return PeerError(f"TLS failed: {text}")


class _State(Enum):
    HANDSHAKE = "waiting for the handshake's next message"
    ESTABLISHED = "waiting for records"
    CLOSED = "over"


def _on_message(
    tls: object, direction: str, version: int, content_type: int, message_type: int, message: bytes
) -> None:
    """Keep the leaf of a received Certificate message (RFC 5246 7.4.2, RFC 8446 4.4.2)."""
    if direction != "read" or content_type != _HANDSHAKE or message_type != _CERTIFICATE:
        return
    if isinstance(tls, _WatchedTls):
        # Behind the header of four octets: in TLS 1.3 a context (its length in one octet), then the list's length.
        context = 1 + int.from_bytes(message[4:5], "big") if version == ssl.TLSVersion.TLSv1_3 else 0
        at = 4 + context + 3
        length = int.from_bytes(message[at : at + 3], "big")
        tls.presented = message[at + 3 : at + 3 + length]


def _pin_or_empty(certificate: bytes) -> str:
    try:
        return public_key_pin(certificate)
    except ValueError:
        return ""


def _wrong_pin(presented: str, expected: Mapping[int, frozenset[str]]) -> str:
    shown = f"has the pin {presented}" if presented else "cannot be read"
    return f"the peer's link certificate {shown}; {_expected(expected)}"


def _expected(expected: Mapping[int, frozenset[str]]) -> str:
    pins = [f"{pin} (version {version})" for version in sorted(expected) for pin in sorted(expected[version])]
    return f"expected: {', '.join(pins)}"
