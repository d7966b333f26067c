"""The specification says what the code does: its tables, its bounds, and the ASN.1 module field by field."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import types
import typing
from pathlib import Path
from typing import Any

import pytest

from cassiopeia.core import bundle, compromise, evidence, structure
from cassiopeia.core import request as core_request
from cassiopeia.core.request import Revocation, SubjectAltName, SubjectAttribute
from cassiopeia.journal import entry, head, order
from cassiopeia.protocol import payload, record
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import ClientCommand, SignerCommand
from cassiopeia.protocol.transitions import State, as_markdown

DOCS = Path(__file__).parents[3] / "docs"
SPECIFICATION = (DOCS / "wire-specification.md").read_text()
MODULE = re.sub(r"--.*", "", (DOCS / "wire.asn1").read_text())

# Each structure under its name in the module. What is journaled needs another name where a message has the same.
PROTOCOL_STRUCTURES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        payload.Extension,
        payload.Hello,
        payload.HelloLimits,
        payload.SetLog,
        SubjectAttribute,
        SubjectAltName,
        payload.Issued,
        payload.Abandoned,
        payload.GetEntries,
        payload.Entries,
        payload.Obeyed,
        payload.PackedBundle,
        payload.Refusal,
        payload.Failure,
        Revocation,
        compromise.CompromisedKey,
        payload.Revoke,
        payload.Timestamp,
        payload.StatusReport,
        payload.AuthorityStatus,
        payload.ValidatorStatus,
        payload.CapStatus,
        payload.StandingOrders,
        evidence.SignedObservation,
        evidence.Observation,
        evidence.Attestation,
        evidence.AttestedRequest,
        evidence.AttestationStatement,
    )
}
JOURNAL_STRUCTURES: dict[str, type[Any]] = {
    "JournaledRefusal": entry.Refusal,
    "KeyStatement": entry._KeyStatement,
} | {
    kind.__name__: kind
    for kind in (
        entry.CompromiseProof,
        entry.JournalEntry,
        entry.Log,
        entry.Document,
        entry.Documents,
        entry.Requested,
        entry.Reason,
        *(body for body in entry.BODIES.values() if body is not entry.Refusal),
        head.JournalHead,
        head.SignedHead,
        order.SignedOrder,
        order.OrderSignature,
        order.Order,
        *order.ARGUMENTS.values(),
    )
}
BUNDLE_STRUCTURES: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (bundle.SignedBundle, bundle.Bundle, bundle.BundleFile)
}
STRUCTURES = PROTOCOL_STRUCTURES | JOURNAL_STRUCTURES | BUNDLE_STRUCTURES
NAMES = {kind: name for name, kind in STRUCTURES.items()}


def types_of_module() -> dict[str, list[tuple[str, str]]]:
    """Every SEQUENCE of the module: its fields as (name, type), both without what only people read."""
    found = {}
    for name, body in re.findall(r"(\w+) ::= SEQUENCE \{(.*?)\}", MODULE, flags=re.DOTALL):
        fields = [field.split(maxsplit=1) for field in body.split(",")]
        found[name] = [(field_name, " ".join(type_.split())) for field_name, type_ in fields]
    return found


def asn1_type(hint: Any) -> str:
    simple = {int: "Number", str: "UTF8String", bytes: "OCTET STRING", dt.datetime: "Moment"}
    if typing.get_origin(hint) is types.UnionType:
        return asn1_type(typing.get_args(hint)[0])
    if hint == tuple[payload.Extension, ...]:
        return "Extensions"
    if typing.get_origin(hint) in (tuple, list):
        return f"SEQUENCE OF {asn1_type(typing.get_args(hint)[0])}"
    return simple.get(hint) or NAMES.get(hint) or str(hint.__name__)


def fields_of(kind: Any) -> list[tuple[str, str]]:
    hints, fields, tag = typing.get_type_hints(kind), [], 0
    for each in dataclasses.fields(kind):
        type_ = asn1_type(hints[each.name])
        if each.default is not dataclasses.MISSING:
            type_, tag = f"[{tag}] {type_} OPTIONAL", tag + 1
        fields.append((each.name.replace("_", ""), type_))
    return fields


def lowered(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name.lower(), type_) for name, type_ in fields]


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_is_as_in_the_asn1_module(name: str) -> None:
    assert fields_of(STRUCTURES[name]) == lowered(types_of_module()[name])


@pytest.mark.parametrize(
    ("digested", "name"),
    [
        (core_request._Digested, "RequestDigestInput"),
        (core_request._Pair, "SubjectAttribute"),
        # The code has one type for both kinds of name: they are encoded alike.
        (core_request._Pair, "SubjectAltName"),
        (core_request._RevocationDigested, "RevocationDigestInput"),
        (core_request._Revoked, "RevokedInput"),
    ],
)
def test_the_inputs_of_the_digests_are_as_in_the_asn1_module(digested: type[Any], name: str) -> None:
    ours = {"_Pair": "SubjectAttribute", "_Revoked": "RevokedInput"}
    fields = [(each, re.sub(r"\b_\w+", lambda found: ours[found[0]], type_)) for each, type_ in fields_of(digested)]
    expected = [(each, type_.replace("SubjectAltName", "SubjectAttribute")) for each, type_ in types_of_module()[name]]
    assert fields == lowered(expected)


def test_the_asn1_module_has_nothing_else() -> None:
    not_sent_alone = {"RequestDigestInput", "RevocationDigestInput", "RevokedInput", "RevokedFields"}
    assert set(types_of_module()) == {*STRUCTURES, *not_sent_alone}


def test_the_answer_to_a_revocation_is_as_in_the_asn1_module() -> None:
    # RevokedAnswer is not one structure on the wire; its elements have the module's order.
    names = [name for name, _ in types_of_module()["RevokedFields"]]
    assert names == ["date", "algorithm", "signature", "lastUpdate", "nextUpdate", "crlNumber"]
    fields = [each.name for each in dataclasses.fields(payload.RevokedAnswer)]
    assert fields == ["date", "algorithm", "signature", "this_update", "next_update", "crl_number", "entries"]


def test_the_largest_number_is_that_of_the_asn1_module() -> None:
    assert f"INTEGER (0..{2**structure.INTEGER_BITS - 1})" in MODULE


@pytest.mark.parametrize("version", [1, 2])
def test_the_tables_of_transitions_are_those_of_the_code(version: int) -> None:
    section = SPECIFICATION.partition(f"### 10.{version} ")[2].partition("###")[0]
    assert as_markdown(version) in section


def test_every_state_is_explained() -> None:
    for state in State:
        assert f"| {state.name} | {state.value} |\n" in SPECIFICATION


@pytest.mark.parametrize(("section", "commands"), [("5.1", ClientCommand), ("5.2", SignerCommand)])
def test_every_message_is_listed_with_its_code(section: str, commands: type[ClientCommand | SignerCommand]) -> None:
    text = SPECIFICATION.partition(f"### {section} ")[2].partition("\n#")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines() if row.startswith("|")][2:]
    listed = {
        (int(code, 16), name, tuple(n for n, said in ((1, first), (2, second)) if said != "-"))
        for code, name, first, second in rows
    }
    assert listed == {(each.code, each.wire_name, each.versions) for each in commands}


def test_the_bounds_are_those_of_the_code() -> None:
    section = SPECIFICATION.partition("## 9. ")[2].partition("\n## ")[0]
    limits = Limits()
    for bound in (
        f"{record.VERSION_1_PAYLOAD_OCTETS:,} octets (version 1), {record.FRAGMENT_OCTETS:,} (version 2)",
        f"after inflating | {limits.message_octets // 1024} KiB",
        f"a revocation | {limits.crl_octets // 1024 // 1024} MiB",
        f"a bundle, before and after inflating | {limits.bundle_octets // 1024 // 1024} MiB",
        f"`requestOctets` | {limits.request_octets // 1024} KiB",
        f"proofs of one request | {limits.proofs}, each {limits.proof_octets:,} octets ",
        f"`openRequests` | {limits.open_requests} ",
        f"requests hold together | {limits.session_octets // 1024 // 1024} MiB",
        f"`requestSeconds` | {limits.request_seconds} s",
        f"one answer to `getEntries` | {payload.MAXIMUM_ENTRIES:,} ",
    ):
        assert bound in section
