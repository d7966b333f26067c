"""What is handed to workers next: suspects alone, one key after the other, decisions last."""

from __future__ import annotations

import itertools

from tests.support.authorities import NOW, server_request

from cassiopeia.signer.tasks import CheckProofs, Decide, Sign, TryKey
from cassiopeia.signer.work_queue import Queued, WorkQueue

_numbers = itertools.count(1)


def sign(name: str) -> Sign:
    return Sign(task=next(_numbers), signing_ca=name, algorithm=b"", octets=b"")


def decide() -> Decide:
    return Decide(task=next(_numbers), request=server_request(key_proof=b""), version=2, now=NOW, issued={})


def names(queue: WorkQueue, *, is_free: bool = True, workers: int = 1) -> list[str]:
    """Whose keys the next batch needs."""
    batch, _ = queue.take(is_free=is_free, workers=workers)
    return [each.signing_ca for each in batch]


def dead(queue: WorkQueue, name: str) -> Queued:
    """A signature that has ended a worker."""
    queued = Queued(sign(name), deaths=1)
    queue.distrust(name)
    queue.put(queued)
    return queued


def test_a_batch_is_for_one_key_and_the_keys_take_turns() -> None:
    queue = WorkQueue()
    for name in ("a", "b") * 20:
        queue.submit(sign(name))
    assert [names(queue) for _ in range(4)] == [["a"] * 16, ["b"] * 16, ["a"] * 4, ["b"] * 4]
    assert names(queue) == []


def test_workers_share_what_waits() -> None:
    queue = WorkQueue()
    for _ in range(8):
        queue.submit(sign("a"))
    assert len(names(queue, workers=4)) == 2


def test_signatures_and_proofs_come_before_decisions() -> None:
    queue = WorkQueue()
    queue.submit(decide())
    queue.submit(CheckProofs(task=next(_numbers), claims=()))
    queue.submit(sign("a"))
    kinds = [type(queue.take(is_free=True, workers=1)[0][0].task) for _ in range(3)]
    assert kinds == [CheckProofs, Sign, Decide]


def test_what_was_on_its_way_comes_first_again() -> None:
    queue = WorkQueue()
    later, earlier = decide(), decide()
    queue.submit(later)
    queue.put_back(Queued(earlier))
    assert [each.task for each in queue.take(is_free=True, workers=1)[0]] == [earlier, later]
    queue.submit(sign("a"))
    first = sign("a")
    queue.put_back(Queued(first))
    assert queue.take(is_free=True, workers=1)[0][0].task == first


def test_a_key_that_ended_a_worker_is_used_once_at_a_time_and_others_go_on() -> None:
    queue = WorkQueue()
    first, second = dead(queue, "a"), dead(queue, "a")
    queue.submit(sign("a"))
    queue.submit(sign("b"))
    # It waits for a worker that has nothing to do, and nothing is handed out behind other work until one has it.
    assert queue.take(is_free=False, workers=2) == ([], False)
    assert queue.take(is_free=True, workers=2) == ([first], True)
    # Another worker gets what has nothing to do with it.
    assert names(queue, is_free=False) == ["b"]
    assert names(queue) == []
    queue.done([first])
    assert queue.take(is_free=True, workers=2) == ([second], True)
    queue.done([second])
    batch, alone = queue.take(is_free=True, workers=2)
    assert ([each.deaths for each in batch], alone) == ([0], True)


def test_it_is_trusted_again_when_it_has_signed() -> None:
    queue = WorkQueue()
    queue.distrust("a")
    for _ in range(4):
        queue.submit(sign("a"))
    batch, alone = queue.take(is_free=True, workers=1)
    assert (len(batch), alone) == (1, True)
    queue.done(batch)
    queue.trust("a")
    assert names(queue) == ["a"] * 3


def test_a_try_goes_alone() -> None:
    queue = WorkQueue()
    queue.submit(TryKey(task=next(_numbers), signing_ca="a"))
    assert queue.take(is_free=False, workers=1) == ([], False)
    batch, alone = queue.take(is_free=True, workers=1)
    assert (len(batch), alone) == (1, True)


def test_suspects_without_a_key_go_alone_too() -> None:
    queue = WorkQueue()
    first, second = Queued(decide(), deaths=1), Queued(decide(), deaths=1)
    queue.put(first)
    queue.put(second)
    assert queue.take(is_free=True, workers=2) == ([first], True)
    assert queue.take(is_free=True, workers=2) == ([second], True)


def test_everything_for_one_key_is_dropped_and_nothing_else() -> None:
    queue = WorkQueue()
    suspect = dead(queue, "a")
    queue.submit(sign("a"))
    queue.submit(sign("b"))
    dropped = queue.drop("a")
    assert (dropped[0], [each.signing_ca for each in dropped]) == (suspect, ["a", "a"])
    assert names(queue) == ["b"]
    assert queue.drop("c") == []


def test_it_can_be_emptied() -> None:
    queue = WorkQueue()
    dead(queue, "a")
    queue.submit(sign("b"))
    queue.submit(decide())
    assert [each.signing_ca for each in queue.clear()] == ["a", "b", ""]
    assert names(queue) == []
