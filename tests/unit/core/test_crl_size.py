"""The size of a full CRL, by algorithm: computed exactly, so that none passes 1 MiB."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.authorities import NOW, entries, make_ca, p256_key, sign
from tests.support.ca_keys import ALGORITHMS, CaKey, ca_key, largest_crl

from cassiopeia.core import algorithms
from cassiopeia.core.authority import MAXIMUM_CERTIFICATES, Authority, load_authority
from cassiopeia.core.crl_size import MAXIMUM_OCTETS, RESPONDERS, crl_room
from cassiopeia.errors import Refused

LAST_OF_UTC_TIME = dt.datetime(2049, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def room_of(name: CaKey, *, not_after: dt.datetime = NOW) -> tuple[int, int]:
    key, pss = ca_key(name)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]).public_bytes()
    room = crl_room(key.public_key(), subject=subject, key_identifier=bytes(20), pss=pss, not_after=not_after)
    return room.octets, room.entry_octets


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_full_crl_takes_exactly_what_was_computed(name: CaKey) -> None:
    octets, entry_octets = room_of(name)
    assert len(largest_crl(name, octets=octets)) == MAXIMUM_OCTETS == (1 << 20) - 1
    assert len(largest_crl(name, octets=octets + 1)) == 1 << 20
    assert entry_octets == 49


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_signature_is_longer_than_what_is_kept_for_it(name: CaKey) -> None:
    key, pss = ca_key(name)
    algorithm = algorithms.choose_algorithm(key.public_key(), "", pss=pss)
    room = MAXIMUM_OCTETS - len(largest_crl(name, octets=0, signature=b""))
    kept = MAXIMUM_OCTETS - len(largest_crl(name, octets=0))
    assert max(len(sign(key, algorithm, bytes((each,)))) for each in range(20)) <= room - kept


def test_an_entry_of_2050_is_longer() -> None:
    assert room_of("P-256", not_after=LAST_OF_UTC_TIME)[1] == 49 == len(entries(range(1 << 120, (1 << 120) + 1))) + 14
    later = dt.datetime(2050, 1, 1, tzinfo=dt.UTC)
    assert room_of("P-256", not_after=later)[1] == 51
    assert len(entries(range(1 << 120, (1 << 120) + 1), later)) + 14 == 51


def test_whether_some_more_have_room() -> None:
    room = crl_room(p256_key().public_key(), subject=b"\x30\x00", key_identifier=bytes(20), pss=False, not_after=NOW)
    assert room.entries == room.octets // 49
    assert room.holds(room.octets - 98, to_come=2)
    assert not room.holds(room.octets - 97, to_come=2)
    assert room.holds(room.octets, to_come=0)


def test_a_key_that_signs_nothing_here() -> None:
    key = ec.generate_private_key(ec.SECP256K1())
    with pytest.raises(Refused, match="cannot be used"):
        crl_room(key.public_key(), subject=b"", key_identifier=b"", pss=False, not_after=NOW)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("configured", [100, MAXIMUM_CERTIFICATES])
def test_a_sub_ca_issues_no_more_than_its_crl_lists(name: CaKey, configured: int) -> None:
    authority = loaded(name, configured=configured)
    assert authority.maximum_certificates <= configured
    assert authority.maximum_certificates + RESPONDERS <= authority.crl_room.entries
    if not name.startswith("ML-DSA"):
        assert authority.maximum_certificates == configured


def loaded(name: CaKey, *, configured: int) -> Authority:
    key, pss = ca_key(name)
    ca = make_ca("full_2026_1", key=key)
    return load_authority(ca.der, name="full_2026_1", signer_id=1, pss=pss, maximum_certificates=configured)
