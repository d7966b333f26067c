"""What the ceremonies do, in memory: begin a hierarchy, extend it, sign its CRLs anew, revoke a CA of it.

Owns the step from what is in the safe to what will be in it, with the number of the ceremony counted on, and CRL
numbers too (RFC 5280 5.2.3). Writes no file (`writing`), and asks nobody anything.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from cassiopeia.ceremony.calendar import Period, PlannedAuthority, plan_authorities
from cassiopeia.ceremony.declaration import Declaration
from cassiopeia.ceremony.hierarchy import ROOT_NAME, Family, Hierarchy, with_periods
from cassiopeia.ceremony.key_ceremony import (
    CertificationAuthority,
    Entropy,
    Scribe,
    beginning,
    make_key,
)
from cassiopeia.ceremony.record import (
    AwaitedCertificate,
    KeyPlace,
    KnownAuthority,
    Record,
    reason_code,
)
from cassiopeia.ceremony.safe import Safe, root_key_of
from cassiopeia.ceremony.sub_ca_request import SubCaRequest
from cassiopeia.errors import OperatorError

_NO_REQUESTS: Final[Mapping[str, SubCaRequest]] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a ceremony has done.

    `time_keys` are those of the new sub-CAs, for their signers alone. `certified` and `crls` name the CAs that have a
    new certificate, and a new CRL. `for_machines` says whether signers and clients need a bundle.
    """

    safe: Safe
    time_keys: Mapping[str, CertificateIssuerPrivateKeyTypes] = field(repr=False)
    certified: tuple[str, ...]
    crls: tuple[str, ...]
    for_machines: bool


def begin(
    declaration: Declaration,
    *,
    now: dt.datetime,
    requests: Mapping[str, SubCaRequest] = _NO_REQUESTS,
    entropy: Entropy = secrets.token_bytes,
) -> Outcome:
    """The first ceremony of a hierarchy: root, structure CAs, the first time sub-CAs, the first CRLs."""
    work = Work(declaration, now=now, entropy=entropy)
    work.take_root(work.scribe.make_root())
    work.grow(first=now, requests=requests)
    work.sign_crls()
    return work.close(Ed25519PrivateKey.generate(), for_machines=True)


def extend(
    safe: Safe,
    declaration: Declaration,
    *,
    first: dt.datetime,
    periods: int | None = None,
    now: dt.datetime,
    requests: Mapping[str, SubCaRequest] = _NO_REQUESTS,
    entropy: Entropy = secrets.token_bytes,
) -> Outcome:
    """Make what the declaration wants from the period that holds `first` on, and is not there; sign every CRL anew.

    `periods` counts instead of what the hierarchy says, this time.
    """
    check_same_root(safe.declaration.hierarchy, declaration.hierarchy, source=declaration.source)
    work = Work(declaration, now=now, entropy=entropy, safe=safe)
    work.grow(first=first, periods=periods, requests=requests)
    work.sign_crls()
    return work.close(safe.bundle_key, for_machines=True)


def renew_crls(
    safe: Safe,
    *,
    now: dt.datetime,
    revoke: Collection[str] = (),
    reason: str = "",
    entropy: Entropy = secrets.token_bytes,
) -> Outcome:
    """Sign every offline CA's CRL anew, with these CAs on them. `reason` is a name of RFC 5280 5.3.1, or empty."""
    work = Work(safe.declaration, now=now, entropy=entropy, safe=safe)
    for name in revoke:
        work.revoke(name, reason=reason)
    work.sign_crls()
    return work.close(safe.bundle_key, for_machines=bool(revoke))


