"""A CRL as it grows: what the signer and the client do for one revocation, against hashing and one signature alone."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.authorities import make_authority, make_ca, rsa_key
from tests.support.authorities import sign as sign_with
from tests.support.signer import open_journal, record_issued

from bench import raw
from cassiopeia.core import algorithms, crl
from cassiopeia.core.request import Revocation
from cassiopeia.protocol.payload import RevokedAnswer, encode_revoked
from cassiopeia.signer.revocation import RevocationList

SIZES = (1_000, 10_000, 21_400)
NOW = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
_NAME = bytes.fromhex("3011310f300d06035504030c06") + b"sub-CA"
_ALGORITHM = next(each for each in algorithms.ALGORITHMS if each.name == "sha256WithRSAEncryption")
_REPETITIONS = 5
_LIFETIME = dt.timedelta(days=10)


def main(*, quick: bool) -> None:
    sizes = SIZES[:1] if quick else SIZES
    sign = raw.signer("RSA-4096")
    print("\nA CRL with reasons, RSA-4096: milliseconds (best of 5), beside SHA-256 over it and one signature alone")
    print(f"  {'entries':>8} {'octets':>10} {'build':>7} {'and sign':>9} {'raw':>7} {'ratio':>6} {'read':>7}")
    for size in sizes:
        entries = _entries(size)
        tbs = _assemble(entries)
        der = crl.compose_crl(tbs, sign(tbs))
        build = _best(functools.partial(_assemble, entries))
        whole = _best(functools.partial(_build_and_sign, entries, sign))
        alone = _best(functools.partial(sign, tbs))
        read = _best(functools.partial(crl.read_crl, der))
        print(
            f"  {size:8,} {len(der):10,} {build * 1000:7.2f} {whole * 1000:9.2f} {alone * 1000:7.2f}"
            f" {whole / alone:6.2f} {read * 1000:7.2f}",
            flush=True,
        )
    print("\nOne more revoked, RSA-2048: milliseconds (best of 5) with everything durable, and octets of the answer")
    print(f"  {'entries':>8} {'signer':>7} {'hash and sign':>14} {'answer':>7} {'patch':>7} {'hash alone':>11}")
    for size in sizes:
        with tempfile.TemporaryDirectory() as directory:
            _revoke_one_more(size, Path(directory))


def _revoke_one_more(size: int, directory: Path) -> None:
    """The signer's and the client's side of single revocations, behind a list of this size."""
    authority = make_authority(make_ca("full", key=rsa_key()))
    sign = functools.partial(_sign_rsa, algorithms.choose_algorithm(authority.public_key, ""))
    journal = open_journal(directory)
    try:
        journal.record_revocations(authority.name, list(_split(_entries(size - _REPETITIONS))), now=NOW)
        serials = record_issued(journal, *range(1, _REPETITIONS + 1), signing_ca=authority.name)
        revocations = RevocationList(authority, journal, lifetime=_LIFETIME)
        draft = revocations.draft(now=NOW)
        before = revocations.complete(draft, sign(draft.tbs), now=NOW)
        full = revocations.full()
        assert full is not None  # noqa: S101 - the first CRL was just signed
        copy = crl.check_crl(full, authority=authority)
        signer, patch, octets = [], [], 0
        for serial in serials:
            started = time.perf_counter()
            revocations.revoke((Revocation(serial_number=serial, reason=4),), now=NOW)
            journal.commit()
            draft = revocations.draft(now=NOW)
            record = revocations.complete(draft, sign(draft.tbs), now=NOW)
            journal.commit()
            answer = _answer(record.signature, before.algorithm, draft.number)
            entries = revocations.entries_since(copy.number, hashlib.sha256(copy.tbs).digest(), record)
            signer.append(time.perf_counter() - started)
            octets = len(encode_revoked(answer, version=2)) + len(entries)
            started = time.perf_counter()
            copy = crl.patch(
                copy,
                authority=authority,
                algorithm_der=record.algorithm,
                this_update=record.this_update,
                next_update=record.next_update,
                crl_number=record.number,
                new_entries=entries,
                signature=record.signature,
            )
            patch.append(time.perf_counter() - started)
        alone = _best(functools.partial(sign, copy.tbs))
        hashed = _best(functools.partial(hashlib.sha256, copy.tbs))
    finally:
        journal.close()
    print(
        f"  {size:8,} {min(signer) * 1000:7.2f} {alone * 1000:14.2f} {octets:7,} {min(patch) * 1000:7.2f}"
        f" {hashed * 1000:11.2f}",
        flush=True,
    )


def _answer(signature: bytes, algorithm: bytes, number: int) -> RevokedAnswer:
    return RevokedAnswer(
        date=NOW,
        algorithm=algorithm,
        signature=signature,
        this_update=NOW,
        next_update=NOW + _LIFETIME,
        crl_number=number,
    )


def _entries(size: int) -> bytes:
    return b"".join(
        crl.encode_revocation(Revocation(serial_number=int.from_bytes(b"\1" + os.urandom(15), "big"), reason=4), NOW)
        for _ in range(size)
    )


def _split(entries: bytes) -> list[bytes]:
    length = len(_entries(1))
    return [entries[start : start + length] for start in range(0, len(entries), length)]


def _build_and_sign(entries: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    tbs = _assemble(entries)
    return crl.compose_crl(tbs, sign(tbs))


def _sign_rsa(algorithm: algorithms.SignatureAlgorithm, octets: bytes) -> bytes:
    return sign_with(rsa_key(), algorithm, octets)


def _assemble(entries: bytes) -> bytes:
    return crl.assemble_tbs_crl(
        issuer=_NAME,
        algorithm=_ALGORITHM,
        this_update=NOW,
        next_update=NOW + _LIFETIME,
        entries=entries,
        crl_number=7,
        authority_key_identifier=bytes(20),
    )


def _best(work: Callable[[], object]) -> float:
    """Seconds of the quickest of a few runs: what the work costs without what else the machine does."""
    spans = []
    for _ in range(_REPETITIONS):
        started = time.perf_counter()
        work()
        spans.append(time.perf_counter() - started)
    return min(spans)
