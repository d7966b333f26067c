"""What `cassiopeia doctor` sees of the client's machine itself: its files, its disk, its bundles. Changes nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cassiopeia.config import (
    ClientConfig,
    check_installed,
    load_authorities,
    load_chain,
    load_client_config,
    load_profiles,
)
from cassiopeia.errors import OperatorError
from cassiopeia.link.credentials import client_tls
from cassiopeia.ops import Concern, show_octets

_DISK_OCTETS: Final = 256 << 20
_DISK_URGENT_OCTETS: Final = 32 << 20
_UNPACKED: Final = re.compile(r"[0-9]{4}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """`config` is None where the client could not start with what is there. `facts` by the names of `checkup`."""

    config: ClientConfig | None
    concerns: tuple[Concern, ...]
    facts: dict[str, str]


def check_machine(path: Path) -> Machine:
    """Read everything that the client reads when it starts from the client.toml at `path`."""
    try:
        config = load_client_config(path)
        check_installed(config.bundles, config.authorities, command="client install")
        authorities = load_authorities(config.authorities)
        load_chain(config.authorities)
        profiles = load_profiles(config.profiles)
        client_tls(certificate=config.certificate, key=config.key, peers=config.peers, version=config.version)
    except OperatorError as error:
        broken = Concern(
            code="configuration",
            what=f"the client cannot start with its configuration: {error}",
            remedy="mend what is named there; docs/configuration.md explains every key",
            is_near=True,
        )
        return Machine(config=None, concerns=(broken,), facts={"configuration": ""})
    number = config.bundles.number
    free = _free_octets(config.publish_directory)
    return Machine(
        config=config,
        concerns=(*_of_directory(config.publish_directory), *_of_disk(free), *_of_bundles(config)),
        facts={
            "configuration": f"{path} can be started with: {len(authorities)} sub-CAs, {len(profiles)} profiles",
            "disk": f"{show_octets(free)} free where CRLs are published",
            "bundle": f"number {number} is in force" if number else "none was installed; the files of `init` count",
        },
    )


def _of_directory(directory: Path) -> Iterator[Concern]:
    """The client makes it when it is not there."""
    if directory.exists() and not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        yield Concern(
            code="configuration",
            what=f"{directory}, where CRLs are published, cannot be written by this user",
            remedy="run this as the client's user; if that is who you are, give the directory to it",
            is_near=True,
        )


def _free_octets(directory: Path) -> int:
    while not directory.exists():
        directory = directory.parent
    return shutil.disk_usage(directory).free


def _of_disk(free: int) -> Iterator[Concern]:
    if free < _DISK_OCTETS:
        yield Concern(
            code="disk-low",
            what=f"the disk where CRLs are published has {show_octets(free)} left",
            remedy="make room or move to a larger disk: without it no CRL is published, and no revocation counts",
            is_near=free < _DISK_URGENT_OCTETS,
        )


def _of_bundles(config: ClientConfig) -> Iterator[Concern]:
    """Killed between unpacking and putting it in force, or an older one was put back."""
    try:
        names = [each.name for each in config.bundles.directory.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return
    newest = max((int(each) for each in names if _UNPACKED.fullmatch(each)), default=0)
    if newest > config.bundles.number:
        yield Concern(
            code="bundle-left",
            what=f"bundle {newest} lies unpacked in {config.bundles.directory}, and is not in force",
            remedy="install it again (`cassiopeia client install`)",
        )
