"""The writer: common commits, a bound, and nobody pays for another's failure."""

import threading
from collections.abc import Sequence

import pytest

from site_db.errors import Busy, DatabaseUnavailable
from site_db.store import Store, Submission
from site_db.writer import Writer
from tests.site_db.submissions import sample


class GatedStore:
    """Stands for a store: add() waits at a gate and fails as told."""

    place = "gated"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.calls: list[int] = []
        self.failure: Exception | None = None

    def add(self, submissions: Sequence[Submission]) -> list[str]:
        self.entered.set()
        assert self.gate.wait(timeout=30)
        self.calls.append(len(submissions))
        if any(item.raw == b"poison" for item in submissions):
            raise KeyError("poison")
        if self.failure:
            raise self.failure
        return ["new"] * len(submissions)


@pytest.fixture
def gated() -> GatedStore:
    return GatedStore()


def _writer(gated: GatedStore, **options: int) -> Writer:
    return Writer(gated, **options)  # type: ignore[arg-type]  # a double with the same two methods


def test_many_senders_are_stored_and_answered(store: Store) -> None:
    writer = Writer(store)
    twice = sample(node=0)
    futures = [writer.submit([sample(node=number), twice]) for number in range(1, 30)]
    writer.close()
    answers = [future.result(timeout=30) for future in futures]
    assert [answer[0] for answer in answers] == ["new"] * 29
    assert [answer[1] for answer in answers] == ["new"] + ["known"] * 28
    assert writer.pending == 0


def test_who_comes_during_a_commit_shares_the_next(gated: GatedStore) -> None:
    writer = _writer(gated, max_group=7)
    first = writer.submit([sample()])
    assert gated.entered.wait(timeout=30)
    others = [writer.submit([sample()] * 2) for _ in range(5)]
    gated.gate.set()
    writer.close()
    assert gated.calls == [1, 6, 4]
    assert [len(future.result()) for future in [first, *others]] == [1, 2, 2, 2, 2, 2]


def test_a_full_queue_says_when_to_come_again(gated: GatedStore) -> None:
    writer = _writer(gated, max_pending=3, retry_after_s=9)
    large = writer.submit([sample()] * 4)  # larger than the queue, but alone
    with pytest.raises(Busy, match="4 reports wait") as caught:
        writer.submit([sample()])
    assert caught.value.retry_after_s == 9
    gated.gate.set()
    assert large.result(timeout=30) == ["new"] * 4
    writer.close()
    with pytest.raises(Busy, match="shutting down"):
        writer.submit([sample()])


def test_only_the_guilty_fail(gated: GatedStore) -> None:
    writer = _writer(gated)
    writer.submit([sample()])
    assert gated.entered.wait(timeout=30)
    good, bad = writer.submit([sample()]), writer.submit([sample()._replace(raw=b"poison")])
    gated.gate.set()
    assert good.result(timeout=30) == ["new"]
    with pytest.raises(KeyError):
        bad.result(timeout=30)
    gated.failure = DatabaseUnavailable("gone", "wait")
    with pytest.raises(DatabaseUnavailable):
        writer.submit([sample()]).result(timeout=30)
    gated.failure = None
    assert writer.submit([sample()]).result(timeout=30) == ["new"]
    writer.close()


def test_a_sender_that_left_does_not_stop_the_writer(gated: GatedStore) -> None:
    writer = _writer(gated)
    writer.submit([sample()])
    assert gated.entered.wait(timeout=30)
    assert writer.submit([sample()] * 5).cancel()
    stays = writer.submit([sample()])
    gated.gate.set()
    assert stays.result(timeout=30) == ["new"]
    writer.close()
    assert sum(gated.calls) == 2
