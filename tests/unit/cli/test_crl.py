"""`cassiopeia crl renew` and `crl watch`: a wish in the queue, and a look from outside."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import default_ca
from tests.support.client_store import ask, opened_client_store, run
from tests.support.syncing import make_crl, put
from tests.support.web import Pages, serving

from cassiopeia.store.database import Store
from cassiopeia.store.records import CrlJob

CA = "unassured_2026_2"


@pytest.fixture
def web() -> Iterator[Pages]:
    with serving() as pages:
        yield pages


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: Pages) -> Iterator[Store]:
    with opened_client_store(tmp_path, monkeypatch) as opened:
        Path("ca.pem").write_bytes(default_ca().pem)
        Path("authorities.toml").write_text(
            f'[[authority]]\nname = "{CA}"\ncertificate = "ca.pem"\nissuer = "unassured"\nsigner_id = 1\n'
            f"issues_from = 2026-11-01T00:00:00Z\nissues_until = 2027-01-01T00:00:00Z\n"
            f'crl_urls = ["{web.url("/a.crl")}"]\n'
        )
        yield opened


def test_a_wish_for_a_new_signature(store: Store) -> None:
    assert "is queued" in run("crl", "renew", CA).output
    assert "under way already" in run("crl", "renew", CA).output
    (job,) = store.queue.lease("client", limit=10, lease_s=60, now=dt.datetime.now(dt.UTC))
    assert isinstance(job, CrlJob)
    assert job.authority == CA


def test_no_such_sub_ca(store: Store) -> None:
    done = run("crl", "renew", "unassured_2026_9")
    assert done.exit_code == 1
    assert f"no sub-CA is called 'unassured_2026_9'; there are: {CA}" in done.output
    assert store.queue.statistics(now=dt.datetime.now(dt.UTC)).waiting["crl"] == 0


def test_waiting_for_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("crl", "renew", CA, "--wait", "--timeout", "0")
    assert done.exit_code == 1
    assert "the wish is not lost" in done.output

    def sign_meanwhile(_seconds: float) -> None:
        put(store, make_crl(7))

    monkeypatch.setattr(time, "sleep", sign_meanwhile)
    assert f"{CA}: number 7 is signed" in run("crl", "renew", CA, "--wait").output


def test_looking_once(store: Store, web: Pages) -> None:
    octets = make_crl(7, this_update=dt.datetime.now(dt.UTC).replace(microsecond=0))
    put(store, octets)
    done = run("crl", "watch", "--once")
    assert (done.exit_code, "unreachable  the server answers 404" in done.output) == (1, True)
    web.by_path["/a.crl"] = octets
    done = run("crl", "watch", "--once")
    assert (done.exit_code, "served  number 7" in done.output) == (0, True)
    (told,) = ask("crl", "watch", "--once")
    assert (told["authority"], told["state"], told["number"]) == (CA, "served", 7)
    assert "served   1 of 1 URLs of CRLs give what they should" in run("status").output


def test_status_says_what_an_outsider_gets(store: Store, web: Pages) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    put(store, make_crl(7, this_update=now))
    web.by_path["/a.crl"] = b"<html>"
    run("crl", "watch", "--once")
    shown = run("status").output
    assert f"{CA} at {web.url('/a.crl')}: wrong: this is no CRL" in shown
    concerns = {each["code"]: each for each in ask("status")["concerns"]}
    assert "<html>" in concerns["crl-served-wrong"]["what"]
    (seen,) = ask("status")["served_crls"]
    assert (seen["authority"], seen["state"]) == (CA, "wrong")


def test_json_goes_with_once(store: Store) -> None:
    assert "--json goes with --once" in run("crl", "watch", "--json").output
    assert store.served_crls.list() == ()


def test_the_watch_goes_on_until_it_is_asked_to_end(store: Store, web: Pages) -> None:
    command = [sys.executable, "-m", "cassiopeia", "crl", "watch", "--log-format", "json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as watch:
        assert watch.stderr is not None
        line = watch.stderr.readline()
        assert "the server answers 404" in line
        watch.send_signal(signal.SIGTERM)
        _, rest = watch.communicate(timeout=60)
    assert (watch.returncode, rest) == (0, "")
    assert [each.state for each in store.served_crls.list()] == ["unreachable"]
    assert web.asked == ["/a.crl"]
