"""Nodes on which an image runs: what is predicted from their profiles, outweighed by what was observed. Pure.

Counted place by place: the nodes of one profile at one site. Nodes of a place on which the image was tried count as they
did; the others as their profile predicts. Where more were seen than are there now (nodes that left), the nodes that are
there are shared out as those were.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from site_db.images.fleet import Fleet, KnownImage, Place, Seen
from site_db.images.needs import Need, Outcome, Predictions
from site_db.images.nvidia import Truth
from site_db.reasons import Reason, explain_reason
from site_db.rules import Rules
from site_db.times import moment
from site_db.verdicts import Answer, confidence_of, wilson

_OBSERVED_YES = frozenset({"ok"})
_OBSERVED_NO = frozenset({"fail", "timeout"})
_REASONS_SHOWN = 5


class Counts(NamedTuple):
    """Nodes by answer."""

    yes: int = 0
    no: int = 0
    unknown: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(self.yes + other.yes, self.no + other.no, self.unknown + other.unknown)

    @property
    def total(self) -> int:
        """All nodes."""
        return self.yes + self.no + self.unknown

    @property
    def share(self) -> float | None:
        """Yes among yes and no; None where there is neither."""
        measured = self.yes + self.no
        return self.yes / measured if measured else None

    def answer(self, rules: Rules) -> Answer:
        """The answer for all of them together, by the limits that verdicts have.

        Where none says yes and most cannot tell, nobody knows: of an image that nobody looked at, only no is ever sure.
        """
        share = self.share
        if share is None or (not self.yes and self.unknown > self.no):
            return "unknown"
        return "yes" if share >= rules.yes_from else "no" if share <= rules.no_up_to else "mixed"


@dataclass(frozen=True)
class Judged:
    """Counts with what they mean: answer, confidence, and the 95 % bounds of the share."""

    answer: Answer
    confidence: str
    counts: Counts
    share: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class WhyNot:
    """Nodes on which the image does not run, or nobody can tell, for one reason. `observed`: of a test, not predicted."""

    reason: Reason
    answer: Truth
    nodes: int
    observed: bool


@dataclass(frozen=True)
class SiteMatch:
    """One image at one site. `gpu`: starting and meeting what it asks of GPUs; None for an image that asks nothing.

    `limited`: nodes that count as yes by minor-version compatibility of CUDA only. `newest`: of the observations.
    """

    site: str
    nodes: int
    start: Judged
    predicted: Counts
    observed: Counts
    gpu: Judged | None
    limited: int
    why_not: tuple[WhyNot, ...]
    newest: datetime | None


@dataclass(frozen=True)
class Disagreement:
    """Nodes of one kind at one site on which an image did other than was predicted: one of the two is wrong."""

    image: str
    site: str
    predicted: Truth
    predicted_reason: str | None
    observed: Truth
    observed_reason: str | None
    nodes: int
    of_nodes: int
    newest: datetime


class Tried(NamedTuple):
    """How nodes of one place did."""

    yes: int
    no: int


def settle(nodes: int, start: Truth, tried: Tried | None, gpu: Truth = "yes") -> Counts:
    """The nodes of one place by answer."""
    if gpu == "no":
        return Counts(no=nodes)
    yes, no = _fitted(tried, nodes) if tried else (0, 0)
    rest = nodes - yes - no
    if start == "yes":
        yes += rest
    elif start == "no":
        no += rest
    if gpu == "unknown":
        return Counts(0, no, nodes - no)
    return Counts(yes, no, nodes - yes - no)


def _fitted(tried: Tried, nodes: int) -> Tried:
    seen = tried.yes + tried.no
    if seen <= nodes:
        return tried
    yes = round(nodes * tried.yes / seen)
    return Tried(yes, nodes - yes)


def judged(counts: Counts, rules: Rules) -> Judged:
    """What counts mean."""
    measured = counts.yes + counts.no
    lower, upper = wilson(counts.yes, measured) if measured else (None, None)
    confidence = confidence_of(counts.yes, measured, counts.total, rules)
    return Judged(counts.answer(rules), confidence, counts, counts.share, lower, upper)


def tried_by_place(seen: Iterable[Seen]) -> dict[Place, Tried]:
    """The observations of one image by place; an outcome that is neither yes nor no tells nothing."""
    found: dict[Place, Tried] = {}
    for row in seen:
        yes = row.nodes if row.status in _OBSERVED_YES else 0
        no = row.nodes if row.status in _OBSERVED_NO else 0
        if yes or no:
            place = (row.site_id, row.profile_id)
            before = found.get(place, Tried(0, 0))
            found[place] = Tried(before.yes + yes, before.no + no)
    return found


def match_sites(
    image: KnownImage, fleet: Fleet, predictions: Predictions, seen: Iterable[Seen], rules: Rules
) -> list[SiteMatch]:
    """One image at every site of the fleet, the sites with the most nodes that run it first."""
    rows = list(seen)
    by_site: dict[int, _AtSite] = {number: _AtSite() for number in fleet.sites}
    tried = tried_by_place(rows)
    wants_gpu = asks_of_gpus(image.need)
    start = predictions.of(image.need)
    gpu = predictions.of(image.need, "gpu") if wants_gpu else {}
    for place, nodes in fleet.nodes.items():
        site, profile = place
        by_site[site].add(nodes, start[profile], tried.get(place), gpu.get(profile))
    for row in rows:
        if (row.site_id, row.profile_id) in fleet.nodes:
            by_site[row.site_id].saw(row)
    found = [by_site[number].result(name, wants_gpu, rules) for number, name in fleet.sites.items()]
    return sorted(found, key=lambda match: (-match.start.counts.yes, match.start.counts.no, match.site))


def asks_of_gpus(need: Need) -> bool:
    """Whether the image is known to ask anything of GPUs."""
    return bool(need.cuda)


_COLUMNS: dict[Truth, int] = {"yes": 0, "no": 1, "unknown": 2}


class _AtSite:
    """Sums up the places of one site: nodes [yes, no, unknown]."""

    def __init__(self) -> None:
        self.counts, self.predicted, self.gpu, self.observed = [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]
        self.nodes = self.limited = self.newest = 0
        self.reasons: dict[tuple[str | None, Truth, bool], int] = {}

    def add(self, nodes: int, start: Outcome, tried: Tried | None, gpu: Outcome | None) -> None:
        counts = settle(nodes, start.answer, tried)
        self.nodes += nodes
        _add(self.counts, counts)
        self.predicted[_COLUMNS[start.answer]] += nodes
        if start.answer != "yes":
            self._because(start, nodes - sum(_fitted(tried, nodes)) if tried else nodes)
        if gpu is not None:
            _add(self.gpu, settle(nodes, start.answer, tried, gpu.answer))
            self.limited += counts.yes if gpu.limit else 0
            if gpu.answer != "yes":
                self._because(gpu, counts.yes)

    def _because(self, outcome: Outcome, nodes: int) -> None:
        if nodes:
            key = (outcome.reason, outcome.answer, False)
            self.reasons[key] = self.reasons.get(key, 0) + nodes

    def saw(self, row: Seen) -> None:
        answer = _observed_answer(row)
        self.observed[_COLUMNS[answer]] += row.nodes
        if answer == "no":
            key: tuple[str | None, Truth, bool] = (row.reason or None, "no", True)
            self.reasons[key] = self.reasons.get(key, 0) + row.nodes
        self.newest = max(row.newest, self.newest)

    def result(self, name: str, wants_gpu: bool, rules: Rules) -> SiteMatch:
        ranked = sorted(self.reasons.items(), key=lambda item: (item[0][1], -item[1], item[0][0] or ""))
        return SiteMatch(
            site=name,
            nodes=self.nodes,
            start=judged(Counts(*self.counts), rules),
            predicted=Counts(*self.predicted),
            observed=Counts(*self.observed),
            gpu=judged(Counts(*self.gpu), rules) if wants_gpu else None,
            limited=self.limited,
            why_not=tuple(_why_not(key, nodes) for key, nodes in ranked[:_REASONS_SHOWN]),
            newest=moment(self.newest) if self.newest else None,
        )


def _add(sums: list[int], counts: Counts) -> None:
    sums[0] += counts[0]
    sums[1] += counts[1]
    sums[2] += counts[2]


def _observed_answer(row: Seen) -> Truth:
    return "yes" if row.status in _OBSERVED_YES else "no" if row.status in _OBSERVED_NO else "unknown"


def _why_not(key: tuple[str | None, Truth, bool], nodes: int) -> WhyNot:
    code, answer, observed = key
    return WhyNot(explain_reason(code or "not_known"), answer, nodes, observed)


def disagreements(
    image: KnownImage, fleet: Fleet, start: Mapping[int, Outcome], seen: Iterable[Seen], most: int | None = None
) -> list[Disagreement]:
    """Where nodes that are there now, and what was observed on their kind, contradict each other; the most nodes first.

    `most`: no more than so many.
    """
    rows = [row for row in seen if (row.site_id, row.profile_id) in fleet.nodes and _contradicts(row, start)]
    rows.sort(key=lambda row: (-row.nodes, fleet.sites[row.site_id]))
    return [_disagreement(image, fleet, start[row.profile_id], row) for row in rows[:most]]


def _contradicts(row: Seen, start: Mapping[int, Outcome]) -> bool:
    return {_observed_answer(row), start[row.profile_id].answer} == {"yes", "no"}


def _disagreement(image: KnownImage, fleet: Fleet, predicted: Outcome, row: Seen) -> Disagreement:
    reasons = (predicted.reason, _observed_answer(row), row.reason or None)
    nodes = fleet.nodes[row.site_id, row.profile_id]
    site = fleet.sites[row.site_id]
    return Disagreement(image.reference, site, predicted.answer, *reasons, row.nodes, nodes, moment(row.newest))
