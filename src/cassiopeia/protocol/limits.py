"""What one session may cost: every bound of the wire in one value (wire specification, "Bounds").

Bounds are looked at before anything is allocated for what they bound.
"""

from __future__ import annotations

from dataclasses import dataclass

from cassiopeia.core.evidence import MAXIMUM_PROOF_OCTETS, MAXIMUM_PROOFS
from cassiopeia.protocol.payload import HelloLimits

_KIB = 1024
_MIB = 1024 * _KIB


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of one session on one side; the first three are told to the peer in `hello`.

    `request_octets` bounds what the client may send for one request, `message_octets` any one message (a log after
    inflating, too), `crl_octets` a CRL or the answer to a revocation, `bundle_octets` a bundle
    before and after inflating, `session_octets` what all unfinished messages and requests of the session may hold
    together. `proofs` is how many proof lines a request may have, `proof_octets` how
    long each may be. `request_seconds` is for whoever owns a clock: a session has none.
    """

    open_requests: int = 512
    request_octets: int = 256 * _KIB
    request_seconds: int = 900
    proofs: int = MAXIMUM_PROOFS
    proof_octets: int = MAXIMUM_PROOF_OCTETS
    message_octets: int = 512 * _KIB
    crl_octets: int = 8 * _MIB
    bundle_octets: int = 4 * _MIB
    session_octets: int = 32 * _MIB

    def as_payload(self) -> HelloLimits:
        return HelloLimits(
            open_requests=self.open_requests,
            request_octets=self.request_octets,
            request_seconds=self.request_seconds,
        )
