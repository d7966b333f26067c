from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.support.bundles import (
    BUNDLE_PASSPHRASE,
    FIRST,
    NOW,
    PROFILE,
    SECOND,
    SignerMachine,
    encrypted,
    make_signer_machine,
    signed,
    signer_bundle,
)
from tests.support.operators import PUBLIC_KEYS, public_pem

from cassiopeia.config import load_signer_config
from cassiopeia.core.evidence import key_id
from cassiopeia.errors import OperatorError
from cassiopeia.installations import discard
from cassiopeia.signer.configuration import load, own_entries
from cassiopeia.signer.installing import Staged, activate, differences, open_signer_bundle, rehearse, stage
from cassiopeia.signer.worker import make_worker


@pytest.fixture
def machine(tmp_path: Path) -> SignerMachine:
    return make_signer_machine(tmp_path / "signer")


def install(machine: SignerMachine, octets: bytes, *, now: dt.datetime = NOW) -> Staged:
    staged = stage(machine.config, octets, passphrase=BUNDLE_PASSPHRASE, now=now)
    activate(machine.config, staged)
    return staged


def test_a_machine_that_waits_for_its_bundle_says_so(machine: SignerMachine) -> None:
    with pytest.raises(OperatorError, match="no bundle is installed yet: cassiopeia signer install BUNDLE"):
        own_entries(machine.config)


def test_what_is_installed_is_in_force_and_signs(machine: SignerMachine) -> None:
    staged = install(machine, signed(signer_bundle(machine.hierarchy, operators=2)))

    config = machine.config
    assert config.bundles.installed == staged.directory == machine.directory / "bundles/0001"
    assert config.bundles.number == staged.number == 1
    assert config.operators == PUBLIC_KEYS[:2]
    assert [each.name for each in config.validators] == ["web"]
    assert [each.authority.name for each in own_entries(config)] == [FIRST, SECOND]
    make_worker(config)  # which proves every key
    loaded = load(config)
    assert (set(loaded.profiles), set(loaded.authorities)) == ({PROFILE}, {FIRST, SECOND})


def test_staging_alone_changes_nothing_that_is_in_force(machine: SignerMachine) -> None:
    staged = stage(machine.config, signed(signer_bundle(machine.hierarchy)), passphrase=BUNDLE_PASSPHRASE, now=NOW)

    assert staged.directory.is_dir()
    assert machine.config.bundles.installed is None
    discard(machine.config.bundles, staged)
    assert not staged.directory.exists()


def test_what_is_in_force_is_never_discarded(machine: SignerMachine) -> None:
    staged = install(machine, signed(signer_bundle(machine.hierarchy)))

    discard(machine.config.bundles, staged)

    assert machine.config.bundles.installed == staged.directory
    assert staged.directory.is_dir()


def test_keys_lie_encrypted_with_the_signers_own_passphrase(machine: SignerMachine) -> None:
    staged = install(machine, signed(signer_bundle(machine.hierarchy)))

    for name, ca in machine.hierarchy.time.items():
        path = staged.directory / "keys" / f"{name}.key"
        assert load_pem_private_key(path.read_bytes(), machine.passphrase).public_key() == ca.key.public_key()
        with pytest.raises(ValueError, match=r"."):
            load_pem_private_key(path.read_bytes(), BUNDLE_PASSPHRASE)
        assert path.stat().st_mode & 0o777 == 0o600
    assert staged.directory.stat().st_mode & 0o777 == 0o700


def test_a_passphrase_may_be_sealed_in_the_bundle(machine: SignerMachine) -> None:
    sealing_key = (machine.directory / "sealing.pem").read_bytes()

    staged = stage(
        machine.config, signed(signer_bundle(machine.hierarchy, sealed_to=sealing_key)), passphrase=None, now=NOW
    )

    assert sorted(each.stem for each in (staged.directory / "keys").iterdir()) == [FIRST, SECOND]


def test_keys_that_are_here_already_are_carried_over(machine: SignerMachine) -> None:
    install(machine, signed(signer_bundle(machine.hierarchy, names=[FIRST])))
    octets = signed(signer_bundle(machine.hierarchy, number=2, keys=[SECOND]))

    staged = install(machine, octets)

    assert staged.directory.name == "0002"
    make_worker(machine.config)
    # The one before stays, for whatever still reads it.
    assert (machine.directory / "bundles/0001/keys" / f"{FIRST}.key").exists()


def test_a_bundle_without_new_keys_needs_no_passphrase(machine: SignerMachine) -> None:
    install(machine, signed(signer_bundle(machine.hierarchy)))

    staged = stage(
        machine.config, signed(signer_bundle(machine.hierarchy, number=2, keys=[])), passphrase=None, now=NOW
    )

    activate(machine.config, staged)
    make_worker(machine.config)


