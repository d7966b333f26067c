from __future__ import annotations

import datetime as dt
import re
import ssl
import subprocess
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from tests.support.authorities import p256_key
from tests.support.operators import PUBLIC_KEYS, public_pem

from cassiopeia.ceremony import installation as installing
from cassiopeia.ceremony.declaration import load_declaration
from cassiopeia.ceremony.hierarchy import Hierarchy, Ocsp, Orders, PinnedValidator, SignerMachine
from cassiopeia.ceremony.installation import Installation, LinkAddresses, initialise
from cassiopeia.ceremony.profiles import default_profile_texts
from cassiopeia.ceremony.safe import make_secret, open_safe, read_offline, read_secret
from cassiopeia.config import (
    load_authorities,
    load_chain,
    load_client_config,
    load_profiles,
    load_signer_config,
    load_validator_config,
)
from cassiopeia.core import ed25519
from cassiopeia.errors import ConfigurationError, OperatorError
from cassiopeia.link.address import SerialAddress, UnixAddress
from cassiopeia.link.credentials import Version1Tls, certificate_pin, client_tls, signer_tls
from cassiopeia.store.database import open_store
from cassiopeia.validation.key import load_validator_key

NOW = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
PRIVATE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")


def test_both_sides_load_their_configuration(installation: Installation) -> None:
    signer = load_signer_config(installation.signer_config)
    client = load_client_config(installation.client_config)

    assert signer.signer_id == 1
    assert isinstance(signer.listen, UnixAddress)
    assert isinstance(client.connect, UnixAddress)
    assert Path(signer.listen.path).resolve() == Path(client.connect.path).resolve()
    assert Path(signer.listen.path).resolve().parent.is_dir()
    assert signer.state.is_dir()
    assert load_profiles(signer.profiles) == load_profiles(client.profiles)


def test_the_signers_keys_belong_to_its_sub_cas(installation: Installation) -> None:
    signer = load_signer_config(installation.signer_config)
    passphrase_file = signer.keys.passphrase.file
    assert passphrase_file is not None
    passphrase = passphrase_file.read_bytes().strip()
    entries = load_authorities(signer.authorities)

    assert [each.authority.name for each in entries] == list(installation.by_level[2])
    for entry in entries:
        key = load_pem_private_key(
            (signer.authorities.parent / entry.key.removeprefix("file:")).read_bytes(), passphrase
        )
        assert key.public_key() == entry.authority.public_key
        assert entry.authority.crl_urls == (f"http://ca.example.org/{entry.authority.name}.crl",)
        assert entry.authority.issuer_urls == (f"http://ca.example.org/{entry.authority.name}.crt",)
        assert entry.authority.ocsp_urls == ()
        assert entry.authority.signer_id == 1


def test_the_offline_keys_belong_to_root_and_structure_cas(installation: Installation) -> None:
    offline = installation.directory / "offline"
    _, bundle = read_offline(offline / "offline.bundle")
    secret = read_secret(offline / "offline.passphrase")

    safe = open_safe(bundle, secret=secret, source="offline.bundle")

    assert sorted(safe.keys) == sorted([*installation.by_level[0], *installation.by_level[1]])
    for name, key in safe.keys.items():
        assert key.public_key() == safe.certificates[name].public_key()
    assert [each.name for each in safe.record.time] == list(installation.by_level[2])
    # Nothing of them is outside of the bundle.
    assert [each.name for each in offline.rglob("*") if each.is_file() and PRIVATE.search(each.read_bytes())] == [
        "offline.bundle"
    ]
    with pytest.raises(OperatorError, match="does not open"):
        open_safe(bundle, secret=make_secret(), source="offline.bundle")


def test_the_hierarchy_is_kept_as_it_was_used(installation: Installation, hierarchy: Hierarchy) -> None:
    offline = installation.directory / "offline"

    kept = load_declaration(offline / "hierarchy.toml")

    assert kept.hierarchy.url_base == "http://ca.example.org/"
    assert (kept.hierarchy.root, kept.hierarchy.time) == (hierarchy.root, hierarchy.time)
    assert tuple(sorted(kept.profiles)) == installation.profiles
    # The bundles of later ceremonies open in this signer alone.
    assert kept.pins.sealing_keys == {1: (installation.directory / "signer" / "sealing.pem").read_bytes()}


