from __future__ import annotations

import re

import pytest

from cassiopeia.core.bundle import sealing_context
from cassiopeia.errors import OperatorError
from cassiopeia.sealing import make_sealing_key, sealing_fingerprint
from cassiopeia.sealing import seal as seal_for
from cassiopeia.sealing import unseal as unseal_for

PASSPHRASE = b"correct horse"
PRIVATE, PUBLIC = make_sealing_key(PASSPHRASE)
OTHER_PRIVATE, OTHER_PUBLIC = make_sealing_key(PASSPHRASE)
CONTEXT = b"one bundle"
BLOCK = re.compile(rb"-----BEGIN .*?-----END [A-Z ]+-----\n", re.DOTALL)


def seal(secret: bytes, public: bytes) -> bytes:
    return seal_for(secret, public, context=CONTEXT)


def unseal(sealed: bytes, private: bytes, passphrase: bytes) -> bytes:
    return unseal_for(sealed, private, passphrase, context=CONTEXT)


def test_what_is_sealed_for_one_bundle_opens_for_no_other() -> None:
    context = sealing_context(root_key=bytes(32), number=7, signer_id=1)
    sealed = seal_for(b"secret", PUBLIC, context=context)

    assert unseal_for(sealed, PRIVATE, PASSPHRASE, context=context) == b"secret"
    for other in (
        sealing_context(root_key=bytes(31) + b"\x01", number=7, signer_id=1),
        sealing_context(root_key=bytes(32), number=8, signer_id=1),
        sealing_context(root_key=bytes(32), number=7, signer_id=2),
    ):
        with pytest.raises(OperatorError, match="or for another bundle"):
            unseal_for(sealed, PRIVATE, PASSPHRASE, context=other)


def test_what_is_sealed_opens_for_its_owner_alone() -> None:
    sealed = seal(b"secret", PUBLIC)

    assert unseal(sealed, PRIVATE, PASSPHRASE) == b"secret"
    assert b"secret" not in sealed
    with pytest.raises(OperatorError, match="sealed to another key than the sealing key of this machine"):
        unseal(sealed, OTHER_PRIVATE, PASSPHRASE)


def test_two_seals_of_one_secret_have_nothing_in_common() -> None:
    assert seal(b"secret", PUBLIC) != seal(b"secret", PUBLIC)


def test_every_changed_octet_is_noticed() -> None:
    sealed = seal(b"secret", PUBLIC)

    for place in range(0, len(sealed), 7):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(OperatorError, match="sealed to another key"):
            unseal(bytes(changed), PRIVATE, PASSPHRASE)
    for cut in (b"", sealed[:-1], sealed[:100]):
        with pytest.raises(OperatorError, match="sealed to another key"):
            unseal(cut, PRIVATE, PASSPHRASE)


def test_the_private_half_is_encrypted() -> None:
    assert PRIVATE.count(b"BEGIN ENCRYPTED PRIVATE KEY") == 2
    with pytest.raises(OperatorError, match="cannot be unlocked: wrong passphrase"):
        unseal(seal(b"secret", PUBLIC), PRIVATE, b"wrong")


def test_line_ends_of_another_system_do_no_harm() -> None:
    assert unseal(seal(b"secret", PUBLIC.replace(b"\n", b"\r\n")), PRIVATE, PASSPHRASE) == b"secret"


def _swapped(pem: bytes) -> bytes:
    first, second = (each.group() for each in BLOCK.finditer(pem))
    return second + first


@pytest.mark.parametrize(
    "pem",
    [b"", b"text", PRIVATE, BLOCK.findall(PUBLIC)[0], _swapped(PUBLIC), PUBLIC + PUBLIC],
    ids=["nothing", "text", "private", "one half", "swapped", "twice"],
)
def test_what_is_no_sealing_key_is_refused(pem: bytes) -> None:
    with pytest.raises(OperatorError, match="is not the public half of a sealing key"):
        sealing_fingerprint(pem)
    with pytest.raises(OperatorError, match="is not the public half of a sealing key"):
        seal(b"secret", pem)


@pytest.mark.parametrize(
    ("pem", "words"),
    [(b"", "cannot be unlocked"), (PUBLIC, "cannot be unlocked"), (_swapped(PRIVATE), "this is not a sealing key")],
    ids=["nothing", "public", "swapped"],
)
def test_what_opens_nothing_says_so(pem: bytes, words: str) -> None:
    with pytest.raises(OperatorError, match=words):
        unseal(seal(b"secret", PUBLIC), pem, PASSPHRASE)


def test_people_can_compare_keys() -> None:
    assert len(sealing_fingerprint(PUBLIC)) == 64
    assert sealing_fingerprint(PUBLIC) != sealing_fingerprint(OTHER_PUBLIC)
