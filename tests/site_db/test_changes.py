"""Changes, the pure part: what speaks for one, what against, and when it is over. A letter is a report: y(es), n(o), ?."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from site_db import views
from site_db.changes import EntryChanges, Heard, Watch, weight
from site_db.changes_views import Wanted, list_changes, mark_told, untold_changes
from site_db.rules import default_rules
from site_db.store import Store
from tests.site_db.submissions import NOW, sample

RULES = default_rules().changes
SAID = {"y": "yes", "n": "no", "?": "unknown"}


def hear(entry: EntryChanges, story: list[tuple[int, str]]) -> list[Watch]:
    """Reports of nodes that are known well, in order; the last state of every watch."""
    last: dict[int, str] = {}
    sent: dict[int, int] = {}
    seen: dict[int, Watch] = {}
    for at, (node, letter) in enumerate(story):
        before = {"c": (SAID[last.get(node, "y")], None)}
        heard = Heard(node, at, at, {"c": (SAID[letter], None)}, before, 50 + sent.get(node, 0))
        for watch in entry.take(heard):
            seen[id(watch)] = watch
        last[node], sent[node] = letter, sent.get(node, 0) + 1
    return list(seen.values())


def cycle(nodes: range, letters: str) -> list[tuple[int, str]]:
    """Every node says the first letter, then every node the second, and so on."""
    return [(node, letter) for letter in letters for node in nodes]


TEN = range(10)
STORIES = {
    "all nodes lose it": (cycle(TEN, "yn"), 10, {"confirmed"}),
    "a single node in an entry of one loses it": ([(1, letter) for letter in "ynnnn"], 1, {"confirmed"}),
    "a single node says no once": ([(1, letter) for letter in "ynyyyy"], 1, {"dropped"}),
    "one broken node of ten stays one": (cycle(TEN, "y") + 6 * [(1, "n"), *cycle(range(2, 10), "y")], 10, {"suspected"}),
    "one that flaps": ([(1, letter) for letter in "ynynynynyny"], 1, {"dropped"}),
    "nobody can tell": (cycle(TEN, "y??"), 10, set()),
    "nobody could tell, then no": (cycle(TEN, "y?n"), 10, {"confirmed"}),
    "they lose it and get it back": (cycle(TEN, "ynny"), 10, {"closed"}),
}


@pytest.mark.parametrize(("story", "size", "states"), STORIES.values(), ids=STORIES)
def test_what_becomes_of(story: list[tuple[int, str]], size: int, states: set[str]) -> None:
    assert {watch.state for watch in hear(EntryChanges(1, RULES, size), story)} == states


def test_a_change_says_from_which_node_on() -> None:
    story = [*cycle(TEN, "y"), (3, "n"), (3, "y"), *[(node, "n") for node in (7, 8, 9, 1, 2, 3)]]
    [watch] = [watch for watch in hear(EntryChanges(1, RULES, 10), story) if watch.state == "confirmed"]
    assert (watch.first_node_id, watch.first_at, watch.direction) == (7, 12, "lost")


def test_a_relapse_is_the_same_change() -> None:
    entry = EntryChanges(1, RULES, 10)
    watches = hear(entry, cycle(TEN, "ynyn"))
    [now] = [watch for watch in watches if watch.state == "confirmed"]
    assert now.flaps == 1
    assert [watch.state for watch in watches if watch is not now] == ["merged"]


def test_a_node_of_which_little_is_known_speaks_for_nothing() -> None:
    entry = EntryChanges(1, RULES, 1)
    for number, letter in enumerate("nyyyyyy"):
        before = {"c": (SAID["n" if number < 2 else "y"], None)} if number else None
        assert list(entry.take(Heard(1, number, number, {"c": (SAID[letter], None)}, before, number))) == []
    assert entry.deviations == {1: {}}


@given(st.floats(0.001, 0.9), st.integers(1, 20))
def test_every_contrary_report_in_a_row_weighs_more(share: float, streak: int) -> None:
    assert weight(share, RULES.noise, streak) < weight(share, RULES.noise, streak + 1)


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from("yn?")), max_size=60))
def test_no_story_leaves_a_watch_that_is_over(story: list[tuple[int, str]]) -> None:
    entry = EntryChanges(1, RULES, 4)
    hear(entry, story)
    assert {watch.state for watch in entry.watches.values()} <= {"suspected", "confirmed"}
    assert all(score >= 0 for watch in entry.watches.values() if watch.state == "suspected" for score in watch.scores)


def feed(store: Store, case: str, days_ago: float, nodes: range = range(1, 9)) -> None:
    for node in nodes:
        store.add([sample(case, node=node, hours_ago=24 * days_ago - node / 60)])


def lose(store: Store) -> None:
    for days_ago in (10, 9, 8, 7, 6):
        feed(store, "healthy", days_ago)
    feed(store, "no_runtime", 5)


def test_a_loss_is_listed_with_entry_node_and_cause(store: Store) -> None:
    lose(store)
    [change] = list_changes(store, NOW).changes
    assert (change.entry, change.site, change.capability) == ("Example_T2_CE1", "Example-T2", "singularity")
    assert (change.direction, change.state, change.reason) == ("lost", "confirmed", "runtime_not_found")
    assert (change.nodes, change.first_node) == (8, "wn001.example.org")
    assert change.first_report_id
    assert "wn001.example.org" in change.sentence


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(since=NOW - timedelta(days=6)), 1),
        (Wanted(since=NOW - timedelta(days=4)), 0),
        (Wanted(entry="Example_T2_CE1", site="Example-T2", capability="singularity"), 1),
        (Wanted(entry="Other"), 0),
        (Wanted(site="\0"), 0),
        (Wanted(capability="gpu"), 0),
    ],
)
def test_changes_are_asked_for_by_time_and_name(store: Store, wanted: Wanted, found: int) -> None:
    lose(store)
    assert len(list_changes(store, NOW, wanted).changes) == found


def test_a_change_back_closes_it_and_it_is_told_once(store: Store) -> None:
    lose(store)
    [change] = untold_changes(store)
    mark_told(store, change.id, NOW)
    assert untold_changes(store) == []
    feed(store, "healthy", 4)
    [closed] = list_changes(store, NOW).changes
    assert (closed.state, closed.id) == ("closed", change.id)
    assert closed.closed_at
    feed(store, "no_runtime", 3)
    [again] = list_changes(store, NOW).changes
    assert (again.state, again.id, again.relapses) == ("confirmed", change.id, 1)
    assert untold_changes(store) == []


def test_what_lasts_is_the_new_normal_and_its_end_a_change_of_its_own(store: Store) -> None:
    for days_ago in (30, 29, 28, 27, 26):
        feed(store, "healthy", days_ago)
    for days_ago in range(25, 10, -1):
        feed(store, "no_runtime", days_ago)
    for days_ago in (5, 4):
        feed(store, "healthy", days_ago)
    found = {(change.direction, change.state) for change in list_changes(store, NOW).changes}
    assert ("lost", "settled") in found
    assert ("gained", "confirmed") in found


def test_late_reports_change_nothing(store: Store) -> None:
    for days_ago in (5, 4, 3, 2, 1):
        feed(store, "healthy", days_ago)
    feed(store, "no_runtime", 8)
    assert list_changes(store, NOW).changes == ()
    assert views.entry_report(store, "Example_T2_CE1", NOW).verdicts[0].answer == "yes"
