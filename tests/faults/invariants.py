"""What holds after whatever went wrong, and who can tell: those who heard what the signer said, and kept it.

`Heard` is what left the signer, fact by fact. `check` reads a journal from its first entry to its last and holds it to
its own rules (`journal.replay`: no gap, nothing twice, nothing signed that was not logged and confirmed, revocations
that only grow, CRL numbers that only rise), then to every fact.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cassiopeia.core import certificate, crl
from cassiopeia.journal import entry as entries
from cassiopeia.journal.certificates import SERIAL_OCTETS
from cassiopeia.journal.entry import Log
from cassiopeia.journal.replay import Replay
from cassiopeia.protocol.events import CertificateIssued, Event, LogReceived, RequestAbandoned, RevocationAnswered

Kind = Literal["log", "signature", "certificate", "crl", "head", "abandoned", "signed", "bought"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """The signer let this out. `at` says when, as its hearer counts time; `name` is a request's id, or a sub-CA.

    `octets`: DER of the log, certificate or CRL, the signature of either, the signed head; nothing for an abandonment,
    which has an `index`. `bought` is a certificate over version 1, where nobody names a request;
    `signed` is no word of the signer's: its CA key was used for these octets (a TBSCertificate).
    """

    kind: Kind
    octets: bytes = b""
    name: str = ""
    index: int = 0
    at: int = 0


@dataclass(kw_only=True, slots=True)
class Heard:
    """Every fact in the order in which it was heard."""

    facts: list[Fact] = field(default_factory=list)

    def until(self, at: int) -> Heard:
        return Heard(facts=[each for each in self.facts if each.at <= at])

    def of(self, kind: Kind) -> list[Fact]:
        return [each for each in self.facts if each.kind == kind]

    def certificate(self, name: str) -> bytes | None:
        return next((each.octets for each in self.of("certificate") if each.name == name), None)


def facts(event: Event) -> list[Fact]:
    """What one event of a client's session proves by itself."""
    found: list[Fact] = []
    match event:
        case LogReceived(log=log):
            found.append(Fact(kind="log", octets=log))
        case CertificateIssued(signature=bytes(signature)):
            found.append(Fact(kind="signature", octets=signature))
        case RevocationAnswered(answer=answer):
            found.append(Fact(kind="signature", octets=answer.signature))
        case RequestAbandoned(index=int(index)):
            found.append(Fact(kind="abandoned", index=index))
    head = getattr(event, "head", None)
    if head:
        found.append(Fact(kind="head", octets=head))
    return found


def check(logs: Iterable[Log], heard: Heard, *, keys: Collection[bytes], deep: bool = False) -> Replay:
    """Raise AssertionError, or `Inconsistent` with an entry's index, unless this journal is sound and knows it all."""
    replay = Replay(deep=deep)
    kept: dict[int, Log] = {}
    parts: set[bytes] = set()
    for log in logs:
        entry, _ = replay.append(log)
        kept[entry.index] = log
        parts.update(entry.parts)
    replay.finish(complete=True)
    for fact in heard.facts:
        match fact.kind:
            case "head":
                replay.check_head(fact.octets, keys)
            case "log":
                index = entries.decode_entry(entries.decode_log(fact.octets).entry).index
                assert index in kept, f"the log of entry {index} was sent, and the entry is gone"
                assert entries.encode_log(kept[index]) == fact.octets, f"another log than entry {index} was sent"
            case "signature":
                assert entries.part_hash(fact.octets) in parts, "a signature was let out that the journal does not have"
            case "certificate":
                issuance = replay.certificates.check_certificate(fact.octets)
                assert issuance.request_id.hex() == fact.name
            case "bought":
                replay.certificates.check_certificate(fact.octets)
            case "crl":
                replay.crls.check_crl(fact.octets, signing_ca=fact.name)
                for serial in crl.entry_serials(crl.read_crl(fact.octets).entries):
                    assert replay.crls.revoked_at(serial.to_bytes(SERIAL_OCTETS, "big")), f"{serial:x} is revoked"
            case "signed":
                number = certificate.read_tbs(fact.octets).serial_number
                found = replay.certificates.find_serial(number.to_bytes(SERIAL_OCTETS, "big"))
                assert found is not None, "the CA key was used for what was not intended"
                assert found.state in {"confirmed", "issued"}, f"the CA key was used for what is {found.state}"
            case "abandoned":
                assert entries.decode_entry(kept[fact.index].entry).kind == "abandonment"
    check_certificates(heard.of("certificate"))
    for name in {each.name for each in heard.of("crl")}:
        check_crls([each.octets for each in heard.of("crl") if each.name == name])
    return replay


def check_certificates(facts: Sequence[Fact]) -> None:
    """One for each request, and each with a serial number of its own."""
    by_request: dict[str, bytes] = {}
    for each in facts:
        assert by_request.setdefault(each.name, each.octets) == each.octets, f"two certificates for {each.name}"
    assert len(set(by_request.values())) == len(by_request), "two requests with one certificate"


def check_crls(ders: Sequence[bytes]) -> None:
    """In the order in which they were heard: numbers rise, nobody is taken off."""
    number, listed, newest = 0, set[int](), b""
    for each in map(crl.read_crl, ders):
        assert each.number > number or each.tbs == newest, f"CRL {each.number} came behind {number}"
        serials = set(crl.entry_serials(each.entries))
        assert serials >= listed, f"CRL {each.number} has lost {listed - serials}"
        number, listed, newest = each.number, serials, each.tbs