def test_every_machine_knows_who_signs_bundles(installation: Installation) -> None:
    pinned = (installation.directory / "offline" / "bundle-key.pem").read_bytes()

    for machine in ("signer", "client", "validator", "publisher"):
        assert (installation.directory / machine / "bundle-key.pem").read_bytes() == pinned


def test_the_client_knows_the_signers_journal_by_its_key(installation: Installation) -> None:
    signer = load_signer_config(installation.signer_config)
    client = load_client_config(installation.client_config)
    key = load_pem_private_key(signer.journal_key.read_bytes(), None)

    assert isinstance(key, Ed25519PrivateKey)
    assert client.journal_keys == (ed25519.public_octets(key),)
    assert installation.client_version_1_config is not None
    assert load_client_config(installation.client_version_1_config).journal_keys == ()


def test_the_validator_is_ready_to_run_and_believed(installation: Installation) -> None:
    signer = load_signer_config(installation.signer_config)
    client = load_client_config(installation.client_config)
    validator = load_validator_config(installation.validator_config)

    [pinned] = signer.validators
    assert (pinned.name, pinned.kinds) == ("validator", validator.kinds)
    assert pinned.public_key == ed25519.public_octets(load_validator_key(validator.key))
    assert validator.journal_keys == client.journal_keys
    assert load_profiles(validator.profiles) == load_profiles(signer.profiles)
    with open_store(validator.store_url) as theirs, open_store(client.store_url) as ours:
        ours.evidence.save_word("validator", {}, now=NOW)
        assert [each.name for each in theirs.evidence.validators()] == ["validator"]
    directory = installation.validator_config.parent
    keys = [each.name for each in directory.rglob("*") if each.is_file() and PRIVATE.search(each.read_bytes())]
    assert keys == ["validator.key"]


def test_the_client_has_no_ca_key(installation: Installation) -> None:
    client = installation.directory / "client"
    keys = [each for each in client.rglob("*") if each.is_file() and PRIVATE.search(each.read_bytes())]

    assert sorted(each.name for each in keys) == ["link-v1.key", "link.key"]
    link_pins = {certificate_pin(each) for each in client.glob("link*.pem")}
    assert not link_pins & {certificate_pin(each) for each in (client / "certificates").iterdir()}
    assert not list(client.rglob("passphrase"))


def test_each_key_is_in_one_place_only(installation: Installation) -> None:
    contents = [each.read_bytes() for each in installation.directory.rglob("*.key")]

    # Sub-CAs, links, journal, validator, OCSP responder, sealing; the safe's keys are in its bundle.
    assert len(contents) == 5 + 4 + 1 + 1 + 1 + 1
    assert len(set(contents)) == len(contents)


def test_secrets_are_their_owners_alone(installation: Installation) -> None:
    for path in installation.directory.rglob("*"):
        mode = path.stat().st_mode & 0o7777
        if path.is_file() and (path.name in {"passphrase", "offline.passphrase"} or PRIVATE.search(path.read_bytes())):
            assert mode == 0o600, path
    for name in ("offline", "signer", "signer/keys", "signer/state", "run", "validator"):
        assert (installation.directory / name).stat().st_mode & 0o7777 == 0o700, name


def test_a_web_server_reaches_what_is_published_and_cannot_look_around(installation: Installation) -> None:
    assert installation.directory.stat().st_mode & 0o7777 == 0o755
    assert (installation.directory / "client").stat().st_mode & 0o7777 == 0o711
    assert installation.public_directory.stat().st_mode & 0o7777 == 0o755
    assert {each.stat().st_mode & 0o7777 for each in installation.public_directory.iterdir()} == {0o644}


