from __future__ import annotations

import dataclasses
import datetime as dt
import errno
import hashlib
import importlib.util
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from tests.support.authorities import p256_key
from tests.support.ceremonies import declare, with_changed
from tests.support.operators import public_pem

from cassiopeia import files, sealing
from cassiopeia.ceremony import holding, inspection, proving
from cassiopeia.ceremony.conducting import planned_sub_cas, renew_crls
from cassiopeia.ceremony.declaration import Declaration, load_declaration
from cassiopeia.ceremony.hierarchy import (
    Ocsp,
    Orders,
    PinnedValidator,
    SignerMachine,
    default_hierarchy_text,
    load_hierarchy,
    with_key_algorithm,
    with_periods,
)
from cassiopeia.ceremony.pins import read_pins
from cassiopeia.ceremony.record import KnownAuthority
from cassiopeia.ceremony.shares import read_share_file
from cassiopeia.ceremony.sub_ca_request import SubCaRequest
from cassiopeia.ceremony.unlocking import OpenedSafe, unlock
from cassiopeia.ceremony.writing import Held, Split
from cassiopeia.config import load_authorities, load_chain, load_pins, load_profiles
from cassiopeia.core.bundle import Bundle, read_bundle, sealing_context
from cassiopeia.errors import OperatorError

# The linter and the CRLs look at the clock.
NOW = dt.datetime.now(dt.UTC)
SEALING_PASSPHRASE = b"only for this test"
SEALING_KEY, SEALING_PUBLIC = sealing.make_sealing_key(SEALING_PASSPHRASE)
PRIVATE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")


def clock() -> dt.datetime:
    return NOW


def declared(*, url_base: str = "http://ca.house.test", pinned: bool = True) -> Declaration:
    """Two families, of which signer 2 has one, and its own sealing key."""
    hierarchy = with_periods(with_key_algorithm(load_hierarchy(), "P-256"), 1, spares=0)
    families = tuple(each for each in hierarchy.family if each.name in {"assured", "codesign"})
    hierarchy = msgspec.structs.replace(
        hierarchy,
        family=families,
        url_base=url_base,
        signer=(SignerMachine(id=1), SignerMachine(id=2, families=("codesign",))),
    )
    if not pinned:
        return declare(hierarchy)
    keys = {"alice.pem": public_pem(0), "v.pem": public_pem(1), "publisher.pem": public_pem(2), "s.pem": SEALING_PUBLIC}
    hierarchy = msgspec.structs.replace(
        hierarchy,
        signer=(hierarchy.signer[0], msgspec.structs.replace(hierarchy.signer[1], sealing_key="s.pem")),
        orders=Orders(operators=("alice.pem",)),
        validator=(PinnedValidator(name="validator", key="v.pem"),),
        ocsp=Ocsp(responders=("publisher.pem",)),
    )
    return dataclasses.replace(declare(hierarchy), pins=read_pins(hierarchy, read=keys.__getitem__, source="test"))


def hold(out: Path, *, split: bool = False, declaration: Declaration | None = None) -> tuple[Held, list[str]]:
    said: list[str] = []
    held = holding.run(
        declaration or declared(),
        out,
        split_into=Split(shares=3, threshold=2) if split else None,
        clock=clock,
        say=said.append,
    )
    return held, said


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Held:
    return hold(tmp_path_factory.mktemp("ceremony") / "out")[0]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Held:
    return hold(tmp_path_factory.mktemp("ceremony") / "out", split=True)[0]


def opened(held: Held) -> OpenedSafe:
    return unlock(held.directory / "offline.bundle")


def bundle(directory: Path, name: str) -> Bundle:
    public = load_pem_public_key((directory / "bundle-key.pem").read_bytes())
    return read_bundle(
        (directory / name).read_bytes(),
        public_key=public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    )


def unpack(bundle: Bundle, place: Path) -> Path:
    for each in bundle.files:
        path = place / each.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(each.octets)
    return place


def test_a_ceremony_leaves_what_its_people_carry_away(held: Held) -> None:
    directory = held.directory

    assert {each.name for each in directory.iterdir()} == {
        "offline.bundle",
        "offline.passphrase",
        "bundle-key.pem",
        "signer-1.bundle",
        "signer-1.passphrase",
        "signer-2.bundle",
        "client.bundle",
        "publication.bundle",
        "public",
        "transcript.txt",
        "transcript.html",
    }
    assert directory.stat().st_mode & 0o777 == 0o700
    for path in directory.rglob("*"):
        if path.is_file() and path.parent == directory:
            assert path.stat().st_mode & 0o777 == 0o600, path
    assert [each.name for each in directory.parent.iterdir()] == ["out"]


