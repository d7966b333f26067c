"""The memory of a hierarchy: what each of its ceremonies made, and what the next one has to go on with.

Owns `record.json` of the offline bundle: the number of the ceremony, every CA ever made, CRL numbers, what was revoked,
and the commitments to the shares that open the safe. Holds no key; the entries of CRLs stand in the CRLs.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final, Literal

import msgspec

from cassiopeia.ceremony.hierarchy import ROOT_NAME
from cassiopeia.config import HIGHEST_SIGNER_ID, CaName
from cassiopeia.core.crl import REASONS
from cassiopeia.core.decoding import explain
from cassiopeia.errors import InternalError, OperatorError

RECORD_NAME: Final = "record.json"

Level = Literal["root", "structure", "time"]
KeyPlace = Literal["safe", "bundle", "signer", "elsewhere"]
"""Where a CA's private key is: in the offline bundle, in the bundle of its signer when it was made, born in the signer,
or with somebody else (a root that is not ours)."""

_Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]
_Hash = Annotated[str, msgspec.Meta(pattern=r"(?#64 hexadecimal digits)^[0-9a-f]{64}\Z")]
_ReasonName = Annotated[str, msgspec.Meta(pattern=rf"(?#a reason)^({'|'.join(REASONS.values())})?\Z")]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every part has in common: it may hold what is declared here and nothing else."""


class KnownAuthority(_Part, frozen=True, kw_only=True):
    """A CA that was made or adopted. What is said of time sub-CAs alone is 0, empty or None for others.

    `generation` counts the structure CAs of a family. `crl_number` is that of an offline CA's last CRL. `retired` ones
    are trusted no more, or no more needed: they sign no certificate, and their CRLs go on. `adopted` ones have a
    certificate that no ceremony here made.
    """

    name: CaName
    level: Level
    family: str = ""
    generation: Annotated[int, msgspec.Meta(ge=1)] = 1
    issuer: CaName
    made_in: Annotated[int, msgspec.Meta(ge=1)]
    adopted: bool = False
    key: KeyPlace
    not_before: _Moment
    not_after: _Moment
    signer_id: Annotated[int, msgspec.Meta(ge=0, le=HIGHEST_SIGNER_ID)] = 0
    spare: Annotated[int, msgspec.Meta(ge=0)] = 0
    issues_from: _Moment | None = None
    issues_until: _Moment | None = None
    maximum_certificates: int = 0
    pss: bool = False
    crl_urls: tuple[str, ...] = ()
    issuer_urls: tuple[str, ...] = ()
    ocsp_urls: tuple[str, ...] = ()
    crl_number: Annotated[int, msgspec.Meta(ge=0)] = 0
    retired: bool = False
    revoked_at: _Moment | None = None
    reason: _ReasonName = ""

    @property
    def is_offline(self) -> bool:
        return self.level != "time"


class AwaitedCertificate(_Part, frozen=True, kw_only=True):
    """A structure CA whose key is in the safe, and whose certificate somebody else's root has yet to sign."""

    name: CaName
    family: str


class KeptShares(_Part, frozen=True, kw_only=True):
    """How the safe opens: any `threshold` of so many shares, and a commitment to each (SHA-256), in their order."""

    name: str
    threshold: Annotated[int, msgspec.Meta(ge=2)]
    commitments: tuple[_Hash, ...]


class Record(_Part, frozen=True, kw_only=True):
    """Everything that one ceremony leaves for the next. `root_key` is SHA-256 of the root's SubjectPublicKeyInfo."""

    version: Literal[1] = 1
    number: Annotated[int, msgspec.Meta(ge=1)]
    made_at: _Moment
    root_key: _Hash
    authorities: tuple[KnownAuthority, ...]
    awaited: tuple[AwaitedCertificate, ...] = ()
    shares: KeptShares | None = None

    def authority(self, name: str) -> KnownAuthority:
        """The CA of this name; raises OperatorError, which names those that there are."""
        for each in self.authorities:
            if each.name == name:
                return each
        names = ", ".join(each.name for each in self.authorities)
        raise OperatorError(f"there is no CA {name!r} in this hierarchy; there are {names}")

    @property
    def root(self) -> KnownAuthority:
        return self.authority(ROOT_NAME)

    @property
    def time(self) -> tuple[KnownAuthority, ...]:
        return tuple(each for each in self.authorities if each.level == "time")

    def names(self, level: Level) -> tuple[str, ...]:
        return tuple(each.name for each in self.authorities if each.level == level)

    def below(self, name: str) -> tuple[KnownAuthority, ...]:
        """Every CA whose chain leads through this one."""
        direct = [each for each in self.authorities if each.issuer == name != each.name]
        return tuple(found for each in direct for found in (each, *self.below(each.name)))

    def structure_of(self, family: str) -> KnownAuthority | None:
        """The newest structure CA of this family that is not revoked, if there is one."""
        found = [
            each
            for each in self.authorities
            if each.level == "structure" and each.family == family and not each.retired
        ]
        return max(found, key=lambda each: each.generation, default=None)


def write_record(record: Record) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1)


def read_record(octets: bytes) -> Record:
    """Raises OperatorError for a record that this software has not written, or that a newer one has."""
    try:
        record = msgspec.json.decode(octets, type=Record)
    except msgspec.ValidationError as error:
        reason, key = explain(str(error))
        raise OperatorError(
            f"{RECORD_NAME} of the offline bundle cannot be used: {key}: {reason}; a newer version may have written it"
        ) from error
    except msgspec.DecodeError as error:
        raise OperatorError(f"{RECORD_NAME} of the offline bundle is no JSON: {error}") from error
    names = [each.name for each in record.authorities]
    if len(set(names)) != len(names):
        raise OperatorError(f"{RECORD_NAME} of the offline bundle names a CA twice")
    return record


def reason_code(name: str) -> int:
    """The CRLReason (RFC 5280 5.3.1) of this name."""
    for code, known in REASONS.items():
        if known == name:
            return code
    raise InternalError(f"no reason is called {name!a}")
