"""Which crypto backends there are, and how each is found: by its name, when somebody needs it and not before.

A library that is not installed is one clear sentence for those who asked for it, and nothing to anybody else.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Final, cast

from cassiopeia.core.key_uri import BACKENDS
from cassiopeia.errors import InternalError, OperatorError, Unavailable
from cassiopeia.signer.keystore.interface import Backend

_RETRY_AFTER_S: Final = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What has to be installed for a backend: an extra of this package, and a package of Debian (empty: none)."""

    extra: str = ""
    package: str = ""


NEEDS: Final = {
    "openssl": Needs(),
    "gnutls": Needs(extra="gnutls", package="libgnutls30"),
    "wolfssl": Needs(extra="wolfssl", package="libwolfssl35"),
    "pkcs11": Needs(extra="pkcs11"),
}


@functools.cache
def load_backend(name: str) -> Backend:
    """The backend of this name; raises `Unavailable` (`backend-missing`) that says what to install."""
    if name not in BACKENDS:
        raise InternalError(f"there is no backend {name!r}")
    module = importlib.import_module(f"cassiopeia.signer.keystore.{name}")
    try:
        return cast("Backend", module.load())
    except (ImportError, OSError) as error:
        needs = NEEDS[name]
        package = f" and the package {needs.package} (apt install {needs.package})" if needs.package else ""
        raise Unavailable(
            f"the crypto backend {name} is not installed: it needs the extra {needs.extra} of cassiopeia-ca "
            f"(pip install 'cassiopeia-ca[{needs.extra}]'){package}: {error}",
            code="backend-missing",
            retry_after_s=_RETRY_AFTER_S,
        ) from error


def find_backends() -> dict[str, Backend | Unavailable | OperatorError]:
    """Every backend by its name: those that are there, and for each of the others why it cannot be used."""
    found: dict[str, Backend | Unavailable | OperatorError] = {}
    for name in BACKENDS:
        try:
            found[name] = load_backend(name)
        except (Unavailable, OperatorError) as error:
            found[name] = error
    return found