def test_the_rehearsal_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    held, said = hold(tmp_path / "out", declaration=declared(url_base="http://pki.example.org"))

    assert [each for each in said if each.startswith("warning: url_base: nobody outside can reach 'pki.example.org'")]
    assert said[-2].startswith("Rehearsal: everything once")
    assert said[-1].startswith("The rehearsal went well.")
    assert "nobody outside can reach" in (held.directory / "transcript.txt").read_text()


def test_a_signer_is_given_its_own_and_no_more(held: Held, tmp_path: Path) -> None:
    both, one = (bundle(held.directory, f"signer-{each}.bundle") for each in (1, 2))

    for each, families, place in ((both, {"assured", "codesign"}, "1"), (one, {"codesign"}, "2")):
        directory = unpack(each, tmp_path / place)
        entries = load_authorities(directory / "authorities.toml")
        assert {entry.authority.signer_id for entry in entries} == {each.signer_id}
        assert {entry.authority.family for entry in entries} == families
        assert all(not entry.key for entry in entries)
        profiles = load_profiles(directory / "profiles")
        assert {profile.family for profile in profiles.values()} == families | {""}
        names = {"root", *families, *(entry.authority.name for entry in entries)}
        assert {path.stem for path in (directory / "certificates").iterdir()} == names
        assert sorted(secret.name for secret in each.secrets) == sorted(
            f"keys/{entry.authority.name}.key" for entry in entries
        )
        pins = load_pins(directory / "pins.toml")
        assert len(pins.operators) == len(pins.validators) == len(pins.responders) == 1


def test_a_passphrase_is_sealed_where_there_is_a_key_for_it(held: Held) -> None:
    open_one, sealed_one = (bundle(held.directory, f"signer-{each}.bundle") for each in (1, 2))

    assert open_one.sealed_passphrase is None
    assert sealed_one.sealed_passphrase is not None
    passphrases = {
        1: (held.directory / "signer-1.passphrase").read_bytes().strip(),
        2: sealing.unseal(
            sealed_one.sealed_passphrase,
            SEALING_KEY,
            SEALING_PASSPHRASE,
            context=sealing_context(root_key=sealed_one.root_key, number=1, signer_id=2),
        ),
    }
    for each in (open_one, sealed_one):
        for secret in each.secrets:
            name = secret.name.removeprefix("keys/").removesuffix(".key")
            certificate = x509.load_pem_x509_certificate(each.file(f"certificates/{name}.pem"))
            inspection.check_key(
                secret.octets,
                passphrases[each.signer_id],
                name=name,
                certificate=certificate.public_bytes(Encoding.DER),
            )
    assert len(set(passphrases.values())) == 2


def test_clients_are_told_everything_that_is_no_secret(held: Held, tmp_path: Path) -> None:
    given = bundle(held.directory, "client.bundle")
    directory = unpack(given, tmp_path)

    assert len(load_authorities(directory / "authorities.toml")) == 3
    assert [each.name for each in load_chain(directory / "authorities.toml")] == ["root", "assured", "codesign"]
    kept = load_hierarchy(directory / "hierarchy.toml")
    assert [each.id for each in kept.signer] == [1, 2]
    assert not [each.name for each in given.files if PRIVATE.search(each.octets) or "pins" in each.name]
    assert given.secrets == ()


def test_what_is_published_is_what_lies_in_public(held: Held) -> None:
    given = bundle(held.directory, "publication.bundle")

    public = held.directory / "public"
    assert {each.name for each in public.iterdir()} == {each.name for each in given.files}
    assert all((public / each.name).read_bytes() == each.octets for each in given.files)
    for name in ("root", "assured", "codesign"):
        assert x509.load_der_x509_crl(given.file(f"{name}.crl")) == x509.load_pem_x509_crl(
            given.file(f"{name}.crl.pem")
        )
    assert held.root_fingerprint in (public / "fingerprints.txt").read_text().replace(" ", "")


def test_the_transcript_says_what_was_made_and_no_secret(held: Held, split: Held) -> None:
    for each in (held, split):
        text = " ".join((each.directory / "transcript.txt").read_text().split())
        for name in each.outcome.certified:
            assert name in text
        assert each.root_fingerprint in text.replace(" ", "")
        assert "Ceremony leader" in text
        html = (each.directory / "transcript.html").read_text()
        assert "signer-1.bundle" in html
        for secret in [*each.directory.glob("*.passphrase")]:
            assert secret.read_text().strip() not in text + html
    for share in split.outcome.safe.record.shares.commitments if split.outcome.safe.record.shares else ():
        assert share in (split.directory / "transcript.txt").read_text()


