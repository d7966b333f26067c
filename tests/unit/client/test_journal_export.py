"""The client's copy as an export: entries with their parts, and what the signer may have done after its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.journal_maker import JournalMaker
from tests.support.journal_sites import NOW, client_site
from tests.support.store import submit

from cassiopeia.client.journal_compare import compare
from cassiopeia.client.journal_export import choose_copy, export
from cassiopeia.config import ClientConfig, load_client_config
from cassiopeia.core import certificate
from cassiopeia.errors import OperatorError
from cassiopeia.journal import entry as entries
from cassiopeia.journal.chain import Chain, no_entries
from cassiopeia.journal.replay import Replay
from cassiopeia.journal.transcript import End, Header, Item, SavedCrl, SavedLog
from cassiopeia.journal.verification import Verification
from cassiopeia.store import saved_logs
from cassiopeia.store.database import open_store
from cassiopeia.store.records import CrlRecord, SigningLog, SignJob


@pytest.fixture
def made() -> JournalMaker:
    sound = JournalMaker()
    sound.begin()
    return sound


def exported(config: ClientConfig, signer_id: int | None = None) -> list[Item]:
    with open_store(config.store_url) as store:
        return list(export(store, choose_copy(store, signer_id), Replay(deep=False)))


def signature(made: JournalMaker, intent: int) -> bytes:
    return certificate.split_certificate(made.certificates[intent])[2]


def log(made: JournalMaker, intent: int) -> bytes:
    return entries.encode_log(made.logs[intent - 1])


def test_what_the_copy_lacks_comes_beside_it(
    made: JournalMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_logs, "_ROWS_AT_ONCE", 2)
    made.issue()
    waiting, signed = made.intent(), made.intent()
    copied = made.size
    made.confirmation(signed)
    made.result(signed)
    abandoned = made.intent()
    made.abandonment(abandoned)
    later = made.issue()
    made.crl()
    config = load_client_config(client_site(tmp_path / "client", made, copied=copied))

    header, *rest = exported(config)

    assert isinstance(header, Header)
    assert rest[:copied] == made.logs[:copied]
    assert rest[copied:-2] == [
        SavedLog(log=log(made, waiting), signature=b""),
        SavedLog(log=log(made, signed), signature=signature(made, signed)),
        SavedLog(log=log(made, abandoned), signature=b""),
        SavedLog(log=log(made, later), signature=signature(made, later)),
    ]
    assert rest[-2:] == [
        SavedCrl(signing_ca=made.authority.name, crl=made.crls[-1]),
        End(head=made.signed_head(copied), newest=made.signed_head()),
    ]


def test_a_request_whose_certificate_is_of_another_log_gives_no_signature(made: JournalMaker, tmp_path: Path) -> None:
    first = made.intent(request_id=b"i" * 32)
    copied = made.size
    made.abandonment(first)
    made.issue(request_id=b"i" * 32)
    config = load_client_config(client_site(tmp_path / "client", made, copied=copied))

    assert SavedLog(log=log(made, first), signature=b"") in exported(config)


def test_logs_and_crls_of_others_stay_out(made: JournalMaker, tmp_path: Path) -> None:
    made.crl()
    config = load_client_config(client_site(tmp_path / "client", made))
    with open_store(config.store_url) as store:
        submit(store, 1)
        (job,) = store.queue.lease("client", limit=9, lease_s=60, now=NOW)
        assert isinstance(job, SignJob)
        refusal = made.refusal()
        logs = [
            SigningLog(job_id=job.id, sha256=b"1" * 32, entry=b"signing CA: as version 1 has it\n"),
            SigningLog(job_id=job.id, sha256=b"2" * 32, entry=log(made, refusal)),
        ]
        store.results.save_logs("client", logs, now=NOW, signer_id=1)
        for name, der in (("orga_2026_2", made.crls[0]), (made.authority.name, _foreign(made))):
            store.crls.put(CrlRecord(authority=name, number=2, this_update=NOW, next_update=NOW, der=der), now=NOW)

    items = exported(config)

    assert not [each for each in items if isinstance(each, SavedLog | SavedCrl)]


def _foreign(made: JournalMaker) -> bytes:
    subject = made.authority.subject
    return made.crls[0].replace(subject, subject.replace(b"unassured_2026_2", b"unassured_1999_9"))


def test_a_copy_without_a_head_has_none_at_its_end(made: JournalMaker, tmp_path: Path) -> None:
    config = load_client_config(client_site(tmp_path / "client", JournalMaker()))
    with open_store(config.store_url) as store:
        chain = Chain(no_entries(1), ())
        for each in made.logs:
            chain.append(entries.decode_entry(each.entry), each)
        before = store.journal_copies.state(1).link
        store.journal_copies.append(before, chain.link(), made.logs, head=None, proof=None, now=NOW)

    *_, end = exported(config)

    assert end == End(head=b"", newest=b"")


def test_of_several_signers_one_is_chosen(made: JournalMaker, tmp_path: Path) -> None:
    config = load_client_config(client_site(tmp_path / "client", made))
    other = JournalMaker(signer_id=2)
    other.begin()
    with open_store(config.store_url) as store:
        chain = Chain(no_entries(2), ())
        for each in other.logs:
            chain.append(entries.decode_entry(each.entry), each)
        store.journal_copies.append(no_entries(2), chain.link(), other.logs, head=None, proof=None, now=NOW)

    assert exported(config, 2)[0] == Header(signer_id=2, keys=chain.link().keys)
    with pytest.raises(OperatorError, match="signers 1, 2: choose one with --signer"):
        exported(config)


def test_a_store_is_compared_page_by_page(made: JournalMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cassiopeia.store.recovery._ROWS_AT_ONCE", 2)
    for _ in range(5):
        made.issue()
    config = load_client_config(client_site(tmp_path / "client", made))
    replay = Replay()
    for each in made.logs:
        replay.append(each)
    verification = Verification(replay=replay)

    compare(config, verification)

    assert (verification.certificates, verification.findings.count, verification.unseen()) == (5, 0, ())
