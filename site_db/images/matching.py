"""Nodes on which an image runs: what is predicted from their profiles, outweighed by what was observed. Pure.

Counted place by place: the nodes of one profile at one site. Nodes of a place on which the image was tried count as they
did; the others as their profile predicts. Where more were seen than are there now (nodes that left), the nodes that are
there are shared out as those were.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from site_db.images.fleet import Fleet, KnownImage, Seen
from site_db.images.needs import Need, Predictions
from site_db.images.node_kinds import Outcome
from site_db.images.nvidia import Truth
from site_db.reasons import Reason, explain_reason
from site_db.rules import Rules
from site_db.times import moment
from site_db.verdicts import Answer, confidence_of, wilson

# What the outcome of a test tells; any other tells nothing.
_TOLD: dict[str, Truth] = {"ok": "yes", "fail": "no", "timeout": "no"}
_CONTRARY: dict[Truth, Truth] = {"yes": "no", "no": "yes"}
_REASONS_SHOWN = 5


class Counts(NamedTuple):
    """Nodes by answer."""

    yes: int = 0
    no: int = 0
    unknown: int = 0

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


def settle(nodes: int, start: Truth, ran: int = 0, failed: int = 0, gpu: Truth = "yes") -> Counts:
    """The nodes of one place by answer. `ran`, `failed`: nodes of it on which the image was tried."""
    return Counts(*_with_gpu(*_settled(nodes, start, ran, failed), gpu))


# Of thousands of places one after the other: plain numbers take half the time that a Counts for each does.
_Numbers = tuple[int, int, int]


def _settled(nodes: int, start: Truth, ran: int, failed: int) -> _Numbers:
    if ran + failed > nodes:
        ran = round(nodes * ran / (ran + failed))
        failed = nodes - ran
    if start == "yes":
        return nodes - failed, failed, 0
    if start == "no":
        return ran, nodes - ran, 0
    return ran, failed, nodes - ran - failed


def _with_gpu(yes: int, no: int, unknown: int, gpu: Truth) -> _Numbers:
    """What becomes of these nodes if their GPUs, too, have to suit."""
    if gpu == "yes":
        return yes, no, unknown
    return (0, yes + no + unknown, 0) if gpu == "no" else (0, no, yes + unknown)


def judged(counts: Counts, rules: Rules) -> Judged:
    """What counts mean."""
    yes, no, unknown = counts
    lower, upper = wilson(yes, yes + no) if yes or no else (None, None)
    confidence = confidence_of(yes, yes + no, yes + no + unknown, rules)
    return Judged(counts.answer(rules), confidence, counts, counts.share, lower, upper)


def match_sites(
    image: KnownImage, fleet: Fleet, predictions: Predictions, seen: Iterable[Seen], rules: Rules
) -> list[SiteMatch]:
    """One image at every site of the fleet, the sites with the most nodes that run it first."""
    rows: dict[int, list[Seen]] = {number: [] for number in fleet.sites}
    for number, together in groupby(seen, attrgetter("site_id")):
        if number in rows:
            rows[number].extend(together)
    start = predictions.of(image.need)
    gpu = predictions.of(image.need, "gpu") if asks_of_gpus(image.need) else None
    found = []
    for number, name in fleet.sites.items():
        profiles = fleet.at_site(number)
        observed = _observed(rows[number], profiles)
        predicted = _predicted(profiles, observed, start, gpu)
        found.append(_site_match(name, sum(profiles.values()), observed, predicted, rules))
    return sorted(found, key=lambda match: (-match.start.counts.yes, match.start.counts.no, match.site))


def asks_of_gpus(need: Need) -> bool:
    """Whether the image is known to ask anything of GPUs."""
    return bool(need.cuda)


class _Observed(NamedTuple):
    """What tests of one image told at one site: nodes by profile, altogether, and why they failed by reason."""

    ran: Mapping[int, int]
    failed: Mapping[int, int]
    counts: Counts
    failures: Mapping[str, int]
    newest: int


def _observed(rows: Iterable[Seen], profiles: Container[int]) -> _Observed:
    """Of the profiles that are there now."""
    ran: dict[int, int] = {}
    failed: dict[int, int] = {}
    failures: dict[str, int] = {}
    yes = no = unknown = newest = 0
    for _, _, profile, status, reason, nodes, when in rows:
        if profile not in profiles:
            continue
        newest = when if when > newest else newest
        answer = _TOLD.get(status)
        if answer == "yes":
            yes += nodes
            ran[profile] = ran.get(profile, 0) + nodes
        elif answer == "no":
            no += nodes
            failed[profile] = failed.get(profile, 0) + nodes
            failures[reason] = failures.get(reason, 0) + nodes
        else:
            unknown += nodes
    return _Observed(ran, failed, Counts(yes, no, unknown), failures, newest)


class _Predicted(NamedTuple):
    """The nodes of one site with what is predicted of them, and why by outcome. `start`, `gpu`: after observation."""

    alone: Counts
    start: Counts
    gpu: Counts | None
    limited: int
    why_not: Mapping[Outcome, int]


def _predicted(
    profiles: Mapping[int, int],
    observed: _Observed,
    start: Mapping[int, Outcome],
    gpu: Mapping[int, Outcome] | None,
) -> _Predicted:
    alone: dict[Truth, int] = {"yes": 0, "no": 0, "unknown": 0}
    settled: dict[int, _Numbers] = {}
    why_not: dict[Outcome, int] = {}
    all_yes = all_no = all_unknown = 0
    ran_on, failed_on = observed.ran, observed.failed
    for profile, nodes in profiles.items():
        outcome, ran, failed = start[profile], ran_on.get(profile, 0), failed_on.get(profile, 0)
        answer = outcome.answer
        settled[profile] = yes, no, unknown = _settled(nodes, answer, ran, failed)
        all_yes, all_no, all_unknown = all_yes + yes, all_no + no, all_unknown + unknown
        alone[answer] += nodes
        if answer != "yes" and nodes > ran + failed:
            why_not[outcome] = why_not.get(outcome, 0) + nodes - ran - failed
    counts = Counts(all_yes, all_no, all_unknown)
    if gpu is None:
        return _Predicted(Counts(**alone), counts, None, 0, why_not)
    return _Predicted(Counts(**alone), counts, *_gpus_predicted(settled, gpu, why_not), why_not)


def _gpus_predicted(
    settled: Mapping[int, _Numbers], gpu: Mapping[int, Outcome], why_not: dict[Outcome, int]
) -> tuple[Counts, int]:
    """The nodes by answer if their GPUs, too, have to suit, and how many are limited; adds to `why_not`."""
    all_yes = all_no = all_unknown = limited = 0
    for profile, (yes, no, unknown) in settled.items():
        outcome = gpu[profile]
        if outcome.answer != "yes":
            if yes:
                why_not[outcome] = why_not.get(outcome, 0) + yes
            yes, no, unknown = _with_gpu(yes, no, unknown, outcome.answer)
        elif outcome.limit:
            limited += yes
        all_yes, all_no, all_unknown = all_yes + yes, all_no + no, all_unknown + unknown
    return Counts(all_yes, all_no, all_unknown), limited


def total_of(counts: Iterable[Counts]) -> Counts:
    """All of them together."""
    return Counts(*map(sum, zip(*counts, strict=True)))


def _site_match(name: str, nodes: int, observed: _Observed, predicted: _Predicted, rules: Rules) -> SiteMatch:
    return SiteMatch(
        site=name,
        nodes=nodes,
        start=judged(predicted.start, rules),
        predicted=predicted.alone,
        observed=observed.counts,
        gpu=None if predicted.gpu is None else judged(predicted.gpu, rules),
        limited=predicted.limited,
        why_not=_why_not(predicted.why_not, observed.failures),
        newest=moment(observed.newest) if observed.newest else None,
    )


def _why_not(predicted: Mapping[Outcome, int], failures: Mapping[str, int]) -> tuple[WhyNot, ...]:
    """What forbids before what is not known, the most nodes first."""
    found = [(outcome.answer, -nodes, outcome.reason or "", False) for outcome, nodes in predicted.items()]
    found += [("no", -nodes, code, True) for code, nodes in failures.items()]
    found.sort()
    return tuple(
        WhyNot(explain_reason(code or "not_known"), answer, -nodes, observed)
        for answer, nodes, code, observed in found[:_REASONS_SHOWN]
    )


def disagreements(
    image: KnownImage, fleet: Fleet, start: Mapping[int, Outcome], seen: Iterable[Seen], most: int | None = None
) -> list[Disagreement]:
    """Where nodes that are there now, and what was observed on their kind, contradict each other; the most nodes first.

    `most`: no more than so many.
    """
    contrary = {
        status: {number for number in start if start[number].answer == _CONTRARY[told]}
        for status, told in _TOLD.items()
    }
    rows = [
        row
        for row in seen
        if row.profile_id in contrary.get(row.status, ()) and (row.site_id, row.profile_id) in fleet.nodes
    ]
    if most is not None and len(rows) > most:  # spares most of them their place in the order
        least = sorted(row.nodes for row in rows)[-most]
        rows = [row for row in rows if row.nodes >= least]
    rows.sort(key=lambda row: (-row.nodes, fleet.sites[row.site_id], row.profile_id, row.reason))
    return [_disagreement(image, fleet, start[row.profile_id], row) for row in rows[:most]]


def _disagreement(image: KnownImage, fleet: Fleet, predicted: Outcome, row: Seen) -> Disagreement:
    reasons = (predicted.reason, _TOLD[row.status], row.reason or None)
    nodes = fleet.nodes[row.site_id, row.profile_id]
    site = fleet.sites[row.site_id]
    return Disagreement(image.reference, site, predicted.answer, *reasons, row.nodes, nodes, moment(row.newest))