def test_every_ca_is_published_in_both_forms(installation: Installation) -> None:
    public = installation.public_directory
    root, structure, time = installation.by_level
    names = [*root, *structure, *time]

    crls = {f"{name}.crl{form}" for name in [*root, *structure] for form in ("", ".pem")}
    assert {each.name for each in public.iterdir()} == {
        f"{name}.{form}" for name in names for form in ("crt", "pem")
    } | crls | {"fingerprints.txt"}
    for name in names:
        der = x509.load_der_x509_certificate((public / f"{name}.crt").read_bytes())
        assert der == x509.load_pem_x509_certificate((public / f"{name}.pem").read_bytes())
    for name in (*root, *structure):
        crl = x509.load_der_x509_crl((public / f"{name}.crl").read_bytes())
        assert crl == x509.load_pem_x509_crl((public / f"{name}.crl.pem").read_bytes())


def test_openssl_verifies_what_is_published(installation: Installation, now: dt.datetime) -> None:
    for name in installation.by_level[2]:
        done = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-attime", str(int(now.timestamp())), "-CAfile", "root.pem",
             "-untrusted", f"{name.split('_')[0]}.pem", f"{name}.pem"],
            cwd=installation.public_directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout == f"{name}.pem: OK\n", done.stderr


def test_the_client_can_build_every_chain(installation: Installation) -> None:
    client = load_client_config(installation.client_config)
    chain = {each.name: each for each in load_chain(client.authorities)}

    for entry in load_authorities(client.authorities):
        certificate = x509.load_der_x509_certificate(entry.authority.certificate)
        above = chain[entry.issuer]
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(above.certificate))
        assert entry.key == ""
        assert above.issuer == "root"
    assert chain["root"].issuer == "root"


def test_the_store_is_ready(installation: Installation) -> None:
    with open_store(load_client_config(installation.client_config).store_url) as store:
        assert store.requests is not None


def test_the_root_fingerprint_is_what_openssl_says(installation: Installation) -> None:
    command = ["openssl", "x509", "-in", "root.pem", "-noout", "-fingerprint", "-sha256"]
    said = subprocess.run(command, cwd=installation.public_directory, capture_output=True, text=True, check=True).stdout

    assert said.partition("=")[2].strip().replace(":", "").lower() == installation.root_fingerprint


def test_the_link_credentials_fit_each_other(installation: Installation) -> None:
    signer = load_signer_config(installation.signer_config)
    client = load_client_config(installation.client_config)
    assert signer.version_1 is not None
    assert installation.client_version_1_config is not None
    client_1 = load_client_config(installation.client_version_1_config)

    version_1 = Version1Tls(
        certificate=signer.version_1.certificate, key=signer.version_1.key, peers=signer.version_1.peers
    )
    tls = signer_tls(certificate=signer.certificate, key=signer.key, peers=signer.peers, version_1=version_1)
    tls_2 = client_tls(certificate=client.certificate, key=client.key, peers=client.peers)
    tls_1 = client_tls(certificate=client_1.certificate, key=client_1.key, peers=client_1.peers, version=1)

    assert isinstance(tls.context, ssl.SSLContext)
    assert tls.peer_pins == {2: frozenset({tls_2.own_pins[2]}), 1: frozenset({tls_1.own_pins[1]})}
    assert (tls_2.peer_pins[2], tls_1.peer_pins[1]) == (frozenset({tls.own_pins[2]}), frozenset({tls.own_pins[1]}))
    assert client_1.name != client.name


def test_version_1_may_ask_for_unproved_profiles_only(installation: Installation) -> None:
    signer = load_signer_config(installation.signer_config)
    profiles = load_profiles(signer.profiles)
    assert signer.version_1 is not None

    assert set(signer.version_1.profiles) == {name for name in profiles if "unproved" in name}
    assert all(profiles[name].evidence == () for name in signer.version_1.profiles)