def test_the_same_bundle_again_is_no_mistake(machine: SignerMachine) -> None:
    octets = signed(signer_bundle(machine.hierarchy))
    install(machine, octets)
    before = machine.everything()

    staged = stage(machine.config, octets, passphrase=None, now=NOW)
    activate(machine.config, staged)

    assert staged.is_in_force
    assert rehearse(machine.config, octets, passphrase=None, now=NOW)
    assert machine.everything() == before


def test_what_was_staged_before_and_not_put_in_force_is_staged_again(machine: SignerMachine) -> None:
    one = signed(signer_bundle(machine.hierarchy))
    other = signed(signer_bundle(machine.hierarchy))
    first = stage(machine.config, one, passphrase=BUNDLE_PASSPHRASE, now=NOW)
    second = stage(machine.config, other, passphrase=BUNDLE_PASSPHRASE, now=NOW)

    with pytest.raises(OperatorError, match="this is not what was unpacked here a moment ago"):
        activate(machine.config, first)
    assert machine.config.bundles.installed is None
    activate(machine.config, second)
    assert machine.config.bundles.number == 1


def test_the_older_of_two_that_were_staged_does_not_come_into_force_behind_the_newer(machine: SignerMachine) -> None:
    older = stage(machine.config, signed(signer_bundle(machine.hierarchy)), passphrase=BUNDLE_PASSPHRASE, now=NOW)
    install(machine, signed(signer_bundle(machine.hierarchy, number=2)))

    with pytest.raises(OperatorError, match="bundle 1 is not put in force: bundle 2 was installed in the meantime"):
        activate(machine.config, older)

    assert machine.config.bundles.number == 2


def test_a_rehearsal_verifies_everything_and_leaves_nothing(machine: SignerMachine) -> None:
    before = machine.everything()

    assert not rehearse(machine.config, signed(signer_bundle(machine.hierarchy)), passphrase=BUNDLE_PASSPHRASE, now=NOW)

    assert machine.everything() == before
    with pytest.raises(OperatorError, match="passphrase of another bundle"):
        rehearse(machine.config, signed(signer_bundle(machine.hierarchy)), passphrase=b"wrong", now=NOW)
    assert machine.everything() == before


def test_a_sub_ca_that_has_ended_may_go(machine: SignerMachine) -> None:
    install(machine, signed(signer_bundle(machine.hierarchy)))
    ended = machine.hierarchy.time[FIRST].certificate.not_valid_after_utc + dt.timedelta(seconds=1)

    install(machine, signed(signer_bundle(machine.hierarchy, number=2, names=[SECOND], keys=[])), now=ended)

    assert [each.authority.name for each in own_entries(machine.config)] == [SECOND]


def test_a_key_born_here_is_found(machine: SignerMachine) -> None:
    key = encrypted(machine.hierarchy.time[SECOND].key, machine.passphrase)
    (machine.directory / "keys" / f"{SECOND}.key").write_bytes(key)

    staged = install(machine, signed(signer_bundle(machine.hierarchy, keys=[FIRST])))

    assert (staged.directory / "keys" / f"{SECOND}.key").read_bytes() == key


def test_what_would_change_is_said_in_words(machine: SignerMachine) -> None:
    first = signed(signer_bundle(machine.hierarchy, names=[FIRST]))
    assert differences(machine.config, open_signer_bundle(machine.config, first)) == [
        f"sub-CA {FIRST}: new; issues from 2026-11-03 until 2027-01-01, at most 100 certificates",
        f"profile {PROFILE}: new",
        f"validator web (key {machine_validator()}): new; may state attestation",
    ]
    install(machine, first)
    second = signer_bundle(machine.hierarchy, number=2, keys=[SECOND], operators=2, tables={FIRST: {"retired": True}})

    said = differences(machine.config, second)

    assert said[:2] == [
        f"sub-CA {FIRST}: retired: it issues no more",
        f"sub-CA {SECOND}: new; issues from 2027-01-01 until 2027-07-04, at most 100 certificates",
    ]
    assert [each.split(" (")[0] for each in said[2:]] == ["operator", "operator"]
    install(machine, signed(second))
    assert differences(machine.config, replace(second, number=3)) == []


def machine_validator() -> str:
    return key_id(PUBLIC_KEYS[3]).hex()[:16]


def test_pins_of_the_bundle_count_beside_those_of_the_signers_file(machine: SignerMachine) -> None:
    config_path = machine.directory / "signer.toml"
    (machine.directory / "operators").mkdir()
    (machine.directory / "operators/zoe.pem").write_bytes(public_pem(2))
    config_path.write_text(config_path.read_text() + '\n[orders]\noperators = ["operators/zoe.pem"]\nquorum = 1\n')

    install(machine, signed(signer_bundle(machine.hierarchy, operators=2)))

    assert load_signer_config(config_path).operators == (PUBLIC_KEYS[2], *PUBLIC_KEYS[:2])
