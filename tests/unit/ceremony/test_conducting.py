from __future__ import annotations

import dataclasses
import datetime as dt

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from tests.support.authorities import p256_key
from tests.support.ceremonies import declare

from cassiopeia.ceremony.conducting import Outcome, begin, extend, planned_sub_cas, renew_crls
from cassiopeia.ceremony.declaration import Declaration
from cassiopeia.ceremony.hierarchy import Hierarchy, SignerMachine, load_hierarchy, with_key_algorithm, with_periods
from cassiopeia.ceremony.record import reason_code
from cassiopeia.ceremony.safe import Safe
from cassiopeia.ceremony.sub_ca_request import SubCaRequest
from cassiopeia.core.validity import add_months
from cassiopeia.errors import InternalError, OperatorError

NOW = dt.datetime(2026, 11, 23, 12, 34, 56, 789, tzinfo=dt.UTC)
NEXT = dt.datetime(2027, 3, 1, 9, 15, tzinfo=dt.UTC)


def of_families(*names: str, periods: int = 2, spares: int = 0) -> Declaration:
    hierarchy = with_periods(with_key_algorithm(load_hierarchy(), "P-256"), periods, spares=spares)
    families = tuple(each for each in hierarchy.family if each.name in names)
    return declare(msgspec.structs.replace(hierarchy, family=families))


def changed(declaration: Declaration, **changes: object) -> Declaration:
    return dataclasses.replace(declaration, hierarchy=msgspec.structs.replace(declaration.hierarchy, **changes))


ASSURED = of_families("assured")


@pytest.fixture(scope="module")
def first() -> Outcome:
    return begin(ASSURED, now=NOW)


def names(outcome: Outcome) -> list[str]:
    return [each.name for each in outcome.safe.record.authorities]


def crl_of(safe: Safe, name: str) -> x509.CertificateRevocationList:
    crl = safe.crls[name]
    key = safe.certificates[name].public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(key)
    number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert number == safe.record.authority(name).crl_number
    return crl


def test_the_first_ceremony_makes_everything_that_is_declared(first: Outcome) -> None:
    assert names(first) == ["root", "assured", "assured_2026_2", "assured_2027_1"]
    assert first.certified == tuple(names(first))
    assert first.crls == ("root", "assured")
    assert set(first.time_keys) == {"assured_2026_2", "assured_2027_1"}
    assert set(first.safe.keys) == {"root", "assured"}
    assert first.for_machines
    record = first.safe.record
    assert (record.number, record.made_at) == (1, NOW.replace(microsecond=0))
    known = record.authority("assured_2027_1")
    assert (known.issues_from, known.issues_until) == (
        dt.datetime(2027, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2027, 7, 1, tzinfo=dt.UTC),
    )
    assert (known.key, known.signer_id, known.spare, known.made_in) == ("bundle", 1, 0, 1)
    assert record.authority("root").key == "safe"


def test_no_key_is_shown(first: Outcome) -> None:
    assert "PrivateKey" not in repr(first)


def test_an_extension_goes_on(first: Outcome) -> None:
    then = extend(first.safe, ASSURED, first=dt.datetime(2027, 7, 1, tzinfo=dt.UTC), now=NEXT)

    assert then.certified == ("assured_2027_2", "assured_2028_1")
    assert names(then) == [*names(first), "assured_2027_2", "assured_2028_1"]
    assert set(then.time_keys) == set(then.certified)
    assert then.safe.record.number == 2
    assert then.safe.record.root_key == first.safe.record.root_key
    # Every CRL is new, as long as the safe is open.
    assert then.crls == ("root", "assured")
    assert crl_of(then.safe, "assured").last_update_utc == NEXT.replace(minute=0)
    assert [each.crl_number for each in then.safe.record.authorities if each.is_offline] == [2, 2]
    # And what there was is as it was.
    assert first.safe.record.number == 1
    assert first.safe.record.authority("root").crl_number == 1


def test_only_what_is_lacking_is_made(first: Outcome) -> None:
    spare = of_families("assured", spares=1)

    then = extend(first.safe, spare, first=NOW, now=NOW)

    made = [(each, then.safe.record.authority(each).spare) for each in then.certified]
    assert made == [("assured_2026_4", 1), ("assured_2027_2", 1)]
    assert extend(then.safe, spare, first=NOW, now=NOW).certified == ()


def test_a_sub_ca_that_was_revoked_is_replaced(first: Outcome) -> None:
    revoked = renew_crls(first.safe, now=NEXT, revoke=["assured_2027_1"], reason="keyCompromise")

    then = extend(revoked.safe, ASSURED, first=NEXT, periods=1, now=NEXT)

    assert len(then.certified) == 1
    made = then.safe.record.authority(then.certified[0])
    assert made.issues_until == dt.datetime(2027, 7, 1, tzinfo=dt.UTC)
    assert made.name != "assured_2027_1"