def planned_sub_cas(
    hierarchy: Hierarchy, record: Record | None, *, first: dt.datetime, now: dt.datetime
) -> tuple[PlannedAuthority, ...]:
    """The time sub-CAs that a ceremony would make; raises OperatorError when that is not to be done any more."""
    known = () if record is None else record.time

    def present(family: Family, signer_id: int, period: Period) -> int:
        # By the end alone: the first of them begins when it was made, within its period.
        return sum(
            each.family == family.name
            and each.signer_id == signer_id
            and not each.retired
            and each.issues_until == period.end
            for each in known
        )

    taken = [each.name for each in record.authorities] if record is not None else []
    planned = plan_authorities(hierarchy, first=first, taken=taken, present=present)
    over = [each for each in planned if each.period.end <= now]
    if over:
        raise OperatorError(
            f"{over[0].name} would issue until {over[0].period.end:%Y-%m-%d}, which is over: begin with a later period"
        )
    return planned


def check_same_root(old: Hierarchy, new: Hierarchy, *, source: str) -> None:
    """Raise OperatorError when the new hierarchy declares another root than the one that there is."""
    if (old.organisation, old.country, old.root) != (new.organisation, new.country, new.root):
        raise OperatorError(
            f"{source}: declares another root, and a ceremony only adds to the one that there is; take organisation, "
            "country and [root] as they were, or make a new hierarchy with `cassiopeia ceremony run`"
        )


