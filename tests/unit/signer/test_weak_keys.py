"""The lists of weak keys as files: found, damaged, missing, cut off; and that the signer says so."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

import pytest
from tests.support.authorities import certification_request, rsa_key, server_request
from tests.support.badkeys import modulus, sample
from tests.support.signer import NOW, install

from cassiopeia.config import load_signer_config
from cassiopeia.core.rules_document import read_rules_document
from cassiopeia.core.weak_keys import check_not_published
from cassiopeia.errors import ConfigurationError, OperatorError, Refused, Unavailable
from cassiopeia.signer.configuration import configuration_hash, load_rules, rules_document
from cassiopeia.signer.service import Signer
from cassiopeia.signer.tasks import Decide, Decided, Denied
from cassiopeia.signer.weak_keys import content_of_lists, load_weak_keys, report
from cassiopeia.signer.worker import make_worker

DEBIAN = sample("rsa-debianweak.key")
SOUND = sample("rsa-ok.key")
TEXT = "# Debian's weak keys\n00006aa0ce2cd60e6660\nb7ead9492dfd921fc4f9\n"


def digest(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes((number.bit_length() + 7) // 8, "big")).digest()[:15]


def write_text(directory: Path, content: str = TEXT) -> Path:
    path = directory / "blacklist.RSA-2048"
    path.write_text(content)
    return path


def write_badkeys(directory: Path, *, count: int = 1000, metadata: bool = True) -> Path:
    """Records in order, the one of Debian's sample among them."""
    path = directory / "blocklist.dat"
    others = (hashlib.sha256(bytes(each)).digest()[:15] for each in range(count - 1))
    content = b"".join(each + b"\2" for each in sorted([digest(modulus("rsa-debianweak.key")), *others]))
    path.write_bytes(content)
    if metadata:
        names = [{"id": 2, "name": "debianssl", "type": "github", "repo": "badkeys/debianopenssl", "path": "main"}]
        document = {"bkformat": 0, "blocklist_sha256": hashlib.sha256(content).hexdigest(), "blocklists": names}
        (directory / "badkeysdata.json").write_text(json.dumps(document))
    return path


@pytest.fixture(params=[write_text, write_badkeys])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    made = request.param(tmp_path)
    assert isinstance(made, Path)
    return made


def test_a_list_of_either_format_is_recognised_and_searched(path: Path) -> None:
    lists = load_weak_keys([path])
    check_not_published(SOUND, lists)
    with pytest.raises(Refused, match=path.name) as refusal:
        check_not_published(DEBIAN, lists)
    assert refusal.value.code == "key-published"


@pytest.mark.parametrize("count", [1, 2, 3, 70_000])
def test_every_record_on_the_disk_is_found(tmp_path: Path, count: int) -> None:
    """Of one block and of several."""
    (weak,) = load_weak_keys([write_badkeys(tmp_path, count=count, metadata=False)])
    assert len(weak.records) == count
    with pytest.raises(Refused, match=r"\(blocklist.dat\)"):
        check_not_published(DEBIAN, [weak])


def test_the_refusal_names_the_collection(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"\(blocklist.dat, debianssl\)"):
        check_not_published(DEBIAN, load_weak_keys([write_badkeys(tmp_path)]))


def test_a_damaged_list_keeps_the_signer_from_starting(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"blacklist.RSA-2048: this list of weak keys is damaged: line 3"):
        load_weak_keys([write_text(tmp_path, TEXT[:-5])])
    cut_off = write_badkeys(tmp_path)
    os.truncate(cut_off, 15_999)
    with pytest.raises(OperatorError, match=r"blocklist.dat: this list of weak keys is damaged: its length"):
        load_weak_keys([cut_off])
    os.truncate(cut_off, 15_984)
    with pytest.raises(OperatorError, match=r"badkeysdata.json: .* the hash of another blocklist.dat"):
        load_weak_keys([cut_off])


