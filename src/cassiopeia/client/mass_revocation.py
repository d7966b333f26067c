"""Mass revocation: choosing certificates by account, key, family, sub-CA or list, and saying when all will be done.

Chooses and estimates; the plan is `revocation_plan`, the queue is the store's. Signers cap revocations an hour: what is
above waits in the queue, loses nothing, and the operators may raise the cap by an order.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from cassiopeia.client.revocation_plan import Chosen
from cassiopeia.core import der
from cassiopeia.core.authority import parse_authority_name
from cassiopeia.core.key_identity import certified_key_info, identify_key
from cassiopeia.errors import OperatorError, PeerError, Refused
from cassiopeia.store.database import Store
from cassiopeia.store.records import CertificateRecord, SignerStatus

REVOCATIONS: Final = "revocations"
"""The name of the signers' cap."""

_PAGE: Final = 1_000
_LARGEST_KEY_FILE: Final = 1 << 20
_LARGEST_LIST: Final = 64 << 20
_SHOWN: Final = 5
_HOUR: Final = dt.timedelta(hours=1)
_STEP: Final = dt.timedelta(minutes=1)
_SEPARATORS: Final = re.compile(r"[\s:]")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What was found: `chosen` is to be revoked, the rest needs nothing."""

    chosen: tuple[Chosen, ...]
    revoked: int
    being_revoked: int
    expired: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """What one signer lets through: `room` now, `limit` an hour; `done_at` when all that waits will be revoked.

    Under a limit of `enough` all would go through now: what was revoked in the last hour counts, too.
    """

    signer_id: int
    waiting: int
    limit: int
    room: int
    enough: int
    done_at: dt.datetime


# Choosing.


def of_account(store: Store, account: str) -> Iterator[CertificateRecord]:
    yield from _pages(store, account=account)


def of_authority(store: Store, authority: str) -> Iterator[CertificateRecord]:
    if authority not in (known := store.mass_revocation.authorities()):
        raise OperatorError(f"there is no certificate of a sub-CA {authority!r}; there are some of: {_listed(known)}")
    yield from _pages(store, authority=authority)


def of_family(store: Store, family: str) -> Iterator[CertificateRecord]:
    families: dict[str, list[str]] = {}
    for authority in store.mass_revocation.authorities():
        families.setdefault(_family(authority), []).append(authority)
    if family not in families:
        raise OperatorError(f"there is no certificate of a family {family!r}; there are some of: {_listed(families)}")
    for authority in families[family]:
        yield from _pages(store, authority=authority)


def of_key(store: Store, key: str) -> Iterator[CertificateRecord]:
    """By a file with the key (public key, certificate or request), or by SHA-256 of its SubjectPublicKeyInfo."""
    if _DIGEST.fullmatch(digest := key.replace(":", "").lower()):
        wanted = bytes.fromhex(digest)

        def matches(info: bytes) -> bool:
            return hashlib.sha256(info).digest() == wanted
    else:
        identity = identify_key(read_public_key(Path(key)))

        def matches(info: bytes) -> bool:
            return identify_key(info).digest == identity.digest

    for record in _pages(store):
        try:
            found = matches(certified_key_info(_tbs(record)))
        except PeerError:
            continue  # the certificate of an original signer, or one that somebody has written into the store
        if found:
            yield record


def of_list(store: Store, path: Path) -> Iterator[CertificateRecord]:
    """By serial numbers in a file, one a line; raises OperatorError when one of them is not here."""
    unknown: list[str] = []
    for number, line in enumerate(_read_list(path), start=1):
        serial = line.partition("#")[0].strip()
        if not serial:
            continue
        try:
            found = store.certificates.look_up(serial)
        except Refused as refusal:
            unknown.append(f"line {number}: {refusal.message}")
            continue
        if int(_SEPARATORS.sub("", serial), 16) == int(found.serial_number, 16):
            yield found
        else:
            # What people may type in place of one number is, in a list, one that was cut off.
            unknown.append(f"line {number}: {serial} is only the beginning of a serial number: give all of its digits")
    if unknown:
        more = f" (and {len(unknown) - _SHOWN} more)" if len(unknown) > _SHOWN else ""
        raise OperatorError(f"{path}: {'; '.join(unknown[:_SHOWN])}{more}; nothing was planned")


def choose(found: Iterable[CertificateRecord], *, also_expired: bool, now: dt.datetime) -> Choice:
    """Leave out what is revoked, or will be, or needs it no more; each certificate once, the oldest first."""
    records = {each.number: each for each in found}
    chosen: list[Chosen] = []
    left: Counter[str] = Counter()
    for _, record in sorted(records.items()):
        if record.revocation_state != "none":
            left[record.revocation_state] += 1
        elif record.not_after < now and not also_expired:
            left["expired"] += 1
        else:
            chosen.append(Chosen(record=record, sha256=hashlib.sha256(record.der).hexdigest()))
    return Choice(
        chosen=tuple(chosen), revoked=left["revoked"], being_revoked=left["requested"], expired=left["expired"]
    )


def read_public_key(path: Path) -> bytes:
    """SubjectPublicKeyInfo from a public key, certificate or request, PEM or DER; raises OperatorError."""
    try:
        with path.open("rb") as file:
            octets = file.read(_LARGEST_KEY_FILE)
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the key: {error.strerror}") from error
    if b"PRIVATE KEY" in octets:
        raise OperatorError(
            f"{path}: this is a private key: give its public half or a certificate. Whoever has the key can prove "
            "that it is compromised, which no cap holds up: `cassiopeia certificate revoke SERIAL --key FILE`"
        )
    for read in _READERS:
        try:
            return read(octets)
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
            continue
    raise OperatorError(
        f"{path}: this is no public key, certificate or request that can be read, in PEM or DER; or give SHA-256 of "
        "the SubjectPublicKeyInfo, in 64 hexadecimal digits"
    )


# When it will be done.


def paces(store: Store, additional: Mapping[str, int], *, now: dt.datetime) -> tuple[Pace, ...]:
    """For each signer that has told its cap, and of whose sub-CAs revocations wait: until when.

    `additional` counts by authority those that are not in the queue yet. All that waits there counts, too.
    """
    hour_ago = now - dt.timedelta(hours=1)
    used, waiting = store.mass_revocation.revoked_since(hour_ago), Counter(store.mass_revocation.waiting())
    waiting.update(additional)
    found = []
    for signer in store.signers.list():
        limit = _cap(signer)
        names = {str(each.get("name")) for each in signer.report.get("authorities", ())}
        count = sum(times for name, times in waiting.items() if name in names)
        if limit is None or not count:
            continue
        spent = sum(times for name, times in used.items() if name in names)
        room = max(0, limit - spent)
        found.append(
            Pace(
                signer_id=signer.signer_id,
                waiting=count,
                limit=limit,
                room=room,
                enough=spent + count,
                done_at=now + takes(count, limit=limit, room=room),
            )
        )
    return tuple(found)


def takes(count: int, *, limit: int, room: int) -> dt.timedelta:
    """How long it takes until so many are through, when there is `room` now and `limit` an hour.

    An hour of the signer is up to a minute longer, and who has to wait is told to come again at a place in a line.
    """
    hours = math.ceil(max(0, count - room) / limit)
    return hours * (_HOUR + _STEP + 2 * _HOUR / limit)


def _cap(signer: SignerStatus) -> int | None:
    caps = signer.report.get("orders", {}).get("caps", ())
    limit = next((each.get("limit") for each in caps if each.get("name") == REVOCATIONS), None)
    return limit if isinstance(limit, int) and limit > 0 else None


def _family(authority: str) -> str:
    try:
        return parse_authority_name(authority)[0]
    except OperatorError:
        return authority  # taken over from elsewhere, under a name of another form


def _pages(store: Store, **conditions: Any) -> Iterator[CertificateRecord]:
    after = None
    while True:
        page = store.certificates.page(after=after, limit=_PAGE, **conditions)
        yield from page.items
        if page.next_page is None:
            return
        after = page.next_page


def _read_list(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            octets = file.read(_LARGEST_LIST + 1)
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the list: {error.strerror}") from error
    if len(octets) > _LARGEST_LIST:
        raise OperatorError(f"{path}: the list has more than {_LARGEST_LIST} octets: split it")
    try:
        return octets.decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise OperatorError(f"{path}: a list has serial numbers in hexadecimal digits, one a line") from None


def _tbs(record: CertificateRecord) -> bytes:
    return der.split_signed(record.der)[0]


def _of_key(key: Any) -> bytes:
    info: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return info


_READERS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda octets: _of_key(load_pem_public_key(octets)),
    lambda octets: _of_key(load_der_public_key(octets)),
    lambda octets: _of_key(x509.load_pem_x509_certificate(octets).public_key()),
    lambda octets: _of_key(x509.load_der_x509_certificate(octets).public_key()),
    lambda octets: _of_key(x509.load_pem_x509_csr(octets).public_key()),
    lambda octets: _of_key(x509.load_der_x509_csr(octets).public_key()),
)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
