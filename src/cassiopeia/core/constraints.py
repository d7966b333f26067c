"""Name constraints of a sub-CA (RFC 5280 4.2.1.10): which names a certificate below it may carry.

Owns reading them from the sub-CA's own certificate, and holding a request's names to them: a certificate beyond them
would be issued, and every verifier would reject it. Domains, mail addresses and IP addresses; a constraint on another
type of name is left to the verifiers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509

from cassiopeia.core.request import SubjectAltName, SubjectAttribute
from cassiopeia.errors import Refused

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_WILDCARD: Final = "*."


@dataclass(frozen=True, kw_only=True, slots=True)
class NameConstraints:
    """By type of name, what is permitted (nothing there: all of it) and what is excluded, which goes before."""

    permitted_domains: tuple[str, ...] = ()
    excluded_domains: tuple[str, ...] = ()
    permitted_mail: tuple[str, ...] = ()
    excluded_mail: tuple[str, ...] = ()
    permitted_addresses: tuple[_Network, ...] = ()
    excluded_addresses: tuple[_Network, ...] = ()


UNCONSTRAINED: Final = NameConstraints()


def read_constraints(extensions: x509.Extensions) -> NameConstraints:
    """The constraints among a CA certificate's extensions; `UNCONSTRAINED` when there are none."""
    try:
        value = extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return UNCONSTRAINED
    return NameConstraints(
        permitted_domains=_of_type(value.permitted_subtrees, x509.DNSName),
        excluded_domains=_of_type(value.excluded_subtrees, x509.DNSName),
        permitted_mail=_of_type(value.permitted_subtrees, x509.RFC822Name),
        excluded_mail=_of_type(value.excluded_subtrees, x509.RFC822Name),
        permitted_addresses=_of_type(value.permitted_subtrees, x509.IPAddress),
        excluded_addresses=_of_type(value.excluded_subtrees, x509.IPAddress),
    )


def check_constraints(
    constraints: NameConstraints,
    *,
    authority: str,
    attributes: Iterable[SubjectAttribute],
    alt_names: Iterable[SubjectAltName],
) -> None:
    """Raises Refused for a name that a certificate of the sub-CA `authority` must not carry; names are checked ones."""
    named = [(each.type, each.value) for each in alt_names]
    # RFC 5280 4.2.1.10: the constraints hold for emailAddress in the subject, too.
    named += [("email", each.value) for each in attributes if each.type == "EMAIL"]
    for name_type, value in named:
        permitted, excluded, lies_in = _rules(constraints, name_type)
        beyond = permitted and not any(lies_in(value, each) for each in permitted)
        if beyond or any(_touches(value, each, lies_in) for each in excluded):
            raise Refused(
                f"{value[:80]!a} is not among the names that {authority} may certify; the operators say which are.",
                code="name-not-permitted",
                field=name_type,
            )


_LiesIn = Callable[[str, Any], bool]


def _rules(constraints: NameConstraints, name_type: str) -> tuple[tuple[Any, ...], tuple[Any, ...], _LiesIn]:
    if name_type == "DNS":
        return constraints.permitted_domains, constraints.excluded_domains, _is_below
    if name_type == "email":
        return constraints.permitted_mail, constraints.excluded_mail, _is_mail_of
    if name_type == "IP":
        return constraints.permitted_addresses, constraints.excluded_addresses, _is_in_network
    return (), (), _is_below


def _touches(value: str, subtree: Any, lies_in: _LiesIn) -> bool:
    """Whether a name lies in an excluded subtree, or is a wildcard that stands for a name in it."""
    if lies_in(value, subtree):
        return True
    return value.startswith(_WILDCARD) and str(subtree).partition(".")[2].lower() == value.removeprefix(_WILDCARD)


def _is_below(domain: str, subtree: str) -> bool:
    """RFC 5280: "any DNS name that can be constructed by simply adding zero or more labels to the left-hand side"."""
    subtree = subtree.lower()
    if not subtree:
        return True
    # With a dot in front, which RFC 5280 does not know here, verifiers take what is below it alone.
    return domain == subtree or domain.endswith(subtree if subtree.startswith(".") else f".{subtree}")


def _is_mail_of(address: str, subtree: str) -> bool:
    """RFC 5280: a mailbox, the mailboxes of a host, or with a dot in front those of every host below it."""
    local, _, host = address.rpartition("@")
    box, at, subtree_host = subtree.rpartition("@")
    host, subtree_host = host.lower(), subtree_host.lower()
    if at:
        return (local, host) == (box, subtree_host)
    return host.endswith(subtree_host) if subtree_host.startswith(".") else host == subtree_host


def _is_in_network(address: str, network: _Network) -> bool:
    parsed = ipaddress.ip_address(address)
    return parsed.version == network.version and parsed in network


def _of_type(subtrees: list[x509.GeneralName] | None, kind: type[Any]) -> tuple[Any, ...]:
    return tuple(each.value for each in subtrees or () if isinstance(each, kind))
