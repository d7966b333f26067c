"""How a configuration file is read: TOML into msgspec shapes, and the values that several files have in common.

Raises `ConfigurationError` with file, key and reason. Relative paths are relative to the file that names them.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from cassiopeia.core.decoding import explain
from cassiopeia.errors import ConfigurationError, InternalError, OperatorError
from cassiopeia.link.stream import Address, parse_address

# Serial numbers begin with the id of their signer (ADR 4); this one marks what the offline CAs sign in a ceremony.
OFFLINE_SIGNER_ID: Final = 0x7F
HIGHEST_SIGNER_ID: Final = OFFLINE_SIGNER_ID - 1

# A pattern begins with a comment, which is what messages say of a value that does not match.
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Url = Annotated[str, msgspec.Meta(pattern=r"(?#an http or https URL)^https?://[!-~]{1,1000}\Z")]
CaName = Annotated[str, msgspec.Meta(pattern=r"(?#a word of letters, digits and _)^[A-Za-z][A-Za-z0-9_]{0,63}\Z")]
SignerId = Annotated[int, msgspec.Meta(ge=1, le=HIGHEST_SIGNER_ID)]
Paths = Annotated[tuple[Path, ...], msgspec.Meta(min_length=1, max_length=16)]
_T = TypeVar("_T")


def read_toml(path: Path, shape: type[_T]) -> _T:
    """Parse a TOML file into a msgspec `shape`; raises ConfigurationError with file, key and reason."""
    return parse_toml(read_text(path), shape, source=str(path))


def read_text(path: Path) -> str:
    """A whole file of UTF-8; raises ConfigurationError."""
    try:
        # As it stands there, ends of lines and all: what is hashed for people is what their tools hash.
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read this file: {error.strerror}", source=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"octet {error.start} is not UTF-8", source=str(path)) from error


def parse_toml(text: str, shape: type[_T], *, source: str) -> _T:
    """Parse TOML text into a msgspec `shape`; `source` is what messages call it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"this is not TOML: {error}", source=source) from error
    return check_shape(document, shape, source=source)


def check_shape(document: Mapping[str, Any], shape: type[_T], *, source: str) -> _T:
    """Plain values as a msgspec `shape`; raises ConfigurationError."""
    try:
        return msgspec.convert(document, shape, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        reason, key = explain(str(error))
        key = _name_table(document, shape, str(error), key)
        # In TOML it is called by another name.
        reason = reason.replace("expected object", "expected a table")
        raise ConfigurationError(reason, source=source, key=key) from error


def _name_table(document: Mapping[str, Any], shape: type[Any], message: str, key: str) -> str:
    """The key with the name of its table, for `[authority.NAME]` and the like: msgspec leaves such names out."""
    outer, unnamed, rest = key.partition("[...]")
    tables = document.get(outer)
    if not unnamed or not isinstance(tables, Mapping):
        return key
    for name, table in tables.items():
        try:
            msgspec.convert({**document, outer: {name: table}}, shape, dec_hook=_decode_path)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return f"{outer}.{name}{rest}"
    return key


def beside(path: Path, other: Path) -> Path:
    """`other` as seen from the directory of the configuration file at `path`."""
    return path.absolute().parent / other


def link_address(path: Path, text: str, *, key: str) -> Address:
    """Where a link is; a relative Unix socket is relative to the file at `path`. Raises ConfigurationError."""
    scheme, _, location = text.partition(":")
    if scheme == "unix" and location:
        # Without `..` in it: a socket's path must be short, and people read it in logs.
        text = f"unix:{os.path.normpath(beside(path, Path(location)))}"
    try:
        return parse_address(text)
    except OperatorError as error:
        raise ConfigurationError(str(error), source=str(path), key=key) from error


def read_ed25519(path: Path, name: Path, *, key: str) -> bytes:
    """DER of the Ed25519 public key in a PEM file."""
    octets = read_public_key(path, name, key=key)
    if not isinstance(load_der_public_key(octets), Ed25519PublicKey):
        raise ConfigurationError(f"{beside(path, name)} is not an Ed25519 key", source=str(path), key=key)
    return octets


def read_public_key(path: Path, name: Path, *, key: str) -> bytes:
    """DER SubjectPublicKeyInfo of the public key, of whatever kind, in a PEM file."""
    file = beside(path, name)
    try:
        public_key = load_pem_public_key(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", source=str(path), key=key) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{file} is not a public key in PEM", source=str(path), key=key) from error
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def read_certificate(path: Path, name: Path, *, key: str) -> bytes:
    """DER of the one certificate in a PEM or DER file."""
    file = beside(path, name)
    try:
        octets = file.read_bytes()
        is_pem = octets.lstrip().startswith(b"-----BEGIN")
        certificate = x509.load_pem_x509_certificate(octets) if is_pem else x509.load_der_x509_certificate(octets)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", source=str(path), key=key) from error
    except ValueError as error:
        raise ConfigurationError(f"{file} is not a certificate (PEM or DER)", source=str(path), key=key) from error
    return certificate.public_bytes(Encoding.DER)


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every table has in common: it may hold what is declared here and nothing else."""


def _decode_path(expected: type, value: Any) -> Path:
    """Paths, the one type here that msgspec does not know."""
    if expected is not Path:
        raise InternalError(f"no way to read a {expected.__name__} from TOML")
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    if not value or "\0" in value:
        raise ValueError("this has to be a path")
    return Path(value)