@pytest.fixture
def smallest(hierarchy: Hierarchy) -> Hierarchy:
    return msgspec.structs.replace(hierarchy, family=hierarchy.family[:1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"signer": (SignerMachine(id=1), SignerMachine(id=2))}, "this hierarchy has several signers"),
        ({"orders": Orders(operators=("alice.pem",))}, "this hierarchy pins keys"),
        ({"validator": (PinnedValidator(name="v", key="v.pem"),)}, "this hierarchy pins keys"),
        ({"ocsp": Ocsp(responders=("p.pem",))}, "this hierarchy pins keys"),
    ],
    ids=["signers", "operators", "validators", "responders"],
)
def test_what_only_a_ceremony_can_do_is_left_to_it(
    tmp_path: Path, smallest: Hierarchy, now: dt.datetime, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(OperatorError, match=f"{said}.*`cassiopeia ceremony run`"):
        initialise(tmp_path / "ca", hierarchy=msgspec.structs.replace(smallest, **changes), now=now)
    assert list(tmp_path.iterdir()) == []


def test_what_is_dangerous_has_to_be_asked_for(tmp_path: Path, smallest: Hierarchy, now: dt.datetime) -> None:
    made = initialise(tmp_path / "ca", hierarchy=smallest, now=now)

    assert not made.has_unproved_profiles
    assert made.client_version_1_config is None
    assert load_signer_config(made.signer_config).version_1 is None
    assert not list(made.directory.rglob("*v1*"))
    for profile in load_profiles(load_signer_config(made.signer_config).profiles).values():
        assert profile.evidence, profile.name


def test_only_profiles_that_a_family_can_sign_are_installed(
    tmp_path: Path, smallest: Hierarchy, now: dt.datetime
) -> None:
    made = initialise(tmp_path / "ca", hierarchy=smallest, now=now, demo_profiles=True)
    profiles = load_profiles(load_signer_config(made.signer_config).profiles)

    assert {profile.family for profile in profiles.values()} == {"unassured", ""}
    assert tuple(profiles) == made.profiles
    assert "9009-unproved-code" not in profiles


def test_profiles_come_with_the_software() -> None:
    texts = default_profile_texts()

    assert "0004-server" in texts
    assert "9004-unproved-server" in texts
    assert list(texts) == sorted(texts)


def test_other_links_stand_in_both_files(tmp_path: Path, smallest: Hierarchy, now: dt.datetime) -> None:
    addresses = LinkAddresses(listen="serial:/dev/ttyS0?baud=57600", connect='serial:/dev/odd"name')
    made = initialise(tmp_path / "ca", hierarchy=smallest, now=now, link_addresses=addresses)

    assert load_signer_config(made.signer_config).listen == SerialAddress(device="/dev/ttyS0", baud=57600)
    assert load_client_config(made.client_config).connect == SerialAddress(device='/dev/odd"name')


def test_orders_of_the_operators_are_obeyed_that_were_named(
    tmp_path: Path, smallest: Hierarchy, now: dt.datetime
) -> None:
    for number, name in enumerate(["anna", "ben"]):
        (tmp_path / f"{name}.pem").write_bytes(public_pem(number))
    keys = [tmp_path / "anna.pem", tmp_path / "ben.pem"]

    made = initialise(tmp_path / "ca", hierarchy=smallest, now=now, operator_keys=keys, quorum=2)

    signer = load_signer_config(made.signer_config)
    assert (signer.operators, signer.quorum) == (PUBLIC_KEYS[:2], 2)


def test_without_operators_nothing_is_said_of_orders(installation: Installation) -> None:
    assert load_signer_config(installation.signer_config).operators == ()
    assert "orders" not in installation.signer_config.read_text()
    assert not (installation.signer_config.parent / "operators").exists()


@pytest.mark.parametrize(
    ("names", "quorum", "reason"),
    [
        (["anna.pem", "anna.pem"], 1, "another operator's key has this name"),
        (["anna.pem", "copy.pem"], 1, "or is this very key"),
        (["anna.pem"], 2, "2 operators must sign, and 1 keys are given"),
        (["gone.pem"], 1, "cannot read the operator's key"),
        (["text.pem"], 1, "is not a public key in PEM"),
        (["p256.pem"], 1, "is not an Ed25519 key"),
    ],
)
def test_operators_that_cannot_be_are_refused(
    tmp_path: Path, smallest: Hierarchy, now: dt.datetime, names: list[str], quorum: int, reason: str
) -> None:
    (tmp_path / "anna.pem").write_bytes(public_pem())
    (tmp_path / "copy.pem").write_bytes(public_pem())
    (tmp_path / "text.pem").write_text("none")
    p256 = p256_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "p256.pem").write_bytes(p256)

    with pytest.raises(OperatorError, match=reason):
        initialise(
            tmp_path / "ca",
            hierarchy=smallest,
            now=now,
            operator_keys=[tmp_path / name for name in names],
            quorum=quorum,
        )
    assert not (tmp_path / "ca").exists()


