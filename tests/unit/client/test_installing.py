from __future__ import annotations

import datetime as dt
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.bundles import (
    FIRST,
    NOW,
    OTHER_KEY,
    PROFILE,
    SECOND,
    SmallHierarchy,
    bundle_key_pem,
    client_bundle,
    make_crl,
    make_hierarchy,
    publication_bundle,
    signed,
    signer_bundle,
    with_file,
)
from tests.support.journal_keys import JOURNAL_PUBLIC_PEM
from tests.support.links import certificate as link_certificate

from cassiopeia.client.installing import (
    Machine,
    activate,
    client_machine,
    differences,
    open_public_bundle,
    publish,
    rehearse,
    stage,
    to_publish,
    validator_machine,
)
from cassiopeia.client.machine import ClientFiles, make_client
from cassiopeia.config import (
    check_installed,
    load_authorities,
    load_chain,
    load_client_config,
    load_profiles,
    load_validator_config,
)
from cassiopeia.core.bundle import CLIENT, Bundle
from cassiopeia.errors import OperatorError
from cassiopeia.validation.installation import ValidatorFiles, write_validator


@dataclass(frozen=True, kw_only=True)
class Client:
    directory: Path
    hierarchy: SmallHierarchy

    @property
    def machine(self) -> Machine:
        return client_machine(load_client_config(self.directory / "client.toml"))

    def install(self, bundle: Bundle) -> None:
        activate(self.machine, stage(self.machine, signed(bundle), now=NOW))

    def everything(self) -> dict[Path, bytes]:
        return {each: each.read_bytes() for each in sorted(self.directory.rglob("*")) if each.is_file()}


@pytest.fixture
def client(tmp_path: Path) -> Client:
    peers = {"signer": link_certificate("signer").read_bytes(), "journal": JOURNAL_PUBLIC_PEM}
    given = ClientFiles(connect="tcp:127.0.0.1:4433", bundle_key=bundle_key_pem(), peers=peers)
    make_client(tmp_path / "client", given)
    return Client(directory=tmp_path / "client", hierarchy=make_hierarchy())


def test_a_client_waits_for_its_first_bundle_and_says_so(client: Client) -> None:
    config = load_client_config(client.directory / "client.toml")

    with pytest.raises(OperatorError, match="no bundle is installed yet: cassiopeia client install BUNDLE"):
        check_installed(config.bundles, config.authorities, command="client install")


def test_what_is_installed_is_in_force(client: Client) -> None:
    client.install(client_bundle(client.hierarchy))

    config = load_client_config(client.directory / "client.toml")
    check_installed(config.bundles, config.authorities, command="client install")
    assert config.bundles.number == 1
    assert [each.authority.name for each in load_authorities(config.authorities)] == [FIRST, SECOND]
    assert [each.name for each in load_chain(config.authorities)] == ["root", "unassured"]
    assert set(load_profiles(config.profiles)) == {PROFILE}


def test_what_somebody_keeps_beside_the_bundles_stays(client: Client) -> None:
    bundles = client.directory / "bundles"
    bundles.mkdir(exist_ok=True)
    for name in (".keep", ".ssh", ".0001.a1b2", ".look.x", ".current.7"):
        (bundles / name).mkdir()

    client.install(client_bundle(client.hierarchy))

    assert sorted(each.name for each in bundles.iterdir()) == [".keep", ".ssh", "0001", "current"]


def test_the_same_bundle_again_is_no_mistake(client: Client) -> None:
    octets = signed(client_bundle(client.hierarchy))
    activate(client.machine, stage(client.machine, octets, now=NOW))
    before = client.everything()

    assert stage(client.machine, octets, now=NOW).is_in_force
    assert rehearse(client.machine, octets, now=NOW)
    assert client.everything() == before


def test_a_rehearsal_leaves_nothing(client: Client) -> None:
    before = client.everything()

    assert not rehearse(client.machine, signed(client_bundle(client.hierarchy)), now=NOW)

    assert client.everything() == before


def test_what_would_change_is_said_in_words(client: Client) -> None:
    first = client_bundle(client.hierarchy, names=[FIRST])
    assert [each.split(";")[0] for each in differences(client.machine, first)] == [
        f"sub-CA {FIRST}: new",
        f"profile {PROFILE}: new",
    ]
    client.install(first)

    text = first.file(f"profiles/{PROFILE}.toml").replace(b"maximum_validity_days = ", b"maximum_validity_days = 1")
    second = with_file(client_bundle(client.hierarchy, number=2), f"profiles/{PROFILE}.toml", text)

    said = differences(client.machine, second)
    assert [each.split(";")[0] for each in said] == [f"sub-CA {SECOND}: new", f"profile {PROFILE}: changed"]


