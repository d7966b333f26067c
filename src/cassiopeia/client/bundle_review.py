"""What people have to know of a bundle before they sign the order that installs it.

Owns which bundles can go over the line at all, and the comparison with what the signer said of itself last. It holds no
secret and decides nothing: the signer verifies everything anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cassiopeia import installations
from cassiopeia.changes import Contents, changes, read_contents
from cassiopeia.config import Bundles, ClientConfig, load_authorities, load_profiles
from cassiopeia.core.bundle import SIGNER, Bundle, bundle_hash
from cassiopeia.core.rules import Validator
from cassiopeia.errors import OperatorError
from cassiopeia.journal.order import Arguments, InstallBundle
from cassiopeia.protocol.limits import Limits


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewedBundle:
    """A bundle that the bundle key has signed for a signer, and its file."""

    bundle: Bundle
    octets: bytes

    @property
    def arguments(self) -> InstallBundle:
        """What an order says that installs it."""
        return InstallBundle(bundle_hash=bundle_hash(self.octets), number=self.bundle.number)


def review(octets: bytes, *, bundle_key: Path | None, source: Path) -> ReviewedBundle:
    """Verify a bundle that is to go over the line; raises OperatorError for one that never could.

    `source` names the file that should name `bundle_key`.
    """
    bundles = Bundles(directory=source.parent, key_file=None if bundle_key is None else bundle_key.absolute())
    bundle = installations.open_bundle(bundles, octets, kinds=(SIGNER,), source=source)
    if bundle.secrets and bundle.sealed_passphrase is None:
        raise OperatorError(
            "the keys in this bundle are not sealed to its signer: carry it there (cassiopeia signer install), and its "
            "passphrase by another way; or name the signer's sealing.pem in the hierarchy at the next ceremony"
        )
    most = Limits().bundle_octets
    if len(octets) > most:
        raise OperatorError(
            f"this bundle has {len(octets)} octets, and {most} are the most that the line takes: carry it to the "
            "signer's machine (cassiopeia signer install)"
        )
    return ReviewedBundle(bundle=bundle, octets=octets)


def check_ordered(reviewed: ReviewedBundle, arguments: Arguments) -> None:
    """Raise OperatorError unless this is the bundle that the order names."""
    if not isinstance(arguments, InstallBundle):
        raise OperatorError("this order is about no bundle: leave out --bundle")
    if arguments != reviewed.arguments:
        raise OperatorError(
            f"the order is about bundle {arguments.number} with the SHA-256 {arguments.bundle_hash.hex()}, and this is "
            f"bundle {reviewed.bundle.number} with {reviewed.arguments.bundle_hash.hex()}: find the right file"
        )


def contents_in_words(bundle: Bundle) -> list[str]:
    """What the bundle holds, a sentence each; raises OperatorError."""
    with installations.unpacked(bundle) as directory:
        after = read_contents(directory)
    return [*changes(Contents(), after), _secrets(bundle)]


def changes_in_words(bundle: Bundle, config: ClientConfig, report: Mapping[str, Any]) -> list[str]:
    """What it changes for the signer that said `report` of itself, a sentence each; raises OperatorError.

    Of what the signer has, its report gives the names; what they mean is looked up in this client's own files.
    """
    with installations.unpacked(bundle) as directory:
        after = read_contents(directory)
    own = {each.authority.name: each.authority for each in load_authorities(config.authorities)}
    names = [str(each["name"]) for each in report.get("authorities", ())]
    authorities = {name: own.get(name) or after.authorities.get(name) for name in names}
    own_profiles = load_profiles(config.profiles)
    profiles = {name: own_profiles.get(name) or after.profiles.get(name) for name in report.get("profiles", ())}
    before = Contents(
        authorities={name: each for name, each in authorities.items() if each is not None},
        profiles={name: each for name, each in profiles.items() if each is not None},
        pins=replace(after.pins, validators=tuple(_known_validators(after, report))),
    )
    sentences = changes(before, after)
    sentences += [f"sub-CA {name}: goes; it has ended" for name, each in authorities.items() if each is None]
    sentences += [f"profile {name}: goes" for name, each in profiles.items() if each is None]
    return [*sentences, _pins(after), _secrets(bundle)]


def _known_validators(after: Contents, report: Mapping[str, Any]) -> Iterator[Validator]:
    known = {each["key_id"]: each for each in report.get("orders", {}).get("validators", ())}
    for validator in after.pins.validators:
        said = known.get(validator.key_id.hex())
        if said is not None:
            yield replace(validator, name=said["name"], kinds=frozenset(said["kinds"]))


def _pins(after: Contents) -> str:
    """What the signer does not tell, so nobody here can say whether it changes."""
    pins = after.pins
    return (
        f"names {len(pins.operators)} operators, {pins.quorum} of whom must sign what loosens, {len(pins.validators)} "
        f"validators and {len(pins.responders)} OCSP responders, beside those in signer.toml"
    )


def _secrets(bundle: Bundle) -> str:
    if not bundle.secrets:
        return "brings no key: those that it needs are in the signer already"
    names = ", ".join(sorted(each.name.removeprefix("keys/").removesuffix(".key") for each in bundle.secrets))
    return f"brings keys, sealed to the signer alone: {names}"
