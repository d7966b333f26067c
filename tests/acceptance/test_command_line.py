"""The command line as a person meets it: help, mistakes, files that are wrong or missing, JSON for scripts."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from examples.system import System
from tests.support.acceptance import CLIENT, SERVER, error_line, fails, issue, serial_of, submit

PAGE_WIDTH = 80
GROUPS = {
    "ceremony",
    "signer",
    "client",
    "request",
    "certificate",
    "crl",
    "revoke",
    "profile",
    "journal",
    "order",
    "backend",
    "store",
    "validator",
    "publisher",
}
# These read one of several places, and say so themselves.
# They need nothing to be told.
OF_THIS_MACHINE = [["backend", "list"], ["backend", "check"], ["backend", "bench"]]
OF_A_JOURNAL = [["journal", "show"], ["journal", "verify"], ["journal", "export"]]
COMMANDS = [
    ["init"],
    ["ceremony", "plan"],
    ["ceremony", "run"],
    ["ceremony", "extend"],
    ["ceremony", "crl"],
    ["ceremony", "adopt"],
    ["ceremony", "share", "check"],
    ["ceremony", "share", "reshare"],
    ["ceremony", "show"],
    ["signer", "init"],
    ["signer", "install"],
    ["signer", "csr"],
    ["signer", "run"],
    ["client", "init"],
    ["client", "install"],
    ["client", "run"],
    ["validator", "init"],
    ["validator", "install"],
    ["validator", "observe"],
    ["validator", "list"],
    ["validator", "attest"],
    ["validator", "run"],
    ["publisher", "init"],
    ["publisher", "install"],
    ["publisher", "run"],
    ["request", "submit"],
    ["request", "show"],
    ["request", "wait"],
    ["request", "list"],
    ["request", "retry"],
    ["certificate", "list"],
    ["certificate", "show"],
    ["certificate", "get"],
    ["certificate", "revoke"],
    ["crl", "show"],
    ["crl", "get"],
    ["crl", "renew"],
    ["crl", "watch"],
    ["revoke", "plan"],
    ["revoke", "run"],
    ["revoke", "show"],
    ["profile", "import"],
    ["profile", "check"],
    ["profile", "release"],
    ["journal", "recover"],
    ["journal", "prove"],
    ["journal", "check-proof"],
    ["journal", "rotate-key"],
    ["order", "key"],
    ["order", "make", "confirm-clock"],
    ["order", "make", "halt-authority"],
    ["order", "make", "resume-authority"],
    ["order", "make", "disable-validator"],
    ["order", "make", "enable-validator"],
    ["order", "make", "block-key"],
    ["order", "make", "unblock-key"],
    ["order", "make", "raise-cap"],
    ["order", "make", "install-bundle"],
    ["order", "show"],
    ["order", "sign"],
    ["order", "send"],
    ["order", "list"],
    ["signer", "rebuild"],
    ["backup"],
    ["restore"],
    ["store", "forget"],
    ["store", "upgrade"],
    ["status"],
    ["doctor"],
]


def help_pages(system: System, words: list[str]) -> Iterator[tuple[list[str], str]]:
    """This command's help, and that of every command that it lists."""
    text = system.run(*words, "--help").stdout
    yield words, text
    _, _, listed = text.partition("Commands:\n")
    for name in re.findall(r"^  ([a-z-]+)  ", listed, re.MULTILINE):
        yield from help_pages(system, [*words, name])


def test_every_help_reads_well(running: System) -> None:
    pages = list(help_pages(running, []))

    commands = [words for words, text in pages if "\nCommands:\n" not in text]
    assert sorted(commands) == sorted(COMMANDS + OF_A_JOURNAL + OF_THIS_MACHINE)
    assert {words[0] for words, text in pages if words and words not in commands} == GROUPS
    for words, text in pages:
        assert text.startswith(" ".join(["Usage: cassiopeia", *words])), text
        assert not [line for line in text.splitlines() if len(line) > PAGE_WIDTH], text
        # What a list of commands cuts off is no help.
        assert "..." not in text.partition("\n")[2], text
        described = text.split("\n\n")[1].strip()
        assert described[0].isupper(), text
        assert described.endswith("."), text
        options = re.findall(r"^  (?:-[a-z], )?(--[a-z0-9-]+)[^\n]*?(?:  +|\n +)(\S[^\n]*)", text, re.MULTILINE)
        assert "--help" in [option for option, _ in options], text


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_says_what_it_lacks(running: System, words: list[str]) -> None:
    line = error_line(running.run(*words, status=2))

    assert line.startswith("Missing ")
    assert line.endswith(f". Try: cassiopeia {' '.join(words)} --help")