def _without(name: str) -> Callable[[Bundle], Bundle]:
    return lambda bundle: with_file(bundle, name, None)


def _edit(old: str, new: str) -> Callable[[Bundle], Bundle]:
    def edit(bundle: Bundle) -> Bundle:
        text = bundle.file("authorities.toml").decode()
        assert old in text
        return with_file(bundle, "authorities.toml", text.replace(old, new).encode())

    return edit


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_without("authorities.toml"), "authorities.toml: cannot read this file"),
        (_without(f"profiles/{PROFILE}.toml"), "profiles: there is no such directory"),
        (_without("certificates/root.pem"), "cannot read certificates/root.pem"),
        (_edit("signer_id = 1\n", "signer_id = 1\nkey = 'file:a'\n"), "names a key, and no CA key is on this machine"),
        (_edit('issuer = "unassured"', 'issuer = "assured"'), "the CA assured, above unassured_2026_2, is not in it"),
        (lambda bundle: replace(bundle, root_key=bytes(32)), "does not lead to the root of this hierarchy"),
    ],
    ids=["authorities", "profiles", "root", "key", "issuer", "root key"],
)
def test_what_does_not_fit_together_is_refused(client: Client, spoil: Callable[[Bundle], Bundle], words: str) -> None:
    before = client.everything()

    with pytest.raises(OperatorError, match=words) as caught:
        stage(client.machine, signed(spoil(client_bundle(client.hierarchy))), now=NOW)

    assert str(caught.value).endswith("nothing was changed")
    assert client.everything() == before


def test_a_structure_ca_that_is_missing_is_missed(client: Client) -> None:
    with pytest.raises(OperatorError, match="is not in the bundle, or has not signed it"):
        stage(client.machine, signed(client_bundle(client.hierarchy, above=["root"])), now=NOW)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda hierarchy: signed(signer_bundle(hierarchy)), "it is of the kind signer"),
        (lambda _: signed(client_bundle(make_hierarchy()), OTHER_KEY), "belongs to another hierarchy"),
        (lambda _: b"nothing", "this is not the DER of a SignedBundle"),
    ],
    ids=["signer's", "another hierarchy's", "none"],
)
def test_what_is_not_for_clients_is_refused(
    client: Client, make: Callable[[SmallHierarchy], bytes], words: str
) -> None:
    with pytest.raises(OperatorError, match=words):
        open_public_bundle(client.machine, make(client.hierarchy))


def test_an_older_bundle_is_refused(client: Client) -> None:
    client.install(client_bundle(client.hierarchy, number=3))

    with pytest.raises(OperatorError, match="its number is 2, and 3 is in force"):
        stage(client.machine, signed(client_bundle(client.hierarchy, number=2)), now=NOW)


def test_a_sub_ca_whose_crls_are_still_wanted_may_not_be_dropped(client: Client) -> None:
    client.install(client_bundle(client.hierarchy))
    second = signed(client_bundle(client.hierarchy, number=2, names=[SECOND]))
    end = client.hierarchy.time[FIRST].certificate.not_valid_after_utc

    with pytest.raises(OperatorError, match=f"the sub-CA {FIRST} is not in it"):
        stage(client.machine, second, now=end)
    activate(client.machine, stage(client.machine, second, now=end + dt.timedelta(seconds=1)))
    assert client.machine.bundles.number == 2


def test_a_validator_takes_the_profiles_of_the_same_bundle(client: Client, tmp_path: Path) -> None:
    directory = tmp_path / "validator"
    directory.mkdir()
    given = ValidatorFiles(
        name="web",
        store_url="sqlite:///store.sqlite",
        profiles={},
        journal_keys={"journal": JOURNAL_PUBLIC_PEM},
        bundle_key=bundle_key_pem(),
    )
    write_validator(directory, given)
    path = directory / "validator.toml"
    machine = validator_machine(load_validator_config(path))
    assert load_profiles(load_validator_config(path).profiles) == {}

    octets = signed(client_bundle(client.hierarchy))
    activate(machine, stage(machine, octets, now=NOW))

    assert set(load_profiles(load_validator_config(path).profiles)) == {PROFILE}
    machine = validator_machine(load_validator_config(path))
    assert stage(machine, octets, now=NOW).is_in_force
    with pytest.raises(OperatorError, match="here belongs client"):
        open_public_bundle(machine, signed(publication_bundle(client.hierarchy)), kinds=(CLIENT,))


