"""Submitting a request: what a subscriber typed becomes what travels to the signer.

Names are brought into the form that certificates hold (A-labels, canonical addresses), the CSR or SPKAC into DER;
nothing is judged here that the signer judges anew. A request that cannot even be written down is kept as refused, with
the reason, so that whoever submitted it finds it again.
"""

from __future__ import annotations

import dataclasses
import datetime as dt

from cassiopeia.core import csr
from cassiopeia.core.idn import normalise_alt_name, normalise_email
from cassiopeia.core.request import CertificateRequest, SubjectAttribute
from cassiopeia.errors import Refused
from cassiopeia.store.database import Store
from cassiopeia.store.records import RequestRecord


def submit(store: Store, wanted: CertificateRequest, *, request_id: bytes, now: dt.datetime) -> RequestRecord:
    """Queue `wanted` under `request_id` (32 octets), or keep it as refused; the record's `state` says which.

    Raises `Refused` only when nothing could be kept: the id names another request, or is none.
    """
    try:
        normalised = dataclasses.replace(
            wanted,
            request_id=request_id,
            key_proof=csr.to_der(wanted.key_proof, wanted.key_kind),
            attributes=tuple(_normalise(each) for each in wanted.attributes),
            alt_names=tuple(normalise_alt_name(each) for each in wanted.alt_names),
        )
        return store.requests.submit(normalised, request_id=request_id, now=now)
    except Refused as refusal:
        if refusal.code.startswith("request-id"):
            raise
        # Without what was handed in: it may be anything, a private key sent by mistake among others.
        kept = dataclasses.replace(wanted, key_proof=b"")
        return store.requests.record_refusal(kept, request_id=request_id, refusal=refusal, now=now)


def _normalise(attribute: SubjectAttribute) -> SubjectAttribute:
    value = normalise_email(attribute.value) if attribute.type == "EMAIL" else attribute.value
    return SubjectAttribute(type=attribute.type, value=value)
