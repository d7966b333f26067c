"""What comes over HTTP, asked the way a server of the kind that ASGI knows asks."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import email.utils
import os
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from cryptography.x509 import ocsp
from tests.support.authorities import NOW, default_ca, make_ca, p256_key
from tests.support.ocsp_requests import asked
from tests.support.publishing import LATER, Publishing

from cassiopeia.core.ocsp import MAXIMUM_REQUEST_OCTETS
from cassiopeia.publisher.site import OCSP_RESPONSE, Site

CACHED_S = 300


@dataclass(frozen=True, kw_only=True)
class Heard:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ocsp(self) -> ocsp.OCSPResponse:
        assert (self.status, self.headers["content-type"]) == (200, OCSP_RESPONSE)
        return ocsp.load_der_ocsp_response(self.body)

    @property
    def said(self) -> str:
        if self.ocsp.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return self.ocsp.response_status.name
        return self.ocsp.certificate_status.name


@pytest.fixture
def site(serving: Publishing) -> Site:
    ca = default_ca()
    for name, octets in {
        "unassured_2026_2.crl": serving.made.crls[-1],
        "unassured_2026_2.crl.pem": b"-----",
        "unassured_2026_2.crt": ca.der,
        "unassured_2026_2.pem": ca.pem,
        "root.crt": make_ca("root", key=p256_key()).der,
        "half.crt": b"\x30\x82",
        "fingerprints.txt": b"ab:cd\n",
        "secret.key": b"a mistake",
    }.items():
        path = serving.config.directory / name
        path.write_bytes(octets)
        os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    return Site(
        directory=serving.config.directory,
        answerer=serving.answerer,
        path="/ocsp",
        cached=dt.timedelta(seconds=CACHED_S),
        clock=lambda: LATER,
    )


@pytest.fixture
def serial(serving: Publishing) -> int:
    return int.from_bytes(serving.made.serial(next(iter(serving.made.tbs))), "big")


def ask(
    site: Site,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    body: Sequence[bytes] = (),
    cut: bool = False,
    dawdles: bool = False,
) -> Heard:
    sent: list[MutableMapping[str, Any]] = []
    parts = [{"type": "http.request", "body": each, "more_body": True} for each in body]
    parts.append({"type": "http.disconnect"} if cut else {"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> MutableMapping[str, Any]:
        if dawdles:
            await asyncio.Event().wait()
        return parts.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    asyncio.run(site.application()(scope, receive, send))
    return Heard(
        status=sent[0]["status"],
        headers={name.decode(): value.decode() for name, value in sent[0]["headers"]},
        body=b"".join(each.get("body", b"") for each in sent[1:]),
    )


def in_url(octets: bytes) -> str:
    return f"/ocsp/{quote(base64.b64encode(octets), safe='')}"


@pytest.mark.parametrize("path", ["/ocsp", "/ocsp/"])
def test_a_request_that_is_posted_is_answered_and_not_kept(site: Site, serial: int, path: str) -> None:
    octets = asked(serial)

    heard = ask(site, "POST", path, body=[octets[:10], octets[10:]])

    assert heard.said == "GOOD"
    assert heard.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "as-it-is"])
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "bare"])
def test_a_request_in_the_url_is_answered_and_kept_for_a_while(
    site: Site, serial: int, *, escaped: bool, padded: bool
) -> None:
    text = base64.b64encode(asked(serial)).decode()
    text = text if padded else text.rstrip("=")

    heard = ask(site, "GET", f"/ocsp/{quote(text, safe='') if escaped else text}")

    assert heard.said == "GOOD"
    assert heard.headers["cache-control"] == f"max-age={CACHED_S}, public, no-transform, must-revalidate"
    expires = email.utils.parsedate_to_datetime(heard.headers["expires"])
    assert expires == LATER + dt.timedelta(seconds=CACHED_S)
    assert email.utils.parsedate_to_datetime(heard.headers["last-modified"]) == heard.ocsp.this_update_utc


def test_nobody_keeps_an_answer_longer_than_it_holds(site: Site, serving: Publishing, serial: int) -> None:
    serving.certify(wish_to="1d")
    serving.look()
    almost = LATER + dt.timedelta(days=1) - dt.timedelta(seconds=100)
    site = replace(site, answerer=serving.answerer, clock=lambda: almost)

    heard = ask(site, "GET", in_url(asked(serial)))

    seconds = int(heard.headers["cache-control"].partition(",")[0].removeprefix("max-age="))
    assert 0 <= seconds < 100


def test_whoever_has_the_answer_is_not_sent_it_again(site: Site, serial: int) -> None:
    url = in_url(asked(serial))
    first = ask(site, "GET", url)

    for headers in (
        {"if-none-match": first.headers["etag"]},
        {"if-none-match": f'"other", W/{first.headers["etag"]}'},
        {"if-none-match": "*"},
    ):
        again = ask(site, "GET", url, headers)
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    for headers in (
        {"if-none-match": '"other"', "if-modified-since": first.headers["last-modified"]},
        {"if-modified-since": "Mon, 01 Jan 2001 00:00:00 GMT"},
        {"if-modified-since": "yesterday"},
        # thisUpdate stands, and the answer ends all the same.
        {"if-modified-since": first.headers["last-modified"]},
    ):
        assert ask(site, "GET", url, headers).status == 200


@pytest.mark.parametrize("path", ["/root.crt/", "/ocsp//", "/none/"])
def test_nobody_is_sent_elsewhere(site: Site, path: str) -> None:
    heard = ask(site, "GET", path, {"host": "evil.example"})

    assert "location" not in heard.headers
    assert heard.status in {200, 404}


def test_half_a_file_is_not_served(
    site: Site, serving: Publishing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cassiopeia.publisher.site._MAXIMUM_FILE_OCTETS", 10)
    (serving.config.directory / "long.crl").write_bytes(bytes(11))

    assert ask(site, "GET", "/long.crl").status == 503
    assert "it has more than 10 octets" in caplog.text


def test_an_unknown_certificate_is_nothing_to_keep(site: Site) -> None:
    heard = ask(site, "GET", in_url(asked(5)))

    assert (heard.said, heard.headers["cache-control"]) == ("UNKNOWN", "no-store")


@pytest.mark.parametrize("path", ["/ocsp/!!!!", "/ocsp/AAAA", "/ocsp/%ff%00", "/ocsp/Zg==Zg=="])
def test_nonsense_in_the_url_is_malformed(site: Site, path: str) -> None:
    heard = ask(site, "GET", path)

    assert (heard.said, heard.headers["cache-control"]) == ("MALFORMED_REQUEST", "no-store")


@pytest.mark.parametrize("octets", [b"", b"\x00", b"\x30\x80", os.urandom(200)], ids=["none", "zero", "open", "any"])
def test_nonsense_that_is_posted_is_malformed(site: Site, octets: bytes) -> None:
    assert ask(site, "POST", "/ocsp", body=[octets]).said == "MALFORMED_REQUEST"


def test_what_is_too_long_is_not_read(site: Site) -> None:
    assert ask(site, "POST", "/ocsp", body=[b"x" * 1024] * 100_000).status == 413
    assert ask(site, "GET", "/ocsp/" + "A" * (2 * MAXIMUM_REQUEST_OCTETS + 1)).status == 414


def test_whoever_goes_away_or_dawdles_costs_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(site, "POST", "/ocsp", body=[b"\x30"], cut=True).status == 400

    monkeypatch.setattr("cassiopeia.publisher.site._BODY_TIME_LIMIT_S", 0.0)
    assert ask(site, "POST", "/ocsp", dawdles=True).status == 408


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("unassured_2026_2.crl", "application/pkix-crl"),
        ("unassured_2026_2.crl.pem", "application/x-pem-file"),
        ("unassured_2026_2.crt", "application/pkix-cert"),
        ("unassured_2026_2.pem", "application/x-pem-file"),
        ("fingerprints.txt", "text/plain; charset=utf-8"),
    ],
)
def test_files_are_served_as_what_they_are(site: Site, serving: Publishing, name: str, media_type: str) -> None:
    heard = ask(site, "GET", f"/{name}")

    assert heard.body == (serving.config.directory / name).read_bytes()
    assert heard.headers["content-type"] == media_type
    assert heard.headers["cache-control"] == f"max-age={CACHED_S}, public, no-transform"
    assert email.utils.parsedate_to_datetime(heard.headers["last-modified"]) == NOW
    assert ask(site, "GET", f"/{name}", {"if-none-match": heard.headers["etag"]}).status == 304
    assert ask(site, "GET", f"/{name}", {"if-modified-since": heard.headers["last-modified"]}).status == 304
    head = ask(site, "HEAD", f"/{name}")
    assert head.headers["etag"] == heard.headers["etag"]


@pytest.mark.parametrize(
    "path",
    [
        "/secret.key",
        "/none.crl",
        "/../publisher/publisher.toml",
        "/..%2fpublisher%2fresponder.pem",
        "/%2e%2e/x.pem",
        "/.hidden.crl",
        "/a/b.crl",
        "/x.crl%00.pem",
        "/" + "a" * 5000 + ".crl",
    ],
)
def test_nothing_else_of_the_disk_is_served(site: Site, path: str) -> None:
    assert ask(site, "GET", path).status == 404


def test_a_file_that_cannot_be_read_is_said(site: Site, serving: Publishing, caplog: pytest.LogCaptureFixture) -> None:
    (serving.config.directory / "broken.crl").mkdir()

    assert ask(site, "GET", "/broken.crl").status == 503
    assert "cannot be served: Is a directory" in caplog.text


@pytest.mark.parametrize(("method", "path"), [("PUT", "/ocsp"), ("DELETE", "/root.crt"), ("POST", "/root.crt")])
def test_nothing_can_be_written(site: Site, method: str, path: str) -> None:
    assert ask(site, method, path).status in {404, 405}


def test_the_front_page_names_every_ca_roots_first(site: Site) -> None:
    heard = ask(site, "GET", "/")

    page = heard.body.decode()
    assert heard.headers["content-type"] == "text/html; charset=utf-8"
    assert page.index('href="root.crt"') < page.index('href="unassured_2026_2.crt"')
    assert "half" not in page
    assert 'href="unassured_2026_2.crl"' in page
    assert 'href="root.crl"' not in page, "there is none"
    assert "<script" not in page


def test_our_own_bug_is_called_so(site: Site, serving: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(serving.answerer, "answer", fails)
    with pytest.raises(ZeroDivisionError):  # behind the answer, for the log
        ask(site, "POST", "/ocsp", body=[b"x"])


def test_a_full_directory_name_is_no_file_name(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside.pem"
    outside.write_bytes(b"outside")

    assert ask(site, "GET", f"/{outside}").status == 404
