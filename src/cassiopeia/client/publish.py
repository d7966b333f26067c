"""Publishes CA certificates and CRLs into a directory that any web server can serve.

Files are replaced atomically: a reader sees the old file or the new one, never half of one. `NAME.crl` is DER, as
RFC 5280 4.2.1.13 wants it served; `NAME.crl.pem` is the same for people.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cassiopeia.errors import OperatorError

_FILE_MODE = 0o644


class Publisher:
    """Writes into one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OperatorError(f"{directory}: cannot publish here: {error.strerror}") from error

    def publish_crl(self, name: str, der: bytes) -> None:
        """Publish the DER of a verified CRL as that of the CA called `name`; does nothing if it is there already."""
        path = self._directory / f"{name}.crl"
        if _holds(path, der):
            return
        self._replace(path.with_suffix(".crl.pem"), x509.load_der_x509_crl(der).public_bytes(Encoding.PEM))
        self._replace(path, der)

    def publish_certificate(self, name: str, der: bytes) -> None:
        """Publish the certificate of the CA called `name`: DER for machines (RFC 5280 4.2.2.1), PEM for people."""
        for path, content in (
            (self._directory / f"{name}.pem", ssl.DER_cert_to_PEM_cert(der).encode()),
            (self._directory / f"{name}.crt", der),
        ):
            if not _holds(path, content):
                self._replace(path, content)

    def _replace(self, path: Path, content: bytes) -> None:
        try:
            descriptor, temporary = tempfile.mkstemp(dir=self._directory, prefix=f".{path.name}.")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fchmod(file.fileno(), _FILE_MODE)
                    os.fsync(file.fileno())
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise OperatorError(f"{path}: cannot publish: {error.strerror}") from error


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.is_file() and path.read_bytes() == content
    except OSError as error:
        raise OperatorError(f"{path}: cannot read what is published: {error.strerror}") from error
