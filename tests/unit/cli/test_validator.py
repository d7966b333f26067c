"""`cassiopeia validator`, with a validator's directory and a store, and nothing that runs."""

from __future__ import annotations

import datetime as dt
import json
import logging
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support.client_store import opened_client_store
from tests.support.validating import ACCOUNT, HOUR, NAME, Site, make_site

from cassiopeia.ceremony.profiles import default_profile_texts
from cassiopeia.cli import validator as module
from cassiopeia.cli.main import cassiopeia
from cassiopeia.config import load_signer_config, load_validator_config
from cassiopeia.core.ed25519 import public_octets
from cassiopeia.core.evidence import OBSERVATION_KINDS, STATEMENT_KINDS
from cassiopeia.store.database import Store, upgrade
from cassiopeia.validation.key import load_validator_key
from cassiopeia.validation.service import ValidatorService


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    upgrade(f"sqlite:///{tmp_path}/template.db")
    made = make_site(tmp_path, tmp_path / "template.db")
    made.now = dt.datetime.now(dt.UTC)
    monkeypatch.setenv("CASSIOPEIA_VALIDATOR", str(made.config.source))
    yield made
    made.store.close()


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with opened_client_store(tmp_path, monkeypatch) as store:
        Path("profiles").mkdir()
        Path("profiles/0004-server.toml").write_text(default_profile_texts()["0004-server"], encoding="utf-8")
        yield store


