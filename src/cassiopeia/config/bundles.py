"""Where installed bundles lie on a machine, and which of them is in force.

Owns the layout: each is unpacked in a directory of its own, named by its number (`bundles/0007`), and the symbolic link
`bundles/current` names the one in force. Where there is one, authorities, profiles and pins come from it. Who puts
bundles there is `cassiopeia.installations`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cassiopeia.config.toml import beside
from cassiopeia.errors import ConfigurationError, OperatorError

CURRENT: Final = "current"

_NUMBER: Final = re.compile(r"[0-9]{4}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundles:
    """Where bundles are installed, the file with the key that signs them (PEM), and the one that is in force.

    `key_file` is None where no bundle can be installed, `installed` where none is in force.
    """

    directory: Path
    key_file: Path | None = None
    installed: Path | None = None

    @property
    def number(self) -> int:
        """That of the installed bundle; 0 when there is none."""
        return 0 if self.installed is None else int(self.installed.name)

    def place(self, number: int) -> Path:
        """Where the bundle of this number is unpacked."""
        return self.directory / f"{number:04d}"


def load_bundles(path: Path, directory: Path, key_file: Path | None, *, installation: Path | None) -> Bundles:
    """What the configuration file at `path` says of bundles, with the installation that is in force.

    An `installation` that is given counts instead: one that is looked at before it is put in force. Raises
    ConfigurationError.
    """
    place = beside(path, directory)
    return Bundles(
        directory=place,
        key_file=None if key_file is None else beside(path, key_file),
        installed=installation or current_installation(place),
    )


def check_installed(bundles: Bundles, needed: Path, *, command: str) -> None:
    """Raise OperatorError on a machine that waits for its first bundle: `needed` would have come with it."""
    if bundles.installed is None and bundles.key_file is not None and not needed.exists():
        raise OperatorError(f"{needed}: is not there, for no bundle is installed yet: cassiopeia {command} BUNDLE")


def current_installation(directory: Path) -> Path | None:
    """The installation in force in this directory of bundles, or None; raises ConfigurationError for a broken link."""
    link = directory / CURRENT
    try:
        name = str(link.readlink())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError(
            f"this has to be a symbolic link, as `cassiopeia signer install` makes it: {error.strerror}",
            source=str(link),
        ) from error
    if not _NUMBER.fullmatch(name) or not (directory / name).is_dir():
        raise ConfigurationError(
            f"this link names {name!r}, and no bundle is unpacked there: take it out of a backup again; or remove the "
            "link, and install the newest bundle",
            source=str(link),
        )
    return directory / name