def test_a_list_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperatorError, match=r"cannot read the list of weak keys .*: Is a directory; let the signer"):
        load_weak_keys([tmp_path])
    with pytest.raises(OperatorError, match="Is a directory"):
        content_of_lists([tmp_path])

    def forbidden(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", forbidden)
    with pytest.raises(OperatorError, match="Permission denied"):
        load_weak_keys([tmp_path / "blacklist.RSA-2048"])


def test_a_list_that_is_cut_off_later_costs_a_request_and_not_the_worker(tmp_path: Path) -> None:
    made = write_badkeys(tmp_path)
    lists = load_weak_keys([made])
    os.truncate(made, 16)
    with pytest.raises(Unavailable, match=r"it has been cut off.; put it back, and reload the signer") as failure:
        check_not_published(DEBIAN, lists)
    assert failure.value.code == "weak-keys-unreadable"


def test_a_disk_that_fails_costs_a_request_and_not_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = load_weak_keys([write_badkeys(tmp_path)])

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(Unavailable, match="Input/output error"):
        check_not_published(DEBIAN, lists)


def test_a_missing_list_is_an_alarm_and_the_others_count(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    missing = path.with_name("blacklist.RSA-4096")
    with caplog.at_level(logging.INFO):
        (alarm,) = report((missing, path))
    assert alarm == (
        f"the list of weak keys {missing} is not there, so that the keys on it are certified; fetch it again, and"
        " reload the signer"
    )
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert alarm in caplog.text
    assert f"the list of weak keys {path.name} has" in caplog.text
    assert len(load_weak_keys([missing, path])) == 1


def test_no_list_at_all_is_an_alarm_until_somebody_has_decided_so(caplog: pytest.LogCaptureFixture) -> None:
    (alarm,) = report(None)
    assert alarm.startswith("no list of weak keys is named, so that Debian's weak keys")
    assert alarm in caplog.text
    caplog.clear()
    assert report(()) == ()
    assert "keys are compared with no list of weak keys: signer.toml says so" in caplog.text


def test_signer_toml_names_lists_beside_itself(tmp_path: Path) -> None:
    write_text(tmp_path)
    config = load_signer_config(install(tmp_path, more='[key_checks]\nweak_keys = ["blacklist.RSA-2048"]\n'))
    assert config.weak_keys == (tmp_path / "blacklist.RSA-2048",)
    assert [each.name for each in load_rules(config).weak_keys] == ["blacklist.RSA-2048"]


def test_signer_toml_with_something_else(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"key_checks\.weak_keys"):
        load_signer_config(install(tmp_path, more='[key_checks]\nweak_keys = "blacklist.RSA-2048"\n'))


def test_the_journal_keeps_what_was_on_the_lists(tmp_path: Path) -> None:
    """So that a stranger can tell by which list a key passed; another content is another configuration."""
    config = load_signer_config(
        install(tmp_path, more='[key_checks]\nweak_keys = ["blacklist.RSA-2048", "blocklist.dat"]\n')
    )
    write_text(tmp_path)
    before = configuration_hash(config)
    assert read_rules_document(rules_document(config)).weak_keys == (
        ("blacklist.RSA-2048", hashlib.sha256(TEXT.encode()).hexdigest()),
        ("blocklist.dat", "missing"),
    )
    write_text(tmp_path, TEXT + "ffff6aa0ce2cd60e6660\n")
    assert configuration_hash(config) != before


def test_the_signer_s_status_carries_the_alarm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load_signer_config(install(tmp_path))
    signer = Signer(config, config_path=tmp_path / "signer.toml")
    signer._lines.open()
    try:
        signer._journal.begin(now=NOW)
        (alarm,) = signer._status(NOW).alarms
    finally:
        signer._stop()
    assert alarm.startswith("no list of weak keys is named")
    assert alarm in caplog.text


def test_a_worker_denies_the_keys_on_its_list(tmp_path: Path) -> None:
    numbers = rsa_key().public_key().public_numbers()
    line = hashlib.sha1(f"Modulus={numbers.n:X}\n".encode(), usedforsecurity=False).hexdigest()[20:]
    write_text(tmp_path, f"# one key\n{line}\n")
    config = load_signer_config(install(tmp_path, more='[key_checks]\nweak_keys = ["blacklist.RSA-2048"]\n'))
    worker = make_worker(config)
    for kind in ("RSA", "P-256"):
        request = server_request(key_proof=certification_request(kind))
        outcome = worker.carry_out(Decide(task=1, request=request, version=2, now=NOW, issued={}))
        if kind == "RSA":
            assert isinstance(outcome, Denied)
            assert (outcome.code, outcome.field) == ("key-published", "key")
        else:
            assert isinstance(outcome, Decided)


def test_a_worker_with_a_damaged_list_says_which(tmp_path: Path) -> None:
    """As the front does, before it has opened anything: the worker reads the list for itself."""
    write_text(tmp_path, "<html>\n")
    config = load_signer_config(install(tmp_path, more='[key_checks]\nweak_keys = ["blacklist.RSA-2048"]\n'))
    with pytest.raises(OperatorError, match="line 1 is neither"):
        make_worker(config)
    with pytest.raises(OperatorError, match="line 1 is neither"):
        Signer(config, config_path=tmp_path / "signer.toml")