@pytest.mark.parametrize("words", OF_A_JOURNAL, ids=" ".join)
def test_a_journal_has_to_be_named(running: System, words: list[str]) -> None:
    assert error_line(running.run(*words, status=1)).startswith("name one journal: -c signer.toml")


def test_nothing_to_do_shows_the_help(running: System) -> None:
    done = running.run(status=2)

    assert "Usage: cassiopeia [OPTIONS] COMMAND" in done.stderr + done.stdout


Edit = Callable[[str], str]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: text.replace("window = 400", "windw = 200"), "link.windw: this key is not known here"),
        (lambda text: text.replace("window = 400", 'window = "many"'), "link.window: expected int, got str"),
        (lambda text: text.replace('url = "sqlite', '# url = "sqlite'), "store.url: this key is missing"),
        (lambda text: text.replace("[publish]", "[publish"), "this is not TOML: "),
        (lambda text: text.replace('name = "client"', "name = 1"), "client.name: expected str, got int"),
        (
            lambda text: text.replace("unix:../run/signer.sock", "tcp:signer:1"),
            "'tcp:signer:1': the host must be an IP address",
        ),
        (lambda _: "\x00", "this is not TOML: "),
        (lambda text: text.replace("store.sqlite", "nowhere.sqlite"), "nowhere.sqlite: make it with `cassiopeia store"),
        (lambda text: text.replace("sqlite:///store.sqlite", "mysql:///x"), "the store cannot live in 'mysql'"),
    ],
    ids=["key", "type", "missing", "table", "string", "address", "nul", "no-store", "store"],
)
def test_a_wrong_configuration_is_one_line(running: System, tmp_path: Path, edit: Edit, words: str) -> None:
    good = (running.directory / running.client_config).read_text()
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(edit(good))
    (tmp_path / "peers").mkdir()
    shutil.copy(running.directory / "ca/client/peers/journal.pem", tmp_path / "peers")
    assert wrong.read_text() != good

    line = error_line(running.run("status", "-c", str(wrong), status=1))

    assert words in line
    if "store" not in words or "key is missing" in words:
        assert line.startswith(f"{wrong}: ")


def test_a_missing_configuration_is_one_line(running: System) -> None:
    line = error_line(running.run("status", "-c", "nowhere.toml", status=1))

    assert line == "nowhere.toml: cannot read this file: No such file or directory"


@pytest.mark.parametrize(
    ("name", "edit", "words"),
    [
        ("passphrase", lambda _: b"wrong\n", ": wrong passphrase, or a damaged file"),
        ("link.key", None, "link.key: cannot be read: No such file or directory"),
        ("keys/unassured_*.key", None, "No such file or directory"),
        ("keys/unassured_*.key", lambda octets: octets[:100], "key"),
        ("authorities.toml", lambda octets: octets + b"\n[[", "authorities.toml: this is not TOML"),
        (
            "profiles/9004-unproved-server.toml",
            lambda octets: octets + b"\nfly = 1\n",
            "fly: this key is not known here",
        ),
        ("peers/client.pem", None, "client.pem: cannot be read: No such file or directory"),
    ],
    ids=["passphrase", "link-key", "no-key", "cut-key", "authorities", "profile", "peer"],
)
def test_a_signer_that_cannot_start_says_why(
    alone: System, name: str, edit: Callable[[bytes], bytes] | None, words: str
) -> None:
    path = min((alone.directory / "ca/signer").glob(name))
    octets = path.read_bytes()
    path.unlink()
    if edit is not None:
        path.touch(0o600)
        path.write_bytes(edit(octets))

    done = alone.run("signer", "run", "-c", "ca/signer/signer.toml", status=1)

    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("cassiopeia: error: ")
    assert words in last


def test_a_client_without_its_key_says_so(running: System, tmp_path: Path) -> None:
    text = (running.directory / running.client_config).read_text().replace('key = "link.key"', 'key = "nowhere.key"')
    (running.directory / "ca/client/keyless.toml").write_text(text)

    line = error_line(running.run("client", "run", "-c", "ca/client/keyless.toml", status=1))

    assert line.endswith("nowhere.key: cannot be read: No such file or directory")


