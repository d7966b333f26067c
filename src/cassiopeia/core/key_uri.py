"""Where a CA key is and which library signs with it: `file:` and `pkcs11:` URIs, as configuration names them.

Owns their syntax. `file:PATH?backend=gnutls` is a key file; `pkcs11:token=...;object=...?pin-source=file:pin` names a
key in a token as RFC 7512 says it. A PIN itself never stands in a URI: configuration is read by many and logged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from cassiopeia.errors import OperatorError

FILE_BACKENDS: Final = ("openssl", "gnutls", "wolfssl")
"""The libraries that sign with key files."""
PKCS11: Final = "pkcs11"
BACKENDS: Final = (*FILE_BACKENDS, PKCS11)

# RFC 7512 2.3: the path attributes that say which token and which object; those of slots and libraries change with
# the machine's sockets, and are not taken.
_PATH_ATTRIBUTES: Final = ("token", "manufacturer", "model", "serial", "object", "id", "type")
_QUERY_ATTRIBUTES: Final = ("pin-source", "module-path")
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# What RFC 7512 allows in attribute values beside letters and digits, but for what separates attributes.
_UNESCAPED: Final = "-._~:[]@!$'()*+,="


@dataclass(frozen=True, kw_only=True, slots=True)
class FileUri:
    """A key file. `path` is as written; `backend` is empty where the URI leaves the choice to the configuration."""

    path: str
    backend: str = ""

    def __str__(self) -> str:
        return f"file:{self.path}?backend={self.backend}" if self.backend else f"file:{self.path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pkcs11Uri:
    """A key in a token. Empty attributes match anything; `identifier` is CKA_ID.

    `pin_source` is `file:PATH` or `credential:NAME`, `module_path` the library; empty: what the configuration says.
    """

    token: str = ""
    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    label: str = ""
    identifier: bytes = b""
    pin_source: str = ""
    module_path: str = ""

    def __str__(self) -> str:
        path = [
            f"{name}={quote_from_bytes(value, safe=_UNESCAPED)}"
            for name, value in (
                ("token", self.token.encode()),
                ("manufacturer", self.manufacturer.encode()),
                ("model", self.model.encode()),
                ("serial", self.serial.encode()),
                ("object", self.label.encode()),
            )
            if value
        ]
        if self.identifier:
            path.append("id=" + "".join(f"%{octet:02X}" for octet in self.identifier))
        query = [
            f"{name}={quote_from_bytes(value.encode(), safe=_UNESCAPED + '/')}"
            for name, value in (("pin-source", self.pin_source), ("module-path", self.module_path))
            if value
        ]
        return "pkcs11:" + ";".join(path) + ("?" + "&".join(query) if query else "")


KeyUri = FileUri | Pkcs11Uri


def parse_key_uri(text: str) -> KeyUri:
    """Read a key URI; raises OperatorError, which never repeats what may be a PIN."""
    scheme, _, rest = text.partition(":")
    match scheme:
        case "file":
            return _parse_file(rest)
        case "pkcs11":
            return _parse_pkcs11(rest)
    raise OperatorError("a key is named by file:PATH or by a pkcs11: URI (RFC 7512)")


def _parse_file(rest: str) -> FileUri:
    path, _, query = rest.partition("?")
    if not path or "\0" in path:
        raise OperatorError("a path has to stand behind file: as in file:keys/NAME.key")
    backend = ""
    if query:
        name, _, backend = query.partition("=")
        if name != "backend" or backend not in FILE_BACKENDS:
            raise OperatorError(f"behind ? there is only backend= with one of {', '.join(FILE_BACKENDS)}")
    return FileUri(path=path, backend=backend)


def _parse_pkcs11(rest: str) -> Pkcs11Uri:
    path, _, query = rest.partition("?")
    attributes = _attributes(path, ";", _PATH_ATTRIBUTES)
    settings = _attributes(query, "&", _QUERY_ATTRIBUTES)
    identifier = attributes.pop("id", b"")
    texts = {name: _text(name, value) for name, value in (attributes | settings).items()}
    if texts.get("type", "private") != "private":
        raise OperatorError("a CA key is a private key: leave type= out, or write type=private")
    uri = Pkcs11Uri(
        token=texts.get("token", ""),
        manufacturer=texts.get("manufacturer", ""),
        model=texts.get("model", ""),
        serial=texts.get("serial", ""),
        label=texts.get("object", ""),
        identifier=identifier,
        pin_source=texts.get("pin-source", ""),
        module_path=texts.get("module-path", ""),
    )
    if not uri.token and not uri.serial:
        raise OperatorError("a pkcs11: URI has to name its token, with token=LABEL or serial=NUMBER")
    if uri.pin_source and uri.pin_source.partition(":")[0] not in ("file", "credential"):
        raise OperatorError("pin-source= is file:PATH or credential:NAME")
    return uri


def _attributes(text: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for each in text.split(separator) if text else ():
        name, equals, value = each.partition("=")
        if name == "pin-value":
            raise OperatorError(
                "a PIN does not stand in a URI: write pin-source=file:PATH, or pin-source=credential:NAME"
            )
        if name not in known or not equals or not value:
            raise OperatorError(f"a pkcs11: URI knows here only {', '.join(known)}, each with = and a value")
        if name in found:
            raise OperatorError(f"{name}= stands there twice")
        if _BROKEN_ESCAPE.search(value):
            raise OperatorError(f"{name}=: % has to be followed by two hexadecimal digits")
        found[name] = unquote_to_bytes(value)
    return found


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise OperatorError(f"{name}= is not UTF-8") from None
    if "\0" in text:
        raise OperatorError(f"{name}= holds a zero octet")
    return text
