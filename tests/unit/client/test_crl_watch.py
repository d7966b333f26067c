"""What the world gets, judged: of which CA it is, how new, and for which URLs that matters."""

from __future__ import annotations

import dataclasses
import datetime as dt
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authorities import NOW, TestCa, default_authority, default_ca, make_ca, p256_key
from tests.support.client_store import opened_client_store
from tests.support.syncing import DAY, make_crl, put
from tests.support.web import Pages, serving

from cassiopeia.client import crl_watch
from cassiopeia.client.crl_watch import CrlWatch, Expected, WatchedCrl, judge, watched_crls
from cassiopeia.client.fetching import Fetched
from cassiopeia.config import AuthorityEntry, ChainEntry, load_client_config
from cassiopeia.errors import OperatorError
from cassiopeia.store.database import Store
from cassiopeia.store.records import ServedCrl

CA = "unassured_2026_2"
WATCHED = WatchedCrl(name=CA, url="http://crl.example.org/a.crl", certificate=default_ca().der)
HOUR = dt.timedelta(hours=1)


def look_at(octets: bytes, expected: bytes | None = None, *, now: dt.datetime = NOW + 2 * HOUR) -> ServedCrl:
    published = None if expected is None else Expected(octets=expected, published_at=NOW)
    return judge(WATCHED, Fetched(octets=octets, media_type="application/pkix-crl"), expected=published, now=now)


def foreign_crl(
    ca: TestCa, *, number: int | None = None, next_update: dt.datetime | None = NOW + DAY, point: bool = False
) -> bytes:
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.certificate.subject).last_update(NOW)
    builder = builder.next_update(next_update or NOW + DAY)
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    if point:
        issued = x509.IssuingDistributionPoint(
            full_name=[x509.UniformResourceIdentifier("http://a")],
            relative_name=None,
            only_contains_user_certs=False,
            only_contains_ca_certs=False,
            only_some_reasons=None,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        )
        builder = builder.add_extension(issued, critical=True)
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_the_published_one() -> None:
    octets = make_crl(7)
    seen = look_at(octets, octets)
    assert (seen.state, seen.number, seen.this_update) == ("served", 7, NOW)
    assert seen.next_update == NOW + 10 * DAY
    assert "number 7, good until 2026-12-03" in seen.what
    assert look_at(octets).state == "served"


def test_the_media_type_is_mentioned_and_no_alarm() -> None:
    octets = make_crl(7)
    fetched = Fetched(octets=octets, media_type="text/plain")
    seen = judge(WATCHED, fetched, expected=None, now=NOW)
    assert (seen.state, "text/plain" in seen.what) == ("served", True)


def test_an_older_one_is_stale_once_caches_had_their_time() -> None:
    older, newer = make_crl(7), make_crl(8, this_update=NOW + HOUR)
    assert look_at(older, newer, now=NOW + HOUR).state == "served"
    seen = look_at(older, newer, now=NOW + HOUR + dt.timedelta(seconds=1))
    assert (seen.state, seen.number) == ("stale", 7)
    assert "number 7 of 2026-11-23" in seen.what


def test_a_newer_one_is_what_another_client_has_published() -> None:
    assert look_at(make_crl(8), make_crl(7)).state == "served"


def test_one_that_has_run_out() -> None:
    octets = make_crl(7)
    assert look_at(octets, octets, now=NOW + 10 * DAY).state == "stale"
    assert look_at(octets, octets, now=NOW + 10 * DAY - dt.timedelta(seconds=1)).state == "served"


def test_two_of_one_number() -> None:
    seen = look_at(make_crl(7, this_update=NOW + HOUR), make_crl(7))
    assert (seen.state, "another one" in seen.what) == ("wrong", True)


def test_one_that_is_dated_ahead() -> None:
    octets = make_crl(7, this_update=NOW + 2 * HOUR)
    assert look_at(octets, now=NOW).state == "wrong"
    assert look_at(octets, now=NOW + HOUR).state == "served"


