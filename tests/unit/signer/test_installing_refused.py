"""Bundles that cannot be installed: each gets a clear error, and nothing on the machine changes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.support.authorities import make_ca
from tests.support.bundles import (
    BUNDLE_KEY,
    BUNDLE_PASSPHRASE,
    FIRST,
    NOW,
    OTHER_KEY,
    PROFILE,
    SECOND,
    SignerMachine,
    client_bundle,
    encrypted,
    make_hierarchy,
    make_signer_machine,
    signed,
    signer_bundle,
    with_file,
)

from cassiopeia import sealing
from cassiopeia.core.bundle import MAXIMUM_OCTETS, Bundle, BundleFile
from cassiopeia.errors import OperatorError
from cassiopeia.signer.installing import activate, differences, open_signer_bundle, stage
from cassiopeia.signer.keystore.interface import SignatureMistrusted
from cassiopeia.signer.keystore.ring import KeyRing

Spoil = Callable[[Bundle, SignerMachine], Bundle]


@pytest.fixture
def machine(tmp_path: Path) -> SignerMachine:
    """One on which bundle 1, with both sub-CAs, is in force."""
    made = make_signer_machine(tmp_path / "signer")
    activate(
        made.config, stage(made.config, signed(signer_bundle(made.hierarchy)), passphrase=BUNDLE_PASSPHRASE, now=NOW)
    )
    return made


def refused(
    machine: SignerMachine, octets: bytes, *, passphrase: bytes | None = BUNDLE_PASSPHRASE, now: dt.datetime = NOW
) -> str:
    before = machine.everything()
    with pytest.raises(OperatorError) as caught:
        stage(machine.config, octets, passphrase=passphrase, now=now)
    assert machine.everything() == before
    message = str(caught.value)
    assert "nothing was changed" in message or "bundle_key" in message
    assert BUNDLE_PASSPHRASE.decode() not in message
    assert ".look." not in message
    assert "/.0" not in message  # the temporary directory, which is gone
    return message


def test_a_flipped_bit_anywhere_is_noticed(machine: SignerMachine) -> None:
    octets = signed(signer_bundle(machine.hierarchy, number=2))
    step = 61
    assert len(octets) > 40 * step

    for place in [*range(0, len(octets), step), *range(len(octets) - 120, len(octets), 3)]:
        changed = bytearray(octets)
        changed[place] ^= 1 << (place % 8)
        with pytest.raises(OperatorError, match="nothing was changed"):
            open_signer_bundle(machine.config, bytes(changed))


@pytest.mark.parametrize("octets", [b"", b"-----BEGIN", bytes(40)], ids=["nothing", "text", "zeros"])
def test_what_is_no_bundle_is_refused(machine: SignerMachine, octets: bytes) -> None:
    assert "this is not the DER of a SignedBundle" in refused(machine, octets)


def test_a_bundle_cut_off_anywhere_is_refused(machine: SignerMachine) -> None:
    octets = signed(signer_bundle(machine.hierarchy, number=2))

    for length in (1, len(octets) // 2, len(octets) - 1):
        refused(machine, octets[:length])
    refused(machine, octets + b"\0")


def test_more_octets_than_any_bundle_has_are_not_even_read(machine: SignerMachine) -> None:
    assert "at most" in refused(machine, bytes(MAXIMUM_OCTETS + 1))


def test_a_bundle_of_another_hierarchy_is_refused(machine: SignerMachine) -> None:
    assert "belongs to another hierarchy" in refused(
        machine, signed(signer_bundle(make_hierarchy(), number=2), OTHER_KEY)
    )


def test_a_bundle_under_another_root_is_refused_though_our_bundle_key_signed_it(machine: SignerMachine) -> None:
    said = refused(machine, signed(signer_bundle(make_hierarchy(), number=2)))

    assert "this bundle belongs to another hierarchy: its root key is" in said


def test_an_older_bundle_is_refused(machine: SignerMachine) -> None:
    newer = signed(signer_bundle(machine.hierarchy, number=3, keys=[]))
    activate(machine.config, stage(machine.config, newer, passphrase=None, now=NOW))

    said = refused(machine, signed(signer_bundle(machine.hierarchy, number=2)))

    assert "its number is 2, and 3 is in force" in said


def test_another_bundle_of_the_same_number_is_refused(machine: SignerMachine) -> None:
    said = refused(machine, signed(signer_bundle(machine.hierarchy, number=1)))

    assert "two ceremonies began from the same offline bundle" in said


def test_a_bundle_for_clients_is_refused(machine: SignerMachine) -> None:
    said = refused(machine, signed(client_bundle(machine.hierarchy, number=2)))

    assert "it is of the kind client, and here belongs signer" in said


def test_a_bundle_for_another_signer_is_refused(machine: SignerMachine) -> None:
    bundle = replace(signer_bundle(machine.hierarchy, number=2), signer_id=2)

    assert "this bundle is for signer 2, and this is signer 1" in refused(machine, signed(bundle))


@pytest.mark.parametrize("retired", [False, True])
def test_a_sub_ca_that_has_not_ended_may_not_be_dropped(machine: SignerMachine, *, retired: bool) -> None:
    if retired:
        second = signer_bundle(machine.hierarchy, number=2, keys=[], tables={FIRST: {"retired": True}})
        activate(machine.config, stage(machine.config, signed(second), passphrase=None, now=NOW))
    last_day = machine.hierarchy.time[FIRST].certificate.not_valid_after_utc

    said = refused(machine, signed(signer_bundle(machine.hierarchy, number=3, names=[SECOND], keys=[])), now=last_day)

    assert f"the sub-CA {FIRST} is not in it, and its CRLs must be signed until {last_day:%Y-%m-%d}" in said


def test_a_name_stands_for_one_key_for_ever(machine: SignerMachine) -> None:
    other = make_hierarchy()
    mixed = replace(other, root=machine.hierarchy.root, structure=machine.hierarchy.structure)
    again = make_ca(FIRST, key=other.time[FIRST].key, issuer=machine.hierarchy.structure)
    mixed = replace(mixed, time={**machine.hierarchy.time, FIRST: again})

    assert f"the sub-CA {FIRST} has another key in it" in refused(machine, signed(signer_bundle(mixed, number=2)))


def test_a_new_certificate_for_the_same_key_is_taken(machine: SignerMachine) -> None:
    hierarchy = machine.hierarchy
    again = make_ca(FIRST, key=hierarchy.time[FIRST].key, issuer=hierarchy.structure)
    renewed = replace(hierarchy, time={**hierarchy.time, FIRST: again})

    bundle = signer_bundle(renewed, number=2, keys=[])
    assert differences(machine.config, bundle) == [
        f"sub-CA {FIRST}: another certificate, until {again.certificate.not_valid_after_utc:%Y-%m-%d}"
    ]
    activate(machine.config, stage(machine.config, signed(bundle), passphrase=None, now=NOW))
    assert machine.config.bundles.number == 2


def _secret(bundle: Bundle, name: str, octets: bytes) -> Bundle:
    others = tuple(each for each in bundle.secrets if each.name != name)
    return replace(bundle, secrets=(*others, BundleFile(name=name, octets=octets)))


def _swap_keys(bundle: Bundle, machine: SignerMachine) -> Bundle:
    return _secret(bundle, f"keys/{FIRST}.key", encrypted(machine.hierarchy.time[SECOND].key))


def _cut_key(bundle: Bundle, machine: SignerMachine) -> Bundle:
    return _secret(bundle, f"keys/{FIRST}.key", encrypted(machine.hierarchy.time[FIRST].key)[:200])


def _key_of_none(bundle: Bundle, machine: SignerMachine) -> Bundle:
    return _secret(bundle, "keys/unassured_2031_1.key", encrypted(machine.hierarchy.time[FIRST].key))


def _public_secret(bundle: Bundle, machine: SignerMachine) -> Bundle:
    return _secret(bundle, "notes.txt", b"secret")


def _edit(name: str, old: str, new: str) -> Spoil:
    def spoil(bundle: Bundle, machine: SignerMachine) -> Bundle:
        text = bundle.file(name).decode()
        assert old in text
        return with_file(bundle, name, text.replace(old, new).encode())

    return spoil


def _without(name: str) -> Spoil:
    def spoil(bundle: Bundle, machine: SignerMachine) -> Bundle:
        return with_file(bundle, name, None)

    return spoil


def _strange_certificate(bundle: Bundle, machine: SignerMachine) -> Bundle:
    return with_file(bundle, f"certificates/{FIRST}.pem", make_hierarchy().time[FIRST].pem)


def _forged_structure(bundle: Bundle, machine: SignerMachine) -> Bundle:
    return with_file(bundle, "certificates/unassured.pem", make_hierarchy().structure.pem)


def _wrong_root_key(bundle: Bundle, machine: SignerMachine) -> Bundle:
    other = make_hierarchy().root.pem
    return with_file(bundle, "certificates/root.pem", other)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_swap_keys, f"the key of {FIRST} does not belong to the certificate of this sub-CA"),
        (_cut_key, f"the key of {FIRST} cannot be unlocked"),
        (_key_of_none, "brings keys/unassured_2031_1.key, which is the key of no sub-CA"),
        (_public_secret, "brings notes.txt, which is the key of no sub-CA"),
        (_edit("authorities.toml", "signer_id = 1", "signer_id = 2"), "belongs to signer 2, not 1"),
        (
            _edit("authorities.toml", "issuer =", "key = 'file:a'\nissuer ="),
            "names a place for its key, which is this machine's part",
        ),
        (_edit("authorities.toml", "[[authority]]", "[[authority"), "authorities.toml: this is not TOML"),
        (_edit("pins.toml", "quorum = 1", "quorum = 2"), "orders.quorum: so many must sign, and 1 keys are named"),
        (_edit("pins.toml", "attestation", "fortune-telling"), "'fortune-telling' is not known"),
        (_without("authorities.toml"), "authorities.toml: cannot read this file"),
        (_without("pins.toml"), "pins.toml: cannot read this file"),
        (_without(f"profiles/{PROFILE}.toml"), "profiles: there is no such directory"),
        (_without("validators/web.pem"), "cannot read validators/web.pem"),
        (_without(f"certificates/{FIRST}.pem"), f"cannot read certificates/{FIRST}.pem"),
        (_without("certificates/unassured.pem"), "is not in the bundle, or has not signed it"),
        (_without("certificates/root.pem"), "is not in the bundle, or has not signed it"),
        (_edit(f"profiles/{PROFILE}.toml", "family", "famly"), "famly"),
        (_edit("certificates/root.pem", "BEGIN", "BEGUN"), "certificates/root.pem: this is not a certificate"),
        (_strange_certificate, "is not in the bundle, or has not signed it"),
        (_forged_structure, "is not in the bundle, or has not signed it"),
        (_wrong_root_key, "is not in the bundle, or has not signed it"),
        (_edit("authorities.toml", f'"{SECOND}"', f'"{FIRST}"'), "stands there twice"),
    ],
    ids=lambda value: value.replace(" ", "-")[:40] if isinstance(value, str) else "",
)
def test_what_does_not_fit_together_is_refused(machine: SignerMachine, spoil: Spoil, words: str) -> None:
    bundle = spoil(signer_bundle(machine.hierarchy, number=2, operators=1), machine)

    said = refused(machine, signed(bundle))

    assert words in said
    assert said.startswith("this bundle cannot be installed: ")


def test_the_wrong_passphrase_is_noticed(machine: SignerMachine) -> None:
    octets = signed(signer_bundle(machine.hierarchy, number=2))

    assert "is this the passphrase of another bundle?" in refused(machine, octets, passphrase=b"other")
    assert "give it with --passphrase-file" in refused(machine, octets, passphrase=None)


def test_a_passphrase_sealed_to_another_machine_is_noticed(machine: SignerMachine) -> None:
    _, public = sealing.make_sealing_key(b"p")

    said = refused(machine, signed(signer_bundle(machine.hierarchy, number=2, sealed_to=public)), passphrase=None)

    assert "sealed to another key than the sealing key of this machine" in said


def test_a_key_that_signs_wrongly_is_refused(machine: SignerMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SignatureMistrusted(f"{FIRST}: the key makes wrong signatures", signing="gnutls", verifying="openssl")

    monkeypatch.setattr(KeyRing, "add", fail)
    assert f"{FIRST}: the key makes wrong signatures" in refused(
        machine, signed(signer_bundle(machine.hierarchy, number=2))
    )


def test_a_machine_without_its_sealing_key_says_so(machine: SignerMachine) -> None:
    public = (machine.directory / "sealing.pem").read_bytes()
    octets = signed(signer_bundle(machine.hierarchy, number=2, sealed_to=public))
    (machine.directory / "sealing.key").unlink()

    assert "sealing.key: cannot read the key to which its passphrase is sealed" in refused(
        machine, octets, passphrase=None
    )


def test_a_key_that_is_nowhere_is_missed(machine: SignerMachine) -> None:
    third = make_hierarchy(["unassured_2027_2"]).time["unassured_2027_2"]
    more = make_ca("unassured_2027_2", key=third.key, issuer=machine.hierarchy.structure)
    grown = replace(machine.hierarchy, time={**machine.hierarchy.time, "unassured_2027_2": more})

    said = refused(machine, signed(signer_bundle(grown, number=2, keys=[])))

    assert "the key of unassured_2027_2 is not in it, and not on this machine" in said


def test_a_key_here_that_does_not_open_is_named(machine: SignerMachine) -> None:
    path = machine.directory / "bundles/0001/keys" / f"{FIRST}.key"
    path.write_bytes(encrypted(machine.hierarchy.time[FIRST].key, b"another passphrase"))

    said = refused(machine, signed(signer_bundle(machine.hierarchy, number=2, keys=[])))

    assert f"cannot unlock the key of {FIRST}: wrong passphrase" in said


def test_a_machine_without_a_bundle_key_says_what_to_do(machine: SignerMachine) -> None:
    path = machine.directory / "signer.toml"
    path.write_text(path.read_text().replace("bundle_key = ", "# bundle_key = "))

    assert "it names no bundle_key" in refused(machine, signed(signer_bundle(machine.hierarchy, number=2)))


def test_a_bundle_key_of_another_kind_is_refused(machine: SignerMachine) -> None:
    private = BUNDLE_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (machine.directory / "bundle-key.pem").write_bytes(private)

    assert "bundle-key.pem is not a public key in PEM" in refused(
        machine, signed(signer_bundle(machine.hierarchy, number=2))
    )


def test_a_link_that_leads_nowhere_is_explained(machine: SignerMachine) -> None:
    link = machine.directory / "bundles/current"
    link.unlink()
    link.symlink_to("0005")

    with pytest.raises(OperatorError, match="this link names '0005', and no bundle is unpacked there"):
        _ = machine.config
    link.unlink()
    link.write_text("0001")
    with pytest.raises(OperatorError, match="this has to be a symbolic link"):
        _ = machine.config
