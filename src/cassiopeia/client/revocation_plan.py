"""The plan of a mass revocation, as files: what is revoked and why, a table for people, a notice for each account.

Owns the directory that `cassiopeia revoke plan` makes and `run` reads: `plan.json`, `certificates.csv`, `notices/`. It
holds names of persons: the files are their owner's alone. Nothing here revokes anything, or looks into the store.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import quote

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from cassiopeia import files
from cassiopeia.core.crl import REASONS
from cassiopeia.errors import OperatorError
from cassiopeia.store.mass_revocation import NamedCertificate
from cassiopeia.store.records import CertificateRecord

PLAN: Final = "plan.json"
_TABLE: Final = "certificates.csv"
_NOTICES: Final = "notices"
_LARGEST_PLAN: Final = 256 << 20
_LARGEST_TEMPLATE: Final = 64 << 10
_FILE_NAME: Final = 80
_COLUMNS: Final = (
    "serial_number", "sub_ca", "account", "profile", "subject", "names", "valid_from", "valid_until", "notice",
)  # fmt: skip
# A spreadsheet takes what begins so for a formula; subjects are written by strangers.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

TEMPLATE: Final = """\
To the holder of the account $account

$count of your certificates will be revoked by $deadline.
The reason: $reason.

From then on whoever checks them refuses them. Please install others before.