class Work:
    """One ceremony under way: what there was, and what is added to it."""

    def __init__(
        self, declaration: Declaration, *, now: dt.datetime, entropy: Entropy, safe: Safe | None = None
    ) -> None:
        self.scribe = Scribe(declaration.hierarchy, not_before=beginning(now), entropy=entropy)
        self._declaration = declaration
        self._now = now
        self._number = 1 if safe is None else safe.record.number + 1
        self._authorities = {} if safe is None else {each.name: each for each in safe.record.authorities}
        self._awaited = {} if safe is None else {each.name: each for each in safe.record.awaited}
        self._shares = None if safe is None else safe.record.shares
        self._certificates = {} if safe is None else dict(safe.certificates)
        self._crls = {} if safe is None else dict(safe.crls)
        self._keys = {} if safe is None else dict(safe.keys)
        self._time_keys: dict[str, CertificateIssuerPrivateKeyTypes] = {}
        self._certified: list[str] = []
        self._signed_crls: list[str] = []
        self._revoked: dict[str, list[x509.RevokedCertificate]] = {}

    @property
    def has_root_key(self) -> bool:
        return ROOT_NAME in self._keys

    def knows(self, name: str) -> bool:
        """Whether there is a CA of this name, or its certificate is awaited."""
        return name in self._authorities or name in self._awaited

    def take_root(self, root: CertificationAuthority) -> None:
        """A root that was made just now."""
        self._keys[ROOT_NAME] = root.key
        self._add(ROOT_NAME, root.certificate, level="root", issuer=ROOT_NAME, key="safe")
        self._certified.append(ROOT_NAME)

    def take(
        self,
        name: str,
        certificate: x509.Certificate,
        *,
        family: str = "",
        key: CertificateIssuerPrivateKeyTypes | None,
        crl: x509.CertificateRevocationList | None,
        crl_number: int,
    ) -> None:
        """An offline CA that was there before this hierarchy: its CRL goes on from this number."""
        if key is not None:
            self._keys[name] = key
        if crl is not None:
            self._crls[name] = crl
        self._awaited.pop(name, None)
        self._add(
            name,
            certificate,
            level="structure" if family else "root",
            family=family,
            issuer=ROOT_NAME,
            key="safe" if key is not None else "elsewhere",
            crl_number=crl_number,
            adopted=True,
        )

    def await_certificate(self, name: str, *, family: str, key: CertificateIssuerPrivateKeyTypes) -> None:
        """A structure CA whose certificate somebody else's root will sign."""
        self._keys[name] = key
        self._awaited[name] = AwaitedCertificate(name=name, family=family)

    def grow(self, *, first: dt.datetime, requests: Mapping[str, SubCaRequest], periods: int | None = None) -> None:
        """Make the structure CAs and time sub-CAs that are declared, and not there yet."""
        hierarchy = self._declaration.hierarchy
        wanted = hierarchy if periods is None else with_periods(hierarchy, periods)
        planned = planned_sub_cas(wanted, self._record(), first=first, now=self._now)
        # 1. Requests for nothing that will be made are somebody's mistake, before anything is.
        names = [each.name for each in planned]
        unknown = [name for name in requests if name not in names]
        if unknown:
            raise OperatorError(
                f"no sub-CA {unknown[0]!r} will be made, which a request is for; made are {', '.join(names) or 'none'}"
            )
        awaited = {each.family for each in self._awaited.values()}
        for family in hierarchy.family:
            if family.name in awaited:
                continue
            of_family = [each for each in planned if each.family.name == family.name]
            # 2. The structure CA, which has to outlive what it signs.
            above = self._structure(family, until=max((each.not_after for each in of_family), default=None))
            # 3. What is below it.
            for each in of_family:
                self._make_time(each, above, requests.get(each.name))

    def sign_crls(self) -> None:
        """A new CRL of each offline CA whose key is here and whose certificate has not ended."""
        for known in list(self._authorities.values()):
            if known.name not in self._keys or not known.is_offline or known.not_after <= self._now:
                continue
            number = known.crl_number + 1
            last = self._crls.get(known.name)
            entries = [*(last or ()), *self._revoked.get(known.name, ())]
            self._crls[known.name] = self.scribe.make_crl(self._authority(known.name), number=number, revoked=entries)
            self._authorities[known.name] = msgspec.structs.replace(known, crl_number=number)
            self._signed_crls.append(known.name)

    def revoke(self, name: str, *, reason: str) -> None:
        """Put a CA on the CRL of its issuer, and retire it and what is below it. `sign_crls` signs that."""
        known = self._record().authority(name)
        if known.level == "root":
            raise OperatorError(
                f"{name}: no CRL can revoke a root, which is trusted by itself: tell everybody to remove it"
            )
        if known.revoked_at is not None:
            raise OperatorError(f"{name}: is revoked since {known.revoked_at:%Y-%m-%d}, and that stands")
        if known.not_after <= self._now:
            raise OperatorError(f"{name}: has ended on {known.not_after:%Y-%m-%d}: there is nothing to revoke any more")
        if known.issuer not in self._keys:
            raise OperatorError(
                f"{name}: only {known.issuer} can revoke it, whose key is not in the safe: ask whoever holds it"
            )
        moment = beginning(self._now)
        builder = (
            x509.RevokedCertificateBuilder()
            .serial_number(self._certificates[name].serial_number)
            .revocation_date(moment)
        )
        if reason:
            builder = builder.add_extension(x509.CRLReason(_REASON_FLAGS[reason_code(reason)]), critical=False)
        self._revoked.setdefault(known.issuer, []).append(builder.build())
        self._authorities[name] = msgspec.structs.replace(known, revoked_at=moment, reason=reason, retired=True)
        for each in self._record().below(name):
            self._authorities[each.name] = msgspec.structs.replace(each, retired=True)

    def close(self, bundle_key: Ed25519PrivateKey, *, for_machines: bool) -> Outcome:
        return Outcome(
            safe=Safe(
                declaration=self._declaration,
                record=self._record(),
                certificates=self._certificates,
                crls=self._crls,
                keys=self._keys,
                bundle_key=bundle_key,
            ),
            time_keys=self._time_keys,
            certified=tuple(self._certified),
            crls=tuple(self._signed_crls),
            for_machines=for_machines,
        )

    def _record(self) -> Record:
        return Record(
            number=self._number,
            made_at=self._now.astimezone(dt.UTC).replace(microsecond=0),
            root_key=root_key_of(self._certificates[ROOT_NAME]).hex(),
            authorities=tuple(self._authorities.values()),
            awaited=tuple(self._awaited.values()),
            shares=self._shares,
        )

    def _authority(self, name: str) -> CertificationAuthority:
        return CertificationAuthority(
            name=name,
            issuer=self._authorities[name].issuer,
            key=self._keys[name],
            certificate=self._certificates[name],
        )

    def _structure(self, family: Family, *, until: dt.datetime | None) -> CertificationAuthority:
        """The family's structure CA: a new one where there is none, or none that lives `until` then."""
        last = self._record().structure_of(family.name)
        if last is not None and (until is None or until <= last.not_after):
            if last.name not in self._keys:
                raise OperatorError(f"{last.name}: its key is not in the safe, and it has to sign sub-CAs")
            return self._authority(last.name)
        if ROOT_NAME not in self._keys:
            raise OperatorError(
                f"the family {family.name} needs a structure CA, which only the root can sign, and its key is not in "
                "the safe: make a request for it with `cassiopeia ceremony adopt --csr-out`"
            )
        generation = 1 + sum(
            each.level == "structure" and each.family == family.name for each in self._authorities.values()
        )
        name = family.name if generation == 1 else f"{family.name}_{generation}"
        key = make_key(self._declaration.hierarchy.structure_of(family).key_algorithm)
        certificate = self.scribe.certify_structure(
            family, self._authority(ROOT_NAME), key.public_key(), generation=generation
        )
        if until is not None and certificate.not_valid_after_utc < until:
            raise OperatorError(
                f"{name}: would end on {certificate.not_valid_after_utc:%Y-%m-%d}, before its last sub-CA "
                f"({until:%Y-%m-%d}): make fewer periods, give structure CAs more years, or, if the root ends then, "
                "make a new one"
            )
        self._keys[name] = key
        self._add(
            name,
            certificate,
            level="structure",
            family=family.name,
            issuer=ROOT_NAME,
            key="safe",
            generation=generation,
        )
        self._certified.append(name)
        return self._authority(name)

    def _make_time(
        self, planned: PlannedAuthority, above: CertificationAuthority, request: SubCaRequest | None
    ) -> None:
        hierarchy = self._declaration.hierarchy
        time = hierarchy.time_of(planned.family)
        where: KeyPlace = "bundle"
        if request is None:
            key = make_key(time.key_algorithm)
            self._time_keys[planned.name] = key
            public_key = key.public_key()
        else:
            request.check_algorithm(time.key_algorithm)
            public_key = request.public_key
            where = "signer"
        certificate = self.scribe.certify_time(planned, above, public_key)
        self._add(
            planned.name,
            certificate,
            level="time",
            family=planned.family.name,
            issuer=above.name,
            key=where,
            signer_id=planned.signer_id,
            spare=planned.spare,
            issues_from=max(planned.period.start, certificate.not_valid_before_utc),
            issues_until=planned.period.end,
            maximum_certificates=time.maximum_certificates,
            pss=time.pss,
            crl_urls=(hierarchy.crl_url(planned.name),),
            issuer_urls=(hierarchy.issuer_url(planned.name),),
            ocsp_urls=hierarchy.ocsp_urls,
        )
        self._certified.append(planned.name)

    def _add(self, name: str, certificate: x509.Certificate, **said: object) -> None:
        known = {
            "name": name,
            "made_in": self._number,
            "not_before": certificate.not_valid_before_utc,
            "not_after": certificate.not_valid_after_utc,
            **said,
        }
        self._authorities[name] = msgspec.convert(known, KnownAuthority)
        self._certificates[name] = certificate


_REASON_FLAGS: Final = {
    1: x509.ReasonFlags.key_compromise,
    2: x509.ReasonFlags.ca_compromise,
    3: x509.ReasonFlags.affiliation_changed,
    4: x509.ReasonFlags.superseded,
    5: x509.ReasonFlags.cessation_of_operation,
    9: x509.ReasonFlags.privilege_withdrawn,
    10: x509.ReasonFlags.aa_compromise,
}