def test_a_wish_for_more_periods_is_for_this_time(first: Outcome) -> None:
    then = extend(first.safe, ASSURED, first=NEXT, periods=3, now=NEXT)

    assert len(then.certified) == 2
    assert then.safe.declaration.hierarchy.time.periods == 2


def test_a_family_that_is_new_gets_its_structure_ca(first: Outcome) -> None:
    both = of_families("assured", "codesign")

    then = extend(first.safe, both, first=NEXT, now=NEXT)

    assert then.certified == ("assured_2027_2", "codesign", "codesign_2027_1", "codesign_2027_2")
    certificate = then.safe.certificates["codesign"]
    # It never outlives the root, which is some months older.
    assert certificate.not_valid_after_utc <= then.safe.certificates["root"].not_valid_after_utc
    assert "codesign" in then.crls
    assert then.safe.record.authority("codesign").made_in == 2


def test_another_signer_gets_sub_cas_of_its_own(first: Outcome) -> None:
    two = changed(ASSURED, signer=(SignerMachine(id=1), SignerMachine(id=9)))

    then = extend(first.safe, two, first=NEXT, periods=1, now=NEXT)

    assert [then.safe.record.authority(each).signer_id for each in then.certified] == [9]


def test_another_root_is_no_extension(first: Outcome) -> None:
    for other in (
        changed(ASSURED, organisation="Another"),
        changed(ASSURED, root=msgspec.structs.replace(ASSURED.hierarchy.root, years=19)),
    ):
        with pytest.raises(OperatorError, match="declares another root"):
            extend(first.safe, other, first=NEXT, now=NEXT)


def test_what_is_over_is_not_made(first: Outcome) -> None:
    with pytest.raises(OperatorError, match="would issue until 2026-07-01, which is over"):
        extend(first.safe, ASSURED, first=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), now=NEXT)


def test_crls_are_signed_anew_and_count_on(first: Outcome) -> None:
    then = renew_crls(first.safe, now=NEXT)

    assert then.certified == ()
    assert not then.for_machines
    assert then.safe.record.number == 2
    for name in ("root", "assured"):
        crl = crl_of(then.safe, name)
        assert then.safe.record.authority(name).crl_number == 2
        assert len(crl) == 0
        assert crl.next_update_utc == add_months(NEXT.replace(minute=0), 12) - dt.timedelta(seconds=1)


def test_a_revoked_sub_ca_is_on_the_list_above_it_for_ever(first: Outcome) -> None:
    then = renew_crls(first.safe, now=NEXT, revoke=["assured_2027_1"], reason="keyCompromise")
    later = renew_crls(then.safe, now=NEXT + dt.timedelta(days=9))

    assert then.for_machines
    assert not later.for_machines
    for each in (then, later):
        [entry] = crl_of(each.safe, "assured")
        assert entry.serial_number == first.safe.certificates["assured_2027_1"].serial_number
        assert entry.revocation_date_utc == NEXT.replace(minute=0)
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        assert reason is x509.ReasonFlags.key_compromise
        assert len(crl_of(each.safe, "root")) == 0
        known = each.safe.record.authority("assured_2027_1")
        assert (known.retired, known.reason) == (True, "keyCompromise")
    assert not then.safe.record.authority("assured_2026_2").retired


def test_what_is_below_a_revoked_structure_ca_is_retired(first: Outcome) -> None:
    then = renew_crls(first.safe, now=NEXT, revoke=["assured"])

    [entry] = crl_of(then.safe, "root")
    assert entry.serial_number == first.safe.certificates["assured"].serial_number
    assert len(entry.extensions) == 0  # RFC 5280 5.3.1: `unspecified` is left out
    assert all(then.safe.record.authority(each).retired for each in ("assured", "assured_2026_2", "assured_2027_1"))
    assert then.safe.record.authority("assured_2026_2").revoked_at is None
    # Its own CRL goes on, and the next extension makes another one, of another name.
    assert crl_of(then.safe, "assured").last_update_utc == NEXT.replace(minute=0)
    extended = extend(then.safe, ASSURED, first=NEXT, now=NEXT)
    assert extended.certified[0] == "assured_2"
    assert extended.safe.record.authority(extended.certified[1]).issuer == "assured_2"
    subjects = {each: extended.safe.certificates[each].subject for each in ("assured", "assured_2")}
    assert subjects["assured"] != subjects["assured_2"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("root", "no CRL can revoke a root"),
        ("nobody", "there is no CA 'nobody'"),
    ],
)
def test_what_cannot_be_revoked(first: Outcome, name: str, reason: str) -> None:
    with pytest.raises(OperatorError, match=reason):
        renew_crls(first.safe, now=NEXT, revoke=[name])


