"""Looks at the CRLs that the world really gets: fetched from the URLs that stand in certificates, as a stranger would.

Owns which URLs those are (of sub-CAs from authorities.toml, of the CAs above them from the certificates that they have
issued), and the judgement of what is served there: is it this CA's, is it the newest, when does it end. Believes no
web server, no cache and no directory. What it saw goes into the store, where `ops` makes concerns of it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import selectors
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from cassiopeia.client.fetching import Fetched, fetch
from cassiopeia.config import (
    AuthorityEntry,
    ChainEntry,
    ClientConfig,
    load_authorities,
    load_chain,
    load_client_config,
)
from cassiopeia.core import algorithms, der
from cassiopeia.errors import OperatorError, PeerError, Unavailable
from cassiopeia.store.database import Store
from cassiopeia.store.records import ServedCrl, ServedState
from cassiopeia.termination import Termination

_log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/pkix-crl"  # RFC 2585 4.2
# CRLs of ours have less than one; a root that somebody else runs may have more.
_OCTETS_AT_MOST: Final = 16 << 20
_TIME_LIMIT_S: Final = 30.0
# A server that answers nothing must not make a look at fifty CRLs last for fifty time limits.
_AT_ONCE: Final = 8
# Caches between the publisher and the world may hold a CRL for so long.
GRACE: Final = dt.timedelta(hours=1)
# Clocks differ by minutes.
_AHEAD_AT_MOST: Final = dt.timedelta(hours=1)
_STORE_RETRY_S: Final = 60.0
_LONGEST_URL: Final = 1024
_NUMBER_BITS: Final = 160  # RFC 5280 5.2.3

Fetch = Callable[[str], Fetched]


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """The CRL that should be served, and since when it is published."""

    octets: bytes
    published_at: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedCrl:
    """One URL at which the CRL of the CA called `name`, of this certificate, is to be had."""

    name: str
    url: str
    certificate: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadCrl:
    """What a CRL says, whosever it is. `number` is None in one without."""

    number: int | None
    this_update: dt.datetime
    next_update: dt.datetime | None


class CrlWatch:
    """Looks at every URL, again and again."""

    def __init__(self, config: ClientConfig, store: Store, *, fetch: Fetch | None = None) -> None:
        self._config = config
        self._store = store
        self._fetch = fetch or _fetch

    def run(self, *, every_s: float) -> None:
        """Look until SIGTERM or SIGINT; a store that is away is tried again."""
        with selectors.DefaultSelector() as selector:
            termination = Termination(selector)
            try:
                while not termination.requested:
                    wait_s = self._look_or_wait(every_s, until=lambda: termination.requested)
                    for key, mask in selector.select(0.0 if termination.requested else wait_s):
                        key.data(mask)
            finally:
                termination.close()

    def look(self, *, until: Callable[[], bool] = lambda: False) -> tuple[ServedCrl, ...]:
        """Fetch and judge every CRL once, and write down what was seen; raises Unavailable and OperatorError.

        Nothing is written down when it has to stop before the end, because `until` is true.
        """
        now = dt.datetime.now(dt.UTC)
        # Anew each time: a bundle with new sub-CAs may have been installed.
        self._config = load_client_config(self._config.source)
        watched = watched_crls(
            load_authorities(self._config.authorities),
            load_chain(self._config.authorities),
            published={each.authority for each in self._store.crls.headers()},
            now=now,
        )
        seen: list[ServedCrl] = []
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            for start in range(0, len(watched), _AT_ONCE):
                if until():
                    return ()
                some = watched[start : start + _AT_ONCE]
                # Before the fetching: what is published meanwhile is newer than what may be served.
                expected = [self._expected(each.name) for each in some]
                seen += threads.map(lambda each, newest: self._look_at(each, newest, now=now), some, expected)
        self._store.served_crls.record(seen)
        for each in seen:
            level = logging.INFO if each.state == "served" else logging.WARNING
            _log.log(level, "CRL of %s at %s: %s: %s", each.authority, each.url, each.state, each.what)
        return tuple(seen)

    def _look_or_wait(self, every_s: float, *, until: Callable[[], bool]) -> float:
        try:
            self.look(until=until)
        except (Unavailable, OperatorError) as error:
            _log.warning("%s; looking again in %g seconds", error, _STORE_RETRY_S)
            return min(every_s, _STORE_RETRY_S)
        return every_s

    def _look_at(self, watched: WatchedCrl, expected: Expected | None, *, now: dt.datetime) -> ServedCrl:
        try:
            fetched = self._fetch(watched.url)
        except Unavailable as error:
            return _seen(watched, "unreachable", error.message, None, now=now)
        return judge(watched, fetched, expected=expected, now=now)

    def _expected(self, name: str) -> Expected | None:
        record = self._store.crls.get(name)
        if record is not None:
            saved = {each.authority: each.saved_at for each in self._store.crls.headers()}
            return Expected(octets=record.der, published_at=saved[name])
        # The CRL of an offline CA: it came with a publication bundle.
        path = self._config.publish_directory / f"{name}.crl"
        try:
            published_at = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
            return Expected(octets=path.read_bytes(), published_at=published_at)
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("%s: cannot be read, so that its age is not compared: %s", path, error.strerror)
            return None


def watched_crls(
    authorities: Iterable[AuthorityEntry], chain: Iterable[ChainEntry], *, published: Collection[str], now: dt.datetime
) -> tuple[WatchedCrl, ...]:
    """Every URL of a CRL that somebody may need who checks a certificate that is valid now.

    A dormant sub-CA is among them once its first CRL is `published`: its signer may not have it yet.
    """
    entries, above = tuple(authorities), {each.name: each for each in chain}
    found = [
        WatchedCrl(name=each.authority.name, url=url, certificate=each.authority.certificate)
        for each in entries
        if now <= each.authority.not_after and (each.authority.name in published or now >= each.authority.issues_from)
        for url in each.authority.crl_urls
    ]
    issued = [(each.issuer, each.authority.certificate) for each in entries]
    issued += [(each.issuer, each.certificate) for each in above.values() if each.issuer != each.name]
    for issuer, certificate in issued:
        if issuer in above:
            found += [
                WatchedCrl(name=issuer, url=url, certificate=above[issuer].certificate)
                for url in _distribution_points(certificate, now=now)
            ]
    return tuple(dict.fromkeys(found))


def judge(watched: WatchedCrl, fetched: Fetched, *, expected: Expected | None, now: dt.datetime) -> ServedCrl:
    """Say what is to be said of the octets that are served for this CA."""
    # 1. Is it this CA's?
    try:
        served = read_crl_of(fetched.octets, watched.certificate)
    except PeerError as error:
        return _seen(watched, "wrong", str(error), None, now=now)
    number = "without a number" if served.number is None else f"number {served.number}"
    # 2. By itself: is it of today?
    if served.this_update > now + _AHEAD_AT_MOST:
        return _seen(watched, "wrong", f"{number} is dated {_day(served.this_update)}, in the future", served, now=now)
    if served.next_update is None:
        return _seen(watched, "wrong", f"{number} does not say when the next one comes", served, now=now)
    if served.next_update <= now:
        return _seen(watched, "stale", f"{number} has run out on {_day(served.next_update)}", served, now=now)
    # 3. Is it the one that was published?
    newest = _expected_of(expected, watched)
    if newest is not None and expected is not None and fetched.octets != expected.octets:
        if newest.number == served.number and newest.number is not None:
            return _seen(watched, "wrong", f"{number} is another one than was published", served, now=now)
        if _is_older(served, newest) and now - expected.published_at > GRACE:
            what = f"{number} of {_day(served.this_update)}, and that of {_day(newest.this_update)} was published since"
            return _seen(watched, "stale", what, served, now=now)
    served_as = "" if fetched.media_type == MEDIA_TYPE else f", as {fetched.media_type[:80]} instead of {MEDIA_TYPE}"
    return _seen(watched, "served", f"{number}, good until {_day(served.next_update)}{served_as}", served, now=now)


def _fetch(url: str) -> Fetched:
    return fetch(url, octets_at_most=_OCTETS_AT_MOST, time_limit_s=_TIME_LIMIT_S)


def _seen(watched: WatchedCrl, state: ServedState, what: str, read: ReadCrl | None, *, now: dt.datetime) -> ServedCrl:
    return ServedCrl(
        authority=watched.name,
        url=watched.url,
        state=state,
        what=what,
        number=read.number if read else None,
        this_update=read.this_update if read else None,
        next_update=read.next_update if read else None,
        seen_at=now,
    )


def _expected_of(expected: Expected | None, watched: WatchedCrl) -> ReadCrl | None:
    if expected is None:
        return None
    try:
        return read_crl_of(expected.octets, watched.certificate)
    except PeerError as error:
        digest = hashlib.sha256(expected.octets).hexdigest()[:16]
        _log.warning("CRL of %s: what was published (%s) is not compared with: %s", watched.name, digest, error)
        return None


def _is_older(served: ReadCrl, newest: ReadCrl) -> bool:
    if served.number is None or newest.number is None:
        return served.this_update < newest.this_update
    return served.number < newest.number


def read_crl_of(octets: bytes, certificate: bytes) -> ReadCrl:
    """Read a CRL and verify it under this CA's certificate; raises PeerError.

    Not as strictly as our own (`core.crl`): a root that somebody else runs may say more in its lists.
    """
    issuer = x509.load_der_x509_certificate(certificate)
    try:
        crl = x509.load_der_x509_crl(octets)
        names = crl.issuer == issuer.subject
        number = _number(crl)
        public_key: PublicKeyTypes = issuer.public_key()
        read = ReadCrl(number=number, this_update=crl.last_update_utc, next_update=crl.next_update_utc)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension) as error:
        beginning = f" (it begins with {octets[:20]!a})" if not octets.startswith(b"\x30") else ""
        raise PeerError(f"this is no CRL in DER{beginning}: {error}") from error
    if not names:
        raise PeerError("it is the CRL of another CA")
    tbs, algorithm, signature = der.split_signed(octets)
    algorithms.verify(public_key, algorithms.algorithm_from_der(algorithm), signature, tbs)
    return read


def _number(crl: x509.CertificateRevocationList) -> int | None:
    try:
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return None
    if not 0 <= number < 1 << _NUMBER_BITS:
        raise PeerError("its number is not one")
    return number


def _distribution_points(certificate: bytes, *, now: dt.datetime) -> Iterator[str]:
    """The HTTP URLs at which a certificate says that its issuer's CRL is; none for one that has ended."""
    read = x509.load_der_x509_certificate(certificate)
    if read.not_valid_after_utc < now:
        return
    try:
        points = read.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return
    for point in points:
        for name in point.full_name or ():
            if isinstance(name, x509.UniformResourceIdentifier) and _is_watched(name.value):
                yield name.value


def _is_watched(url: str) -> bool:
    return url.startswith(("http://", "https://")) and len(url) <= _LONGEST_URL


def _day(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z"