$certificates
"""
_TEMPLATE_WITHOUT_DEADLINE: Final = TEMPLATE.replace("by $deadline", "in the next days")

_Hexadecimal = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{2,42}\Z")]
_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]


class _Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    serial_number: _Hexadecimal
    authority: _Name
    sha256: _Digest


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be revoked, and by when; `what` is how it was chosen, in words."""

    format: Literal["cassiopeia revocation plan 1"] = "cassiopeia revocation plan 1"
    what: str
    reason: int
    invalidity_date: _Moment | None
    deadline: _Moment | None
    made_at: _Moment
    certificates: tuple[_Certificate, ...]

    @property
    def named(self) -> tuple[NamedCertificate, ...]:
        return tuple(
            NamedCertificate(serial_number=each.serial_number, authority=each.authority, sha256=each.sha256)
            for each in self.certificates
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """A certificate that is to be revoked, and the names in it."""

    record: CertificateRecord
    sha256: str

    @property
    def names(self) -> tuple[str, ...]:
        return _alt_names(self.record.der)


def make_plan(
    chosen: Iterable[Chosen],
    *,
    what: str,
    reason: int,
    invalidity_date: dt.datetime | None,
    deadline: dt.datetime | None,
    now: dt.datetime,
) -> Plan:
    return Plan(
        what=what,
        reason=reason,
        invalidity_date=invalidity_date,
        deadline=deadline,
        made_at=now,
        certificates=tuple(
            _Certificate(serial_number=each.record.serial_number, authority=each.record.authority, sha256=each.sha256)
            for each in chosen
        ),
    )


def write_plan(directory: Path, plan: Plan, chosen: Sequence[Chosen], *, template: str | None) -> int:
    """Make the directory, all of it or nothing; return how many notices there are. Raises OperatorError."""
    text = template if template is not None else TEMPLATE if plan.deadline else _TEMPLATE_WITHOUT_DEADLINE
    by_account: dict[str, list[Chosen]] = {}
    for each in chosen:
        by_account.setdefault(each.record.account, []).append(each)
    notices = {
        account: (_file_name(number, account), _notice(text, plan, account, theirs))
        for number, (account, theirs) in enumerate(sorted(by_account.items()), start=1)
    }
    with files.new_tree(directory, mode=files.SECRET_DIRECTORY, what="a plan") as building:
        files.write_file(building / PLAN, msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n")
        files.write_file(building / _TABLE, _table(chosen, {account: name for account, (name, _) in notices.items()}))
        notices_directory = files.make_directory(building / _NOTICES)
        for name, notice in notices.values():
            files.write_file(notices_directory / name, notice)
    return len(notices)


def read_plan(directory: Path) -> Plan:
    """Read what `write_plan` has written; raises OperatorError for anything else."""
    path = directory / PLAN if directory.is_dir() else directory
    try:
        with path.open("rb") as file:
            octets = file.read(_LARGEST_PLAN + 1)
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the plan: {error.strerror}") from error
    try:
        plan = msgspec.json.decode(octets, type=Plan)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise OperatorError(
            f"{path}: this is no plan of a mass revocation ({error}): make it with `cassiopeia revoke plan`"
        ) from error
    if plan.reason not in (0, *REASONS):
        raise OperatorError(f"{path}: {plan.reason} is no reason for a revocation: make the plan anew")
    if plan.invalidity_date is not None and plan.invalidity_date > dt.datetime.now(dt.UTC):
        # The signer would refuse each of them, and it would stand in the store as asked for like this.
        raise OperatorError(f"{path}: {plan.invalidity_date:%Y-%m-%d} is still to come: make the plan anew")
    if len(set(plan.named)) < len(plan.named):
        raise OperatorError(f"{path}: it names a certificate twice: make the plan anew")
    return plan


def read_template(path: Path) -> str:
    """The text of a notice; raises OperatorError, also for what nothing can be put in for."""
    try:
        with path.open("rb") as file:
            octets = file.read(_LARGEST_TEMPLATE + 1)
        text = octets.decode()
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the notice: {error.strerror}") from error
    except UnicodeDecodeError:
        raise OperatorError(f"{path}: the notice is not text in UTF-8") from None
    if len(octets) > _LARGEST_TEMPLATE:
        raise OperatorError(f"{path}: the notice has more than {_LARGEST_TEMPLATE} octets")
    return text


def reason_words(reason: int) -> str:
    return REASONS.get(reason, "unspecified")


def plain(text: str) -> str:
    """One line: what a stranger wrote into a certificate must not look like another one."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _notice(template: str, plan: Plan, account: str, theirs: Sequence[Chosen]) -> str:
    values: dict[str, str] = {
        "account": plain(account),
        "count": str(len(theirs)),
        "reason": reason_words(plan.reason),
        "certificates": "\n".join(_described(each) for each in theirs),
    }
    if plan.deadline is not None:
        values["deadline"] = f"{plan.deadline.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
    try:
        return string.Template(template).substitute(values)
    except KeyError as error:
        name = str(error.args[0])
        if name == "deadline":
            raise OperatorError("the notice speaks of $deadline: give --deadline, or leave it out") from None
        known = ", ".join(f"${each}" for each in ("account", "count", "reason", "deadline", "certificates"))
        raise OperatorError(f"the notice speaks of ${name}, which is nothing here: there are {known}") from None
    except ValueError as error:
        raise OperatorError(f"the notice has a $ that stands for nothing ({error}): write $$ for the sign") from None


def _described(chosen: Chosen) -> str:
    record = chosen.record
    names = ", ".join(chosen.names) or record.subject
    return f"{record.serial_number}  valid until {record.not_after:%Y-%m-%d}  {plain(names)}"


def _table(chosen: Iterable[Chosen], notices: Mapping[str, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # RFC 4180
    writer.writerow(_COLUMNS)
    for each in chosen:
        record = each.record
        row = (
            record.serial_number,
            record.authority,
            record.account,
            record.profile,
            record.subject,
            " ".join(each.names),
            f"{record.not_before:%Y-%m-%dT%H:%M:%SZ}",
            f"{record.not_after:%Y-%m-%dT%H:%M:%SZ}",
            notices[record.account],
        )
        writer.writerow([_cell(each) for each in row])
    return text.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _file_name(number: int, account: str) -> str:
    """A name of its own for each account, whatever that is called."""
    return f"{number:05d}-{quote(account, safe='')[:_FILE_NAME]}.txt"


def _alt_names(der: bytes) -> tuple[str, ...]:
    try:
        extensions = x509.load_der_x509_certificate(der).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension):
        return ()
    return tuple(str(each.value) for each in names if not isinstance(each, x509.DirectoryName))