def test_what_is_revoked_or_over_is_not_revoked_again(first: Outcome) -> None:
    then = renew_crls(first.safe, now=NEXT, revoke=["assured_2027_1"])

    with pytest.raises(OperatorError, match="is revoked since 2027-03-01, and that stands"):
        renew_crls(then.safe, now=NEXT, revoke=["assured_2027_1"])
    with pytest.raises(OperatorError, match="has ended on 2028-12-31"):
        renew_crls(first.safe, now=dt.datetime(2029, 1, 1, tzinfo=dt.UTC), revoke=["assured_2026_2"])


def test_a_ca_that_has_ended_signs_no_crl(first: Outcome) -> None:
    """The structure CA lives for ten years, the root for twenty."""
    then = renew_crls(first.safe, now=dt.datetime(2037, 1, 1, tzinfo=dt.UTC))

    assert then.crls == ("root",)


def test_a_structure_ca_that_ends_too_early_is_followed_by_another(first: Outcome) -> None:
    late = dt.datetime(2035, 3, 1, tzinfo=dt.UTC)

    then = extend(first.safe, ASSURED, first=late, now=late)

    assert then.certified[0] == "assured_2"
    for name in then.certified[1:]:
        assert (
            then.safe.certificates[name].not_valid_after_utc <= then.safe.certificates["assured_2"].not_valid_after_utc
        )


def test_nothing_outlives_the_root(first: Outcome) -> None:
    late = dt.datetime(2045, 3, 1, tzinfo=dt.UTC)

    with pytest.raises(OperatorError, match=r"would end on 2046-11-23, before its last sub-CA \(2047-12-31\)"):
        extend(first.safe, ASSURED, first=late, now=late)


def request(source: str = "assured_2027_2.csr") -> tuple[ec.EllipticCurvePrivateKey, SubCaRequest]:
    key = p256_key()
    return key, SubCaRequest(source=source, public_key=key.public_key())


def test_a_key_that_was_born_in_its_signer_is_certified(first: Outcome) -> None:
    key, asked = request()

    then = extend(
        first.safe,
        ASSURED,
        first=dt.datetime(2027, 7, 1, tzinfo=dt.UTC),
        now=NEXT,
        requests={"assured_2027_2": asked},
    )

    assert then.safe.certificates["assured_2027_2"].public_key() == key.public_key()
    assert set(then.time_keys) == {"assured_2028_1"}
    assert then.safe.record.authority("assured_2027_2").key == "signer"


def test_a_request_for_nothing_that_is_made_is_refused(first: Outcome) -> None:
    with pytest.raises(OperatorError, match=r"no sub-CA 'assured_2031_1' will be made.*; made are assured_2027_2, "):
        extend(
            first.safe,
            ASSURED,
            first=dt.datetime(2027, 7, 1, tzinfo=dt.UTC),
            now=NEXT,
            requests={"assured_2031_1": request()[1]},
        )


def test_a_request_for_another_kind_of_key_is_refused(first: Outcome) -> None:
    asked = SubCaRequest(source="x.csr", public_key=ed25519.Ed25519PrivateKey.generate().public_key())

    with pytest.raises(
        OperatorError, match=r"x\.csr: asks for a sub-CA with a key Ed25519, and the hierarchy wants P-256"
    ):
        extend(first.safe, ASSURED, first=NEXT + dt.timedelta(days=150), now=NEXT, requests={"assured_2027_2": asked})


def test_what_is_planned_is_what_is_made(first: Outcome) -> None:
    hierarchy: Hierarchy = ASSURED.hierarchy

    assert [each.name for each in planned_sub_cas(hierarchy, None, first=NOW, now=NOW)] == [
        "assured_2026_2",
        "assured_2027_1",
    ]
    assert planned_sub_cas(hierarchy, first.safe.record, first=NOW, now=NOW) == ()


def test_reasons_are_those_of_the_standard() -> None:
    assert reason_code("cACompromise") == 2
    with pytest.raises(InternalError, match="no reason is called 'certificateHold'"):
        reason_code("certificateHold")


def test_signatures_of_lists_are_made_with_the_hash_of_the_key(first: Outcome) -> None:
    hash_algorithm = crl_of(first.safe, "root").signature_hash_algorithm

    assert isinstance(hash_algorithm, hashes.SHA256)
