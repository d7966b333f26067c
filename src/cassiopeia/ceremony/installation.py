"""What `cassiopeia init DIR` writes: a complete small authority, ready to run on one machine or to be carried to two.

Owns the layout of the directory:

    offline/   the offline bundle, its passphrase, the hierarchy's files: into the safe, away from both machines
    signer/    signer.toml and all that it names: time sub-CA keys, certificates, profiles, link key, journal key
    client/    client.toml and all that it names: certificates, profiles, link key, the store; never a CA key
    validator/ validator.toml and all that it names: its own key, which the signer has pinned, and profiles
    publisher/ publisher.toml and all that it names: the key that signs OCSP answers, which the signer has pinned
    client/public/   what the publisher serves: NAME.crt (DER) and NAME.pem of every CA, NAME.crl and NAME.crl.pem
    run/       the Unix socket between the two

It decides nothing about certificates (`hierarchy`, `key_ceremony`) and knows no table of the store. The next ceremony
goes on from what is in offline/.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
from cryptography.hazmat.primitives import hashes

from cassiopeia import files
from cassiopeia.ceremony.bundling import authority_tables, certificate_files, chain_tables, publication_files
from cassiopeia.ceremony.conducting import Outcome, begin
from cassiopeia.ceremony.declaration import Declaration, portable_files
from cassiopeia.ceremony.hierarchy import ROOT_NAME, Hierarchy, check_hierarchy
from cassiopeia.ceremony.key_ceremony import encrypt_key
from cassiopeia.ceremony.operator_key import read_public_pem
from cassiopeia.ceremony.pins import Pins, ReadFile, no_file
from cassiopeia.ceremony.profiles import UNPROVED_PREFIX, choose_profiles
from cassiopeia.ceremony.safe import (
    BUNDLE_KEY_NAME,
    OFFLINE_NAME,
    PASSPHRASE_NAME,
    Safe,
    make_secret,
    offline_bundle,
    open_safe,
    read_offline,
    read_secret,
    secret_text,
)
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
    SEALING_PUBLIC,
    SignerFiles,
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
    ocsp_urls: tuple[str, ...] = ()

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
    ocsp_url: str = "",
    link_addresses: LinkAddresses | None = None,
    demo_profiles: bool = False,
    version_1: bool = False,
    operator_keys: Sequence[Path] = (),
    quorum: int = 1,
    validator_keys: Sequence[ValidatorPin] = (),
    read: ReadFile = no_file,
) -> Installation:
    """Make a new authority in `directory`, or nothing at all; raises OperatorError.

    `url_base` and `ocsp_url`, if given, replace the hierarchy's. `demo_profiles` adds the profiles that ask for no
    evidence. `version_1` lets version 1 clients in (with link keys of their own), for those profiles only. The signer
    will obey orders that `quorum` of the `operator_keys` (public, PEM) have signed, and believe the validators of
    `validator_keys` beside the one that is made. `read` gives the profiles that the hierarchy names by file.
    """
    if url_base:
        hierarchy = msgspec.structs.replace(hierarchy, url_base=url_base)
    if ocsp_url:
        hierarchy = msgspec.structs.replace(hierarchy, ocsp_urls=(ocsp_url,))
    check_hierarchy(hierarchy, source="hierarchy")
    if hierarchy.orders.operators or hierarchy.validator or hierarchy.ocsp.responders:
        raise OperatorError(
            "this hierarchy pins keys, and here machines are made with keys of their own: leave out [orders], "
            "[[validator]] and [ocsp], and give --operator-key and --validator-key; or hold its ceremony, with "
            "`cassiopeia ceremony run`"
        )
    if len(hierarchy.signer) > 1:
        raise OperatorError(
            "this hierarchy has several signers, and here one machine is made: hold its ceremony instead, with "
            "`cassiopeia ceremony run`, and make each machine with `cassiopeia signer init`"
        )
    profiles = choose_profiles(hierarchy, read=read, source="hierarchy", unproved=demo_profiles)
    operators = _read_operators(operator_keys, quorum=quorum)
    validators = _read_validators(validator_keys)
    addresses = link_addresses or LinkAddresses()
    directory = directory.absolute()
    link_address(directory / "signer" / "signer.toml", addresses.listen, key="link.listen")
    link_address(directory / "client" / "client.toml", addresses.connect, key="link.connect")
    with files.new_tree(directory) as building:
        declaration = Declaration(source="hierarchy", hierarchy=hierarchy, profiles=profiles, pins=Pins())
        outcome = begin(declaration, now=now)
        plan = _Plan(
            directory=building,
            outcome=outcome,
            now=now,
            profiles=profiles,
            addresses=addresses,
            version_1=version_1,
            operators=operators,
            quorum=quorum,
            validators=validators,
        )
        # 1. The machines.
        _write_machines(plan)
        # 2. The safe, which knows the signer's sealing key for later bundles.
        _write_offline(plan)
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
            outcome.safe.record.names("root"),
            outcome.safe.record.names("structure"),
            outcome.safe.record.names("time"),
        ),
        profiles=tuple(sorted(profiles)),
        root_fingerprint=outcome.safe.certificates[ROOT_NAME].fingerprint(hashes.SHA256()).hex(),
        url_base=hierarchy.url_base,
        ocsp_urls=hierarchy.ocsp_urls,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    directory: Path
    outcome: Outcome
    now: dt.datetime
    profiles: Mapping[str, str]
    addresses: LinkAddresses
    version_1: bool
    operators: Mapping[str, bytes]
    quorum: int
    validators: Mapping[str, tuple[bytes, tuple[str, ...]]]

    @property
    def safe(self) -> Safe:
        return self.outcome.safe

    @property
    def signer_id(self) -> int:
        return self.safe.declaration.hierarchy.signer[0].id

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
    """The safe as `cassiopeia ceremony` leaves it, and beside it the hierarchy's files, to be changed for the next."""
    offline = files.make_directory(plan.directory / "offline")
    sealing_key = (plan.directory / "signer" / SEALING_PUBLIC).read_bytes()
    declaration = dataclasses.replace(plan.safe.declaration, pins=Pins(sealing_keys={plan.signer_id: sealing_key}))
    for name, octets in portable_files(declaration).items():
        place = offline / name
        if not place.parent.exists():
            files.make_directory(place.parent)
        files.write_file(place, octets)
    secret = make_secret()
    safe = dataclasses.replace(plan.safe, declaration=declaration)
    files.write_file(offline / OFFLINE_NAME, offline_bundle(safe, secret=secret))
    files.write_file(offline / BUNDLE_KEY_NAME, safe.bundle_public_pem)
    files.write_file(offline / PASSPHRASE_NAME, secret_text(secret))
    _, bundle = read_offline(offline / OFFLINE_NAME)
    open_safe(bundle, secret=read_secret(offline / PASSPHRASE_NAME), source=OFFLINE_NAME)


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
    bundle_key = plan.safe.bundle_public_pem
    files.write_file(validator / BUNDLE_KEY_NAME, bundle_key, mode=files.PUBLIC)
    responder = write_publisher(
        publisher,
        PublisherFiles(
            store_url="sqlite:///../client/store.sqlite",
            public_directory="../client/public",
            journal_keys={"journal": journal},
            bundle_key=bundle_key,
        ),
    )
    links = ("", "-v1") if plan.version_1 else ("",)
    peers = {f"signer{suffix}": (signer / f"link{suffix}.pem").read_bytes() for suffix in links}
    write_client(
        client,
        ClientFiles(
            connect=plan.addresses.connect,
            version_1=plan.version_1,
            peers={**peers, "journal": journal},
            bundle_key=bundle_key,
        ),
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
            bundle_key=bundle_key,
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
    for name, key in plan.outcome.time_keys.items():
        files.write_file(signer / "keys" / f"{name}.key", encrypt_key(key, passphrase))
    time = plan.safe.record.time
    for name, pem in certificate_files(plan.safe, time).items():
        files.write_file(signer / name, pem, mode=files.PUBLIC)
    tables = authority_tables(time, key_uri="file:keys/{}.key")
    files.write_file(signer / "authorities.toml", toml_document({"authority": tables}), mode=files.PUBLIC)


def _write_client_authorities(plan: _Plan, client: Path) -> None:
    """What everybody but the signer knows of the CAs."""
    record = plan.safe.record
    for name, pem in certificate_files(plan.safe, record.authorities).items():
        files.write_file(client / name, pem, mode=files.PUBLIC)
    tables = {"authority": authority_tables(record.time), "ca": chain_tables(record.authorities)}
    files.write_file(client / "authorities.toml", toml_document(tables), mode=files.PUBLIC)


def _write_public(plan: _Plan) -> None:
    public = plan.directory / "client" / "public"
    for name, octets in publication_files(plan.safe, now=plan.now).items():
        files.write_file(public / name, octets, mode=files.PUBLIC)


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
