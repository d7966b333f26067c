"""The original signer, imitated: what our client has to get on with over version 1.

As `original`, it is written from the wire specification alone: a session carries one certificate, or one revocation and
perhaps a full CRL behind it; whatever is wrong, TLS closes without a word. Serial numbers have 21 octets, CRLs are v1
with SHA-256 and end after a day and ten seconds. It runs in a thread of the test, and keeps what was said to it.
"""

from __future__ import annotations

import base64
import datetime as dt
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from tests.support.original import (
    ADD_AVA,
    ADD_SAN,
    ADD_SERIAL,
    FULL_CRL,
    GET_FULL_CRL,
    LOG_SAVED,
    RESPOND_CERTIFICATE,
    REVOKE,
    REVOKED,
    SET_CSR,
    SET_LOG,
    SET_PROFILE,
    SET_SIGNATURE_TYPE,
    SET_SPKAC,
    SIGN,
    SIGNING_CA,
    WISH_TO,
    Closed,
    Device,
    Line,
    Message,
    Session,
    SocketLine,
    encode,
    escape,
    unescape,
)

INTEGER, BIT_STRING, OID, UTF8_STRING, UTC_TIME, SEQUENCE, SET = 0x02, 0x03, 0x06, 0x0C, 0x17, 0x30, 0x31
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_VERSION_3 = bytes.fromhex("a003020102")
_ATTRIBUTES = {"CN": "550403", "EMAIL": "2a864886f70d010901", "C": "550406", "L": "550407", "O": "55040a"}
# CSR or SPKAC, signature type, profile, from, to, AVAs, SANs, sign: as its own client sends a request.
_ORDER = re.compile(r"0[12] 10 11 12 13 (19 )*(18 )*80 ")
CRL_LIFE = dt.timedelta(days=1, seconds=10)


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    octets = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    length = bytes([0x80 | len(octets)]) + octets if len(content) > 0x7F else bytes([len(content)])
    return bytes([tag]) + length + content


def _integer(value: int) -> bytes:
    return der(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _time(moment: dt.datetime) -> bytes:
    return der(UTC_TIME, f"{moment:%y%m%d%H%M%SZ}".encode())


@dataclass(kw_only=True)
class SubCa:
    """A sub-CA with its key and its list: pairs of serial number and date, in the order of revocation."""

    name: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    revoked: list[tuple[int, dt.datetime]] = field(default_factory=list)

    def sign(self, octets: bytes) -> bytes:
        """DER BIT STRING."""
        return der(BIT_STRING, b"\0", self.key.sign(octets, ec.ECDSA(hashes.SHA256())))

    def certify(self, public_key_info: bytes, message: dict[int, list[str]], *, now: dt.datetime) -> bytes:
        """PEM, for the names of a request."""
        wished = re.fullmatch(r"(\d+)([my])", message.get(WISH_TO, [""])[0])
        days = int(wished[1]) * (28 if wished[2] == "m" else 365) if wished else 60
        subject = [each.split(",", 1) for each in message.get(ADD_AVA, [])]
        tbs = der(
            SEQUENCE,
            _VERSION_3,
            _integer(int.from_bytes(b"\x02" + os.urandom(20), "big")),
            _ECDSA_WITH_SHA256,
            self.certificate.subject.public_bytes(),
            # The original takes the end itself for the last instant.
            der(SEQUENCE, _time(now), _time(now + dt.timedelta(days=days))),
            der(SEQUENCE, *(_relative_name(kind, value) for kind, value in subject if value)),
            public_key_info,
            der(0xA3, der(SEQUENCE, *self._extensions(message.get(ADD_SAN, [])))),
        )
        made = der(SEQUENCE, tbs, _ECDSA_WITH_SHA256, self.sign(tbs))
        return x509.load_der_x509_certificate(made).public_bytes(Encoding.PEM)

    def tbs_list(self, now: dt.datetime, until: dt.datetime) -> bytes:
        """TBSCertList v1: no version, no extensions."""
        entries = [der(SEQUENCE, _integer(serial), _time(date)) for serial, date in self.revoked]
        return der(
            SEQUENCE,
            _ECDSA_WITH_SHA256,
            self.certificate.subject.public_bytes(),
            _time(now),
            _time(until),
            der(SEQUENCE, *entries) if entries else b"",
        )

    def _extensions(self, alt_names: list[str]) -> Iterator[bytes]:
        usage = dict.fromkeys(
            ("content_commitment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"), False
        )
        identifier = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        yield _extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        yield _extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier))
        yield _extension(
            x509.KeyUsage(
                digital_signature=True, key_encipherment=True, encipher_only=False, decipher_only=False, **usage
            ),
            critical=True,
        )
        yield _extension(x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH]))
        names = [each.split(",", 1) for each in alt_names]
        if names:
            yield _extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName(value) if kind == "DNS" else x509.RFC822Name(value) for kind, value in names]
                )
            )


