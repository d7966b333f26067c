from __future__ import annotations

import datetime as dt
import errno
import itertools
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from shamir_mnemonic import combine_mnemonics
from tests.support.safes import LONG_AGO, make_safe, put_away, put_away_split, shows

from cassiopeia import files
from cassiopeia.ceremony.record import Record
from cassiopeia.ceremony.resharing import OLD_COPIES, reshare
from cassiopeia.ceremony.safe import Safe, kept_record, read_offline
from cassiopeia.ceremony.shares import Share, read_share_file
from cassiopeia.ceremony.unlocking import OpenedSafe, check_bundle_key, unlock
from cassiopeia.ceremony.writing import Held, Split
from cassiopeia.errors import OperatorError

LATER = LONG_AGO + dt.timedelta(days=40)


@pytest.fixture(scope="module")
def safe() -> Safe:
    return make_safe()


@pytest.fixture
def opened(safe: Safe, tmp_path: Path) -> OpenedSafe:
    return unlock(put_away(safe, tmp_path))


def make_new(opened: OpenedSafe, out: Path, *, shares: int = 3, threshold: int = 2, now: dt.datetime = LATER) -> Held:
    return reshare(opened, out, split_into=Split(shares=shares, threshold=threshold), clock=lambda: now, say=print)


def named(shares: Sequence[Share]) -> list[tuple[str, Share]]:
    return [(f"share {share.number}", share) for share in shares]


def written(out: Path) -> list[Share]:
    return [read_share_file(path) for path in sorted((out / "shares").iterdir())]


def public_keys(safe: Safe) -> dict[str, bytes]:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {name: key.public_key().public_bytes(*form) for name, key in safe.keys.items()}


def record_of(bundle: Path) -> Record:
    return kept_record(read_offline(bundle)[1])


def test_the_new_shares_open_the_same_keys_and_the_old_ones_do_not(safe: Safe, tmp_path: Path) -> None:
    bundle, old = put_away_split(safe, tmp_path)
    held = make_new(unlock(bundle, shares=named(old[1:])), tmp_path / "new", shares=5, threshold=3)
    assert len(held.rehearsed) == 10
    new_bundle, new = tmp_path / "new" / "offline.bundle", written(tmp_path / "new")
    for chosen in itertools.combinations(new, 3):
        assert public_keys(unlock(new_bundle, shares=named(chosen)).safe) == public_keys(safe)
    with pytest.raises(OperatorError, match=r"^2 of the 3 shares that are needed"):
        unlock(new_bundle, shares=named(new[:2]))
    with pytest.raises(OperatorError, match=r"^share 1: is a share of the set .*, and this safe opens with the set"):
        unlock(new_bundle, shares=named(old))
    assert unlock(bundle, shares=named(old[:2])).safe.record.number == 1, "old copies open as before"


def test_it_is_the_next_ceremony_and_changes_nothing_else(opened: OpenedSafe, tmp_path: Path) -> None:
    held = make_new(opened, tmp_path / "new")
    record, old = record_of(tmp_path / "new" / "offline.bundle"), opened.safe.record
    assert (record.number, record.made_at) == (old.number + 1, LATER)
    assert record == held.outcome.safe.record
    assert record.shares is not None
    assert (record.shares.threshold, len(record.shares.commitments)) == (2, 3)
    assert (record.authorities, record.root_key, record.awaited) == (old.authorities, old.root_key, old.awaited)
    again = unlock(tmp_path / "new" / "offline.bundle", shares=named(written(tmp_path / "new"))).safe
    assert again.certificates == opened.safe.certificates
    assert {name: crl.public_bytes(Encoding.DER) for name, crl in again.crls.items()} == {
        name: crl.public_bytes(Encoding.DER) for name, crl in opened.safe.crls.items()
    }
    assert again.bundle_public_pem == opened.safe.bundle_public_pem == (tmp_path / "new/bundle-key.pem").read_bytes()
    assert again.declaration.hierarchy == opened.safe.declaration.hierarchy


