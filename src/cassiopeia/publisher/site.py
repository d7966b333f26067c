"""What the world asks over HTTP: CRLs and CA certificates as files, and OCSP (RFC 6960 A, RFC 5019 5 and 6).

Every request is bounded, and whatever comes gets an answer. Files are those of the public directory, by exactly the
names that CAs have there: nothing else of the disk can be named. No answer depends on who asks.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime as dt
import email.utils
import hashlib
import html
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from cassiopeia.core import ocsp
from cassiopeia.core.ocsp import ErrorStatus
from cassiopeia.publisher.answering import Answer, Answerer

_log = logging.getLogger(__name__)

OCSP_RESPONSE: Final = "application/ocsp-response"
_BODY_TIME_LIMIT_S: Final = 10.0
# A request in a URL (RFC 5019 5): its base64, escaped where it has to be.
_MAXIMUM_PATH_CHARACTERS: Final = 2 * ocsp.MAXIMUM_REQUEST_OCTETS
_MAXIMUM_FILE_OCTETS: Final = 4 * 1024 * 1024
_FILE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}(\.crl\.pem|\.crl|\.crt|\.pem)|fingerprints\.txt")
# RFC 2585 4; PEM has no type of its own.
_MEDIA_TYPES: Final = {".crl": "application/pkix-crl", ".crt": "application/pkix-cert", ".txt": "text/plain"}
_PEM: Final = "application/x-pem-file"
_HEADERS: Final = {"X-Content-Type-Options": "nosniff"}
_NOT_KEPT: Final = {"Cache-Control": "no-store", **_HEADERS}


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """One site. OCSP is asked at `path`; caches may keep what they get for `cached`."""

    directory: Path
    answerer: Answerer
    path: str
    cached: dt.timedelta
    clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)

    def application(self) -> Starlette:
        application = Starlette(
            routes=[
                Route("/", self._front_page, methods=["GET", "HEAD"]),
                Route(self.path, self._ocsp_post, methods=["POST"]),
                Route(f"{self.path}/", self._ocsp_post, methods=["POST"]),
                Route(f"{self.path}/{{request:path}}", self._ocsp_get, methods=["GET", "HEAD"]),
                Route("/{name}", self._file, methods=["GET", "HEAD"]),
            ],
            exception_handlers={Exception: _our_bug},
        )
        # Those would go to whatever host the request names.
        application.router.redirect_slashes = False
        return application

    async def _ocsp_post(self, request: Request) -> Response:
        octets = bytearray()
        try:
            async with asyncio.timeout(_BODY_TIME_LIMIT_S):
                async for part in request.stream():
                    octets += part
                    if len(octets) > ocsp.MAXIMUM_REQUEST_OCTETS:
                        return _refusal(413, "an OCSP request is shorter than this")
        except TimeoutError:
            return _refusal(408, "the request took too long")
        except ClientDisconnect:
            return _refusal(400, "the request was cut short")
        answer = self.answerer.answer(bytes(octets), now=self.clock())
        return Response(answer.octets, media_type=OCSP_RESPONSE, headers=_NOT_KEPT)

    async def _ocsp_get(self, request: Request) -> Response:
        """RFC 5019 5: the request in base64 behind the path; answers may be kept (6.2)."""
        text = request.path_params["request"]
        if len(text) > _MAXIMUM_PATH_CHARACTERS:
            return _refusal(414, "an OCSP request is shorter than this")
        try:
            octets = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            octets = b""
        now = self.clock()
        answer = self.answerer.answer(octets, now=now) if octets else _malformed()
        if answer.this_update is None or answer.next_update is None:
            return Response(answer.octets, media_type=OCSP_RESPONSE, headers=_NOT_KEPT)
        seconds = int(min(self.cached, answer.next_update - now).total_seconds())
        headers = {
            "Cache-Control": f"max-age={max(0, seconds)}, public, no-transform, must-revalidate",
            "Expires": _http_date(now + dt.timedelta(seconds=max(0, seconds))),
        }
        # RFC 5019 6.2 wants Last-Modified to be thisUpdate, which stands while nextUpdate moves on: nobody may be told
        # by it that an answer which has ended is still the one.
        headers["Last-Modified"] = _http_date(answer.this_update)
        return _kept(request, answer.octets, OCSP_RESPONSE, modified=None, headers=headers)

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not _FILE_NAME.fullmatch(name):
            return _refusal(404, "there is no such file")
        try:
            content, modified = await asyncio.to_thread(_read, self.directory / name)
        except FileNotFoundError:
            return _refusal(404, "there is no such file")
        except OSError as error:
            _log.error("%s: cannot be served: %s", self.directory / name, error.strerror or error)
            return _refusal(503, "this file cannot be read now")
        seconds = int(self.cached.total_seconds())
        media_type = _MEDIA_TYPES.get(Path(name).suffix, _PEM)
        headers = {"Cache-Control": f"max-age={seconds}, public, no-transform"}
        return _kept(request, content, media_type, modified=modified, headers=headers)

    async def _front_page(self, request: Request) -> Response:
        page = await asyncio.to_thread(_page, self.directory)
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return _kept(request, page.encode(), "text/html", modified=None, headers=headers)


def _read(path: Path) -> tuple[bytes, dt.datetime]:
    with path.open("rb") as file:
        content = file.read(_MAXIMUM_FILE_OCTETS + 1)
        # Of the file that was read: another may have taken its name by now.
        seconds = os.fstat(file.fileno()).st_mtime
    if len(content) > _MAXIMUM_FILE_OCTETS:
        raise OSError(f"it has more than {_MAXIMUM_FILE_OCTETS} octets")
    return content, dt.datetime.fromtimestamp(int(seconds), dt.UTC)


def _kept(
    request: Request, content: bytes, media_type: str, *, modified: dt.datetime | None, headers: dict[str, str]
) -> Response:
    """An answer that caches may keep and ask about again (RFC 9110 13.1)."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_HEADERS, **headers, "ETag": tag}
    if modified is not None:
        headers["Last-Modified"] = _http_date(modified)
    asked = request.headers.get("if-none-match")
    if asked is not None:
        # Weak comparison; what a request names besides is of no interest.
        same = asked.strip() == "*" or tag in [each.strip().removeprefix("W/") for each in asked.split(",")]
    else:
        same = modified is not None and _not_before(modified, request.headers.get("if-modified-since", ""))
    if same:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _not_before(modified: dt.datetime, asked: str) -> bool:
    try:
        since = email.utils.parsedate_to_datetime(asked)
    except (TypeError, ValueError):
        return False
    return since.tzinfo is not None and modified.replace(microsecond=0) <= since


