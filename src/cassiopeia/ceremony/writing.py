"""What a ceremony leaves on the disk: the bundles, what opens them, what is published, and the transcript.

Owns the layout of a ceremony's directory, and the order in which it comes to be: everything is put together in memory
and written without what opens it, read again from its files and proved; passphrases and shares come last. A ceremony
that is killed leaves ciphertext, and no directory of the name that was asked for.

    offline.bundle            the safe; opened by offline.passphrase, or by shares/share-N.txt
    bundle-key.pem            by which every machine knows the bundles
    signer-N.bundle           for each signer; its keys open with signer-N.passphrase, unless that is sealed inside
    client.bundle             for clients, web servers, validators, publishers
    publication.bundle        the same as public/, for `cassiopeia client install`
    public/                   what a web server serves
    requests/                 requests for certificates that somebody else's root has to sign
    transcript.txt, .html     what was done, with lines to sign
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives import hashes

from cassiopeia import files
from cassiopeia.ceremony import proving
from cassiopeia.ceremony.bundling import (
    SignerBundle,
    client_bundle,
    publication_bundle,
    publication_files,
    signer_bundle,
    signer_ids,
)
from cassiopeia.ceremony.conducting import Outcome
from cassiopeia.ceremony.hierarchy import ROOT_NAME
from cassiopeia.ceremony.inspection import Finding
from cassiopeia.ceremony.safe import (
    BUNDLE_KEY_NAME,
    OFFLINE_NAME,
    PASSPHRASE_NAME,
    SHARES_DIRECTORY,
    Safe,
    make_secret,
    offline_bundle,
    secret_text,
)
from cassiopeia.ceremony.shares import Share, rehearse, share_document, share_file_name, share_set, split
from cassiopeia.ceremony.transcript import Minutes, Table, as_html, as_text, hash_table, in_groups
from cassiopeia.ceremony.unlocking import as_kept, as_share_set

CLIENT_NAME: Final = "client.bundle"
PUBLICATION_NAME: Final = "publication.bundle"
PUBLIC_DIRECTORY: Final = "public"
REQUESTS_DIRECTORY: Final = "requests"

SIGNATORIES: Final = ("Ceremony leader", "Witness", "Witness")

Clock = Callable[[], dt.datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """The safe's secret is split into so many shares, of which `threshold` open it."""

    shares: int
    threshold: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """What opens the safe: its secret, and the shares into which it was split just now.

    `is_new` is False for the secret that opened the safe before: whoever has it keeps it.
    """

    secret: bytes = field(repr=False)
    shares: tuple[Share, ...] = field(default=(), repr=False)
    is_new: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A ceremony that was held, and its directory. `findings` are what the linter remarks, none of it grave."""

    directory: Path
    outcome: Outcome
    signers: tuple[SignerBundle, ...]
    findings: tuple[Finding, ...]
    rehearsed: tuple[tuple[int, ...], ...]

    @property
    def root_fingerprint(self) -> str:
        """SHA-256 of the root certificate, in hex, for people to compare."""
        return self.outcome.safe.certificates[ROOT_NAME].fingerprint(hashes.SHA256()).hex()


def new_opening(outcome: Outcome, split_into: Split | None) -> tuple[Outcome, Opening]:
    """A new secret for the safe, and the outcome with the commitments to its shares, if there are any."""
    secret = make_secret()
    if split_into is None:
        return outcome, Opening(secret=secret)
    shares = split(secret, shares=split_into.shares, threshold=split_into.threshold)
    record = msgspec.structs.replace(outcome.safe.record, shares=as_kept(share_set(shares)))
    safe = dataclasses.replace(outcome.safe, record=record)
    return dataclasses.replace(outcome, safe=safe), Opening(secret=secret, shares=shares)


def write_ceremony(
    out: Path,
    outcome: Outcome,
    opening: Opening,
    minutes: Minutes,
    *,
    clock: Clock,
    requests: Mapping[str, bytes] | None = None,
) -> Held:
    """Write the new directory `out`, whole and proved, or nothing; raises OperatorError."""
    safe, now = outcome.safe, clock()
    with files.new_tree(out, mode=files.SECRET_DIRECTORY, what="what a ceremony made") as building:
        # 1. All that is encrypted or public.
        signers = _write_bundles(building, outcome, opening, now=now)
        for name, octets in (requests or {}).items():
            directory = building / REQUESTS_DIRECTORY
            if not directory.exists():
                files.make_directory(directory)
            files.write_file(directory / f"{name}.csr", octets)
        minutes.add("What was written", at=clock(), table=hash_table(_carried(building)))
        # 2. Read again, as those who get it will.
        findings = proving.prove(building, outcome, secret=opening.secret, signers=signers, now=now)
        _tell_proof(minutes, outcome, findings, at=clock())
        # 3. What opens it.
        _write_passphrases(building, safe, opening, signers)
        rehearsed = _rehearse_shares(building, safe, opening, minutes, at=clock())
        # 4. What people sign.
        _tell_custody(minutes, safe, opening, signers, at=clock())
        transcript = minutes.close(signatories=SIGNATORIES)
        files.write_file(building / "transcript.txt", as_text(transcript), mode=files.SECRET)
        files.write_file(building / "transcript.html", as_html(transcript), mode=files.SECRET)
    return Held(directory=out, outcome=outcome, signers=signers, findings=findings, rehearsed=rehearsed)


def signer_bundle_name(signer_id: int) -> str:
    return f"signer-{signer_id}.bundle"


def signer_passphrase_name(signer_id: int) -> str:
    return f"signer-{signer_id}.passphrase"


def tell_outcome(minutes: Minutes, outcome: Outcome, *, at: dt.datetime) -> None:
    """The steps that say what was made: CAs with their fingerprints, CRLs with their numbers."""
    safe = outcome.safe
    if outcome.certified:
        rows = []
        for name in outcome.certified:
            known, certificate = safe.record.authority(name), safe.certificates[name]
            rows.append((name, known.issuer, f"{known.not_after:%Y-%m-%d}", f"{certificate.serial_number:x}"))
        minutes.add(
            "Keys and certificates were made",
            "Each CA, the one that signed it, the day on which it ends, and its serial number.",
            at=at,
            table=Table(header=("CA", "issuer", "ends", "serial number"), rows=tuple(rows)),
        )
        minutes.add(
            "Fingerprints",
            "SHA-256 of each new certificate (DER).",
            at=at,
            table=Table(
                header=("CA", "SHA-256"),
                rows=tuple(
                    (name, in_groups(safe.certificates[name].fingerprint(hashes.SHA256())))
                    for name in outcome.certified
                ),
            ),
        )
    elsewhere = [each for each in safe.record.time if each.key == "signer" and each.name in outcome.certified]
    if elsewhere:
        minutes.add(
            "Keys that were born in their signer",
            "No key of these CAs was ever here: each signed its request itself.",
            at=at,
            facts={each.name: f"signer {each.signer_id}" for each in elsewhere},
        )
    revoked = [each for each in safe.record.authorities if each.made_in <= safe.record.number and each.revoked_at]
    if revoked:
        minutes.add(
            "What is revoked",
            at=at,
            table=Table(
                header=("CA", "since", "reason"),
                rows=tuple((each.name, f"{each.revoked_at:%Y-%m-%d %H:%M}", each.reason or "-") for each in revoked),
            ),
        )
    if outcome.crls:
        minutes.add(
            "CRLs were signed",
            at=at,
            table=Table(
                header=("CA", "number", "good until", "entries"),
                rows=tuple(
                    (
                        name,
                        str(safe.record.authority(name).crl_number),
                        f"{safe.crls[name].next_update_utc:%Y-%m-%d}",
                        str(len(safe.crls[name])),
                    )
                    for name in outcome.crls
                ),
            ),
        )


def _write_bundles(building: Path, outcome: Outcome, opening: Opening, *, now: dt.datetime) -> tuple[SignerBundle, ...]:
    safe = outcome.safe
    files.write_file(building / OFFLINE_NAME, offline_bundle(safe, secret=opening.secret))
    files.write_file(building / BUNDLE_KEY_NAME, safe.bundle_public_pem)
    signers: tuple[SignerBundle, ...] = ()
    if outcome.for_machines:
        signers = tuple(signer_bundle(outcome, each, now=now) for each in signer_ids(safe, now=now))
        for each in signers:
            files.write_file(building / signer_bundle_name(each.signer_id), each.octets)
        files.write_file(building / CLIENT_NAME, client_bundle(safe, now=now))
    if outcome.for_machines or outcome.crls:
        files.write_file(building / PUBLICATION_NAME, publication_bundle(safe, now=now))
        public = files.make_directory(building / PUBLIC_DIRECTORY)
        for name, octets in publication_files(safe, now=now).items():
            files.write_file(public / name, octets, mode=files.PUBLIC)
    return signers


def _write_passphrases(building: Path, safe: Safe, opening: Opening, signers: tuple[SignerBundle, ...]) -> None:
    for each in signers:
        if each.passphrase is not None and not each.is_sealed:
            files.write_file(building / signer_passphrase_name(each.signer_id), f"{each.passphrase}\n")
    if opening.shares:
        directory = files.make_directory(building / SHARES_DIRECTORY)
        for share in opening.shares:
            text = share_document(share, count=len(opening.shares), made_on=safe.record.made_at.date())
            files.write_file(directory / share_file_name(share), text)
    elif safe.record.shares is None:
        files.write_file(building / PASSPHRASE_NAME, secret_text(opening.secret))


def _rehearse_shares(
    building: Path, safe: Safe, opening: Opening, minutes: Minutes, *, at: dt.datetime
) -> tuple[tuple[int, ...], ...]:
    """Open the safe with the share files that were just written; raises OperatorError."""
    if not opening.shares or safe.record.shares is None:
        return ()
    known = as_share_set(safe.record.shares)
    paths = [building / SHARES_DIRECTORY / share_file_name(each) for each in opening.shares]
    rehearsed = rehearse(paths, known, secret=opening.secret)
    minutes.add(
        "Opening the safe was rehearsed",
        f"The passphrase of the keys is split into {known.count} shares, any {known.threshold} of which give it back, "
        "and is written nowhere else. The share files were read again, and these choices of them gave it back.",
        at=at,
        facts={"set": known.name},
        table=Table(
            header=("choice", "shares"),
            rows=tuple((str(number), ", ".join(map(str, each))) for number, each in enumerate(rehearsed, start=1)),
        ),
    )
    minutes.add(
        "Commitments to the shares",
        at=at,
        table=Table(
            header=("share", "its commitment (SHA-256)"),
            rows=tuple((str(number), each) for number, each in enumerate(known.commitments, start=1)),
        ),
        to_fill_in=[f"Share {number}: name, signature, number of its bag" for number in range(1, known.count + 1)],
    )
    return rehearsed


def _tell_proof(minutes: Minutes, outcome: Outcome, findings: tuple[Finding, ...], *, at: dt.datetime) -> None:
    minutes.add(
        "Everything was read again from its file",
        "Each bundle verifies and can be installed as its machine will do it; each key opens and fits its certificate; "
        "each certificate leads to the root; each CRL is that of its CA, with the next number. The linter looked at "
        f"{len(outcome.certified)} certificates and {len(outcome.crls)} CRLs, and found nothing that is wrong; what it "
        f"remarks: {len(findings)}.",
        at=at,
        facts={str(number): str(each) for number, each in enumerate(findings, start=1)},
    )


def _tell_custody(
    minutes: Minutes, safe: Safe, opening: Opening, signers: tuple[SignerBundle, ...], *, at: dt.datetime
) -> None:
    if opening.shares or not opening.is_new:
        kept = "Its keys open with shares." if safe.record.shares is not None else "Its passphrase is the old one."
    else:
        kept = f"{PASSPHRASE_NAME} opens it: whoever has both has every key. Keep them apart."
    minutes.add(
        "Into the safe",
        f"{OFFLINE_NAME}, of ceremony {safe.record.number}. {kept} What is older opens too: destroy old copies.",
        at=at,
        to_fill_in=["First bag: number, safe", "Second bag: number, safe"],
    )
    for each in signers:
        if each.is_sealed:
            how = "Its keys open in that signer alone."
        elif each.passphrase is not None:
            how = f"Its keys open with {signer_passphrase_name(each.signer_id)}, which travels by another way."
        else:
            how = "It has no key in it."
        minutes.add(
            f"To signer {each.signer_id}",
            f"{signer_bundle_name(each.signer_id)}. {how}",
            at=at,
            to_fill_in=["Carried by", "Received by"],
        )
    minutes.add(
        "To everybody else",
        f"{CLIENT_NAME} and {PUBLICATION_NAME}, where they were made: nothing in them is secret. {BUNDLE_KEY_NAME} has "
        "to be on a machine before it installs its first bundle.",
        at=at,
        facts={"root (SHA-256)": in_groups(safe.certificates[ROOT_NAME].fingerprint(hashes.SHA256()))},
    )


def _carried(building: Path) -> dict[str, bytes]:
    """What was written, by name; public/ is in the publication bundle already."""
    return {
        str(path.relative_to(building)): path.read_bytes()
        for path in sorted(building.rglob("*"))
        if path.is_file() and path.parent.name != PUBLIC_DIRECTORY
    }