def test_whoever_signs_finds_every_key_and_profile_to_compare(held: Held, tmp_path: Path) -> None:
    text = " ".join((held.directory / "transcript.txt").read_text().split())
    bare, _ = hold(tmp_path / "bare", declaration=declared(pinned=False))

    for number in range(3):
        der = load_pem_public_key(public_pem(number)).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert hashlib.sha256(der).hexdigest() in text.replace(" ", "")
    assert sealing.sealing_fingerprint(SEALING_PUBLIC) in text.replace(" ", "")
    for name, profile in held.outcome.safe.declaration.profiles.items():
        assert f"{name}.toml{hashlib.sha256(profile.encode()).hexdigest()}" in text.replace(" ", "")
    assert "None is given here" in (bare.directory / "transcript.txt").read_text()


def test_nobody_is_said_to_have_agreed_who_has_not_signed(held: Held) -> None:
    text = " ".join((held.directory / "transcript.txt").read_text().split())

    assert "It was made all the same. Whoever signs below has read each of these, and wants it so." in text
    assert text.index("Whoever signs below") < text.index("Everything was rehearsed") < text.index("Signatures")


def test_a_file_is_known_by_its_own_hash(tmp_path: Path) -> None:
    file = tmp_path / "hierarchy.toml"
    file.write_bytes(default_hierarchy_text().replace("\n", "\r\n").encode())

    assert load_declaration(file).digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_secret_that_is_split_is_written_nowhere(split: Held) -> None:
    names = {each.name for each in split.directory.iterdir()}
    assert "offline.passphrase" not in names
    shares = [(each.name, read_share_file(each)) for each in sorted((split.directory / "shares").iterdir())]

    assert [name for name, _ in shares] == ["share-1.txt", "share-2.txt", "share-3.txt"]
    assert split.rehearsed == ((1, 2), (1, 3), (2, 3))
    opened = unlock(split.directory / "offline.bundle", shares=shares[1:])
    written = b"".join(each.read_bytes() for each in split.directory.rglob("*") if each.is_file())
    assert opened.secret not in written
    assert opened.secret.hex().encode() not in written
    # The next ceremony goes on with the same shares.
    held = holding.renew(opened, split.directory.parent / "next", clock=clock, say=lambda _: None)
    assert {each.name for each in held.directory.iterdir()} & {"offline.passphrase", "shares"} == set()
    assert unlock(held.directory / "offline.bundle", shares=shares[:2]).safe.record.number == 2


def test_crls_alone_change_no_machine(held: Held, tmp_path: Path) -> None:
    then = holding.renew(opened(held), tmp_path / "out", clock=clock, say=lambda _: None)

    assert then.signers == ()
    assert not list(then.directory.glob("signer-*"))
    assert not (then.directory / "client.bundle").exists()
    assert bundle(then.directory, "publication.bundle").number == 2


def test_a_revocation_reaches_every_machine(held: Held, tmp_path: Path) -> None:
    [name] = [each.name for each in held.outcome.safe.record.time if each.family == "assured"]

    then = holding.renew(
        opened(held), tmp_path / "out", revoke=[name], reason="superseded", clock=clock, say=lambda _: None
    )

    entries = load_authorities(unpack(bundle(then.directory, "signer-1.bundle"), tmp_path / "1") / "authorities.toml")
    assert {entry.authority.name for entry in entries if entry.authority.retired} == {name}
    for each in (1, 2):
        given = bundle(then.directory, f"signer-{each}.bundle")
        assert (given.secrets, given.sealed_passphrase) == ((), None)
    assert not list(then.directory.glob("signer-*.passphrase"))
    transcript = (then.directory / "transcript.txt").read_text()
    assert "superseded" in transcript
    assert "nothing issues for assured on signer 1 any more" in " ".join(transcript.split())


def test_an_older_safe_shows_by_its_number(held: Held, tmp_path: Path) -> None:
    """Two ceremonies that begin from the same bundle: their number is the same, and no machine takes both."""
    older = opened(held)

    made = [holding.renew(older, tmp_path / place, clock=clock, say=lambda _: None) for place in ("one", "other")]

    assert [each.outcome.safe.record.number for each in made] == [2, 2]
    assert bundle(made[0].directory, "publication.bundle").number == bundle(made[1].directory, "offline.bundle").number
    for each in made:
        assert re.search(r"goes on from +ceremony 1 of 2", (each.directory / "transcript.txt").read_text())


