from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cassiopeia.ceremony.hierarchy import KEY_ALGORITHMS, default_hierarchy_text, load_hierarchy
from cassiopeia.ceremony.profiles import default_profile_texts
from cassiopeia.cli import init as module
from cassiopeia.cli import options
from cassiopeia.cli.main import cassiopeia
from cassiopeia.config import load_authorities, load_client_config, load_signer_config
from cassiopeia.core.ed25519 import public_octets
from cassiopeia.core.evidence import STATEMENT_KINDS
from cassiopeia.core.keycheck import check_public_key
from cassiopeia.link.address import SerialAddress, TcpAddress
from cassiopeia.validation.key import load_validator_key, make_validator_key, public_pem


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A hierarchy file of one family with quick keys: an authority in a moment."""
    head, _, families = default_hierarchy_text().partition("[[family]]")
    quick = head.replace("RSA-4096", "P-256").replace("periods = 4", "periods = 1").replace("spares = 1", "spares = 0")
    text = quick + "[[family]]" + families.partition("[[family]]")[0]
    (tmp_path / "small.toml").write_text(text, encoding="utf-8")
    return "small.toml"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cassiopeia, ["init", *arguments], prog_name="cassiopeia")


def test_it_says_what_was_made_and_what_to_type_next() -> None:
    urls = ["--url-base", "http://ca.example.org", "--ocsp-url", "http://ca.example.org/ocsp"]
    result = run("ca", "--key-algorithm", "P-256", "--unproved-profiles", *urls)

    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "Made a new authority in ca:"
    assert "keys of root, unassured, assured, codesign, orga, orgaSign" in lines[1]
    assert re.fullmatch(r"SHA-256 of the root certificate: [0-9a-f]{64}", lines[6])
    assert lines[-4:] == [
        "  cassiopeia signer run -c ca/signer/signer.toml",
        "  cassiopeia client run -c ca/client/client.toml",
        "  cassiopeia validator run -c ca/validator/validator.toml",
        "  cassiopeia publisher run -c ca/publisher/publisher.toml",
    ]
    assert "start over" not in result.stdout
    assert load_hierarchy(Path("ca/offline/hierarchy.toml")).root.key_algorithm == "P-256"


def test_it_warns_of_what_makes_an_authority_useless(small: str) -> None:
    text = Path(small).read_text(encoding="utf-8")
    urls = ["--url-base", "http://ca.example.org", "--ocsp-url", "http://ca.example.org/ocsp"]
    with_urls = run("a", "--hierarchy", small, *urls, "--unproved-profiles")
    without = run("b", "--hierarchy", small)
    Path(small).write_text(text.replace("http://pki.example.org", "http://ca.example.org"), encoding="utf-8")
    urls_in_file = run("c", "--hierarchy", small, "--unproved-profiles")

    assert "start over" not in with_urls.stdout
    assert "start over with --url-base" in without.stdout
    assert "start over with --unproved-profiles" in without.stdout
    assert "start over with --ocsp-url" in urls_in_file.stdout
    for each in load_authorities(Path("a/signer/authorities.toml")):
        assert each.authority.ocsp_urls == ("http://ca.example.org/ocsp",)


def test_a_second_run_is_one_line_and_changes_nothing(small: str) -> None:
    assert run("ca", "--hierarchy", small).exit_code == 0
    before = Path("ca/offline/offline.bundle").read_bytes()

    result = run("ca", "--hierarchy", small)

    assert result.exit_code == 1
    assert re.fullmatch(r"cassiopeia: error: .*/ca: is there already, .*: choose another directory\n", result.stderr)
    assert Path("ca/offline/offline.bundle").read_bytes() == before


def test_a_wrong_hierarchy_is_one_line(small: str) -> None:
    Path(small).write_text(Path(small).read_text(encoding="utf-8") + "colour = 1\n", encoding="utf-8")

    result = run("ca", "--hierarchy", small)

    assert result.stderr == "cassiopeia: error: small.toml: family[0].colour: this key is not known here\n"
    assert not Path("ca").exists()


def test_two_serial_devices(small: str) -> None:
    arguments = ["--signer-device", "/dev/ttyS0", "--client-device", "/dev/ttyUSB1?baud=9600"]
    assert run("ca", "--hierarchy", small, *arguments).exit_code == 0

    assert load_signer_config(Path("ca/signer/signer.toml")).listen == SerialAddress(device="/dev/ttyS0")
    expected = SerialAddress(device="/dev/ttyUSB1", baud=9600)
    assert load_client_config(Path("ca/client/client.toml")).connect == expected


def test_a_port(small: str) -> None:
    assert run("ca", "--hierarchy", small, "--tcp", "7001").exit_code == 0

    expected = TcpAddress(host="127.0.0.1", port=7001)
    assert load_signer_config(Path("ca/signer/signer.toml")).listen == expected
    assert load_client_config(Path("ca/client/client.toml")).connect == expected


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--signer-device", "/dev/ttyS0"], "A serial line has two ends"),
        (["--client-device", "/dev/ttyS0"], "A serial line has two ends"),
        (["--signer-device", "/dev/a", "--client-device", "/dev/b", "--tcp", "7001"], "There is one link"),
        (["--tcp", "80"], "Invalid value for '--tcp'"),
        (["--key-algorithm", "RSA-1024"], "Invalid value for '--key-algorithm'"),
        (["--url-base", "ca.example.org"], "hierarchy: url_base: this has to be an http or https URL"),
        (["--ocsp-url", "ca.example.org"], "hierarchy: ocsp_urls[0]: this has to be an http or https URL"),
        (["--periods", "24"], "hierarchy: structure.years: too short"),
        (["--validator-key", "gone.pem"], "gone.pem: cannot read the validator's key: No such file"),
        (["--validator-key", "a.pem:fly"], "--validator-key 'a.pem:fly': 'fly' is no kind; use attestation, dns-"),
        (["--validator-key", "a.pem:"], "--validator-key 'a.pem:': '' is no kind"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(arguments: list[str], line: str) -> None:
    result = run("ca", *arguments)

    assert result.exit_code != 0
    assert result.stderr.startswith(f"cassiopeia: error: {line}")
    assert result.stderr.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_periods_and_version_1(small: str) -> None:
    assert run("ca", "--hierarchy", small, "--periods", "2", "--version-1").exit_code == 0

    signer = load_signer_config(Path("ca/signer/signer.toml"))
    assert len(load_authorities(signer.authorities)) == 2
    assert signer.version_1 is not None
    assert signer.version_1.profiles == ()


@pytest.mark.parametrize(("algorithm", "maximum"), [("ML-DSA-44", 21_282), ("ML-DSA-87", 21_000)])
def test_the_other_parameter_sets_of_ml_dsa(small: str, algorithm: str, maximum: int) -> None:
    result = run("ca", "--hierarchy", small, "--key-algorithm", algorithm)

    assert (result.exit_code, result.stderr) == (0, "")
    [entry] = load_authorities(Path("ca/signer/authorities.toml"))
    assert entry.authority.maximum_certificates == maximum
    assert check_public_key(entry.authority.public_key) == algorithm


def test_other_validators_are_believed_what_they_may_say(small: str) -> None:
    for name in ("mail", "people", "all"):
        key = make_validator_key(Path(f"{name}.key"))
        Path(f"{name}.pem").write_bytes(public_pem(key))
    options = ["--validator-key", "mail.pem:mailbox-control", "--validator-key", "all.pem"]
    options += ["--validator-key", "people.pem:organisation,name-verified"]

    result = run("ca", "--hierarchy", small, *options)

    assert (result.exit_code, result.stderr) == (0, "")
    pinned = {each.name: each for each in load_signer_config(Path("ca/signer/signer.toml")).validators}
    assert {name: each.kinds for name, each in pinned.items()} == {
        "validator": set(STATEMENT_KINDS),
        "mail": {"mailbox-control"},
        "all": set(STATEMENT_KINDS),
        "people": {"organisation", "name-verified"},
    }
    for name, each in pinned.items():
        path = Path("ca/validator/validator.key") if name == "validator" else Path(f"{name}.key")
        assert each.public_key == public_octets(load_validator_key(path))


@pytest.mark.parametrize(
    ("name", "copy", "words"),
    [
        ("validator.pem", "mail.pem", "the validator that is made here has this name; rename the file"),
        ("mail.pem", "mail.pem", "another validator's key has this name, or is this very key"),
        ("mail.pem", "copy.pem", "another validator's key has this name, or is this very key"),
    ],
)
def test_validators_that_cannot_be_are_refused(small: str, name: str, copy: str, words: str) -> None:
    pem = public_pem(make_validator_key(Path("mail.key")))
    for each in {name, copy}:
        Path(each).write_bytes(pem)

    result = run("ca", "--hierarchy", small, "--validator-key", name, "--validator-key", copy)

    assert (result.exit_code, words in result.stderr) == (1, True)
    assert not Path("ca").exists()


def test_the_choices_are_those_of_the_hierarchy_and_of_evidence() -> None:
    assert options.CA_KEY_ALGORITHMS == KEY_ALGORITHMS
    assert module._KINDS == STATEMENT_KINDS


def test_profiles_of_ones_own_are_found_beside_the_hierarchy(small: str) -> None:
    Path("deep").mkdir()
    text = default_profile_texts()["0004-server"].replace('title = "Server (unassured)"', 'title = "Mine"')
    Path("deep/0020-mine.toml").write_text(text, encoding="utf-8")
    hierarchy = Path(small).read_text(encoding="utf-8").replace('"0004-server"', '"0020-mine.toml"')
    Path("deep/hierarchy.toml").write_text(hierarchy, encoding="utf-8")

    result = run("ca", "--hierarchy", "deep/hierarchy.toml")

    assert (result.exit_code, result.stderr) == (0, "")
    assert Path("ca/signer/profiles/0020-mine.toml").read_text(encoding="utf-8") == text
    assert not Path("ca/signer/profiles/0004-server.toml").exists()
