"""A sub-CA's key that is born in the signer: made where it stays, and what leaves is a request for its certificate.

The ceremony certifies it (`ceremony extend --csr`), and the bundle brings the certificate back. Until then a key file
waits in `keys/` beside signer.toml, and a key in a token where `[authority.NAME]` says. The request is assembled here
(RFC 2986), and the key store signs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from cassiopeia import files
from cassiopeia.config import KeyUse, SignerConfig, load_authorities
from cassiopeia.config.toml_writer import toml_value
from cassiopeia.core import algorithms
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.authority import parse_authority_name
from cassiopeia.core.certification_request import assemble_request_info, compose_request
from cassiopeia.core.key_uri import FileUri, parse_key_uri
from cassiopeia.errors import OperatorError, SignatureInvalid, Unavailable
from cassiopeia.signer.configuration import own_key, store_settings
from cassiopeia.signer.keystore.backends import load_backend
from cassiopeia.signer.keystore.ca_key import check_ca_key
from cassiopeia.signer.keystore.interface import CaKey

_HASH: Final = "sha384"


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRequest:
    """The request (PEM), where its key is, and what signer.toml has to say of that (TOML; empty: nothing)."""

    request: bytes
    key: str
    configuration: str


def make_request(config: SignerConfig, name: str, *, key_algorithm: str, key_uri: str = "") -> KeyRequest:
    """Make the key of a new sub-CA, at this URI or where signer.toml says; no key is ever overwritten.

    Raises OperatorError, and Unavailable for what may come, as a token.
    """
    parse_authority_name(name)
    use = _place(config, name, key_uri)
    # 1. Nothing here may be taken for the key of a sub-CA that there is.
    if name in _certified(config):
        raise OperatorError(
            f"the sub-CA {name} has its key and its certificate: a new one needs a name of its own, that of the "
            "calendar (cassiopeia ceremony plan)"
        )
    if isinstance(use.uri, FileUri):
        _prepare(Path(use.uri.path), config)
    # 2. The key is there from here on, whatever comes behind it.
    store = load_backend(use.backend).open_store(store_settings(config))
    try:
        key = store.generate(use.uri, key_algorithm)
        try:
            return _ask(config, name, key_uri, use, key)
        except OperatorError as error:
            raise OperatorError(
                f"{error}; the key was made ({use.uri}): when that is mended, try --existing"
            ) from error
        except Unavailable as error:
            raise Unavailable(
                f"{error}; the key was made ({use.uri}): when that is mended, try --existing",
                code=error.code,
                retry_after_s=error.retry_after_s,
            ) from error
    finally:
        store.close()


def request_existing(config: SignerConfig, name: str, *, key_uri: str = "") -> KeyRequest:
    """A request for a key that is there already; raises as `make_request` does."""
    parse_authority_name(name)
    use = _place(config, name, key_uri)
    store = load_backend(use.backend).open_store(store_settings(config))
    try:
        return _ask(config, name, key_uri, use, store.open(use.uri))
    finally:
        store.close()


def _place(config: SignerConfig, name: str, key_uri: str) -> KeyUse:
    directory = config.source.parent
    table = config.keys.authorities.get(name)
    if key_uri and table is not None and table.key is not None:
        if parse_key_uri(key_uri) != parse_key_uri(table.key):
            raise OperatorError(
                f"{config.source} says that the key of {name} is {table.key}: leave --key-uri out, or take that line "
                "out of it"
            )
        return config.keys.use(name, table.key, directory=directory)
    if key_uri:
        parse_key_uri(key_uri)  # what is wrong is the option, and no file
    return config.keys.use(name, key_uri or own_key(name), directory=directory)


def _certified(config: SignerConfig) -> set[str]:
    if config.bundles.installed is None and not config.authorities.exists():
        return set()
    return {each.authority.name for each in load_authorities(config.authorities)}


def _prepare(path: Path, config: SignerConfig) -> None:
    if path.exists() or path.is_symlink():
        raise OperatorError(
            f"{path}: is there already, and nothing is overwritten: --existing makes a request for this key"
        )
    own = config.source.parent / Path(own_key("NAME").removeprefix("file:")).parent
    if path.parent == own and not own.exists():
        try:
            files.make_directory(own)
        except OSError as error:
            raise OperatorError(f"{own}: cannot keep the key here: {error.strerror}") from error


def _ask(config: SignerConfig, name: str, key_uri: str, use: KeyUse, key: CaKey) -> KeyRequest:
    """The request for a key's certificate; its signature is verified as every signature by a CA key is."""
    public_key = load_der_public_key(key.public_key_info)
    try:
        check_ca_key(public_key)
    except OperatorError as error:
        raise OperatorError(f"{use.uri}: {error}") from error
    algorithm = _choose(key, public_key, use)
    info = assemble_request_info(name, key.public_key_info)
    signature = key.sign(algorithm, info)
    try:
        algorithms.verify(public_key, algorithm, signature, info)
        if use.verify_with:
            load_backend(use.verify_with).verify(key.public_key_info, algorithm, signature, info)
    except SignatureInvalid as error:
        raise OperatorError(
            f"{use.uri}: makes wrong signatures ({error}), and must not become a CA's key: let another library or "
            "token make one"
        ) from error
    request = x509.load_der_x509_csr(compose_request(info, algorithm, signature))
    return KeyRequest(
        request=request.public_bytes(Encoding.PEM),
        key=str(use.uri),
        configuration=_to_write(config, name, key_uri),
    )


def _choose(key: CaKey, public_key: PublicKeyTypes, use: KeyUse) -> SignatureAlgorithm:
    """A strong hash for RSA; the other keys bring theirs."""
    possible = [each for each in algorithms.algorithms_for(public_key) if each in key.algorithms]
    if not possible:
        raise OperatorError(f"{use.uri}: {use.backend} cannot sign with this key: take another kind of key, or library")
    return next((each for each in possible if each.hash_name == _HASH), possible[0])


def _to_write(config: SignerConfig, name: str, key_uri: str) -> str:
    table = config.keys.authorities.get(name)
    is_known = table is not None and table.key is not None
    if not key_uri or is_known or parse_key_uri(key_uri) == parse_key_uri(own_key(name)):
        return ""
    return f"[authority.{name}]\nkey = {toml_value(key_uri)}\n"
