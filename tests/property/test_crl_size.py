"""Whatever is revoked in whatever way, the CRL stays under 1 MiB: with every algorithm, for a full sub-CA."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.authorities import NOW, make_ca
from tests.support.ca_keys import ALGORITHMS, CaKey, ca_key, largest_crl

from cassiopeia.core.authority import Authority, load_authority
from cassiopeia.core.crl import encode_revocation
from cassiopeia.core.crl_size import MAXIMUM_OCTETS, RESPONDERS
from cassiopeia.core.request import Revocation

SERIAL = 1 << 120
PLAIN, REASON, DATE, BOTH = (
    len(encode_revocation(Revocation(serial_number=SERIAL, reason=reason, invalidity_date=date), NOW))
    for reason, date in ((None, None), (1, None), (None, NOW), (1, NOW))
)
UNDATED = {PLAIN: PLAIN, REASON: REASON, DATE: PLAIN, BOTH: REASON}


def load_full(name: CaKey) -> Authority:
    key, pss = ca_key(name)
    return load_authority(make_ca(name, key=key).der, name="full_2026_1", signer_id=1, pss=pss)


@pytest.mark.parametrize("name", ALGORITHMS)
@settings(max_examples=8, deadline=None)
@given(runs=st.lists(st.tuples(st.sampled_from(list(UNDATED)), st.integers(1, 4_000)), min_size=1, max_size=12))
def test_a_sub_ca_that_is_full_and_revoked_as_a_whole(name: CaKey, runs: list[tuple[int, int]]) -> None:
    authority = load_full(name)
    room = authority.crl_room
    to_come = authority.maximum_certificates + RESPONDERS
    taken, dropped = 0, 0
    # What is not drawn comes with all that an entry can say.
    for wanted, count in [*runs, (BOTH, to_come)]:
        for _ in range(min(count, to_come)):
            to_come -= 1
            fits = room.holds(taken + wanted, to_come=to_come)
            taken += wanted if fits else UNDATED[wanted]
            dropped += not fits
            # Without a date there is always room.
            assert room.holds(taken, to_come=to_come)
            assert fits or wanted in (DATE, BOTH)
    assert to_come == 0
    assert len(largest_crl(name, octets=taken)) <= MAXIMUM_OCTETS
    assert dropped
