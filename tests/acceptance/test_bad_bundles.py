"""Bundles, shares and disks as they should not be, by the commands that people type: one clear line, nothing changed.

What each place refuses in detail is tested beside it; here everything is what ceremonies really made.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from examples.system import System
from tests.support.acceptance import QuickSystem
from tests.support.lives import SERVER
from tests.support.warm_commands import WarmCommands

from cassiopeia.ceremony.shares import WORDS, read_share_file
from cassiopeia.ceremony.unlocking import unlock
from cassiopeia.core.bundle import Bundle, read_bundle, sign_bundle
from cassiopeia.core.ed25519 import public_octets
from cassiopeia.files import write_file

HIERARCHY = f"""
organisation = "House"
url_base = "http://pki.house.test"
crl_months = 12

[root]
common_name = "House Root"
key_algorithm = "P-256"
years = 20

[structure]
key_algorithm = "P-256"
years = 10

[time]
key_algorithm = "P-256"
months = 6
periods = 2
outlives_years = 1

[[family]]
name = "unassured"
common_name = "House Servers"
extended_key_usage = ["serverAuth"]
profiles = ["{SERVER}"]

[[signer]]
id = 5
"""
SIGNER_CONFIG, CLIENT_CONFIG = ("-c", "ca/signer/signer.toml"), ("-c", "ca/client/client.toml")
VALIDATOR_CONFIG = ("-c", "ca/validator/validator.toml")
PASSPHRASE = ("--passphrase-file", "first/signer-5.passphrase")
SMALLEST, STEP = 4096, 24 * 1024


@pytest.fixture(scope="module")
def system(commands: WarmCommands) -> Iterator[System]:
    """A hierarchy of two ceremonies, another one like it, and machines; the signer has installed nothing yet."""
    with (
        TemporaryDirectory(prefix="ca-") as directory,
        QuickSystem(directory=Path(directory), commands=commands) as made,
    ):
        (made.directory / "house.toml").write_text(HIERARCHY)
        for out in ("first", "other"):
            made.run("ceremony", "run", "house.toml", "--out", out, "--shares", "3", "--threshold", "2")
        made.run("ceremony", "crl", *safe("first", 1, 2), "--revoke", sub_ca(made), "--out", "second")
        (made.directory / "ca").mkdir()
        key = ["--bundle-key", "first/bundle-key.pem"]
        made.run("signer", "init", "ca/signer", "--id", "5", "--listen", "unix:s.sock", *key)
        journal = ["--signer", "ca/signer/link.pem", "--journal", "ca/signer/journal.pem"]
        made.run("client", "init", "ca/client", "--connect", "unix:../signer/s.sock", *journal, *key)
        made.run(*INSTALLING["client"], "first/client.bundle")
        made.run("validator", "init", "ca/validator", "--client", "ca/client/client.toml")
        yield made


def safe(ceremony: str, *numbers: int) -> list[str]:
    """The options that open a ceremony's safe, by these shares of the first."""
    shares = [word for number in numbers for word in ("--share", f"first/shares/share-{number}.txt")]
    return ["--offline", f"{ceremony}/offline.bundle", *shares]


def sub_ca(system: System) -> str:
    return min(path.stem for path in (system.directory / "first/public").glob("unassured_*.pem"))


