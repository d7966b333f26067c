"""A crypto library that signs wrongly, hangs or dies: nothing wrong leaves the signer, and nobody else suffers.

A real signer with real workers, one of whose libraries has a fault that comes and goes (`tests.support.faulty_worker`).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import faulty_worker, operators
from tests.support.authorities import server_request
from tests.support.faulty_worker import AWAY, FAULTY, set_fault
from tests.support.running_signer import RunningSigner
from tests.support.signer import SIGNING_CA
from tests.unit.signer.test_takeover import NEXT_CA, add_authority, replace, replayed, status, take_over

from cassiopeia.core.request import CertificateRequest
from cassiopeia.journal import entry as entries
from cassiopeia.journal.entry import SIGNATURE_HALT
from cassiopeia.journal.order import ResumeAuthority
from cassiopeia.protocol import payload
from cassiopeia.signer import pool as pool_module
from cassiopeia.signer import service
from cassiopeia.signer import takeover as takeover_module
from cassiopeia.signer.configuration import Loaded
from cassiopeia.signer.pool import WorkerPool
from cassiopeia.signer.service import Signer

COMMAND = (sys.executable, "-P", str(Path(faulty_worker.__file__)))
SIGNS = f'[authority.{NEXT_CA}]\nbackend = "{FAULTY}"\n'
VERIFIES = f'[authority.{NEXT_CA}]\nverify_with = "{FAULTY}"\n'
SOUND = f'[authority.{NEXT_CA}]\nbackend = "openssl"\n'
# What signs wrongly, and what verifies wrongly, each at a signature and already when its key is proved.
WRONG = [
    *((SIGNS, fault) for fault in ("flip", "flip always", "other-octets", "empty", "short")),
    *((VERIFIES, fault) for fault in ("says-wrong", "says-wrong always")),
]
DEADLY = ["exit", "crash", "odd", "hang"]


@pytest.fixture(autouse=True)
def _faulty_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    make_pool = Signer._make_pool
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))

    def make(self: Signer, loaded: Loaded, *rest: object) -> WorkerPool:
        pool = make_pool(self, loaded, *rest)  # type: ignore[arg-type] # passed on
        pool._command = COMMAND
        return pool

    monkeypatch.setattr(Signer, "_make_pool", make)
    monkeypatch.setattr(service, "_HOUSEKEEPING_S", 0.3)


class Faulty(RunningSigner):
    """Its newest sub-CA, which signs whatever it can, depends on the library with the fault; the other does not."""

    def __init__(self, directory: Path, table: str) -> None:
        super().__init__(directory)
        self.stop()
        add_authority(directory)
        (directory / "operator.pem").write_bytes(operators.public_pem())
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{table}[orders]\noperators = ['operator.pem']\n")
        self.table = table
        self.start()

    def switch(self, table: str) -> None:
        replace(self.path, self.table, table)
        self.table = table
        take_over(self)

    def ask(self, wanted: CertificateRequest | None = None) -> int:
        return self.submit(wanted or wish())

    def answer(self, wanted: CertificateRequest | None = None) -> str:
        """What comes of a request: `issued`, or with which code it waits."""
        wanted = wanted or wish()
        handle = self.ask(wanted)
        self.run_until(lambda: handle in self.answered)
        if handle in self.abandoned:
            return self.answer(wanted)  # as a client does
        return "issued" if handle in self.issued else self.failed[handle].code

    def run_until_issued(self, wanted: CertificateRequest) -> None:
        self.run_until(lambda: self.answer(wanted) == "issued")

    def authority(self, name: str = NEXT_CA) -> payload.AuthorityStatus:
        (found,) = (each for each in status(self).authorities if each.name == name)
        return found

    def crl_number(self, name: str = NEXT_CA) -> int:
        return self.authority(name).crl_number

    def resume(self) -> None:
        """By an order of its operator."""
        signer = self.signer
        order = operators.drafted(
            ResumeAuthority(authority=NEXT_CA),
            sequence=signer._journal.index.order_sequence() + 1,
            boot_id=signer._boot_id,
        )
        signer._orders._obey(operators.signed(order, 0))
        signer._journal.commit()

    def age_crls(self) -> None:
        """Every CRL is due."""
        self.signer._revocation._resign_after = dt.timedelta(0)

    def issuers(self) -> list[str]:
        """Who has signed, one certificate after the other; every signature is verified, and was released as it is."""
        replay, every = replayed(self)
        results = [each for each in every if each.kind == "result"]
        released = {hashlib.sha256(each).digest() for each in self.issued.values()}
        assert released <= {each.parts[0] for each in results}
        intents = {each.index: entries.decode_body(each) for each in every if each.kind == "intent"}
        assert replay.unchecked_signatures == 0
        return [intents[entries.decode_body(each).intent].signing_ca for each in results]

    def halts(self) -> list[str]:
        _, every = replayed(self)
        return [entries.decode_body(each).code for each in every if each.kind in {"halt", "resume"}]


def wish() -> CertificateRequest:
    return server_request(request_id=os.urandom(32), account="alice")


def started(directory: Path, table: str) -> Faulty:
    made = Faulty(directory, table)
    made.run_until(lambda: made.ready and all(each.crl_number for each in status(made).authorities))
    return made


@pytest.fixture
def faulty(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Faulty]:
    made = started(tmp_path, getattr(request, "param", SIGNS))
    yield made
    made.stop()


@pytest.mark.parametrize(("faulty", "fault"), WRONG, ids=[each for _, each in WRONG], indirect=["faulty"])
def test_a_wrong_signature_halts_its_sub_ca_and_nobody_else(faulty: Faulty, fault: str) -> None:
    # 1. What it signed before stands; then the fault comes.
    assert faulty.answer() == "issued"
    before = faulty.crl_number()
    set_fault(faulty.directory, fault)
    wanted = wish()
    assert faulty.answer(wanted) == "authority-halted"
    assert faulty.halts() == [SIGNATURE_HALT + NEXT_CA]
    assert "finds a signature wrong" in (faulty.authority().mistrusted or "")
    assert status(faulty).state == "running"
    # 2. The other one takes its place, also while workers that may be spoilt are replaced.
    assert [faulty.answer() for _ in range(3)] == ["issued"] * 3
    assert faulty.answer(wanted) == "authority-halted"
    # 3. CRLs of the other come out, and none of its own.
    other = faulty.crl_number(SIGNING_CA)
    faulty.age_crls()
    faulty.run_until(lambda: faulty.crl_number(SIGNING_CA) > other)
    assert faulty.crl_number() == before
    # 4. Another library signs its CRL; certificates wait for the operators, also behind a restart.
    faulty.switch(SOUND)
    faulty.age_crls()
    faulty.run_until(lambda: faulty.crl_number() > before)
    assert faulty.answer(wanted) == "authority-halted"
    faulty.restart()
    faulty.run_until(lambda: faulty.ready)
    assert "finds a signature wrong" in (faulty.authority().mistrusted or "")
    assert faulty.answer(wanted) == "authority-halted"
    # 5. They resume it, and what waited comes out, once.
    faulty.resume()
    assert faulty.authority().mistrusted is None
    assert faulty.answer(wanted) == "issued"
    assert faulty.answer(wanted) == "issued"
    assert faulty.halts() == [SIGNATURE_HALT + NEXT_CA] * 2
    assert faulty.issuers() == [NEXT_CA, *[SIGNING_CA] * 3, NEXT_CA]


@pytest.mark.parametrize("fault", ["flip always", "exit always", "away always"])
def test_a_signer_starts_without_the_key_and_others_sign(tmp_path: Path, fault: str) -> None:
    set_fault(tmp_path, fault)
    faulty = Faulty(tmp_path, SIGNS)
    faulty.run_until(lambda: faulty.ready and faulty.crl_number(SIGNING_CA) > 0)
    assert status(faulty).state == "running"
    assert [faulty.answer() for _ in range(3)] == ["issued"] * 3
    set_fault(tmp_path, "")
    if fault == "flip always":
        assert faulty.authority().mistrusted
        faulty.resume()
    faulty.signer._key_watch._clock = later
    faulty.run_until(lambda: faulty.authority().key_fault is None)
    faulty.run_until(lambda: faulty.crl_number() > 0)
    faulty.run_until(lambda: faulty.answer() == "issued" and faulty.issuers()[-1] == NEXT_CA)
    faulty.stop()


def later() -> float:
    """A clock by which every delay is over."""
    later.now += 1000.0  # type: ignore[attr-defined] # a function may have attributes
    now: float = later.now  # type: ignore[attr-defined] # as above
    return now


later.now = 1e9  # type: ignore[attr-defined] # as above


@pytest.mark.parametrize("fault", DEADLY)
def test_a_library_that_ends_workers_or_hangs_holds_nobody_else_up(
    faulty: Faulty, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_BATCH_TIME_LIMIT_S", 3.0)
    set_fault(faulty.directory, fault)
    wanted = [wish() for _ in range(12)]
    handles = [faulty.ask(each) for each in wanted]
    faulty.run_until(lambda: faulty.answered >= set(handles))
    # Where a token hangs, few of them have tried: the others have been put off with the first.
    # What nobody had confirmed was for another sub-CA.
    assert {faulty.failed[each].code for each in handles if each not in faulty.abandoned} == {"key-away"}
    assert "ended two workers of the signer" in (faulty.authority().key_fault or "")
    faulty.run_until(lambda: status(faulty).state == "running")
    assert [faulty.answer() for _ in range(3)] == ["issued"] * 3
    other = faulty.crl_number(SIGNING_CA)
    faulty.age_crls()
    faulty.run_until(lambda: faulty.crl_number(SIGNING_CA) > other)
    set_fault(faulty.directory, "")
    faulty.signer._key_watch._clock = later
    faulty.run_until(lambda: faulty.authority().key_fault is None)
    for each in wanted:
        faulty.run_until_issued(each)
    assert sorted(faulty.issuers()) == [SIGNING_CA] * 3 + [NEXT_CA] * 12
    assert faulty.halts() == []


@pytest.mark.parametrize("fault", ["away", "gone"])
def test_a_token_that_goes_away_and_comes_back_loses_nothing(faulty: Faulty, fault: str) -> None:
    set_fault(faulty.directory, f"{fault} always")
    wanted = wish()
    assert faulty.answer(wanted) == "key-away"
    assert AWAY in (faulty.authority().key_fault or "") or fault == "gone"
    assert faulty.answer() == "issued"
    before = faulty.crl_number()
    faulty.age_crls()
    set_fault(faulty.directory, "")
    faulty.run_until(lambda: faulty.authority().key_fault is None and faulty.crl_number() > before)
    faulty.run_until_issued(wanted)
    assert faulty.issuers() == [SIGNING_CA, NEXT_CA]


def test_what_works_is_not_given_up_for_a_key_that_cannot_be_used(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover_module, "_RETRY_SOON_S", 0.5)
    faulty.switch(SOUND)
    set_fault(faulty.directory, "away always")
    faulty.switch(SIGNS)
    (alarm,) = (each for each in status(faulty).alarms if "is not in force" in each)
    assert AWAY in alarm
    assert faulty.answer() == "issued"
    # Nobody has to come again once the token is back.
    set_fault(faulty.directory, "")
    faulty.run_until(lambda: not [each for each in status(faulty).alarms if "is not in force" in each])
    assert faulty.signer._loaded.keys[NEXT_CA].backend == FAULTY
    assert faulty.answer() == "issued"


def test_a_signer_that_has_no_key_at_all_says_so_and_waits(tmp_path: Path) -> None:
    set_fault(tmp_path, "away always")
    faulty = Faulty(tmp_path, f'{SIGNS}[authority.{SIGNING_CA}]\nbackend = "{FAULTY}"\n')
    faulty.run_until(lambda: faulty.ready)
    report = status(faulty)
    assert (report.state, report.reason) == ("locked", f"{AWAY}; {AWAY}")
    assert faulty.answer() == "key-away"
    set_fault(tmp_path, "")
    faulty.run_until(lambda: status(faulty).state == "running")
    faulty.run_until(lambda: faulty.answer() == "issued")
    faulty.stop()
