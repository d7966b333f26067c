"""A plan in words and tables: the tree, the calendar, the numbers. For people who decide whether to hold the ceremony.

And what was made, as the safe remembers it.

Owns the tables as rows of text, for whatever prints them, and their plain form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cassiopeia.ceremony.calendar import PlannedAuthority
from cassiopeia.ceremony.hierarchy import ROOT_NAME, Family, NameConstraints
from cassiopeia.ceremony.planning import Plan
from cassiopeia.ceremony.record import KnownAuthority, Record

_INDENT = "  "


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """A table: what its columns are called, and its rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def lines(self) -> Iterator[str]:
        """The table in plain text, its columns as wide as they must be."""
        table = [self.columns, *self.rows]
        widths = [max(len(row[index]) for row in table) for index in range(len(self.columns))]
        for row in table:
            yield _INDENT + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def overview(plan: Plan) -> Iterator[str]:
    """The whole plan, line by line."""
    hierarchy = plan.declaration.hierarchy
    yield (
        f"{hierarchy.organisation}: a root, {len(hierarchy.family)} structure CAs and {len(plan.authorities)} time "
        f"sub-CAs, made on {plan.begin:%Y-%m-%d} and issuing until {plan.calendar_end:%Y-%m-%d}"
    )
    yield from ("", "The tree")
    yield from tree(plan)
    yield from ("", "The calendar: which time sub-CA issues when (with + its spares, for when it is full)")
    yield from calendar_rows(plan).lines()
    yield from ("", "How many certificates they may issue")
    yield from volume_rows(plan).lines()


def remembered(record: Record) -> Iterator[str]:
    """What the safe remembers, line by line: how it opens, and every CA that was ever made."""
    yield f"Ceremony {record.number}, of {record.made_at:%Y-%m-%d %H:%M} UTC"
    yield f"Root key (SHA-256): {record.root_key}"
    if record.shares is None:
        yield "Opens with: its passphrase, in one piece"
    else:
        count = len(record.shares.commitments)
        yield f"Opens with: {record.shares.threshold} of the {count} shares of the set {record.shares.name!r}"
    yield from (f"Its certificate is awaited: {each.name}" for each in record.awaited)
    yield ""
    rows = tuple(
        (
            each.name,
            each.issuer,
            "-" if each.is_offline else str(each.signer_id),
            str(each.made_in),
            "-" if each.issues_from is None else f"{each.issues_from:%Y-%m-%d}",
            "-" if each.issues_until is None else f"{each.issues_until:%Y-%m-%d}",
            f"{each.not_after:%Y-%m-%d}",
            str(each.crl_number) if each.is_offline else "-",
            _state(each),
        )
        for each in record.authorities
    )
    columns = ("CA", "issuer", "signer", "ceremony", "issues from", "until before", "ends", "CRL number", "")
    yield from Rows(columns=columns, rows=rows).lines()


def _state(known: KnownAuthority) -> str:
    if known.revoked_at is not None:
        return f"revoked {known.revoked_at:%Y-%m-%d}{f', {known.reason}' if known.reason else ''}"
    parts = [
        "retired" if known.retired else "",
        "adopted" if known.adopted else "",
        "its key is elsewhere" if known.key == "elsewhere" else "",
        f"spare {known.spare}" if known.spare else "",
    ]
    return ", ".join(filter(None, parts))


def tree(plan: Plan) -> Iterator[str]:
    """The CAs above each other, with what each of them is."""
    hierarchy = plan.declaration.hierarchy
    root = hierarchy.root
    yield f"{_INDENT}{ROOT_NAME}: {root.common_name}, {root.key_algorithm}, until {plan.root_end:%Y-%m-%d}"
    for family in hierarchy.family:
        structure, time = hierarchy.structure_of(family), hierarchy.time_of(family)
        yield (
            f"{_INDENT * 2}{family.name}: {family.common_name}, {structure.key_algorithm}, until "
            f"{plan.structure_ends[family.name]:%Y-%m-%d}, for {', '.join(family.extended_key_usage)}"
        )
        for line in _particulars(family):
            yield f"{_INDENT * 3}{line}"
        count = sum(each.family.name == family.name for each in plan.authorities)
        yield (
            f"{_INDENT * 3}{_counted(count, 'time sub-CA')}, {time.key_algorithm}: each issues for "
            f"{_counted(time.months, 'month')}, and is valid for {_counted(time.outlives_years, 'year')} more"
        )
        profiles = ", ".join(f"{each.name} ({each.maximum_validity_days} days)" for each in plan.profiles_of(family))
        yield f"{_INDENT * 3}profiles: {profiles or 'none'}"


def calendar_rows(plan: Plan) -> Rows:
    """For each period and family, the sub-CAs of each signer: the one that is to issue, and its spares."""
    places: dict[tuple[str, str, str, str], dict[int, list[PlannedAuthority]]] = {}
    for each, stretch in zip(plan.authorities, plan.stretches, strict=True):
        key = (
            f"{stretch.issues_from:%Y-%m-%d}",
            f"{stretch.issues_until:%Y-%m-%d}",
            each.family.name,
            f"{each.not_after:%Y-%m-%d}",
        )
        places.setdefault(key, {}).setdefault(each.signer_id, []).append(each)
    several = len(plan.declaration.hierarchy.signer) > 1
    order = {family.name: index for index, family in enumerate(plan.declaration.hierarchy.family)}
    rows = []
    for (begin, end, family, not_after), signers in sorted(
        places.items(), key=lambda one: (one[0][0], order[one[0][2]])
    ):
        for signer_id, those in signers.items():
            first, *spares = those
            names = " ".join([first.name, *(f"+{spare.name.rpartition('_')[2]}" for spare in spares)])
            rows.append((begin, end, family, *([str(signer_id)] if several else []), names, not_after))
    columns = ("issues from", "until before", "family", *(["signer"] if several else []), "sub-CAs", "valid until")
    return Rows(columns=columns, rows=tuple(rows))


def volume_rows(plan: Plan) -> Rows:
    """For each family, what one sub-CA holds, what is expected, and the spares that this needs."""
    return Rows(
        columns=(
            "family",
            "one sub-CA holds",
            "expected a month",
            "in a period, each signer",
            "spares needed",
            "spares",
        ),
        rows=tuple(
            (
                each.family.name,
                f"{each.maximum:,}",
                f"{each.family.expected_a_month:,}" if each.family.expected_a_month else "not said",
                f"{each.a_period:,}" if each.family.expected_a_month else "",
                str(each.spares_needed) if each.family.expected_a_month else "",
                str(each.spares),
            )
            for each in plan.volumes
        ),
    )


def _particulars(family: Family) -> Iterator[str]:
    if family.policy_identifiers:
        yield f"policies: {', '.join(family.policy_identifiers)}{f' ({family.cps_url})' if family.cps_url else ''}"
    if family.name_constraints != NameConstraints():
        constraints = family.name_constraints
        said: Sequence[tuple[str, tuple[str, ...]]] = (
            ("only domains", constraints.permitted_domains),
            ("no domains", constraints.excluded_domains),
            ("only mail of", constraints.permitted_mail_domains),
            ("no mail of", constraints.excluded_mail_domains),
        )
        yield "names: " + "; ".join(f"{what} {', '.join(domains)}" for what, domains in said if domains)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