def test_what_is_not_this_cas() -> None:
    stranger = make_ca(CA, key=ec.generate_private_key(ec.SECP256R1()))
    assert "does not verify" in look_at(foreign_crl(stranger)).what
    assert look_at(foreign_crl(make_ca("other", key=p256_key()))).what == "it is the CRL of another CA"
    for octets in (b"", b"<html>", default_ca().der, make_crl(7) + b"\0"):
        seen = look_at(octets)
        assert (seen.state, seen.number) == ("wrong", None)
        assert "no CRL in DER" in seen.what
    assert "<html>" in look_at(b"<html>").what
    assert look_at(foreign_crl(default_ca(), number=1 << 159)).state == "served"
    assert look_at(foreign_crl(default_ca(), number=(1 << 160) + 1)).what == "its number is not one"


def test_a_root_of_somebody_else_may_say_more_in_its_lists() -> None:
    seen = look_at(foreign_crl(default_ca(), point=True))
    assert (seen.state, seen.number) == ("served", None)
    assert "without a number" in seen.what
    # Without numbers the dates tell which one is newer.
    older = foreign_crl(default_ca())
    assert look_at(older, make_crl(7, this_update=NOW + HOUR), now=NOW + 3 * HOUR).state == "stale"


def test_what_was_published_and_is_none_is_not_compared_with() -> None:
    assert look_at(make_crl(7), b"rubbish").state == "served"


def certified(name: str, issuer: TestCa, url: str, *, until: dt.datetime = NOW + 100 * DAY) -> bytes:
    """A CA certificate that says where its issuer's CRL is."""
    point = x509.DistributionPoint(
        full_name=[x509.UniformResourceIdentifier(url), x509.UniformResourceIdentifier("ldap://no")],
        relative_name=None,
        reasons=None,
        crl_issuer=None,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.certificate.subject)
        .public_key(p256_key().public_key())
        .serial_number(5)
        .not_valid_before(NOW - DAY)
        .not_valid_after(until)
        .add_extension(x509.CRLDistributionPoints([point]), critical=False)
    )
    return builder.sign(p256_key(), hashes.SHA256()).public_bytes(Encoding.DER)


def watched(
    *, now: dt.datetime = NOW, published: tuple[str, ...] = (), **changes: dt.datetime
) -> list[tuple[str, str]]:
    root, structure = make_ca("root", key=p256_key()), "http://pki/root.crl"
    chain = [
        ChainEntry(name="root", certificate=root.der, issuer="root"),
        ChainEntry(name="structure", certificate=certified("structure", root, structure), issuer="root"),
    ]
    authority = dataclasses.replace(
        default_authority(),
        certificate=certified("a", root, "http://pki/structure.crl"),
        crl_urls=("http://pki/a.crl",),
    )
    authority = dataclasses.replace(authority, **changes)  # type: ignore[arg-type] # dates
    entries = [AuthorityEntry(authority=authority, issuer="structure", key="")] * 2
    return [(each.name, each.url) for each in watched_crls(entries, chain, published=published, now=now)]


def test_every_url_of_every_certificate_once() -> None:
    assert watched() == [
        (CA, "http://pki/a.crl"),
        ("structure", "http://pki/structure.crl"),
        ("root", "http://pki/root.crl"),
    ]


def test_nobody_needs_the_crl_of_what_has_ended() -> None:
    assert watched(now=NOW + 101 * DAY, not_after=NOW + 100 * DAY) == []


def test_a_dormant_sub_ca_is_watched_from_its_first_crl_on() -> None:
    assert (CA, "http://pki/a.crl") not in watched(issues_from=NOW + DAY)
    assert (CA, "http://pki/a.crl") in watched(issues_from=NOW + DAY, published=(CA,))


def test_a_ca_above_that_is_not_known_here_is_not_watched() -> None:
    authority = dataclasses.replace(default_authority(), crl_urls=())
    entries = [AuthorityEntry(authority=authority, issuer="unknown", key="")]
    assert watched_crls(entries, [], published=(), now=NOW) == ()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with opened_client_store(tmp_path, monkeypatch) as opened:
        Path("ca.pem").write_bytes(default_ca().pem)
        Path("public").mkdir()
        yield opened


