"""`cassiopeia backend`: libraries listed, tried and measured, as people and as scripts read it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support import odd_backends
from tests.support.odd_backends import OddBackend
from tests.support.signer import PASSPHRASE, SIGNING_CA, install
from tests.support.softhsm import MODULE, SoftHsm, make_softhsm

from cassiopeia.cli.main import cassiopeia
from cassiopeia.core.algorithms import ALGORITHMS
from cassiopeia.core.key_uri import BACKENDS
from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.signer.keystore import backends
from cassiopeia.signer.keystore.ca_key import CA_KEY_ALGORITHMS
from cassiopeia.signer.keystore.openssl import OpenSsl

MISSING = "the crypto backend wolfssl is not installed: it needs the extra wolfssl of cassiopeia-ca"

Backends = Callable[..., None]


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Backends:
    """OpenSSL and what is given are there; nothing else is."""

    def set_backends(*others: OddBackend) -> None:
        found: dict[str, Any] = {"openssl": OpenSsl(), **{each.name: each for each in others}}

        def load(name: str) -> Any:
            if name == "pkcs11" and name not in found:
                raise OperatorError("pkcs11: this machine's configuration forbids it; change it")
            if name not in found:
                raise Unavailable(
                    f"the crypto backend {name} is not installed: it needs the extra {name} of cassiopeia-ca"
                )
            return found[name]

        monkeypatch.setattr(backends, "load_backend", load)

    return set_backends


def run(*arguments: str, status: int = 0) -> Result:
    done = CliRunner().invoke(cassiopeia, ["backend", *arguments], prog_name="cassiopeia")
    assert done.exit_code == status, done.output
    return done


def error(*arguments: str, status: int = 1) -> str:
    return " ".join(run(*arguments, status=status).stderr.split())


def test_every_library_is_listed_with_what_it_can_do(there: Backends) -> None:
    there(OddBackend(signs=ALGORITHMS[:1], verifies=ALGORITHMS[:2]))

    lines = run("list").stdout.splitlines()

    assert lines[0].split() == ["backend", "version"]
    assert re.fullmatch(r"openssl  OpenSSL \d.*", lines[1])
    assert lines[2] == "gnutls   odd 1.0"
    assert lines[3] == MISSING
    assert lines[4] == "pkcs11: this machine's configuration forbids it; change it"
    rows = {line.split()[0]: re.split(r"  +", line)[1:] for line in lines[6:]}
    assert rows["algorithm"] == ["openssl", "gnutls"]
    assert rows["sha256WithRSAEncryption"] == ["signs, verifies", "signs, verifies"]
    assert rows["sha384WithRSAEncryption"] == ["signs, verifies", "verifies"]
    assert rows["ML-DSA-87"] == ["signs, verifies", "-"]
    assert list(rows) == ["algorithm", *(each.name for each in ALGORITHMS)]


def test_a_script_reads_the_same(there: Backends) -> None:
    there(OddBackend(signs=ALGORITHMS[:1], verifies=ALGORITHMS[:2]))

    document = {each["name"]: each for each in json.loads(run("list", "--json").stdout)["backends"]}

    assert list(document) == list(BACKENDS)
    assert document["gnutls"] == {
        "name": "gnutls",
        "extra": "gnutls",
        "package": "libgnutls30",
        "available": True,
        "version": "odd 1.0",
        "missing": "",
        "signs": ["sha256WithRSAEncryption"],
        "verifies": ["sha256WithRSAEncryption", "sha384WithRSAEncryption"],
    }
    assert (document["wolfssl"]["available"], document["wolfssl"]["missing"]) == (False, MISSING)
    assert document["wolfssl"]["signs"] == []


def test_a_token_says_itself_what_it_can_do(there: Backends) -> None:
    there(OddBackend(name="pkcs11", version="", verifies=()))

    text = run("list").stdout

    assert "\npkcs11   as the token says\n" in text
    assert text.endswith("cassiopeia backend check pkcs11:token=LABEL;object=LABEL\n")


def test_good_libraries_pass_the_check(there: Backends) -> None:
    there(OddBackend())

    lines = run("check").stdout.splitlines()

    tried = [line for line in lines if line.startswith("ok ")]
    assert len(tried) == 2 * len(ALGORITHMS)
    assert tried[0].startswith("ok    openssl sha256WithRSAEncryption: known signature verified; ")
    assert f"-     wolfssl: {MISSING}" in lines
    assert lines[-1] == f"{len(tried)} checks, and nothing is wrong."


def test_a_bad_library_fails_the_check_and_says_what_to_do(there: Backends) -> None:
    there(OddBackend(sign=odd_backends.flips_a_bit))

    done = run("check", status=1)

    wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG ")]
    assert len(wrong) == len(ALGORITHMS)
    assert wrong[0].startswith("WRONG gnutls sha256WithRSAEncryption: a known key gives another signature")
    assert "14 of 28 checks failed; the first: gnutls sha256WithRSAEncryption: " in done.stderr
    assert "let another library sign and verify where this one does" in done.stderr


def test_a_verifier_that_takes_everything_is_found_out(there: Backends) -> None:
    there(OddBackend(verify=odd_backends.takes_everything))

    document = json.loads(run("check", "--json", status=1).stdout)

    faults = {each["subject"]: each["fault"] for each in document["findings"]}
    assert "gnutls takes a known signature with a bit flipped in octet 0 for a good one" in faults["gnutls Ed25519"]
    # OpenSSL's own signature is verified by all, and so the fault shows there too.
    assert "gnutls takes a signature by openssl with a bit flipped" in faults["openssl Ed25519"]
    assert {each["backend"] for each in document["findings"]} == {"openssl", "gnutls"}
    assert set(document["untried"]) == {"wolfssl", "pkcs11"}


def test_one_library_is_checked_alone(there: Backends) -> None:
    there(OddBackend(sign=odd_backends.flips_a_bit))

    assert "14 checks, and nothing is wrong." in run("check", "--backend", "openssl").stdout


def test_a_library_that_was_asked_for_has_to_be_there(there: Backends) -> None:
    there()

    assert MISSING in error("check", "--backend", "wolfssl")
    assert "-     wolfssl" not in run("check", "--backend", "wolfssl", status=1).stdout
    assert "is not installed" not in run("check", "--backend", "openssl").stderr


def test_a_token_is_not_tried_without_a_key_and_says_so(there: Backends) -> None:
    there(OddBackend(name="pkcs11", verifies=()))

    words = "no key in a token was named: give its URI, or a signer.toml whose keys are in one"

    assert f"-     pkcs11: {words}\n" in run("check", "--backend", "openssl").stdout
    assert f"nothing was tried: {words}" in error("check", "--backend", "pkcs11")


@pytest.fixture
def signer_toml(tmp_path: Path) -> Path:
    return install(tmp_path)


def test_the_keys_of_a_signer_are_proved(there: Backends, signer_toml: Path) -> None:
    there()

    lines = run("check", "--backend", "openssl", "-c", str(signer_toml)).stdout.splitlines()

    key = signer_toml.parent / "ca.key"
    assert f"ok    {SIGNING_CA}: file:{key}?backend=openssl: openssl signs, verified by openssl" in lines
    assert lines[-1] == "15 checks, and nothing is wrong."


def test_a_key_that_cannot_sign_fails_the_check(there: Backends, signer_toml: Path) -> None:
    there()
    (signer_toml.parent / "passphrase").write_bytes(b"wrong\n")

    line = error("check", "--backend", "openssl", "-c", str(signer_toml))

    assert line.startswith(f"cassiopeia: error: 1 of 15 checks failed; the first: {SIGNING_CA}: ")
    assert "cannot unlock this CA key" in line


def test_a_key_that_no_sub_ca_has_is_tried_by_its_uri(there: Backends, signer_toml: Path) -> None:
    there()
    uri = f"file:{signer_toml.parent}/ca.key"

    with_passphrase = run("check", uri, "--passphrase-file", str(signer_toml.parent / "passphrase")).stdout
    with_config = run("check", uri, "-c", str(signer_toml)).stdout

    for text in (with_passphrase, with_config):
        assert f"ok    {uri}: ecdsa-with-SHA256 signed, verified by openssl" in text
    assert "name its file with --passphrase-file, or use --config" in error("check", uri)


def test_a_key_whose_sub_ca_is_still_to_come_is_tried(there: Backends, signer_toml: Path) -> None:
    there()
    key = signer_toml.parent / "ca.key"
    with signer_toml.open("a", encoding="utf-8") as stream:
        stream.write("[authority.assured_2027_1]\nkey = 'file:ca.key'\n")

    lines = run("check", "--backend", "openssl", "-c", str(signer_toml)).stdout.splitlines()

    assert f"ok    file:{key}?backend=openssl: ecdsa-with-SHA256 signed, verified by openssl" in lines
    assert lines[-1] == "16 checks, and nothing is wrong."


def test_a_switch_of_a_sub_ca_that_is_not_there_fails_the_check(there: Backends, signer_toml: Path) -> None:
    there()
    with signer_toml.open("a", encoding="utf-8") as stream:
        stream.write("[authority.assured_2027_2]\nbackend = 'gnutls'\n")

    line = error("check", "--backend", "openssl", "-c", str(signer_toml))

    assert line == (
        f"cassiopeia: error: 1 of 16 checks failed; the first: {signer_toml}: [authority.assured_2027_2] is for no "
        f"sub-CA of this signer, and changes nothing: it has {SIGNING_CA}; mend the name or take the table away, and "
        "reload the signer"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["check", "nonsense"], 1, "a key is named by file:PATH or by a pkcs11: URI"),
        (["check", "pkcs11:token=a;object=b?pin-value=1234"], 1, "a PIN does not stand in a URI"),
        (["bench", "--key-algorithm", "RSA-1024"], 1, "there is no key algorithm 'RSA-1024': take one of RSA-2048, "),
        (["bench", "--seconds", "0"], 2, "0.0 is not in the range x>0"),
        (["bench", "--token", "file:a"], 1, "a key file has a passphrase"),
        (["bench", "--token", "file:a", "--passphrase-file", __file__], 1, "file:/a: this is no key in a token"),
    ],
    ids=["nonsense", "pin", "kind", "seconds", "file", "no-token"],
)
def test_a_mistake_is_one_line(
    there: Backends, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, words: str
) -> None:
    there()
    monkeypatch.chdir("/")

    line = error(*arguments, status=status)

    assert words in line
    assert "1234" not in line


def test_signatures_a_second_are_a_table(there: Backends) -> None:
    there(OddBackend(signs=ALGORITHMS[:1], verifies=()))

    lines = run(
        "bench", "--seconds", "0.001", "--key-algorithm", "P-256", "--key-algorithm", "RSA-2048", "--verify"
    ).stdout.splitlines()

    assert lines[:2] == ["signatures a second", lines[1]]
    assert lines[1].split() == ["key", "algorithm", "openssl", "gnutls"]
    assert re.fullmatch(r"P-256 +ecdsa-with-SHA256 +[\d,]+ +-", lines[2])
    assert re.fullmatch(r"RSA-2048 +sha256WithRSAEncryption +[\d,]+ +[\d,]+ \(\d+\.\d\d\)", lines[3])
    assert re.fullmatch(r"RSA-2048 +rsassaPss-sha256 +[\d,]+ +[\d,]+ \(\d+\.\d\d\)", lines[4])
    assert lines[6:8] == ["verifications a second", "key       algorithm                openssl"]
    assert len(lines) == 11


def test_every_kind_of_key_is_measured(there: Backends) -> None:
    there()

    document = json.loads(run("bench", "--seconds", "0.001", "--json").stdout)

    assert list(dict.fromkeys(each["key_algorithm"] for each in document["signatures"])) == list(CA_KEY_ALGORITHMS)
    for each in document["signatures"]:
        assert (each["by"], each["ratio"]) == ("openssl", 1.0)
        assert each["a_second"] > 0
    assert document["verifications"] == []


def test_without_openssl_there_is_no_ratio(there: Backends) -> None:
    there(OddBackend())

    options = ["bench", "--seconds", "0.001", "--backend", "gnutls", "--key-algorithm", "Ed25519"]
    [figure] = json.loads(run(*options, "--json").stdout)["signatures"]
    text = run(*options).stdout

    assert (figure["by"], figure["ratio"]) == ("gnutls", None)
    assert "(" not in text


@pytest.fixture
def tokens(tmp_path: Path) -> SoftHsm:
    softhsm = make_softhsm(tmp_path / "softhsm")
    softhsm.make_token("first")
    return softhsm


def program(tokens: SoftHsm, *arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own: the token's library belongs to a process."""
    done = subprocess.run(
        [sys.executable, "-m", "cassiopeia", "backend", *arguments],
        env=tokens.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def install_in_token(directory: Path, tokens: SoftHsm) -> Path:
    """A signer whose sub-CA's key is in the token, and nowhere else."""
    path = install(
        directory,
        more=f"[pkcs11]\nmodule = '{MODULE}'\npin_file = '{tokens.directory}/pin'\n"
        f"[authority.{SIGNING_CA}]\nkey = 'pkcs11:token=first;object=ca'\n",
    )
    tokens.write_pin()
    tokens.import_key("first", "ca", directory / "ca.key", identifier="01", passphrase=PASSPHRASE.decode())
    (directory / "ca.key").unlink()
    return path


def test_a_key_in_a_token_is_proved_and_measured(tmp_path: Path, tokens: SoftHsm) -> None:
    signer_toml = install_in_token(tmp_path, tokens)

    checked = program(tokens, "check", "-c", signer_toml, "--backend", "openssl").stdout
    measured = program(
        tokens,
        *("bench", "--seconds", "0.001", "--token", "pkcs11:token=first;object=ca", "--backend", "openssl"),
        *("--module", MODULE, "--pin-file", tokens.directory / "pin", "--json"),
    ).stdout

    assert f"ok    {SIGNING_CA}: pkcs11:token=first;object=ca: pkcs11 signs, verified by openssl\n" in checked
    figures = json.loads(measured)["signatures"]
    assert [(each["key_algorithm"], each["by"]) for each in figures] == [("P-256", "openssl"), ("P-256", "first")]


def test_a_refused_pin_is_tried_once_by_a_person_and_then_forgotten(tmp_path: Path, tokens: SoftHsm) -> None:
    signer_toml = install_in_token(tmp_path, tokens)
    tokens.write_pin("999999")
    uri = "pkcs11:token=first;object=ca"

    first = program(tokens, "check", "--backend", "openssl", "-c", signer_toml, uri, status=1)
    remembered = [path.suffix for path in tmp_path.rglob("*.refused")]
    tokens.write_pin()
    corrected = program(tokens, "check", "--backend", "openssl", "-c", signer_toml, uri)

    assert "the token 'first' refused the PIN" in first.stderr
    assert remembered == [".refused"]
    assert "999999" not in first.stdout + first.stderr
    assert f"WRONG {uri}: not tried, for a token has refused its PIN: correct that first\n" in first.stdout
    assert "16 checks, and nothing is wrong." in corrected.stdout
    assert list(tmp_path.rglob("*.refused")) == []


def test_the_keys_in_a_token_are_listed_without_its_pin(tmp_path: Path, tokens: SoftHsm) -> None:
    path = install_in_token(tmp_path, tokens)
    (tmp_path / "bad-pin").write_text("000000", encoding="utf-8")
    (tmp_path / "bad-pin").chmod(0o600)

    text = program(tokens, "list", "-c", path).stdout
    refused = program(tokens, "list", "-c", path, "--pin-file", tmp_path / "bad-pin", status=1)
    listed = json.loads(program(tokens, "list", "-c", path, "--json").stdout)

    assert f"keys in the tokens of {MODULE}:\npkcs11:token=first;serial=" in text
    assert re.search(rf"^{SIGNING_CA} +pkcs11 +- +pkcs11:token=first;object=", text, re.MULTILINE)
    assert "algorithm" in refused.stdout
    assert "refused the PIN" in refused.stderr
    [key] = listed["keys"]
    assert key in text
    [authority] = listed["authorities"]
    assert (authority["name"], authority["backend"], authority["verify_with"]) == (SIGNING_CA, "pkcs11", "")


def test_the_sub_cas_of_a_signer_are_listed_with_what_signs(there: Backends, signer_toml: Path) -> None:
    there(OddBackend())
    with signer_toml.open("a", encoding="utf-8") as stream:
        stream.write(f"[authority.{SIGNING_CA}]\nverify_with = 'gnutls'\n")

    lines = run("list", "-c", str(signer_toml)).stdout.splitlines()

    assert lines[-1].split() == [SIGNING_CA, "openssl", "gnutls", f"file:{signer_toml.parent}/ca.key?backend=openssl"]
    assert "keys in the tokens" not in "".join(lines)