def run(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(cassiopeia, ["validator", *arguments], input=given, prog_name="cassiopeia")


def good(*arguments: str, given: str = "") -> str:
    done = run(*arguments, given=given)
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def bad(*arguments: str, given: str = "") -> str:
    done = run(*arguments, given=given)
    assert done.exit_code != 0
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("cassiopeia: error: ").rstrip("\n")


def stated(site: Site) -> list[tuple[str, str, str]]:
    return [(each.kind, each.value, each.account) for each in site.store.evidence.page().items]


def test_a_fact_is_stated(site: Site) -> None:
    said = good(
        "observe", "dns-control", "Bücher.Example", "--account", "momo", "--method", "http", "--row", "domain:17"
    )

    assert said.startswith("dns-control xn--bcher-kva.example: stated for momo, seen 20")
    assert stated(site) == [("dns-control", "xn--bcher-kva.example", "momo")]


def warned(*arguments: str, given: str = "") -> str:
    done = run("observe", *arguments, given=given)
    assert done.exit_code == 0
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("cassiopeia: warning: ").rstrip("\n")


@pytest.mark.parametrize("method", ["dns", "mail-to-domain"])
def test_of_a_domain_that_may_not_be_one_owners_it_warns(site: Site, method: str) -> None:
    said = warned("dns-control", "co.uk", "--account", "momo", "--method", method)
    assert said.startswith("co.uk: seen by a method that proves a whole domain, so that every name below is covered")
    assert "co.uk may well be a public suffix, which nobody controls. No list of those is kept here" in said
    assert stated(site) == [("dns-control", "co.uk", "momo")]
    assert "public suffix, which" not in warned("dns-control", "example.org", "--account", "momo", "--method", method)


@pytest.mark.parametrize(
    "arguments",
    [
        ["dns-control", "co.uk"],
        ["dns-control", "co.uk", "--method", "http"],
        ["dns-control", "www.example.org", "--method", "dns"],
        ["caa-permits", "example.org", "--method", "dns"],
    ],
)
def test_of_what_covers_one_name_or_is_long_enough_it_does_not_warn(site: Site, arguments: list[str]) -> None:
    good("observe", *arguments, "--account", "momo")
    assert len(stated(site)) == 1


def test_of_many_domains_it_warns_once(site: Site) -> None:
    lines = [
        {"kind": "dns-control", "value": f"{number}.example", "account": "a", "method": "dns"} for number in range(7)
    ]
    said = warned("--from", "-", "--json", given="\n".join(map(json.dumps, lines)))
    assert said.startswith("0.example, 1.example, 2.example, 3.example, 4.example and 2 more: seen by a method")
    assert len(stated(site)) == 7


def test_an_organisation_is_stated_by_its_parts(site: Site) -> None:
    options = [
        "--c",
        "IT",
        "--st",
        "Lazio",
        "--l",
        "Rome",
        "--o",
        "Timesavers",
        "--ou",
        "A",
        "--ou",
        "B",
        "--cn",
        "Momo",
    ]

    said = good("observe", "organisation", "--account", "momo", *options)

    assert "organisation C=IT, ST=Lazio, L=Rome, O=Timesavers, OU=A, OU=B, CN=Momo: stated for momo" in said
    assert stated(site)[0][1] == "C=IT\nST=Lazio\nL=Rome\nO=Timesavers\nOU=A\nOU=B\nCN=Momo"


def test_scripts_state_many_facts_and_are_answered_in_json(site: Site) -> None:
    lines = [
        {"kind": "dns-control", "value": "a.example.org", "account": "momo", "method": "dns", "row": "domain:1"},
        {"kind": "organisation", "organisation": {"O": "Timesavers"}, "account": "beppo"},
    ]
    given = "\n".join(map(json.dumps, lines)) + "\n\n"

    first, second = json.loads(good("observe", "--from", "-", "--json", given=given))

    assert (first["value"], first["row"], first["method"]) == ("a.example.org", "domain:1", "dns")
    assert (second["value"], second["row"], second["method"]) == ("O=Timesavers", "", "stated")
    assert first["validator"] == site.key_id.hex()
    assert len(stated(site)) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["observe"], "Name KIND, VALUE and --account, or give --from FILE. Try: cassiopeia validator observe --help"),
        (["observe", "dns-control", NAME], "Name KIND, VALUE and --account"),
        (["observe", "fly", NAME, "--account", "a"], "'fly' is not one of 'dns-control', "),
        (["observe", "dns-control", "--account", "a"], "dns-control is about one value; name it; nothing was stated"),
        (["observe", "dns-control", "a.b", "--account", "a", "--at", "2999-01-01T00:00:00Z"], "is in the future"),
        (["observe", "dns-control", "x y", "--account", "a"], "The domain name 'x y' is not valid"),
        (["observe", "dns-control", NAME, "--account", "a", "--o", "X"], "the parts of an organisation stand with"),
        (["observe", "dns-control", "--from", "-"], "Give either --from, or one statement on the command line"),
        (["observe", "--from", "-", "--account", "a"], "Give either --from, or one statement"),
        (["observe", "--from", "-", "--o", "a"], "Give either --from, or one statement"),
        (["observe", "--from", "-"], "<stdin>: no statement is in it; write a line of JSON for each"),
        (["observe", "--from", "nowhere"], "'nowhere': No such file or directory"),
        (["attest", "0000"], "there is no request 0000"),
        (["attest", "xyz"], "a request id is hexadecimal"),
        (["list", "--limit", "0"], "0 is not in the range"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_stated(site: Site, arguments: list[str], words: str) -> None:
    assert words in bad(*arguments)
    assert stated(site) == []


def test_one_bad_statement_and_none_is_made(site: Site) -> None:
    lines = [{"kind": "dns-control", "value": name, "account": "momo"} for name in ("a.example.org", "b")]

    said = bad("observe", "--from", "-", given="\n".join(map(json.dumps, lines)))

    assert said.startswith("statement 2: The DNS name 'b' is a single label")
    assert said.endswith("; nothing was stated")
    assert stated(site) == []


def test_a_file_that_is_no_text(site: Site, tmp_path: Path) -> None:
    (tmp_path / "facts").write_bytes(b"\xff")

    assert bad("observe", "--from", str(tmp_path / "facts")).endswith("octet 0 is not UTF-8; nothing was stated")


def test_a_key_states_what_it_is_for(site: Site) -> None:
    path = site.config.source
    path.write_text(path.read_text().replace('"caa-permits", ', ""))

    said = bad("observe", "caa-permits", NAME, "--account", "a")

    assert said.startswith(
        f"{path}: this validator's key does not sign caa-permits; it signs attestation, dns-control, "
    )


def test_what_was_stated_is_shown(site: Site) -> None:
    assert good("list").splitlines() == ["KIND  VALUE  ACCOUNT  METHOD  SEEN  PROVED UNTIL"]
    site.observe("caa-permits", ago=8 * HOUR)
    site.observe("dns-control", account="beppo")

    header, *lines = good("list").splitlines()
    assert header.split() == ["KIND", "VALUE", "ACCOUNT", "METHOD", "SEEN", "PROVED", "UNTIL"]
    assert [line.split()[:4] for line in lines] == [
        ["dns-control", NAME, "beppo", "stated"],
        ["caa-permits", NAME, ACCOUNT, "stated"],
    ]
    assert lines[1].endswith(" (lapsed)")
    [one] = json.loads(good("list", "--account", "beppo", "--json"))
    assert (one["kind"], one["doubt"]) == ("dns-control", "")
    assert set(one["until"]) == {"0004-server", "0008-server-a"}


def test_one_request_is_attested(site: Site) -> None:
    site.hear()
    site.prove()
    request = site.submit(1)

    said = good("attest", request.request_id.hex()[:8])

    *seen, last = said.splitlines()
    assert [each.split()[:4] for each in seen] == [
        ["dns-control", f"{NAME},", "by", "stated,"],
        ["caa-permits", f"{NAME},", "by", "stated,"],
    ]
    assert last == f"request {request.request_id.hex()[:12]}: attested for signer 1, good for some minutes"
    site.judge(site.lease()[0])


def test_or_it_says_what_is_missing(site: Site) -> None:
    site.hear()
    request = site.submit(1)

    said = bad("attest", request.request_id.hex())

    assert f"was never seen dns-control for {NAME}, caa-permits for {NAME}; state what you have seen" in said
    assert "attested for signer 1" in good("attest", "--incomplete", request.request_id.hex())


def test_it_runs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    monkeypatch.setattr(ValidatorService, "run", lambda service: turns.append(service._config.name))
    monkeypatch.setattr(logging.getLogger("cassiopeia"), "handlers", [])

    good("run")

    assert turns == ["validator"]


@pytest.mark.parametrize("command", [["observe", "dns-control", NAME, "--account", "a"], ["list"], ["run"]])
def test_without_its_key_nothing_goes(site: Site, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("cassiopeia"), "handlers", [])
    site.config.key.unlink()

    assert bad(*command).endswith("No such file or directory; `cassiopeia validator init` makes one")


def test_a_configuration_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CASSIOPEIA_VALIDATOR", raising=False)

    assert "Missing option '-c' / '--config'" in bad("list")


def test_another_validator_is_made(client: Store) -> None:
    done = run("init", "mail", "--client", "client.toml", "--kind", "mailbox-control", "--kind", "dns-control")

    assert done.exit_code == 0
    config = load_validator_config(Path("mail/validator.toml"))
    assert (config.name, config.kinds) == ("mail", frozenset({"mailbox-control", "dns-control"}))
    assert config.store_url == f"sqlite:///{Path.cwd()}/store.sqlite"
    assert Path("mail/validator.key").stat().st_mode & 0o777 == 0o600
    assert Path("mail").stat().st_mode & 0o777 == 0o700
    assert [each.name for each in Path("mail/profiles").iterdir()] == ["0004-server.toml"]
    assert done.stdout.encode() == Path("mail/validator.pem").read_bytes()
    assert "save what was printed above as validators/mail.pem beside signer.toml" in done.stderr
    assert done.stderr.endswith(
        "Then: cassiopeia validator observe -c mail/validator.toml\nIt attests no requests. Save its key beside the "
        "validator that does, too, and name the file there in validator.peers of validator.toml.\n"
    )
    pinned = done.stderr[done.stderr.index("[[validator]]") : done.stderr.index("Then:")]
    assert tomllib.loads(pinned) == {
        "validator": [{"name": "mail", "key": "validators/mail.pem", "kinds": ["mailbox-control", "dns-control"]}]
    }
    again = bad("init", "mail", "--client", "client.toml")
    assert again.endswith("mail: is there already, and a validator is never overwritten: choose another directory")


def test_what_it_prints_is_what_signer_toml_takes(client: Store, tmp_path: Path) -> None:
    done = run("init", "everything", "--client", "client.toml", "--name", "front.1")
    (tmp_path / "validators").mkdir()
    (tmp_path / "validators/front.1.pem").write_text(done.stdout)
    pinned = done.stderr[done.stderr.index("[[validator]]") : done.stderr.index("Then:")]
    minimum: dict[str, Any] = {
        "signer": "id = 1",
        "keys": 'passphrase_file = "passphrase"',
        "link": 'listen = "unix:a"\ncertificate = "link.pem"\nkey = "link.key"\npeers = ["peer.pem"]',
        "journal": 'key = "journal.key"',
    }
    text = "".join(f"[{name}]\n{lines}\n" for name, lines in minimum.items())
    (tmp_path / "signer.toml").write_text(text + pinned)

    [pin] = load_signer_config(tmp_path / "signer.toml").validators

    key = load_validator_key(load_validator_config(Path("everything/validator.toml")).key)
    assert (pin.name, pin.public_key, pin.kinds) == ("front.1", public_octets(key), frozenset(STATEMENT_KINDS))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["init", "a b", "--client", "client.toml"], "'a b' is no name for a validator: give --name"),
        (["init", "a", "--client", "nowhere"], "'nowhere' does not exist"),
        (["init", "a", "--client", "client.toml", "--kind", "fly"], "'fly' is not one of"),
        (["init", "no/where", "--client", "client.toml"], "cannot make a directory here: No such file or directory"),
    ],
)
def test_a_validator_that_cannot_be_made(client: Store, arguments: list[str], words: str) -> None:
    before = sorted(Path().rglob("*"))

    assert words in bad(*arguments)
    assert sorted(Path().rglob("*")) == before


def test_a_validator_needs_profiles_and_a_journals_key(client: Store) -> None:
    Path("profiles/0004-server.toml").unlink()
    said = bad("init", "a", "--client", "client.toml")
    assert "no profile is here; a validator needs those of the signer: install the client's bundle first" in said

    Path("profiles/0004-server.toml").write_text(default_profile_texts()["0004-server"], encoding="utf-8")
    text = Path("client.toml").read_text().replace('[journal]\nkeys = ["journal.pem"]\n', "")
    Path("version-1.toml").write_text(text.replace("[link]", "[link]\nversion = 1"))
    said = bad("init", "a", "--client", "version-1.toml")
    assert said.endswith("names no journal key; a validator works with version 2 of the protocol alone")


def test_the_kinds_are_those_of_evidence() -> None:
    assert module._KINDS == OBSERVATION_KINDS
    assert (module._ATTESTATION, *module._KINDS) == STATEMENT_KINDS
