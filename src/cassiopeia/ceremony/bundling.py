"""What each machine is given of a hierarchy: the files of the signers', the clients' and the publication bundle.

Owns the contents of these bundles and their secrets. Each is the whole state of its kind: every CA that has not ended,
every profile, every pinned key; only keys are there once, in the ceremony that makes them. The safe's own bundle is
`safe`'s.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from cassiopeia import sealing
from cassiopeia.ceremony.conducting import Outcome
from cassiopeia.ceremony.hierarchy import Hierarchy, Ocsp, Orders
from cassiopeia.ceremony.key_ceremony import encrypt_key
from cassiopeia.ceremony.record import KnownAuthority
from cassiopeia.ceremony.safe import Safe, bundle_files
from cassiopeia.ceremony.transcript import in_groups
from cassiopeia.config import PINS
from cassiopeia.config.toml_writer import toml_document
from cassiopeia.core.bundle import CLIENT, PUBLICATION, SIGNER, Bundle, sealing_context, sign_bundle
from cassiopeia.core.profile import parse_profile

AUTHORITIES_NAME: Final = "authorities.toml"
HIERARCHY_NAME: Final = "hierarchy.toml"
FINGERPRINTS_NAME: Final = "fingerprints.txt"

_PASSPHRASE_OCTETS: Final = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerBundle:
    """A signer's bundle. `passphrase` opens its keys (None: it has none); `is_sealed` when the bundle has it inside."""

    signer_id: int
    octets: bytes
    passphrase: str | None = field(repr=False)
    is_sealed: bool


def signer_bundle(outcome: Outcome, signer_id: int, *, now: dt.datetime) -> SignerBundle:
    """What one signer is given, with the keys of the sub-CAs that this ceremony made for it."""
    safe = outcome.safe
    mine = [each for each in safe.record.time if each.signer_id == signer_id]
    keys = {each.name: outcome.time_keys[each.name] for each in mine if each.name in outcome.time_keys}
    passphrase = secrets.token_hex(_PASSPHRASE_OCTETS) if keys else None
    sealing_key = safe.declaration.pins.sealing_keys.get(signer_id)
    root_key = bytes.fromhex(safe.record.root_key)
    sealed = None
    encrypted = {}
    if passphrase is not None:
        encrypted = {f"keys/{name}.key": encrypt_key(key, passphrase.encode()) for name, key in keys.items()}
        if sealing_key is not None:
            context = sealing_context(root_key=root_key, number=safe.record.number, signer_id=signer_id)
            sealed = sealing.seal(passphrase.encode(), sealing_key, context=context)
    bundle = Bundle(
        kind=SIGNER,
        root_key=root_key,
        number=safe.record.number,
        made_at=safe.record.made_at,
        signer_id=signer_id,
        files=bundle_files(signer_files(safe, signer_id, now=now)),
        secrets=bundle_files(encrypted),
        sealed_passphrase=sealed,
    )
    return SignerBundle(
        signer_id=signer_id,
        octets=sign_bundle(bundle, safe.bundle_key),
        passphrase=passphrase,
        is_sealed=sealed is not None,
    )


def client_bundle(safe: Safe, *, now: dt.datetime) -> bytes:
    """What clients, web servers, validators and publishers are given: no key, and nothing secret."""
    return _public_bundle(safe, CLIENT, client_files(safe, now=now))


def publication_bundle(safe: Safe, *, now: dt.datetime) -> bytes:
    """What everybody may fetch."""
    return _public_bundle(safe, PUBLICATION, publication_files(safe, now=now))


def signer_ids(safe: Safe, *, now: dt.datetime) -> tuple[int, ...]:
    """The signers that are declared, and those that still own sub-CAs, whose CRLs have to go on."""
    declared = {each.id for each in safe.declaration.hierarchy.signer}
    return tuple(sorted(declared | {each.signer_id for each in _going(safe.record.time, now)}))


def signer_files(safe: Safe, signer_id: int, *, now: dt.datetime) -> dict[str, bytes]:
    """The files of a signer's bundle by name, secrets left out."""
    mine = [each for each in _going(safe.record.time, now) if each.signer_id == signer_id]
    hierarchy = safe.declaration.hierarchy
    families = {each.family for each in mine}
    families |= {each.name for each in hierarchy.family if signer_id in hierarchy.signers_of(each)}
    contents = {AUTHORITIES_NAME: toml_document({"authority": authority_tables(mine)}).encode()}
    above = {each.name: each for known in mine for each in _above(safe, known)}
    contents |= certificate_files(safe, [*above.values(), *mine])
    for name, text in safe.declaration.profiles.items():
        family = parse_profile(text, name=name, source=f"{name}.toml").family
        if not family or family in families:
            contents[f"profiles/{name}.toml"] = text.encode()
    return contents | _pin_files(safe)


def client_files(safe: Safe, *, now: dt.datetime) -> dict[str, bytes]:
    """The files of the clients' bundle by name."""
    contents = {f"profiles/{name}.toml": text.encode() for name, text in safe.declaration.profiles.items()}
    contents[AUTHORITIES_NAME] = toml_document(
        {
            "authority": authority_tables(_going(safe.record.time, now)),
            "ca": chain_tables(_going(safe.record.authorities, now)),
        }
    ).encode()
    contents[HIERARCHY_NAME] = toml_document(msgspec.to_builtins(_without_files(safe.declaration.hierarchy))).encode()
    return contents | certificate_files(safe, _going(safe.record.authorities, now))


