"""What `cassiopeia init DIR` writes: a complete small authority, ready to run on one machine or to be carried to two.

Owns the layout of the directory:

    offline/   keys of root and structure CAs, their passphrase, the hierarchy: into the safe, away from both machines
    signer/    signer.toml and all that it names: time sub-CA keys, certificates, profiles, link key, journal key
    client/    client.toml and all that it names: certificates, profiles, link key, the store; never a CA key
    validator/ validator.toml and all that it names: its own key, which the signer has pinned, and profiles
    publisher/ publisher.toml and all that it names: the key that signs OCSP answers, which the signer has pinned
    client/public/   what the publisher serves: NAME.crt (DER) and NAME.pem of every CA, NAME.crl and NAME.crl.pem
    run/       the Unix socket between the two

It decides nothing about certificates (`hierarchy`, `key_ceremony`) and knows no table of the store.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from cassiopeia import files
from cassiopeia.ceremony.hierarchy import Hierarchy, check_hierarchy
from cassiopeia.ceremony.key_ceremony import Ceremony, encrypt_key, hold_ceremony
from cassiopeia.ceremony.operator_key import read_public_pem
from cassiopeia.ceremony.pins import no_file
from cassiopeia.ceremony.profiles import UNPROVED_PREFIX, choose_profiles
from cassiopeia.client.machine import ClientFiles, write_client
from cassiopeia.config import (
    link_address,
    load_authorities,
    load_chain,
    load_client_config,
    load_profiles,
    load_signer_config,
    load_validator_config,
)
from cassiopeia.config.publisher import load_publisher_config
from cassiopeia.config.toml_writer import toml_document
from cassiopeia.core.evidence import STATEMENT_KINDS
from cassiopeia.errors import OperatorError
from cassiopeia.publisher.installation import PublisherFiles, write_publisher
from cassiopeia.publisher.key import load_responder_key
from cassiopeia.signer.machine import (
    JOURNAL_PUBLIC,
    PASSPHRASE,
    SignerFiles,
    write_passphrase,
    write_signer_configuration,
    write_signer_keys,
)
from cassiopeia.store.database import upgrade
from cassiopeia.validation.installation import ValidatorFiles, write_validator
from cassiopeia.validation.key import load_validator_key
from cassiopeia.validation.key import read_public_pem as read_validator_pem

# Nobody can reach it. Below .example, a linter of servers' certificates would take it for an internal name.
_EXAMPLE_HOST: Final = "pki.example.org"
# The name of the validator that is made, and of its directory.
_VALIDATOR: Final = "validator"
# The same of the publisher.
_PUBLISHER: Final = "publisher"


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkAddresses:
    """Where the signer listens and where the client connects; relative sockets as seen from signer/ and client/."""

    listen: str = "unix:../run/signer.sock"
    connect: str = "unix:../run/signer.sock"


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidatorPin:
    """A validator's public key (a PEM file, whose name it is given), and what it may state."""

    path: Path
    kinds: tuple[str, ...] = STATEMENT_KINDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Installation:
    """What was made.

    `by_level` names root, structure CAs and time sub-CAs; `root_fingerprint` is SHA-256 of the root certificate, in
    hex, for people to compare.
    """

    directory: Path
    signer_config: Path
    client_config: Path
    client_version_1_config: Path | None
    validator_config: Path
    publisher_config: Path
    public_directory: Path
    by_level: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    profiles: tuple[str, ...]
    root_fingerprint: str
    url_base: str

    @property
    def is_unreachable(self) -> bool:
        """Whether the URLs in certificates are only an example (RFC 2606), as those of the default hierarchy are."""
        host = urlsplit(self.url_base).hostname or ""
        return host == _EXAMPLE_HOST or host.endswith(".example")

    @property
    def has_unproved_profiles(self) -> bool:
        return any(name.startswith(UNPROVED_PREFIX) for name in self.profiles)


