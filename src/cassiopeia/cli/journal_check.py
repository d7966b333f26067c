"""What `cassiopeia journal verify` compares and says, and how `prove` finds what belongs to a certificate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cassiopeia.cli.journal_source import Source
from cassiopeia.errors import Inconsistent, OperatorError
from cassiopeia.journal import entry as entries
from cassiopeia.journal import readable
from cassiopeia.journal.entry import JournalEntry, Log
from cassiopeia.journal.head import JournalHead
from cassiopeia.journal.judging import Judging
from cassiopeia.journal.proof import Proof, ProvedEntry, encode_proof
from cassiopeia.journal.replay import Replay
from cassiopeia.journal.transcript import End, SavedCrl, SavedLog
from cassiopeia.journal.verification import Verification

if TYPE_CHECKING:
    from cassiopeia.client.journal_compare import Lacks

_CERTIFICATE_SUFFIXES: Final = frozenset({".pem", ".crt", ".cer", ".der"})
_CRL_SUFFIXES: Final = frozenset({".crl", ".pem", ".der"})
_RECOVER: Final = "run `cassiopeia journal recover`, which takes them in"
_PEM_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_PEM_CRL: Final = b"-----BEGIN X509 CRL-----"


@dataclass(kw_only=True)
class Report:
    """What was found: lines for people, and what is wrong, one sentence each; `verdict` sums up the latter."""

    lines: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    verdict: str = ""

    def say(self, subject: str, words: str) -> None:
        self.lines.append(f"{subject:<13} {words}")


def check(source: Source, *, certificates: Sequence[Path], crls: Sequence[Path], deep: bool) -> Report:
    """Replay a journal and compare it with everything there is to compare it with."""
    report = Report()
    replay = Replay(deep=deep, judge=deep)
    # 1. The entries, one after the other.
    beside: list[SavedLog | SavedCrl] = []
    end = End(head=b"")
    try:
        for item in source.items(replay):
            if isinstance(item, SavedLog | SavedCrl):
                beside.append(item)
            elif isinstance(item, End):
                end = item
        replay.finish(complete=source.complete)
    except Inconsistent as error:
        report.say("journal", f"{_number(replay.size)} entries were read, and all was well with them")
        report.wrong.append(str(error))
        report.verdict = str(error)
        return report
    _describe(report, replay, deep=deep)
    # 2. The signed heads.
    verification = Verification(replay=replay, ahead=frozenset(_serials(beside)))
    _check_heads(report, verification, end, source)
    # 3. What came of it.
    lacks = None
    if source.client is not None:
        from cassiopeia.client.journal_compare import compare  # noqa: PLC0415 - the signer's machine has no store

        lacks = compare(source.client, verification)
    else:
        for each in beside:
            if isinstance(each, SavedCrl):
                verification.crl(each.crl, where=f"the client's CRL of {each.signing_ca}", may_be_ahead=True)
    for path, der in _found(certificates, _CERTIFICATE_SUFFIXES, _PEM_CERTIFICATE):
        verification.certificate(der, where=str(path))
    for path, der in _found(crls, _CRL_SUFFIXES, _PEM_CRL):
        verification.crl(der, where=str(path))
    _describe_comparison(report, verification)
    every = [verification.findings] + ([replay.judging.findings] if replay.judging else [])
    report.wrong = [str(each) for findings in every for each in findings.kept]
    found = sum(each.count for each in every)
    if lacks is not None:
        lost = _describe_lacks(report, lacks)
        report.wrong += lost
        found += len(lost)
    if found:
        report.verdict = f"{_number(found)} things are wrong, the first: {report.wrong[0]}"
        if found == 1:
            report.verdict = report.wrong[0]
    return report


def prove(source: Source, digits: str, *, without_parts: bool) -> bytes:
    """The proof of everything that the journal says of one certificate; raises OperatorError when there is none."""
    replay = Replay(deep=False)
    intents: dict[int, str] = {}
    found: list[tuple[int, Log]] = []
    end = End(head=b"")
    for item in source.items(replay):
        if isinstance(item, Log):
            entry = entries.decode_entry(item.entry)
            body = entries.decode_body(entry)
            if entry.kind == "intent" and body.serial_number.hex().startswith(digits):
                intents[entry.index] = body.serial_number.hex()
            if _is_about(entry, body, intents):
                found.append((entry.index, item))
        elif isinstance(item, End):
            end = item
    if len(intents) != 1:
        raise OperatorError(
            f"{source.name}: more than one serial number begins with {digits}: give more digits"
            if intents
            else f"{source.name}: no certificate has a serial number that begins with {digits}; `cassiopeia journal "
            "show --kind intent` lists those that were intended"
        )
    if not end.head:
        raise OperatorError(f"{source.name}: there is no signed head yet that a proof could lead to")
    head = replay.check_head(end.head)
    covered = [(index, log) for index, log in found if index <= head.size]
    if not covered:
        raise OperatorError(
            f"{source.name}: the newest signed head covers {head.size} entries, and what is asked for came later; try "
            "again when the client has copied more"
        )
    return encode_proof(
        Proof(
            entries=tuple(
                ProvedEntry(
                    log=Log(entry=log.entry, parts=tuple(b"" for _ in log.parts)) if without_parts else log,
                    path=replay.prove(index, head.size),
                )
                for index, log in covered
            ),
            head=end.head,
            public_key=replay.key_at(head.size),
        )
    )


def _is_about(entry: JournalEntry, body: Any, intents: dict[int, str]) -> bool:
    if entry.kind == "revocation":
        listed = readable.facts(entry, body, ())["serials"]
        return isinstance(listed, list) and any(serial in listed for serial in intents.values())
    return entry.index in intents or getattr(body, "intent", 0) in intents


def _describe(report: Report, replay: Replay, *, deep: bool) -> None:
    times = " to ".join(readable.moment(each) for each in (replay.started, replay.last_time) if each is not None)
    report.say(
        "journal",
        f"of signer {replay.signer_id}: {_number(replay.size)} entries from {times}, epoch {replay.epoch}",
    )
    report.say("entries", ", ".join(f"{_number(count)} {kind}" for kind, count in sorted(replay.kinds.items())))
    counts = {state: replay.certificates.count(state) for state in ("issued", "confirmed", "open", "abandoned")}
    words = {
        "issued": "issued",
        "confirmed": "confirmed and not signed yet",
        "open": "waiting for the client's word",
        "abandoned": "abandoned",
    }
    report.say("certificates", ", ".join(f"{_number(counts[each])} {words[each]}" for each in counts))
    for name, revocations in sorted(replay.crls.lists.items()):
        report.say("CRL", f"{name}: number {revocations.number}, {_number(revocations.revoked)} revoked")
    for each in replay.keys:
        report.say("journal key", f"{readable.fingerprint(each.public_key)} from entry {each.first} on")
    for code, index in replay.halts.items():
        report.say("halted", f"{code}, since entry {index}")
    checked = "every hash, every part that is here, every rule"
    report.say("checked", f"{checked}, every signature" if deep else f"{checked}; no signatures (--quick)")
    if replay.judging is not None:
        _describe_judging(report, replay.judging)
    if replay.missing_parts:
        report.say("not here", f"{_number(replay.missing_parts)} parts: removed, or never copied")
    if replay.unchecked_signatures:
        report.say("not checked", f"{_number(replay.unchecked_signatures)} signatures, for want of those parts")


def _describe_judging(report: Report, judging: Judging) -> None:
    judged = [
        f"the proofs of {_number(judging.proved)} certificates suffice" if judging.proved else "",
        f"{_number(judging.undemanding)} are of profiles that demand none" if judging.undemanding else "",
        f"{_number(judging.findings.count)} were not to be issued" if judging.findings.count else "",
    ]
    report.say("judged anew", "; ".join(filter(None, judged)) or "no certificate")
    for reason, count in sorted(judging.unjudged.items()):
        report.say("not judged", f"{_number(count)} certificates: {reason}")


def _check_heads(report: Report, verification: Verification, end: End, source: Source) -> None:
    if not end.head:
        report.say("signed head", "there is none over these entries")
    elif (said := verification.head(end.head, source.keys)) is not None:
        by = f"by a key that {source.trusted_by} vouches for" if source.keys else "by the key that it names itself"
        report.say("signed head", f"{_head(said)}, {by}")
        if behind := verification.replay.size - said.size:
            report.say("", f"the last {_number(behind)} entries came after it")
    if end.newest and (said := verification.newest(end.newest, source.keys)) is not None:
        report.say("newest head", _head(said))
        if (ahead := said.size - verification.replay.size) > 0:
            report.say("", f"{_number(ahead)} entries more than are here")
    if not source.keys:
        report.say("", "no key that you trust was named: give --key to know that this journal is the signer's")


def _describe_comparison(report: Report, verification: Verification) -> None:
    if verification.certificates or verification.crls or verification.not_ours:
        report.say(
            "compared",
            f"{_number(verification.certificates)} certificates and {_number(verification.crls)} CRLs"
            + (f"; {_number(verification.not_ours)} more are of other CAs" if verification.not_ours else ""),
        )
    else:
        report.say("compared", "with no certificates and no CRLs: name some with --certificates and --crl")
    if verification.ahead_of_copy:
        report.say("", f"{_number(verification.ahead_of_copy)} of them are newer than this copy of the journal")


def _describe_lacks(report: Report, lacks: Lacks) -> list[str]:
    """Say what the store has not; return what of it somebody has to mend."""
    if lacks.wait:
        report.say("not here yet", f"{_number(lacks.wait)} certificates, whose requests wait in the queue")
    if lacks.version_1:
        report.say("not here", f"{_number(lacks.version_1)} certificates of clients of version 1, which keep their own")
    if lacks.bare:
        report.say("not here", f"{_number(lacks.bare)} certificates, and the journal has their octets no longer")
    wrong = []
    if lacks.lost:
        wrong.append(
            f"{_number(lacks.lost)} certificates of the journal are not in the store, as after a restore of an older "
            f"database: {_RECOVER}"
        )
    if lacks.unrevoked:
        wrong.append(
            f"{_number(lacks.unrevoked)} certificates were revoked, and the store does not know it: {_RECOVER}"
        )
    return wrong


def _serials(beside: Sequence[SavedLog | SavedCrl]) -> Iterator[bytes]:
    for each in beside:
        if isinstance(each, SavedLog):
            entry = entries.decode_entry(entries.decode_log(each.log).entry)
            yield entries.decode_body(entry).serial_number


def _found(paths: Sequence[Path], suffixes: frozenset[str], pem: bytes) -> Iterator[tuple[Path, bytes]]:
    """DER of everything in these files, and in the files of these directories that have such names."""
    for path in paths:
        files = sorted(each for each in path.iterdir() if each.suffix in suffixes) if path.is_dir() else [path]
        for file in files:
            octets = file.read_bytes()
            if b"-----BEGIN " not in octets:
                yield file, octets
            elif pem in octets:
                yield from ((file, der) for der in _from_pem(file, octets, pem))


def _from_pem(path: Path, octets: bytes, pem: bytes) -> list[bytes]:
    try:
        if pem == _PEM_CERTIFICATE:
            return [each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(octets)]
        return [x509.load_pem_x509_crl(octets).public_bytes(Encoding.DER)]
    except ValueError as error:
        raise OperatorError(f"{path}: this cannot be read: {error}") from error


def _head(said: JournalHead) -> str:
    return f"of epoch {said.epoch}, over {_number(said.size)} entries, of {readable.moment(said.time)}"


def _number(count: int) -> str:
    return f"{count:,}"
