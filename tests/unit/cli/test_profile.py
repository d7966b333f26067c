from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cassiopeia.ceremony.profiles import default_profile_texts
from cassiopeia.cli.main import cassiopeia
from cassiopeia.config import load_profile

SERVER = "ca=unassured\nku=digitalSignature\neku=serverAuth\ndays=732\ninclude=domain+\nname=Ziel für Server\n"
MAIL = "ca=orga\nku=digitalSignature\neku=emailProtection\ndays=365\ninclude=email+\nrequires=points>=100\n"


@pytest.fixture(autouse=True)
def _two_profiles_of_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("0004-server.cfg").write_text(SERVER, encoding="utf-8")
    Path("0002-mail.cfg").write_text(MAIL, encoding="utf-8")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cassiopeia, ["profile", *arguments], prog_name="cassiopeia")


def test_one_profile_is_printed() -> None:
    result = run("import", "0004-server.cfg")

    assert (result.exit_code, result.stderr) == (0, "")
    Path("0004-server.toml").write_text(result.stdout, encoding="utf-8")
    profile = load_profile(Path("0004-server.toml"))
    assert (profile.title, profile.maximum_validity_days) == ("Ziel für Server", 732)


def test_several_are_printed_one_below_the_other() -> None:
    result = run("import", "0004-server.cfg", "0002-mail.cfg")

    starts = [line for line in result.stdout.splitlines() if line.startswith("# Imported")]
    assert starts == [f"# Imported from the original's profile {name}." for name in ("0004-server", "0002-mail")]


def test_they_are_written_as_files_that_check_takes() -> None:
    Path("ours").mkdir()

    result = run("import", "0004-server.cfg", "0002-mail.cfg", "--out", "ours")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "ours/0004-server.toml: written\nours/0002-mail.toml: written\n"
    checked = run("check", "ours/0004-server.toml", "ours/0002-mail.toml")
    assert (checked.exit_code, checked.stderr) == (0, "")
    server, mail = checked.stdout.splitlines()
    assert server == (
        "ours/0004-server.toml: good: 'Ziel f\\xfcr Server', signed by unassured, up to 732 days, "
        "demands attestation, dns-control, caa-permits"
    )
    assert mail.startswith("ours/0002-mail.toml: good: '0002-mail', signed by orga, up to 365 days, demands ")


def test_nothing_is_overwritten_and_nothing_half_done() -> None:
    Path("0002-mail.toml").write_text("mine", encoding="utf-8")

    result = run("import", "0004-server.cfg", "0002-mail.cfg", "--out", ".")

    assert result.exit_code == 1
    assert result.stderr == (
        "cassiopeia: error: 0002-mail.toml: is there already, and nothing was written: choose another directory\n"
    )
    assert Path("0002-mail.toml").read_text(encoding="utf-8") == "mine"
    assert not Path("0004-server.toml").exists()


def test_two_of_one_name_would_be_one_file() -> None:
    Path("else").mkdir()
    Path("else/0004-server.cfg").write_text(SERVER, encoding="utf-8")
    Path("ours").mkdir()

    result = run("import", "0004-server.cfg", "else/0004-server.cfg", "--out", "ours")

    assert "two of these files have the same name" in result.stderr
    assert list(Path("ours").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("0004-server.cfg", b"ca=unassured\ncolour=red\n", "0004-server.cfg: line 2: 'colour' is not known"),
        ("0004-server.cfg", b"\xff", "0004-server.cfg: octet 0 is not UTF-8"),
        ("server.cfg", SERVER.encode(), "server.cfg: "),
        ("gone.cfg", None, "gone.cfg: cannot read this file: No such file or directory"),
    ],
    ids=["key", "encoding", "name", "missing"],
)
def test_a_bad_profile_is_one_line_and_stops_them_all(name: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    Path("ours").mkdir()

    result = run("import", "0002-mail.cfg", name, "--out", "ours")

    assert result.exit_code == 1
    assert result.stderr.startswith(f"cassiopeia: error: {reason}")
    assert result.stderr.count("\n") == 1
    assert (result.stdout, list(Path("ours").iterdir())) == ("", [])


def test_every_default_profile_is_good() -> None:
    texts = default_profile_texts()
    for name, text in texts.items():
        Path(f"{name}.toml").write_text(text, encoding="utf-8")

    result = run("check", *(f"{name}.toml" for name in texts))

    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line for line in result.stdout.splitlines() if ": note: " not in line]
    assert [line.partition(".toml: good: ")[0] for line in lines] == list(texts)
    without = [line for line in lines if line.endswith("demands NO evidence")]
    assert [line[:2] for line in without] == ["90"] * len(without) != []
    assert sum("signed by the sub-CA that the request names" in line for line in lines) == 1


def test_bad_profiles_do_not_hide_the_others() -> None:
    Path("0001-good.toml").write_text(run("import", "0002-mail.cfg").stdout, encoding="utf-8")
    Path("0002-bad.toml").write_text("colour = 1\n", encoding="utf-8")

    result = run("check", "0002-bad.toml", "gone.toml", "0001-good.toml")

    assert result.exit_code == 1
    bad, gone, good = result.stdout.splitlines()
    assert bad.startswith("0002-bad.toml: ")
    assert gone == "gone.toml: cannot read this file: No such file or directory"
    assert good.startswith("0001-good.toml: good: ")
    assert result.stderr == "cassiopeia: error: 2 of 3 profiles would be refused at the start, or issue nothing\n"


def write_server(**changes: str) -> str:
    """The default profile for servers, with other values."""
    text = default_profile_texts()["0004-server"]
    for key, value in changes.items():
        text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
    Path("0004-server.toml").write_text(text, encoding="utf-8")
    return "0004-server.toml"


def test_a_profile_whose_samples_the_signer_would_not_sign_is_told_so() -> None:
    result = run("check", write_server(key_usage='["nonRepudiation"]'))

    assert result.exit_code == 1
    assert result.stdout.startswith(
        "0004-server.toml: it would issue nothing: its sample certificate (RSA-3072, by unassured_2026_1) has the "
        "finding purpose: "
    )


def test_a_profile_whose_samples_pkilint_vetoes_is_told_so() -> None:
    result = run("check", write_server(maximum_validity_days="300"))

    assert result.exit_code == 1
    note, verdict = result.stdout.splitlines()
    assert note.endswith("public_key_algorithm_encoding: Ed25519, ML-DSA-44, ML-DSA-65, ML-DSA-87")
    assert verdict.startswith(
        "0004-server.toml: it would issue nothing: pkilint vetoes its sample certificates: "
        "cabf.serverauth.certificate_validity_period_exceeds_200_days at "
    )


def test_without_pkilint_only_the_signers_own_lint_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pkilint" else find(name))

    result = run("check", write_server(maximum_validity_days="300"))

    assert (result.exit_code, result.stderr) == (0, "")
    note, verdict = result.stdout.splitlines()
    assert note.startswith("note: pkilint is not installed here, so that only the signer's own lint is done.")
    assert verdict.startswith("0004-server.toml: good: ")