def test_an_ocsp_responder_and_pss_reach_the_sub_cas(tmp_path: Path, smallest: Hierarchy, now: dt.datetime) -> None:
    time = msgspec.structs.replace(smallest.time, pss=True, maximum_certificates=100)
    hierarchy = msgspec.structs.replace(smallest, time=time, ocsp_urls=("http://ocsp.example.org",))
    made = initialise(tmp_path / "ca", hierarchy=hierarchy, now=now)

    (entry,) = load_authorities(load_signer_config(made.signer_config).authorities)
    assert entry.authority.pss
    assert entry.authority.maximum_certificates == 100
    assert entry.authority.ocsp_urls == ("http://ocsp.example.org",)


def test_a_second_run_overwrites_nothing(tmp_path: Path, smallest: Hierarchy, now: dt.datetime) -> None:
    made = initialise(tmp_path / "ca", hierarchy=smallest, now=now)
    before = {path: path.read_bytes() for path in made.directory.rglob("*") if path.is_file()}

    with pytest.raises(OperatorError, match="never overwritten"):
        initialise(tmp_path / "ca", hierarchy=smallest, now=now)

    assert {path: path.read_bytes() for path in made.directory.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [made.directory]


def test_if_it_fails_halfway_nothing_is_left(
    tmp_path: Path, smallest: Hierarchy, now: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str) -> None:
        raise OperatorError(f"{url}: no database today")

    monkeypatch.setattr(installing, "upgrade", unreachable)

    with pytest.raises(OperatorError, match="no database today"):
        initialise(tmp_path / "ca", hierarchy=smallest, now=now)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        (LinkAddresses(listen="udp:1"), "signer.toml: link.listen: 'udp:1' is no link address"),
        (LinkAddresses(connect="tcp:example.org:1"), "client.toml: link.connect: .* must be an IP address"),
        (LinkAddresses(listen=f"unix:{'x' * 100}"), "signer.toml: link.listen: .* too long"),
    ],
)
def test_a_wrong_link_is_refused_before_any_key_is_made(
    tmp_path: Path, smallest: Hierarchy, now: dt.datetime, addresses: LinkAddresses, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        initialise(tmp_path / "ca", hierarchy=smallest, now=now, link_addresses=addresses)

    assert list(tmp_path.iterdir()) == []


def test_a_wrong_url_base_is_refused(tmp_path: Path, smallest: Hierarchy, now: dt.datetime) -> None:
    with pytest.raises(ConfigurationError, match="url_base: this has to be an http or https URL"):
        initialise(tmp_path / "ca", hierarchy=smallest, now=now, url_base="ca.example.org")


def test_a_family_that_cannot_vouch_for_its_profiles_is_refused(
    tmp_path: Path, smallest: Hierarchy, now: dt.datetime
) -> None:
    family = msgspec.structs.replace(smallest.family[0], extended_key_usage=("clientAuth", "emailProtection"))
    hierarchy = msgspec.structs.replace(smallest, family=(family,))

    with pytest.raises(ConfigurationError, match="profile 0004-server needs serverAuth in extended_key_usage"):
        initialise(tmp_path / "ca", hierarchy=hierarchy, now=now)
