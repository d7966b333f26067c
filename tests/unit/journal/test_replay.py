"""Replay takes a sound journal, and names the entry where one is not."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable

import pytest
from tests.support.authorities import default_authority
from tests.support.journal_maker import JournalMaker, full_journal, journal_key

from cassiopeia.core import ed25519, merkle, structure
from cassiopeia.errors import Inconsistent
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.crls import NUMBERS_SKIPPED
from cassiopeia.journal.entry import LOST_PAST, SIGNATURE_HALT, Log
from cassiopeia.journal.replay import Replay

SIGNING_CA = default_authority().name
PUBLIC_KEYS = [ed25519.public_octets(journal_key(number)) for number in range(4)]


def replay(made: JournalMaker, *, deep: bool = True) -> Replay:
    done = Replay(deep=deep)
    for log in made.logs:
        done.append(log)
    return done


def sound() -> JournalMaker:
    made = JournalMaker()
    made.begin()
    return made


def changed_head(made: JournalMaker, **changes: object) -> bytes:
    head = heads.read_head(made.signed_head())
    return heads.sign_head(dataclasses.replace(head, **changes), made.journal_key)  # type: ignore[arg-type] # any field


def other_key_head(made: JournalMaker) -> bytes:
    made.journal_key = journal_key(2)
    return made.signed_head()


def test_a_whole_life_is_replayed() -> None:
    made = full_journal()

    done = replay(made)

    done.finish(complete=True)
    assert done.size == made.size == sum(done.kinds.values())
    assert set(done.kinds) == set(entries.BODIES) - {"removal"}
    assert done.signer_id == 1
    assert done.epoch == 2
    assert done.order_sequence == 1
    assert done.halts == {}
    assert done.unchecked_signatures == done.missing_parts == 0
    assert [(each.public_key, each.chained) for each in done.keys] == [
        (PUBLIC_KEYS[1], False),
        (PUBLIC_KEYS[2], True),
        (PUBLIC_KEYS[3], False),
    ]
    states = [each.state for each in done.certificates]
    assert states == ["issued", "issued", "abandoned", "issued", "confirmed", "open"]
    assert len(done.certificates) == 6
    assert done.certificates.count("issued") == 3
    assert done.last_time is not None
    assert done.last_hash == merkle.leaf_hash(made.logs[-1].entry)


def test_what_came_of_the_journal_is_found_in_it() -> None:
    made = full_journal()
    done = replay(made)

    for intent, der in made.certificates.items():
        issuance = done.certificates.check_certificate(der)
        assert issuance.index == intent
        assert done.certificates.find_serial(made.serial(intent)) is issuance
    name = made.authority.name
    indices = [done.crls.check_crl(der, signing_ca=name) for der in made.crls]
    assert [done.crls.lists[name].indices[each] for each in (1, 2, 65539)] == indices
    assert done.crls.lists[name].revoked == 2
    assert done.authorities[name].certificate == made.ca.der


def test_every_head_that_was_ever_given_out_is_known() -> None:
    made = sound()
    given = []
    for _ in range(5):
        made.issue()
        given.append(made.signed_head())
    made.key(journal_key(2))
    given.append(made.signed_head())
    made.new_epoch(journal_key(3))
    given.append(made.signed_head())

    done = replay(made)

    assert [done.check_head(each).size for each in given] == [6, 9, 12, 15, 18, 19, 20]
    for index in range(1, done.size + 1):
        merkle.check_inclusion(
            merkle.leaf_hash(made.logs[index - 1].entry),
            number=index - 1,
            size=done.size,
            path=done.prove(index, done.size),
            root=done.tree.root_at(done.size),
        )


def test_a_key_is_trusted_by_itself_or_by_a_key_before_it() -> None:
    made = full_journal()
    done = replay(made)
    newest = made.signed_head()
    made.journal_key, made.epoch = journal_key(2), 1
    second = made.signed_head(done.keys[1].first)

    done.check_head(newest, [PUBLIC_KEYS[3]])
    done.check_head(second, [PUBLIC_KEYS[1]])
    done.check_head(second, [PUBLIC_KEYS[2]])
    with pytest.raises(Inconsistent, match="none of those that are trusted") as caught:
        done.check_head(newest, [PUBLIC_KEYS[1], PUBLIC_KEYS[2]])
    assert caught.value.index == done.keys[2].first
    with pytest.raises(Inconsistent, match="none of those that are trusted") as caught:
        done.check_head(second, [PUBLIC_KEYS[3]])
    assert caught.value.index == 1


@pytest.mark.parametrize(
    ("head", "complaint"),
    [
        (lambda _made: b"no head", "cannot be read"),
        (lambda made: made.signed_head(signer_id=2), "that of signer 2, not 1"),
        (lambda made: made.signed_head(size=0), "covers no entry"),
        (lambda made: changed_head(made, size=made.size + 1), "and this journal has 3: the rest is missing"),
        (lambda made: changed_head(made, root_hash=b"r" * 32), "that of another journal"),
        (lambda made: changed_head(made, epoch=2), "names epoch 2, which is another"),
        (other_key_head, "not signed by the journal key of that time"),
    ],
)
def test_a_head_of_something_else_is_not_taken(head: Callable[[JournalMaker], bytes], complaint: str) -> None:
    made = sound()

    with pytest.raises(Inconsistent, match=complaint):
        replay(made).check_head(head(made))


def first_is_no_key(made: JournalMaker) -> None:
    made.logs.clear()
    made.configuration()


def first_of_no_signer(made: JournalMaker) -> None:
    made.logs.clear()
    made.signer_id = 128
    made.key()


def first_by_another(made: JournalMaker) -> None:
    made.logs.clear()
    made.key(signer=journal_key(2))


def gap(made: JournalMaker) -> None:
    made.refusal()
    made.refusal()
    del made.logs[-2]


def other_chain(made: JournalMaker) -> None:
    made.add(entries.Resume(code="x"), previous_hash=b"x" * 32)


def time_falls(made: JournalMaker) -> None:
    made.now -= dt.timedelta(days=1)
    made.refusal()


def second_part(made: JournalMaker) -> None:
    made.add(entries.Refusal(request_id=b"", request_digest=b"", code="x"), made.reason("a"), made.reason("b"))


def other_part(made: JournalMaker) -> None:
    made.refusal()
    made.logs[-1] = Log(entry=made.logs[-1].entry, parts=(made.reason("something else"),))


def wrong_body(made: JournalMaker) -> None:
    made.add(entries.Resume(code="x"), body=b"nonsense")


def key_of_nobody(made: JournalMaker) -> None:
    made.key(journal_key(2), signer=journal_key(2))


def no_certificate(made: JournalMaker) -> None:
    document = entries.Document(name=f"{made.authority.name}.pem", octets=b"nonsense")
    part = entries.Documents(documents=(document,))
    made.add(entries.Configuration(configuration_hash=b"x"), structure.encode(part))


def no_authority(made: JournalMaker) -> None:
    document = entries.Document(name="assured_2026_2.crt", octets=b"nonsense")
    part = entries.Documents(documents=(document,))
    made.add(entries.Configuration(configuration_hash=b"x"), structure.encode(part))


def intent_while_halted(made: JournalMaker) -> None:
    made.halt()
    made.intent()


def resume_of_nothing(made: JournalMaker) -> None:
    made.add(entries.Resume(code="clock-back"))


def order_again(made: JournalMaker) -> None:
    made.add(entries.OrderObeyed(sequence=3, order=b""))
    made.add(entries.OrderObeyed(sequence=3, order=b""))


def removal_ahead(made: JournalMaker) -> None:
    made.add(entries.Removal(last=made.size + 1, parts=1))


def intent_while_mistrusted(made: JournalMaker) -> None:
    made.halt(SIGNATURE_HALT + SIGNING_CA)
    made.intent()


def result_while_mistrusted(made: JournalMaker) -> None:
    intent = made.intent()
    made.confirmation(intent)
    made.halt(SIGNATURE_HALT + SIGNING_CA)
    made.result(intent)


def epoch_of_another_number(made: JournalMaker) -> None:
    made.new_epoch(number=3)


def epoch_again(made: JournalMaker) -> None:
    made.new_epoch(skipped=-1)


def too_many_epochs_skipped(made: JournalMaker) -> None:
    made.new_epoch(skipped=entries.MAXIMUM_EPOCHS_SKIPPED + 1)


def epoch_with_a_foreign_head(made: JournalMaker) -> None:
    made.new_epoch(head=changed_head(made, root_hash=b"r" * 32))


def epoch_with_a_head_of_nobody(made: JournalMaker) -> None:
    made.journal_key = journal_key(3)
    made.new_epoch(journal_key(1), head=changed_head(made, size=made.size + 5))


def epoch_with_a_head_of_another_epoch(made: JournalMaker) -> None:
    made.new_epoch(head=changed_head(made, size=made.size + 5, epoch=2))


def epoch_with_a_head_of_an_epoch_before(made: JournalMaker) -> None:
    made.new_epoch()
    made.new_epoch(head=changed_head(made, size=made.size + 5, epoch=1))


def epoch_with_a_head_of_another_signer(made: JournalMaker) -> None:
    made.new_epoch(skipped=1, head=changed_head(made, size=made.size + 5, epoch=2, signer_id=2))


def epoch_with_a_head_that_forked(made: JournalMaker) -> None:
    made.new_epoch(skipped=1, head=changed_head(made, epoch=2))


def epoch_without_a_key(made: JournalMaker) -> None:
    made.new_epoch(public_key=b"nonsense")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (first_is_no_key, "the first entry is not a journal key"),
        (first_of_no_signer, "128 is not the number of a signer"),
        (first_by_another, "not signed by the one before it"),
        (gap, "the journal has a gap"),
        (other_chain, "it does not follow entry 3"),
        (lambda made: made.add(entries.Resume(code="x"), signer_id=2), "an entry of signer 2, not 1"),
        (lambda made: made.add(entries.Resume(code="x"), epoch=2), "an entry of epoch 2, behind one of epoch 1"),
        (lambda made: made.add(entries.Resume(code="x"), version=2), "version 2 are not known here"),
        (lambda made: made.add(entries.Resume(code="x"), kind="feast"), "kind 'feast' are not known here"),
        (time_falls, "is before that of the entry before it"),
        (second_part, "refusal has 1 parts, not 2"),
        (other_part, "is not the one that the entry names"),
        (wrong_body, "this is not the DER of a Resume"),
        (key_of_nobody, "not signed by the one before it"),
        (no_certificate, "cannot be read"),
        (no_authority, "names a sub-CA that is none"),
        (intent_while_halted, "nothing may be issued: clock-back since entry 4"),
        (intent_while_mistrusted, f"{SIGNING_CA} may issue nothing: a signature of it was wrong at entry 4"),
        (result_while_mistrusted, f"{SIGNING_CA} may issue nothing: a signature of it was wrong at entry 6"),
        (lambda made: made.intent(configuration_hash=b"x" * 32), "judged by another configuration"),
        (resume_of_nothing, "'clock-back' has not halted this signer"),
        (order_again, "the order 3 comes after the order 3"),
        (removal_ahead, "which was still to come"),
        (epoch_of_another_number, "it opens epoch 3, not 2"),
        (epoch_again, "an entry of epoch 1, behind one of epoch 1"),
        (too_many_epochs_skipped, "an entry of epoch 1003, behind one of epoch 1"),
        (epoch_with_a_foreign_head, "that of another journal"),
        (epoch_with_a_head_of_nobody, "no known journal key has signed this head"),
        (epoch_with_a_head_of_another_epoch, "is that of another signer or epoch"),
        (epoch_with_a_head_of_an_epoch_before, "is that of another signer or epoch"),
        (epoch_with_a_head_of_another_signer, "is that of another signer or epoch"),
        (epoch_with_a_head_that_forked, "of a journal which went on from fewer entries"),
        (epoch_without_a_key, "an Ed25519 key cannot be read"),
    ],
)
def test_what_cannot_be_is_named_with_its_entry(spoil: Callable[[JournalMaker], object], complaint: str) -> None:
    made = sound()
    spoil(made)

    with pytest.raises(Inconsistent, match=complaint) as caught:
        replay(made)

    assert caught.value.index == made.size
    assert str(caught.value) == f"entry {made.size}: {caught.value.reason}"


def test_time_may_fall_only_where_operators_turned_the_clock_back() -> None:
    made = sound()
    made.add(entries.ClockEpoch(machine_time=made.now, true_time=made.now - dt.timedelta(days=2)))
    made.now -= dt.timedelta(days=2)
    made.refusal()
    replay(made)
    made.now -= dt.timedelta(days=1)
    made.refusal()

    with pytest.raises(Inconsistent, match="is before that of the entry before it"):
        replay(made)


def test_a_wrong_signature_halts_one_sub_ca_until_it_is_resumed() -> None:
    made = sound()
    made.halt(SIGNATURE_HALT + "unassured_2026_9")
    made.issue()
    made.halt(SIGNATURE_HALT + SIGNING_CA)
    made.add(entries.Resume(code=SIGNATURE_HALT + SIGNING_CA))
    made.issue()

    assert replay(made).halts == {SIGNATURE_HALT + "unassured_2026_9": 4}


def test_what_is_written_down_again_was_released_before_the_wrong_signature() -> None:
    made = sound()
    intent = made.intent()
    made.confirmation(intent)
    made.halt(SIGNATURE_HALT + SIGNING_CA)
    made.new_epoch()
    made.result(intent)

    assert [each.state for each in replay(made).certificates] == ["issued"]


def test_a_new_epoch_ends_the_halt_of_a_lost_past() -> None:
    made = sound()
    made.halt(LOST_PAST)
    made.new_epoch(head=b"")
    made.issue()

    assert replay(made).halts == {}


def test_an_epoch_may_end_with_a_head_over_entries_that_are_lost() -> None:
    made = sound()
    head = changed_head(made, size=made.size + 5)
    made.new_epoch(head=head)

    assert replay(made).epoch == 2


def test_an_epoch_that_nobody_copied_is_skipped() -> None:
    made = sound()
    before = made.signed_head()
    made.new_epoch(skipped=1, head=changed_head(made, size=made.size + 5, epoch=2))
    made.crl()

    done = replay(made)

    assert (done.epoch, [each.epoch for each in done.keys]) == (3, [1, 3])
    assert [done.check_head(each).epoch for each in (before, made.signed_head())] == [1, 3]
    assert done.crls.lists[made.authority.name].number == 2 * NUMBERS_SKIPPED + 1
    with pytest.raises(Inconsistent, match="names epoch 2, which is another"):
        done.check_head(changed_head(made, epoch=2))


def test_a_part_that_nobody_removed_has_to_be_there() -> None:
    made = sound()
    intent = made.issue()
    other = made.refusal()
    made.drop_part(intent)
    made.drop_part(other)
    done = replay(made)

    done.finish()
    with pytest.raises(Inconsistent, match="no entry says that it was removed") as caught:
        done.finish(complete=True)
    assert caught.value.index == other
    assert done.missing_parts == 2

    made.add(entries.Removal(last=other, parts=2))
    replay(made).finish(complete=True)


def test_parts_that_a_copy_did_not_have_stay_away_after_an_epoch() -> None:
    made = sound()
    made.drop_part(made.refusal())
    made.new_epoch()

    replay(made).finish(complete=True)


def test_what_depends_on_missing_parts_is_counted_as_not_checked() -> None:
    made = sound()
    intent = made.intent()
    made.drop_part(intent)
    made.confirmation(intent, b"whatever was saved")
    made.result(intent, b"whatever it is")
    made.crl()
    made.drop_part(made.size)

    done = replay(made)

    assert done.unchecked_signatures == 2
    assert replay(made, deep=False).unchecked_signatures == 0


def test_nothing_is_verified_without_the_sub_ca() -> None:
    made = JournalMaker()
    made.key()
    made.configuration()
    made.drop_part(2)
    made.issue()
    made.crl()

    done = replay(made)

    assert done.unchecked_signatures == 2
    assert done.crls.check_crl(made.crls[0], signing_ca=made.authority.name) == made.size
