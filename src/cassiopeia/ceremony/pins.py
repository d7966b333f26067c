"""The keys that a hierarchy pins: those of operators, validators, OCSP responders, and the signers' sealing keys.

Owns reading and checking the files that the hierarchy names. What the keys are pinned for is said where they are used:
in `signer.toml`, in bundles. A key has the name of its file without the ending; a validator has one of its own.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cassiopeia.ceremony.hierarchy import Hierarchy
from cassiopeia.core.evidence import STATEMENT_KINDS
from cassiopeia.errors import ConfigurationError, OperatorError
from cassiopeia.sealing import sealing_fingerprint

ReadFile = Callable[[str], bytes]
"""Gives what is in a file that the hierarchy names; raises OSError."""

# What a file in a bundle can be called, with room for an ending.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PinnedKey:
    """A public key (SubjectPublicKeyInfo, PEM); `kinds` are what its owner may state, if it is a validator's."""

    name: str
    pem: bytes
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Pins:
    """Whom the signers believe and obey. `sealing_keys` holds the file of each signer that has one, by its id."""

    operators: tuple[PinnedKey, ...] = ()
    quorum: int = 1
    validators: tuple[PinnedKey, ...] = ()
    responders: tuple[PinnedKey, ...] = ()
    sealing_keys: Mapping[int, bytes] = field(default_factory=dict)


def files_beside(path: Path) -> ReadFile:
    """Reads files as seen from the directory of the hierarchy file at `path`."""
    directory = path.absolute().parent
    return lambda name: (directory / name).read_bytes()


def no_file(name: str) -> bytes:
    """Reads for a hierarchy that has no place on a disk, so that nothing is beside it."""
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def read_pins(hierarchy: Hierarchy, *, read: ReadFile, source: str) -> Pins:
    """The keys in the files that the hierarchy names; raises ConfigurationError with source, key and reason."""
    reader = _Reader(read=read, source=source)
    orders = hierarchy.orders
    operators = tuple(
        reader.key(name, key=f"orders.operators[{index}]", ed25519_of="an operator")
        for index, name in enumerate(orders.operators)
    )
    if len(operators) < orders.quorum and operators:
        raise ConfigurationError(
            f"so many must sign, and {len(operators)} are named: none of their orders could loosen anything",
            source=source,
            key="orders.quorum",
        )
    validators = tuple(
        reader.key(each.key, key=f"validator[{index}].key", ed25519_of="a validator", name=each.name, kinds=each.kinds)
        for index, each in enumerate(hierarchy.validator)
    )
    responders = tuple(
        reader.key(name, key=f"ocsp.responders[{index}]") for index, name in enumerate(hierarchy.ocsp.responders)
    )
    reader.check_distinct(operators, key="orders.operators")
    reader.check_distinct(validators, key="validator")
    reader.check_distinct(responders, key="ocsp.responders")
    sealing_keys: dict[int, bytes] = {}
    for index, each in enumerate(hierarchy.signer):
        if each.sealing_key:
            sealing_key = reader.sealing_key(each.sealing_key, key=f"signer[{index}].sealing_key", known=sealing_keys)
            sealing_keys[each.id] = sealing_key
    return Pins(
        operators=operators,
        quorum=orders.quorum,
        validators=validators,
        responders=responders,
        sealing_keys=sealing_keys,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reader:
    read: ReadFile
    source: str

    def octets(self, file: str, *, key: str) -> bytes:
        try:
            return self.read(file)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "this is not the name of one"
            raise ConfigurationError(f"cannot read {file!a}: {reason}", source=self.source, key=key) from error

    def key(
        self, file: str, *, key: str, ed25519_of: str = "", name: str = "", kinds: tuple[str, ...] = ()
    ) -> PinnedKey:
        """The public key in a file; it has to be an Ed25519 key if it is `ed25519_of` somebody."""
        try:
            public = load_pem_public_key(self.octets(file, key=key))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigurationError(f"{file!a} is not a public key in PEM", source=self.source, key=key) from error
        if ed25519_of and not isinstance(public, Ed25519PublicKey):
            raise ConfigurationError(
                f"{file!a} is not an Ed25519 key, as {ed25519_of} has it", source=self.source, key=key
            )
        name = name or PurePosixPath(file).stem
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!a} is no name to know a key by: letters, digits and . _ - (64 at most); rename the file",
                source=self.source,
                key=key,
            )
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return PinnedKey(name=name, pem=pem, kinds=(kinds or STATEMENT_KINDS) if ed25519_of == "a validator" else ())

    def sealing_key(self, file: str, *, key: str, known: Mapping[int, bytes]) -> bytes:
        """The file with a signer's sealing key; `known` are those of the signers before it."""
        octets = self.octets(file, key=key)
        try:
            fingerprint = sealing_fingerprint(octets)
        except OperatorError as error:
            raise ConfigurationError(f"{file!a}: {error}", source=self.source, key=key) from error
        for signer_id, other in known.items():
            if sealing_fingerprint(other) == fingerprint:
                # Either of the two could open the other's bundle.
                raise ConfigurationError(
                    f"{file!a} is the sealing key of signer {signer_id} already; each has one of its own",
                    source=self.source,
                    key=key,
                )
        return octets

    def check_distinct(self, pinned: Iterable[PinnedKey], *, key: str) -> None:
        names: set[str] = set()
        keys: dict[bytes, str] = {}
        for each in pinned:
            if each.name in names:
                raise ConfigurationError(f"two keys are called {each.name!a}", source=self.source, key=key)
            if each.pem in keys:
                # One person with two keys would be two of a quorum.
                raise ConfigurationError(
                    f"{keys[each.pem]!a} and {each.name!a} are the same key; each has one of its own",
                    source=self.source,
                    key=key,
                )
            names.add(each.name)
            keys[each.pem] = each.name