@pytest.fixture
def web() -> Iterator[Pages]:
    with serving() as pages:
        yield pages


def declare(*urls: str) -> None:
    Path("authorities.toml").write_text(
        f'[[authority]]\nname = "{CA}"\ncertificate = "ca.pem"\nissuer = "{CA[:-7]}"\nsigner_id = 1\n'
        f"issues_from = 2026-11-01T00:00:00Z\nissues_until = 2027-01-01T00:00:00Z\ncrl_urls = {list(urls)}\n"
        f'[[ca]]\nname = "{CA[:-7]}"\ncertificate = "ca.pem"\nissuer = "{CA[:-7]}"\n'
    )


def today() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def test_a_look_over_the_net_goes_into_the_store(store: Store, web: Pages) -> None:
    octets = make_crl(7, this_update=today() - HOUR)
    put(store, octets)
    web.by_path["/a.crl"] = octets
    good, bad = web.url("/a.crl"), web.url("/none")
    declare(good, bad)
    watch = CrlWatch(load_client_config(Path("client.toml")), store)
    seen = watch.look()
    assert [(each.url, each.state) for each in seen] == [(good, "served"), (bad, "unreachable")]
    first = store.served_crls.list()
    assert {each.url: each.what for each in first}[bad] == "the server answers 404"
    # What stays as it is does so since the first look; what is not watched any more goes.
    web.by_path["/a.crl"] = b"<html>"
    watch.look()
    again = {each.url: each for each in store.served_crls.list()}
    assert {again[bad].since} == {each.seen_at for each in first}
    assert again[bad].seen_at > (again[bad].since or today())
    assert again[good].state == "wrong"
    assert again[good].since == again[good].seen_at
    declare(good)
    watch.look()
    assert [each.url for each in store.served_crls.list()] == [good]


def test_what_is_published_of_an_offline_ca_is_what_should_be_served(store: Store, web: Pages) -> None:
    """Its CRL came with a bundle, and lies in the public directory."""
    declare(web.url("/a.crl"))
    web.by_path["/a.crl"] = make_crl(7, this_update=today())
    published = Path(f"public/{CA}.crl")
    published.write_bytes(make_crl(8, this_update=today()))
    watch = CrlWatch(load_client_config(Path("client.toml")), store)
    assert [each.state for each in watch.look()] == ["served"]
    os.utime(published, (0, (today() - 2 * HOUR).timestamp()))
    assert [each.state for each in watch.look()] == ["stale"]


def test_a_server_that_is_slow_is_waited_for_once(store: Store, web: Pages) -> None:
    all_are_asked = threading.Barrier(2, timeout=20)

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        all_are_asked.wait()
        handler.send_error(503)

    web.by_path = {"/a": answer, "/b": answer}
    declare(web.url("/a"), web.url("/b"))
    seen = CrlWatch(load_client_config(Path("client.toml")), store).look()
    assert [each.what for each in seen] == ["the server answers 503"] * 2


def test_who_is_asked_to_stop_writes_nothing_half_down(
    store: Store, web: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crl_watch, "_AT_ONCE", 1)
    declare(web.url("/a"), web.url("/b"))
    watch = CrlWatch(load_client_config(Path("client.toml")), store)
    assert watch.look(until=lambda: len(web.asked) == 1) == ()
    assert web.asked == ["/a"]
    assert store.served_crls.list() == ()


def test_a_configuration_that_is_broken_now_is_read_again_later(store: Store, web: Pages) -> None:
    declare(web.url("/a"))
    watch = CrlWatch(load_client_config(Path("client.toml")), store)
    Path("authorities.toml").write_text("nonsense")
    with pytest.raises(OperatorError, match=r"authorities\.toml"):
        watch.look()
    assert watch._look_or_wait(900, until=lambda: False) == 60
    declare(web.url("/a"))
    assert watch._look_or_wait(900, until=lambda: False) == 900
    assert [each.state for each in store.served_crls.list()] == ["unreachable"]
