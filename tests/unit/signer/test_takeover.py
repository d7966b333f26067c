"""A running signer that takes a new configuration over: real workers, real journal, requests before and after."""

from __future__ import annotations

import datetime as dt
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support import links, operators
from tests.support.authorities import PROFILES, alt_names, make_ca, server_request
from tests.support.running_signer import RunningSigner
from tests.support.signer import PROFILE, SIGNING_CA, install, write_key

from cassiopeia.config import load_signer_config
from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.journal import entry as entries
from cassiopeia.journal.entry import JournalEntry, Log
from cassiopeia.journal.replay import Replay
from cassiopeia.link.credentials import certificate_pin
from cassiopeia.protocol import payload
from cassiopeia.signer import pool as pool_module
from cassiopeia.signer import takeover as takeover_module
from cassiopeia.signer.configuration import load
from cassiopeia.signer.takeover import check_takeover, describe

NEXT_CA = "unassured_2026_3"
CLIENT_PROFILE = "9001-unproved-client"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningSigner]:
    made = RunningSigner(tmp_path)
    # With its first CRL, which would come amid a comparison of before and after.
    made.run_until(lambda: made.ready and not any(each.is_behind for each in made.signer._revocation.lists))
    yield made
    made.stop()


def add_authority(directory: Path, name: str = NEXT_CA, *, more: str = "") -> None:
    """A second sub-CA in authorities.toml, with its key, that issues from now on."""
    now = dt.datetime.now(dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    ca = make_ca(name, key=key, not_before=now - dt.timedelta(days=2))
    (directory / f"{name}.pem").write_bytes(ca.pem)
    write_key(directory / f"{name}.key", key)
    with (directory / "authorities.toml").open("a", encoding="utf-8") as file:
        file.write(
            f'\n[[authority]]\nname = "{name}"\ncertificate = "{name}.pem"\nissuer = "unassured"\n'
            f'key = "file:{name}.key"\nsigner_id = 1\n{more}'
            f"issues_from = {now - dt.timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}\n"
            f"issues_until = {now + dt.timedelta(days=60):%Y-%m-%dT%H:%M:%SZ}\n"
        )


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def request(running: RunningSigner, profile: str = PROFILE) -> int:
    return running.submit(server_request(request_id=os.urandom(32), account="alice", profile=profile))


def take_over(running: RunningSigner) -> None:
    running.signer.take_over("a test")
    running.run_until(lambda: not running.signer._takeover.pending)


def status(running: RunningSigner) -> payload.StatusReport:
    return running.signer._status(running.signer._clock.now())


def replayed(running: RunningSigner) -> tuple[Replay, list[JournalEntry]]:
    """The journal as a stranger verifies it."""
    running.signer._journal.commit()
    replay = Replay(judge=True)
    every = []
    for _, octets, parts in running.signer._journal.entries(1, 10_000):
        entry, _ = replay.append(Log(entry=octets, parts=parts))
        every.append(entry)
    replay.finish(complete=True)
    assert replay.judging is not None
    assert not replay.judging.findings.count
    return replay, every


def issuers(every: list[JournalEntry]) -> list[str]:
    return [entries.decode_body(each).signing_ca for each in every if each.kind == "intent"]


def test_new_sub_cas_and_profiles_come_into_force_while_requests_go_on(
    running: RunningSigner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    handles = [request(running) for _ in range(20)]
    running.run_until(lambda: len(running.issued) >= 5)
    add_authority(running.directory)
    shutil.copy(PROFILES / f"{CLIENT_PROFILE}.toml", running.directory / "profiles")
    before = running.signer._pool

    running.signer.take_over("a test")
    while running.signer._takeover.pending:
        handles.append(request(running))
        running.turn()
    handles += [request(running) for _ in range(20)]
    running.run_until(lambda: running.answered >= set(handles))
    client = running.submit(
        server_request(
            request_id=os.urandom(32),
            profile=CLIENT_PROFILE,
            account="alice",
            attributes=(),
            alt_names=alt_names("email,alice@example.org"),
        )
    )
    running.run_until(lambda: client in running.answered)
    running.run_until(lambda: all(each.crl_number for each in status(running).authorities))

    assert (running.refused, running.failed) == ({}, {})
    assert set(running.issued) == {*handles, client}
    assert before.finished
    assert (
        "sub-CA new: unassured_2026_3; profile new: 9001-unproved-client; in the journal as configuration "
        in caplog.text
    )
    report = status(running)
    assert [each.name for each in report.authorities] == [SIGNING_CA, NEXT_CA]
    assert report.profiles == (CLIENT_PROFILE, PROFILE)
    assert not [each for each in report.alarms if "configuration" in each]
    replay, every = replayed(running)
    assert replay.kinds["configuration"] == 2
    assert replay.configuration_hash == report.configuration_hash
    assert replay.kinds["result"] == replay.kinds["intent"] == len(running.issued)
    by = issuers(every)
    assert by == sorted(by)  # the younger sub-CA issues everything from one moment on
    assert set(by) == {SIGNING_CA, NEXT_CA}


def test_who_starts_again_finds_what_was_taken_over(running: RunningSigner) -> None:
    add_authority(running.directory)
    take_over(running)
    running.restart()
    running.run_until(lambda: running.ready)
    replay, every = replayed(running)
    assert replay.kinds["configuration"] == 2
    assert [each.kind for each in every if each.kind in {"configuration", "start"}] == [
        "configuration",
        "start",
        "configuration",
        "start",
    ]


def test_a_log_that_was_sent_before_is_signed_after(running: RunningSigner) -> None:
    confirm = running.pair.client.confirm_log
    logs: list[int] = []
    running.pair.client.confirm_log = logs.append  # type: ignore[method-assign,assignment] # to be confirmed later
    handle = request(running)
    running.run_until(lambda: logs == [handle])
    add_authority(running.directory)
    take_over(running)
    confirm(handle)
    running.run_until(lambda: handle in running.answered)
    assert set(running.issued) == {handle}
    assert issuers(replayed(running)[1]) == [SIGNING_CA]


def test_what_a_retired_sub_ca_has_promised_is_decided_anew(running: RunningSigner) -> None:
    logs: list[int] = []
    running.pair.client.confirm_log = logs.append  # type: ignore[method-assign,assignment] # nobody confirms
    handle = request(running)
    running.run_until(lambda: logs == [handle])
    add_authority(running.directory)
    authorities = running.directory / "authorities.toml"
    replace(authorities, f'name = "{SIGNING_CA}"\n', f'name = "{SIGNING_CA}"\nretired = true\n')
    running.signer.take_over("a test")
    while running.signer._takeover.pending:
        running.signer._selector.select(0.01)
        for key, mask in running.signer._selector.select(0.02):
            key.data(mask)
        running.signer._turn(idle=True)
    _, every = replayed(running)
    [ended] = [each for each in every if each.kind == "abandonment"]
    assert entries.decode_body(ended).code == "authority-retired"
    assert running.signer._issuance.issued[SIGNING_CA] == 0


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "unreadable": (lambda at: (at / "signer.toml").write_text("colour = 1\n"), "colour"),
    "a key is missing": (lambda at: (at / f"{NEXT_CA}.key").unlink(), "cannot read this CA key: No such file"),
    "another key": (
        lambda at: write_key(at / f"{NEXT_CA}.key", ec.generate_private_key(ec.SECP256R1())),
        "does not belong to this sub-CA's certificate",
    ),
    "no passphrase": (lambda at: (at / "passphrase").unlink(), "the passphrase of the CA keys is not there"),
    "a broken profile": (lambda at: (at / "profiles/0.toml").write_text("title = 1\n"), "0.toml"),
    "a profile that none may read": (lambda at: (at / "profiles/0.toml").mkdir(), "0.toml"),
    "another signer": (
        lambda at: replace(at / "signer.toml", "id = 1\n", "id = 2\n"),
        "no sub-CA belongs to signer 2",
    ),
    "another journal": (
        lambda at: replace(at / "signer.toml", "id = 1\n", "id = 1\nstate = 'elsewhere'\n"),
        "[signer] state cannot change while the signer runs",
    ),
    "another line": (
        lambda at: replace(at / "signer.toml", "signer.sock", "other.sock"),
        "[link] listen cannot change while the signer runs",
    ),
    "another journal key": (
        lambda at: replace(at / "signer.toml", "journal.key", "other.key"),
        "[journal] key cannot change while the signer runs",
    ),
    "a sub-CA is gone": (
        lambda at: replace(at / "authorities.toml", SIGNING_CA, "unassured_2026_1"),
        f"the sub-CA {SIGNING_CA} is missing, and its CRLs go on until",
    ),
    "no peer": (lambda at: replace(at / "signer.toml", "peers = ['", "peers = ['/nowhere"), "cannot be read"),
    "a damaged list": (
        lambda at: (at / "signer.toml").write_text(
            (at / "signer.toml").read_text(encoding="utf-8") + "[key_checks]\nweak_keys = ['passphrase']\n"
        ),
        "passphrase",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_whatever_is_wrong_the_old_configuration_goes_on(running: RunningSigner, fault: str) -> None:
    add_authority(running.directory)
    kept = running.directory.with_name(f"{running.directory.name}-kept")
    shutil.copytree(running.directory, kept, ignore=shutil.ignore_patterns("signer.sock", "state"))
    before = status(running)
    breaks, words = BROKEN[fault]
    breaks(running.directory)

    take_over(running)

    after = status(running)
    assert (after.configuration_hash, after.authorities, after.state) == (
        before.configuration_hash,
        before.authorities,
        "running",
    )
    [alarm] = [each for each in after.alarms if "not in force" in each]
    assert words in alarm
    handle = request(running)
    running.run_until(lambda: handle in running.answered)
    assert handle in running.issued
    # Mended, it comes into force, and the alarm is over.
    shutil.rmtree(running.directory / "profiles")
    shutil.copytree(kept, running.directory, dirs_exist_ok=True)
    take_over(running)
    assert [each.name for each in status(running).authorities] == [SIGNING_CA, NEXT_CA]
    assert not [each for each in status(running).alarms if "not in force" in each]
    replay, _ = replayed(running)
    assert replay.kinds["configuration"] == 2


def test_a_fault_of_ours_in_reading_ends_nobody(
    running: RunningSigner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise ValueError("what nobody expected")

    monkeypatch.setattr(takeover_module, "load", fail)
    take_over(running)
    [alarm] = [each for each in status(running).alarms if "not in force" in each]
    assert "it cannot be read (ValueError, see the signer's log)" in alarm
    assert "what nobody expected" not in alarm
    assert "what nobody expected" in caplog.text


def test_files_that_change_while_they_are_read_are_not_taken_over(running: RunningSigner) -> None:
    add_authority(running.directory)
    running.signer.take_over("a test")
    profile = running.directory / "profiles" / f"{PROFILE}.toml"
    profile.write_text(profile.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    running.run_until(lambda: not running.signer._takeover.pending)
    [alarm] = [each for each in status(running).alarms if "not in force" in each]
    assert "have changed on disk" in alarm


def test_workers_that_never_begin_do_not_hold_it_up_for_ever(
    running: RunningSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover_module, "_TIME_LIMIT_S", -1.0)
    take_over(running)
    [alarm] = [each for each in status(running).alarms if "not in force" in each]
    assert "no worker was ready within" in alarm


@pytest.mark.parametrize("when", ["begin", "turn"])
def test_no_room_for_a_process_is_no_end(running: RunningSigner, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as scarce:
        if when == "begin":
            scarce.setattr(pool_module, "WorkerProcess", no_room)
            running.signer.take_over("a test")
        else:
            running.signer.take_over("a test")
            candidate = running.signer._takeover._candidate
            assert candidate is not None
            for each in [member.worker.pid for member in candidate.pool._members]:
                os.kill(each, signal.SIGKILL)
            scarce.setattr(pool_module, "_RESPAWN_DELAY_S", 0.0)
            scarce.setattr(pool_module, "WorkerProcess", no_room)
        running.run_until(lambda: not running.signer._takeover.pending)
    [alarm] = [each for each in status(running).alarms if "not in force" in each]
    assert "no worker can be started: Resource temporarily unavailable" in alarm
    take_over(running)
    assert not [each for each in status(running).alarms if "not in force" in each]


def test_on_a_full_disk_nothing_is_taken_over(running: RunningSigner, monkeypatch: pytest.MonkeyPatch) -> None:
    add_authority(running.directory)
    with monkeypatch.context() as full:
        full.setattr(running.signer._disk, "check", lambda: Unavailable("the disk has no room left"))
        take_over(running)
    [alarm] = [each for each in status(running).alarms if "not in force" in each]
    assert "the disk has no room left" in alarm
    assert replayed(running)[0].kinds["configuration"] == 1
    take_over(running)
    assert len(status(running).authorities) == 2


def test_another_takeover_takes_the_place_of_one_under_way(running: RunningSigner) -> None:
    running.signer.take_over("one")
    add_authority(running.directory)
    running.signer.take_over("another")
    running.run_until(lambda: not running.signer._takeover.pending)
    assert [each.name for each in status(running).authorities] == [SIGNING_CA, NEXT_CA]
    assert replayed(running)[0].kinds["configuration"] == 2


def test_ten_in_a_row_leave_nothing_behind(running: RunningSigner) -> None:
    def left() -> tuple[int, int]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
        return len(children), len(list(Path("/proc/self/fd").iterdir()))

    running.run_until(lambda: running.signer._examiner.ready)
    before = left()
    handles: list[int] = []
    for number in range(10):
        profile = running.directory / "profiles" / f"{PROFILE}.toml"
        profile.write_text(profile.read_text(encoding="utf-8") + f"# {number}\n", encoding="utf-8")
        running.signer.take_over(f"number {number}")
        while running.signer._takeover.pending:
            if len(handles) < 10 * (number + 1):
                handles.append(request(running))
            running.turn()
    running.run_until(lambda: running.answered >= set(handles) and running.ready and not running.signer._retired)
    assert left() == before
    assert (set(running.issued), running.failed, running.refused) == (set(handles), {}, {})
    replay, _ = replayed(running)
    assert replay.kinds["configuration"] == 11
    assert replay.kinds["result"] == len(handles)


def test_nothing_new_is_journaled_twice(running: RunningSigner) -> None:
    take_over(running)
    assert replayed(running)[0].kinds["configuration"] == 1


def test_everything_else_follows(running: RunningSigner) -> None:
    key = running.directory / "operator.pem"
    key.write_bytes(operators.public_pem())
    text = running.path.read_text(encoding="utf-8")
    text += (
        "[orders]\noperators = ['operator.pem']\n[caps]\nrevocations = 77\n[limits]\nopen_requests = 5\n"
        "[clock]\nleap_days = 9\n[disk]\nreserve_mib = 2\n[crl]\nlifetime_days = 7\nresign_hours = 12\n"
    )
    running.path.write_text(text, encoding="utf-8")
    take_over(running)
    signer = running.signer
    assert signer._orders._operators == operators.PUBLIC_KEYS[:1]
    assert (signer._caps.limit("revocations"), signer._config.limits.open_requests) == (77, 5)
    assert signer._clock._leap == dt.timedelta(days=9)
    assert (signer._config.state / "reserve").stat().st_size == 2 * 1024 * 1024
    lists = {each.authority.name: each for each in signer._revocation.lists}
    assert lists[SIGNING_CA]._lifetime == dt.timedelta(days=7)
    assert signer._revocation._resign_after == dt.timedelta(hours=12)


def test_what_changes_is_said_in_words(tmp_path: Path) -> None:
    old = load(load_signer_config(install(tmp_path)))
    assert list(describe(old, old)) == [f"the same rules as before: configuration {old.digest.hex()[:16]}"]
    (tmp_path / "operator.pem").write_bytes(operators.public_pem())
    add_authority(tmp_path)
    (tmp_path / "profiles" / f"{PROFILE}.toml").rename(tmp_path / "profiles/0001-other.toml")
    with (tmp_path / "signer.toml").open("a", encoding="utf-8") as file:
        file.write("[orders]\noperators = ['operator.pem']\n")
    new = load(load_signer_config(tmp_path / "signer.toml"))
    assert list(describe(old, new)) == [
        f"sub-CA new: {NEXT_CA}",
        "profile new: 0001-other",
        f"profile gone: {PROFILE}",
        "1 operators, 1 of whom must agree",
        f"in the journal as configuration {new.digest.hex()[:16]}",
    ]


def test_another_library_is_said_in_words(tmp_path: Path) -> None:
    path = install(tmp_path)
    old = load(load_signer_config(path))
    with path.open("a", encoding="utf-8") as file:
        file.write(f"[authority.{SIGNING_CA}]\nbackend = 'gnutls'\nverify_with = 'wolfssl'\n")
    new = load(load_signer_config(path))
    said = f"key of {SIGNING_CA}: openssl -> gnutls, verified by wolfssl too"
    assert list(describe(old, new)) == [said, f"in the journal as configuration {new.digest.hex()[:16]}"]


def test_one_line_switches_many_and_a_key_that_moves_is_named(tmp_path: Path) -> None:
    path = install(tmp_path)
    add_authority(tmp_path)
    old = load(load_signer_config(path))
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[keys]\n", "[keys]\nbackend = 'wolfssl'\n"), encoding="utf-8")
    many = load(load_signer_config(path))
    assert next(iter(describe(old, many))) == f"key of {SIGNING_CA}, {NEXT_CA}: openssl -> wolfssl"
    path.write_text(f"{text}\n[authority.{SIGNING_CA}]\nkey = 'pkcs11:token=t;object=o'\n", encoding="utf-8")
    moved = load(load_signer_config(path))
    said = f"key of {SIGNING_CA}: file:{tmp_path}/ca.key?backend=openssl -> pkcs11:token=t;object=o"
    assert next(iter(describe(old, moved))) == said


def test_a_table_for_no_sub_ca_raises_an_alarm(running: RunningSigner, caplog: pytest.LogCaptureFixture) -> None:
    with running.path.open("a", encoding="utf-8") as file:
        file.write(f"[authority.{NEXT_CA}]\nbackend = 'openssl'\n")
    take_over(running)
    (alarm,) = (each for each in status(running).alarms if NEXT_CA in each)
    assert alarm in caplog.messages
    assert f"[authority.{NEXT_CA}] is for no sub-CA of this signer, and changes nothing: it has {SIGNING_CA}" in alarm
    replace(running.path, f"[authority.{NEXT_CA}]\nbackend = 'openssl'\n", "")
    take_over(running)
    assert not [each for each in status(running).alarms if NEXT_CA in each]


def test_a_sub_ca_that_has_ended_may_go(tmp_path: Path) -> None:
    path = install(tmp_path)
    old = load(load_signer_config(path))
    (tmp_path / "authorities.toml").write_text("", encoding="utf-8")
    add_authority(tmp_path)
    new = load(load_signer_config(path))
    end = old.authorities[SIGNING_CA].not_after
    with pytest.raises(OperatorError, match=f"the sub-CA {SIGNING_CA} is missing, and its CRLs go on until"):
        check_takeover(old, new, now=end)
    check_takeover(old, new, now=end + dt.timedelta(seconds=1))


def test_a_sub_ca_keeps_its_key(running: RunningSigner) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    ca = make_ca(SIGNING_CA, key=key, not_before=dt.datetime.now(dt.UTC) - dt.timedelta(days=3))
    (running.directory / "ca.pem").write_bytes(ca.pem)
    write_key(running.directory / "ca.key", key)
    take_over(running)
    [alarm] = [each for each in status(running).alarms if "not in force" in each]
    assert f"the sub-CA {SIGNING_CA} has another key or subject than before" in alarm


def test_peers_are_those_of_the_new_configuration(running: RunningSigner) -> None:
    replace(running.path, str(links.certificate("client")), str(links.certificate("stranger")))
    take_over(running)
    tls = running.signer._lines._tls
    assert tls.peer_pins[2] == frozenset({certificate_pin(links.certificate("stranger"))})


def kill_workers(running: RunningSigner) -> None:
    for each in [member.worker.pid for member in running.signer._pool._members]:
        os.kill(each, signal.SIGKILL)


def test_a_signer_whose_workers_are_all_gone_takes_over_what_there_is(running: RunningSigner) -> None:
    add_authority(running.directory)
    kill_workers(running)
    running.run_until(lambda: len(status(running).authorities) == 2)
    assert replayed(running)[0].kinds["configuration"] == 2


def test_a_signer_without_workers_ends_when_there_is_nothing_to_take_over(running: RunningSigner) -> None:
    profile = running.directory / "profiles" / f"{PROFILE}.toml"
    profile.write_text(profile.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    replace(running.path, "signer.sock", "other.sock")
    kill_workers(running)
    with pytest.raises(OperatorError, match="listen cannot change while the signer runs"):
        running.run_until(lambda: False)


def test_files_that_change_while_it_starts_are_taken_over(tmp_path: Path) -> None:
    running = RunningSigner(tmp_path)
    add_authority(tmp_path)
    running.run_until(lambda: running.ready and len(status(running).authorities) == 2)
    assert replayed(running)[0].kinds["configuration"] == 2
    running.stop()
