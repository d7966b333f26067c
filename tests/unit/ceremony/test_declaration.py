"""A hierarchy file with the files that it names: profiles of one's own, pinned keys, and the way into the safe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia.ceremony.declaration import HIERARCHY_FILE, load_declaration, portable_files, read_declaration
from cassiopeia.ceremony.hierarchy import default_hierarchy_text
from cassiopeia.ceremony.pins import no_file
from cassiopeia.ceremony.profiles import families_of
from cassiopeia.core.evidence import STATEMENT_KINDS
from cassiopeia.core.profile import parse_profile
from cassiopeia.errors import ConfigurationError
from cassiopeia.sealing import make_sealing_key

_, SEALING_PUBLIC = make_sealing_key(b"a signer's own")

PINS = """
[orders]
operators = ["keys/anna.pem", "keys/ben.pem"]
quorum = 2

[[validator]]
name = "eyes"
key = "keys/validator.pem"
kinds = ["attestation", "dns-control"]

[[validator]]
name = "ears"
key = "keys/other.pem"

[ocsp]
responders = ["keys/ocsp.pem"]
"""
SEALING = '[[signer]]\nid = 1\nsealing_key = "keys/sealing.pem"\n[[signer]]\nid = 2\n'
PROFILE = """\
title = "Mine"  # family = "no line of its own"
family = 'elsewhere'   # taken over
key_usage = ["digitalSignature"]
extended_key_usage = ["clientAuth"]
maximum_validity_days = 90
evidence = ["attestation", "name-verified"]

[subject]
CN = "required"
"""


def public_pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The default hierarchy with two signers, keys of everybody, and a profile of one's own."""
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("anna", "ben", "validator", "other"):
        (keys / f"{name}.pem").write_bytes(public_pem(Ed25519PrivateKey.generate()))
    (keys / "ocsp.pem").write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1())))
    (keys / "sealing.pem").write_bytes(SEALING_PUBLIC)
    (tmp_path / "0020-mine.toml").write_text(PROFILE, encoding="utf-8")
    text = default_hierarchy_text().replace("[[signer]]\nid = 1 ", f"{PINS}\n{SEALING}#", 1)
    file = tmp_path / "mine.toml"
    file.write_text(text.replace('"0007-client-mail-a",', '"0020-mine.toml",'), encoding="utf-8")
    return file


def changed(path: Path, *changes: tuple[str, str]) -> Path:
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_has_its_fifteen_profiles_and_no_pins() -> None:
    declaration = load_declaration()

    assert len(declaration.profiles) == 15
    assert (declaration.pins.operators, declaration.pins.validators, declaration.pins.responders) == ((), (), ())
    assert declaration.profiles["0004-server"].startswith("# A server; its keeper proved control")


def test_unproved_profiles_come_when_they_are_asked_for() -> None:
    names = set(load_declaration(unproved=True).profiles) - set(load_declaration().profiles)

    assert names == {
        "9001-unproved-client",
        "9002-unproved-mail",
        "9003-unproved-client-mail",
        "9004-unproved-server",
        "9009-unproved-code",
    }


def test_everything_that_is_named_is_read(path: Path) -> None:
    declaration = load_declaration(path)
    pins = declaration.pins

    assert ([each.name for each in pins.operators], pins.quorum) == (["anna", "ben"], 2)
    assert [(each.name, each.kinds) for each in pins.validators] == [
        ("eyes", ("attestation", "dns-control")),
        ("ears", STATEMENT_KINDS),
    ]
    assert pins.validators[0].pem == (path.parent / "keys" / "validator.pem").read_bytes()
    assert [(each.name, each.kinds) for each in pins.responders] == [("ocsp", ())]
    assert pins.sealing_keys == {1: SEALING_PUBLIC}


def test_a_profile_is_given_to_the_family_that_names_it(path: Path) -> None:
    declaration = load_declaration(
        changed(path, ('profiles = ["0014-code-orga"]', 'profiles = ["0014-code-orga", "9009-unproved-code"]'))
    )

    families = families_of(declaration.profiles)
    assert families["0020-mine"] == "assured"
    assert families["9009-unproved-code"] == "orgaSign"
    assert families["0100-ocsp"] == ""
    assert "0007-client-mail-a" not in families
    # Nothing but that line is another one.
    assert declaration.profiles["0020-mine"] == PROFILE.replace("family = 'elsewhere'", 'family = "assured"')


def test_a_family_that_names_none_has_those_that_name_it(path: Path) -> None:
    declaration = load_declaration(changed(path, ('profiles = ["0009-code-a"]\n', "")))

    assert [name for name, family in families_of(declaration.profiles).items() if family == "codesign"] == [
        "0009-code-a"
    ]


def test_what_goes_into_the_safe_is_the_same_declaration(path: Path) -> None:
    declaration = load_declaration(path)
    files = portable_files(declaration)

    # As `core.bundle` wants them: one directory at the most.
    assert all(name.count("/") <= 1 for name in files)
    again = read_declaration(files[HIERARCHY_FILE].decode(), read=files.__getitem__, source="the safe")
    assert (again.profiles, again.pins) == (declaration.profiles, declaration.pins)
    # And what comes out of the safe goes into it unchanged.
    assert portable_files(again) == files
    assert again.hierarchy.time == declaration.hierarchy.time
    assert {"operators/anna.pem", "validators/eyes.pem", "responders/ocsp.pem", "profiles/0020-mine.toml"} <= set(files)


def test_the_default_goes_into_the_safe_with_its_profiles() -> None:
    declaration = load_declaration()
    files = portable_files(declaration)

    again = read_declaration(files[HIERARCHY_FILE].decode(), read=files.__getitem__, source="the safe")
    assert (again.profiles, again.pins) == (declaration.profiles, declaration.pins)
    assert again.hierarchy.family[0].profiles[0] == "profiles/0001-client.toml"