def initialise(
    directory: Path,
    *,
    hierarchy: Hierarchy,
    now: dt.datetime,
    url_base: str = "",
    link_addresses: LinkAddresses | None = None,
    demo_profiles: bool = False,
    version_1: bool = False,
    operator_keys: Sequence[Path] = (),
    quorum: int = 1,
    validator_keys: Sequence[ValidatorPin] = (),
) -> Installation:
    """Make a new authority in `directory`, or nothing at all; raises OperatorError.

    `url_base`, if given, replaces the hierarchy's. `demo_profiles` adds the profiles that ask for no evidence.
    `version_1` lets version 1 clients in (with link keys of their own), for those profiles only. The signer will obey
    orders that `quorum` of the `operator_keys` (public, PEM) have signed, and believe the validators of
    `validator_keys` beside the one that is made.
    """
    if url_base:
        hierarchy = msgspec.structs.replace(hierarchy, url_base=url_base)
    check_hierarchy(hierarchy, source="hierarchy")
    if len(hierarchy.signer) > 1:
        raise OperatorError(
            "this hierarchy has several signers, and here one machine is made: hold its ceremony instead, with "
            "`cassiopeia ceremony run`, and make each machine with `cassiopeia signer init`"
        )
    profiles = choose_profiles(hierarchy, read=no_file, source="hierarchy", unproved=demo_profiles)
    operators = _read_operators(operator_keys, quorum=quorum)
    validators = _read_validators(validator_keys)
    addresses = link_addresses or LinkAddresses()
    directory = directory.absolute()
    link_address(directory / "signer" / "signer.toml", addresses.listen, key="link.listen")
    link_address(directory / "client" / "client.toml", addresses.connect, key="link.connect")
    with files.new_tree(directory) as building:
        ceremony = hold_ceremony(hierarchy, now=now)
        plan = _Plan(
            directory=building,
            hierarchy=hierarchy,
            ceremony=ceremony,
            profiles=profiles,
            addresses=addresses,
            version_1=version_1,
            operators=operators,
            quorum=quorum,
            validators=validators,
        )
        # 1. The safe.
        _write_offline(plan)
        # 2. The machines.
        _write_machines(plan)
        # 3. What everybody may read.
        _write_public(plan)
        # 4. Read everything again, as signer and client will.
        _prove(plan)
    return Installation(
        directory=directory,
        signer_config=directory / "signer" / "signer.toml",
        client_config=directory / "client" / "client.toml",
        client_version_1_config=directory / "client" / "client-v1.toml" if version_1 else None,
        validator_config=directory / _VALIDATOR / "validator.toml",
        publisher_config=directory / _PUBLISHER / "publisher.toml",
        public_directory=directory / "client" / "public",
        by_level=(
            (ceremony.root.name,),
            tuple(each.name for each in ceremony.structure),
            tuple(each.authority.name for each in ceremony.time),
        ),
        profiles=tuple(sorted(profiles)),
        root_fingerprint=ceremony.root.certificate.fingerprint(hashes.SHA256()).hex(),
        url_base=hierarchy.url_base,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    directory: Path
    hierarchy: Hierarchy
    ceremony: Ceremony
    profiles: Mapping[str, str]
    addresses: LinkAddresses
    version_1: bool
    operators: Mapping[str, bytes]
    quorum: int
    validators: Mapping[str, tuple[bytes, tuple[str, ...]]]

    @property
    def signer_id(self) -> int:
        return self.hierarchy.signer[0].id

    @property
    def unproved(self) -> list[str]:
        return sorted(name for name in self.profiles if name.startswith(UNPROVED_PREFIX))


def _read_operators(paths: Sequence[Path], *, quorum: int) -> dict[str, bytes]:
    """The operators' public keys by the names of their files; raises OperatorError."""
    operators: dict[str, bytes] = {}
    for path in paths:
        pem = read_public_pem(path)
        if path.stem in operators or pem in operators.values():
            raise OperatorError(f"{path}: another operator's key has this name, or is this very key; each has one")
        operators[path.stem] = pem
    if operators and quorum > len(operators):
        raise OperatorError(
            f"{quorum} operators must sign, and {len(operators)} keys are given: give more --operator-key"
        )
    return operators


def _read_validators(pins: Sequence[ValidatorPin]) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    """Key (PEM) and kinds of each validator by the name of its file; raises OperatorError."""
    validators: dict[str, tuple[bytes, tuple[str, ...]]] = {}
    for pin in pins:
        pem = read_validator_pem(pin.path)
        name = pin.path.stem
        if name == _VALIDATOR:
            raise OperatorError(f"{pin.path}: the validator that is made here has this name; rename the file")
        if name in validators or pem in (each for each, _ in validators.values()):
            raise OperatorError(f"{pin.path}: another validator's key has this name, or is this very key; each has one")
        validators[name] = pem, pin.kinds
    return validators


def _write_offline(plan: _Plan) -> None:
    offline = files.make_directory(plan.directory / "offline")
    passphrase = write_passphrase(offline)
    for authority in plan.ceremony.offline:
        files.write_file(offline / f"{authority.name}.key", encrypt_key(authority.key, passphrase))
        files.write_file(offline / f"{authority.name}.pem", authority.certificate.public_bytes(Encoding.PEM))
    files.write_file(offline / "hierarchy.toml", toml_document(msgspec.to_builtins(plan.hierarchy)))


def _write_machines(plan: _Plan) -> None:
    """The directories of signer, client and validator, each with what the others know it by."""
    files.make_directory(plan.directory / "run")
    signer = files.make_directory(plan.directory / "signer")
    client = files.make_directory(plan.directory / "client", mode=files.PASSAGE_DIRECTORY)
    validator = files.make_directory(plan.directory / _VALIDATOR)
    publisher = files.make_directory(plan.directory / _PUBLISHER)
    # 1. Their own keys first: each is then told those of the others. The validator finds the client's store beside it.
    write_signer_keys(signer, version_1=plan.version_1)
    journal = (signer / JOURNAL_PUBLIC).read_bytes()
    own = write_validator(
        validator,
        ValidatorFiles(
            name=_VALIDATOR,
            store_url="sqlite:///../client/store.sqlite",
            profiles=plan.profiles,
            journal_keys={"journal": journal},
        ),
    )
    responder = write_publisher(
        publisher,
        PublisherFiles(
            store_url="sqlite:///../client/store.sqlite",
            public_directory="../client/public",
            journal_keys={"journal": journal},
        ),
    )
    links = ("", "-v1") if plan.version_1 else ("",)
    peers = {f"signer{suffix}": (signer / f"link{suffix}.pem").read_bytes() for suffix in links}
    write_client(
        client,
        ClientFiles(connect=plan.addresses.connect, version_1=plan.version_1, peers={**peers, "journal": journal}),
    )
    write_signer_configuration(
        signer,
        SignerFiles(
            signer_id=plan.signer_id,
            listen=plan.addresses.listen,
            version_1_profiles=plan.unproved if plan.version_1 else None,
            peers={f"client{suffix}": (client / f"link{suffix}.pem").read_bytes() for suffix in links},
            operators=plan.operators,
            quorum=plan.quorum,
            validators={_VALIDATOR: (own, STATEMENT_KINDS), **plan.validators},
            responders={_PUBLISHER: responder},
        ),
    )
    # 2. What comes from the ceremony.
    for side in (signer, client):
        profiles = files.make_directory(side / "profiles")
        for name, text in plan.profiles.items():
            files.write_file(profiles / f"{name}.toml", text, mode=files.PUBLIC)
    _write_signer_authorities(plan, signer)
    for side in (client, publisher):
        _write_client_authorities(plan, side)


def _write_signer_authorities(plan: _Plan, signer: Path) -> None:
    passphrase = (signer / PASSPHRASE).read_bytes().strip()
    for each in plan.ceremony.time:
        authority = each.authority
        files.write_file(signer / "keys" / f"{authority.name}.key", encrypt_key(authority.key, passphrase))
        pem = authority.certificate.public_bytes(Encoding.PEM)
        files.write_file(signer / "certificates" / f"{authority.name}.pem", pem, mode=files.PUBLIC)
    authorities = toml_document({"authority": _authority_tables(plan, with_keys=True)})
    files.write_file(signer / "authorities.toml", authorities, mode=files.PUBLIC)


def _write_client_authorities(plan: _Plan, client: Path) -> None:
    """What everybody but the signer knows of the CAs."""
    for authority in plan.ceremony.authorities:
        pem = authority.certificate.public_bytes(Encoding.PEM)
        files.write_file(client / "certificates" / f"{authority.name}.pem", pem, mode=files.PUBLIC)
    chain = [
        {"name": each.name, "certificate": f"certificates/{each.name}.pem", "issuer": each.issuer}
        for each in plan.ceremony.offline
    ]
    authorities = toml_document({"authority": _authority_tables(plan, with_keys=False), "ca": chain})
    files.write_file(client / "authorities.toml", authorities, mode=files.PUBLIC)


def _write_public(plan: _Plan) -> None:
    public = plan.directory / "client" / "public"
    for authority in plan.ceremony.authorities:
        # RFC 5280 4.2.2.1: what caIssuers names is DER. The PEM beside it is for people and openssl.
        der = authority.certificate.public_bytes(Encoding.DER)
        files.write_file(public / f"{authority.name}.crt", der, mode=files.PUBLIC)
        pem = authority.certificate.public_bytes(Encoding.PEM)
        files.write_file(public / f"{authority.name}.pem", pem, mode=files.PUBLIC)
    for name, crl in plan.ceremony.crls.items():
        files.write_file(public / f"{name}.crl", crl.public_bytes(Encoding.DER), mode=files.PUBLIC)
        files.write_file(public / f"{name}.crl.pem", crl.public_bytes(Encoding.PEM), mode=files.PUBLIC)


def _prove(plan: _Plan) -> None:
    """Load every configuration as the programs will, and make the store where the client's says that it is."""
    client = plan.directory / "client"
    signer_config = load_signer_config(plan.directory / "signer" / "signer.toml")
    client_config = load_client_config(client / "client.toml")
    for config in (signer_config, client_config):
        load_authorities(config.authorities)
        load_profiles(config.profiles)
    load_chain(client_config.authorities)
    validator_config = load_validator_config(plan.directory / _VALIDATOR / "validator.toml")
    load_profiles(validator_config.profiles)
    load_validator_key(validator_config.key)
    publisher_config = load_publisher_config(plan.directory / _PUBLISHER / "publisher.toml")
    load_authorities(publisher_config.authorities)
    load_responder_key(publisher_config.key)
    if plan.version_1:
        load_client_config(client / "client-v1.toml")
    upgrade(client_config.store_url)


def _authority_tables(plan: _Plan, *, with_keys: bool) -> list[dict[str, object]]:
    hierarchy = plan.hierarchy
    tables: list[dict[str, object]] = []
    for each in plan.ceremony.time:
        name = each.authority.name
        table: dict[str, object] = {
            "name": name,
            "certificate": f"certificates/{name}.pem",
            "issuer": each.authority.issuer,
            "signer_id": each.signer_id,
            "issues_from": each.issues_from,
            "issues_until": each.issues_until,
            "maximum_certificates": hierarchy.time.maximum_certificates,
            "pss": hierarchy.time.pss,
            "crl_urls": [hierarchy.crl_url(name)],
            "issuer_urls": [hierarchy.issuer_url(name)],
            "ocsp_urls": hierarchy.ocsp_urls,
        }
        if with_keys:
            table["key"] = f"file:keys/{name}.key"
        tables.append(table)
    return tables
