"""Where the keys of sub-CAs are, which library signs with each, and which one looks at its signatures a second time.

Owns the tables `[keys]`, `[authority.NAME]` and `[pkcs11]` of signer.toml. They belong to the machine, not to the
ceremony: a bundle brings certificates, and this is where one line switches a library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import msgspec

from cassiopeia.config.toml import CaName, Table, Text, beside
from cassiopeia.core.key_uri import PKCS11, FileUri, KeyUri, Pkcs11Uri, parse_key_uri
from cassiopeia.errors import ConfigurationError, OperatorError
from cassiopeia.secret_source import SecretSource

_PASSPHRASE: Final = "the passphrase of the CA keys"  # noqa: S105 - what messages call it
_PIN: Final = "the PIN of the token"
_NONE: Final = "none"

# What messages say of a value that does not match stands in a comment at the beginning.
_Backend = Annotated[str, msgspec.Meta(pattern=r"(?#openssl, gnutls or wolfssl)^(openssl|gnutls|wolfssl)\Z")]
_Verifier = Annotated[
    str, msgspec.Meta(pattern=r"(?#openssl, gnutls, wolfssl or none)^(openssl|gnutls|wolfssl|none)\Z")
]
_Credential = Annotated[
    str, msgspec.Meta(pattern=r"(?#a word of letters, digits and . _ -)^[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}\Z")
]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyUse:
    """How one sub-CA signs: where its key is (paths absolute), and who verifies beside OpenSSL, which always does.

    `verify_with` is empty where nobody does.
    """

    uri: KeyUri
    verify_with: str = ""

    @property
    def backend(self) -> str:
        return self.uri.backend if isinstance(self.uri, FileUri) else PKCS11


@dataclass(frozen=True, kw_only=True, slots=True)
class KeysConfig:
    """`[keys]`, `[authority.NAME]` and `[pkcs11]`: `passphrase` opens key files, `pin` tokens whose URI names none.

    `module` is the PKCS#11 library of such tokens; `sessions` bounds the sessions with one token (0: its own limit).
    """

    source: str
    passphrase: SecretSource
    backend: str
    verify_with: str
    authorities: Mapping[str, AuthorityTable]
    module: str
    pin: SecretSource | None
    sessions: int

    def use(self, name: str, uri: str, *, directory: Path) -> KeyUse:
        """How the sub-CA of this name signs, whose `uri` stands in an authorities.toml of this directory.

        Raises ConfigurationError.
        """
        table = self.authorities.get(name, AuthorityTable())
        base, text = (directory, uri) if table.key is None else (Path(self.source).parent, table.key)
        try:
            found = resolve_key_uri(parse_key_uri(text), base)
        except OperatorError as error:
            raise self._fault(name, "key", str(error)) from error
        if isinstance(found, FileUri):
            if table.backend and found.backend not in ("", table.backend):
                raise self._fault(name, "backend", f"the key's URI says backend={found.backend}: leave one of both out")
            found = replace(found, backend=table.backend or found.backend or self.backend)
        elif table.backend:
            raise self._fault(name, "backend", "a token signs by itself: leave this out")
        second = table.verify_with or self.verify_with
        use = KeyUse(uri=found, verify_with="" if second == _NONE else second)
        if use.verify_with == use.backend:
            raise self._fault(
                name,
                "verify_with",
                f"{use.backend} signs already, and would be asked about its own work: name another, or write "
                f'[authority.{name}] verify_with = "none"',
            )
        return use

    def _fault(self, name: str, key: str, reason: str) -> ConfigurationError:
        return ConfigurationError(reason, source=self.source, key=f"authority.{name}.{key}")


class AuthorityTable(Table, frozen=True, kw_only=True):
    """`[authority.NAME]`: what this machine does otherwise with one sub-CA's key."""

    key: Text | None = None
    backend: _Backend | None = None
    verify_with: _Verifier | None = None


class KeysTable(Table, frozen=True, kw_only=True):
    passphrase_file: Path | None = None
    # systemd.exec(5): the name becomes a file name below $CREDENTIALS_DIRECTORY.
    passphrase_credential: _Credential | None = None
    sealing_key: Path = Path("sealing.key")
    backend: _Backend = "openssl"
    verify_with: _Backend | None = None


class Pkcs11Table(Table, frozen=True, kw_only=True):
    module: Path | None = None
    pin_file: Path | None = None
    pin_credential: _Credential | None = None
    sessions: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0


AuthorityTables = dict[CaName, AuthorityTable]


def read_keys(path: Path, keys: KeysTable, pkcs11: Pkcs11Table, authorities: AuthorityTables) -> KeysConfig:
    """What these tables of the signer.toml at `path` say; raises ConfigurationError."""
    if (keys.passphrase_file is None) == (keys.passphrase_credential is None):
        raise ConfigurationError(
            "give either passphrase_file or passphrase_credential", source=str(path), key="keys.passphrase_file"
        )
    if pkcs11.pin_file is not None and pkcs11.pin_credential is not None:
        raise ConfigurationError("give either pin_file or pin_credential", source=str(path), key="pkcs11.pin_file")
    has_pin = pkcs11.pin_file is not None or pkcs11.pin_credential is not None
    return KeysConfig(
        source=str(path.absolute()),
        passphrase=_secret(path, _PASSPHRASE, keys.passphrase_file, keys.passphrase_credential),
        backend=keys.backend,
        verify_with=keys.verify_with or "",
        authorities=authorities,
        module="" if pkcs11.module is None else str(beside(path, pkcs11.module)),
        pin=_secret(path, _PIN, pkcs11.pin_file, pkcs11.pin_credential) if has_pin else None,
        sessions=pkcs11.sessions,
    )


def resolve_key_uri(uri: KeyUri, directory: Path) -> KeyUri:
    """The same key with absolute paths, where they were relative to the directory."""
    match uri:
        case FileUri(path=path):
            return replace(uri, path=str(directory.absolute() / path))
        case Pkcs11Uri(pin_source=pin_source, module_path=module):
            kind, _, place = pin_source.partition(":")
            return replace(
                uri,
                pin_source=f"file:{directory.absolute() / place}" if kind == "file" else pin_source,
                module_path=str(directory.absolute() / module) if module else "",
            )


def _secret(path: Path, what: str, file: Path | None, credential: str | None) -> SecretSource:
    return SecretSource(what=what, file=None if file is None else beside(path, file), credential=credential or "")