def test_no_secret_is_anywhere_but_in_the_shares(opened: OpenedSafe, tmp_path: Path) -> None:
    make_new(opened, tmp_path / "new")
    secret = unlock(tmp_path / "new" / "offline.bundle", shares=named(written(tmp_path / "new"))).secret
    shares = written(tmp_path / "new")
    assert combine_mnemonics([" ".join(share.words) for share in shares[:2]]) == secret
    for path in (tmp_path / "new").rglob("*"):
        if path.is_file():
            octets = path.read_bytes()
            assert secret not in octets
            assert secret.hex().encode() not in octets
            assert opened.secret.hex().encode() not in octets
            if path.parent.name != "shares":
                assert not any(shows(share, octets.decode("latin-1")) for share in shares)
    assert not (tmp_path / "new" / "offline.passphrase").exists()


def test_what_is_written_is_for_its_owner_alone(opened: OpenedSafe, tmp_path: Path) -> None:
    make_new(opened, tmp_path / "new")
    made = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    assert {path.relative_to(tmp_path / "new").as_posix() for path in made if path.is_file()} == {
        "offline.bundle",
        "bundle-key.pem",
        "shares/share-1.txt",
        "shares/share-2.txt",
        "shares/share-3.txt",
        "transcript.txt",
        "transcript.html",
    }
    assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} == {0o700}


def test_the_transcript_says_what_was_done_and_what_is_left_to_do(opened: OpenedSafe, tmp_path: Path) -> None:
    make_new(opened, tmp_path / "new")
    text = re.sub(r"\s+", " ", (tmp_path / "new" / "transcript.txt").read_text())
    assert "Ceremony 2 of Cassiopeia: new shares" in text
    assert "opened ceremony 1 of 2026-01-23 12:30 UTC" in text
    for sentence in OLD_COPIES:
        assert sentence in text
    for number in (1, 2, 3):
        assert f"Share {number}: name, signature, number of its bag: ____" in text
    assert "1 1, 2 2 1, 3 3 2, 3" in text, "the choices that were rehearsed"


def test_keys_can_be_had_without_this_software(opened: OpenedSafe, tmp_path: Path) -> None:
    """SLIP-39 gives the secret; in hex it is the passphrase; openssl opens what the bundle holds."""
    make_new(opened, tmp_path / "new")
    secret = combine_mnemonics([" ".join(share.words) for share in written(tmp_path / "new")[1:]])
    octets = (tmp_path / "new" / "offline.bundle").read_bytes()
    begin, end = b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"-----END ENCRYPTED PRIVATE KEY-----"
    pems = [begin + each.split(end)[0] + end + b"\n" for each in octets.split(begin)[1:]]
    assert len(pems) == len(opened.safe.keys) + 1
    found = set()
    for pem in pems:
        done = subprocess.run(
            ["openssl", "pkey", "-passin", f"pass:{secret.hex()}", "-pubout", "-outform", "DER"],
            input=pem,
            capture_output=True,
            check=True,
        )
        found.add(done.stdout)
    assert set(public_keys(opened.safe).values()) < found


def test_numbers_that_cannot_be(opened: OpenedSafe, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="2 shares of which 3 are needed"):
        make_new(opened, tmp_path / "new", shares=2, threshold=3)
    assert not (tmp_path / "new").exists()