def same_key(path: Path) -> None:
    keys = path.parent / "keys"
    (keys / "ben.pem").write_bytes((keys / "anna.pem").read_bytes())


def not_a_key(path: Path) -> None:
    (path.parent / "keys" / "ben.pem").write_bytes(b"-----BEGIN PUBLIC KEY-----\n")


def a_curve_key(path: Path) -> None:
    (path.parent / "keys" / "validator.pem").write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1())))


def a_directory(path: Path) -> None:
    (path.parent / "keys" / "ocsp.pem").unlink()
    (path.parent / "keys" / "ocsp.pem").mkdir()


def strange_name(path: Path) -> None:
    (path.parent / "keys" / "ben.pem").rename(path.parent / "keys" / "ben & co.pem")
    changed(path, ("keys/ben.pem", "keys/ben & co.pem"))


def not_utf8(path: Path) -> None:
    (path.parent / "0020-mine.toml").write_bytes(b"title = '\xff'")


def no_profile(path: Path) -> None:
    (path.parent / "0020-mine.toml").write_text("title = 'x'")


def family_on_no_line(path: Path) -> None:
    (path.parent / "0020-mine.toml").write_text(PROFILE.replace("family = 'elsewhere'", "'family' = 'elsewhere'"))


def by(*changes: tuple[str, str]) -> Callable[[Path], object]:
    return lambda path: changed(path, *changes)


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        (by(("keys/anna.pem", "keys/gone.pem")), "orders.operators[0]", "'keys/gone.pem': No such file"),
        (by(("keys/anna.pem", "keys/\\u0000")), "orders.operators[0]", "this is not the name of one"),
        (not_a_key, "orders.operators[1]", "'keys/ben.pem' is not a public key in PEM"),
        (a_curve_key, "validator[0].key", "is not an Ed25519 key, as a validator has it"),
        (a_directory, "ocsp.responders[0]", "Is a directory"),
        (strange_name, "orders.operators[1]", "'ben & co' is no name to know a key by"),
        (same_key, "orders.operators", "'anna' and 'ben' are the same key"),
        (by(("quorum = 2", "quorum = 3")), "orders.quorum", "so many must sign, and 2 are named"),
        (by(('name = "ears"', 'name = "eyes"')), "validator", "two keys are called 'eyes'"),
        (by(('name = "ears"', 'name = "../ears"')), "validator[1].key", "'../ears' is no name"),
        (by(("keys/other.pem", "keys/validator.pem")), "validator", "'eyes' and 'ears' are the same key"),
        (
            by(('["keys/ocsp.pem"]', '["keys/ocsp.pem", "keys/ocsp.pem"]')),
            "ocsp.responders",
            "two keys are called 'ocsp'",
        ),
        (by(("keys/sealing.pem", "keys/none.pem")), "signer[0].sealing_key", "No such file"),
        (
            by(("keys/sealing.pem", "keys/anna.pem")),
            "signer[0].sealing_key",
            "'keys/anna.pem': this is not the public half of a sealing key",
        ),
        (
            by(("id = 2\n", 'id = 2\nsealing_key = "keys/sealing.pem"\n')),
            "signer[1].sealing_key",
            "'keys/sealing.pem' is the sealing key of signer 1 already",
        ),
        (by(("0020-mine.toml", "0021-mine.toml")), "family[1].profiles[2]", "'0021-mine.toml': No such file"),
        (
            by(('"0020-mine.toml"', '"0020-mine"')),
            "family[1].profiles[2]",
            "no profile '0020-mine' comes with the software",
        ),
        (not_utf8, "family[1].profiles[2]", "not UTF-8"),
        (by(('"0014-code-orga"', '"0009-code-a"')), "family[4].profiles", "0009-code-a is given twice"),
        (by(('"0014-code-orga"', '"0100-ocsp"')), "family[4].profiles", "0100-ocsp is for OCSP responders"),
        (by(('"0014-code-orga"', '"0004-server"')), "family[4].profiles", "given twice"),
        (
            by(('"0014-code-orga"', '"0007-client-mail-a"')),
            "family[4].profiles",
            "profile 0007-client-mail-a needs clientAuth, emailProtection in extended_key_usage of the family orgaSign",
        ),
        (
            family_on_no_line,
            "family[1].profiles",
            "0020-mine belongs to the family elsewhere: write family = 'assured'",
        ),
    ],
)
def test_what_cannot_be_is_refused(path: Path, change: Callable[[Path], object], key: str, reason: str) -> None:
    change(path)

    with pytest.raises(ConfigurationError) as caught:
        load_declaration(path)

    assert (caught.value.source, caught.value.key) == (str(path), key)
    assert reason in caught.value.reason


def test_a_profile_that_is_none_is_named_itself(path: Path) -> None:
    no_profile(path)

    with pytest.raises(ConfigurationError) as caught:
        load_declaration(path)

    assert caught.value.source == "0020-mine.toml"


def test_what_has_no_place_on_a_disk_has_no_files_beside_it() -> None:
    text = default_hierarchy_text().replace('"0004-server"', '"0020-mine.toml"')

    with pytest.raises(ConfigurationError, match=r"profiles\[3\]: cannot read '0020-mine.toml': No such file"):
        read_declaration(text, read=no_file, source="x")


def test_the_shipped_profiles_can_serve_families_of_other_names() -> None:
    text = default_hierarchy_text().replace('name = "unassured"', 'name = "everybody"')
    declaration = read_declaration(text, read=no_file, source="x")

    profile = parse_profile(declaration.profiles["0004-server"], name="0004-server", source="x")
    assert profile.family == "everybody"
