"""Answers that are kept: fresh where that is cheap, old rather than slow where it is not."""

import gc
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Connection

from reports.pages.kept import Kept
from site_db.data_version import data_version
from site_db.store import Store, Submission
from site_db.times import parse_time
from tests.sample_reports import sample_report

NOW = parse_time("2026-11-20T12:00:00Z")


@pytest.fixture(autouse=True)
def nobody_elses_garbage() -> None:
    """What is tested here collects garbage: sockets that tests before it left are no fault of this one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'site.db'}")
    yield opened
    opened.close()


class Question:
    """Counts how often it was asked; each time costs `cost_s`."""

    def __init__(self, clock: Clock, cost_s: float = 0.0) -> None:
        self.asked = 0
        self._clock = clock
        self._cost_s = cost_s

    def __call__(self) -> int:
        self.asked += 1
        self._clock.now += self._cost_s
        return self.asked


def add_report(store: Store) -> None:
    report = sample_report()
    assert NOW is not None
    store.add([Submission(report, orjson.dumps(report), NOW)])


def renewed(kept: Kept) -> None:
    """Wait for the thread that makes answers anew."""
    kept.close()


def test_an_answer_holds_for_a_minute_while_nothing_new_is_stored(store: Store):
    clock = Clock()
    kept, question = Kept(store, clock), Question(clock)
    assert [kept.ask("it", question) for _ in range(3)] == [1, 1, 1]
    clock.now += 61
    assert kept.ask("it", question) == 2


def test_a_cheap_answer_is_fresh_after_a_report(store: Store):
    clock = Clock()
    kept, question = Kept(store, clock), Question(clock)
    assert kept.ask("it", question) == 1
    add_report(store)
    assert kept.ask("it", question) == 2


def test_an_answer_that_cost_much_holds_in_proportion(store: Store):
    clock = Clock()
    kept, question = Kept(store, clock), Question(clock, cost_s=0.5)
    assert kept.ask("it", question) == 1
    add_report(store)
    clock.now += 9.9
    assert kept.ask("it", question) == 1
    clock.now += 0.2
    kept.ask("it", question)
    renewed(kept)
    assert question.asked == 2


class Blocked:
    """A question that is answered when it is let go."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked = 0
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def __call__(self) -> int:
        self.asked += 1
        self.clock.now += 1
        self.entered.set()
        assert self.go_on.wait(20)
        return self.asked


def test_all_get_the_old_answer_while_a_thread_makes_it_anew_once(store: Store):
    clock = Clock()
    kept, question = Kept(store, clock), Blocked(clock)
    assert kept.ask("it", question) == 1
    question.entered.clear()
    question.go_on.clear()
    clock.now += 61
    assert [kept.ask("it", question) for _ in range(3)] == [1, 1, 1]
    assert question.entered.wait(20)
    assert kept.ask("it", question) == 1
    question.go_on.set()
    renewed(kept)
    assert kept.ask("it", question) == 2
    assert question.asked == 2


def test_what_nobody_asks_for_is_not_made(store: Store):
    clock = Clock()
    kept, question = Kept(store, clock), Question(clock, cost_s=0.5)
    kept.ask("it", question)
    clock.now += 61
    kept.ask("another", Question(clock))
    renewed(kept)
    assert question.asked == 1


def test_nobody_gets_an_answer_that_is_older_than_three_minutes(store: Store):
    clock = Clock()
    kept, question = Kept(store, clock), Question(clock, cost_s=0.5)
    kept.ask("it", question)
    clock.now += 181
    assert kept.ask("it", question) == 2


def test_an_answer_is_no_fresher_than_what_it_was_made_from(store: Store):
    clock = Clock()
    kept, part = Kept(store, clock), Question(clock, cost_s=0.5)
    kept.ask("part", part)
    clock.now += 61
    assert kept.ask("whole", lambda: [kept.ask("part", part)]) == [1]
    renewed(kept)
    assert kept.ask("whole", lambda: [kept.ask("part", part)]) == [2]


def test_what_is_made_anew_is_made_from_nothing_old(store: Store):
    clock = Clock()
    kept, part, whole = Kept(store, clock), Question(clock, cost_s=0.5), Question(clock, cost_s=0.5)

    def both() -> tuple[int, int]:
        return whole(), kept.ask("part", part)

    kept.ask("whole", both)
    clock.now += 61
    assert kept.ask("whole", both) == (1, 1)
    renewed(kept)
    assert kept.ask("whole", both) == (2, 2)
    assert (whole.asked, part.asked) == (2, 2)


def test_whoever_asks_after_a_renewal_that_failed_hears_why(store: Store):
    clock = Clock()
    kept, question = Kept(store, clock), Question(clock, cost_s=0.5)
    kept.ask("it", question)
    clock.now += 61
    assert kept.ask("it", lambda: 1 // 0) == 1
    renewed(kept)
    with pytest.raises(ZeroDivisionError):
        kept.ask("it", lambda: 1 // 0)
    assert kept.ask("it", question) == 2


def test_after_closing_nothing_is_made_anew_behind_anybodys_back(store: Store):
    clock = Clock()
    kept, question = Kept(store, clock), Question(clock, cost_s=0.5)
    kept.ask("it", question)
    kept.close()
    clock.now += 61
    assert kept.ask("it", question) == 1
    kept.close()
    assert question.asked == 1


def test_a_page_looks_once_whether_something_is_new(store: Store, monkeypatch: pytest.MonkeyPatch):
    looks: list[object] = []

    def look(connection: Connection) -> tuple[int, ...]:
        looks.append(connection)
        return data_version(connection)

    monkeypatch.setattr("reports.pages.kept.data_version", look)
    kept = Kept(store)
    with kept.one_look():
        assert [kept.ask(number, lambda: "made") for number in range(5)] == ["made"] * 5
    assert len(looks) == 1
    add_report(store)
    with kept.one_look():
        assert kept.ask(0, lambda: "made anew") == "made anew"


def test_a_question_that_fails_is_asked_again(store: Store):
    kept = Kept(store)
    with pytest.raises(ZeroDivisionError):
        kept.ask("it", lambda: 1 // 0)
    assert kept.ask("it", lambda: 1) == 1


def test_questions_that_fail_leave_nothing_behind(store: Store):
    kept = Kept(store)
    for number in range(50):
        with pytest.raises(ZeroDivisionError):
            kept.ask(number, lambda: 1 // 0)
    assert not kept._making  # what grew is nowhere else to be seen
    assert kept.ask(0, lambda: 1) == 1


def test_collections_of_garbage_pass_over_answers_that_took_long(store: Store):
    clock = Clock()
    kept = Kept(store, clock)
    before = gc.get_freeze_count()
    kept.ask("small", Question(clock, 0.01))
    assert gc.get_freeze_count() == before
    kept.ask("large", Question(clock, 1))
    assert gc.get_freeze_count() > before