def _relative_name(kind: str, value: str) -> bytes:
    attribute = der(SEQUENCE, der(OID, bytes.fromhex(_ATTRIBUTES[kind])), der(UTF8_STRING, value.encode()))
    return der(SET, attribute)


def _extension(value: x509.ExtensionType, *, critical: bool = False) -> bytes:
    identifier = der(OID, _object_identifier(value.oid.dotted_string))
    return der(SEQUENCE, identifier, b"\x01\x01\xff" if critical else b"", der(0x04, value.public_bytes()))


def _object_identifier(dotted: str) -> bytes:
    """Those of 2.5.29, where extensions are."""
    assert dotted.startswith("2.5.29.")
    return bytes([0x55, 0x1D, int(dotted.rsplit(".", 1)[1])])


class SignerSerialLine:
    """The signer's end of a serial line: a stream begins with a reset, and a bare C0 ends it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._pending = b""
        self._escaped = False

    def await_reset(self, *, over: Callable[[], bool]) -> None:
        """Skip everything up to a C0, read eight octets, answer with the same."""
        self._escaped = False
        while len(self._pending) < 9:
            if over():
                raise Closed
            self._pending += self._device.read()
            self._pending = self._pending[self._pending.find(b"\xc0") :] if b"\xc0" in self._pending else b""
        self._device.write(self._pending[:9])
        self._pending = self._pending[9:]

    def read(self) -> bytes:
        octets, self._pending = self._pending or self._device.read(), b""
        stream, reset, rest = octets.partition(b"\xc0")
        if reset and not stream:
            self._pending = reset + rest
            raise Closed("reset")
        self._pending = reset + rest
        data, self._escaped = unescape(stream, escaped=self._escaped)
        return data

    def write(self, octets: bytes) -> None:
        self._device.write(escape(octets))

    def close(self) -> None:
        """The device stays open: the next reset comes over it."""


@dataclass(kw_only=True)
class OriginalSigner:
    """Use as a context manager. `address` is `unix:PATH` or `serial:DEVICE`.

    `refuses` is asked about each request (its messages by command) and each revocation (by its serial numbers);
    `silent` makes it hang where it would have closed. `sessions` is all that was said to it, `confirmations` pairs of
    a log and what came as its checksum; `endings` says of each session how it ended.
    """

    address: str
    context: ssl.SSLContext
    sub_cas: list[SubCa]
    refuses: Callable[[dict[int, list[str]]], bool] = lambda _: False
    silent: bool = False
    closes_at_once: bool = False
    together: bool = True
    crl_life: dt.timedelta = CRL_LIFE
    sessions: list[list[Message]] = field(default_factory=list)
    confirmations: list[tuple[bytes, bytes]] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    ciphers: list[tuple[str, str] | None] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    _next_line: Callable[[], Line] = field(init=False)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._run, name="original signer", daemon=True)
        self._next_line = self._stack.enter_context(self._open())
        self._stack.callback(thread.join)
        self._stack.callback(self._stopping.set)
        thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if self.failures and error is None:
            raise self.failures[0]

    @property
    def requests(self) -> list[list[Message]]:
        """Sessions in which a certificate was asked for."""
        return [each for each in self.sessions if any(message.command == SIGN for message in each)]

    def sub_ca(self, family: str) -> SubCa:
        """The highest name by plain string order, of those that are valid already."""
        now = dt.datetime.now(dt.UTC)
        valid = [each for each in self.sub_cas if each.certificate.not_valid_before_utc <= now]
        return max((each for each in valid if each.name.startswith(family)), key=lambda each: each.name)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._serve_next()
            except Closed:
                continue
            except BaseException as error:  # noqa: BLE001 - told to the test, which has the only use for it
                self.failures.append(error)
                return

    def _serve_next(self) -> None:
        line = self._next_line()
        try:
            session = Session(line, self.context, server_side=True, time_limit_s=3600, over=self._stopping.is_set)
            self.ciphers.append(session.cipher)
            said: list[Message] = []
            self.sessions.append(said)
            try:
                if not self.closes_at_once:
                    self._serve(session, said)
                self.endings.append("ours")
            except Closed as end:
                self.endings.append(str(end))
            session.close()
        finally:
            line.close()

    def _serve(self, session: Session, said: list[Message]) -> None:
        """Answer one piece of work."""
        request: dict[int, list[str]] = {}
        while True:
            message = session.receive()
            said.append(message)
            request.setdefault(message.command, []).append(message.payload.decode())
            if message.command in {SIGN, REVOKE, GET_FULL_CRL} and self.refuses(request):
                if self.silent:
                    session.receive()
                return
            if message.command == SIGN:
                self._certify(session, request, said)
                return
            if message.command == REVOKE:
                self._revoke(session, self._named(request[REVOKE][0]), request.pop(ADD_SERIAL, []))
            if message.command == GET_FULL_CRL:
                self._send_full_crl(session, self._named(request[GET_FULL_CRL][0]))
                return

    def _certify(self, session: Session, request: dict[int, list[str]], said: list[Message]) -> None:
        profile = request[SET_PROFILE][0]
        assert re.fullmatch(r"\d{4}-[a-z-]+", profile)
        assert _ORDER.fullmatch("".join(f"{each.command:02x} " for each in said)), "not the order of the original"
        assert request[SET_SIGNATURE_TYPE][0] in {"sha256", "sha384", "sha512"}
        sub_ca = self.sub_ca("unassured")
        log = f"[note ]: FINE: Profile name is: {profile}\n".encode()
        self._say(session, SET_LOG, log)
        # It is content with a client that sends this at once, and with one that waits for the log.
        saved = session.receive()
        said.append(saved)
        assert saved.command == LOG_SAVED
        self.confirmations.append((log, saved.payload))
        certificate = sub_ca.certify(_public_key_info(request), request, now=_now())
        self._say(session, SIGNING_CA, sub_ca.name.encode(), hold=self.together)
        self._say(session, RESPOND_CERTIFICATE, certificate, hold=self.together)

    def _revoke(self, session: Session, sub_ca: SubCa, serials: list[str]) -> None:
        now = _now()
        sub_ca.revoked += [(int(each, 16), now) for each in serials]
        until = now + self.crl_life
        tbs = sub_ca.tbs_list(now, until)
        answer = [_time(now)] if serials else []
        answer += [_ECDSA_WITH_SHA256, sub_ca.sign(tbs), _time(now), _time(until)]
        self._say(session, REVOKED, b"".join(answer))

    def _send_full_crl(self, session: Session, sub_ca: SubCa) -> None:
        now = _now()
        tbs = sub_ca.tbs_list(now, now + self.crl_life)
        made = der(SEQUENCE, tbs, _ECDSA_WITH_SHA256, sub_ca.sign(tbs))
        pem = x509.load_der_x509_crl(made).public_bytes(Encoding.PEM)
        self._say(session, FULL_CRL, pem, hold=self.together)

    def _named(self, name: str) -> SubCa:
        for each in self.sub_cas:
            if each.name == name:
                return each
        raise Closed(f"no sub-CA {name}")

    @staticmethod
    def _say(session: Session, command: int, payload: bytes, *, hold: bool = False) -> None:
        session.write(encode(command, payload, session=0, count=0), hold=hold)

    @contextmanager
    def _open(self) -> Iterator[Callable[[], Line]]:
        """What waits for the next line, or raises `Closed` when there is none."""
        kind, _, where = self.address.partition(":")
        if kind == "serial":
            device = Device(where)
            line = SignerSerialLine(device)

            def await_reset() -> Line:
                line.await_reset(over=self._stopping.is_set)
                return line

            yield await_reset
            device.close()
            return
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(where)
            listening.listen()
            listening.settimeout(0.05)

            def accept() -> Line:
                try:
                    return SocketLine(listening.accept()[0])
                except TimeoutError:
                    raise Closed from None

            yield accept
        Path(where).unlink()


def load_sub_cas(signer: Path) -> list[SubCa]:
    """Take the keys of an installed signer: its sub-CAs are the original's from now on."""
    passphrase = (signer / "passphrase").read_bytes().strip()
    sub_cas = []
    for path in sorted((signer / "certificates").glob("*.pem")):
        key = load_pem_private_key((signer / "keys" / f"{path.stem}.key").read_bytes(), passphrase)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        sub_cas.append(SubCa(name=path.stem, certificate=x509.load_pem_x509_certificate(path.read_bytes()), key=key))
    return sub_cas


def _public_key_info(request: dict[int, list[str]]) -> bytes:
    if SET_SPKAC in request:
        text = request[SET_SPKAC][0].removeprefix("SPKAC=")
        # SEQUENCE { SEQUENCE { SubjectPublicKeyInfo, ...
        return _first(_first(_first(base64.b64decode(text), inside=True), inside=True))
    loaded = x509.load_pem_x509_csr(request[SET_CSR][0].encode())
    return loaded.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _first(octets: bytes, *, inside: bool = False) -> bytes:
    """The first DER element, or what stands inside it."""
    start, length = 2, octets[1]
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(octets[2:start], "big")
    return octets[start : start + length] if inside else octets[: start + length]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)