@pytest.mark.parametrize(
    ("words", "arguments", "status", "expected"),
    [
        (
            ["request", "submit"],
            ["--profile", SERVER, "nowhere.csr"],
            2,
            "'nowhere.csr': No such file or directory. Try",
        ),
        (["request", "submit"], ["ca/client/link.pem"], 1, "name either --profile or --ocsp-for"),
        (["request", "submit"], ["--profile", SERVER, "--subject", "X=1", "ca/client/link.pem"], 1, "--subject 'X=1'"),
        (["request", "submit"], ["--profile", SERVER, "--id", "12", "ca/client/link.pem"], 1, "64 hexadecimal digits"),
        (["request", "submit"], ["--profile", SERVER, "--id", "xy", "ca/client/link.pem"], 1, "64 hexadecimal digits"),
        (["request", "submit"], ["--timeout", "-1", "--profile", SERVER, "ca/client/link.pem"], 2, "-1.0 is not in"),
        (["request", "show"], ["00000000"], 1, "there is no request 00000000"),
        (["request", "show"], ["xyz"], 1, "a request id is hexadecimal; give at least its first 4 digits"),
        (["request", "wait"], ["00000000"], 1, "there is no request 00000000"),
        (["request", "list"], ["--state", "lost"], 2, "'lost' is not one of 'queued', 'refused', 'issued'"),
        (["certificate", "show"], ["00000000"], 1, "a serial number is hexadecimal"),
        (["certificate", "get"], ["abcdef"], 1, "there is no certificate with serial number abcdef"),
        (["crl", "show"], ["nowhere_2026_1"], 1, "there is no CRL of 'nowhere_2026_1' yet; `cassiopeia crl show`"),
        (["crl", "get"], ["nowhere_2026_1"], 1, "there is no CRL of 'nowhere_2026_1' yet"),
    ],
)
def test_a_mistake_is_one_line(
    running: System, words: list[str], arguments: list[str], status: int, expected: str
) -> None:
    assert expected in fails(running, *words, options=arguments, status=status)


def test_a_certificate_that_cannot_be_written_is_kept(running: System, csr: str) -> None:
    options = ["--wait", "--out", "nowhere/a.pem", "--profile", SERVER, "--dns", "kept.example.org", csr]
    line = fails(running, "request", "submit", options=options)

    advice = re.fullmatch(
        r"nowhere/a\.pem: No such file or directory; the certificate is issued and kept: fetch it with "
        r"`cassiopeia certificate get ([0-9a-f]{32})`",
        line,
    )
    assert advice is not None
    assert "BEGIN CERTIFICATE" in running.client("certificate", "get", options=[advice[1]]).stdout


def test_scripts_are_answered_in_json(running: System, csr: str) -> None:
    certificate = issue(running, "--profile", CLIENT, "--cn", "Zoë", "--email", "zoe@example.org", csr)
    serial = serial_of(running, certificate)
    queued = running.ask("request", "submit", options=["--profile", SERVER, "--dns", "json.example.org", csr])
    waited = running.ask("request", "wait", options=[queued["id"]])
    shown = running.ask("request", "show", options=[queued["id"][:12]])
    authority = waited["authority"]

    assert queued["state"] == "queued"
    assert waited == shown
    assert waited["alt_names"] == [{"type": "DNS", "value": "json.example.org"}]
    assert waited["certificate"].startswith("-----BEGIN CERTIFICATE-----\n")
    one = running.ask("certificate", "show", options=[serial])
    assert (one["serial_number"], one["state"], one["profile"], one["account"]) == (serial, "valid", CLIENT, "operator")
    assert "Zoë" in one["subject"]
    assert one in running.ask("certificate", "list", options=["--profile", CLIENT])["certificates"]
    page = running.ask("request", "list", options=["--limit", "1"])
    assert (len(page["requests"]), isinstance(page["next"], int)) == (1, True)
    following = running.ask("request", "list", options=["--limit", "1", "--after", str(page["next"])])
    assert following["requests"][0]["id"] != page["requests"][0]["id"]
    crls = {each["authority"]: each["number"] for each in running.ask("crl", "show")}
    assert running.ask("crl", "show", options=[authority])["number"] == crls[authority]


