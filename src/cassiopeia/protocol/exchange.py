"""One request of a session: what has been said under its handle so far, and how a request becomes messages and back.

Owns the collecting of a request and its order on the wire; does not decide whether a message may come (`transitions`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from cassiopeia.core.request import CertificateRequest, Revocation, RevocationRequest
from cassiopeia.errors import PeerError
from cassiopeia.protocol import payload
from cassiopeia.protocol.message import ClientCommand, Message
from cassiopeia.protocol.transitions import State

# A message counts this much more than its payload: without it, empty messages would cost nothing but memory.
MESSAGE_OVERHEAD_OCTETS: Final = 64

_DER_SEQUENCE: Final = b"\x30"
# The original's client never leaves it out; whether its signer has a default is not known.
_VERSION_1_HASH: Final = "sha256"


@dataclass(kw_only=True, slots=True)
class Exchange:
    """What one handle holds. `sent` are the payloads of the request, for the dictionary of its log."""

    state: State
    octets: int = 0
    sent: list[bytes] = field(default_factory=list)
    log_hash: bytes | None = None
    signing_ca: str = ""
    _single: dict[ClientCommand, Any] = field(default_factory=dict)
    _several: dict[ClientCommand, list[Any]] = field(default_factory=dict)

    def collect(self, command: ClientCommand, value: Any) -> None:
        """Keep one part of a request; raises PeerError when it was there before."""
        if command in _SEVERAL:
            self._several.setdefault(command, []).append(value)
        elif command in self._single:
            raise PeerError(f"{command.wire_name} came twice for one request")
        else:
            self._single[command] = value

    def count(self, command: ClientCommand) -> int:
        """How many of what may come several times are there."""
        return len(self._several.get(command, ()))

    def announced_bundle(self) -> bytes:
        """SHA-256 of the bundle that is to come."""
        announced: bytes = self._single[ClientCommand.ANNOUNCE_BUNDLE]
        self._forget()
        return announced

    def certificate_request(self) -> CertificateRequest:
        """Return the request that the parts make; they are let go."""
        single, several = self._single.get, self._several.get
        is_csr = ClientCommand.SET_CSR in self._single
        request = CertificateRequest(
            key_kind="csr" if is_csr else "spkac",
            key_proof=self._single[ClientCommand.SET_CSR if is_csr else ClientCommand.SET_SPKAC],
            profile=single(ClientCommand.SET_PROFILE, ""),
            account=single(ClientCommand.SET_ACCOUNT, ""),
            request_id=single(ClientCommand.SET_REQUEST_ID, b""),
            signature_hash=single(ClientCommand.SET_SIGNATURE_TYPE, ""),
            wish_from=single(ClientCommand.WISH_FROM, ""),
            wish_to=single(ClientCommand.WISH_TO, ""),
            attributes=tuple(several(ClientCommand.ADD_AVA, ())),
            alt_names=tuple(several(ClientCommand.ADD_SAN, ())),
            ocsp_target_ca=single(ClientCommand.OCSP_TARGET_CA, ""),
            proofs=tuple(several(ClientCommand.ADD_PROOF_LINE, ())),
        )
        self._forget()
        return request

    def revocation_request(self, revoke: payload.Revoke) -> RevocationRequest:
        """Return the revocation that the parts and `revoke` make; they are let go."""
        revocations: list[Revocation] = self._several.get(ClientCommand.ADD_SERIAL, [])
        request = RevocationRequest(
            signing_ca=revoke.signing_ca,
            revocations=tuple(revocations),
            crl_number=revoke.crl_number,
            tbs_hash=revoke.tbs_hash,
            request_id=self._single.get(ClientCommand.SET_REQUEST_ID, b""),
        )
        self._forget()
        return request

    def _forget(self) -> None:
        self._single = {}
        self._several = {}


_SEVERAL: Final = frozenset(
    {ClientCommand.ADD_AVA, ClientCommand.ADD_SAN, ClientCommand.ADD_PROOF_LINE, ClientCommand.ADD_SERIAL}
)


def certificate_messages(request: CertificateRequest, *, version: int) -> list[Message]:
    """Return the messages that ask for a certificate, in the order of the original.

    Version 1 has neither request id nor account, wants PEM or `SPKAC=` text for the key, and always says the hash and
    both dates.
    """
    key = ClientCommand.SET_CSR if request.key_kind == "csr" else ClientCommand.SET_SPKAC
    parts: list[tuple[ClientCommand, Any]] = []
    if version > 1:
        parts.append((ClientCommand.SET_REQUEST_ID, request.request_id))
    parts.append((key, request.key_proof if version > 1 else _key_as_text(request)))
    signature_hash = request.signature_hash or ("" if version > 1 else _VERSION_1_HASH)
    texts = [
        (ClientCommand.SET_ACCOUNT, request.account if version > 1 else ""),
        (ClientCommand.SET_SIGNATURE_TYPE, signature_hash),
        (ClientCommand.SET_PROFILE, request.profile),
        (ClientCommand.OCSP_TARGET_CA, request.ocsp_target_ca),
    ]
    parts += [(command, text) for command, text in texts if text]
    dates = [(ClientCommand.WISH_FROM, request.wish_from), (ClientCommand.WISH_TO, request.wish_to)]
    parts += [(command, text) for command, text in dates if text or version == 1]
    # The original drops an attribute without a value.
    parts += [(ClientCommand.ADD_AVA, each) for each in request.attributes if each.value or version > 1]
    parts += [(ClientCommand.ADD_SAN, each) for each in request.alt_names]
    parts += [(ClientCommand.ADD_PROOF_LINE, each) for each in request.proofs]
    parts.append((ClientCommand.SIGN, None))
    return [Message(command=command, value=value) for command, value in parts]


def revocation_messages(request: RevocationRequest, *, version: int) -> list[Message]:
    """Return the messages of a revocation: the id where there is one, the serials, `revoke`."""
    messages = []
    if version > 1 and request.request_id:
        messages.append(Message(command=ClientCommand.SET_REQUEST_ID, value=request.request_id))
    messages += [Message(command=ClientCommand.ADD_SERIAL, value=each) for each in request.revocations]
    revoke = payload.Revoke(signing_ca=request.signing_ca, crl_number=request.crl_number, tbs_hash=request.tbs_hash)
    return [*messages, Message(command=ClientCommand.REVOKE, value=revoke)]


def _key_as_text(request: CertificateRequest) -> bytes:
    if not request.key_proof.startswith(_DER_SEQUENCE):
        return request.key_proof
    if request.key_kind == "csr":
        return payload.encode_pem("CERTIFICATE REQUEST", request.key_proof)
    return b"SPKAC=" + payload.encode_base64(request.key_proof)