def test_an_extension_says_when_nothing_would_issue(held: Held, tmp_path: Path) -> None:
    said: list[str] = []
    start = dt.datetime(NOW.year + 2, 1, 1, tzinfo=dt.UTC)

    then = holding.extend_hierarchy(
        opened(held), declared(), tmp_path / "out", first=start, clock=clock, say=said.append
    )

    assert len(then.outcome.certified) == 3
    warnings = [each for each in said if each.startswith("warning: calendar: nothing issues for ")]
    assert len(warnings) == 3
    assert "What a reviewer objects to" in (then.directory / "transcript.txt").read_text()
    assert all(f"until {NOW.year + 2}-01-01: make sub-CAs for that as well" in each for each in warnings)


def test_a_key_that_was_born_in_a_signer_is_in_no_bundle(tmp_path: Path) -> None:
    first = planned_sub_cas(declared().hierarchy, None, first=NOW, now=NOW)[0].name
    asked = SubCaRequest(source="born.csr", public_key=p256_key().public_key())

    held = holding.run(declared(), tmp_path / "out", requests={first: asked}, clock=clock, say=lambda _: None)

    given = bundle(held.directory, "signer-1.bundle")
    assert f"keys/{first}.key" not in [each.name for each in given.secrets]
    made = x509.load_pem_x509_certificate(given.file(f"certificates/{first}.pem"))
    assert made.public_key() == asked.public_key
    transcript = (held.directory / "transcript.txt").read_text()
    assert "No key of these CAs was ever here" in transcript
    assert re.search(rf"request for {first} +born\.csr", transcript)


def test_an_extension_by_nothing_is_refused(held: Held, tmp_path: Path) -> None:
    for declaration in (declared(), opened(held).safe.declaration):
        with pytest.raises(OperatorError, match="everything that the hierarchy wants from that period on is there"):
            holding.extend_hierarchy(
                opened(held), declaration, tmp_path / "out", first=NOW, clock=clock, say=lambda _: None
            )
    assert list(tmp_path.iterdir()) == []


def test_pins_that_changed_are_reason_enough(held: Held, tmp_path: Path) -> None:
    declaration = declared(pinned=False)

    then = holding.extend_hierarchy(
        opened(held), declaration, tmp_path / "out", first=NOW, clock=clock, say=lambda _: None
    )

    assert then.outcome.certified == ()
    pins = load_pins(unpack(bundle(then.directory, "signer-1.bundle"), tmp_path / "1") / "pins.toml")
    assert pins.operators == ()


def test_nothing_is_overwritten(held: Held, tmp_path: Path) -> None:
    before = {each: each.stat().st_mtime_ns for each in held.directory.rglob("*")}

    with pytest.raises(OperatorError, match="is there already, and a ceremony is never overwritten"):
        hold(held.directory)
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(OperatorError, match="is there already"):
        holding.renew(opened(held), file, clock=clock, say=lambda _: None)

    assert {each: each.stat().st_mtime_ns for each in held.directory.rglob("*")} == before
    assert file.read_text() == "mine"


def test_what_was_left_by_force_is_pointed_out(tmp_path: Path) -> None:
    left = tmp_path / ".out.x1y2"
    left.mkdir()

    _, said = hold(tmp_path / "out")

    assert said[0] == f"{left}: was left by a ceremony that was ended by force. Nothing in it is in use: destroy it."
    assert left.exists()


