"""Publishes CA certificates and CRLs into a directory that any web server can serve.

Files are replaced atomically: a reader sees the old file or the new one, never half of one. `NAME.crl` is DER, as
RFC 5280 4.2.1.13 wants it served; `NAME.crl.pem` is the same for people. What cannot be written now (a full disk) is
kept and tried again, later and later: it must not keep the client from its other work.
"""

from __future__ import annotations

import logging
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cassiopeia.client import patience
from cassiopeia.errors import OperatorError
from cassiopeia.protocol.payload import encode_pem

_log = logging.getLogger(__name__)

_FILE_MODE = 0o644
_LONGEST_DELAY_S = 300.0


class Publisher:
    """Writes into one directory. `clock` counts seconds."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        # What could not be published, by the name of the CA and the kind: files with their contents, the last one last.
        self._left: dict[tuple[str, str], Mapping[Path, bytes]] = {}
        self._failures = 0
        self._retry_at = 0.0
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OperatorError(f"{directory}: cannot publish here: {error.strerror}") from error

    def publish_crl(self, name: str, der: bytes) -> bool:
        """Publish the DER of a verified CRL as that of the CA called `name`, if it is not there already.

        False when it cannot be done now: it is logged, and `retry` will do it unless there is a newer one by then.
        """
        path = self._directory / f"{name}.crl"
        return self._publish((name, "CRL"), {path.with_suffix(".crl.pem"): encode_pem("X509 CRL", der), path: der})

    def publish_certificate(self, name: str, der: bytes) -> bool:
        """Publish the certificate of the CA called `name`: DER for machines (RFC 5280 4.2.2.1), PEM for people.

        False as with `publish_crl`.
        """
        path = self._directory / f"{name}.crt"
        return self._publish(
            (name, "certificate"), {path.with_suffix(".pem"): ssl.DER_cert_to_PEM_cert(der).encode(), path: der}
        )

    def retry(self) -> None:
        """Try again what is left, if it is time; call this often."""
        if self._left and self._clock() >= self._retry_at:
            for what, files in list(self._left.items()):
                if not self._publish(what, files):
                    return
            self._failures = 0
            _log.info("%s: everything is published again", self._directory)

    def _publish(self, what: tuple[str, str], files: Mapping[Path, bytes]) -> bool:
        try:
            for path, content in files.items():
                if not _holds(path, content):
                    self._replace(path, content)
        except OperatorError as error:
            self._failures += 1
            delay_s = min(patience.delay_s(self._failures), _LONGEST_DELAY_S)
            self._retry_at = self._clock() + delay_s
            self._left[what] = files
            _log.error(
                "%s; tried again in %g seconds, and no revocation counts as done before. Mend it, or make room",
                error,
                delay_s,
            )
            return False
        self._left.pop(what, None)
        return True

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