def test_a_clock_before_the_last_ceremony_is_wrong(opened: OpenedSafe, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"clock says 2026-01-22 12:30 UTC, and the safe is from ceremony 1 of"):
        make_new(opened, tmp_path / "new", now=LONG_AGO - dt.timedelta(days=1))
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(opened: OpenedSafe, tmp_path: Path) -> None:
    make_new(opened, tmp_path / "new")
    before = {path: path.read_bytes() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    with pytest.raises(OperatorError, match="is there already, and a ceremony is never overwritten"):
        make_new(opened, tmp_path / "new")
    assert {path: path.read_bytes() for path in (tmp_path / "new").rglob("*") if path.is_file()} == before


def test_what_a_killed_one_left_is_named(
    opened: OpenedSafe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".new.abcdef").mkdir()
    make_new(opened, tmp_path / "new")
    assert ".new.abcdef: was left by a ceremony that was ended by force" in capsys.readouterr().out


# offline.bundle, bundle-key.pem, three shares, two transcripts.
@pytest.mark.parametrize("fails", range(8))
def test_a_full_disk_at_any_file_leaves_nothing(
    opened: OpenedSafe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    genuine, before, writes = files.write_file, sorted(tmp_path.rglob("*")), itertools.count()

    def full(path: Path, content: bytes | str, *, mode: int = files.SECRET) -> None:
        if next(writes) == fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        genuine(path, content, mode=mode)

    monkeypatch.setattr(files, "write_file", full)
    if fails == 7:  # there is no eighth file
        assert make_new(opened, tmp_path / "new").rehearsed
        return
    with pytest.raises(OperatorError, match=r"new: No space left on device: nothing was made; mend that and run"):
        make_new(opened, tmp_path / "new")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_share_that_is_not_on_the_disk_as_it_should_be_ends_it(
    opened: OpenedSafe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = files.write_file

    def damaged(path: Path, content: bytes | str, *, mode: int = files.SECRET) -> None:
        if path.name == "share-2.txt":
            assert isinstance(content, str)
            content = content[:-1] + "x\n"
        genuine(path, content, mode=mode)

    monkeypatch.setattr(files, "write_file", damaged)
    with pytest.raises(OperatorError, match=r"share-2.txt: word 33 is no word of the list"):
        make_new(opened, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_how_a_safe_opens_is_said(safe: Safe, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir()
    parted.mkdir()
    bundle = put_away(safe, whole)
    split_bundle, shares = put_away_split(safe, parted)
    assert unlock(bundle).safe.record.number == 1
    assert unlock(bundle, passphrase_file=whole / "offline.passphrase").secret == unlock(bundle).secret
    with pytest.raises(OperatorError, match="give one of the two"):
        unlock(split_bundle, passphrase_file=whole / "offline.passphrase", shares=named(shares))
    with pytest.raises(OperatorError, match=r"is not split into shares: give the file offline.passphrase"):
        unlock(bundle, shares=named(shares))
    with pytest.raises(OperatorError, match=r"opens with 2 of the 3 shares of the set '.*': give their files, or"):
        unlock(split_bundle)
    with pytest.raises(OperatorError, match=r"does not open with this passphrase, or these shares"):
        unlock(split_bundle, passphrase_file=whole / "offline.passphrase")
    (whole / "offline.passphrase").unlink()
    with pytest.raises(OperatorError, match=r"offline.passphrase: cannot read the safe's passphrase: No such file"):
        unlock(bundle)


def test_the_bundle_key_says_whose_safe_it_is(safe: Safe, tmp_path: Path) -> None:
    _, bundle = read_offline(put_away(safe, tmp_path))
    pinned = tmp_path / "pinned.pem"
    pinned.write_bytes(safe.bundle_public_pem)
    check_bundle_key(bundle, pinned, source="b")
    pinned.write_bytes(make_safe().bundle_public_pem)
    with pytest.raises(OperatorError, match=r"^b: is signed by another bundle key than .*pinned.pem: it is false, or"):
        check_bundle_key(bundle, pinned, source="b")
    pinned.write_text("no key")
    with pytest.raises(OperatorError, match=r"pinned.pem: is no public key in PEM; name the bundle-key.pem"):
        check_bundle_key(bundle, pinned, source="b")
    with pytest.raises(OperatorError, match=r"missing: cannot read the bundle key: No such file"):
        check_bundle_key(bundle, tmp_path / "missing", source="b")
