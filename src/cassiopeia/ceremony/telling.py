"""What a transcript says before anything is made: with what, of what, and what there is to object to it.

Owns these steps, in which whoever signs finds every key and every profile that the machines will go by, to be compared
with what its owner says.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping, Sequence

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cassiopeia.ceremony.conducting import Outcome
from cassiopeia.ceremony.declaration import Declaration
from cassiopeia.ceremony.objections import Objection
from cassiopeia.ceremony.sub_ca_request import SubCaRequest
from cassiopeia.ceremony.transcript import Minutes, Table, hash_table, in_groups, tool_versions
from cassiopeia.sealing import sealing_fingerprint


def tell_beginning(
    minutes: Minutes, outcome: Outcome, *, requests: Mapping[str, SubCaRequest], at: dt.datetime
) -> None:
    """Software, hierarchy and requests; and where machines get bundles, the keys and profiles in them."""
    record, declaration = outcome.safe.record, outcome.safe.declaration
    minutes.facts["number"] = str(record.number)
    minutes.facts["root key (SHA-256)"] = record.root_key
    minutes.add("What this was done with", at=at, facts=tool_versions())
    facts = {f"request for {name}": request.source for name, request in requests.items()}
    if declaration.digest:
        facts["the hierarchy file (SHA-256)"] = in_groups(bytes.fromhex(declaration.digest))
    minutes.add("What was asked for", f"The hierarchy was read from {declaration.source}.", at=at, facts=facts)
    if not outcome.for_machines:
        return
    rows = tuple(_pinned(declaration))
    minutes.add(
        "The keys that signers are to go by",
        f"SHA-256 of each public key (DER): compare it with what its owner says. Of the operators, "
        f"{declaration.pins.quorum} must sign what loosens something."
        if rows
        else "None is given here: each signer goes by those of its own configuration.",
        at=at,
        table=Table(header=("whose", "name", "SHA-256"), rows=rows) if rows else None,
    )
    minutes.add(
        "The profiles",
        at=at,
        table=hash_table({f"{name}.toml": text.encode() for name, text in declaration.profiles.items()}),
    )


def tell_objections(minutes: Minutes, objections: Sequence[Objection], *, at: dt.datetime) -> None:
    minutes.add(
        "What a reviewer objects to",
        "It was made all the same. Whoever signs below has read each of these, and wants it so."
        if objections
        else "Nothing.",
        at=at,
        facts={str(number): str(each) for number, each in enumerate(objections, start=1)},
    )


def tell_rehearsal(minutes: Minutes, *, at: dt.datetime) -> None:
    minutes.add(
        "Everything was rehearsed",
        "All that follows was done once before, with other keys, up to the last file, without an error. Nothing of it "
        "was kept.",
        at=at,
    )


def _pinned(declaration: Declaration) -> Iterator[tuple[str, str, str]]:
    pins = declaration.pins
    for what, keys in (
        ("operator", pins.operators),
        ("validator", pins.validators),
        ("OCSP responder", pins.responders),
    ):
        for each in keys:
            der = load_pem_public_key(each.pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            yield what, each.name, in_groups(hashlib.sha256(der).digest())
    for signer_id, public in pins.sealing_keys.items():
        yield "sealing key", f"signer {signer_id}", in_groups(bytes.fromhex(sealing_fingerprint(public)))
