"""The revocation desk as its tests speak of it: a request, its answer, and the copy of the CRL that a client keeps."""

from __future__ import annotations

import hashlib

from tests.support import issuing
from tests.support.conversations import Pair
from tests.support.signer import Front

from cassiopeia.core import crl
from cassiopeia.core.request import Revocation, RevocationRequest
from cassiopeia.protocol.events import RevocationAnswered


class Copy:
    """A client's copy of the CRL, kept by patches alone."""

    def __init__(self, front: Front) -> None:
        self._authority = front.authority
        self.crl: crl.Crl | None = None

    def request(self, *serials: int, request_id: bytes = b"") -> RevocationRequest:
        return RevocationRequest(
            signing_ca=self._authority.name,
            revocations=tuple(Revocation(serial_number=each) for each in serials),
            crl_number=self.crl.number if self.crl else 0,
            tbs_hash=hashlib.sha256(self.crl.tbs).digest() if self.crl else b"",
            request_id=request_id,
        )

    def patch(self, event: object) -> list[int]:
        """Take an answer; return the serials that stand in the copy now."""
        assert isinstance(event, RevocationAnswered)
        answer = event.answer
        patched = crl.patch(
            self.crl,
            authority=self._authority,
            algorithm_der=answer.algorithm,
            this_update=answer.this_update,
            next_update=answer.next_update,
            crl_number=answer.crl_number,
            new_entries=answer.entries,
            signature=answer.signature,
        )
        self.crl = crl.check_crl(crl.compose_crl(patched.tbs, patched.signature), authority=self._authority)
        assert self.crl == patched
        return list(crl.entry_serials(self.crl.entries))


def renew(front: Front) -> None:
    front.revocation.renew(now=front.now)
    front.settle()


def revoke(front: Front, pair: Pair, request: RevocationRequest) -> object:
    pair.client.revoke(request)
    front.settle()
    (answer,) = front.answers(pair)
    return answer


def kinds(front: Front) -> list[str]:
    """Kinds of all entries that are not about certificates."""
    return [kind for kind in issuing.kinds(front) if kind not in ("intent", "confirmation", "result")]