def _http_date(moment: dt.datetime) -> str:
    return email.utils.format_datetime(moment.astimezone(dt.UTC).replace(microsecond=0), usegmt=True)


def _malformed() -> Answer:
    return Answer(octets=ocsp.error_response(ErrorStatus.MALFORMED_REQUEST))


def _refusal(status: int, reason: str) -> Response:
    return Response(f"{reason}\n", status_code=status, media_type="text/plain", headers=_NOT_KEPT)


async def _our_bug(_request: Request, _error: Exception) -> Response:
    """What went wrong stands in the log; whoever asked hears that it may be tried again."""
    return Response(ocsp.error_response(ErrorStatus.INTERNAL_ERROR), 500, media_type=OCSP_RESPONSE, headers=_NOT_KEPT)


_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Certificates and CRLs</title>
<style>body {{ font-family: sans-serif; margin: 2em; }} td, th {{ padding: 0.2em 1em 0.2em 0; text-align: left; }}
code {{ overflow-wrap: anywhere; }}</style>
<h1>Certificates and CRLs</h1>
<p>Compare the fingerprint of a root certificate with one that you have from somewhere else before you install it.</p>
<table>
<tr><th>CA<th>Certificate<th>CRL<th>Valid until<th>SHA-256
{rows}
</table>
</html>
"""


def _page(directory: Path) -> str:
    """Every CA certificate that is published, roots first."""
    rows = []
    for path in sorted(directory.glob("*.crt")):
        try:
            certificate = x509.load_der_x509_certificate(path.read_bytes())
            is_root = certificate.subject == certificate.issuer
            end = certificate.not_valid_after_utc
        except (OSError, ValueError):
            continue  # half a file is served as it is, and is no CA that could be named here
        name = html.escape(path.stem)
        crl = f'<a href="{name}.crl">DER</a> <a href="{name}.crl.pem">PEM</a>' if _has_crl(path) else ""
        fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":")
        row = f'<tr><td>{name}<td><a href="{name}.crt">DER</a> <a href="{name}.pem">PEM</a><td>{crl}'
        rows.append((not is_root, f"{row}<td>{end:%Y-%m-%d}<td><code>{fingerprint}</code>"))
    return _PAGE.format(rows="\n".join(row for _, row in sorted(rows)))


def _has_crl(certificate: Path) -> bool:
    return certificate.with_suffix(".crl").is_file()