def everything(directory: Path) -> dict[str, bytes]:
    """Every file and link, with what is in it."""
    return {
        str(path.relative_to(directory)): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def refused(system: System, *command: str) -> str:
    """It ends with one line, and leaves everything as it was; return the line."""
    before = everything(system.directory)
    done = system.run(*command, status=1)
    assert everything(system.directory) == before
    [line] = done.stderr.splitlines()
    assert line.startswith("cassiopeia: error: ")
    assert "Traceback" not in done.stdout
    return line


def put(system: System, name: str, octets: bytes) -> str:
    (system.directory / name).write_bytes(octets)
    return name


def flipped(system: System, name: str, place: float) -> str:
    """A copy with one bit turned over, so far into the file."""
    octets = bytearray((system.directory / name).read_bytes())
    octets[int(place * (len(octets) - 1))] ^= 0x10
    return put(system, "flipped", bytes(octets))


INSTALLING = {
    "signer-5": ("signer", "install", *SIGNER_CONFIG, *PASSPHRASE),
    "client": ("client", "install", *CLIENT_CONFIG),
    "publication": ("client", "install", *CLIENT_CONFIG),
    "validator": ("validator", "install", *VALIDATOR_CONFIG),
}


def bundle(ceremony: str, kind: str) -> str:
    return f"{ceremony}/{'client' if kind == 'validator' else kind}.bundle"


@pytest.mark.parametrize("kind", INSTALLING)
def test_a_flipped_bit(system: System, kind: str) -> None:
    for place in (0.0, 0.01, 0.3, 0.7, 0.99, 1.0):
        line = refused(system, *INSTALLING[kind], flipped(system, bundle("first", kind), place))
        assert "nothing was changed: take this machine's bundle from the ceremony once more" in line
        assert "hierarchy" not in line


@pytest.mark.parametrize("kind", INSTALLING)
def test_another_hierarchy(system: System, kind: str) -> None:
    assert "belongs to another hierarchy" in refused(system, *INSTALLING[kind], bundle("other", kind))


def _swapped(given: Bundle) -> Bundle:
    """Each of two keys under the name of the other."""
    first, second = given.secrets
    secrets = (replace(first, octets=second.octets), replace(second, octets=first.octets))
    return replace(given, secrets=secrets)


def bundle_key(system: System) -> Ed25519PrivateKey:
    """What signs the bundles of this hierarchy: in the safe."""
    shares = [(path.name, read_share_file(path)) for path in sorted((system.directory / "first/shares").iterdir())]
    return unlock(system.directory / "first/offline.bundle", shares=shares[:2]).safe.bundle_key


def test_a_key_that_does_not_fit_its_certificate(system: System) -> None:
    key = bundle_key(system)
    given = read_bundle((system.directory / "first/signer-5.bundle").read_bytes(), public_key=public_octets(key))
    spoilt = put(system, "spoilt", sign_bundle(_swapped(given), key))

    line = refused(system, *INSTALLING["signer-5"], spoilt)

    assert f"the key of {sub_ca(system)} does not belong to the certificate of this sub-CA" in line


def test_the_passphrase_of_another_signer(system: System) -> None:
    command = ["signer", "install", *SIGNER_CONFIG, "--passphrase-file", "other/signer-5.passphrase"]

    assert "cannot be unlocked" in refused(system, *command, "first/signer-5.bundle")


def altered(system: System, number: int) -> str:
    """A share in which two words have changed places."""
    path = system.directory / f"first/shares/share-{number}.txt"
    words = read_share_file(path).words
    assert len(words) == WORDS
    return put(system, "altered.txt", " ".join([*words[:10], words[11], words[10], *words[12:]]).encode())


COMMANDS = {
    "crl": ("ceremony", "crl"),
    "extend": ("ceremony", "extend", "house.toml", "--period", "2099-1"),
    "reshare": ("ceremony", "share", "reshare", "--shares", "3", "--threshold", "2"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_shares_that_do_not_open_the_safe(system: System, command: str) -> None:
    words = (*COMMANDS[command], "--out", "out")
    strange = ["--share", "other/shares/share-2.txt"]

    assert "opens with 2 of the 3 shares" in refused(system, *words, *safe("second"))
    assert "1 of the 2 shares that are needed: get 1 more" in refused(system, *words, *safe("second", 1))
    assert "another one is needed instead" in refused(system, *words, *safe("second", 1, 1))
    assert "other/shares/share-2.txt: is a share of the set" in refused(system, *words, *safe("second", 1), *strange)
    said = refused(system, *words, *safe("second", 1), "--share", altered(system, 2))
    assert "altered.txt: its words do not fit together" in said
    spoilt = flipped(system, "second/offline.bundle", 0.6)
    shares = safe("second", 1, 2)[2:]
    assert f"{spoilt}: is no offline bundle, or a damaged one" in refused(system, *words, "--offline", spoilt, *shares)
    assert not (system.directory / "out").exists()


@pytest.fixture
def small_disk(system: System) -> Iterator[Path]:
    """A disk of 4 MiB, mounted where the signer unpacks its bundles."""
    place = system.directory / "ca/signer/bundles"
    place.mkdir(mode=0o700, exist_ok=True)
    options = ["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(place)]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode != 0:
        pytest.skip("this needs the right to mount: run as root, outside of a container without CAP_SYS_ADMIN")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def leave_room(place: Path, octets: int) -> None:
    """Let another file take all but so much of the disk."""
    filler = place / "filler"
    filler.unlink(missing_ok=True)
    said = subprocess.run(
        ["stat", "--file-system", "--format=%a %S", str(place)], check=True, capture_output=True, text=True
    ).stdout
    blocks, size = map(int, said.split())
    write_file(filler, bytes(max(0, blocks * size - octets)))


def until_it_fits(system: System, place: Path, *command: str) -> int:
    """Give a command more and more room, until it ends well; return how often it did not."""
    room = failed = 0
    while True:
        leave_room(place, room := room + (STEP if failed else SMALLEST))
        if system.execute(command).returncode == 0:
            return failed
        assert "No space left on device" in refused(system, *command)
        assert [path.name for path in place.iterdir()] == ["filler"]
        failed += 1


def test_a_disk_that_runs_full_in_the_middle(system: System, small_disk: Path) -> None:
    """Of an installation, and of a ceremony."""
    out = small_disk / "out"
    assert until_it_fits(system, small_disk, "ceremony", "crl", *safe("second", 2, 3), "--out", str(out)) >= 3
    for path in sorted(out.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    out.rmdir()
    assert until_it_fits(system, small_disk, *INSTALLING["signer-5"], "first/signer-5.bundle") >= 2
    assert (small_disk / "current").readlink() == Path("0001")


def test_an_older_one_than_is_installed(system: System) -> None:
    for kind, command in INSTALLING.items():
        system.run(*command, bundle("first", kind))
        system.run(*command, bundle("second", kind))
        if kind == "publication":
            # What it would make older stays as it is.
            before = everything(system.directory)
            system.run(*command, bundle("first", kind))
            assert everything(system.directory) == before
        else:
            assert "its number is 1, and 2 is in force" in refused(system, *command, bundle("first", kind))
