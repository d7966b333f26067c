"""A client whose database comes back from an older backup: what it has done since is in the journal, and comes back."""

from __future__ import annotations

import shutil

from examples.system import System
from tests.support.acceptance import (
    SERVER,
    certificates,
    check_nothing_half_written,
    issue,
    make_key,
    make_request,
    serial_of,
    start,
    submit,
    verify,
    wait_for_crls,
)

BACKUP = "client.backup"


def test_a_restored_client_recovers_what_it_has_lost(alone: System) -> None:
    request = make_request(alone, make_key(alone, "-algorithm", "ed25519"))
    options = ["--profile", SERVER, "--dns", "lost.example.org", request]
    start(alone)
    wait_for_crls(alone)
    # 1. Two certificates, a request that waits, and a backup of all that.
    kept, later_revoked = issue(alone, *options), issue(alone, *options)
    alone.stop("client")
    waiting = submit(alone, *options)
    alone.client("backup", options=[BACKUP])
    # 2. The client works on: three certificates more, one of them revoked, and one of those of the backup.
    alone.start_client("--verbose")
    alone.client("request", "wait", options=[waiting])
    lost = [issue(alone, *options) for _ in range(3)]
    for each in (lost[0], later_revoked):
        alone.client("certificate", "revoke", options=["--wait", "--reason", "superseded", serial_of(alone, each)])
    before = {each["serial_number"]: each for each in certificates(alone)}
    alone.stop("client")
    # 3. Its disk is lost, and the backup is put back. It copies the journal; the request that waited is answered.
    shutil.rmtree(alone.directory / "ca/client")
    alone.run("restore", BACKUP, "ca/client")
    alone.start_client("--verbose", "--drain")
    alone.wait_for_end("client")
    assert len(certificates(alone)) == 3
    missing = alone.client("certificate", "show", options=[serial_of(alone, lost[1])], status=1).stderr
    assert "there is no certificate with serial number" in missing
    told = alone.client("journal", "verify", status=1).stdout
    assert "WRONG     3 certificates of the journal are not in the store" in told
    assert "WRONG     1 certificates were revoked, and the store does not know it" in told
    assert told.count("run `cassiopeia journal recover`") == 2
    # 4. It recovers, while the client runs.
    alone.start_client("--verbose")
    shown = alone.client("journal", "recover").stdout
    assert "taken in      3 certificates, 1 of them revoked\n" in shown
    assert "revoked       1 certificates that the store had" in shown
    assert "taken in      0 certificates" in alone.client("journal", "recover").stdout
    after = {each["serial_number"]: each for each in certificates(alone)}
    assert after.keys() == before.keys()
    names = ("authority", "request", "account", "profile", "subject", "not_before", "not_after", "state", "reason")
    for serial, each in after.items():
        assert {name: each[name] for name in names} == {name: before[serial][name] for name in names}
    octets = alone.client("certificate", "get", options=[serial_of(alone, lost[1])]).stdout
    assert octets == lost[1].read_text()
    # 5. All of it can be revoked, and nothing is wrong.
    for each in (lost[1], kept):
        alone.client("certificate", "revoke", options=["--wait", serial_of(alone, each)])
    for each, status in ((lost[0], 2), (lost[1], 2), (lost[2], 0), (later_revoked, 2), (kept, 2)):
        crl = ["-crl_check", "-CRLfile", alone.crl_of(each)]
        assert ("revoked" in verify(alone, each, *crl, status=status)) == bool(status)
    again = alone.client("certificate", "revoke", options=[serial_of(alone, lost[0])], status=1).stderr
    assert "was revoked on" in again
    check_nothing_half_written(alone)
    alone.stop("client")
    assert alone.client("journal", "verify").stdout.endswith("Nothing is wrong.\n")
    alone.stop("signer")