def publication_files(safe: Safe, *, now: dt.datetime) -> dict[str, bytes]:
    """What a web server serves, by name: RFC 5280 4.2.2.1 wants DER; the PEM beside it is for people and openssl."""
    contents: dict[str, bytes] = {}
    going = _going(safe.record.authorities, now)
    for each in going:
        certificate = safe.certificates[each.name]
        contents[f"{each.name}.crt"] = certificate.public_bytes(Encoding.DER)
        contents[f"{each.name}.pem"] = certificate.public_bytes(Encoding.PEM)
        crl = safe.crls.get(each.name)
        if crl is not None:
            contents[f"{each.name}.crl"] = crl.public_bytes(Encoding.DER)
            contents[f"{each.name}.crl.pem"] = crl.public_bytes(Encoding.PEM)
    contents[FINGERPRINTS_NAME] = fingerprints_text(safe, going).encode()
    return contents


def certificate_files(safe: Safe, authorities: Iterable[KnownAuthority]) -> dict[str, bytes]:
    return {
        f"certificates/{each.name}.pem": safe.certificates[each.name].public_bytes(Encoding.PEM) for each in authorities
    }


def authority_tables(authorities: Iterable[KnownAuthority], *, key_uri: str | None = None) -> list[dict[str, Any]]:
    """[[authority]] of authorities.toml; `key_uri` has a place for the name, where the keys lie in files."""
    return [
        {
            "name": each.name,
            "certificate": f"certificates/{each.name}.pem",
            "issuer": each.issuer,
            "signer_id": each.signer_id,
            "issues_from": each.issues_from,
            "issues_until": each.issues_until,
            "maximum_certificates": each.maximum_certificates,
            "pss": each.pss,
            "crl_urls": each.crl_urls,
            "issuer_urls": each.issuer_urls,
            "ocsp_urls": each.ocsp_urls,
            "key": None if key_uri is None else key_uri.format(each.name),
            "retired": each.retired,
        }
        for each in authorities
    ]


def chain_tables(authorities: Iterable[KnownAuthority]) -> list[dict[str, Any]]:
    """[[ca]] of authorities.toml: the offline CAs among these."""
    return [
        {"name": each.name, "certificate": f"certificates/{each.name}.pem", "issuer": each.issuer}
        for each in authorities
        if each.is_offline
    ]


def fingerprints_text(safe: Safe, authorities: Iterable[KnownAuthority]) -> str:
    """SHA-256 of each certificate, as people compare them."""
    lines = []
    for each in authorities:
        fingerprint = safe.certificates[each.name].fingerprint(hashes.SHA256())
        lines += [f"{each.name}, until {each.not_after:%Y-%m-%d}:", f"    {in_groups(fingerprint)}"]
    return "\n".join(["SHA-256 of each CA's certificate (DER).", "", *lines, ""])


def _public_bundle(safe: Safe, kind: str, contents: Mapping[str, bytes]) -> bytes:
    bundle = Bundle(
        kind=kind,
        root_key=bytes.fromhex(safe.record.root_key),
        number=safe.record.number,
        made_at=safe.record.made_at,
        signer_id=0,
        files=bundle_files(contents),
    )
    return sign_bundle(bundle, safe.bundle_key)


def _going(authorities: Iterable[KnownAuthority], now: dt.datetime) -> tuple[KnownAuthority, ...]:
    """Those that have not ended."""
    return tuple(each for each in authorities if each.not_after > now)


def _above(safe: Safe, known: KnownAuthority) -> list[KnownAuthority]:
    """The CAs above this one, the nearest first."""
    found: list[KnownAuthority] = []
    while known.issuer != known.name:
        known = safe.record.authority(known.issuer)
        found.append(known)
    return found


def _pin_files(safe: Safe) -> dict[str, bytes]:
    pins = safe.declaration.pins
    contents: dict[str, bytes] = {}
    for directory, keys in (
        ("operators", pins.operators),
        ("validators", pins.validators),
        ("responders", pins.responders),
    ):
        contents |= {f"{directory}/{each.name}.pem": each.pem for each in keys}
    document = {
        "orders": {"operators": [f"operators/{each.name}.pem" for each in pins.operators], "quorum": pins.quorum},
        "validator": [
            {"name": each.name, "key": f"validators/{each.name}.pem", "kinds": each.kinds} for each in pins.validators
        ],
        "ocsp": {"responders": [f"responders/{each.name}.pem" for each in pins.responders]},
    }
    contents[PINS] = toml_document(document).encode()
    return contents


def _without_files(hierarchy: Hierarchy) -> Hierarchy:
    """The same hierarchy without the files that it names: what is pinned is for signers, and profiles lie beside it."""
    return msgspec.structs.replace(
        hierarchy,
        family=tuple(msgspec.structs.replace(each, profiles=()) for each in hierarchy.family),
        signer=tuple(msgspec.structs.replace(each, sealing_key="") for each in hierarchy.signer),
        orders=Orders(),
        validator=(),
        ocsp=Ocsp(),
    )