# --- what everybody may fetch


@pytest.fixture
def public(client: Client) -> Path:
    return client.directory / "public"


def test_everything_is_published_in_both_forms(client: Client, public: Path) -> None:
    contents, said = to_publish(publication_bundle(client.hierarchy), public)

    publish(contents)

    names = {f"{name}.{form}" for name in ("root", "unassured", FIRST, SECOND) for form in ("crt", "pem")}
    crls = {f"{name}.{form}" for name in ("root", "unassured") for form in ("crl", "crl.pem")}
    assert {each.name for each in public.iterdir()} == names | crls | {"fingerprints.txt"}
    assert said[0].endswith(": new")
    assert to_publish(publication_bundle(client.hierarchy), public)[1] != []  # other signatures of the same CRLs
    assert x509.load_pem_x509_crl((public / "root.crl.pem").read_bytes()) == x509.load_der_x509_crl(
        (public / "root.crl").read_bytes()
    )


def test_what_is_published_already_is_not_written_again(client: Client, public: Path) -> None:
    bundle = publication_bundle(client.hierarchy)
    publish(to_publish(bundle, public)[0])

    assert to_publish(bundle, public) == ({}, [])


def test_a_public_directory_that_is_not_there_is_made(client: Client, tmp_path: Path) -> None:
    publish(to_publish(publication_bundle(client.hierarchy), tmp_path / "www/ca")[0])

    assert (tmp_path / "www/ca/root.crl").exists()


def test_a_newer_crl_stays(client: Client, public: Path) -> None:
    newer = make_crl(client.hierarchy.root, number=9).public_bytes(Encoding.DER)
    (public / "root.crl").write_bytes(newer)
    (public / "unassured.crl").write_bytes(b"no CRL at all")

    publish(to_publish(publication_bundle(client.hierarchy, crl_number=8), public)[0])

    assert (public / "root.crl").read_bytes() == newer
    assert not (public / "root.crl.pem").exists()
    assert x509.load_der_x509_crl((public / "unassured.crl").read_bytes()).issuer == (
        client.hierarchy.structure.certificate.subject
    )


def test_a_forged_crl_keeps_no_other_away(client: Client, public: Path) -> None:
    octets = make_crl(client.hierarchy.root, number=2**64).public_bytes(Encoding.DER)
    (public / "root.crl").write_bytes(octets[:-1] + bytes([octets[-1] ^ 1]))

    contents, _ = to_publish(publication_bundle(client.hierarchy, crl_number=8), public)

    assert public / "root.crl" in contents


def test_a_newer_crl_replaces_the_older(client: Client, public: Path) -> None:
    publish(to_publish(publication_bundle(client.hierarchy, crl_number=8), public)[0])

    _, said = to_publish(publication_bundle(client.hierarchy, number=2, crl_number=9), public)

    assert said == [f"{name}: replaced" for name in ("root.crl", "root.crl.pem", "unassured.crl", "unassured.crl.pem")]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda bundle: with_file(bundle, "root.crl", bundle.file("unassured.crl")),
            "root.crl of this bundle is not signed by the CA of its name",
        ),
        (
            lambda bundle: with_file(bundle, "other.crl", bundle.file("root.crl")),
            "other.crl of this bundle is not signed by the CA of its name",
        ),
        (lambda bundle: with_file(bundle, "root.crl", b"none"), "root.crl of this bundle cannot be read"),
        (lambda bundle: with_file(bundle, "root.crt", b"none"), "root.crt of this bundle cannot be read"),
        (
            lambda bundle: with_file(bundle, "unassured.crt", make_hierarchy().structure.der),
            "this bundle cannot be published",
        ),
        (lambda bundle: replace(bundle, root_key=bytes(32)), "does not lead to the root"),
    ],
    ids=["swapped", "of none", "no CRL", "no certificate", "forged", "root key"],
)
def test_what_is_wrong_is_not_published(
    client: Client, public: Path, spoil: Callable[[Bundle], Bundle], words: str
) -> None:
    with pytest.raises(OperatorError, match=words) as caught:
        to_publish(spoil(publication_bundle(client.hierarchy)), public)

    assert str(caught.value).endswith("nothing was changed")


def test_a_full_disk_leaves_what_was_published(client: Client, public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(to_publish(publication_bundle(client.hierarchy), public)[0])
    before = client.everything()
    contents, _ = to_publish(publication_bundle(client.hierarchy, number=2, crl_number=2), public)
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == len(contents):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OperatorError, match="No space left on device; mend that"):
        publish(contents)

    assert client.everything() == before
