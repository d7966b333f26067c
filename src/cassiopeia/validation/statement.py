"""What a person or a script states to the validator becomes an observation, in the form that the signer compares.

Owns the normalisation (A-labels, mailboxes, the lines of an organisation) and the checks of a single statement. Whether
it is true is for whoever states it: the key that signs it is that person's word.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NoReturn

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cassiopeia.core import demands, ed25519
from cassiopeia.core.decoding import explain
from cassiopeia.core.demands import ORGANISATION_TYPES
from cassiopeia.core.evidence import (
    MAXIMUM_PROOF_OCTETS,
    OBSERVATION_KINDS,
    Observation,
    key_id,
    sign_observation,
)
from cassiopeia.core.idn import normalise_alt_name, normalise_email
from cassiopeia.core.names import check_attribute
from cassiopeia.core.request import SubjectAltName, SubjectAttribute
from cassiopeia.errors import OperatorError, Refused
from cassiopeia.store.records import check_text

STATED: Final = "stated"
"""The method of what somebody states without saying how he saw it."""
ORGANISATION: Final = "organisation"
MAXIMUM_LINES: Final = 10_000

_NAMED: Final = 5
# As co.uk, com.au or ne.jp; ibm.de as well.
_SUFFIX_LIKE = re.compile(r"[a-z]{2,3}\.[a-z]{2}")
_METHOD = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?")


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fact as it is stated: a line of JSON has these keys. `at` is when it was seen; without it, now.

    `organisation` is for that kind instead of `value`: C, ST, L, O, OU (a list) and CN. `row` is TABLE:KEY, the row of
    a database that it is about.
    """

    kind: str
    account: str
    value: str = ""
    organisation: Mapping[str, str | tuple[str, ...]] = {}
    method: str = STATED
    at: str = ""
    row: str = ""


def read_statements(text: str) -> tuple[Statement, ...]:
    """Read lines of JSON, a statement on each; empty lines are left out. Raises OperatorError with the line."""
    lines = text.split("\n")  # what else splits lines may stand within a text
    if len(lines) > MAXIMUM_LINES:
        raise OperatorError(f"{len(lines)} lines at once are too many: give {MAXIMUM_LINES} at most")
    statements = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            statements.append(msgspec.json.decode(line, type=Statement))
        except msgspec.ValidationError as error:
            reason, key = explain(str(error))
            where = f"line {number}: {key}" if key else f"line {number}"
            raise OperatorError(f"{where}: {reason}; nothing was stated") from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise OperatorError(f"line {number}: this is not JSON ({error}); nothing was stated") from error
    return tuple(statements)


def observe(statement: Statement, key: Ed25519PrivateKey, *, now: dt.datetime) -> tuple[Observation, bytes]:
    """The observation that a statement makes, and its signed octets; raises Refused."""
    if statement.kind not in OBSERVATION_KINDS:
        _refuse(f"{statement.kind!a} is no kind of observation; use {', '.join(OBSERVATION_KINDS)}", "kind")
    check_text(statement.account, field="account")
    if not statement.account:
        _refuse("an observation is for one account; name it", "account")
    if not _METHOD.fullmatch(statement.method):
        _refuse(
            f"the method {statement.method!a} is no word of small letters, digits, dots and hyphens (64 at most)",
            "method",
        )
    table, primary_key = _row(statement.row)
    observation = Observation(
        kind=statement.kind,
        value=value_of(statement.kind, statement.value, statement.organisation),
        account=statement.account,
        method=statement.method,
        observed_at=_moment(statement.at, now=now),
        table=table,
        primary_key=primary_key,
        validator=key_id(ed25519.public_octets(key)),
    )
    octets = sign_observation(observation, key)
    if len(octets) > MAXIMUM_PROOF_OCTETS:
        _refuse(f"the observation would have {len(octets)} octets; {MAXIMUM_PROOF_OCTETS} are the most", "value")
    return observation, octets