def test_the_clock_never_goes_back(held: Held, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"this machine's clock says .*: set the clock"):
        holding.renew(opened(held), tmp_path / "out", clock=lambda: NOW - dt.timedelta(days=1), say=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_stopped_begins_nothing(tmp_path: Path) -> None:
    stopped = dt.datetime(1970, 1, 1, 0, 3, tzinfo=dt.UTC)
    with pytest.raises(OperatorError, match=r"clock says 1970-01-01 00:03 UTC, when .*: set the clock"):
        holding.run(declared(), tmp_path / "out", clock=lambda: stopped, say=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_people_hear_how_long_ago_the_last_ceremony_was(held: Held, tmp_path: Path) -> None:
    said: list[str] = []
    then = NOW + dt.timedelta(days=40, minutes=1)
    holding.renew(opened(held), tmp_path / "out", clock=lambda: then, say=said.append)
    assert said[0].startswith(f"This machine's clock says {then:%Y-%m-%d %H:%M} UTC; this goes on from ceremony 1 of")
    assert said[0].endswith("Days between: 40.")


def test_without_the_linter_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(OperatorError, match="pkilint, which looks at what a ceremony makes, is not installed"):
        hold(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_a_reviewer_calls_an_error_is_not_made(tmp_path: Path) -> None:
    declaration = declared()
    profiles = {
        name: re.sub(r"maximum_validity_days = [0-9]{2,3}\n", "maximum_validity_days = 1800\n", text)
        if "ocsp" not in name
        else text
        for name, text in declaration.profiles.items()
    }

    with pytest.raises(OperatorError, match="nothing was made"):
        hold(tmp_path / "out", declaration=dataclasses.replace(declaration, profiles=profiles))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot make a directory here: No such file or directory"):
        hold(tmp_path / "none" / "out")


def test_shares_that_cannot_be_are_refused_first(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="2 shares of which 3 are needed"):
        holding.run(
            declared(), tmp_path / "out", split_into=Split(shares=2, threshold=3), clock=clock, say=lambda _: None
        )
    assert list(tmp_path.iterdir()) == []


class FullDisk:
    """Lets so many files be written; the next one meets a full disk."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = files.write_file

    def __call__(self, path: Path, content: bytes | str, *, mode: int = files.SECRET) -> None:
        if not self.room:
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        self.room -= 1
        self._write(path, content, mode=mode)


def test_a_full_disk_leaves_nothing(held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every file that is written, and while they are read again."""
    safe = opened(held)
    counter = FullDisk(1000)
    monkeypatch.setattr(files, "write_file", counter)
    holding.renew(safe, tmp_path / "whole", clock=clock, say=lambda _: None)
    written = 1000 - counter.room
    assert written > 20

    for room in range(written):
        monkeypatch.setattr(files, "write_file", FullDisk(room))
        with pytest.raises(OperatorError, match="No space left on device: nothing was made"):
            holding.renew(safe, tmp_path / "out", clock=clock, say=lambda _: None)
        assert [each.name for each in tmp_path.iterdir()] == ["whole"]


def test_a_full_disk_shows_in_the_rehearsal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "write_file", FullDisk(3))

    with pytest.raises(OperatorError, match=r"the rehearsal failed, and nothing was made: .*No space left"):
        hold(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


Spoil = Callable[[Path], None]


def flip(name: str) -> Spoil:
    def spoil(directory: Path) -> None:
        path = directory / name
        octets = bytearray(path.read_bytes())
        octets[len(octets) // 2] ^= 1
        path.write_bytes(octets)

    return spoil


def swap(one: str, other: str) -> Spoil:
    def spoil(directory: Path) -> None:
        (directory / one).write_bytes((directory / other).read_bytes())

    return spoil


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (flip("offline.bundle"), "offline.bundle: is no offline bundle, or a damaged one"),
        (flip("signer-1.bundle"), "signer-1.bundle: does not verify as it was written"),
        (flip("client.bundle"), "client.bundle: does not verify as it was written"),
        (flip("publication.bundle"), "publication.bundle: does not verify as it was written"),
        (flip("public/root.crl"), "public/root.crl: is not what the publication bundle has"),
        (flip("bundle-key.pem"), "bundle-key.pem: was not written as it should be"),
        (swap("client.bundle", "publication.bundle"), "client.bundle: says another kind"),
    ],
    ids=["offline", "signer", "client", "publication", "public", "key", "swapped"],
)
def test_what_the_disk_gives_back_otherwise_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Spoil, reason: str
) -> None:
    prove = proving.prove

    def spoiled(directory: Path, *arguments: Any, **named: Any) -> object:
        spoil(directory)
        return prove(directory, *arguments, **named)

    monkeypatch.setattr(proving, "prove", spoiled)

    with pytest.raises(OperatorError, match=re.escape(reason)):
        hold(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("adopted", "reason"),
    [
        (False, "assured: its CRL does not list exactly what was revoked"),
        (True, "assured: its CRL does not name every CA below it that is revoked"),
    ],
)
def test_a_ceremony_that_forgets_a_revocation_is_noticed(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, adopted: bool, reason: str
) -> None:
    """Proving does not believe what made it: a list without what the record calls revoked."""
    safe = opened(held)
    outcome = renew_crls(safe.safe, now=NOW)
    [name] = [each.name for each in outcome.safe.record.time if each.family == "assured"]
    revoked: KnownAuthority = msgspec.structs.replace(
        outcome.safe.record.authority(name), revoked_at=NOW.replace(microsecond=0), retired=True
    )
    issuer: KnownAuthority = msgspec.structs.replace(outcome.safe.record.authority("assured"), adopted=adopted)
    record = with_changed(with_changed(outcome.safe.record, revoked), issuer)
    false = dataclasses.replace(outcome.safe, record=record)
    monkeypatch.setattr(holding, "renew_crls", lambda *_, **__: dataclasses.replace(outcome, safe=false))

    with pytest.raises(OperatorError, match=reason):
        holding.renew(safe, tmp_path / "out", clock=clock, say=lambda _: None)