def test_a_refusal_in_json_is_still_a_failure(running: System, csr: str) -> None:
    options = ["--json", "--wait", "--profile", "9999-fly", "--dns", "a.example.org", csr]
    done = running.client("request", "submit", options=options, status=1)

    refusal = json.loads(done.stdout)["refusal"]
    assert (refusal["code"], refusal["field"]) == ("profile-unknown", "profile")
    assert done.stderr == f"cassiopeia: error: {refusal['message']}\n"


def test_the_status_for_people_and_for_scripts(running: System, csr: str) -> None:
    issue(running, "--profile", SERVER, "--dns", "status.example.org", csr)
    running.wait_until(lambda: '"state": "running"' in running.client("status", options=["--json"]).stdout, "it runs")

    text = running.client("status").stdout
    document = running.ask("status")

    assert re.search(
        r"^queue    \d+ waiting, \d+ with a client, 0 set aside for a person to look at$", text, re.MULTILINE
    )
    assert re.search(r"^signer 1 running, heard \d+ seconds ago$", text, re.MULTILINE)
    assert "WARNING" not in text
    [signer] = document["signers"]
    assert (signer["signer_id"], signer["state"]) == (1, "running")
    assert SERVER in signer["profiles"]
    names = {each["name"] for each in signer["authorities"]}
    assert names == {each["authority"] for each in document["crls"]}
    for name in names:
        assert re.search(
            rf"^CRL      {name}: number \d+, \d+ octets, signed .*, 2[34]\d hours left$", text, re.MULTILINE
        )
    assert document["queue"]["issued_last_hour"] >= 1


def test_a_crl_is_fetched_in_both_forms(running: System) -> None:
    [authority, *_] = [each["authority"] for each in running.ask("crl", "show")]

    pem = running.client("crl", "get", options=[authority]).stdout
    running.client("crl", "get", options=[authority, "--format", "der", "--out", "fetched.crl"])

    assert (running.directory / "fetched.crl").read_bytes() == (
        running.directory / "ca/client/public" / f"{authority}.crl"
    ).read_bytes()
    assert pem == (running.directory / "ca/client/public" / f"{authority}.crl.pem").read_text()


def test_a_second_authority_never_overwrites_the_first(alone: System) -> None:
    def everything() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (alone.directory / "ca").rglob("*") if path.is_file()}

    before = everything()
    line = error_line(alone.run(*alone.init_command, status=1))

    assert line.endswith("/ca: is there already, and an authority is never overwritten: choose another directory")
    assert everything() == before
    assert [path.name for path in alone.directory.iterdir()] == ["ca"]


def test_secrets_are_for_their_owner_alone(alone: System) -> None:
    modes = {path: path.stat().st_mode for path in (alone.directory / "ca").rglob("*")}

    secret = [path for path in modes if path.name == "passphrase" or path.suffix == ".key"]
    assert len(secret) > len({"signer", "client", "offline"})
    assert [path for path in secret if modes[path] & 0o077] == []
    # Personal data: for a group too, as that of a web front end.
    assert [path for path in modes if path.suffix == ".sqlite" and modes[path] & 0o007] == []
    # No CA key on the client's side: only that of its end of the line.
    assert [path.name for path in (alone.directory / "ca/client").rglob("*.key")] == ["link.key"]


def test_the_configuration_that_init_writes_names_only_what_is_there(alone: System) -> None:
    for side, keys in (("signer", ("certificate", "key")), ("client", ("certificate", "key"))):
        base = alone.directory / "ca" / side
        document = tomllib.loads((base / f"{side}.toml").read_text())
        named = [document["link"][key] for key in keys] + document["link"]["peers"]
        assert [name for name in named if not (base / name).is_file()] == []


def test_a_queued_request_is_seen_at_once(alone: System) -> None:
    alone.openssl("req", "-new", "-newkey", "ed25519", "-nodes", "-keyout", "a.key", "-subj", "/", "-out", "a.csr")
    identifier = submit(alone, "--profile", SERVER, "--dns", "a.example.org", "--account", "momo", "a.csr")

    shown = alone.client("request", "show", options=[identifier]).stdout
    listed = alone.client("request", "list", options=["--account", "momo", "--state", "queued"]).stdout

    assert re.search(r"^state +queued$", shown, re.MULTILINE)
    assert identifier[:12] in listed
    assert "a.example.org" in listed
