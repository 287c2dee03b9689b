"""Changes: what an entry lost or gained. Pure; the tables are in changes_recording.py, the thinking in docs/changes.md.

Every node is compared with itself: with the last answer it gave that is not in doubt (`expected`). One Watch weighs, for
one capability of one entry and one direction, the reports that speak for a change and those that speak against it.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from site_db.rules import ChangeRules

Direction = Literal["lost", "gained"]
State = Literal["suspected", "confirmed", "closed", "settled", "dropped", "merged"]
# By capability: yes, no or unknown, and the reason given.
Answers = Mapping[str, tuple[str, str | None]]

_NOTHING: tuple[str, str | None] = ("unknown", None)


class Heard(NamedTuple):
    """One report of a node: what it answers now, what its report before answered (None: it is a new node), and how many
    reports it had sent before.
    """

    node_id: int
    at: int
    report: int | None
    now: Answers
    before: Answers | None
    earlier: int


class Deviation(NamedTuple):
    """What a node answered before it answered something else, and how many reports it had sent until then."""

    expected: str
    support: int


@dataclass
class Against:
    """A node that answers contrary to what it answered before: how many reports in a row, and the first of them."""

    streak: int
    at: int
    report: int | None


def weight(share: float, noise: float, streak: int) -> float:
    """How much likelier `streak` contrary reports in a row of one node are if `share` of the nodes changed, as a log."""
    by_chance = noise**streak
    return math.log((share + (1 - share) * by_chance) / by_chance)


@dataclass
class Watch:
    """One capability of one entry in one direction, from the first contrary report until it is as before."""

    entry_id: int
    capability: str
    direction: Direction
    rules: ChangeRules
    state: State = "suspected"
    id: int | None = None
    scores: list[float] = field(default_factory=list)
    against: dict[int, Against] = field(default_factory=dict)
    first_at: int = 0
    first_node_id: int = 0
    first_report: int | None = None
    last_at: int = 0
    confirmed_at: int | None = None
    closed_at: int | None = None
    reason: str | None = None
    returned: int = 0
    flaps: int = 0
    superseded: int | None = None  # the row that this one's relapse made needless

    def __post_init__(self) -> None:
        self.scores = self.scores or [0.0] * len(self.rules.shares)

    @property
    def score(self) -> float:
        """The highest of the scores."""
        return max(self.scores)

    def take_contrary(self, heard: Heard, reason: str | None, size: int) -> None:
        """A report speaks for the change; the entry has `size` nodes."""
        node = self.against.setdefault(heard.node_id, Against(0, heard.at, heard.report))
        node.streak += 1
        self.last_at, self.returned = heard.at, 0
        self.reason = reason or self.reason
        if self.state == "suspected":
            needed = max(1, min(self.rules.nodes, size))
            self._add(node.streak, 1, needed > 1)
            self._add(node.streak - 1, -1, needed > 1)
            self._tell_first()
            if self.score >= self.rules.confirm and len(self.against) >= needed:
                self.state, self.confirmed_at = "confirmed", heard.at

    def take_expected(self, heard: Heard, size: int) -> None:
        """A report speaks against the change."""
        if self.state == "confirmed":
            self._take_return(heard)
            return
        node = self.against.pop(heard.node_id, None)
        if node:
            self._add(node.streak, -1, min(self.rules.nodes, size) > 1)
        self.scores = [
            max(0.0, score + math.log(1 - share))
            for score, share in zip(self.scores, self.rules.shares, strict=True)
        ]
        if not self.against or self.score <= 0:
            self.state = "dropped"
        else:
            self._tell_first()

    def relapse_of(self, closed: "Watch") -> None:
        """Become the change that was taken back before: it flaps, and is one change."""
        self.flaps = closed.flaps + 1
        self.first_at, self.first_node_id, self.first_report = closed.first_at, closed.first_node_id, closed.first_report
        self.id, self.superseded = closed.id or self.id, self.id if closed.id else None
        closed.state = "merged"

    def _take_return(self, heard: Heard) -> None:
        if heard.node_id in self.against or heard.before is None:
            self.returned += 1
            if self.returned >= self.rules.close_reports * (1 + self.flaps):
                self.state, self.closed_at = "closed", heard.at

    def _add(self, streak: int, sign: int, bounded: bool) -> None:
        if streak:
            most = self.rules.confirm * (self.rules.node_most if bounded else math.inf)
            self.scores = [
                score + sign * min(most, weight(share, self.rules.noise, streak))
                for score, share in zip(self.scores, self.rules.shares, strict=True)
            ]

    def _tell_first(self) -> None:
        """From which node on: of those that still speak for the change."""
        node_id, first = min(self.against.items(), key=lambda item: item[1].at)
        self.first_at, self.first_node_id, self.first_report = first.at, node_id, first.report


class EntryChanges:
    """What is going on at one entry: `watches` by capability and direction, `deviations` by node, then capability.

    A deviation holds what a node answered before, for as long as it answers something else. `closed` are the changes
    that were taken back not long ago: what comes again is one of these, not a new one. `expectation` says what a
    node that was never seen before should answer, or None (it is None itself where nobody
    knows); `size` is the entry's number of nodes.
    """

    def __init__(
        self,
        entry_id: int,
        rules: ChangeRules,
        size: int = 1,
        expectation: Callable[[str], str | None] | None = None,
    ) -> None:
        self.entry_id = entry_id
        self.size = size
        self.watches: dict[tuple[str, Direction], Watch] = {}
        self.deviations: dict[int, dict[str, Deviation]] = {}
        self.closed: dict[tuple[str, Direction], Watch] = {}
        self._rules = rules
        self.expectation = expectation

    def take(self, heard: Heard) -> Iterator[Watch]:
        """Weigh one report; the watches that it touched, those that are over among them."""
        for capability in sorted(self._in_question(heard)):
            watch = self._weigh(capability, heard)
            if watch:
                yield watch

    def _in_question(self, heard: Heard) -> set[str]:
        watched = {capability for capability, _ in self.watches}
        deviating = set(self.deviations.get(heard.node_id, ()))
        if heard.before is None:
            return watched | deviating | (set(heard.now) if self.expectation else set())
        if heard.before is heard.now:
            return watched | deviating
        names = heard.before.keys() | heard.now.keys()
        changed = {name for name in names if heard.before.get(name, _NOTHING)[0] != heard.now.get(name, _NOTHING)[0]}
        return watched | deviating | changed

    def _weigh(self, capability: str, heard: Heard) -> Watch | None:
        deviations = self.deviations.setdefault(heard.node_id, {})
        said, reason = heard.now.get(capability, _NOTHING)
        deviation = deviations.get(capability) or self._expected(capability, heard)
        if deviation is None:
            return None
        if said == "unknown":
            if heard.before is not None:
                deviations[capability] = deviation
            return None
        direction: Direction = "lost" if deviation.expected == "yes" else "gained"
        if said == deviation.expected:
            return self._as_expected(capability, direction, heard)
        if heard.before is None or deviation.support >= self._rules.known_reports:
            deviations[capability] = deviation
            return self._contrary(capability, direction, heard, reason)
        # Little is known of this node: what it answers more often is what it can.
        if heard.earlier - deviation.support >= deviation.support:
            deviations.pop(capability, None)
        else:
            deviations[capability] = deviation
        return None

    def _as_expected(self, capability: str, direction: Direction, heard: Heard) -> Watch | None:
        watch = self.watches.get((capability, direction))
        if watch:
            watch.take_expected(heard, self.size)
        if watch is None or watch.state != "confirmed":
            self.deviations[heard.node_id].pop(capability, None)
        self._end_if_over(watch)
        return watch

    def _expected(self, capability: str, heard: Heard) -> Deviation | None:
        answered = None if heard.before is None else heard.before.get(capability, _NOTHING)[0]
        if answered in ("yes", "no"):
            return Deviation(answered, heard.earlier)
        expected = self.expectation(capability) if self.expectation else None
        return Deviation(expected, self._rules.known_reports) if expected else None

    def _contrary(self, capability: str, direction: Direction, heard: Heard, reason: str | None) -> Watch:
        key = (capability, direction)
        if key not in self.watches:
            self.watches[key] = Watch(self.entry_id, capability, direction, self._rules)
        watch = self.watches[key]
        was = watch.state
        watch.take_contrary(heard, reason, self.size)
        if watch.state != was and key in self.closed:
            watch.relapse_of(self.closed.pop(key))
        return watch

    def _end_if_over(self, watch: Watch | None) -> None:
        if watch and watch.state in ("closed", "dropped"):
            key = (watch.capability, watch.direction)
            del self.watches[key]
            if watch.state == "closed":
                self.closed[key] = watch
