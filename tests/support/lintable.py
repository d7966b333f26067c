"""TBSCertificates that are right in every respect, and what approved them, for tests that then make one mistake."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Callable
from typing import Any

from tests.support import der_tree
from tests.support.authorities import NOW, alt_names, load_profile
from tests.support.der_tree import Node

from cassiopeia.core import policy
from cassiopeia.core.authority import Authority
from cassiopeia.core.certificate import assemble_tbs
from cassiopeia.core.lint import LintedTbs, lint
from cassiopeia.core.policy import ApprovedRequest
from cassiopeia.core.profile import ALT_NAME_TYPES, EXTENDED_KEY_USAGES, SUBJECT_TYPES, Presence, Profile
from cassiopeia.core.request import CertificateRequest, SubjectAttribute
from cassiopeia.core.sample import sample_authority, sample_key

SIGNER_ID = 1
ENTROPY = bytes.fromhex("5d9e1f0c7a42b86e93d1480af72c65")
ATTRIBUTES = (
    ("C", "NL"),
    ("ST", "Fryslân"),
    ("L", "Súdwest-Fryslân"),
    ("O", "Example B.V."),
    ("OU", "Beheer"),
    ("OU", "Archief"),
    ("CN", "www.example.org"),
    ("EMAIL", "ada@example.org"),
)
ALT_NAMES = alt_names(
    "DNS,www.example.org",
    "DNS,*.example.org",
    "email,ada@example.org",
    "IP,192.0.2.7",
    "IP,2001:db8::7",
    "URI,https://example.org/~ada?a=b#c",
)
# Identifiers of extensions, the contents of their OBJECT IDENTIFIER.
SUBJECT_KEY_IDENTIFIER = "551d0e"
KEY_USAGE = "551d0f"
SUBJECT_ALT_NAME = "551d11"
BASIC_CONSTRAINTS = "551d13"
CRL_DISTRIBUTION_POINTS = "551d1f"
CERTIFICATE_POLICIES = "551d20"
AUTHORITY_KEY_IDENTIFIER = "551d23"
EXTENDED_KEY_USAGE = "551d25"
AUTHORITY_INFORMATION_ACCESS = "2b06010505070101"
OCSP_NOCHECK = "2b0601050507300105"

# Places in a TBSCertificate.
VERSION, SERIAL, ALGORITHM, ISSUER, VALIDITY, SUBJECT, KEY, EXTENSIONS = range(8)


def everything(**changes: Any) -> Profile:
    """A profile that has everything."""
    values: dict[str, Any] = {
        "subject": tuple((each, Presence.OPTIONAL) for each in SUBJECT_TYPES),
        "alt_names": tuple((each, Presence.OPTIONAL) for each in ALT_NAME_TYPES),
        "key_usage": ("digitalSignature", "nonRepudiation", "keyEncipherment", "keyAgreement"),
        "extended_key_usage": (EXTENDED_KEY_USAGES["serverAuth"], EXTENDED_KEY_USAGES["emailProtection"]),
        "allow_wildcard": True,
        "policy_identifiers": ("2.23.140.1.2.1", "1.3.6.1.4.1.99999.1.300"),
        "cps_uri": "https://example.org/cps",
        "not_before_ahead_days": 14,
    }
    return dataclasses.replace(load_profile("9004-unproved-server"), **(values | changes))


def responder(**changes: Any) -> Profile:
    """The profile for OCSP responders, and nothing to prove."""
    return dataclasses.replace(load_profile("0100-ocsp"), evidence=(), **changes)


def wished(profile: Profile | None = None, **changes: Any) -> CertificateRequest:
    """A request for as many names as there are kinds of them."""
    profile = profile or everything()
    values: dict[str, Any] = {
        "key_kind": "csr",
        "key_proof": b"",
        "profile": profile.name if profile.family else "",
        "ocsp_target_ca": "" if profile.family else "sample_2026_1",
        # Not in the order in which they are put.
        "attributes": tuple(SubjectAttribute(type=each, value=value) for each, value in reversed(ATTRIBUTES[:4]))
        + tuple(SubjectAttribute(type=each, value=value) for each, value in ATTRIBUTES[4:]),
        "alt_names": ALT_NAMES,
    }
    return CertificateRequest(**(values | changes))


def approve(
    *,
    profile: Profile | None = None,
    request: CertificateRequest | None = None,
    authority: Authority | None = None,
    kind: str = "RSA-3072",
    now: dt.datetime = NOW,
) -> ApprovedRequest:
    profile = profile or everything()
    return policy.approve_sample(
        request or wished(profile),
        profile=profile,
        key=sample_key(kind),
        authority=authority or sample_authority(profile.family),
        now=now,
        serial_entropy=ENTROPY,
    )


def altered(approved: ApprovedRequest, **changes: Any) -> ApprovedRequest:
    """As if something else had been approved; `profile`, `authority` and `request` take a dictionary of changes."""
    for name in ("profile", "authority", "request"):
        if isinstance(changes.get(name), dict):
            changes[name] = dataclasses.replace(getattr(approved, name), **changes[name])
    return dataclasses.replace(approved, approval=policy._APPROVAL, **changes)


def check(octets: bytes, approved: ApprovedRequest, *, signer_id: int = SIGNER_ID, now: dt.datetime = NOW) -> LintedTbs:
    return lint(octets, approved, signer_id=signer_id, now=now)


@functools.cache
def good() -> tuple[ApprovedRequest, bytes]:
    """What was approved, and the octets of it."""
    approved = approve()
    return approved, assemble_tbs(approved)


Edit = Callable[[Node], None]


def edited(octets: bytes, edit: Edit) -> bytes:
    """The octets with one place changed."""
    tree = der_tree.parse(octets)
    edit(tree)
    result = tree.encode()
    assert result != octets
    return result


def extension(tree: Node, identifier: str) -> Node:
    """The Extension with this identifier."""
    for each in tree.at(EXTENSIONS, 0).children:
        if each.children[0].contents.hex() == identifier:
            return each
    raise AssertionError(f"there is no extension {identifier}")


def in_extension(identifier: str, edit: Edit) -> Edit:
    """Change the value of an extension."""

    def change(tree: Node) -> None:
        value = extension(tree, identifier).children[-1]
        inner = der_tree.parse(value.contents)
        edit(inner)
        value.contents = inner.encode()

    return change


def in_key(edit: Edit) -> Edit:
    """Change the numbers of the RSA key."""

    def change(tree: Node) -> None:
        bits = tree.at(KEY, 1)
        inner = der_tree.parse(bits.contents[1:])
        edit(inner)
        bits.contents = b"\0" + inner.encode()

    return change