def warn_of_breadth(observations: Iterable[Observation]) -> str:
    """What to tell whoever has stated these, of domains that may not be one owner's alone; empty when there are none.

    Those of two labels are meant: there is no list of public suffixes here, and one label covers nothing below it.
    """
    broad = dict.fromkeys(
        each.value
        for each in observations
        if each.kind == "dns-control" and each.method in demands.WHOLE_DOMAIN_METHODS and each.value.count(".") == 1
    )
    if not broad:
        return ""
    suffixes = [each for each in broad if _SUFFIX_LIKE.fullmatch(each)]
    return (
        f"{_some(list(broad))}: seen by a method that proves a whole domain, so that every name below is covered as "
        "well, under profiles that allow it. "
        + (f"{_some(suffixes)} may well be a public suffix, which nobody controls. " if suffixes else "")
        + "No list of those is kept here: if the domain is not the account's alone, delete the row from the table "
        "observation of the store at once, and state single names, seen by another method"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def value_of(kind: str, value: str, organisation: Mapping[str, str | tuple[str, ...]]) -> str:
    """The exact value of an observation, as the signer compares it; raises Refused."""
    if kind == ORGANISATION:
        if value:
            _refuse("an organisation is stated by its parts (C, ST, L, O, OU, CN), not by a value", "value")
        return organisation_value(organisation)
    if organisation:
        _refuse(f"the parts of an organisation stand with {ORGANISATION}, not with {kind}", "organisation")
    if not value.strip():
        _refuse(f"{kind} is about one value; name it", "value")
    if kind == "mailbox-control":
        return normalise_email(value)
    if kind == "name-verified":
        check_attribute(SubjectAttribute(type="CN", value=value))
        return value
    name = normalise_alt_name(SubjectAltName(type="DNS", value=value)).value
    if kind == "dns-control" and name.startswith("*."):
        _refuse(
            f"{kind} is about a domain: state {name[2:]}; a method that proves the whole domain (dns, mail-to-domain) "
            "covers the names below it",
            "value",
        )
    return name


def organisation_value(parts: Mapping[str, str | tuple[str, ...]]) -> str:
    """The lines `TYPE=value` of an organisation, in their order; raises Refused."""
    for each in parts:
        if each not in ORGANISATION_TYPES:
            _refuse(f"{each[:20]!a} is no part of an organisation; use {', '.join(ORGANISATION_TYPES)}", ORGANISATION)
    attributes = []
    for attribute_type, given in parts.items():
        values: Sequence[str] = (given,) if isinstance(given, str) else given
        if len(values) > 1 and attribute_type != "OU":
            _refuse(f"{attribute_type} stands there twice; only OU may", attribute_type)
        attributes += [SubjectAttribute(type=attribute_type, value=each) for each in values]
    for attribute in attributes:
        check_attribute(attribute)
    if not parts.get("O"):
        _refuse("an organisation has a name; add O", "O")
    return demands.organisation_value(attributes)


def _moment(text: str, *, now: dt.datetime) -> dt.datetime:
    if not text:
        return now.replace(microsecond=0)
    try:
        moment = dt.datetime.fromisoformat(text)
        # Beside the first and the last year, time zones lead out of what there is.
        utc = moment.astimezone(dt.UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        _refuse(f"{text[:40]!a} is no time: write it as 2026-11-23T12:00:00Z", "at")
    if moment.tzinfo is None:
        _refuse(f"{text} names no time zone: end it with Z", "at")
    if utc > now:
        _refuse(f"{text} is in the future: nobody has seen it yet", "at")
    return utc


def _row(text: str) -> tuple[str, str]:
    if not text:
        return "", ""
    table, colon, primary_key = text.partition(":")
    if not (table and colon and primary_key):
        _refuse(f"{text[:80]!a} names no row: write TABLE:KEY, as domain:17", "row")
    check_text(table, field="row")
    check_text(primary_key, field="row")
    return table, primary_key


def _refuse(message: str, field: str) -> NoReturn:
    raise Refused(message, code="statement-invalid", field=field)
